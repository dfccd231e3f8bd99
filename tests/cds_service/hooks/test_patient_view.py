from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import PARSERS, patient_view
from cds_service.hooks.context import HookContext, UserReference
from tests.cds_service.hooks.contexts import members

# https://cds-hooks.hl7.org/hooks/patient-view/, "Examples"
EXAMPLE: dict[str, object] = {"userId": "PractitionerRole/123", "patientId": "1288992", "encounterId": "456"}


def test_patient_view_reads_the_specifications_example() -> None:
    expected = HookContext("1288992", UserReference("PractitionerRole", "123"), "456")
    assert patient_view.parse(members(EXAMPLE)) == expected


def test_patient_view_is_known_by_its_hook_name() -> None:
    assert PARSERS["patient-view"] is patient_view.parse


def test_patient_view_allows_no_encounter() -> None:
    assert patient_view.parse(members({**EXAMPLE, "encounterId": None})).encounter_id is None


@pytest.mark.parametrize("member", ["userId", "patientId"])
def test_patient_view_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        patient_view.parse(members({**EXAMPLE, member: None}))
