"""FHIR R4 search over resources in memory: which resources match, and in which order.

Owns the search parameters (https://hl7.org/fhir/R4/search.html): token, date with the prefixes eq, ne, lt, gt, ge, le,
sa and eb, reference, `_id`, and `_sort`. Handling is strict: an unknown parameter, modifier or prefix is refused.
To add a parameter, add a line to `PARAMETERS`; a path is dotted, alternatives are tried together. Knows no HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.instants import END_OF_TIME, START_OF_TIME, Span, parse_span

_PREFIXED = re.compile(r"(eq|ne|lt|gt|ge|le|sa|eb|ap)?(\d.*)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter and the elements it looks at."""

    kind: Literal["token", "date", "reference"]
    paths: tuple[str, ...]


def _token(*paths: str) -> Parameter:
    return Parameter("token", paths)


def _date(*paths: str) -> Parameter:
    return Parameter("date", paths)


def _reference(*paths: str) -> Parameter:
    return Parameter("reference", paths)


_ID = {"_id": _token("id")}
_SUBJECT = {
    **_ID,
    "patient": _reference("subject"),
    "subject": _reference("subject"),
    "encounter": _reference("encounter"),
}
_IN_CONTEXT = {**_SUBJECT, "encounter": _reference("context")}
_CODE = {"code": _token("code")}
_DRUG = {"code": _token("medicationCodeableConcept")}
_STATUS = {"status": _token("status")}
_CATEGORY = {"category": _token("category")}

PARAMETERS: Mapping[str, Mapping[str, Parameter]] = {
    "Patient": {
        **_ID,
        "identifier": _token("identifier"),
        "gender": _token("gender"),
        "birthdate": _date("birthDate"),
    },
    "Encounter": {
        **{name: _SUBJECT[name] for name in ("_id", "patient", "subject")},
        **_STATUS,
        "class": _token("class"),
        "type": _token("type"),
        "date": _date("period"),
    },
    "Observation": {
        **_SUBJECT,
        **_CODE,
        **_STATUS,
        **_CATEGORY,
        "date": _date("effectiveDateTime", "effectivePeriod", "effectiveInstant"),
    },
    "Condition": {
        **_SUBJECT,
        **_CODE,
        **_CATEGORY,
        "clinical-status": _token("clinicalStatus"),
        "verification-status": _token("verificationStatus"),
        "onset-date": _date("onsetDateTime", "onsetPeriod"),
        "recorded-date": _date("recordedDate"),
    },
    "MedicationRequest": {
        **_SUBJECT,
        **_DRUG,
        **_STATUS,
        **_CATEGORY,
        "intent": _token("intent"),
        "authoredon": _date("authoredOn"),
    },
    "MedicationStatement": {
        **_IN_CONTEXT,
        **_DRUG,
        **_STATUS,
        **_CATEGORY,
        "effective": _date("effectiveDateTime", "effectivePeriod"),
    },
    "MedicationAdministration": {
        **_IN_CONTEXT,
        **_DRUG,
        **_STATUS,
        "effective-time": _date("effectiveDateTime", "effectivePeriod"),
    },
    "Procedure": {
        **_SUBJECT,
        **_CODE,
        **_STATUS,
        **_CATEGORY,
        "date": _date("performedDateTime", "performedPeriod"),
    },
    "ServiceRequest": {
        **_SUBJECT,
        **_CODE,
        **_STATUS,
        **_CATEGORY,
        "intent": _token("intent"),
        "authored": _date("authoredOn"),
    },
    "AllergyIntolerance": {
        **_ID,
        "patient": _reference("patient"),
        **_CODE,
        "clinical-status": _token("clinicalStatus"),
    },
    "Practitioner": {**_ID, "identifier": _token("identifier")},
}


def matching(resource_type: str, resources: Iterable[Resource], criteria: Sequence[tuple[str, str]]) -> list[Resource]:
    """The resources that meet every criterion, in their own order; repeated criteria are and, commas are or."""
    known = PARAMETERS[resource_type]
    tests = [(_parameter(known, name), _alternatives(value)) for name, value in criteria]
    return [
        resource
        for resource in resources
        if all(any(_matches(resource, parameter, choice) for choice in choices) for parameter, choices in tests)
    ]


def ordered(resource_type: str, resources: Iterable[Resource], sort: str | None) -> list[Resource]:
    """Sorted by a FHIR `_sort` value, ties by id, so that paging always sees one order."""
    result = sorted(resources, key=lambda resource: str(resource["id"]))
    for key in reversed(sort.split(",") if sort else []):
        parameter = _parameter(PARAMETERS[resource_type], key.removeprefix("-"))
        _sort_by(result, parameter, descending=key.startswith("-"))
    return result


