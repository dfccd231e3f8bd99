"""The `encounter-start` hook, version 1.0: an encounter begins.

Specification: https://cds-hooks.hl7.org/hooks/encounter-start/
(required: userId, patientId, encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common

HOOK = "encounter-start"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an encounter-start call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, encounter=True)
