"""What the counts of many decisions say about drift, and when that is an alarm.

Owns the figures and the rules. The population stability index of observed shares p against the reference's q over k bins is

    PSI = sum over bins of (p - q) ln(p / q)

With n decisions and a reference of N rows from one and the same distribution it isn't 0 but about (k - 1)(1/n + 1/N), and
PSI / (1/n + 1/N) follows a chi-squared distribution with k - 1 degrees of freedom (Yurdakul, Statistical properties of the
population stability index, 2018; half a count is added to each bin here, so that an empty one has a logarithm). So an alarm
asks for both: a shift that matters (the manifest's bound) and one that chance doesn't explain. Chance is given one thousandth
for all comparisons of a look together (`FAMILY_ALPHA`, shared out evenly). Shares are judged the same way, by the normal
approximation with continuity correction, that of novel patients by the binomial distribution itself. Decisions count as
independent, which those about one patient on several days aren't.

A new figure is a member of `Judgement` and a line in `judge`. Standard library only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Literal

from model_artifacts.errors import ReferenceFileError
from model_artifacts.manifest import Monitoring
from model_artifacts.sketch import Bins, OutputTally, Reference

Kind = Literal["input", "output"]

FAMILY_ALPHA = 0.001
HALF = 0.5
CHANCE_MARGIN = 1.3
"""On the far end of chance, where small counts make the index's tail heavier than chi-squared's.

Over 2 to 20 bins, shares from 0.001 to 0.9 and 20 to 3,000 decisions, the quantile of 2.3e-5 of two million simulated indices
was 0.35 to 1.29 times the formula's."""
Z_95 = 1.959963984540054
NOVEL = "unlike-training-data"
_NORMAL_FROM = 400
"""Variance from which a binomial count is taken as normal; below, its tail is heavier on the far side of a small share."""
ALL = "all"
"""What an alarm is about that is of no single input or output."""
_NORMAL = NormalDist()


@dataclass(slots=True)
class Totals:
    """Sketches of one model version added up; the members are those of `sketch/v1`."""

    sketches: int = 0
    since: str = ""
    until: str = ""
    decisions: int = 0
    shown: int = 0
    alerts: int = 0
    outside: int = 0
    counted: int = 0
    results: Counter[str] = field(default_factory=Counter)
    abstentions: Counter[str] = field(default_factory=Counter)
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, OutputTally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One input or output against the reference; None where that has nothing to compare, or nothing was counted.

    Attributes:
        decisions: that were counted, `n` of them with a value; `shares` of these by bin.
        psi_expected: what chance gives on average.
        psi_limit: the alarm's bound: the manifest's, or what chance hardly reaches, whichever is greater.
        mean: of an output; `mean_low` to `mean_high` holds the mean of n values of the reference in 95 %.
        variance: of an output that is a probability, the sum of p(1-p).
    """

    kind: Kind
    bins: Bins
    decisions: int
    n: int
    shares: tuple[float, ...]
    missing: float
    missing_limit: float | None = None
    psi: float | None = None
    psi_expected: float | None = None
    psi_limit: float | None = None
    mean: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    variance: float = 0.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """One figure out of its bound, in words; `measure` and `of` are codes by which the log knows it again."""

    measure: str
    of: str
    value: float
    limit: float
    words: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found about one model version in a period; `judged` is False where there were too few decisions to say."""

    totals: Totals
    judged: bool
    comparisons: tuple[Comparison, ...]
    abstained: float | None
    novel: float | None
    alarms: tuple[Alarm, ...]


def psi(observed: Sequence[int], expected: Sequence[float]) -> float:
    """The index of two lists of counts over the same bins, half a count added to each; 0 where the shares are equal."""
    n, rows, half = sum(observed), sum(expected), HALF * len(observed)
    total = 0.0
    for count, reference in zip(observed, expected, strict=True):
        p, q = (count + HALF) / (n + half), (reference + HALF) / (rows + half)
        total += (p - q) * math.log(p / q)
    return total


