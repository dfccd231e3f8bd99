"""Entries about how models do as AuditEvents: what was counted (110100 "Application Activity"), and what alarmed (110113).

The counts themselves are in the entry, which the record names; an event says of which model version and how many decisions.
An alarm is a serious failure of the model to be what its manifest says, not of the service. Pure.
"""

from audit.entry_monitoring import AlarmEntry, SketchedModel, SketchEntry
from audit.export.fhir_codes import DCM, MODEL, SERIOUS_FAILURE, SUCCESS, Code
from audit.export.fhir_parts import (
    APPLICATION,
    PROCESSING,
    THING,
    Event,
    Json,
    entity,
    event_code,
    named,
    service_agent,
)

ACTIVITY = Code(DCM, "110100")
ALERT = Code(DCM, "110113")


def sketch_events(origin: str, entry: SketchEntry) -> tuple[Event, ...]:
    details = {
        "status": entry.status,
        "since": entry.since,
        "until": entry.until,
        "decisions": entry.decisions,
        "counted": entry.counted,
    }
    thing = _model(entry.model, details)
    return (Event("sketch", ACTIVITY, (event_code("sketch"),), "E", (_service(origin),), (thing,)),)


def alarm_events(origin: str, entry: AlarmEntry) -> tuple[Event, ...]:
    raised = entry.action == "raise"
    details = {
        "measure": entry.measure,
        "of": entry.of,
        "since": entry.since,
        "until": entry.until,
        "decisions": entry.decisions,
        "value": f"{entry.value_e6 / 1e6:.6f}",
        "limit": f"{entry.limit_e6 / 1e6:.6f}",
    }
    event = Event(
        part="alarm",
        type=ALERT,
        subtypes=(event_code("alarm" if raised else "alarm-over"),),
        action="E",
        agents=(_service(origin),),
        entities=(_model(entry.model, details),),
        outcome=SERIOUS_FAILURE if raised else SUCCESS,
        outcome_text=f"{entry.measure} of {entry.of}",
    )
    return (event,)


def _model(model: SketchedModel, details: dict[str, object]) -> Json:
    digests = {"artefact": model.artefact, "manifest": model.manifest, "reference": model.reference}
    return entity(THING, PROCESSING, named(MODEL, f"{model.id}@{model.version}"), digests | details)


def _service(origin: str) -> Json:
    return service_agent(APPLICATION, origin)
