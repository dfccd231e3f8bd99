from __future__ import annotations

import json

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import order_sign
from cds_service.hooks.context import UserReference
from tests.cds_service.hooks.contexts import PATIENT_ID, example, members


def test_order_sign_reads_the_specifications_example() -> None:
    sent = example("order-sign_0")
    context = order_sign.parse(members(sent))
    assert (context.patient_id, context.user, context.encounter_id) == (
        PATIENT_ID,
        UserReference("PractitionerRole", "123"),
        "89284",
    )
    assert [draft.reference for draft in context.resources] == [
        "NutritionOrder/pureeddiet-simple",
        "MedicationRequest/smart-MedicationRequest-103",
    ]
    assert [json.loads(draft.document) for draft in context.resources] == [
        entry["resource"] for entry in sent["draftOrders"]["entry"]
    ]
    assert all(draft.selected for draft in context.resources)


def test_order_sign_reads_the_specifications_older_example() -> None:
    assert len(order_sign.parse(members(example("order-sign_1"))).resources) == 2


@pytest.mark.parametrize("member", ["userId", "patientId", "draftOrders"])
def test_order_sign_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        order_sign.parse(members({**example("order-sign_0"), member: None}))


def test_order_sign_allows_no_encounter() -> None:
    assert order_sign.parse(members({**example("order-sign_0"), "encounterId": None})).encounter_id is None
