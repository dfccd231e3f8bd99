"""What a model notices when rows aren't what it was made for: unit slips, swapped columns, and children's values.

Owns the section `out_of_distribution` of `metrics.json`. Held-out rows are changed in ways that a record can be wrong; counted
is how many the reading step sets a changed value aside of (its plausible ranges), how many the novelty score then flags at the
manifest's threshold on what is left, and how many either notices. The false alarms on the rows as they were stand beside.

Rows are as the inputs see them before the plausible ranges: by the input's name an array of n rows, `(n,)` or `(n, t)` for a
series, not-a-number where nothing was measured. What a novelty function needs besides (counts, say) rides along under its own
name and is not changed, as long as `Subject.ranges` doesn't name it.

To extend: another change of rows is a function of (rows, …) to rows, and one more `detection` in `out_of_distribution`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
Rows = Mapping[str, Array]
Report = dict[str, Any]

AGES = (1, 5, 10)
_TENFOLD = (("a value tenfold", 10.0), ("a value a tenth", 0.1))

# Mean and standard deviation by age in years, of healthy children, rounded; a draw is normal within them.
CHILDREN: Mapping[str, Mapping[int, tuple[float, float]]] = {
    # Fleming S, et al. Lancet 2011;377:1011: median, and the distance to the 90th centile over 1.28.
    "heart_rate": {1: (123.0, 13.0), 5: (98.0, 15.0), 10: (84.0, 15.0)},  # /min
    "respiratory_rate": {1: (35.0, 8.0), 5: (23.0, 4.0), 10: (19.0, 2.5)},  # /min
    # The Fourth Report on high blood pressure in children, Pediatrics 2004;114:555: boys of median height, and its residual SD.
    "systolic": {1: (85.0, 10.7), 5: (95.0, 10.7), 10: (102.0, 10.7)},  # mmHg
    "diastolic": {1: (37.0, 11.6), 5: (53.0, 11.6), 10: (61.0, 11.6)},  # mmHg
    "mean_pressure": {1: (53.0, 9.0), 5: (67.0, 9.0), 10: (75.0, 9.0)},  # mmHg: diastolic and a third of the difference
    # CDC growth charts 2000 (Kuczmarski RJ, et al. Adv Data 2000;314:1), boys.
    "weight": {1: (10.3, 1.1), 5: (18.4, 2.3), 10: (32.0, 6.0)},  # kg
    "height": {1: (76.0, 3.0), 5: (109.0, 4.7), 10: (139.0, 6.4)},  # cm
    "bmi": {1: (17.5, 1.3), 5: (15.4, 1.2), 10: (16.6, 2.4)},  # kg/m2
    # Ceriotti F, et al. Clin Chem 2008;54:559: the middle of the reference interval and a quarter of its width.
    "creatinine": {1: (0.26, 0.045), 5: (0.385, 0.048), 10: (0.48, 0.08)},  # mg/dL
}
SOURCES = (
    "heart and respiratory rates: Fleming S, et al. Lancet 2011;377:1011; blood pressure: Pediatrics 2004;114:555; weight, "
    "height and BMI: CDC growth charts 2000; creatinine: Ceriotti F, et al. Clin Chem 2008;54:559; rounded, drawn from a "
    "normal distribution, the adult's age left as it was"
)


NO_SLIPS: Mapping[str, tuple[str, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tested: held-out rows, the plausible ranges by input (both bounds inclusive), and the novelty with its threshold.

    `novelty` takes rows in which what lies outside its range is not-a-number, as serving does, and gives a number for each row;
    None for a model without a score, of which the plausible ranges are all there is.
    """

    rows: Rows
    ranges: Mapping[str, tuple[float, float]]
    novelty: Callable[[Rows], Array] | None
    threshold: float

    def flagged(self, rows: Rows) -> Flags:
        """Which rows the novelty score sets apart."""
        if self.novelty is None:
            return np.zeros(len(next(iter(rows.values()))), dtype=np.bool_)
        return np.asarray(self.novelty(rows) > self.threshold)


def out_of_distribution(
    subject: Subject,
    children: Mapping[str, tuple[str, float]],
    *,
    shuffled: Sequence[str] = (),
    slips: Mapping[str, tuple[str, float]] = NO_SLIPS,
    seed: int = 0,
) -> Report:
    """The whole section.

    `children` names, for an input, its entry of `CHILDREN` and the factor from that unit to the input's; {} if the model reads
    none. `shuffled` are the measured inputs whose values may trade places; by default all of `ranges`. `slips` names, for an
    input, a unit that is mistaken for its own and the factor that the number is then wrong by, besides ten and a tenth.
    """
    random = np.random.default_rng(seed)
    names = list(shuffled or subject.ranges)
    found = [
        detection(subject, times(subject.rows, name, factor), f"{word} ({name})", measured(subject.rows, [name]))
        for name, word, factor in _slips(subject, slips)
    ]
    several = measured(subject.rows, names, at_least=2)
    between = exchange_variables(subject.rows, names, random)
    found.append(detection(subject, between, "shuffled variables", several))
    apart = exchange_patients(subject.rows, names, random)
    found.append(detection(subject, apart, "each variable of another patient", several))
    for age in AGES if children else ():
        rows = as_child(subject.rows, children, age, random)
        label = f"children's vitals ({age} year{'s'[: age > 1]})"
        found.append(detection(subject, rows, label, measured(subject.rows, list(children))))
    flagged = subject.flagged(read(subject, subject.rows)[0])
    return {
        "how": "held-out rows changed as named; rate is the share noticed, by set_aside (a changed value lies outside its "
        "plausible range and is not used) or by novelty (the score of what is left is above the manifest's threshold, and the "
        f"model abstains); intervals are Wilson's, 95 %. Children's values: {SOURCES}",
        "detected": found,
        "held_out_flagged": wilson(int(flagged.sum()), len(flagged)),
    }


