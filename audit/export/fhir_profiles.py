"""Our own FHIR definitions, for a server that is to know what our canonical addresses mean.

    the extension StructureDefinition/log-entry     where in the log a resource is from
    the profiles decision, feedback, erasure        what AuditEvents of ours hold to that BALP has no profile for
    the code system event                           our own subtypes

They are made from the tables the writer uses, and the tests hold every event we write to those it names. FHIR R4.
"""

from typing import Any

from audit.export.fhir_codes import BALP, CODES, EVENTS, LOG_EXTENSION, PROFILE, Code
from audit.export.fhir_decisions import REST
from audit.export.fhir_parts import APPLICATION, DESTINATION, PERSON, RECIPIENT, SOURCE, event_code

Json = dict[str, Any]
VERSION = "1"
_DEFINITION = "http://hl7.org/fhir/StructureDefinition"
_RESOURCE_TYPE = Code("http://hl7.org/fhir/resource-types", "AuditEvent")


def definitions() -> tuple[Json, ...]:
    """All of them, each a resource with an id that suits as file name."""
    return (_log_entry(), _decision(), _feedback(), _erasure(), _event_codes())


def _log_entry() -> Json:
    parts = {
        "origin": "string",
        "index": "string",
        "leafHash": "base64Binary",
        "treeSize": "string",
        "proof": "base64Binary",
    }
    elements: list[Json] = [_sliced("Extension.extension", "url")]
    for name, kind in parts.items():
        place = f"Extension.extension:{name}"
        elements += [
            _slice("Extension.extension", name, 0 if name == "proof" else 1, "1"),
            {"id": f"{place}.url", "path": "Extension.extension.url", "fixedUri": name},
            {"id": f"{place}.value[x]", "path": "Extension.extension.value[x]", "min": 1, "type": [{"code": kind}]},
        ]
    elements += [
        {"id": "Extension.url", "path": "Extension.url", "fixedUri": LOG_EXTENSION},
        {"id": "Extension.value[x]", "path": "Extension.value[x]", "max": "0"},
    ]
    contexts = [{"type": "element", "expression": kind} for kind in ("AuditEvent", "Provenance")]
    about = "The place in Bedside's signed log that a resource is from, by which it can be proven to be a true copy."
    definition = _structure("log-entry", "Extension", f"{_DEFINITION}/Extension", about, elements)
    return definition | {"context": contexts}


def _decision() -> Json:
    elements = [
        *_head(REST, "E", ("operation", "decision")),
        *_agent("client", SOURCE, 1),
        *_agent("server", DESTINATION, 1),
        *_agent("user", RECIPIENT, 0),
        *_agent("model", APPLICATION, 0),
        *_entities(patient=0),
    ]
    about = "A decision that a model made, or that none could make, and what was answered to the hook call."
    return _structure("decision", "AuditEvent", f"{_DEFINITION}/AuditEvent", about, elements)


def _feedback() -> Json:
    about = "What became of a card: accepted or overridden, with the coded reason."
    elements = [*_subtypes(("feedback",)), *_entities(patient=None)]
    return _structure("feedback", "AuditEvent", f"{BALP}.Update", about, elements)


def _erasure() -> Json:
    about = "Keys and payloads of several patients were destroyed; the patient entity stands for all of them."
    elements = [*_subtypes(("erasure",)), *_entities(patient=None)]
    return _structure("erasure", "AuditEvent", f"{BALP}.PatientDelete", about, elements)


def _event_codes() -> Json:
    concepts = [{"code": code, "display": display} for code, display in CODES[EVENTS].items()]
    return {
        "resourceType": "CodeSystem",
        "id": "event",
        "url": EVENTS,
        "version": VERSION,
        "name": "BedsideEvent",
        "status": "active",
        "caseSensitive": True,
        "content": "complete",
        "concept": concepts,
    }


def _structure(name: str, kind: str, base: str, about: str, elements: list[Json]) -> Json:
    return {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": f"{PROFILE}/{name}",
        "version": VERSION,
        "name": "Bedside" + "".join(word.capitalize() for word in name.split("-")),
        "status": "active",
        "description": about,
        "fhirVersion": "4.0.1",
        "kind": "complex-type" if kind == "Extension" else "resource",
        "abstract": False,
        "type": kind,
        "baseDefinition": base,
        "derivation": "constraint",
        "differential": {"element": [{"id": kind, "path": kind}, *elements]},
    }


def _head(type_: Code, action: str, subtypes: tuple[str, ...]) -> list[Json]:
    return [
        {"id": "AuditEvent.type", "path": "AuditEvent.type", "patternCoding": _pattern(type_)},
        *_subtypes(subtypes),
        {"id": "AuditEvent.action", "path": "AuditEvent.action", "min": 1, "patternCode": action},
        {"id": "AuditEvent.outcome", "path": "AuditEvent.outcome", "min": 1},
        _sliced("AuditEvent.agent", "type") | {"min": 2},
    ]


def _subtypes(codes: tuple[str, ...]) -> list[Json]:
    elements = [_sliced("AuditEvent.subtype", "$this") | {"min": len(codes)}]
    for code in codes:
        known = event_code(code) if code in CODES[EVENTS] else Code("http://hl7.org/fhir/restful-interaction", code)
        elements.append(_slice("AuditEvent.subtype", code, 1, "1") | {"patternCoding": _pattern(known)})
    return elements


def _agent(name: str, type_: Code, least: int) -> list[Json]:
    place = f"AuditEvent.agent:{name}"
    pattern = {"coding": [_pattern(type_)]}
    return [
        _slice("AuditEvent.agent", name, least, "1"),
        {"id": f"{place}.type", "path": "AuditEvent.agent.type", "min": 1, "patternCodeableConcept": pattern},
        {"id": f"{place}.who", "path": "AuditEvent.agent.who", "min": 1},
    ]


def _entities(*, patient: int | None) -> list[Json]:
    """The entity that names the log's record, and the patient where the base profile has none."""
    log, person = "AuditEvent.entity:log", "AuditEvent.entity:patient"
    elements = [
        _sliced("AuditEvent.entity", "type"),
        _slice("AuditEvent.entity", "log", 1, "1"),
        {"id": f"{log}.type", "path": "AuditEvent.entity.type", "min": 1, "patternCoding": _pattern(_RESOURCE_TYPE)},
        {"id": f"{log}.what", "path": "AuditEvent.entity.what", "min": 1},
    ]
    if patient is not None:
        target = {"code": "Reference", "targetProfile": [f"{_DEFINITION}/Patient"]}
        elements += [
            _slice("AuditEvent.entity", "patient", patient, "1"),
            {"id": f"{person}.type", "path": "AuditEvent.entity.type", "min": 1, "patternCoding": _pattern(PERSON)},
            {"id": f"{person}.what", "path": "AuditEvent.entity.what", "min": 1, "type": [target]},
        ]
    return elements


def _sliced(path: str, by: str) -> Json:
    discriminator = {"type": "value", "path": by}
    return {"id": path, "path": path, "slicing": {"discriminator": [discriminator], "rules": "open"}}


def _slice(path: str, name: str, least: int, most: str) -> Json:
    return {"id": f"{path}:{name}", "path": path, "sliceName": name, "min": least, "max": most}


def _pattern(code: Code) -> Json:
    return {"system": code.system, "code": code.code}