def chance_psi(bins: int, n: int, rows: int, alpha: float) -> float:
    """The index that n decisions and a reference of `rows` from one distribution exceed with probability `alpha`."""
    return (1 / n + 1 / rows) * chi_squared_quantile(bins - 1, alpha) if bins > 1 else 0.0


def chi_squared_quantile(freedom: int, alpha: float) -> float:
    """The value that a chi-squared variable exceeds with probability `alpha`.

    Exact for one and two degrees of freedom, else by Wilson and Hilferty's cube root (1931): within 1 % down to 1e-6.
    """
    if freedom == 1:
        return _NORMAL.inv_cdf(1 - alpha / 2) ** 2
    if freedom == 2:
        return -2 * math.log(alpha)
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + _NORMAL.inv_cdf(1 - alpha) * math.sqrt(part)) ** 3)


def chance_difference(share: float, reference: float, n: int, rows: int, alpha: float) -> float:
    """The difference of two shares that chance exceeds with probability `alpha`, were both the pooled one."""
    pooled = (share * n + reference * rows) / (n + rows)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / rows))
    return _NORMAL.inv_cdf(1 - alpha / 2) * spread + HALF / n


def judge(totals: Totals, reference: Reference | None, monitoring: Monitoring) -> Judgement:
    """The figures of `totals` and their alarms; without the version's `reference` only rates are judged.

    Raises:
        ReferenceFileError: the counts were made with other bins.
    """
    comparable = reference is not None and reference.rows > 0
    tests = 2 + (2 * (len(reference.inputs) + len(reference.outputs)) if reference is not None and comparable else 0)
    alpha = FAMILY_ALPHA / tests
    comparisons = () if reference is None else tuple(_compare(totals, reference, monitoring, alpha))
    predicted = _predicted(totals)
    novel_count = totals.abstentions[NOVEL]
    judged = totals.counted >= monitoring.minimum_decisions
    alarms: tuple[Alarm, ...] = ()
    if judged:
        alarms = (*_shifts(comparisons), *_rates(totals, reference, monitoring, alpha))
    return Judgement(
        totals,
        judged,
        comparisons,
        _share(totals.counted - predicted, totals.counted),
        _share(novel_count, predicted + novel_count),
        alarms,
    )


def _predicted(totals: Totals) -> int:
    return max((sum(output.counts) for output in totals.outputs.values()), default=0)


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _compare(totals: Totals, reference: Reference, monitoring: Monitoring, alpha: float) -> Iterator[Comparison]:
    for bins in reference.inputs:
        counts = totals.inputs.get(bins.name)
        if counts:
            yield _comparison("input", bins, counts, reference.rows, monitoring, alpha)
    for bins in reference.outputs:
        output = totals.outputs.get(bins.name)
        if output is not None and output.counts:
            compared = _comparison("output", bins, output.counts, reference.rows, monitoring, alpha)
            yield _with_mean(compared, output)


def _comparison(
    kind: Kind, bins: Bins, counts: Sequence[int], rows: int, monitoring: Monitoring, alpha: float
) -> Comparison:
    if len(counts) != bins.size + 1:
        raise ReferenceFileError(f"sketch of {bins.name}: expected {bins.size + 1} counts, got {len(counts)}")
    *present, missing = counts
    n, every = sum(present), sum(counts)
    shares = tuple(count / n for count in present) if n else ()
    compared = Comparison(kind, bins, every, n, shares, missing / every if every else 0.0)
    known = round(rows * (1 - bins.missing))
    if every and rows:
        chance = chance_difference(compared.missing, bins.missing, every, rows, alpha)
        compared = replace(compared, missing_limit=max(monitoring.missing_alarm, chance))
    if n and known and bins.size > 1:
        compared = replace(
            compared,
            psi=psi(present, [share * known for share in bins.shares]),
            psi_expected=(bins.size - 1) * (1 / n + 1 / known),
            psi_limit=max(monitoring.psi_alarm, CHANCE_MARGIN * chance_psi(bins.size, n, known, alpha)),
        )
    return compared


