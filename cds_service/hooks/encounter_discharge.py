"""The `encounter-discharge` hook, version 1.0: a patient is about to be discharged.

Specification: https://cds-hooks.hl7.org/hooks/encounter-discharge/
(required: userId, patientId, encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common

HOOK = "encounter-discharge"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an encounter-discharge call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, encounter=True)
