"""What the clinician reads: figures rounded once, bands that agree with them, honest words for what isn't there."""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.assessment import Abstention, AbstentionReason, Finding, ModelIdentity, Prediction
from model_artifacts.explanation import Attribution
from model_artifacts.finding import (
    MAX_REASONS,
    absence_words,
    date_words,
    interpret_by_bands,
    leading_reasons,
    natural_frequency,
    percent,
    value_words,
)
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import Conformal, ModelId, ModelManifest, Sha256, Uncertainty, parse_manifest

MANIFEST = parse_manifest(
    (Path(str(files("model_artifacts.prevent_cvd"))) / "manifest.toml").read_text(encoding="utf-8")
)
EVENT = MANIFEST.outputs[0].event
IDENTITY = ModelIdentity(ModelId("prevent_cvd"), "1", Sha256("a" * 64), Sha256("b" * 64), Sha256("c" * 64))
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def _evidence(name: str, value: float | None = 1.0, **changes: Any) -> Evidence:
    item = Evidence(
        name, name.title(), value, "mg/dL", NOON, f"Observation/{name}", None if value is not None else "missing"
    )
    return replace(item, **changes)


def _prediction(risk: float, **changes: Any) -> Prediction:
    plain = Prediction(
        model=IDENTITY,
        outputs={"total_cvd_10y": risk, "ascvd_10y": risk / 2},
        spread={},
        outcome_set=None,
        baseline=0.02,
        attributions=(),
        gap=0.0,
        novelty=None,
        evidence=(),
        set_aside=(),
    )
    return replace(plain, **changes)


def _abstention(*reasons: AbstentionReason, outside: bool = False) -> Abstention:
    return Abstention(IDENTITY, reasons, (), (), outside)


def _texts(finding: Finding) -> str:
    return " ".join((finding.headline, *finding.statements, *finding.missing, *finding.considerations))


@pytest.mark.parametrize(
    ("probability", "shown"),
    [
        (0.0, "below 0.1 %"),
        (0.0004999, "below 0.1 %"),
        (0.0005, "0.1 %"),
        (0.0015, "0.2 %"),
        (0.07449, "7.4 %"),
        (0.07451, "7.5 %"),
        (0.1, "10.0 %"),
        (0.9994, "99.9 %"),
        (0.9995, "above 99.9 %"),
        (1.0, "above 99.9 %"),
    ],
)
def test_finding_percentages_have_one_decimal_and_no_false_extremes(probability: float, shown: str) -> None:
    assert percent(probability) == shown


@given(st.floats(0, 1))
def test_finding_band_is_that_of_the_figure_beside_it(risk: float) -> None:
    """ "7.5 % (below 7.5 %)" must be impossible, also at ties of rounding."""
    band = MANIFEST.band(risk)
    shown = percent(risk)
    figure = (
        {"below 0.1 %": 0.0, "above 99.9 %": 99.9}.get(shown) if not shown[0].isdigit() else float(shown.split()[0])
    )
    assert figure is not None
    assert figure >= 100 * band.at_least - 1e-9
    above = [item.at_least for item in MANIFEST.bands if item.at_least > band.at_least]
    assert not above or figure < 100 * above[0] - 1e-9


@pytest.mark.parametrize("risk", [0.0015, 0.0025, 0.0625, 0.0745, 0.0755, 0.1995, 0.2005])
def test_finding_rounds_ties_the_same_way_for_figure_and_band(risk: float) -> None:
    assert float(percent(risk).split()[0]) == pytest.approx(100 * round(risk, 3), abs=1e-9)


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.0, f"Of 1000 people with these values, fewer than 1 would be expected to have {EVENT}"),
        (0.0004, f"Of 1000 people with these values, fewer than 1 would be expected to have {EVENT}"),
        (0.001, f"Of 1000 people with these values, about 1 would be expected to have {EVENT}, 999 would not"),
        (0.0094, f"Of 1000 people with these values, about 9 would be expected to have {EVENT}, 991 would not"),
        (0.01, f"Of 100 people with these values, about 1 would be expected to have {EVENT}, 99 would not"),
        (0.123, f"Of 100 people with these values, about 12 would be expected to have {EVENT}, 88 would not"),
        (0.99, f"Of 100 people with these values, about 99 would be expected to have {EVENT}, 1 would not"),
        (0.999, f"Of 1000 people with these values, about 999 would be expected to have {EVENT}, 1 would not"),
        (1.0, f"Of 1000 people with these values, more than 999 would be expected to have {EVENT}"),
    ],
)
def test_finding_natural_frequency_never_promises_none_or_all(probability: float, words: str) -> None:
    assert natural_frequency(probability, EVENT) == words


