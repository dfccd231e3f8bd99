"""Owns the way from a torch module to the one ONNX graph that answers whole: outputs, members, attributions, gap.

The graph's outputs, n rows: `probability` (n, k), `members` (n, m, k), `attributions` (n, a), `baseline_probability`
(n,), `completeness_gap` (n,) and, where the module gives them, `novelty` (n,) and `interval` (n, k, 2), all float32. Of a
model of a quantity "probability" is the quantity; what it is, the manifest says. Attributions are integrated
gradients (Sundararajan, Taly, Yan, ICML 2017, section 3) of one column of `probability`, flattened over the explained
inputs in their order; the path runs over `torch.func` gradients traced into the graph, so serving needs no torch.

The integral uses Gauss–Legendre nodes: on a smooth path the gap falls exponentially with the steps, where the midpoint
rule gains a factor of four for each doubling. Over a kink (ReLU, clamp) on the path both are first order; split the
input at its kink in `prepare` (min and max of a knot as two inputs) and the path is smooth again. The steps ride on the
batch axis, so a recurrent network runs once over `steps` rows and not `steps` times over one.

Seen to trace and to agree with torch 2.13: linear, layer norm, batch norm, GELU/ReLU/tanh/sigmoid/exp, softmax, attention
written by hand (`softmax(q @ k.transpose(1, 2)) @ v`, masks by addition or `masked_fill`), GRU cells written as a Python
loop over a fixed length, `nn.GRU(batch_first=True)`, `cumsum`, `where`, `clamp`, `minimum`/`maximum`, `amax`, `einsum`,
indexing by constants, max pooling, 1-D and 2-D convolutions with stride (their backward is decomposed here into a
transposed convolution; only the gradient by the input is kept). Seen to fail: `nn.LSTM`, average pooling (write it as a
mean over a reshape), `scaled_dot_product_attention` and so `nn.TransformerEncoderLayer`. Data-dependent control flow
cannot be traced. The module is traced in evaluation mode.

The batch is fixed at the example's rows, 1 as a rule. `dynamic_batch=True` traces with symbolic shapes: it works for
networks of linear layers and elementwise steps; attention and recurrent loops specialise the batch and the exporter
then refuses.

Extend: another output of the module becomes one more entry of `OUTPUTS`, after `interval`.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

# The newest opset that onnxruntime has run whole since 1.17 (GELU is an operator from 20 on).
OPSET = 20
OUTPUTS = ("probability", "members", "attributions", "baseline_probability", "completeness_gap", "novelty", "interval")

Tensors = dict[str, Tensor]
Transform = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the graph explains, and against which baseline.

    `explained` is the column of `probability`. `baseline` gives, from the module's inputs, the baseline of each name in
    `inputs` (same shape); the other inputs keep their values along the path. `prepare` turns the graph's inputs into
    the module's, inside the graph; without it they are the same.
    """

    explained: int
    inputs: Sequence[str]
    baseline: Transform
    steps: int
    prepare: Transform | None = None


