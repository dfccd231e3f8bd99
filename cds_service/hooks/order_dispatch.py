"""The `order-dispatch` hook, version 1.1: signed orders are about to go to a performer.

Specification: https://cds-hooks.hl7.org/hooks/order-dispatch/
(required: patientId, dispatchedOrders, performer; optional:
fulfillmentTasks; there is no user and no encounter). The ballot of September 2023 had one `order` and one `task`, and the
published example spells `dispatched-orders`: both are taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from cds_service.errors import BadRequestError
from cds_service.hooks.context import (
    HookContext,
    Members,
    json_type,
    optional_resources,
    read_common,
    require_references,
)

HOOK = "order-dispatch"
VERSION = "1.1"


def parse(context: Members) -> HookContext:
    """The context of an order-dispatch call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    _require_orders(context)
    performer = context.get("performer")
    if performer is None:
        raise BadRequestError("context.performer is required")
    if not isinstance(performer, str):
        raise BadRequestError(f"context.performer: expected a string, got {json_type(performer)}")
    tasks = optional_resources(context, _present(context, ("fulfillmentTasks", "task")))
    return read_common(context, user=False, resources=tasks)


def _require_orders(context: Members) -> None:
    name = _present(context, ("dispatchedOrders", "dispatched-orders", "order"))
    if name == "order":
        if not isinstance(context["order"], str):
            raise BadRequestError(f"context.order: expected a string, got {json_type(context['order'])}")
        return
    require_references(context, name)


def _present(context: Members, names: Iterable[str]) -> str:
    """The first of the spellings that the context has, else the first."""
    spellings = tuple(names)
    return next((name for name in spellings if context.get(name) is not None), spellings[0])
