"""The `order-select` hook, version 1.0: a clinician has selected orders among drafts that are not complete yet.

Specification: https://cds-hooks.hl7.org/hooks/order-select/
(required: userId, patientId, selections, draftOrders; optional:
encounterId). Advice is wanted on the selections; the other drafts are background.
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import (
    HookContext,
    Members,
    local_reference,
    read_common,
    require_bundle,
    require_references,
)

HOOK = "order-select"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an order-select call; a selection that points at no draft is of no consequence.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    selected = frozenset(map(local_reference, require_references(context, "selections")))
    drafts = require_bundle(context, "draftOrders")
    marked = tuple(replace(draft, selected=draft.reference in selected) for draft in drafts)
    return read_common(context, resources=marked)
