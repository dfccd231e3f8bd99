"""The `allergyintolerance-create` hook, version 0.1.0: an allergy is about to be recorded.

Specification: https://cds-hooks.hl7.org/hooks/allergyintolerance-create/
(required: userId, patientId, allergyIntolerance; optional: encounterId). The page's table has the bare resource; its
examples have it as `{"resource": …}`, and for FHIR before R4 a Bundle called `allergyIntolerances`: all are taken.
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, first_present, read_common
from cds_service.hooks.resources import require_bundle, require_resource

HOOK = "allergyintolerance-create"
VERSION = "0.1.0"


def parse(context: Members) -> HookContext:
    """The context of an allergyintolerance-create call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    name = first_present(context, "allergyIntolerance", "allergyIntolerances")
    if name == "allergyIntolerances":
        return replace(common, resources=require_bundle(context, name, common.patient_id))
    return replace(common, resources=(require_resource(context, name, common.patient_id),))
