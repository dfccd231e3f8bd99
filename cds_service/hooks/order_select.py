"""The `order-select` hook, version 1.0: a clinician has selected orders among drafts that are not complete yet.

Specification: https://cds-hooks.hl7.org/hooks/order-select/
(required: userId, patientId, selections, draftOrders; optional: encounterId). Advice is wanted on the selections; the
other drafts are background.
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import (
    ContextResource,
    HookContext,
    Members,
    local_reference,
    read_common,
    require_strings,
)
from cds_service.hooks.resources import require_bundle

HOOK = "order-select"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an order-select call; a selection that points at no draft is of no consequence.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    selected = frozenset(map(local_reference, require_strings(context, "selections")))
    drafts = require_bundle(context, "draftOrders", common.patient_id)
    return replace(common, resources=tuple(_mark(draft, selected) for draft in drafts))


def _mark(draft: ContextResource, selected: frozenset[str]) -> ContextResource:
    """By `Type/id`, or by the bare id, as "the FHIR id of the newly selected order(s)" has been read."""
    reference = draft.reference
    is_selected = reference is not None and (reference in selected or reference.partition("/")[2] in selected)
    return ContextResource(reference, draft.resource_type, draft.document, is_selected)
