"""An assessment in clinical words, from the manifest's outputs, bands and texts alone.

A model's own `finding.py` offers `interpret(assessment, manifest) -> Finding` and usually calls `interpret_by_bands` and
adds proposals. What is written here is what the clinician reads, so: percentages are rounded once and the band is taken
from the rounded figure; a missing input is named; considerations are options, never commands; attributions are called
what they are, the model's arithmetic and not causes.
"""

from __future__ import annotations

import math
from datetime import UTC
from typing import assert_never

from fhir_adapters.reasons import WORDS, Reason
from model_artifacts.assessment import Abstention, Assessment, Finding, OutcomeSet, Prediction
from model_artifacts.explanation import Attribution
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import ModelManifest, Output, displayed

MAX_REASONS = 6
MAX_HEADLINE_CHARS = 140  # a card's summary must be shorter
NO_ANSWER = "This says nothing about how high or low the risk is."
LEAST_SHOWN = 0.0005  # of one decimal: what would round to 0.0 %
MIN_CONTRIBUTION = 0.0005  # below a twentieth of a percentage point nothing is worth a line

UNIT_WORDS = {
    "mm[Hg]": "mmHg",
    "Cel": "°C",
    "10*3/uL": "×10³/µL",
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "kg/m2": "kg/m²",
    "umol/L": "µmol/L",
    "ug/L": "µg/L",
    "/min": "per minute",
    "{score}": "points",
    "a": "years",
    "mg/wk": "mg/week",
    "1": "",
}


def interpret_by_bands(assessment: Assessment, manifest: ModelManifest) -> Finding:
    """The finding for `assessment`, worded from the manifest."""
    match assessment:
        case Prediction():
            return _predicted(assessment, manifest)
        case Abstention():
            return _abstained(assessment, manifest)
        case _:
            assert_never(assessment)


def _predicted(prediction: Prediction, manifest: ModelManifest) -> Finding:
    first = manifest.outputs[0]
    risk = prediction.outputs[first.name]
    band = manifest.band(risk)
    statements = [f"{natural_frequency(risk, first.event, first.floor)}."]
    statements += _interval_words(prediction, manifest)
    if band.meaning:
        statements.append(band.meaning)
    reasons = leading_reasons(prediction)
    return Finding(
        code=f"{first.name}:{band.code}",
        urgency=band.indicator,
        headline=f"{capitalised(first.label)}: {percent(risk, first.floor)} ({band.label})",
        statements=tuple(statements),
        reasons=reasons,
        missing=missing_words(prediction.evidence, prediction.set_aside),
        considerations=band.consider,
        figures=tuple(
            (output.label, percent(prediction.outputs[output.name], output.floor))
            for output in manifest.outputs[1:]
            if output.name in prediction.outputs
        ),
        comparison=comparison_words(prediction, manifest, reasons),
    )


def _abstained(abstention: Abstention, manifest: ModelManifest) -> Finding:
    subject = f"{capitalised(manifest.outputs[0].label)} not calculated"
    reason = abstention.reasons[0]
    others = len(abstention.reasons) - 1
    more = f", and {others} more {'reason' if others == 1 else 'reasons'}" if others else ""
    wordings = (reason.text, reason.text.partition(";")[0])
    fitting = (
        f"{subject}: {why}{more}" for why in wordings if len(subject) + 2 + len(why) + len(more) < MAX_HEADLINE_CHARS
    )
    headline = next(fitting, f"{subject}: {f'{others + 1} reasons, see detail' if others else 'see detail'}")
    population = (f"This model is for {manifest.population.text}.",) if abstention.outside_population else ()
    return Finding(
        code=f"abstained:{reason.code}",
        urgency="info",
        headline=headline,
        statements=(*population, NO_ANSWER),
        reasons=(),
        missing=_reasons_and_set_aside(abstention),
        considerations=(),
    )


def _reasons_and_set_aside(abstention: Abstention) -> tuple[str, ...]:
    """The reasons, and what else was set aside; what a reason says already isn't said twice."""
    reasons = tuple(item.text for item in abstention.reasons)
    return reasons + _set_aside_words(tuple(item for item in abstention.set_aside if item not in reasons))


