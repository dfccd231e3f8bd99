"""Words, drugs, diagnoses and visits of a stay, in the training table's terms."""

from __future__ import annotations

import math

import pytest

from fhir_adapters.codes import ICD9CM, SNOMED
from model_artifacts.readmission_30d.columns import CHOICES, HISTORY_DAYS, TAKEN
from model_artifacts.readmission_30d.diagnoses import CHAPTERS
from model_artifacts.readmission_30d.inputs import INPUTS
from model_artifacts.readmission_30d.stay import encounter_choice
from tests.model_artifacts.readmission_30d.stays import AS_OF, condition, encounter, evidence, order, record, row, stay


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("HOME HEALTH CARE", "home with home health care"),
        ("Discharged to home", "home"),
        ("SKILLED NURSING FACILITY", "skilled nursing facility"),
        ("AGAINST ADVICE", "against medical advice"),
        ("CHRONIC/LONG TERM ACUTE CARE", "long-term care hospital"),
        ("ACUTE HOSPITAL", "another hospital"),
        ("PSYCH FACILITY", "psychiatric hospital"),
    ],
)
def test_stay_dispositions_of_a_site_are_understood_by_their_words(text: str, word: str) -> None:
    assert evidence("disposition", stay(hospitalization={"dischargeDisposition": {"text": text}})).display == word


def test_stay_words_that_say_nothing_known_are_not_guessed() -> None:
    item = evidence("disposition", stay(hospitalization={"dischargeDisposition": {"text": "Zorgpad 7"}}))
    assert (item.value, item.absence) == (None, "no-value")
    assert row(stay(hospitalization={"dischargeDisposition": {"text": "Zorgpad 7"}}))["disposition"] == 0


def test_stay_another_specialty_than_those_listed_is_another_one() -> None:
    entry = record(stay(serviceType={"text": "Dermatology"})).encounters[0]
    from fhir_adapters.mappings.encounter import Concept

    assert encounter_choice("specialty", entry, Concept(entry.service_type, entry.service_text)).display == "other"


def test_stay_every_word_of_the_table_is_a_choice() -> None:
    from model_artifacts.readmission_30d.stay import _WORDS

    for name, table in _WORDS.items():
        assert {*table["codes"].values(), *table["words"].values()} <= set(CHOICES[name])


def test_stay_visits_are_counted_by_kind_and_within_a_year() -> None:
    found = row(
        stay(),
        encounter("a", "AMB", "2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z"),
        encounter("b", "AMB", "2025-05-01T08:00:00Z", "2025-05-01T09:00:00Z"),
        encounter("c", "EMER", "2026-02-01T08:00:00Z", "2026-02-01T12:00:00Z"),
        encounter("d", "IMP", "2026-03-01T08:00:00Z", "2026-03-05T12:00:00Z"),
        encounter("e", "IMP", "2024-12-01T08:00:00Z", "2024-12-05T12:00:00Z"),
    )
    assert (found["outpatient_visits"], found["emergency_visits"], found["inpatient_stays"]) == (1, 1, 1)
    assert found["earlier_stays"] == 2


def test_stay_the_emergency_visit_that_led_to_it_is_not_counted() -> None:
    led = encounter("led", "EMER", "2026-06-05T06:00:00Z", "2026-06-05T10:00:00Z")
    assert row(stay(), led)["emergency_visits"] == 0


@pytest.mark.parametrize(("end", "returned"), [("2026-05-20T10:00:00Z", 1), ("2026-05-01T10:00:00Z", 0)])
def test_stay_a_return_is_one_within_30_days_of_the_last_discharge(end: str, returned: int) -> None:
    found = row(stay(), encounter("a", "IMP", "2026-04-25T08:00:00Z", end))
    assert (found["returned"], found["earlier_returns"]) == (returned, returned)


def test_stay_without_an_earlier_one_is_told_apart_from_a_recent_one() -> None:
    assert row(stay())["days_since_stay"] == HISTORY_DAYS
    found = row(stay(), encounter("a", "IMP", "2026-05-20T08:00:00Z", "2026-05-26T10:00:00Z"))
    assert found["days_since_stay"] == pytest.approx(10)


def test_stay_later_encounters_tell_nothing_of_earlier_ones() -> None:
    later = encounter("later", "IMP", "2026-06-20T08:00:00Z", "2026-06-25T10:00:00Z")
    assert row(stay(), later) == pytest.approx(row(stay()), nan_ok=True)


@pytest.mark.parametrize(
    ("name", "code", "drug"),
    [
        ("insulin glargine 100 UNT/ML", None, "insulin"),
        ("Insulin", "5856", "insulin"),
        ("Metformin hydrochloride 500 MG", "6809", "metformin"),
        ("glipizide 5 MG Oral Tablet", None, "glipizide"),
        ("Glibenclamide", None, "glyburide"),
    ],
)
def test_stay_a_drug_is_taken_and_its_change_not_guessed(name: str, code: str | None, drug: str) -> None:
    found = row(stay(), order("o", name, code=code))
    assert found[drug] == CHOICES[drug].index(TAKEN)
    assert found["diabetes_drug"] == 1
    assert math.isnan(found["changed"])


def test_stay_a_drug_stopped_or_forbidden_before_it_does_not_count() -> None:
    stopped = order("o", "metformin", "2026-01-05", status="stopped")
    forbidden = order("f", "insulin", doNotPerform=True)
    assert row(stay(), stopped, forbidden)["diabetes_drug"] == 0


def test_stay_a_drug_for_diabetes_begun_in_it_is_a_change() -> None:
    before = order("a", "metformin", "2026-01-05")
    assert row(stay(), before, order("b", "insulin", "2026-06-07"))["changed"] == 1
    assert math.isnan(row(stay(), before, order("b", "aspirin", "2026-06-07"))["changed"])


def test_stay_one_drug_ordered_twice_counts_once() -> None:
    assert row(stay(), order("a", "aspirin"), order("b", "Aspirin"), order("c", "heparin"))["medications"] == 2


def test_stay_the_ranked_diagnosis_is_the_principal_one() -> None:
    ranked = stay(diagnosis=[{"condition": {"reference": "Condition/b"}, "rank": 1}])
    assert evidence("diagnosis_1", ranked, condition("a", "E11.9"), condition("b", "I50.9")).source == "Condition/b"


def test_stay_diagnoses_of_other_stays_count_only_without_its_own() -> None:
    other = condition("o", "I50.9", linked=False)
    assert evidence("diagnosis_1", stay(), other, condition("a", "E11.9")).source == "Condition/a"
    assert evidence("diagnosis_1", stay(), other).source == "Condition/o"


def test_stay_diagnoses_are_read_in_both_editions_and_not_in_snomed() -> None:
    found = INPUTS.extract(
        record(stay(), condition("a", "428.0", ICD9CM), condition("b", "N17.9"), condition("c", "73211009", SNOMED)),
        AS_OF,
    )
    chapters = [CHAPTERS[number] for number in found.arrays["diagnoses"][0, ::3]]
    assert chapters == ["circulatory", "genitourinary", "unknown"]
    assert next(item.value for item in found.evidence if item.name == "diagnosis_count") == 3
