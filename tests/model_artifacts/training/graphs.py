"""A small graph with the outputs of a released one, made without torch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_graph(path: Path, width: int = 6, work: int = 0) -> np.ndarray:
    """`probability = sigmoid(features @ weights)`; `attributions` are the products, after `work` steps that only cost time."""
    weights = np.random.default_rng(0).normal(0, 1, (width, 64)).astype(np.float32)
    last = np.random.default_rng(1).normal(0, 0.3, (64, 1)).astype(np.float32)
    slow = np.eye(width, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "last"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    before = "features"
    for step in range(work):
        nodes.append(helper.make_node("MatMul", [before, "slow"], [f"worked{step}"]))
        nodes.append(helper.make_node("Tanh", [f"worked{step}"], [f"bent{step}"]))
        before = f"bent{step}"
    nodes.append(helper.make_node("Identity", [before], ["attributions"]))
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, width])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 1]),
            helper.make_tensor_value_info("attributions", TensorProto.FLOAT, [1, width]),
        ],
        [
            numpy_helper.from_array(value, name)
            for value, name in ((weights, "weights"), (last, "last"), (slow, "slow"))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return weights @ last