def _slips(subject: Subject, own: Mapping[str, tuple[str, float]]) -> list[tuple[str, str, float]]:
    """The input, the slip in words, and the factor."""
    common = [(name, word, factor) for name in subject.ranges for word, factor in _TENFOLD]
    return common + [(name, word, factor) for name, (word, factor) in own.items()]


def read(subject: Subject, rows: Rows) -> tuple[dict[str, Array], Flags]:
    """The rows without what lies outside its range, and in which rows that was anything."""
    kept: dict[str, Array] = dict(rows)
    aside = np.zeros(len(next(iter(rows.values()))), dtype=np.bool_)
    for name, (low, high) in subject.ranges.items():
        outside = (rows[name] < low) | (rows[name] > high)
        kept[name] = np.where(outside, np.nan, rows[name])
        aside |= _by_row(outside)
    return kept, aside


def detection(subject: Subject, rows: Rows, test: str, among: Flags) -> Report:
    """How often it was noticed, over the rows `among`: by either, by the ranges, by the novelty."""
    kept, aside = read(subject, rows)
    aside &= ~read(subject, subject.rows)[1]  # what was outside before counts for no test
    flagged = subject.flagged(kept)
    n = int(among.sum())
    if n == 0:
        return {"test": test, "n": 0}
    found = {
        "test": test,
        "n": n,
        "rate": wilson(int((aside | flagged)[among].sum()), n),
        "set_aside": wilson(int(aside[among].sum()), n),
    }
    return found if subject.novelty is None else found | {"novelty": wilson(int(flagged[among].sum()), n)}


def times(rows: Rows, name: str, factor: float) -> dict[str, Array]:
    """A slip of the unit: every value of one input times `factor`."""
    return {**rows, name: rows[name] * factor}


def exchange_variables(rows: Rows, names: Sequence[str], random: np.random.Generator) -> dict[str, Array]:
    """Within each row the values of the inputs measured there trade places at random, as when columns are mixed up.

    Single values trade with single values, series with series of the same length.
    """
    changed = dict(rows)
    for shape in dict.fromkeys(rows[name].shape for name in names):
        alike = [name for name in names if rows[name].shape == shape]
        stacked = np.stack([np.array(rows[name], dtype=np.float64) for name in alike])
        result = stacked.copy()
        measured_there = np.asarray(~np.isnan(stacked.reshape(*stacked.shape[:2], -1)).all(axis=2))
        for row in range(stacked.shape[1]):
            there = np.flatnonzero(measured_there[:, row])
            result[there, row] = stacked[random.permutation(there), row]
        changed |= {name: result[place].astype(rows[name].dtype) for place, name in enumerate(alike)}
    return changed


def exchange_patients(rows: Rows, names: Sequence[str], random: np.random.Generator) -> dict[str, Array]:
    """Each input comes from another row, so every value is usual and their combination is nobody's."""
    return {**rows, **{name: rows[name][random.permutation(len(rows[name]))] for name in names}}


def as_child(
    rows: Rows, children: Mapping[str, tuple[str, float]], age: int, random: np.random.Generator
) -> dict[str, Array]:
    """What was measured becomes a healthy child's, one draw a row; a series keeps its own ups and downs in proportion."""
    changed = dict(rows)
    for name, (quantity, factor) in children.items():
        values = np.array(rows[name], dtype=np.float64)
        centre, spread = CHILDREN[quantity][age]
        drawn = factor * np.maximum(random.normal(centre, spread, len(values)), 0.3 * centre)
        if values.ndim > 1:
            own = np.nansum(values, axis=1) / np.maximum(1, (~np.isnan(values)).sum(axis=1))
            drawn = (drawn / np.where(own > 0, own, 1.0))[:, None] * np.where(own > 0, 1.0, np.nan)[:, None] * values
        changed[name] = np.where(np.isnan(values), np.nan, drawn).astype(rows[name].dtype)
    return changed


def measured(rows: Rows, names: Sequence[str], at_least: int = 1) -> Flags:
    """Which rows have values of at least so many of these inputs."""
    there = np.stack([_by_row(~np.isnan(rows[name])) for name in names])
    return np.asarray(there.sum(axis=0) >= at_least)


def wilson(hits: int, n: int) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    z, share = 1.959964, hits / n
    centre, half = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    scale = 1 + z * z / n
    return {"estimate": share, "low": max(0.0, (centre - half) / scale), "high": min(1.0, (centre + half) / scale)}


def _by_row(flags: Flags) -> Flags:
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))
