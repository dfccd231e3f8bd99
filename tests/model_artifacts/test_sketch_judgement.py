"""What counts say about drift: the index's properties, what chance does, and what is found all the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ReferenceFileError
from model_artifacts.manifest import Monitoring
from model_artifacts.sketch import Bins, OutputTally, Reference
from model_artifacts.sketch_judgement import (
    NOVEL,
    Totals,
    binomial_limit,
    chance_difference,
    chance_psi,
    chi_squared_quantile,
    judge,
    psi,
)
from model_artifacts.training.reference import make_reference

ROWS = 4000
SMALLEST = Monitoring(minimum_decisions=50)
counts = st.lists(st.integers(0, 5000), min_size=2, max_size=12)


@given(counts.filter(any))
def test_psi_of_equal_counts_is_zero(observed: list[int]) -> None:
    assert psi(observed, observed) == pytest.approx(0, abs=1e-12)


@given(st.integers(2, 12).flatmap(lambda k: st.tuples(*[st.lists(st.integers(0, 5000), min_size=k, max_size=k)] * 2)))
def test_psi_is_never_negative_and_the_same_either_way(pair: tuple[list[int], list[int]]) -> None:
    first, second = pair
    assert psi(first, second) >= -1e-12
    assert psi(first, second) == pytest.approx(psi(second, first))


@given(counts, st.permutations(range(12)))
def test_psi_does_not_depend_on_the_order_of_bins(observed: list[int], order: list[int]) -> None:
    expected = [count + 3 for count in reversed(observed)]
    places = [place for place in order if place < len(observed)]
    moved = psi([observed[place] for place in places], [expected[place] for place in places])
    assert moved == pytest.approx(psi(observed, expected))


@given(st.integers(1, 900))
def test_psi_grows_as_counts_move(moved: int) -> None:
    expected = [1000.0, 1000.0]
    assert psi([1000 + moved, 1000 - moved], expected) > psi([999 + moved, 1001 - moved], expected)


def test_psi_is_the_published_sum() -> None:
    """By hand: shares .6, .4 against .5, .5 give (.1) ln 1.2 - (.1) ln .8 = 0.040547."""
    assert psi([600_000, 400_000], [500_000, 500_000]) == pytest.approx(0.040547, abs=1e-5)


@pytest.mark.parametrize(
    ("freedom", "alpha", "expected"),  # scipy.stats.chi2.isf
    [
        (1, 0.05, 3.841459),
        (1, 1e-5, 19.51142),
        (2, 0.001, 13.81551),
        (5, 0.05, 11.0705),
        (9, 0.001, 27.87716),
        (9, 2.5e-5, 37.38),
        (20, 1e-5, 59.04),
    ],
)
def test_chi_squared_quantiles_are_those_of_the_tables(freedom: int, alpha: float, expected: float) -> None:
    assert chi_squared_quantile(freedom, alpha) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("n", [50, 200, 5000])
def test_chance_exceeds_its_bound_as_often_as_it_says(n: int) -> None:
    random, alpha, repetitions = np.random.default_rng(n), 0.01, 20_000
    shares = np.full(10, 0.1)
    observed, expected = random.multinomial(n, shares, repetitions), random.multinomial(ROWS, shares, repetitions)
    p, q = (observed + 0.5) / (n + 5), (expected + 0.5) / (ROWS + 5)
    index = ((p - q) * np.log(p / q)).sum(axis=1)
    assert psi(observed[0].tolist(), expected[0].tolist()) == pytest.approx(index[0])
    assert (index > chance_psi(10, n, ROWS, alpha)).mean() == pytest.approx(alpha, abs=0.004)


def test_chance_differences_shrink_with_the_numbers() -> None:
    assert chance_difference(0.2, 0.1, 5000, ROWS, 1e-4) < chance_difference(0.2, 0.1, 500, ROWS, 1e-4)


@pytest.mark.parametrize(
    ("n", "share", "alpha", "expected"),  # scipy.stats.binom.isf(alpha, n, share) / n
    [(57, 0.02, 2.3e-5, 7 / 57), (50, 0.02, 1e-3, 5 / 50), (500, 0.3, 1e-4, 189 / 500), (5000, 0.02, 1e-3, 132 / 5000)],
)
def test_binomial_limits_are_those_of_the_tables(n: int, share: float, alpha: float, expected: float) -> None:
    assert binomial_limit(n, share, alpha) == pytest.approx(expected)


# One world of 20 inputs, some measured seldom, and a risk.

_RATES = np.linspace(0.0, 0.6, 20)


def _people(random: np.random.Generator, n: int, *, older: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values (n, 20), not-a-number where missing, and the risk; input 0 is an age."""
    values = random.normal(size=(n, 20))
    values[:, 0] = random.normal(60 + older, 12, n).round()
    values[:, 1] = random.random(n) < 0.45
    values[:, 2] = random.poisson(0.4, n)
    risk = 1 / (1 + np.exp(-(-2.5 + 0.05 * (values[:, 0] - 60) + 0.4 * values[:, 3])))
    values[random.random((n, 20)) < _RATES] = np.nan
    return values, risk


