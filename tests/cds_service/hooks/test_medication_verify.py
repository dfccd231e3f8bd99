from __future__ import annotations

from typing import Any

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import medication_verify
from tests.cds_service.hooks.contexts import members

ORDER: dict[str, Any] = {
    "resourceType": "MedicationRequest",
    "id": "smart-MedicationRequest-103",
    "status": "active",
    "intent": "order",
    "subject": {"reference": "Patient/1288992"},
}
CONTEXT = {"userId": "PractitionerRole/123", "patientId": "1288992", "encounterId": "89284"}


# https://cds-hooks.hl7.org/hooks/medication-verify/: "Context" has the first, "Examples" the last
@pytest.mark.parametrize(
    "sent",
    [{"medication": ORDER}, {"medication": {"resource": ORDER}}, {"order": ORDER}, {"order": {"resource": ORDER}}],
)
def test_medication_verify_reads_the_order_in_each_form_of_the_page(sent: dict[str, object]) -> None:
    (found,) = medication_verify.parse(members({**CONTEXT, **sent})).resources
    assert (found.reference, found.selected) == ("MedicationRequest/smart-MedicationRequest-103", True)


@pytest.mark.parametrize("member", ["userId", "patientId", "medication"])
def test_medication_verify_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        medication_verify.parse(members({**CONTEXT, "medication": ORDER, member: None}))


@pytest.mark.parametrize(
    ("medication", "message"),
    [
        ([ORDER], "context.medication: expected `object`, got `array`"),
        ("1", "context.medication: expected `object`, got `str`"),
        ({}, "context.medication: expected resources with a resourceType"),
        ({"resource": {"resource": ORDER}}, "context.medication: expected resources with a resourceType"),
        ({"resource": 1}, "context.medication: expected `object`, got `int`"),
    ],
)
def test_medication_verify_refuses_what_is_not_one_resource(medication: object, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        medication_verify.parse(members({**CONTEXT, "medication": medication}))
    assert str(caught.value) == message
