"""What `bedside model drift` prints: as text, one block a model version, and as JSON, every figure unrounded to 6 digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit.entry_monitoring import AlarmEntry, SketchedModel
from bedside.drift.outcomes import Joined
from bedside.drift.sketches import Looked
from model_artifacts.calibration_drift import Calibration, Figure
from model_artifacts.sketch_judgement import Alarm, Comparison, Judgement

_DIGITS = 6


def looked_lines(looked: Looked) -> Iterator[str]:
    """The block about one version's sketches."""
    totals = looked.period.totals
    days = f"{_day(totals.since)} to {_day(totals.until)}"
    yield f"{_name(looked.model, looked.status)}: {totals.decisions} decisions, {days}"
    yield f"  {totals.counted} counted, each patient once a day in each worker; {totals.outside} outside the population"
    yield f"  reference: {_reference_words(looked)}"
    yield f"  {_rates(looked.period)}"
    if looked.period.comparisons:
        yield ""
        head = ("", "with a value", "index", "by chance", "alarm above", "missing", "in the reference")
        yield from _table(
            head, [_cells(one, has_reference=_has_reference(looked)) for one in looked.period.comparisons]
        )
        yield from _risk_lines(looked)
    if not looked.period.judged:
        least = looked.monitoring.minimum_decisions
        yield f"  not judged: fewer than the {least} decisions that the manifest asks for"


def calibration_lines(joined: Joined, found: Calibration, output: str) -> Iterator[str]:
    """The block about one version's outcomes."""
    yield f"{_name(joined.model, joined.status)}: {found.n} decisions with outcome, {found.patients} patients, output {output}"
    ratio = found.ratio
    yield f"  observed {found.observed}, expected {found.expected:.1f}: {_figure(ratio)}"
    if found.slope is None or found.intercept is None:
        yield "  calibration slope: not to be had from these outcomes"
    else:
        yield f"  calibration slope {_figure(found.slope)}, intercept {_figure(found.intercept)}"
    rows = []
    for month in found.months:
        interval = f"{100 * month.low:.1f}–{100 * month.high:.1f} %"
        share, predicted = f"{100 * month.observed / month.n:.1f} %", f"{100 * month.expected / month.n:.1f} %"
        rows.append((month.month, str(month.n), share, interval, predicted, "yes" if month.as_predicted else "NO"))
    yield from _table(("month", "n", "observed", "95 %", "predicted", "predicted within"), rows)


def alarm_lines(alarms: Sequence[Alarm]) -> Iterator[str]:
    """One line an alarm, or that there is none."""
    if not alarms:
        yield "  no alarm"
    for alarm in alarms:
        yield f"  ALARM: {alarm.words}"


def standing_line(entry: AlarmEntry) -> str:
    """An alarm that stands in the log."""
    return f"  in the log: {entry.measure} of {entry.of}, since {entry.time}, entry {entry.id}"


def looked_json(looked: Looked) -> dict[str, Any]:
    """One version's sketches as JSON."""
    totals = looked.period.totals
    return {
        **_model_json(looked.model, looked.status),
        "since": totals.since,
        "until": totals.until,
        "sketches": totals.sketches,
        "decisions": totals.decisions,
        "counted": totals.counted,
        "outside_population": totals.outside,
        "results": dict(totals.results),
        "abstentions": dict(totals.abstentions),
        "shown": totals.shown,
        "alerts": totals.alerts,
        "alerts_per_100_decisions": _rounded(_per_100(totals.alerts, totals.decisions)),
        "abstained": _rounded(looked.period.abstained),
        "unlike_training_data": _rounded(looked.period.novel),
        "reference": None if looked.reference is None else looked.reference.source or None,
        "judged": looked.period.judged,
        "comparisons": [
            _comparison_json(one, has_reference=_has_reference(looked)) for one in looked.period.comparisons
        ],
        "alarms": [alarm_json(alarm) for alarm in looked.alarms],
    }


