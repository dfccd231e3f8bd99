"""Entries about the log and the service as AuditEvents: what was switched, deployed, rotated, missed, looked at, erased.

Types and subtypes are those of DICOM PS3.16 (CID 400 to 403): 110113 "Security Alert" with its configuration subtypes for what
changes how the service or its log works, 110100 "Application Activity" for the ordinary course, 110101 "Audit Log Used" for
a verification. Looking at the log has the shape of BALP's Read or Query, erasure that of its Delete. Pure.
"""

from dataclasses import replace

from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.entry_operations import (
    AnchorEntry,
    ConfigEntry,
    EpochEntry,
    GapEntry,
    KeyRotationEntry,
    ModelEntry,
    SwitchEntry,
    VerifyEntry,
)
from audit.export.fhir_codes import (
    AUTHORITY,
    BALP,
    DCM,
    DIGEST,
    ERASED,
    EVENT_TYPE,
    HOLD,
    INTERACTION,
    KEY,
    LOG_ORIGIN,
    LOG_RECORD,
    MAJOR_FAILURE,
    MINOR_FAILURE,
    MODEL,
    PARTICIPANT,
    PROFILE,
    SERIOUS_FAILURE,
    SUCCESS,
    Code,
)
from audit.export.fhir_parts import (
    APPLICATION,
    APPROVER,
    AUTHOR,
    DESTINATION,
    PROCESSING,
    QUERY,
    RECIPIENT,
    REPORT,
    SECURITY_RESOURCE,
    SOURCE,
    THING,
    Event,
    Json,
    absent,
    entity,
    event_code,
    named,
    patient_entity,
    person_agent,
    service_agent,
)

REST = Code(EVENT_TYPE, "rest")
ACTIVITY = Code(DCM, "110100")
LOG_USED = Code(DCM, "110101")
ALERT = Code(DCM, "110113")
CUSTODIAN = Code(PARTICIPANT, "custodian")
VALID = "valid"
# The actions of an access that give one entry; all others give what a query found.
READS = frozenset(("read", "decrypt", "replay", "prove"))


def switch_events(origin: str, entry: SwitchEntry) -> tuple[Event, ...]:
    subtypes = (Code(DCM, "110131"), event_code("switch-off" if entry.off else "switch-on"))
    thing = entity(THING, PROCESSING, named(f"{MODEL}:switch", f"{entry.scope}:{entry.name}"), {"off": entry.off})
    return (_changed("switch", ALERT, subtypes, origin, entry.operator, (thing,), entry.reason),)


def config_events(origin: str, entry: ConfigEntry) -> tuple[Event, ...]:
    details = {"software": entry.software, "version": entry.software_version, "models": " ".join(entry.models)}
    thing = entity(THING, PROCESSING, named(DIGEST, entry.config), details)
    subtypes = (Code(DCM, "110120"), event_code("config"))
    return (Event("config", ACTIVITY, subtypes, "E", (_service(origin),), (thing,)),)


def model_events(origin: str, entry: ModelEntry) -> tuple[Event, ...]:
    details = {
        "action": entry.action,
        "artefact": entry.artefact,
        "manifest": entry.manifest,
        "card": entry.card,
        "replaces": entry.replaces,
    }
    thing = entity(THING, PROCESSING, named(MODEL, f"{entry.model}@{entry.version}"), details)
    subtypes = (Code(DCM, "110131"), event_code("model"))
    event = _changed("model", ALERT, subtypes, origin, entry.operator, (thing,), entry.reason)
    if entry.action == "refuse":
        event = replace(event, outcome=MINOR_FAILURE, outcome_text="refused")
    return (event,)


def key_rotation_events(origin: str, entry: KeyRotationEntry) -> tuple[Event, ...]:
    details = {"purpose": entry.purpose, "action": entry.action, "vkey": entry.vkey}
    thing = entity(THING, SECURITY_RESOURCE, named(KEY, entry.key_id), details)
    subtypes = (Code(DCM, "110129"), event_code("key-rotation"))
    return (_changed("key-rotation", ALERT, subtypes, origin, entry.operator, (thing,), entry.reason),)


def epoch_events(origin: str, entry: EpochEntry) -> tuple[Event, ...]:
    """The beginning of a log; the last head of the one before is in the entry itself, which the record names."""
    thing = entity(THING, SECURITY_RESOURCE, named(LOG_ORIGIN, entry.origin), {"continues": entry.previous is not None})
    subtypes = (Code(DCM, "110134"), event_code("epoch"))
    return (Event("epoch", ALERT, subtypes, "C", (_service(origin),), (thing,), reason=entry.reason),)


def gap_events(origin: str, entry: GapEntry) -> tuple[Event, ...]:
    """Decisions that were not recorded, and so not shown either: recording failed, which is a serious failure."""
    details = {"since": entry.since, "until": entry.until, "unacknowledged": entry.unacknowledged}
    thing = entity(THING, SECURITY_RESOURCE, named(LOG_ORIGIN, origin), details)
    subtypes = (Code(DCM, "110133"), event_code("gap"))
    event = Event("gap", ALERT, subtypes, "E", (_service(origin),), (thing,), SERIOUS_FAILURE, entry.reason)
    return (event,)