def export_explained(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    path: Path,
    explanation: Explanation,
    *,
    dynamic_batch: bool = False,
) -> None:
    """Writes the ONNX graph of `module` with its explanation to `path`; the same module gives the same bytes.

    `module(**inputs)` returns `(probability (n, k), members (n, m, k))`, the two and `novelty (n,)`, or these and
    `interval (n, k, 2)`, and treats its rows independently. The graph's inputs have the names and order of `example_inputs`.
    """
    names, examples = tuple(example_inputs), tuple(example_inputs.values())
    was_training = module.training
    module.eval()
    answer = whole_answer(module, names, explanation)
    with torch.no_grad():
        outputs = OUTPUTS[: len(answer(*examples))]
        tracing: dict[str, Any] = {"tracing_mode": "real"}
        if dynamic_batch:
            tracing = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}
        traced = make_fx(answer, decomposition_table=_DECOMPOSITIONS, **tracing)(*examples)
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in names) if dynamic_batch else None
    module.train(was_training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations say nothing about this graph
        program = torch.onnx.export(
            traced,
            examples,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(names),
            output_names=list(outputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    share_initializers(graph)
    strip_provenance(graph)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def whole_answer(
    module: nn.Module, names: Sequence[str], explanation: Explanation
) -> Callable[..., tuple[Tensor, ...]]:
    """The function that the graph computes, from tensors in the order of `names` to tensors in that of `OUTPUTS`."""

    def answer(*tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(names, tensors, strict=True))
        if explanation.prepare is not None:
            inputs = explanation.prepare(inputs)
        reference = explanation.baseline(inputs)
        at_input = module(**inputs)
        baseline = module(**{**inputs, **{name: reference[name] for name in explanation.inputs}})[0]
        attributions = _integrated_gradients(module, inputs, reference, explanation)
        baseline_probability = baseline[:, explanation.explained]
        rise = at_input[0][:, explanation.explained] - baseline_probability
        gap = attributions.sum(dim=1) - rise
        # Clones: an output must not alias an input or a slice of another output.
        outputs = (at_input[0], at_input[1], attributions, baseline_probability, gap, *at_input[2:4])
        return tuple(output.clone() for output in outputs)

    return answer


def _integrated_gradients(module: nn.Module, inputs: Tensors, reference: Tensors, explanation: Explanation) -> Tensor:
    nodes, weights = np.polynomial.legendre.leggauss(explanation.steps)
    steps = explanation.steps
    ends = tuple(inputs[name] for name in explanation.inputs)
    starts = tuple(reference[name] for name in explanation.inputs)
    held = {name: torch.cat([value] * steps) for name, value in inputs.items() if name not in explanation.inputs}

    def explained(*points: Tensor) -> Tensor:
        probability = module(**held, **dict(zip(explanation.inputs, points, strict=True)))[0]
        return probability[:, explanation.explained].sum()

    def along(numbers: list[float], like: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=like.dtype).reshape(steps, *(1 for _ in like.shape))

    at = ((nodes + 1) / 2).tolist()
    path = tuple(
        (start + (end - start) * along(at, end)).reshape(-1, *end.shape[1:])
        for start, end in zip(starts, ends, strict=True)
    )
    gradients = torch.func.grad(explained, argnums=tuple(range(len(path))))(*path)
    parts = []
    for start, end, gradient in zip(starts, ends, gradients, strict=True):
        by_step = gradient.reshape(steps, -1, *gradient.shape[1:])
        mean = (by_step * along((weights / 2).tolist(), end)).sum(dim=0)
        parts.append(((end - start) * mean).reshape(-1, math.prod(end.shape[1:])))
    return torch.cat(parts, dim=1)


def _convolution_backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient by the input as a transposed convolution: ONNX has no `convolution_backward`."""
    if transposed or output_mask[1] or output_mask[2]:
        raise NotImplementedError("only the gradient of a plain convolution by its input is exported")
    missing = [
        size - ((out - 1) * s - 2 * p + d * (kernel - 1) + 1)
        for size, out, s, p, d, kernel in zip(
            inputs.shape[2:], grad.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    by_input = torch.ops.aten.convolution(grad, weight, None, stride, padding, dilation, True, missing, groups)
    return by_input, None, None


_DECOMPOSITIONS = {torch.ops.aten.convolution_backward.default: _convolution_backward}


def strip_provenance(graph: onnx.ModelProto) -> None:
    """Removes every text the exporter leaves on the graph: node metadata holds stack traces with this host's paths."""
    graph.producer_name = graph.producer_version = graph.domain = graph.doc_string = ""
    graph.graph.name = "main"
    del graph.metadata_props[:]
    main = graph.graph
    for item in (main, *main.node, *main.input, *main.output, *main.value_info, *main.initializer, *graph.functions):
        item.doc_string = ""
        del item.metadata_props[:]
    for function in graph.functions:
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    del main.value_info[:]


def share_initializers(graph: onnx.ModelProto) -> None:
    """Keeps one of each set of equal constants: an unrolled recurrence holds its folded weights once per step."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    outputs = {output.name for output in graph.graph.output}
    for tensor in graph.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        name = first.setdefault((tensor.data_type, tuple(tensor.dims), value.tobytes()), tensor.name)
        if name == tensor.name or tensor.name in outputs:
            kept.append(tensor)
        else:
            renamed[tensor.name] = name
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


class ParityError(Exception):
    """The exported graph and torch disagree."""


def check_parity(
    path: Path, module: nn.Module, rows: Mapping[str, Tensor], explanation: Explanation, *, tolerance: float = 1e-5
) -> dict[str, float]:
    """The largest absolute difference between onnxruntime and torch for each output, over `rows`.

    A graph with a fixed batch runs over the rows in chunks of it.

    Raises:
        ParityError: an output differs by more than `tolerance`.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fixed = session.get_inputs()[0].shape[0]
    names = [output.name for output in session.get_outputs()]
    total = len(next(iter(rows.values())))
    chunk = fixed if isinstance(fixed, int) else total
    worst = dict.fromkeys(names, 0.0)
    was_training = module.training
    module.eval()
    answer = whole_answer(module, tuple(rows), explanation)
    for start in range(0, total - chunk + 1, chunk):
        part = {name: value[start : start + chunk] for name, value in rows.items()}
        got = session.run(names, {name: value.numpy() for name, value in part.items()})
        with torch.no_grad():
            expected = answer(*part.values())
        for name, ours, theirs in zip(names, got, expected, strict=True):
            worst[name] = max(worst[name], float(np.abs(ours - theirs.numpy()).max()))
    module.train(was_training)
    for name, difference in worst.items():
        if not difference <= tolerance:
            message = f"output {name} of {path.name}: expected torch's values within {tolerance}, got {difference:.3g}"
            raise ParityError(message)
    return worst