@given(st.floats(0, 1))
def test_finding_natural_frequency_agrees_with_the_percentage(risk: float) -> None:
    words = natural_frequency(risk, EVENT)
    of = int(re.findall(r"Of (\d+) people", words)[0])
    counts = re.findall(r"about (\d+) would", words)
    assert not counts or abs(int(counts[0]) / of - risk) <= 0.5 / of + 0.0005 + 1e-9
    assert bool(counts) or percent(risk) in {"below 0.1 %", "above 99.9 %"}


@pytest.mark.parametrize("risk", [0.0, 0.0745, 0.0751, 0.2, 1.0])
def test_finding_headline_is_figure_and_band_and_fits_a_card(risk: float) -> None:
    finding = interpret_by_bands(_prediction(risk), MANIFEST)
    band = MANIFEST.band(risk)
    assert finding.headline == f"{MANIFEST.outputs[0].label}: {percent(risk)} ({band.label})"
    assert len(finding.headline) < 140
    assert finding.code == f"total_cvd_10y:{band.code}"
    assert finding.urgency == band.indicator
    assert finding.figures == ((MANIFEST.outputs[1].label, percent(risk / 2)),)


def _in_lower_case(manifest: ModelManifest) -> ModelManifest:
    first = msgspec.structs.replace(manifest.outputs[0], label="risk of death in hospital")
    return msgspec.structs.replace(manifest, outputs=(first, *manifest.outputs[1:]))


def test_finding_headline_begins_with_a_capital() -> None:
    manifest = _in_lower_case(MANIFEST)
    assert interpret_by_bands(_prediction(0.1), manifest).headline.startswith("Risk of death in hospital: 10.0 %")
    abstained = interpret_by_bands(_abstention(AbstentionReason("x", "y")), manifest)
    assert abstained.headline == "Risk of death in hospital not calculated: y"


def test_finding_shows_the_largest_movements_first_and_no_trifles() -> None:
    evidence = tuple(_evidence(f"e{place}") for place in range(12))
    moved = tuple(Attribution(f"e{place}", (-1) ** place * place / 1000) for place in range(12))
    reasons = leading_reasons(_prediction(0.1, evidence=evidence, attributions=moved))
    assert [item.evidence for _, item in reasons] == ["e11", "e10", "e9", "e8", "e7", "e6"][:MAX_REASONS]
    trifles = tuple(replace(item, contribution=0.00049) for item in moved)
    assert leading_reasons(_prediction(0.1, evidence=evidence, attributions=trifles)) == ()


@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=15), st.floats(0.01, 0.3))
def test_finding_comparison_adds_up_on_paper(parts: list[float], baseline: float) -> None:
    """What is listed and what isn't lead from the baseline's figure to the estimate's, as displayed."""
    risk = min(max(baseline + math.fsum(parts), 0.01), 0.99)
    evidence = tuple(_evidence(f"e{place}") for place in range(len(parts)))
    moved = tuple(Attribution(f"e{place}", part) for place, part in enumerate(parts))
    changes = {"evidence": evidence, "attributions": moved, "baseline": baseline}
    finding = interpret_by_bands(_prediction(risk, **changes), MANIFEST)
    if not finding.reasons:
        assert finding.comparison == ""
        return
    text = finding.comparison.replace("−", "-")
    start, end = (float(figure) for figure in re.findall(r"(\d+\.\d) %", text))
    listed, others = re.findall(r"by ([-+]?\d+\.\d)", text)
    assert start + float(listed) + float(others) == pytest.approx(end, abs=1e-6)
    assert float(listed) == pytest.approx(sum(round(100 * m.contribution, 1) for _, m in finding.reasons), abs=1e-6)


