"""Whom readmission_30d is for: criteria that other models don't have."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_adapters.codes import ICD9CM
from model_artifacts.manifest import Criterion
from model_artifacts.population import _CHECKS
from tests.model_artifacts.readmission_30d.stays import AS_OF, FOLDER, condition, encounter, order, record, stay

DIABETES = Criterion("condition-or-drug", "", codes="diabetes.toml", drugs="diabetes_drugs.toml")
HOSPICE = Criterion("not-leaving-to", "", codes="hospice.toml")
LEAVING = Criterion("leaving-hospital", "")


def _meets(criterion: Criterion, *resources: dict[str, Any]) -> bool:
    return _CHECKS[criterion.kind](criterion, FOLDER, record(*resources), AS_OF)


@pytest.mark.parametrize(
    "resource",
    [
        condition("d", "E11.9"),
        condition("d", "250.02", ICD9CM),
        order("o", "insulin lispro"),
        order("o", "x", code="4821"),
    ],
    ids=["ICD-10-CM", "ICD-9-CM", "by name", "by RxNorm"],
)
def test_population_a_diagnosis_of_diabetes_or_a_drug_for_it_is_enough(resource: dict[str, Any]) -> None:
    assert _meets(DIABETES, resource)


@pytest.mark.parametrize("resource", [condition("d", "I10"), order("o", "metformin"), condition("d", "R73.03")])
def test_population_neither_high_glucose_nor_metformin_alone_is_diabetes(resource: dict[str, Any]) -> None:
    assert not _meets(DIABETES, resource)


def test_population_a_diagnosis_or_order_of_later_does_not_count() -> None:
    assert not _meets(DIABETES, condition("d", "E11.9", recordedDate="2026-07-01"), order("o", "insulin", "2026-07-01"))


@pytest.mark.parametrize("text", ["HOSPICE", "Discharged to hospice - home", "Expired"])
def test_population_a_discharge_to_a_hospice_is_told_by_its_words(text: str) -> None:
    assert not _meets(HOSPICE, stay(hospitalization={"dischargeDisposition": {"text": text}}))


def test_population_a_discharge_to_a_hospice_is_told_by_its_code() -> None:
    code = {"system": "https://www.nubc.org/CodeSystem/PatDischargeStatus", "code": "50"}
    assert not _meets(HOSPICE, stay(hospitalization={"dischargeDisposition": {"coding": [code]}}))


@pytest.mark.parametrize("hospital", [{}, {"dischargeDisposition": {"text": "HOME"}}])
def test_population_a_discharge_elsewhere_or_not_recorded_yet_is_none_to_a_hospice(hospital: dict[str, Any]) -> None:
    assert _meets(HOSPICE, stay(hospitalization=hospital))


def test_population_leaving_hospital_needs_an_inpatient_stay() -> None:
    assert _meets(LEAVING, stay())
    assert not _meets(LEAVING, encounter("visit", "AMB", "2026-06-10T14:00:00Z"))
