from __future__ import annotations

import msgspec
import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks.context import (
    ContextResource,
    UserReference,
    first_present,
    local_reference,
    optional_id,
    read_common,
    require_id,
    require_string,
    require_strings,
    require_user,
)
from tests.cds_service.hooks.contexts import members

TYPES = frozenset({"Practitioner", "Patient"})


@pytest.mark.parametrize("value", ["1", "Patient/1", "a.b-c_D", "...", "x" * 64])
def test_context_reads_a_bare_or_typed_id(value: str) -> None:
    assert require_id(members({"patientId": value}), "patientId", "Patient") == value.removeprefix("Patient/")


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "Patient/..", "Group/1", "1/2", "x" * 65, "1?a=b", "1\n", "é", "{{context.patientId}}"],
)
def test_context_refuses_what_is_no_fhir_id(value: str) -> None:
    """A dot or two would climb to `Patient/`, which lists everybody."""
    with pytest.raises(BadRequestError, match=r"^context\.patientId: expected a FHIR id, got \d+ characters"):
        require_id(members({"patientId": value}), "patientId", "Patient")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "a number"),
        (-1.5, "a number"),
        (True, "a boolean"),
        (False, "a boolean"),
        ([], "an array"),
        ({}, "an object"),
    ],
)
def test_context_names_the_wrong_type(value: object, kind: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.patientId: expected a string, got {kind}$"):
        require_id(members({"patientId": value}), "patientId", "Patient")


@pytest.mark.parametrize("context", [{}, {"patientId": None}])
def test_context_never_invents_a_required_id(context: dict[str, object]) -> None:
    with pytest.raises(BadRequestError, match=r"^context\.patientId is required$"):
        require_id(members(context), "patientId", "Patient")
    assert optional_id(members(context), "patientId", "Patient") is None


@pytest.mark.parametrize("value", [b'"\xff"', b'"\\ud800"', b'"a', b""])
def test_context_refuses_a_string_that_is_no_json(value: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"^context\.patientId: expected "):
        require_id({"patientId": msgspec.Raw(value)}, "patientId", "Patient")


@pytest.mark.parametrize(
    "value",
    ["Practitioner/1", "https://ehr.example/r4/Practitioner/1", "https://ehr.example/Practitioner/1/_history/2"],
)
def test_context_reads_the_user_relative_or_absolute(value: str) -> None:
    assert require_user(members({"userId": value}), TYPES) == UserReference("Practitioner", "1")


@pytest.mark.parametrize("value", ["1", "Practitioner/", "/1", "Device/1", "Practitioner/a b", 1, [], {}, True])
def test_context_refuses_other_users_without_repeating_them(value: object) -> None:
    with pytest.raises(BadRequestError) as caught:
        require_user(members({"userId": value}), TYPES)
    assert str(caught.value) == "context.userId: expected Type/id with Type one of Patient, Practitioner"


@pytest.mark.parametrize("kind", ["Practitioner", "PractitionerRole", "Patient", "RelatedPerson"])
def test_context_takes_each_kind_of_user(kind: str) -> None:
    sent = {"userId": f"{kind}/1", "patientId": "1"}
    assert read_common(members(sent)).user == UserReference(kind, "1")


def test_context_requires_a_user() -> None:
    with pytest.raises(BadRequestError, match=r"^context\.userId is required$"):
        require_user(members({"userId": None}), TYPES)


def test_context_reads_strings_and_skips_null_items() -> None:
    assert require_strings(members({"selections": ["a", None, "b"]}), "selections") == ("a", "b")
    assert require_string(members({"performer": "Organization/1"}), "performer") == "Organization/1"


@pytest.mark.parametrize(
    ("context", "name"), [({}, "a"), ({"b": 1}, "b"), ({"a": None, "b": 1}, "b"), ({"a": 0, "b": 1}, "a")]
)
def test_context_finds_the_spelling_that_is_there(context: dict[str, object], name: str) -> None:
    assert first_present(members(context), "a", "b") == name


@pytest.mark.parametrize(
    ("reference", "local"),
    [
        ("Patient/1", "Patient/1"),
        ("https://ehr.example/r4/Patient/1", "Patient/1"),
        ("Patient/1/_history/2", "Patient/1"),
        ("1", "1"),
        ("", ""),
    ],
)
def test_context_shortens_references(reference: str, local: str) -> None:
    assert local_reference(reference) == local


def test_context_resources_show_nothing_of_the_patient_when_printed() -> None:
    shown = repr(ContextResource("Condition/canary", "Condition", b"canary"))
    assert shown == "ContextResource(resource_type='Condition', selected=True)"