def test_finding_comparison_names_both_ends() -> None:
    moved = (Attribution("sbp", 0.06), Attribution("hdl", -0.0002))
    changes = {"evidence": (_evidence("sbp"), _evidence("hdl")), "attributions": moved}
    assert interpret_by_bands(_prediction(0.08, **changes), MANIFEST).comparison.startswith(
        "Without these differences the estimate would be 2.0 %. Those listed move it by +6.0 percentage points together, "
        "all others by 0.0, to 8.0 %."
    )


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (_evidence("sbp", 152.0, unit="mm[Hg]"), "152 mmHg"),
        (_evidence("temp", 38.249, unit="Cel"), "38.25 °C"),
        (_evidence("platelets", 151000.0, unit="/uL"), "151000 /uL"),
        (_evidence("uacr", 12345.6, unit="mg/g"), "12346 mg/g"),
        (_evidence("ph", 7.4, unit="1"), "7.4"),
        (_evidence("troponin", 0.00004, unit="ug/L"), "0.00004 µg/L"),
        (_evidence("smoker", 1.0, unit="", display="yes (current)"), "yes (current)"),
        (_evidence("age", 67.0, unit="a"), "67 years"),
        (_evidence("ph", 7.412, unit="1"), "7.412"),
        (_evidence("balance", -1250.0, unit="mL"), "-1250 mL"),
        (_evidence("zero", 0.0, unit="mg/L"), "0 mg/L"),
        (_evidence("none", None), "not available"),
    ],
)
def test_finding_values_are_written_as_clinicians_do(item: Evidence, words: str) -> None:
    assert value_words(item) == words


def test_finding_dates_are_in_utc_and_say_so() -> None:
    observed = Evidence("a", "A", 1.0, "", datetime(2026, 5, 1, 2, 30, tzinfo=timezone(timedelta(hours=5))), None)
    assert date_words(observed) == "2026-04-30 21:30 UTC"
    assert date_words(replace(observed, precision="day")) == "2026-04-30"
    assert date_words(replace(observed, precision="month")) == "2026-04"
    assert date_words(replace(observed, precision="year")) == "2026"
    assert date_words(replace(observed, observed_at=None)) == ""


def test_finding_names_what_is_missing_by_reason_with_its_labels() -> None:
    evidence = (
        _evidence("hba1c", None),
        _evidence("uacr", None),
        _evidence("ldl", None, absence="stale"),
        _evidence("sbp"),
    )
    finding = interpret_by_bands(
        _prediction(
            0.1,
            evidence=evidence,
            attributions=(Attribution("x", 0.0),) * 4,
            set_aside=("Ldl: too old", "Crp: too old", "Crp: too old"),
        ),
        MANIFEST,
    )
    assert finding.missing == (
        "Hba1C, Uacr: not in the data received",
        "Ldl: too old",
        "set aside: Crp: too old (2 times)",
    )


@pytest.mark.parametrize("absence", ["missing", "stale", "unit", "implausible", "out-of-range", "something-new", None])
def test_finding_has_words_for_every_absence(absence: str | None) -> None:
    assert absence_words(absence)
    assert absence_words(absence)[0].islower()


@given(st.lists(st.text("abc ", min_size=1, max_size=90), min_size=1, max_size=6), st.booleans())
def test_finding_of_an_abstention_fits_a_card_and_lists_every_reason(texts: list[str], outside: bool) -> None:
    reasons = tuple(AbstentionReason("input-missing", text) for text in texts)
    finding = interpret_by_bands(_abstention(*reasons, outside=outside), MANIFEST)
    assert len(finding.headline) < 140
    assert finding.headline.startswith(f"{MANIFEST.outputs[0].label} not calculated: ")
    assert finding.missing == tuple(texts)
    assert finding.urgency == "info"
    assert finding.code == "abstained:input-missing"
    assert not finding.considerations
    assert any(MANIFEST.population.text in line for line in finding.statements) == outside


def test_finding_of_an_abstention_gives_no_figure() -> None:
    finding = interpret_by_bands(_abstention(AbstentionReason("x", "age is missing"), outside=True), MANIFEST)
    assert "%" not in _texts(finding)


