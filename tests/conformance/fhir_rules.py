"""What a FHIR R4 resource that Bedside sends must be, besides what `fhir.resources` checks by itself.

`fhir.resources` knows the structure of every type and refuses unknown members, but not the codes of required bindings: it
carries most of them as data and compares none. Here every `code` is held to its list; what its data lacks, and what R4
says in invariants and in prose about the few types that Bedside makes, stands in the tables below.

Each rule yields sentences that begin with the JSON path of what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, ValidationError

# http://hl7.org/fhir/R4/valueset-issue-type.html, the whole hierarchy.
ISSUE_TYPES = frozenset(
    [
        "invalid",
        "structure",
        "required",
        "value",
        "invariant",
        "security",
        "login",
        "unknown",
        "expired",
        "forbidden",
        "suppressed",
        "processing",
        "not-supported",
        "duplicate",
        "multiple-matches",
        "not-found",
        "deleted",
        "too-long",
        "code-invalid",
        "extension",
        "too-costly",
        "business-rule",
        "conflict",
        "transient",
        "lock-error",
        "no-store",
        "exception",
        "timeout",
        "incomplete",
        "throttled",
        "informational",
    ]
)
# Required bindings of the types that Bedside makes, by type and path: all of R4's, whether or not fhir.resources has them.
REQUIRED_BINDINGS: dict[str, dict[str, frozenset[str]]] = {
    "ServiceRequest": {
        "status": frozenset(["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]),
        "intent": frozenset(
            [
                "proposal",
                "plan",
                "directive",
                "order",
                "original-order",
                "reflex-order",
                "filler-order",
                "instance-order",
                "option",
            ]
        ),
        "priority": frozenset(["routine", "urgent", "asap", "stat"]),
    },
    "MedicationRequest": {
        "status": frozenset(
            ["active", "on-hold", "cancelled", "completed", "entered-in-error", "stopped", "draft", "unknown"]
        ),
        "intent": frozenset(
            ["proposal", "plan", "order", "original-order", "reflex-order", "filler-order", "instance-order", "option"]
        ),
        "priority": frozenset(["routine", "urgent", "asap", "stat"]),
    },
    "RiskAssessment": {
        "status": frozenset(
            ["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"]
        )
    },
    "Observation": {
        "status": frozenset(
            ["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"]
        )
    },
    "OperationOutcome": {
        "issue.severity": frozenset(["fatal", "error", "warning", "information"]),
        "issue.code": ISSUE_TYPES,
    },
}
# What 1..1 in R4 makes obligatory and a lenient reader might leave out.
REQUIRED_MEMBERS: dict[str, tuple[str, ...]] = {
    "ServiceRequest": ("status", "intent", "subject"),
    "MedicationRequest": ("status", "intent", "subject"),
    "RiskAssessment": ("status", "subject"),
    "Observation": ("status", "code"),
    "OperationOutcome": ("issue",),
}
_DATE_TIME = re.compile(
    r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"(T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]((0\d|1[0-3]):[0-5]\d|14:00)))?)?)?"
)
_TIMES = re.compile(r"(.*DateTime|authoredOn|issued|recorded|date|start|end|lastUpdated)")
_REFERENCE = re.compile(
    r"([A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}(/_history/\w+)?|https?://\S+|urn:(uuid|oid):\S+|#\S+)"
)


def check_resource(resource: object, path: str = "$") -> list[str]:
    """What is wrong with one resource, as JSON; nothing if it may be sent."""
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return [f"{path}: expected a FHIR resource with a resourceType"]
    return [f"{path}{problem}" for problem in _checked(json.dumps(resource, sort_keys=True))]


@lru_cache(maxsize=8192)
def _checked(text: str) -> tuple[str, ...]:
    resource = json.loads(text)
    return (
        *_structure(resource),
        *_bindings(resource),
        *_values(resource, ""),
        *_of_risk_assessments(resource),
    )


def _structure(resource: dict[str, Any]) -> Iterator[str]:
    kind = resource["resourceType"]
    try:
        model = get_fhir_model_class(kind)
    except (KeyError, LookupError, ValueError):
        yield f".resourceType: {kind} is no type of FHIR R4"
        return
    try:
        read = model.model_validate(resource)
    except ValidationError as exc:
        for error in exc.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in error["loc"])
            yield f".{where}: not valid FHIR R4: {error['msg']}"
        return
    yield from _enumerated(read, "")


def _enumerated(value: Any, path: str) -> Iterator[str]:
    """Codes that aren't in the list of the binding which fhir.resources has as data."""
    for name, field in type(value).model_fields.items():
        held = getattr(value, name, None)
        extra = field.json_schema_extra
        allowed = extra.get("enum_values") if isinstance(extra, dict) else None
        for item in held if isinstance(held, list) else [held]:
            if isinstance(item, BaseModel):
                yield from _enumerated(item, f"{path}.{name}")
            elif isinstance(allowed, list) and item is not None and item not in allowed:
                yield f"{path}.{name}: {item!r} is not in its required binding"


def _bindings(resource: dict[str, Any]) -> Iterator[str]:
    kind = resource["resourceType"]
    for name in REQUIRED_MEMBERS.get(kind, ()):
        if name not in resource:
            yield f".{name}: required in a {kind}"
    for path, allowed in REQUIRED_BINDINGS.get(kind, {}).items():
        for code in _at(resource, path.split(".")):
            if code not in allowed:
                yield f".{path}: {code!r} is not in the required binding of {kind}"


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _values(value: Any, path: str) -> Iterator[str]:
    """Date-times, references and code systems, whatever type they stand in."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        yield from _values(member, f"{path}.{name}")
        if not isinstance(member, str):
            continue
        if _TIMES.fullmatch(name) and not _DATE_TIME.fullmatch(member):
            yield f"{path}.{name}: not a FHIR dateTime"
        if name == "reference" and not _REFERENCE.fullmatch(member):
            yield f"{path}.{name}: not a FHIR reference"
        if name == "system" and ":" not in member:
            yield f"{path}.{name}: not an absolute URI"
        if not member.strip():
            yield f"{path}.{name}: blank"


def _of_risk_assessments(resource: dict[str, Any]) -> Iterator[str]:
    """ras-2: a probability is a percentage; and a prediction has one form of it only."""
    if resource["resourceType"] != "RiskAssessment" or not isinstance(resource.get("prediction", []), list):
        return
    for index, prediction in enumerate(resource.get("prediction", [])):
        path = f".prediction[{index}]"
        if not isinstance(prediction, dict):
            continue
        if {"probabilityDecimal", "probabilityRange"} <= set(prediction):
            yield f"{path}: expected one probability, got two"
        decimal = prediction.get("probabilityDecimal")
        if isinstance(decimal, int | float) and not 0 <= decimal <= 100:
            yield f"{path}.probabilityDecimal: expected 0 to 100 per cent"