def _with_mean(compared: Comparison, output: OutputTally) -> Comparison:
    if not compared.n:
        return compared
    bins, mean = compared.bins, output.total / compared.n
    compared = replace(compared, mean=mean, variance=output.variance)
    if bins.mean is None or bins.sd is None:
        return compared
    spread = Z_95 * bins.sd / math.sqrt(compared.n)
    return replace(compared, mean_low=bins.mean - spread, mean_high=bins.mean + spread)


def _shifts(comparisons: tuple[Comparison, ...]) -> Iterator[Alarm]:
    for one in comparisons:
        name = one.bins.name
        if one.psi is not None and one.psi_limit is not None and one.psi > one.psi_limit:
            place = max(range(len(one.shares)), key=lambda place: abs(one.shares[place] - one.bins.shares[place]))
            words = (
                f"{one.kind} {name} has shifted: index {one.psi:.2f}, above {one.psi_limit:.2f}; most at "
                f"{one.bins.label(place)}: {_percent(one.shares[place])} of decisions, reference "
                f"{_percent(one.bins.shares[place])}"
            )
            yield Alarm("psi", name, one.psi, one.psi_limit, words)
        difference = one.missing - one.bins.missing
        if one.missing_limit is not None and abs(difference) > one.missing_limit:
            words = (
                f"{one.kind} {name} is missing in {_percent(one.missing)} of decisions, reference "
                f"{_percent(one.bins.missing)}; a change of {100 * one.missing_limit:.0f} points is an alarm"
            )
            yield Alarm("missing", name, difference, one.missing_limit, words)


def _rates(totals: Totals, reference: Reference | None, monitoring: Monitoring, alpha: float) -> Iterator[Alarm]:
    predicted, novel = _predicted(totals), totals.abstentions[NOVEL]
    bound = monitoring.abstention_alarm
    limit = bound + _beyond(bound, totals.counted, alpha)
    share = (totals.counted - predicted) / totals.counted
    if share > limit:
        words = f"the model abstained in {_percent(share)} of decisions inside its population, above {_percent(limit)}"
        yield Alarm("abstention", ALL, share, limit, words)
    expected = None if reference is None else reference.novel
    if expected is None or reference is None or not predicted + novel:
        return
    n = predicted + novel
    # The reference's share is itself of so many rows: the highest one that chance leaves open is what is exceeded.
    highest = min(expected + _beyond(expected, reference.rows, alpha), 1.0)
    limit = max(expected + monitoring.novelty_alarm, binomial_limit(n, highest, alpha))
    if novel / n > limit:
        words = f"{_percent(novel / n)} of patients were unlike the training data, reference {_percent(expected)}"
        yield Alarm("novelty", ALL, novel / n, limit, words)


def binomial_limit(n: int, share: float, alpha: float) -> float:
    """The smallest share of n that one of `share` exceeds with probability of at most `alpha`; exact while n is moderate."""
    variance = n * share * (1 - share)
    if variance == 0:
        return share
    if variance > _NORMAL_FROM:
        return share + _beyond(share, n, alpha)
    log_odds, log_p = math.log(share / (1 - share)), n * math.log1p(-share)
    below, count = math.exp(log_p), 0
    while 1 - below > alpha and count < n:
        log_p += math.log((n - count) / (count + 1)) + log_odds
        count += 1
        below += math.exp(log_p)
    return count / n


def _beyond(share: float, n: int, alpha: float) -> float:
    """How far above `share` chance carries the share of n, but with probability `alpha`."""
    return _NORMAL.inv_cdf(1 - alpha) * math.sqrt(share * (1 - share) / n) + HALF / n


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
