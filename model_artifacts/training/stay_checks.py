"""A fitted `StayModel` in the form that the checks of explanation and novelty take: points and rows of arrays, no torch.

Owns `explained` for `explanation_quality.py` and `subject` for `out_of_distribution.py`; both are given rows that the model
was not fitted on.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_artifacts.training.explanation_quality import Explained
from model_artifacts.training.export import Explanation, whole_answer
from model_artifacts.training.out_of_distribution import Rows, Subject
from model_artifacts.training.stay_fit import Fitted
from model_artifacts.training.stay_model import PERSON

Float = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CHUNK = 50


def explained(
    fitted: Fitted, inputs: Mapping[str, Tensor], explanation: Explanation, slots: Sequence[Sequence[int]]
) -> tuple[Explained, npt.NDArray[np.float32]]:
    """The explanation of each of these rows, ready to be judged, and its completeness gaps `(n,)`.

    `slots` gives the positions of each clinical input among the attributions.
    """
    whole = whole_answer(fitted.model, tuple(inputs), explanation)
    total = len(inputs["values"])
    parts = []
    for start in range(0, total, _CHUNK):
        with torch.no_grad():
            _, _, attributions, _, gap, *_ = whole(*(value[start : start + _CHUNK] for value in inputs.values()))
        parts.append((attributions.numpy(), gap.numpy()))
    attributions, gaps = (np.concatenate(part) for part in zip(*parts, strict=True))
    with torch.no_grad():
        prepared = fitted.prepare(**inputs)
    held = {name: prepared[name] for name in ("counts", "known", "elapsed")}
    shape = prepared["z"].shape[1:]

    @torch.no_grad()
    def answer(points: Float, rows: Indices) -> npt.NDArray[np.floating]:
        given = torch.from_numpy(points)
        z, person = given[:, :-PERSON].reshape(-1, *shape), given[:, -PERSON:]
        return np.asarray(fitted.model(z=z, person=person, **{name: x[rows] for name, x in held.items()})[0][:, 0])

    points = torch.cat([prepared["z"].flatten(1), prepared["person"]], dim=1).numpy()
    return Explained(points, np.zeros_like(points), attributions, groups_of(slots, points.shape[1]), answer), gaps


def groups_of(slots: Sequence[Sequence[int]], size: int) -> Indices:
    """The number of the clinical input that each of `size` positions belongs to; −1 for none."""
    groups = np.full(size, -1)
    for number, positions in enumerate(slots):
        groups[list(positions)] = number
    return groups


def subject(
    fitted: Fitted,
    inputs: Mapping[str, Tensor],
    variables: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
    threshold: float,
) -> Subject:
    """These rows as hourly series by variable, with the model's novelty of them."""
    values = np.where(inputs["counts"].numpy() > 0, inputs["values"].numpy(), np.nan)

    @torch.no_grad()
    def novelty(rows: Rows) -> npt.NDArray[np.floating]:
        series = np.stack([rows[name] for name in variables], axis=2)
        there = torch.tensor(~np.isnan(series))
        values = torch.tensor(np.nan_to_num(series), dtype=torch.float32)
        prepared = fitted.prepare(**{**inputs, "values": values, "counts": inputs["counts"] * there})
        pooled = fitted.model.pooling(prepared["z"], prepared["counts"])
        return np.asarray(fitted.model.novelty(pooled, prepared["elapsed"]))

    rows = {name: values[:, :, place] for place, name in enumerate(variables)}
    return Subject(rows, ranges, novelty, threshold)