def _reference(random: np.random.Generator) -> Reference:
    values, risk = _people(random, ROWS)
    names = [f"x{place}" for place in range(20)]
    return make_reference(names, values, {"death": risk}, source="test", novel=0.02)


def _totals(reference: Reference, values: np.ndarray, risk: np.ndarray, novel: int = 0) -> Totals:
    totals = Totals(decisions=len(values), counted=len(values) + novel, abstentions=Counter({NOVEL: novel}))
    for bins, column in zip(reference.inputs, values.T, strict=True):
        totals.inputs[bins.name] = _counts(bins, column)
    for bins in reference.outputs:
        totals.outputs[bins.name] = OutputTally(
            _counts(bins, risk), float(risk.sum()), float((risk * (1 - risk)).sum())
        )
    return totals


def _counts(bins: Bins, column: np.ndarray) -> list[int]:
    """As `Bins.place` would, at once."""
    present = column[~np.isnan(column)]
    if bins.values:
        places = np.full(len(present), len(bins.values))
        for place, value in enumerate(bins.values):
            places[np.abs(present - value) < 1e-6] = place
    else:
        places = np.searchsorted(bins.edges, present, side="right")
    return [*np.bincount(places, minlength=bins.size).tolist(), len(column) - len(present)]


def _drawn(random: np.random.Generator, world: Reference) -> Reference:
    """Another reference of the same world: its shares are those of ROWS rows drawn from it."""
    return Reference(
        world.schema,
        world.source,
        ROWS,
        tuple(_drawn_bins(random, bins) for bins in world.inputs),
        tuple(_drawn_bins(random, bins) for bins in world.outputs),
        world.novel,
    )


def _drawn_bins(random: np.random.Generator, bins: Bins) -> Bins:
    *present, missing = _drawn_counts(random, bins, ROWS)
    shares = tuple(count / sum(present) for count in present)
    return Bins(bins.name, shares, missing / ROWS, bins.edges, bins.values, bins.mean, bins.sd)


def _drawn_counts(random: np.random.Generator, bins: Bins, n: int) -> list[int]:
    """Counts of n draws from these shares, the last one of those without a value."""
    shares = np.array([*(np.array(bins.shares) * (1 - bins.missing)), bins.missing])
    drawn: list[int] = random.multinomial(n, shares / shares.sum()).tolist()
    return drawn


def _drawn_totals(random: np.random.Generator, world: Reference, n: int) -> Totals:
    novel = int(random.binomial(n, 0.02))
    return Totals(
        decisions=n + novel,
        counted=n + novel,
        abstentions=Counter({NOVEL: novel}),
        inputs={bins.name: _drawn_counts(random, bins, n) for bins in world.inputs},
        outputs={bins.name: OutputTally(_drawn_counts(random, bins, n)) for bins in world.outputs},
    )


@pytest.mark.parametrize("n", [50, 500, 5000])
def test_no_alarm_without_drift_in_200_repetitions(n: int) -> None:
    """Each time another reference and other patients of one world: 21 indices, 21 shares and two rates are judged."""
    random = np.random.default_rng(20_261_124 + n)
    world = _reference(random)
    for repetition in range(200):
        found = judge(_drawn_totals(random, world, n), _drawn(random, world), SMALLEST)
        assert found.judged
        assert found.alarms == (), (repetition, [alarm.words for alarm in found.alarms])


