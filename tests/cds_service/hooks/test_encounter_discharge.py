from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import encounter_discharge
from cds_service.hooks.context import HookContext, UserReference
from tests.cds_service.hooks.contexts import members

# https://cds-hooks.hl7.org/hooks/encounter-discharge/, "Examples"
EXAMPLE: dict[str, object] = {"userId": "PractitionerRole/A2340113", "patientId": "1288992", "encounterId": "456"}


def test_encounter_discharge_reads_the_specifications_example() -> None:
    expected = HookContext("1288992", UserReference("PractitionerRole", "A2340113"), "456")
    assert encounter_discharge.parse(members(EXAMPLE)) == expected


@pytest.mark.parametrize("member", EXAMPLE)
def test_encounter_discharge_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        encounter_discharge.parse(members({**EXAMPLE, member: None}))
