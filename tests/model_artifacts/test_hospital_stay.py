"""Which Encounter is the stay that is ending, and which visits came before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from model_artifacts.hospital_stay import INPATIENT, current_stay, kind_of, visits_before
from tests.model_artifacts.readmission_30d.stays import AS_OF, encounter, record, stay

YEAR = timedelta(days=365)


def _current(*resources: dict[str, Any], named: str | None = None) -> str | None:
    found = current_stay(replace(record(*resources), encounter_id=named), AS_OF)
    return None if found is None else found.id


def test_hospital_stay_the_open_inpatient_encounter_is_the_stay() -> None:
    visit = encounter("visit", "AMB", "2026-06-10T14:00:00Z")
    assert _current(visit, stay()) == "stay"


def test_hospital_stay_the_encounter_that_the_hook_names_is_the_stay() -> None:
    other = encounter("other", "IMP", "2026-06-09T10:00:00Z")
    assert _current(stay(), other) == "other"
    assert _current(stay(), other, named="stay") == "stay"


@pytest.mark.parametrize("named", ["visit", "unknown"])
def test_hospital_stay_none_where_the_hook_names_something_else(named: str) -> None:
    assert _current(stay(), encounter("visit", "AMB", "2026-06-10T14:00:00Z"), named=named) is None


@pytest.mark.parametrize(
    ("end", "found"), [("2026-06-10T14:00:00Z", "stay"), ("2026-06-08T14:00:00Z", None), ("2026-06-11T14:00:00Z", None)]
)
def test_hospital_stay_one_just_closed_counts_and_one_closed_long_ago_or_later_does_not(
    end: str, found: str | None
) -> None:
    assert _current(encounter("stay", "IMP", "2026-06-05T10:00:00Z", end)) == found


@pytest.mark.parametrize("change", [{"status": "planned"}, {"status": "cancelled"}, {"class": {"code": "OBSENC"}}])
def test_hospital_stay_what_is_no_stay_is_none(change: dict[str, Any]) -> None:
    assert _current({**stay(), **change}) is None


def test_hospital_stay_kinds_are_by_class() -> None:
    visits = (encounter("e", code, "2026-06-01T10:00:00Z") for code in ("IMP", "EMER", "AMB", "VR"))
    kinds = [kind_of(record(visit).encounters[0]) for visit in visits]
    assert kinds == ["inpatient", "emergency", "outpatient", None]


def test_hospital_stay_visits_before_leave_out_parts_of_others_and_what_overlaps() -> None:
    whole = record(
        stay(),
        encounter("part", "IMP", "2026-05-01T10:00:00Z", "2026-05-02T10:00:00Z", partOf={"reference": "Encounter/x"}),
        encounter("overlaps", "IMP", "2026-06-01T10:00:00Z", "2026-06-06T10:00:00Z"),
        encounter("old", "IMP", "2024-06-01T10:00:00Z", "2024-06-06T10:00:00Z"),
        encounter("second", "IMP", "2026-04-01T10:00:00Z", "2026-04-06T10:00:00Z"),
        encounter("first", "IMP", "2026-01-01T10:00:00Z", "2026-01-06T10:00:00Z"),
    )
    current = current_stay(whole, AS_OF)
    assert current is not None
    assert [entry.id for entry in visits_before(whole, current, INPATIENT, YEAR)] == ["first", "second"]