@pytest.mark.parametrize("n", [200, 500, 5000])
def test_an_older_population_is_an_alarm_of_age_and_risk(n: int) -> None:
    random = np.random.default_rng(n)
    reference = _reference(random)
    found = judge(_totals(reference, *_people(random, n, older=12)), reference, Monitoring())
    assert {("psi", "x0"), ("psi", "death")} <= {(alarm.measure, alarm.of) for alarm in found.alarms}
    assert all(alarm.of in ("x0", "death") for alarm in found.alarms)
    (words,) = [alarm.words for alarm in found.alarms if alarm.of == "x0"]
    assert words.startswith("input x0 has shifted: index ")
    assert "reference 1" in words


@pytest.mark.parametrize("n", [200, 5000])
def test_a_tenfold_value_is_an_alarm_of_its_input(n: int) -> None:
    random = np.random.default_rng(n)
    reference = _reference(random)
    values, risk = _people(random, n)
    values[:, 3] *= 10
    found = judge(_totals(reference, values, risk), reference, Monitoring())
    assert [(alarm.measure, alarm.of) for alarm in found.alarms] == [("psi", "x3")]


def test_values_that_stay_away_are_an_alarm_of_what_is_missing() -> None:
    random = np.random.default_rng(1)
    reference = _reference(random)
    values, risk = _people(random, 500)
    values[:300, 4] = np.nan
    found = judge(_totals(reference, values, risk), reference, Monitoring())
    assert [(alarm.measure, alarm.of) for alarm in found.alarms] == [("missing", "x4")]
    assert "reference 1" in found.alarms[0].words


def test_many_novel_patients_are_an_alarm() -> None:
    random = np.random.default_rng(2)
    reference = _reference(random)
    found = judge(_totals(reference, *_people(random, 500), novel=100), reference, Monitoring())
    assert [alarm.measure for alarm in found.alarms] == ["novelty"]
    assert found.novel == pytest.approx(1 / 6)


def test_a_model_that_mostly_abstains_is_an_alarm_also_without_a_reference() -> None:
    totals = Totals(decisions=300, counted=300, outputs={"death": OutputTally([60, 40, 0])})
    found = judge(totals, None, Monitoring())
    assert [alarm.measure for alarm in found.alarms] == ["abstention"]
    assert found.abstained == pytest.approx(2 / 3)


def test_too_few_decisions_are_shown_and_not_judged() -> None:
    random = np.random.default_rng(3)
    reference = _reference(random)
    found = judge(_totals(reference, *_people(random, 199, older=30)), reference, Monitoring())
    assert not found.judged
    assert found.alarms == ()
    assert found.comparisons[0].psi is not None
    assert found.comparisons[0].psi > 1


def test_a_bound_of_the_manifest_is_the_bound() -> None:
    random = np.random.default_rng(4)
    reference = _reference(random)
    totals = _totals(reference, *_people(random, 5000, older=4))
    assert judge(totals, reference, Monitoring()).alarms == ()
    assert [alarm.of for alarm in judge(totals, reference, Monitoring(psi_alarm=0.08)).alarms] == ["x0"]


def test_counts_of_other_bins_are_refused() -> None:
    reference = _reference(np.random.default_rng(5))
    with pytest.raises(ReferenceFileError, match="expected 11 counts, got 3"):
        judge(Totals(inputs={"x0": [1, 2, 3]}), reference, Monitoring())


def test_an_outputs_mean_stands_beside_what_chance_allows() -> None:
    random = np.random.default_rng(6)
    reference = _reference(random)
    values, risk = _people(random, 1000)
    (output,) = [
        one
        for one in judge(_totals(reference, values, risk), reference, Monitoring()).comparisons
        if one.kind == "output"
    ]
    assert output.mean == pytest.approx(risk.mean())
    assert output.mean_low is not None
    assert output.mean_high is not None
    assert output.mean_low < output.mean < output.mean_high
