import json
from datetime import timedelta

import numpy as np
import pytest

from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.icu_mortality.events import HOURS, VARIABLES
from model_artifacts.runtime import ReleasedModel
from tests.model_artifacts.icu_mortality.stays import ADMITTED, AS_OF, STAYS, arrays_of, record_of

MODEL = ReleasedModel.load("model_artifacts.icu_mortality")
STAY = STAYS["132585"]


@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_graph_through_fhir_answers_as_from_the_training_arrays(stay):
    direct = MODEL.run(arrays_of(stay))
    through = MODEL.assess(record_of(stay), AS_OF).answer
    assert through is not None
    for name in ("probability", "members", "attributions", "baseline", "novelty"):
        np.testing.assert_allclose(getattr(through, name), getattr(direct, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("hours", [6.0, 13.3, 24.0, 48.0])
@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_graph_attributions_sum_to_the_answer_minus_the_baseline(stay, hours):
    answer = MODEL.run(arrays_of(stay, hours))
    gap = answer.attributions.astype(np.float64).sum() - (answer.probability[0] - answer.baseline)
    assert abs(gap) <= MODEL.manifest.artifact.completeness_tolerance


def test_graph_what_was_not_measured_explains_nothing():
    arrays = arrays_of(STAY)
    by_cell = MODEL.run(arrays).attributions[: HOURS * len(VARIABLES)].reshape(HOURS, len(VARIABLES))
    assert (by_cell[arrays["counts"][0] == 0] == 0).all()


def test_graph_the_dead_among_the_bundled_stays_have_the_higher_risks():
    risk = {name: float(MODEL.run(arrays_of(stay)).probability[0]) for name, stay in STAYS.items()}
    died = {"133473", "133079", "140525", "133377"}
    assert np.mean([risk[name] for name in died]) > np.mean([risk[name] for name in STAYS.keys() - died])


def test_graph_a_worse_coma_score_raises_the_risk():
    stay = STAYS["132799"]
    arrays = arrays_of(stay)
    coma = {name: value.copy() for name, value in arrays.items()}
    gcs = [variable.name for variable in VARIABLES].index("GCS")
    coma["values"][0, :, gcs] = np.where(coma["counts"][0, :, gcs] > 0, 3, 0)
    assert MODEL.run(coma).probability[0] > MODEL.run(arrays).probability[0]


def test_graph_prediction_names_values_with_their_sources():
    assessment = MODEL.assess(record_of(STAY), AS_OF).assessment
    assert isinstance(assessment, Prediction)
    assert len(assessment.attributions) == len(assessment.evidence) == 41
    assert all(item.source for item in assessment.evidence if item.value is not None)
    low, high = assessment.spread["in_hospital_death"]
    assert low <= assessment.outputs["in_hospital_death"] <= high


@pytest.mark.parametrize(("hours", "answers"), [(5.9, False), (6.0, True), (30.5, True), (72.0, True), (72.1, False)])
def test_graph_answers_from_the_6th_to_the_72nd_hour_and_is_silent_outside(hours, answers):
    assessment = MODEL.assess(record_of(STAY), ADMITTED + timedelta(hours=hours)).assessment
    if answers:
        assert isinstance(assessment, Prediction)
    else:
        assert isinstance(assessment, Abstention)
        assert [(reason.code, reason.silent) for reason in assessment.reasons] == [
            ("outside-population:icu-stay", True)
        ]


def test_graph_what_comes_after_the_time_looked_at_changes_nothing():
    def later(bundle):
        bundle["entry"] = [
            entry
            for entry in bundle["entry"]
            if entry["resource"].get("effectiveDateTime", "") <= (ADMITTED + timedelta(hours=24)).isoformat()
        ]

    at = ADMITTED + timedelta(hours=24)
    whole, cut = (MODEL.assess(record_of(STAY, change), at).answer for change in (None, later))
    assert whole is not None
    assert cut is not None
    assert whole.digest() == cut.digest()


def test_graph_the_same_measurements_mean_something_else_at_another_hour():
    arrays = arrays_of(STAY, 12.0)
    later = {**arrays, "elapsed": np.array([[40.0]], dtype=np.float32)}
    assert MODEL.run(arrays).probability[0] != MODEL.run(later).probability[0]


def test_graph_the_prediction_set_follows_the_bounds_of_the_hour():
    conformal = MODEL.manifest.uncertainty.conformal
    assert conformal is not None
    assert conformal.by == "elapsed"
    assert min(span.at_least for span in conformal.spans) == 6.0
    assert conformal.bounds_at(48.0) == (conformal.event_bound, conformal.no_event_bound)
    for hours in (8.0, 48.0):
        assessment = MODEL.assess(record_of(STAY), ADMITTED + timedelta(hours=hours)).assessment
        assert isinstance(assessment, Prediction)
        risk = assessment.outputs["in_hospital_death"]
        event, no_event = conformal.bounds_at(hours)
        sets = {(True, True): "either", (True, False): "event", (False, True): "no event", (False, False): "neither"}
        assert assessment.outcome_set == sets[risk >= event, 1 - risk >= no_event]


def test_graph_with_hardly_any_measurement_the_model_abstains():
    def thin(bundle):
        kept = {"8867-4", "9269-2"}
        bundle["entry"] = [
            entry
            for entry in bundle["entry"]
            if entry["resource"]["resourceType"] != "Observation"
            or entry["resource"]["code"]["coding"][0]["code"] in kept
        ]

    assessment = MODEL.assess(record_of(STAY, thin), AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert [reason.code for reason in assessment.reasons] == ["too-few-inputs"]


def test_graph_nonsense_within_range_is_unlike_the_training_data():
    random = np.random.default_rng(0)
    arrays = arrays_of(STAY)
    nonsense = {name: value.copy() for name, value in arrays.items()}
    low, high = (np.array([getattr(v, side) for v in VARIABLES]) for side in ("low", "high"))
    nonsense["values"][0] = np.where(nonsense["counts"][0] > 0, random.uniform(low, high), 0)
    assert MODEL.run(nonsense).novelty > MODEL.manifest.artifact.novelty_threshold


def test_graph_metrics_are_those_of_the_manifest():
    metrics = json.loads((MODEL.folder / "metrics.json").read_text(encoding="utf-8"))
    assert MODEL.manifest.artifact.integration_steps == metrics["run"]["graph"]["integration_steps"]
    assert MODEL.manifest.artifact.members == len(metrics["member_auroc"])
