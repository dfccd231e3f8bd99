"""How faithful a model's attributions are to the model: deletion and insertion curves, and agreement with Shapley values.

Owns the sections `explanation` and `explanation_curves` of `metrics.json`. Players are clinical inputs, each a group of the
graph's slots; a player that leaves takes its slots to the baseline's values. Only inputs that differ from the baseline play.

 - Deletion: inputs leave in the order of their attribution, the one that raises the answer most first; the area under the mean
   answer over the share of inputs gone is small when the order is right. Insertion: they come, from the baseline, in the same
   order; the area is large when the order is right (Petsiuk, Das, Saenko, BMVC 2018).
 - Shapley values by antithetic permutations (Mitchell et al., JMLR 2022;23:43): each order is also walked backwards. A set of
   inputs that comes twice is answered once, so few players are soon answered in full.

Numpy only: the model is a function of points, the released graph through onnxruntime or the torch module it was exported
from, which parity (`export.check_parity`) has shown to be the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId
from model_artifacts.inputs import InputSpec

Float = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

POINTS = 21
PERMUTATIONS = 300
RANDOM_ORDERS = 5
BATCH = 2048


@dataclass(frozen=True, slots=True)
class Explained:
    """What is judged, n rows and a slots.

    Attributes:
        points: `(n, a)`, the explained inputs, flattened as the attributions are.
        baseline: `(n, a)`, the explanation's baseline of each row.
        attributions: `(n, a)`, the model's own.
        groups: `(a,)`, the number of the clinical input that each slot belongs to; -1 for a slot that never moves.
        answer: from points `(m, a)` and the number of the row that each belongs to `(m,)`, whose other inputs it keeps, to
            the explained output `(m,)`.
    """

    points: Float
    baseline: Float
    attributions: Float
    groups: Indices
    answer: Callable[[Float, Indices], npt.NDArray[np.floating[Any]]]

    def by_input(self) -> Array:
        """The attributions summed over each input's slots, `(n, inputs)`."""
        inputs = int(self.groups.max()) + 1
        return np.stack([self.attributions[:, self.groups == g].sum(axis=1) for g in range(inputs)], axis=1).astype(
            float
        )

    def players(self, row: int) -> Indices:
        """The inputs that differ from the baseline in this row."""
        moved = self.points[row] != self.baseline[row]
        return np.setdiff1d(np.unique(self.groups[moved]), [-1])


