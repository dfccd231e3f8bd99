"""The `order-sign` hook, version 1.0: a clinician is about to sign orders, drafts or signed again.

Specification: https://cds-hooks.hl7.org/hooks/order-sign/
(required: userId, patientId, draftOrders; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common, require_bundle

HOOK = "order-sign"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of a order-sign call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, resources=require_bundle(context, "draftOrders"))
