"""The `patient-view` hook, version 1.0: a user opens a patient's record.

Specification: https://cds-hooks.hl7.org/hooks/patient-view/
(required: userId, patientId; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common

HOOK = "patient-view"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of a patient-view call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context)