def _sort_by(resources: list[Resource], parameter: Parameter, *, descending: bool) -> None:
    keys = {id(resource): _sort_key(resource, parameter) for resource in resources}
    resources.sort(key=lambda resource: keys[id(resource)] or "", reverse=descending)
    resources.sort(key=lambda resource: keys[id(resource)] is None)  # what has no value comes last either way


def _sort_key(resource: Resource, parameter: Parameter) -> str | None:
    leaves = _leaves(resource, parameter)
    if parameter.kind == "date":
        return next((f"{span.low.timestamp():020.3f}" for span in map(_span, leaves) if span.low > START_OF_TIME), None)
    if parameter.kind == "reference":
        return next((str(leaf.get("reference")) for leaf in leaves), None)
    return next((code for leaf in leaves for _, code in _tokens(leaf)), None)


def _parameter(known: Mapping[str, Parameter], name: str) -> Parameter:
    if name not in known:
        raise FhirRequestError(f"search parameter {name!r} is not supported", code="not-supported")
    return known[name]


def _alternatives(value: str) -> tuple[str, ...]:
    parts = [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", value)]
    if not all(parts):
        raise FhirRequestError("search parameter: expected a value, got an empty one")
    return tuple(parts)


def _matches(resource: Resource, parameter: Parameter, wanted: str) -> bool:
    leaves = _leaves(resource, parameter)
    match parameter.kind:
        case "token":
            return any(_token_matches(token, wanted) for leaf in leaves for token in _tokens(leaf))
        case "reference":
            return any(_reference_matches(str(leaf.get("reference", "")), wanted) for leaf in leaves)
        case "date":
            compare, span = _parse_date_criterion(wanted)
            return any(_date_matches(compare, span, _span(leaf)) for leaf in leaves)


def _leaves(resource: Resource, parameter: Parameter) -> Iterator[Any]:
    for path in parameter.paths:
        value = resource.get(path)
        if value is not None:
            yield from value if isinstance(value, list) else [value]


def _tokens(leaf: Any) -> Iterator[tuple[str | None, str]]:
    """(system, code) of a code, Coding, CodeableConcept or Identifier; a plain code has its system implied: None."""
    if isinstance(leaf, str):
        yield None, leaf
    elif isinstance(leaf, dict) and "coding" in leaf:
        for coding in leaf["coding"]:
            yield coding.get("system", ""), coding.get("code", "")
    elif isinstance(leaf, dict):
        yield leaf.get("system", ""), leaf.get("code") or leaf.get("value") or ""


def _token_matches(token: tuple[str | None, str], wanted: str) -> bool:
    system, code = token
    if "|" not in wanted:
        return code == wanted
    wanted_system, _, wanted_code = wanted.partition("|")
    return (system is None or system == wanted_system) and wanted_code in ("", code)


def _reference_matches(reference: str, wanted: str) -> bool:
    if "/" in wanted:
        return reference == "/".join(wanted.rsplit("/", 2)[-2:])
    return reference.rpartition("/")[2] == wanted


def _parse_date_criterion(text: str) -> tuple[str, Span]:
    parts = _PREFIXED.fullmatch(text)
    try:
        if parts is None or parts[1] == "ap":
            raise ValueError("expected a prefix we know and a date")
        return parts[1] or "eq", parse_span(parts[2].replace(" ", "+"))
    except ValueError as exc:
        raise FhirRequestError("search by date: expected a FHIR date after eq, ne, lt, gt, ge, le, sa or eb") from exc


def _span(leaf: Any) -> Span:
    """The time that a date or Period covers; a Period may be open at either end."""
    if isinstance(leaf, str):
        return parse_span(leaf)
    low = parse_span(leaf["start"]).low if leaf.get("start") else START_OF_TIME
    high = parse_span(leaf["end"]).high if leaf.get("end") else END_OF_TIME
    return Span(low, high)


def _date_matches(compare: str, wanted: Span, found: Span) -> bool:
    """https://hl7.org/fhir/R4/search.html#prefix, with spans open on the right."""
    match compare:
        case "eq":
            return wanted.contains(found)
        case "ne":
            return not wanted.contains(found)
        case "lt":
            return found.low < wanted.low
        case "gt":
            return found.high > wanted.high
        case "le":
            return found.low < wanted.low or wanted.contains(found)
        case "ge":
            return found.high > wanted.high or wanted.contains(found)
        case "sa":
            return found.low >= wanted.high
        case _:
            return found.high <= wanted.low
