"""FHIR R4 Provenance for decisions that showed cards: which model made them, from what.

    target   each card, and each RiskAssessment that was sent, by identifier
    agent    the model version as a Device, with the digests that fix it; the service on whose behalf it ran
    entity   the inputs, by commitment: whoever holds the key can show that these were they
    marked   AIAST, "Artificial Intelligence asserted" (v3-ObservationValue)

https://hl7.org/fhir/R4/provenance.html. The shape follows the AI Transparency guide of HL7 (1.0.0-ballot): the model is the
agent, its inputs are the entities.
"""

from typing import Any

from audit.entry import DecisionEntry, ModelUse
from audit.export.fhir_auditevent import AI_ASSERTED, log_extension, resource_id
from audit.export.fhir_codes import (
    CARD,
    DATA_OPERATION,
    DIGEST,
    HOOK_INSTANCE,
    INPUTS,
    PARTICIPANT,
    SYSTEM_ACTION,
    Code,
)
from audit.export.fhir_parts import Json, model_device, named, observer
from audit.export.fhir_validation import check_resource
from audit.export.records import LogRecord

PART = "provenance"
ASSEMBLER = Code(PARTICIPANT, "assembler")
INFORMANT = Code(PARTICIPANT, "informant")
EXECUTE = Code(DATA_OPERATION, "EXECUTE")


def provenances(record: LogRecord) -> tuple[dict[str, Any], ...]:
    """One Provenance where the entry is a decision with cards or actions, else none.

    Raises:
        ExportError: it isn't valid; a flaw of this exporter.
    """
    entry = record.entry
    if not isinstance(entry, DecisionEntry) or entry.model is None or not (entry.cards or entry.system_actions):
        return ()
    resource: Json = {
        "resourceType": "Provenance",
        "id": resource_id(record, PART),
        "meta": {"security": [AI_ASSERTED.coding()]},
        "extension": [log_extension(record)],
        "target": _targets(entry),
        "occurredDateTime": entry.time,
        "recorded": entry.time,
        "activity": {"coding": [EXECUTE.coding()]},
        "agent": [_model_agent(entry.model, record.origin), _service_agent(record.origin)],
        "entity": _entities(entry),
    }
    check_resource(resource)
    return (resource,)


def _targets(entry: DecisionEntry) -> list[Json]:
    cards = [named(CARD, card.uuid) for card in entry.cards]
    return cards + [named(SYSTEM_ACTION, action, "RiskAssessment") for action in entry.system_actions]


def _model_agent(model: ModelUse, origin: str) -> Json:
    """The model version, which is nowhere stored as a Device: its digest is shown with it."""
    return {
        "type": {"coding": [ASSEMBLER.coding()]},
        "who": model_device(model) | {"display": f"model artefact sha256:{model.artefact}"},
        "onBehalfOf": observer(origin),
    }


def _service_agent(origin: str) -> Json:
    return {"type": {"coding": [INFORMANT.coding()]}, "who": observer(origin)}


def _entities(entry: DecisionEntry) -> list[Json]:
    """The hook call and the inputs read from it or fetched; the digests of what defines the model."""
    sources = [named(HOOK_INSTANCE, entry.request.hook_instance)]
    if entry.inputs is not None:
        sources.append(named(INPUTS, entry.inputs.commitment))
    entities: list[Json] = [{"role": "source", "what": what} for what in sources]
    if entry.model is not None:
        defined_by = (entry.model.artefact, entry.model.manifest, entry.model.thresholds)
        entities += [{"role": "derivation", "what": named(DIGEST, value)} for value in dict.fromkeys(defined_by)]
    return entities
