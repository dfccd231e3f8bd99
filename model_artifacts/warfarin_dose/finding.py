"""The weekly dose in clinical words: estimate and interval, the drafted dose beside them, what would make them surer.

A change of the draft is only proposed where its dose lies outside the interval, and it is the clinician's to accept; the
proposed dose is a daily one, rounded to halves of the drafted tablets; where these make no dose near the estimate, none is
proposed. It is a maintenance dose throughout: nothing here says how to
start, and monitoring the INR stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from fhir_adapters.codes import LOINC, RXNORM, Code
from fhir_adapters.reasons import Reason
from model_artifacts.assessment import (
    Abstention,
    Assessment,
    ChangeDose,
    Finding,
    OrderLab,
    Prediction,
    Proposal,
)
from model_artifacts.explanation import Attribution
from model_artifacts.finding import MAX_REASONS, NO_ANSWER, interpret_by_bands, missing_words
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import Indicator, ModelManifest
from model_artifacts.warfarin_dose.inputs import UNCLEAR

OUTPUT = "weekly_dose"
GENOTYPES = Code(LOINC, "93196-4", "Warfarin response genotype panel - Blood or Tissue by Molecular genetics method")
WARFARIN = Code(RXNORM, "11289", "warfarin")
DAYS = 7
SMALLEST_TABLET_MG = 1.0  # where the draft names no strength
MOST_ROUNDING = 0.15  # of the estimate; what tablets make only by more than that is another dose
LEAST_MOVE = 0.05  # mg/week; what would be shown as 0.0
_CONSIDER = (
    "This is a maintenance dose at a stable INR, not a starting or loading dose; INR monitoring decides, whatever is said.",
    "Interacting drugs, liver disease, diet and adherence change the dose needed, and most of them are not among the inputs.",
)


def interpret(assessment: Assessment, manifest: ModelManifest) -> Finding:
    """The finding for `assessment`."""
    match assessment:
        case Prediction():
            return _predicted(assessment, manifest)
        case Abstention():
            finding = interpret_by_bands(assessment, manifest)
            told = ("This says nothing about which dose is right.",)
            rest = tuple(text for text in finding.statements if text != NO_ANSWER)
            return replace(finding, statements=rest + told)
        case _:
            assert_never(assessment)


def _predicted(prediction: Prediction, manifest: ModelManifest) -> Finding:
    found = {item.name: item for item in prediction.evidence}
    dose, (low, high) = prediction.outputs[OUTPUT], prediction.interval[OUTPUT]
    drafted = found["drafted_dose"]
    place = _place(drafted, low, high)
    urgency: Indicator = "warning" if place in ("below", "above") else "info"
    reasons = _leading(prediction)
    others = tuple(item for item in prediction.evidence if item.name not in ("drafted_dose", "drafted_tablet"))
    return Finding(
        code=f"{OUTPUT}:{place}",
        urgency=urgency,
        headline=_headline(dose, low, high, drafted, place),
        statements=(
            _estimated(dose, low, high),
            _compared(drafted, place),
            manifest.uncertainty.text,
        ),
        reasons=reasons,
        missing=missing_words(others, prediction.set_aside),
        considerations=_CONSIDER + _genotyping(found),
        proposals=_proposals(dose, (low, high), found, place) + _tests(found),
        comparison=_comparison(prediction, reasons),
    )


def _estimated(dose: float, low: float, high: float) -> str:
    return (
        f"People with these values needed about {_mg(dose)} of warfarin a week to stay at their target INR; the 90 % "
        f"interval is {_mg(low)} to {_mg(high)} a week ({low / DAYS:.1f} to {high / DAYS:.1f} mg a day)."
    )


def _place(drafted: Evidence, low: float, high: float) -> str:
    if drafted.value is None:
        return "draft-unclear"
    if drafted.value < low:
        return "below"
    return "above" if drafted.value > high else "within"


def _headline(dose: float, low: float, high: float, drafted: Evidence, place: str) -> str:
    estimate = f"Warfarin about {dose:.0f} mg/week (90 % interval {low:.0f} to {high:.0f})"
    if drafted.value is None:
        return f"{estimate}; the draft could not be compared"
    words = {"below": "is below it", "above": "is above it", "within": "lies within"}[place]
    return f"{estimate}; the draft of {drafted.value:.4g} mg/week {words}"


def _compared(drafted: Evidence, place: str) -> str:
    if drafted.value is None:
        why = drafted.note if drafted.absence == UNCLEAR else "it could not be read"
        return f"The draft order's weekly dose could not be worked out, so it is not compared: {why}."
    words = {"below": "below the interval", "above": "above the interval", "within": "within the interval"}[place]
    return f"The draft order comes to {drafted.value:.4g} mg a week ({drafted.note}), {words}."


def _proposals(
    dose: float, interval: tuple[float, float], found: dict[str, Evidence], place: str
) -> tuple[Proposal, ...]:
    """A daily dose for the draft, where its dose lies outside, it is one order that can be named, and its tablets allow it."""
    drafted, tablet = found["drafted_dose"], found["drafted_tablet"].value or SMALLEST_TABLET_MG
    if place not in ("below", "above") or drafted.source is None:
        return ()
    daily = round(2 * dose / DAYS / tablet) * tablet / 2
    is_near = abs(daily * DAYS - dose) <= MOST_ROUNDING * dose
    if daily <= 0 or not is_near or not interval[0] <= daily * DAYS <= interval[1]:
        return ()
    instruction = f"{daily:g} mg once daily ({daily * DAYS:g} mg/week), adjusted by INR"
    return (ChangeDose(WARFARIN, f"Change the draft to {daily:g} mg daily", drafted.source, daily, instruction),)


def _unknown(found: dict[str, Evidence]) -> list[str]:
    return [name for name in ("CYP2C9", "VKORC1") if found[name.lower()].value is None]


def _genotyping(found: dict[str, Evidence]) -> tuple[str, ...]:
    unknown = _unknown(found)
    if not unknown:
        return ()
    one = " and ".join(unknown)
    return (
        f"Knowing {one} would narrow the interval, by how much on average is said above; treatment need not wait for it.",
    )


def _tests(found: dict[str, Evidence]) -> tuple[Proposal, ...]:
    """A genotype that was reported and can't be used is not ordered again."""
    if not any(found[name].absence == Reason.MISSING for name in ("cyp2c9", "vkorc1")):
        return ()
    return (
        OrderLab(GENOTYPES, "CYP2C9 and VKORC1 genotypes", "To estimate the warfarin dose with a narrower interval"),
    )


def _leading(prediction: Prediction) -> tuple[tuple[Evidence, Attribution], ...]:
    pairs = zip(prediction.evidence, prediction.attributions, strict=True)
    kept = [pair for pair in pairs if abs(pair[1].contribution) >= LEAST_MOVE]
    return tuple(sorted(kept, key=lambda pair: -abs(pair[1].contribution))[:MAX_REASONS])


def _comparison(prediction: Prediction, reasons: tuple[tuple[Evidence, Attribution], ...]) -> str:
    """From the baseline over the reasons shown and all others to the estimate, so that it adds up on paper."""
    if not reasons:
        return ""
    before, after = round(prediction.baseline, 1), round(prediction.outputs[OUTPUT], 1)
    shown = sum(round(moved.contribution, 1) for _, moved in reasons)
    return (
        f"Without these differences the estimate would be {before:.1f} mg/week. Those listed move it by "
        f"{_signed(shown)} mg/week together, all others by {_signed(after - before - shown)}, to {after:.1f} mg/week."
    )


def _signed(number: float) -> str:
    rounded = round(number, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def _mg(number: float) -> str:
    return f"{number:.0f} mg"
