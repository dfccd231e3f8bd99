"""The `patient-view` hook, version 1.0: a user opens a patient's record.

Specification: https://cds-hooks.hl7.org/hooks/patient-view/ (required: userId, patientId; optional: encounterId).
"""

from __future__ import annotations

from cds_service.hooks.context import HookContext, PatientId, optional_id, require_id, require_user

HOOK = "patient-view"
USERS = frozenset({"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"})


def parse(context: dict[str, object]) -> HookContext:
    """The context of a patient-view call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    return HookContext(
        patient_id=PatientId(require_id(context, "patientId", "Patient")),
        user=require_user(context, USERS),
        encounter_id=optional_id(context, "encounterId", "Encounter"),
    )
