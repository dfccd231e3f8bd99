"""The `order-dispatch` hook, version 1.1: signed orders are about to go to a performer.

Specification: https://cds-hooks.hl7.org/hooks/order-dispatch/
(required: patientId, dispatchedOrders, performer; optional: fulfillmentTasks). It has no user and no encounter: a `userId`
that came is as any unknown member. The ballot of September 2023 had one `order` and one `task`, and the page's example
spells `dispatched-orders` and `fulfillment-tasks`: all are taken.
"""

from __future__ import annotations

from cds_service.errors import BadRequestError
from cds_service.hooks.context import (
    HookContext,
    Members,
    PatientId,
    first_present,
    require_id,
    require_string,
    require_strings,
)
from cds_service.hooks.resources import optional_resources

HOOK = "order-dispatch"
VERSION = "1.1"


def parse(context: Members) -> HookContext:
    """The context of an order-dispatch call; its resources are the tasks.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    patient_id = PatientId(require_id(context, "patientId", "Patient"))
    _require_orders(context)
    require_string(context, "performer")
    tasks = first_present(context, "fulfillmentTasks", "fulfillment-tasks", "task")
    return HookContext(patient_id, None, None, optional_resources(context, tasks, patient_id))


def _require_orders(context: Members) -> None:
    name = first_present(context, "dispatchedOrders", "dispatched-orders", "order")
    if name == "order":
        require_string(context, name)
    elif not require_strings(context, name):
        raise BadRequestError(f"context.{name}: expected at least one reference, got none")
