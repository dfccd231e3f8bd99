from typing import Any

import numpy as np
import pytest

from model_artifacts.warfarin_dose.columns import COLUMNS
from model_artifacts.warfarin_dose.inputs import INPUTS, UNCLEAR
from tests.model_artifacts.warfarin_dose.people import AS_OF, dose, draft, record


def _row(case: str, *more: dict[str, Any]) -> dict[str, float]:
    (row,) = INPUTS.extract(record(case, *more), AS_OF).arrays["features"].tolist()
    return dict(zip(COLUMNS, row, strict=True))


def _evidence(name: str, case: str = "genotypes-known", *more: dict[str, Any], without: tuple[str, ...] = ()) -> Any:
    found = INPUTS.extract(record(case, *more, without=without), AS_OF).evidence
    return next(item for item in found if item.name == name)


def test_inputs_reads_the_person_and_both_genotypes() -> None:
    row = _row("draft-too-high")
    expected = {"age_decades": 8, "height": 154, "weight": 52, "male": 0, "asian": 1, "white": 0, "amiodarone": 1}
    expected |= {"*1/*3": 1, "*1/*2": 0, "cyp2c9_known": 1, "A/A": 1, "A/G": 0, "vkorc1_known": 1, "smoking": 0}
    assert {name: row[name] for name in expected} == expected


def test_inputs_without_genotypes_have_none_of_their_columns() -> None:
    row = _row("no-genotypes")
    assert [row[name] for name in COLUMNS[18:]] == [0.0] * 9


def test_inputs_do_not_depend_on_the_drafted_dose() -> None:
    rows = [
        INPUTS.extract(record("no-genotypes", draft(dose(mg)), without=("draft-1",)), AS_OF).arrays["features"]
        for mg in (1, 10)
    ]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("carbamazepine 200 MG Oral Tablet", "inducer"),
        ("Rifadin 300 MG Oral Capsule", "inducer"),
        ("simvastatin 20 MG Oral Tablet", "statin"),
        ("aspirin 81 MG Oral Tablet", "aspirin"),
        ("fluconazole 100 MG Oral Tablet", "azole"),
        ("sulfamethoxazole 800 MG / trimethoprim 160 MG Oral Tablet", "sulfonamide"),
    ],
)
def test_inputs_recognises_drugs_by_name(name: str, column: str) -> None:
    order = {**draft([], name, "m"), "status": "active"}
    order["medicationCodeableConcept"]["coding"][0]["code"] = "0"
    assert (_row("no-genotypes")[column], _row("no-genotypes", order)[column]) == (0, 1)


@pytest.mark.parametrize(("code", "column"), [("I50.9", "heart_failure"), ("E11.9", "diabetes"), ("Z95.2", "valve")])
def test_inputs_recognises_diagnoses(code: str, column: str) -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]},
    }
    assert (_row("no-genotypes")[column], _row("no-genotypes", condition)[column]) == (0, 1)


def test_inputs_reads_the_target_inr_of_the_draft() -> None:
    assert _row("dose-in-words")["target_inr"] == 3.0
    assert np.isnan(_row("no-genotypes")["target_inr"])


def test_inputs_gives_the_drafted_dose_with_its_order() -> None:
    drafted = _evidence("drafted_dose")
    assert (drafted.value, drafted.unit, drafted.source) == (35.0, "mg/wk", "MedicationRequest/draft-1")


def test_inputs_adds_several_drafts_and_names_none_of_them() -> None:
    drafted = _evidence("drafted_dose", "genotypes-known", draft(dose(2.5)))
    assert (drafted.value, drafted.source) == (52.5, None)


def test_inputs_says_why_a_drafted_dose_is_unclear() -> None:
    drafted = _evidence("drafted_dose", "dose-in-words")
    assert (drafted.value, drafted.absence) == (None, UNCLEAR)
    assert "words" in drafted.note


def test_inputs_age_of_ninety_and_over_is_one_decade() -> None:
    born = {"resourceType": "Patient", "id": "p", "birthDate": "1920-01-01"}
    found = INPUTS.extract(record("no-genotypes", born, without=("p",)), AS_OF)
    assert found.arrays["features"][0, 0] == 9
    assert found.evidence[0].value == 106


def test_inputs_race_of_two_categories_is_mixed() -> None:
    parts = [{"url": "ombCategory", "valueCoding": {"code": code}} for code in ("2106-3", "2054-5")]
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
    person = {
        "resourceType": "Patient",
        "id": "p",
        "birthDate": "1960-01-01",
        "extension": [{"url": url, "extension": parts}],
    }
    found = _evidence("race", "no-genotypes", person, without=("p",))
    assert (found.value, found.display) == (0.0, "another or several")
