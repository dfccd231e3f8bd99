"""The `problem-list-item-create` hook, version 0.1.0: problems were recorded; it fires after they are saved.

Specification: https://cds-hooks.hl7.org/hooks/problem-list-item-create/
(required: userId, patientId, conditions; optional: encounterId).
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, read_common
from cds_service.hooks.resources import require_bundle

HOOK = "problem-list-item-create"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of a problem-list-item-create call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    return replace(common, resources=require_bundle(context, "conditions", common.patient_id))
