"""The `appointment-book` hook, version 1.0: appointments are about to be booked.

Specification: https://cds-hooks.hl7.org/hooks/appointment-book/
(required: userId, patientId, appointments; optional: encounterId). The page's table says a Bundle, its examples are arrays
of Appointments: both are taken. An Appointment has no subject, only participants, and the examples' patient is another
than their patientId; so whose it is isn't looked at.
"""

from __future__ import annotations

from dataclasses import replace

from cds_service.hooks.context import HookContext, Members, read_common
from cds_service.hooks.resources import is_array, optional_resources, require_bundle

HOOK = "appointment-book"
VERSION = "1.0"


def parse(context: Members) -> HookContext:
    """The context of an appointment-book call.

    Raises:
        BadRequestError: a required field is missing, or a field has the wrong form.
    """
    common = read_common(context)
    read = optional_resources if is_array(context, "appointments") else require_bundle
    return replace(common, resources=read(context, "appointments", common.patient_id))
