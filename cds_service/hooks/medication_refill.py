"""The `medication-refill` hook, version 0.1.0: a refill is asked for, perhaps by nobody's hand.

Specification: https://cds-hooks.hl7.org/hooks/medication-refill/
(required: patientId, medications; optional: userId, encounterId).
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, read_common
from cds_service.hooks.resources import require_bundle

HOOK = "medication-refill"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of a medication-refill call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context, user=False)
    return replace(common, resources=require_bundle(context, "medications", common.patient_id))
