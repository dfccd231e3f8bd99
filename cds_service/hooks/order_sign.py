"""The `order-sign` hook, version 1.0: a clinician is about to sign orders, drafts or signed again.

Specification: https://cds-hooks.hl7.org/hooks/order-sign/
(required: userId, patientId, draftOrders; optional: encounterId).
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, read_common
from cds_service.hooks.resources import require_bundle

HOOK = "order-sign"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an order-sign call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    return replace(common, resources=require_bundle(context, "draftOrders", common.patient_id))
