"""A published logistic equation as an ONNX graph that answers a probability and leaves the explanation to occlusion.

Input `features` (rows, inputs) float32, output `probabilities` (rows, 1) float32; a missing value gives not-a-number, so every
input has to be essential. An equation with knots, products or several outputs is a torch module: see `prevent_cvd/train.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from model_artifacts.training.tabular import SEED, Rows

INPUT, OUTPUT, OPSET, IR_VERSION = "features", "probabilities", 20, 9
PARITY = 1e-5
ROWS = 2000


@dataclass(frozen=True, slots=True)
class Equation:
    """Risk = 1 / (1 + exp(-(intercept + weight · (value - centre)))); `weight` and `centre` (inputs,) float64."""

    intercept: float
    weight: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float64]

    def risk(self, people: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The risk of each row of `people` (rows, inputs), in double precision, (rows,)."""
        score = self.intercept + (people.astype(np.float64) - self.centre) @ self.weight
        return np.asarray(1 / (1 + np.exp(-score)))


def random_rows(names: tuple[str, ...], ranges: npt.NDArray[np.float64]) -> Rows:
    """People drawn evenly from `ranges` (inputs, 2), to compare on; what happened to them nobody knows."""
    random = np.random.default_rng(SEED)
    people = random.uniform(ranges[:, 0], ranges[:, 1], (ROWS, len(names))).astype(np.float32)
    return Rows(names, people, np.zeros(ROWS, np.int64), np.arange(ROWS))


def write_graph(equation: Equation, path: Path, people: npt.NDArray[np.float32]) -> float:
    """Writes the equation's graph; the result is its largest difference from the equation over `people`.

    Raises:
        ValueError: the difference is above `PARITY`.
    """
    constants = {
        "centre": equation.centre,
        "weight": equation.weight[:, np.newaxis],
        "intercept": np.array([equation.intercept]),
    }
    nodes = [
        helper.make_node("Sub", [INPUT, "centre"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weight"], ["sum"]),
        helper.make_node("Add", ["sum", "intercept"], ["score"]),
        helper.make_node("Sigmoid", ["score"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "equation",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(equation.weight)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    difference = float(np.abs(session.run([OUTPUT], {INPUT: people})[0][:, 0] - equation.risk(people)).max())
    if not difference <= PARITY:
        raise ValueError(f"graph: expected the equation's risks to {PARITY:g}, got a difference of {difference:g}")
    return difference
