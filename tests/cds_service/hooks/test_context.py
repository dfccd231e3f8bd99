from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks.context import UserReference, optional_id, require_id, require_user

TYPES = frozenset({"Practitioner", "Patient"})


@pytest.mark.parametrize("value", ["1", "Patient/1", "a.b-c_D", "...", "x" * 64])
def test_context_reads_a_bare_or_typed_id(value: str) -> None:
    assert require_id({"patientId": value}, "patientId", "Patient") == value.removeprefix("Patient/")


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "Patient/..", "Group/1", "1/2", "x" * 65, "1?a=b", "1\n", "é", "{{context.patientId}}"],
)
def test_context_refuses_what_is_no_fhir_id(value: str) -> None:
    """A dot or two would climb to `Patient/`, which lists everybody."""
    with pytest.raises(BadRequestError, match=r"^context\.patientId: expected a FHIR id, got \d+ characters"):
        require_id({"patientId": value}, "patientId", "Patient")


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "a number"), (1.5, "a number"), (True, "a boolean"), ([], "an array"), ({}, "an object")]
)
def test_context_names_the_wrong_type(value: object, kind: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.patientId: expected a string, got {kind}$"):
        require_id({"patientId": value}, "patientId", "Patient")


@pytest.mark.parametrize("context", [{}, {"patientId": None}])
def test_context_never_invents_a_required_id(context: dict[str, object]) -> None:
    with pytest.raises(BadRequestError, match=r"^context\.patientId is required$"):
        require_id(context, "patientId", "Patient")
    assert optional_id(context, "patientId", "Patient") is None


@pytest.mark.parametrize("value", ["Practitioner/1", "https://ehr.example/Practitioner/1"])
def test_context_reads_the_user_relative_or_absolute(value: str) -> None:
    assert require_user({"userId": value}, TYPES) == UserReference("Practitioner", "1")


@pytest.mark.parametrize("value", ["1", "Practitioner/", "/1", "Device/1", "Practitioner/a b", 1, [], {}, True])
def test_context_refuses_other_users_without_repeating_them(value: object) -> None:
    with pytest.raises(BadRequestError) as caught:
        require_user({"userId": value}, TYPES)
    assert str(caught.value) == "context.userId: expected Type/id with Type one of Patient, Practitioner"


def test_context_requires_a_user() -> None:
    with pytest.raises(BadRequestError, match=r"^context\.userId is required$"):
        require_user({"userId": None}, TYPES)