def explanation_quality(
    explained: Explained, gaps: npt.NDArray[np.floating[Any]], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> dict[str, Any]:
    """The sections `explanation` and `explanation_curves`; `gaps` are the graph's, on as many rows as one likes.

    Evaluations: about rows × permutations × players; what each costs is the caller's to know.
    """
    random = np.random.default_rng(seed)
    ours, exact = explained.by_input(), shapley(explained, permutations, random)
    rows = range(len(explained.points))
    played = [explained.players(row) for row in rows]
    orders = {
        "this_model": [[_descending(ours[row], who)] for row, who in zip(rows, played, strict=True)],
        "random": [[random.permutation(who) for _ in range(RANDOM_ORDERS)] for who in played],
        "shapley": [[_descending(exact[row], who)] for row, who in zip(rows, played, strict=True)],
    }
    deletion = {name: _curve(explained, each, inserting=False) for name, each in orders.items()}
    insertion = {name: _curve(explained, each, inserting=True) for name, each in orders.items()}
    return {
        "explanation": {
            "completeness_gap": completeness(gaps),
            "deletion": {name: _area(curve) for name, curve in deletion.items()},
            "insertion": {name: _area(curve) for name, curve in insertion.items()},
            **_agreement(ours, exact, played),
            "rows": len(explained.points),
            "how": "inputs leave for the baseline (deletion) or come from it (insertion) in the order of what they add to the "
            "answer; areas under the mean answer, in its own unit: small is right for deletion, large for insertion. "
            f"random is the mean of {RANDOM_ORDERS} orders a row; shapley the order by Shapley values from {permutations} "
            "antithetic permutations; correlation is Pearson's over a row's inputs, its mean and 10th percentile over the rows",
        },
        "explanation_curves": {
            "share_of_inputs": np.linspace(0, 1, POINTS).tolist(),
            "deletion": {name: curve.tolist() for name, curve in deletion.items()},
            "insertion": {name: curve.tolist() for name, curve in insertion.items()},
        },
    }


def completeness(gaps: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Quantiles of the absolute gap between the attributions' sum and what they must add up to."""
    size = np.abs(gaps.astype(np.float64))
    return {"p50": float(np.median(size)), "p99": float(np.percentile(size, 99)), "max": float(size.max())}


def input_labels(spec: InputSpec) -> dict[str, str]:
    """The label of every input by its name, as the card shows them, asked of a record that holds nothing."""
    nobody = spec.extract(build_record(PatientId("nobody"), ()), datetime(2000, 1, 1, tzinfo=UTC))
    return {item.name: item.label for item in nobody.evidence}


def mean_attributions(explained: Explained, names: dict[int, tuple[str, str]]) -> list[dict[str, str | float]]:
    """The section `attributions`, largest first; `names` gives each input's name and label by its number in `groups`."""
    size = np.abs(explained.by_input()).mean(axis=0)
    order = sorted(names, key=lambda g: -size[g])
    return [{"input": names[g][0], "label": names[g][1], "mean_absolute": float(size[g])} for g in order]


def shapley(explained: Explained, permutations: int, random: np.random.Generator) -> Array:
    """Shapley values `(n, inputs)` of every row's inputs; 0 for those that equal the baseline."""
    values = np.zeros((len(explained.points), int(explained.groups.max()) + 1))
    for row in range(len(values)):
        players = explained.players(row)
        if len(players):
            values[row, players] = _row_shapley(explained, row, players, permutations, random)
    return values


def _row_shapley(
    explained: Explained, row: int, players: Indices, permutations: int, random: np.random.Generator
) -> Array:
    count = len(players)
    half = np.array([random.permutation(count) for _ in range(max(1, permutations // 2))])
    orders = np.concatenate([half, half[:, ::-1]])
    place = np.argsort(orders, axis=1)  # when each player comes
    here = place[:, None, :] < np.arange(count + 1)[None, :, None]  # (orders, steps, players)
    sets = here.reshape(-1, count)
    packed = np.packbits(sets, axis=1)
    _, first, back = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    unique = _answers(explained, np.full(len(first), row), players, sets[first])
    steps = np.diff(unique[back].reshape(len(orders), count + 1), axis=1)  # what the k-th to come adds
    return np.asarray(np.take_along_axis(steps, place, axis=1).mean(axis=0))


def _curve(explained: Explained, orders: list[list[Indices]], *, inserting: bool) -> Array:
    """The mean answer over rows and orders at `POINTS` shares of the inputs moved."""
    grid, total, walks = np.linspace(0, 1, POINTS), np.zeros(POINTS), 0
    for row, each in enumerate(orders):
        for order in each:
            count = len(order)
            moved = np.arange(count)[None, :] < np.arange(count + 1)[:, None]
            answers = _answers(explained, np.full(count + 1, row), order, moved if inserting else ~moved)
            total += np.interp(grid, np.arange(count + 1) / max(1, count), answers)
            walks += 1
    return total / walks


def _answers(explained: Explained, rows: Indices, players: Indices, present: Flags) -> Array:
    """The answers with the players `present` `(m, players)` as they were, the other inputs at the baseline; in batches."""
    inputs = int(explained.groups.max()) + 1
    answers = []
    for start in range(0, len(rows), BATCH):
        at = rows[start : start + BATCH]
        there = np.ones((len(at), inputs + 1), dtype=np.bool_)  # the last, groups' -1, and what doesn't differ, stay
        there[:, players] = present[start : start + BATCH]
        points = np.where(there[:, explained.groups], explained.points[at], explained.baseline[at])
        answers.append(np.asarray(explained.answer(points.astype(np.float32), at), dtype=np.float64))
    return np.concatenate(answers)


def _descending(values: Array, players: Indices) -> Indices:
    return players[np.argsort(-values[players], kind="stable")]


def _agreement(ours: Array, exact: Array, played: list[Indices]) -> dict[str, float]:
    found = [_correlation(ours[row, who], exact[row, who]) for row, who in enumerate(played)]
    known = [value for value in found if value is not None]
    if not known:
        return {}
    low = float(np.percentile(known, 10))
    return {"correlation_with_shapley": float(np.mean(known)), "correlation_with_shapley_p10": low}


def _correlation(ours: Array, exact: Array) -> float | None:
    """None where there is nothing to correlate: fewer than three inputs (two always agree or disagree fully), or all alike."""
    if len(ours) < 3 or ours.std() == 0 or exact.std() == 0:
        return None
    return float(np.corrcoef(ours, exact)[0, 1])


def _area(curve: Array) -> float:
    return float(((curve[1:] + curve[:-1]) / 2).mean())
