from __future__ import annotations

from typing import Any

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import order_dispatch
from cds_service.hooks.context import HookContext
from tests.cds_service.hooks.contexts import members

TASK: dict[str, Any] = {
    "resourceType": "Task",
    "status": "draft",
    "intent": "order",
    "focus": {"reference": "ServiceRequest/proc002"},
    "for": {"reference": "Patient/1288992"},
}
PATIENT = {"patientId": "1288992", "performer": "Organization/some-performer"}
# https://cds-hooks.hl7.org/hooks/order-dispatch/, "Context"
TABLE: dict[str, object] = {**PATIENT, "dispatchedOrders": ["ServiceRequest/proc002"], "fulfillmentTasks": [TASK]}
# the same page, "Examples"
EXAMPLE: dict[str, object] = {**PATIENT, "dispatched-orders": ["ServiceRequest/proc002"], "fulfillment-tasks": [TASK]}
# the ballot of September 2023
BALLOT: dict[str, object] = {**PATIENT, "order": "ServiceRequest/proc002", "task": TASK}


@pytest.mark.parametrize("sent", [TABLE, EXAMPLE, BALLOT], ids=["table", "example", "ballot"])
def test_order_dispatch_reads_each_form_of_the_specification(sent: dict[str, object]) -> None:
    context = order_dispatch.parse(members(sent))
    assert (context.patient_id, context.user, context.encounter_id) == ("1288992", None, None)
    assert [(task.reference, task.resource_type, task.selected) for task in context.resources] == [(None, "Task", True)]


def test_order_dispatch_needs_no_task() -> None:
    sent = members({**TABLE, "fulfillmentTasks": None})
    assert order_dispatch.parse(sent) == HookContext("1288992", None, None)


@pytest.mark.parametrize("user", ["Practitioner/1", "Device/1", 1])
def test_order_dispatch_leaves_a_user_alone_as_it_defines_none(user: object) -> None:
    assert order_dispatch.parse(members({**TABLE, "userId": user, "encounterId": {}})).user is None


@pytest.mark.parametrize("member", ["patientId", "dispatchedOrders", "performer"])
def test_order_dispatch_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        order_dispatch.parse(members({**TABLE, member: None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dispatchedOrders": []}, "context.dispatchedOrders: expected at least one reference, got none"),
        ({"dispatchedOrders": "x"}, "context.dispatchedOrders: expected an array, got a string"),
        ({"dispatchedOrders": [{}]}, "context.dispatchedOrders: expected a string, got an object"),
        ({"dispatchedOrders": None, "order": ["x"]}, "context.order: expected a string, got an array"),
        ({"performer": {}}, "context.performer: expected a string, got an object"),
        ({"fulfillmentTasks": "x"}, "context.fulfillmentTasks: expected `object`, got `str`"),
        ({"fulfillmentTasks": [1]}, "context.fulfillmentTasks: expected `object`, got `int`"),
        (
            {"fulfillmentTasks": [TASK, {**TASK, "for": {"reference": "Patient/2"}}]},
            "context.fulfillmentTasks: expected resources of the patient of context.patientId, got another's",
        ),
    ],
)
def test_order_dispatch_refuses_another_form(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        order_dispatch.parse(members({**TABLE, **changes}))
    assert str(caught.value) == message