def anchor_events(origin: str, entry: AnchorEntry) -> tuple[Event, ...]:
    details = {"size": entry.size, "root": entry.root, "kind": entry.kind, "evidence": entry.evidence}
    thing = entity(THING, SECURITY_RESOURCE, named(AUTHORITY, entry.authority), details)
    return (Event("anchor", ACTIVITY, (event_code("anchor"),), "C", (_service(origin),), (thing,)),)


def verify_events(origin: str, entry: VerifyEntry) -> tuple[Event, ...]:
    details = {"size": entry.size, "root": entry.root, "firstBadIndex": entry.first_bad_index}
    thing = entity(THING, SECURITY_RESOURCE, named(LOG_ORIGIN, origin), details)
    outcome = SUCCESS if entry.outcome == VALID else MAJOR_FAILURE
    subtypes = (event_code("verification"),)
    return (Event("verification", LOG_USED, subtypes, "R", (_service(origin),), (thing,), outcome, entry.outcome),)


def access_events(origin: str, entry: AccessEntry) -> tuple[Event, ...]:
    """A look at the log: a read of one entry, or a query; the log is client and server in one."""
    reads = entry.action in READS
    client, server = (DESTINATION, SOURCE) if reads else (SOURCE, DESTINATION)
    return (
        Event(
            part="access",
            type=REST,
            subtypes=(Code(INTERACTION, "read" if reads else "search"), LOG_USED, event_code("access")),
            action="R" if reads else "E",
            agents=(
                service_agent(client, origin),
                service_agent(server, origin),
                person_agent([RECIPIENT], entry.actor, entry.role),
            ),
            entities=(_looked_at(origin, entry) if reads else _asked(entry),),
            reason=entry.reason,
            profiles=(f"{BALP}.Read" if reads else f"{BALP}.Query",),
        ),
    )


def erasure_events(origin: str, entry: ErasureEntry) -> tuple[Event, ...]:
    """The deletion of what was stored about patients, who are named by the digest over what was erased.

    BALP has one patient to an event, so the claim is made for one alone.
    """
    details = {
        "subjects": entry.subjects,
        "payloads": entry.payloads,
        "approval": entry.approval,
        "retention": entry.retention,
    }
    return (
        Event(
            part="erasure",
            type=REST,
            subtypes=(Code(INTERACTION, "delete"), event_code("erasure")),
            action="D",
            agents=(
                service_agent(APPLICATION, origin),
                service_agent(CUSTODIAN, origin),
                person_agent([AUTHOR], entry.requested_by),
                person_agent([APPROVER], entry.approved_by, requestor=False),
            ),
            entities=(
                patient_entity(entry.erased, ERASED),
                entity(THING, REPORT, named(LOG_RECORD, f"{origin}:{entry.id}"), details),
            ),
            reason=entry.reason,
            profiles=(f"{BALP}.PatientDelete",) if entry.subjects == 1 else (f"{PROFILE}/erasure",),
        ),
    )


def hold_events(origin: str, entry: HoldEntry) -> tuple[Event, ...]:
    approver = () if entry.approved_by is None else (person_agent([APPROVER], entry.approved_by, requestor=False),)
    thing = entity(THING, SECURITY_RESOURCE, named(HOLD, entry.hold), {"action": entry.action, "until": entry.until})
    agents = (person_agent([AUTHOR], entry.requested_by), *approver, _service(origin))
    subtypes = (Code(DCM, "110135"), event_code("hold"))
    entities = (patient_entity(entry.patient), thing)
    return (Event("hold", ALERT, subtypes, "U", agents, entities, reason=entry.reason),)


def other_events(origin: str, kind: str, entry_id: str) -> tuple[Event, ...]:
    """An entry of a kind this release doesn't know: that it is there, and nothing of what it says."""
    thing = entity(THING, SECURITY_RESOURCE, named(LOG_RECORD, f"{origin}:{entry_id}"), {"type": kind})
    return (Event("other", ACTIVITY, (event_code("other"),), "E", (_service(origin),), (thing,)),)


def _changed(
    part: str,
    type_: Code,
    subtypes: tuple[Code, ...],
    origin: str,
    operator: str | None,
    entities: tuple[Json, ...],
    reason: str,
) -> Event:
    """A change an operator made, or the service by itself where nobody is named."""
    operators = () if operator is None else (person_agent([AUTHOR], operator),)
    return Event(part, type_, subtypes, "U", (*operators, _service(origin)), entities, reason=reason)


def _service(origin: str) -> Json:
    return service_agent(APPLICATION, origin)


def _looked_at(origin: str, entry: AccessEntry) -> Json:
    """The entry that was looked at, or the log where it wasn't one entry."""
    what = named(LOG_ORIGIN, origin) if entry.index is None else named(LOG_RECORD, f"{origin}#{entry.index}")
    return entity(THING, REPORT, what, {"action": entry.action, "results": entry.results, "filter": entry.filter})


def _asked(entry: AccessEntry) -> Json:
    """What was asked for: the log keeps a digest of it, for it may name a patient."""
    text = f"{entry.action}, {entry.results} results"
    if entry.filter is not None:
        text += f", filter digest {entry.filter}"
    return entity(THING, QUERY, None, description=text, _query=absent("masked"))
