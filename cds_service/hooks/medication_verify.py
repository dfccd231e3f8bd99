"""The `medication-verify` hook, version 0.1.0: a pharmacist verifies an active order.

Specification: https://cds-hooks.hl7.org/hooks/medication-verify/
(required: userId, patientId, medication; optional: encounterId). The page's table says `medication`, its examples
`"order": {"resource": …}`: both are taken.
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, first_present, read_common
from cds_service.hooks.resources import require_resource

HOOK = "medication-verify"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of a medication-verify call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    name = first_present(context, "medication", "order")
    return replace(common, resources=(require_resource(context, name, common.patient_id),))