def calibration_json(joined: Joined, found: Calibration, output: str, alarms: Sequence[Alarm]) -> dict[str, Any]:
    """One version's outcomes as JSON."""
    return {
        **_model_json(joined.model, joined.status),
        "output": output,
        "decisions": found.n,
        "patients": found.patients,
        "observed": found.observed,
        "expected": _rounded(found.expected),
        "observed_to_expected": _figure_json(found.ratio),
        "calibration_slope": _figure_json(found.slope),
        "calibration_intercept": _figure_json(found.intercept),
        "months": [
            {
                "month": month.month,
                "n": month.n,
                "observed": month.observed,
                "expected": _rounded(month.expected),
                "ci95": [_rounded(month.low), _rounded(month.high)],
            }
            for month in found.months
        ],
        "alarms": [alarm_json(alarm) for alarm in alarms],
    }


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """An alarm as JSON."""
    return {
        "measure": alarm.measure,
        "of": alarm.of,
        "value": _rounded(alarm.value),
        "limit": _rounded(alarm.limit),
        "words": alarm.words,
    }


def _name(model: SketchedModel, status: str) -> str:
    return f"{model.id} {model.version}" + (" in shadow" if status == "shadow" else "")


def _model_json(model: SketchedModel, status: str) -> dict[str, Any]:
    return {"model": model.id, "version": model.version, "manifest": model.manifest, "status": status}


def _has_reference(looked: Looked) -> bool:
    return looked.reference is not None and looked.reference.rows > 0


def _reference_words(looked: Looked) -> str:
    if looked.version is None:
        return "none, this version is neither kept nor installed here; only rates are judged"
    if looked.reference is None or not looked.reference.rows:
        return "none, this version has no reference.json; only rates are judged"
    return f"{looked.reference.source} ({looked.reference.rows:,} rows)"


def _rates(judgement: Judgement) -> str:
    totals = judgement.totals
    parts = [f"abstained {_percent(judgement.abstained)}", f"unlike the training data {_percent(judgement.novel)}"]
    alerts = _per_100(totals.alerts, totals.decisions)
    parts.append(f"alerts per 100 decisions {'–' if alerts is None else f'{alerts:.1f}'}")
    failed = totals.results["failed"] + totals.results["missing-data"]
    return ", ".join([*parts, f"failed or without data {failed}"])


def _cells(one: Comparison, *, has_reference: bool) -> tuple[str, ...]:
    return (
        f"{one.kind} {one.bins.name}",
        str(one.n),
        *(_index(value) for value in (one.psi, one.psi_expected, one.psi_limit)),
        _percent(one.missing),
        _percent(one.bins.missing) if has_reference else "–",
    )


def _risk_lines(looked: Looked) -> Iterator[str]:
    probabilities = looked.version is not None and looked.version.manifest.gives_probabilities
    for one in looked.period.comparisons:
        if one.mean is None:
            continue
        figure = f"{100 * one.mean:.2f} %" if probabilities else f"{one.mean:.4g}"
        line = f"  mean of {one.bins.name}: {figure}"
        if one.mean_low is not None and one.mean_high is not None:
            low, high = one.mean_low, one.mean_high
            line += (
                f", reference {100 * low:.2f}–{100 * high:.2f} %"
                if probabilities
                else f", reference {low:.4g}–{high:.4g}"
            )
        if probabilities:
            line += f"; expected events {one.mean * one.n:.1f} ± {1.96 * one.variance**0.5:.1f} in {one.n}"
        yield line


def _comparison_json(one: Comparison, *, has_reference: bool) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.bins.name,
        "decisions": one.decisions,
        "with_value": one.n,
        "psi": _rounded(one.psi),
        "psi_by_chance": _rounded(one.psi_expected),
        "psi_alarm_above": _rounded(one.psi_limit),
        "missing": _rounded(one.missing),
        "reference_missing": _rounded(one.bins.missing) if has_reference else None,
        "mean": _rounded(one.mean),
        "bins": [one.bins.label(place) for place in range(one.bins.size)],
        "shares": [_rounded(share) for share in one.shares],
        "reference_shares": list(one.bins.shares) if has_reference else None,
    }


def _figure_json(figure: Figure | None) -> Mapping[str, Any] | None:
    if figure is None:
        return None
    return {name: _rounded(getattr(figure, name)) for name in ("estimate", "low", "high")}


def _figure(figure: Figure) -> str:
    return f"{figure.estimate:.2f} (95 % {figure.low:.2f} to {figure.high:.2f})"


def _per_100(count: int, of: int) -> float | None:
    return 100 * count / of if of else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _index(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _day(time: str) -> str:
    return time[:10]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _table(head: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    lines = [tuple(head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