def capitalised(text: str) -> str:
    """The text with its first letter a capital, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(probability: float, floor: float = LEAST_SHOWN) -> str:
    """The probability as a percentage with one decimal: 0.1234 gives "12.3 %"; below `floor` no figure is shown."""
    if probability < floor:
        return f"below {100 * max(floor, 0.001):g} %"
    if probability >= 0.9995:
        return "above 99.9 %"
    return f"{100 * displayed(probability):.1f} %"


def natural_frequency(probability: float, event: str, floor: float = LEAST_SHOWN) -> str:
    """The probability as a count of people: "Of 100 people with these values, about 12 would …"; never none and never all."""
    shown = displayed(probability)
    if probability < floor and floor >= 0.01:
        return f"Of 100 people with these values, fewer than {round(100 * floor)} would be expected to have {event}"
    of = 100 if 0.01 <= shown <= 0.99 else 1000
    count = round(shown * of)
    if count == 0:
        return f"Of {of} people with these values, fewer than 1 would be expected to have {event}"
    if count == of:
        return f"Of {of} people with these values, more than {of - 1} would be expected to have {event}"
    return f"Of {of} people with these values, about {count} would be expected to have {event}, {of - count} would not"


def leading_reasons(prediction: Prediction) -> tuple[tuple[Evidence, Attribution], ...]:
    """Evidence with its attribution, largest movement first, at most `MAX_REASONS`."""
    pairs = list(zip(prediction.evidence, prediction.attributions, strict=True))
    kept = [pair for pair in pairs if abs(pair[1].contribution) >= MIN_CONTRIBUTION]
    return tuple(sorted(kept, key=lambda pair: -abs(pair[1].contribution))[:MAX_REASONS])


def points(contribution: float) -> float:
    """A contribution in percentage points as shown, to a tenth."""
    return round(100 * contribution, 1)


def comparison_words(
    prediction: Prediction, manifest: ModelManifest, reasons: tuple[tuple[Evidence, Attribution], ...]
) -> str:
    """From the baseline's estimate over the reasons shown and all others to this estimate, so that it adds up on paper."""
    if not reasons:
        return ""
    explained = prediction.outputs[manifest.artifact.explained]
    floor = manifest.outputs[manifest.explained_index].floor
    shown = sum(points(moved.contribution) for _, moved in reasons)
    others = 100 * (displayed(explained) - displayed(prediction.baseline)) - shown
    return (
        f"Without these differences the estimate would be {percent(prediction.baseline, floor)}. Those listed move it by "
        f"{_signed(shown)} percentage points together, all others by {_signed(others)}, to {percent(explained, floor)}. "
        "A value that lowers it is not for that reason a healthy one, nor one that raises it a target of treatment."
    )


def _signed(number: float) -> str:
    rounded = round(number, 1) + 0.0  # no "-0.0"
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def value_words(evidence: Evidence) -> str:
    """The value with its unit as a clinician writes it: "152 mmHg", "yes"."""
    if evidence.display is not None:
        return evidence.display
    if evidence.value is None:
        return "not available"
    number = number_words(evidence.value)
    unit = UNIT_WORDS.get(evidence.unit, evidence.unit)
    return f"{number} {unit}".strip()


def number_words(value: float) -> str:
    """The value to four significant digits, never in powers of ten: 151000, 7.412, 0.00004."""
    decimals = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def date_words(evidence: Evidence) -> str:
    """When it was observed, in UTC and as exactly as it was recorded ("2026-05", "2026-05-01 02:30 UTC"), or ""."""
    formats = {"minute": "%Y-%m-%d %H:%M UTC", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
    moment = evidence.observed_at
    return "" if moment is None else moment.astimezone(UTC).strftime(formats[evidence.precision])


def _spread_words(low: str, high: str, members: int) -> str:
    if low == high:
        return f"All {members} networks of the ensemble say {low}."
    return (
        f"The {members} networks of the ensemble say {low} to {high}: how far they disagree, not a confidence interval."
    )


def _interval_words(prediction: Prediction, manifest: ModelManifest) -> list[str]:
    first = manifest.outputs[0]
    words = []
    if first.name in prediction.spread:
        low, high = (percent(end, first.floor) for end in prediction.spread[first.name])
        words.append(_spread_words(low, high, manifest.artifact.members))
    words.append(manifest.uncertainty.text)
    conformal = manifest.uncertainty.conformal
    if prediction.outcome_set is not None and conformal is not None:
        words.append(_outcome_words(prediction.outcome_set, first, conformal.coverage))
    return words


def _outcome_words(outcome_set: OutcomeSet, output: Output, coverage: float) -> str:
    """What the conformal set says of the estimate; never "only death remains", which reads as a verdict at a risk of 30 %."""
    share, event = f"{100 * coverage:.0f} %", output.event
    match outcome_set:
        case "either":
            return (
                f"Estimates like this one are common among people with and without {event}: neither can be ruled out."
            )
        case "event":
            return (
                f"About {share} of people without {event} had a lower estimate than this one; "
                "how likely it is, the estimate itself says."
            )
        case "no event":
            return (
                f"About {share} of people with {event} had a higher estimate than this one; "
                "how likely it is, the estimate itself says."
            )
        case "neither":
            return f"This estimate is unusual among people with {event} and among those without: read it with caution."
        case _:
            assert_never(outcome_set)


def missing_words(evidence: tuple[Evidence, ...], set_aside: tuple[str, ...]) -> tuple[str, ...]:
    """What was not there, by why, and what else was set aside."""
    by_absence: dict[str, list[str]] = {}
    for item in evidence:
        if item.value is None:
            by_absence.setdefault(absence_words(item.absence), []).append(item.label)
    told = {f"{label}: {why}" for why, labels in by_absence.items() for label in labels}
    rest = tuple(reason for reason in set_aside if reason not in told)
    return tuple(capitalised(f"{', '.join(labels)}: {why}") for why, labels in by_absence.items()) + _set_aside_words(
        rest
    )


def absence_words(absence: str | None) -> str:
    """Clinical words for an absence code."""
    if absence == "out-of-range":
        return "outside the range the model holds for"
    try:
        return WORDS[Reason(absence or Reason.MISSING)]
    except ValueError:
        return f"not usable ({absence})"


def _set_aside_words(set_aside: tuple[str, ...]) -> tuple[str, ...]:
    counted = {reason: set_aside.count(reason) for reason in dict.fromkeys(set_aside)}
    return tuple(
        f"set aside: {reason}" + (f" ({count} times)" if count > 1 else "") for reason, count in counted.items()
    )
