"""The `medication-verify` hook, version 0.1.0: a pharmacist verifies an active order.

Specification: https://cds-hooks.hl7.org/hooks/medication-verify/
(required: userId, patientId, medication; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common, require_resource

HOOK = "medication-verify"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of a medication-verify call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, resources=(require_resource(context, "medication"),))
