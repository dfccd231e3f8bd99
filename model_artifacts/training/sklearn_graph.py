"""A scikit-learn classifier as an ONNX graph that answers probabilities and leaves the explanation to occlusion.

Owns the conversion by skl2onnx and its proof: the graph must say on real rows what the classifier says. The graph has one
input, `features` (rows, features) float32, not-a-number where missing, and the output `probabilities` (rows, classes) float32,
which the manifest names in `[explanation.occlusion]`. The same classifier gives the same bytes.

Seen to convert and agree with skl2onnx 1.20 and scikit-learn 1.9: SimpleImputer, StandardScaler and LogisticRegression in a
pipeline; GradientBoosting- and RandomForestClassifier behind an imputer. Trees that shall see what is missing take a constant
that no value has (`SimpleImputer(strategy="constant", fill_value=-1)`). Seen to fail: HistGradientBoostingClassifier (skl2onnx
writes an attribute that onnx 1.23 refuses) and `SimpleImputer(add_indicator=True)`. Graphs compare in float32, scikit-learn in
float64: fit on what `as_float32` gives, or a value on a threshold may fall on the other side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from skl2onnx import to_onnx

OPSETS = {"": 20, "ai.onnx.ml": 3}
INPUT, OUTPUT = "features", "probabilities"
PARITY = 1e-5
"""A probability; above it the graph isn't the classifier."""


def as_float32(rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The rows as the graph sees them; infinite values are refused with a ValueError."""
    table = np.asarray(rows, dtype=np.float32)
    if np.isinf(table).any():
        raise ValueError("rows: expected numbers or not-a-number, got an infinite value")
    return table


def write_graph(classifier: Any, path: Path, rows: npt.NDArray[np.float32]) -> float:
    """Writes the fitted classifier's graph; the result is its largest difference from the classifier over `rows`.

    Raises:
        ValueError: the difference is above `PARITY`.
    """
    graph = to_onnx(classifier, rows[:1], target_opset=OPSETS, options={"zipmap": False})
    _name_tensors(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    said = session.run([OUTPUT], {INPUT: rows})[0]
    difference = float(np.abs(said - classifier.predict_proba(rows)).max())
    if not difference <= PARITY:
        raise ValueError(
            f"graph: expected the classifier's probabilities to {PARITY:g}, got a difference of {difference:g}"
        )
    return difference


def _name_tensors(graph: onnx.ModelProto) -> None:
    """Input and output by the names that the manifest uses; nothing that tells of the machine or of a run."""
    renamed = {graph.graph.input[0].name: INPUT}
    for item in graph.graph.input:
        item.name = renamed.get(item.name, item.name)
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    graph.graph.name = "classifier"
    graph.doc_string = graph.graph.doc_string = ""
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    del graph.opset_import[:]
    graph.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in sorted(opsets.items()))
