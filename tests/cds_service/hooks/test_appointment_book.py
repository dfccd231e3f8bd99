from __future__ import annotations

from typing import Any

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import appointment_book
from tests.cds_service.hooks.contexts import bundle, members


def _appointment(identifier: str) -> dict[str, Any]:
    """Shortened from the page, whose participant is another than its patientId."""
    return {
        "resourceType": "Appointment",
        "id": identifier,
        "status": "proposed",
        "description": "CPAP adjustments",
        "participant": [{"actor": {"reference": "Patient/example"}, "required": "required", "status": "tentative"}],
    }


# https://cds-hooks.hl7.org/hooks/appointment-book/, "Examples"
EXAMPLE: dict[str, object] = {
    "userId": "PractitionerRole/A2340113",
    "patientId": "1288992",
    "appointments": [_appointment("apt1"), _appointment("apt2")],
}
REFERENCES = ["Appointment/apt1", "Appointment/apt2"]


def test_appointment_book_reads_the_array_of_the_specifications_example() -> None:
    context = appointment_book.parse(members(EXAMPLE))
    assert [item.reference for item in context.resources] == REFERENCES
    assert context.encounter_id is None


def test_appointment_book_reads_the_bundle_of_the_table() -> None:
    sent = {**EXAMPLE, "encounterId": "456", "appointments": bundle(_appointment("apt1"), _appointment("apt2"))}
    context = appointment_book.parse(members(sent))
    assert [item.reference for item in context.resources] == REFERENCES
    assert context.encounter_id == "456"


@pytest.mark.parametrize("member", ["userId", "patientId", "appointments"])
def test_appointment_book_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        appointment_book.parse(members({**EXAMPLE, member: None}))


def test_appointment_book_refuses_another_type() -> None:
    with pytest.raises(BadRequestError, match=r"^context\.appointments: expected an object, got a string$"):
        appointment_book.parse(members({**EXAMPLE, "appointments": "apt1"}))
