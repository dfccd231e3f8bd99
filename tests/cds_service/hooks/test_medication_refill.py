from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import medication_refill
from cds_service.hooks.context import UserReference
from tests.cds_service.hooks.contexts import example, members

EXAMPLE = example("medication-refill_0")


@pytest.mark.parametrize(
    ("number", "reference"),
    [(0, "MedicationRequest/smart-MedicationRequest-104"), (1, "MedicationOrder/smart-MedicationOrder-104")],
)
def test_medication_refill_reads_the_specifications_examples(number: int, reference: str) -> None:
    context = medication_refill.parse(members(example(f"medication-refill_{number}")))
    assert [draft.reference for draft in context.resources] == [reference]
    assert (context.user, context.encounter_id) == (UserReference("Practitioner", "123"), "89284")


def test_medication_refill_allows_no_user_and_no_encounter() -> None:
    context = medication_refill.parse(members({**EXAMPLE, "userId": None, "encounterId": None}))
    assert (context.user, context.encounter_id) == (None, None)


def test_medication_refill_still_refuses_a_user_that_is_none() -> None:
    with pytest.raises(BadRequestError, match=r"^context\.userId: expected Type/id"):
        medication_refill.parse(members({**EXAMPLE, "userId": "Device/1"}))


@pytest.mark.parametrize("member", ["patientId", "medications"])
def test_medication_refill_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        medication_refill.parse(members({**EXAMPLE, member: None}))
