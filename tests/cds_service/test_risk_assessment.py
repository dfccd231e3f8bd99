from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment
from hypothesis import example, given
from hypothesis import strategies as st

from cds_service.risk_assessment import UCUM, record_risk
from model_artifacts.assessment import ModelIdentity, Prediction
from model_artifacts.finding import percent
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import ModelId, Sha256
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.patients import empty_members

MOMENT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
DIGEST = Sha256("0" * 64)


def _evidence(source: str | None, value: float | None = 1.0) -> Evidence:
    return Evidence("x", "X", value, "1", MOMENT, source)


def _prediction(outputs: dict[str, float], *evidence: Evidence) -> Prediction:
    return Prediction(
        model=ModelIdentity(ModelId("prevent_cvd"), "1", DIGEST, DIGEST, DIGEST),
        outputs=outputs,
        spread={},
        outcome_set=None,
        baseline=0.1,
        attributions=(),
        gap=0.0,
        novelty=None,
        evidence=evidence,
        set_aside=(),
    )


def _recorded(
    model: ReleasedModel, outputs: dict[str, float], *evidence: Evidence, encounter: str | None = None
) -> dict[str, Any]:
    action = record_risk(_prediction(outputs, *evidence), model.manifest, "p1", MOMENT, encounter).to_json()
    assert empty_members(action) == []
    assert (action["type"], bool(action["description"])) == ("create", True)
    resource: dict[str, Any] = action["resource"]
    RiskAssessment.model_validate(resource)
    return resource


def test_risk_assessment_is_final_and_about_patient_encounter_and_moment(prevent: ReleasedModel) -> None:
    resource = _recorded(prevent, {"total_cvd_10y": 0.1234}, encounter="e1")
    assert (resource["resourceType"], resource["status"]) == ("RiskAssessment", "final")
    assert resource["subject"] == {"reference": "Patient/p1"}
    assert resource["encounter"] == {"reference": "Encounter/e1"}
    assert resource["occurrenceDateTime"] == "2026-11-24T09:30:00Z"


def test_risk_assessment_moment_is_written_in_utc(prevent: ReleasedModel) -> None:
    local = MOMENT.astimezone(timezone(timedelta(hours=-5)))
    action = record_risk(_prediction({"total_cvd_10y": 0.1}), prevent.manifest, "p1", local, None)
    assert action.resource["occurrenceDateTime"] == "2026-11-24T09:30:00Z"


def test_risk_assessment_names_the_model_and_that_no_clinician_made_it(prevent: ReleasedModel) -> None:
    resource, manifest = _recorded(prevent, {"total_cvd_10y": 0.1}), prevent.manifest
    (coding,) = resource["method"]["coding"]
    assert (coding["code"], coding["version"]) == (manifest.id, manifest.version)
    assert manifest.version in resource["method"]["text"]
    assert "no clinician made or checked" in resource["note"][0]["text"]
    assert resource["prediction"][0]["rationale"].startswith("A model's estimate: ")


def test_risk_assessment_has_one_prediction_for_each_output_in_the_manifests_order(prevent: ReleasedModel) -> None:
    first, second = prevent.manifest.outputs[:2]
    predictions = _recorded(prevent, {second.name: 0.2, first.name: 0.1})["prediction"]
    assert [item["probabilityDecimal"] for item in predictions] == [10.0, 20.0]
    assert predictions[0]["outcome"] == {"text": first.event[0].upper() + first.event[1:]}


@given(probability=st.floats(0, 1))
@example(probability=0.07)  # 100 times it is 7.000000000000001
@example(probability=0.9997)
def test_risk_assessment_says_how_likely_as_the_card_does(prevent: ReleasedModel, probability: float) -> None:
    output = prevent.manifest.outputs[0]
    (found,) = _recorded(prevent, {output.name: probability})["prediction"]
    shown = percent(probability, output.floor)
    if "probabilityDecimal" in found:
        assert shown == f"{found['probabilityDecimal']} %"
        assert 0 < found["probabilityDecimal"] <= 100  # FHIR's invariant ras-2
        assert json.loads(json.dumps(found)) == found
    else:
        low, high = (found["probabilityRange"][end] for end in ("low", "high"))
        assert shown in (f"below {high['value']:g} %", f"above {low['value']:g} %")
        assert {(end["system"], end["code"]) for end in (low, high)} == {(UCUM, "%")}  # ras-1


def test_risk_assessment_below_the_floor_gives_no_figure(models: dict[str, ReleasedModel]) -> None:
    icu = models["icu_mortality"]
    (found,) = _recorded(icu, {icu.manifest.outputs[0].name: 0.004})["prediction"]
    assert "probabilityDecimal" not in found
    assert found["probabilityRange"]["high"]["value"] == 1.0


def test_risk_assessment_basis_holds_each_used_resource_once(prevent: ReleasedModel) -> None:
    used = (_evidence("Observation/1"), _evidence("Condition/c.2"), _evidence("Observation/1"))
    resource = _recorded(prevent, {"total_cvd_10y": 0.1}, *used, _evidence("Observation/stale", None))
    assert resource["basis"] == [{"reference": "Observation/1"}, {"reference": "Condition/c.2"}]


@pytest.mark.parametrize(
    "source", [None, "https://elsewhere.example/Observation/1", "#contained", "urn:uuid:1", "Observation/1/_history/2"]
)
def test_risk_assessment_without_relative_sources_has_no_basis(prevent: ReleasedModel, source: str | None) -> None:
    assert "basis" not in _recorded(prevent, {"total_cvd_10y": 0.1}, _evidence(source))


def test_risk_assessments_of_two_patients_share_nothing(prevent: ReleasedModel) -> None:
    first = _prediction({"total_cvd_10y": 0.1}, _evidence("Observation/1"))
    one = record_risk(first, prevent.manifest, "p1", MOMENT, "e1").resource
    other = record_risk(replace(first, evidence=()), prevent.manifest, "p2", MOMENT, None).resource
    assert other["subject"] == {"reference": "Patient/p2"}
    assert other.keys() == one.keys() - {"encounter", "basis"}
