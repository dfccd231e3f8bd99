"""The `appointment-book` hook, version 1.0: appointments are about to be booked.

Specification: https://cds-hooks.hl7.org/hooks/appointment-book/
(required: userId, patientId, appointments; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common, require_bundle

HOOK = "appointment-book"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of a appointment-book call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, resources=require_bundle(context, "appointments"))
