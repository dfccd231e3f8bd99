"""The `allergyintolerance-create` hook, version 0.1.0: an allergy is about to be recorded.

Specification: https://cds-hooks.hl7.org/hooks/allergyintolerance-create/
(required: userId, patientId, allergyIntolerance; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, Members, read_common, require_resource

HOOK = "allergyintolerance-create"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of a allergyintolerance-create call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return read_common(context, resources=(require_resource(context, "allergyIntolerance"),))
