"""The log as FHIR R4 AuditEvents, in the shapes of IHE Basic Audit Log Patterns (BALP 1.1.4) where it has one.

    audit_events(record)  ->  one AuditEvent or several, each checked before it is given

Each carries, in an extension of ours and again as an entity that can be searched for, the place in the log: origin, index, leaf
hash and tree size, and the inclusion proof where one was asked for. So a copy in an audit record repository can be proven
against the log (`copies`), and sending it again finds the first copy (`push`).

`meta.profile` names what an event conforms to and nothing else: a failed query, a hook call without a patient or the erasure
of several patients have the shape and not the claim. A new entry kind is a function in `fhir_decisions`, `fhir_operations` or
`fhir_monitoring`, and a line in `_events`.
"""

import base64
from hashlib import sha256
from typing import Any

from audit.entry import DecisionEntry, FeedbackEntry
from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.entry_monitoring import AlarmEntry, SketchEntry
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
from audit.export.fhir_codes import LOG_EXTENSION, LOG_RECORD, OBSERVATION_VALUE, RESOURCE_TYPE, SOURCE_TYPE, Code
from audit.export.fhir_decisions import decision_events, feedback_events
from audit.export.fhir_monitoring import alarm_events, sketch_events
from audit.export.fhir_operations import (
    access_events,
    anchor_events,
    config_events,
    epoch_events,
    erasure_events,
    gap_events,
    hold_events,
    key_rotation_events,
    model_events,
    other_events,
    switch_events,
    verify_events,
)
from audit.export.fhir_parts import SECURITY_RESOURCE, Event, Json, entity, host_of, named, observer
from audit.export.fhir_validation import check_resource
from audit.export.records import LogRecord

AI_ASSERTED = Code(OBSERVATION_VALUE, "AIAST")
APPLICATION_SERVER = Code(SOURCE_TYPE, "4")
AUDIT_EVENT = Code(RESOURCE_TYPE, "AuditEvent")


def audit_events(record: LogRecord) -> tuple[dict[str, Any], ...]:
    """The AuditEvents of one entry, in the order in which things happened; the same record always gives the same ones.

    Raises:
        ExportError: one isn't valid; a flaw of this exporter.
    """
    resources = tuple(_resource(event, record) for event in _events(record))
    for resource in resources:
        check_resource(resource)
    return resources


def log_extension(record: LogRecord) -> Json:
    """The place in the log, as the extension that AuditEvents and Provenances carry.

    Numbers are text: a log may outgrow FHIR's 32-bit integers.
    """
    parts: list[Json] = [
        {"url": "origin", "valueString": record.origin},
        {"url": "index", "valueString": str(record.index)},
        {"url": "leafHash", "valueBase64Binary": base64.b64encode(record.leaf).decode()},
        {"url": "treeSize", "valueString": str(record.tree_size)},
    ]
    if record.proof is not None:
        parts.append({"url": "proof", "valueBase64Binary": base64.b64encode(record.proof).decode()})
    return {"url": LOG_EXTENSION, "extension": parts}


def record_name(record: LogRecord, part: str) -> str:
    """What tells this resource from every other: `<origin>#<index>.<part>`."""
    return f"{record.origin}#{record.index}.{part}"


def resource_id(record: LogRecord, part: str) -> str:
    """A FHIR id that is the same whenever the same resource is made again."""
    return sha256(record_name(record, part).encode()).hexdigest()[:40]


def _resource(event: Event, record: LogRecord) -> Json:
    meta: Json = {}
    if event.profiles:
        meta["profile"] = list(event.profiles)
    if event.asserted_by_ai:
        meta["security"] = [AI_ASSERTED.coding()]
    resource: Json = {"resourceType": "AuditEvent", "id": resource_id(record, event.part)}
    if meta:
        resource["meta"] = meta
    resource |= {
        "extension": [log_extension(record)],
        "type": event.type.coding(),
        "subtype": [code.coding() for code in event.subtypes],
        "action": event.action,
        "recorded": record.header.time,
        "outcome": event.outcome,
    }
    if event.outcome_text is not None:
        resource["outcomeDesc"] = event.outcome_text
    if event.reason is not None:
        resource["purposeOfEvent"] = [{"text": event.reason}]
    resource["agent"] = list(event.agents)
    resource["source"] = {
        "site": host_of(record.origin),
        "observer": observer(record.origin),
        "type": [APPLICATION_SERVER.coding()],
    }
    resource["entity"] = [*event.entities, _log_entity(event, record)]
    return resource


def _log_entity(event: Event, record: LogRecord) -> Json:
    """The place in the log once more, where `entity:identifier` finds it."""
    details = {"id": record.header.id, "type": record.header.type, "leafHash": record.leaf_hex}
    return entity(AUDIT_EVENT, SECURITY_RESOURCE, named(LOG_RECORD, record_name(record, event.part)), details)


def _events(record: LogRecord) -> tuple[Event, ...]:  # noqa: C901 - one line for each kind
    origin = record.origin
    match record.entry:
        case DecisionEntry() as entry:
            return decision_events(origin, record.index, entry)
        case FeedbackEntry() as entry:
            return feedback_events(origin, entry)
        case AccessEntry() as entry:
            return access_events(origin, entry)
        case ErasureEntry() as entry:
            return erasure_events(origin, entry)
        case HoldEntry() as entry:
            return hold_events(origin, entry)
        case SwitchEntry() as entry:
            return switch_events(origin, entry)
        case ModelEntry() as entry:
            return model_events(origin, entry)
        case ConfigEntry() as entry:
            return config_events(origin, entry)
        case KeyRotationEntry() as entry:
            return key_rotation_events(origin, entry)
        case EpochEntry() as entry:
            return epoch_events(origin, entry)
        case AnchorEntry() as entry:
            return anchor_events(origin, entry)
        case VerifyEntry() as entry:
            return verify_events(origin, entry)
        case GapEntry() as entry:
            return gap_events(origin, entry)
        case SketchEntry() as entry:
            return sketch_events(origin, entry)
        case AlarmEntry() as entry:
            return alarm_events(origin, entry)
        case None:
            return other_events(origin, record.header.type, record.header.id)
