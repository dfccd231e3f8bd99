from dataclasses import replace
from typing import Any

import pytest

from model_artifacts.assessment import Abstention, ChangeDose, Finding, OrderLab, Prediction
from model_artifacts.runtime import ReleasedModel
from tests.model_artifacts.warfarin_dose.people import AS_OF, dose, draft, observation, record


@pytest.fixture(scope="module")
def model() -> ReleasedModel:
    return ReleasedModel.load("model_artifacts.warfarin_dose")


def _prediction(model: ReleasedModel, case: str, *more: Any, without: tuple[str, ...] = ()) -> Prediction:
    assessment = model.assess(record(case, *more, without=without), AS_OF).assessment
    assert isinstance(assessment, Prediction)
    return assessment


def _find(model: ReleasedModel, case: str, *more: Any, without: tuple[str, ...] = ()) -> Finding:
    return model.interpret(_prediction(model, case, *more, without=without), model.manifest)


def test_finding_within_the_interval_changes_nothing(model: ReleasedModel) -> None:
    finding = _find(model, "genotypes-known")
    assert (finding.code, finding.urgency, finding.proposals) == ("weekly_dose:within", "info", ())


@pytest.mark.parametrize(("case", "place"), [("draft-too-high", "above"), ("draft-too-low", "below")])
def test_finding_outside_the_interval_proposes_a_daily_dose_inside_it(
    model: ReleasedModel, case: str, place: str
) -> None:
    finding = _find(model, case)
    low, high = _prediction(model, case).interval["weekly_dose"]
    (change,) = finding.proposals
    assert isinstance(change, ChangeDose)
    assert (finding.code, finding.urgency) == (f"weekly_dose:{place}", "warning")
    assert change.order == "MedicationRequest/draft-1"
    assert low <= 7 * change.mg_per_day <= high
    assert change.mg_per_day % 0.5 == 0
    assert "adjusted by INR" in change.instruction


@pytest.mark.parametrize(("tablet", "daily"), [("5", [7.5]), ("3", [7.5]), ("10", []), ("", [8.0])])
def test_finding_proposes_what_halves_of_the_drafted_tablets_make(
    model: ReleasedModel, tablet: str, daily: list[float]
) -> None:
    order = draft(dose(0.5), f"warfarin sodium {tablet} MG Oral Tablet" if tablet else "warfarin")
    finding = _find(model, "draft-too-low", order, without=("draft-1",))
    assert [item.mg_per_day for item in finding.proposals if isinstance(item, ChangeDose)] == daily


def test_finding_proposes_nothing_that_the_drafted_tablets_cannot_make(model: ReleasedModel) -> None:
    order = draft(dose(7.5), "warfarin sodium 7.5 MG Oral Tablet")
    finding = _find(model, "draft-too-high", order, without=("draft-1",))
    assert (finding.code, finding.proposals) == ("weekly_dose:above", ())


def test_finding_names_no_change_where_two_drafts_add_up(model: ReleasedModel) -> None:
    finding = _find(model, "draft-too-high", draft(dose(5)))
    assert finding.code == "weekly_dose:above"
    assert finding.proposals == ()


def test_finding_without_genotypes_says_what_they_are_worth_and_offers_the_test(model: ReleasedModel) -> None:
    finding = _find(model, "no-genotypes")
    (order,) = finding.proposals
    assert isinstance(order, OrderLab)
    assert order.code.code == "93196-4"
    assert any("narrow the interval" in text for text in finding.considerations)
    assert any("mg/week wide on average with both genotypes" in text for text in finding.statements)


def test_finding_orders_no_test_whose_result_is_there(model: ReleasedModel) -> None:
    rows = [observation("a", "84413-4", "CYP2C9 *1/*5"), observation("b", "84413-4", "rs9923231 A/G")]
    assert _find(model, "no-genotypes", *rows).proposals == ()


def test_finding_without_genotypes_has_a_wider_interval(model: ReleasedModel) -> None:
    known, unknown = (_prediction(model, "genotypes-known", without=ids) for ids in ((), ("cyp2c9", "vkorc1")))
    widths = [high - low for low, high in (item.interval["weekly_dose"] for item in (known, unknown))]
    assert widths[0] < widths[1]


def test_finding_says_why_a_draft_is_not_compared(model: ReleasedModel) -> None:
    finding = _find(model, "dose-in-words")
    assert (finding.code, finding.urgency, finding.proposals) == ("weekly_dose:draft-unclear", "info", ())
    assert any("could not be worked out" in text and "words" in text for text in finding.statements)


def test_finding_says_that_it_is_no_starting_dose_and_that_the_inr_decides(model: ReleasedModel) -> None:
    words = " ".join(_find(model, "genotypes-known").considerations)
    assert "not a starting or loading dose" in words
    assert "INR monitoring" in words


def test_finding_says_the_error_in_people_recorded_as_black(model: ReleasedModel) -> None:
    assert any(
        "recorded as Black the mean absolute error was" in text for text in _find(model, "draft-too-low").statements
    )


@pytest.mark.parametrize("case", ["genotypes-known", "draft-too-high", "no-genotypes", "variants"])
def test_finding_comparison_adds_up(model: ReleasedModel, case: str) -> None:
    prediction = _prediction(model, case)
    moved = sum(item.contribution for item in prediction.attributions)
    assert prediction.baseline + moved == pytest.approx(prediction.outputs["weekly_dose"], abs=0.05)
    assert (
        f"to {prediction.outputs['weekly_dose']:.1f} mg/week" in model.interpret(prediction, model.manifest).comparison
    )


@pytest.mark.parametrize(
    ("case", "code", "silent"),
    [
        ("not-warfarin", "outside-population:drafted-drug", True),
        ("child", "outside-population:age", False),
        ("weight-missing", "input-missing", False),
    ],
)
def test_finding_abstains_with_its_reason(model: ReleasedModel, case: str, code: str, silent: bool) -> None:
    assessment = model.assess(record(case), AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert (assessment.reasons[0].code, assessment.silent) == (code, silent)
    assert "which dose is right" in model.interpret(assessment, model.manifest).statements[-1]


def test_finding_is_silent_where_nobody_knows_the_patient_and_no_warfarin_is_drafted(model: ReleasedModel) -> None:
    nobody = replace(record("not-warfarin"), patient=None)
    assessment = model.assess(nobody, AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert assessment.silent


def test_finding_abstains_where_measurements_are_unlike_the_training_data(model: ReleasedModel) -> None:
    rows = [
        {**observation(name, code, "x"), "valueQuantity": {"value": value, "unit": unit}}
        for name, code, value, unit in (("h", "8302-2", 125, "cm"), ("w", "29463-7", 235, "kg"))
    ]
    assessment = model.assess(record("genotypes-known", *rows, without=("height", "weight")), AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert [reason.code for reason in assessment.reasons] == ["unlike-training-data"]