def test_finding_of_an_abstention_is_no_reassurance() -> None:
    finding = interpret_by_bands(_abstention(AbstentionReason("x", "age is missing")), MANIFEST)
    assert "This says nothing about how high or low the risk is." in finding.statements


def test_finding_says_how_wide_the_networks_disagree() -> None:
    spread = {"total_cvd_10y": (0.08, 0.14)}
    finding = interpret_by_bands(_prediction(0.1, spread=spread), MANIFEST)
    line = next(line for line in finding.statements if "8.0 % to 14.0 %" in line)
    assert "not a confidence interval" in line


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ("either", f"among people with and without {EVENT}: neither can be ruled out"),
        ("event", f"About 90 % of people without {EVENT} had a lower estimate"),
        ("no event", f"About 90 % of people with {EVENT} had a higher estimate"),
        ("neither", "read it with caution"),
    ],
)
def test_finding_words_the_prediction_set_as_a_comparison_and_not_as_a_verdict(outcomes: Any, words: str) -> None:
    """ "Only death remains in the prediction set" once stood beside an estimate of 30.6 %."""
    conformal = Conformal(0.9, 0.1, 0.6, "held-out people")
    manifest = msgspec.structs.replace(MANIFEST, uncertainty=Uncertainty("none", "No interval.", conformal))
    finding = interpret_by_bands(_prediction(0.306, outcome_set=outcomes), manifest)
    assert any(words in line for line in finding.statements)
    assert not any("only" in line or "remains" in line for line in finding.statements)


def test_finding_of_an_abstention_shortens_a_long_reason_at_its_semicolon() -> None:
    reason = AbstentionReason(
        "x",
        "no stay is between its 48th and 72nd hour; the model was trained on exactly the first 48 hours " + 20 * "x",
    )
    finding = interpret_by_bands(_abstention(reason), MANIFEST)
    assert finding.headline.endswith("not calculated: no stay is between its 48th and 72nd hour")
    assert finding.missing == (reason.text,)
    two = interpret_by_bands(_abstention(reason, reason), MANIFEST)
    assert two.headline.endswith("hour, and 1 more reason")


# What the evaluation can't support: certainty, causes, treatment effects, commands.
_CLAIMS = re.compile(
    r"\b(will (?:have|die|develop|be)|must|should|accurate|proven|guarantee[ds]?|certain(?:ly)?|safe|rules? out|causes?\b|"
    r"diagnos(?:es|ed) by|no risk|prevents?)\b",
    re.IGNORECASE,
)


@given(st.floats(0, 1), st.sampled_from(["either", "event", "no event", "neither", None]))
def test_finding_claims_no_more_than_was_evaluated(risk: float, outcomes: Any) -> None:
    conformal = Conformal(0.9, 0.1, 0.6, "held-out people")
    manifest = msgspec.structs.replace(MANIFEST, uncertainty=Uncertainty("none", "No interval.", conformal))
    assert not _CLAIMS.search(_texts(interpret_by_bands(_prediction(risk, outcome_set=outcomes), manifest)))


def _every_text_of(manifest: ModelManifest) -> str:
    bands = [text for band in manifest.bands for text in (band.label, band.meaning, *band.consider)]
    return " ".join((*bands, manifest.uncertainty.text, manifest.explanation.baseline))


def test_finding_texts_of_a_manifest_command_nothing() -> None:
    assert not re.search(r"\b(must|should|start|stop|prescribe|order)\b", _every_text_of(MANIFEST), re.IGNORECASE)


def test_finding_shows_no_figure_below_what_was_evaluated() -> None:
    assert percent(0.004, 0.01) == "below 1 %"
    assert percent(0.01, 0.01) == "1.0 %"
    assert (
        natural_frequency(0.0002, EVENT, 0.01)
        == f"Of 100 people with these values, fewer than 1 would be expected to have {EVENT}"
    )


def test_finding_of_networks_that_agree_shows_one_figure() -> None:
    prediction = replace(_prediction(0.0002), spread={MANIFEST.outputs[0].name: (0.0001, 0.0003)})
    assert any(
        re.fullmatch(r"All \d+ networks of the ensemble say below 0\.1 %\.", words)
        for words in interpret_by_bands(prediction, MANIFEST).statements
    )
