"""Our own definitions are valid R4, and every event we write holds to those it names."""

import copy
from typing import Any

import pytest
from fhir.resources.R4B.codesystem import CodeSystem
from fhir.resources.R4B.structuredefinition import StructureDefinition

from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_codes import EVENTS, LOG_EXTENSION, PROFILE
from audit.export.fhir_profiles import definitions
from tests.audit.export import balp_rules
from tests.audit.export.balp_rules import Codes, Slice
from tests.audit.export.examples import DECISION, ERASURE, EXAMPLES, changed, example, with_proof

Json = dict[str, Any]
DEFINED = {definition["url"]: definition for definition in definitions()}
EVENT_LISTS = [audit_events(example(name)) for name in EXAMPLES]
EVENT_LISTS += [audit_events(changed(ERASURE, subjects=2)), audit_events(changed(DECISION, patient=None, model=None))]
ALL = [event for events in EVENT_LISTS for event in events]


def rules_of(definition: Json) -> balp_rules.Profile:
    """A definition's differential as rules that can be checked."""
    elements = {element["id"]: element for element in definition["differential"]["element"]}
    action = elements.get("AuditEvent.action", {})
    return balp_rules.Profile(
        definition["url"],
        base=balp_rules.PROFILES.get(definition["baseDefinition"]),
        type=_codes(elements.get("AuditEvent.type", {})),
        action=action.get("patternCode", ""),
        needs_outcome=elements.get("AuditEvent.outcome", {}).get("min", 0) > 0,
        subtypes=_slices(elements, "subtype"),
        agents=_slices(elements, "agent"),
        entities=_slices(elements, "entity"),
        least_subtypes=elements["AuditEvent.subtype"].get("min", 0),
        least_agents=elements.get("AuditEvent.agent", {}).get("min", 1),
    )


def _slices(elements: dict[str, Json], name: str) -> tuple[Slice, ...]:
    path = f"AuditEvent.{name}"
    found = [element for element in elements.values() if element["path"] == path and "sliceName" in element]
    return tuple(_slice(elements, element) for element in found)


def _slice(elements: dict[str, Json], element: Json) -> Slice:
    children = {
        place.removeprefix(element["id"] + "."): child
        for place, child in elements.items()
        if place.startswith(element["id"] + ".")
    }
    targets = [
        target for child in children.values() for kind in child.get("type", ()) for target in kind["targetProfile"]
    ]
    return Slice(
        element["sliceName"],
        _codes(element) or _codes(children["type"]),
        element["min"],
        int(element["max"]),
        present=tuple(place for place, child in children.items() if child.get("min")),
        refers_to=targets[0].rpartition("/")[2] if targets else None,
    )


def _codes(element: Json) -> Codes:
    patterns = [*element.get("patternCodeableConcept", {}).get("coding", []), element.get("patternCoding", {})]
    return frozenset((pattern["system"], pattern["code"]) for pattern in patterns if pattern)


def test_definitions_are_valid_r4() -> None:
    for definition in DEFINED.values():
        model = CodeSystem if definition["resourceType"] == "CodeSystem" else StructureDefinition
        model.model_validate(definition)


def test_every_profile_of_ours_that_is_claimed_is_defined_and_holds() -> None:
    claimed = set()
    for event in ALL:
        for url in event.get("meta", {}).get("profile", []):
            if url.startswith(PROFILE):
                claimed.add(url)
                assert balp_rules.violations(event, rules_of(DEFINED[url])) == []
    assert claimed == {f"{PROFILE}/{name}" for name in ("decision", "feedback", "erasure")}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("agent", 1), "AuditEvent.agent:server"),
        (("agent", 2, "who"), "AuditEvent.agent:user.who"),
        (("entity", -1), "AuditEvent.entity:log"),
        (("entity", 0, "what"), "AuditEvent.entity:patient.what"),
        (("subtype", 1), "AuditEvent.subtype:decision"),
        (("action",), "AuditEvent.action"),
        (("outcome",), "AuditEvent.outcome"),
    ],
)
def test_a_decision_that_lacks_something_is_named(path: tuple[str | int, ...], named: str) -> None:
    event = copy.deepcopy(audit_events(example("decision"))[-1])
    place: Any = event
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    assert named in balp_rules.violations(event, rules_of(DEFINED[f"{PROFILE}/decision"]))


def test_the_extension_is_as_it_is_defined() -> None:
    elements = DEFINED[LOG_EXTENSION]["differential"]["element"]
    kinds = {
        element["id"].split(":")[1].removesuffix(".value[x]"): element["type"][0]["code"]
        for element in elements
        if "type" in element
    }
    (event, *_) = audit_events(with_proof(example("gap")))
    written = {}
    for part in event["extension"][0]["extension"]:
        (value,) = [name for name in part if name != "url"]
        written[part["url"]] = value.removeprefix("value")
    assert written == {name: kind[0].upper() + kind[1:] for name, kind in kinds.items()}


def test_our_code_system_has_every_code_that_is_used() -> None:
    codes = {concept["code"] for concept in DEFINED[EVENTS]["concept"]}
    used = {subtype["code"] for event in ALL for subtype in event["subtype"] if subtype["system"] == EVENTS}
    assert used <= codes
