import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.training.export import (  # noqa: E402
    OUTPUTS,
    Explanation,
    ParityError,
    check_parity,
    export_explained,
)


class Perceptrons(torch.nn.Module):
    """Two members over one input, with a novelty."""

    def __init__(self, activation: Callable[[], torch.nn.Module] = torch.nn.Tanh) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(5, 16), activation(), torch.nn.Linear(16, 3)) for _ in range(2)
        )

    def forward(self, x):
        members = torch.stack([torch.sigmoid(part(x)) for part in self.parts], dim=1)
        return members.mean(dim=1), members, x.square().sum(dim=1)


class Ranged(Perceptrons):
    """The same with an interval around each output."""

    def forward(self, x):
        middle, members, novelty = super().forward(x)
        return middle, members, novelty, torch.stack([middle - 0.1, middle + 0.2], dim=2)


class Recurrent(torch.nn.Module):
    """A GRU cell loop, attention with a mask, a convolution: what a sequence model is made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gates = torch.nn.Linear(2 * 4 + 8, 24)
        self.query = torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.conv = torch.nn.Conv1d(4, 8, 3, padding=1)
        self.gru = torch.nn.GRU(4, 8, batch_first=True)
        self.out = torch.nn.Linear(8 + 2, 2)

    def forward(self, values, mask, statics):
        seen = values * mask
        state = values.new_zeros(values.shape[0], 8)
        states = []
        for t in range(values.shape[1]):
            gates = self.gates(torch.cat([seen[:, t], mask[:, t], state], dim=-1))
            keep, reset, new = gates.chunk(3, dim=-1)
            keep = torch.sigmoid(keep)
            state = keep * state + (1 - keep) * torch.tanh(torch.sigmoid(reset) * new)
            states.append(state)
        hidden = self.norm(torch.stack(states, dim=1) + self.gru(seen)[0])
        hidden = hidden + torch.nn.functional.gelu(self.conv(seen.transpose(1, 2))).transpose(1, 2)
        score = self.query(hidden) @ hidden.transpose(1, 2)
        score = score.masked_fill(mask.amax(dim=2)[:, None, :] == 0, -1e9)
        pooled = (torch.softmax(score, dim=-1) @ hidden).mean(dim=1)
        probability = torch.sigmoid(self.out(torch.cat([pooled, statics], dim=1)))
        return probability, probability[:, None]


ZEROS = Explanation(explained=1, inputs=("x",), baseline=lambda i: {"x": torch.zeros_like(i["x"])}, steps=8)
OF_SEQUENCE = Explanation(
    explained=0,
    inputs=("values", "statics"),
    baseline=lambda i: {name: torch.zeros_like(i[name]) for name in ("values", "statics")},
    steps=8,
)


def rows(n: int, seed: int = 1):
    return {"x": torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))}


def sequences(n: int):
    random = torch.Generator().manual_seed(2)
    mask = (torch.rand(n, 3, 4, generator=random) > 0.5).float()
    return {
        "values": torch.rand(n, 3, 4, generator=random),
        "mask": mask,
        "statics": torch.rand(n, 2, generator=random),
    }


def run(path: Path, inputs):
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v.numpy() for k, v in inputs.items()}), strict=True))


@pytest.fixture(scope="module")
def perceptrons(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_explained(Perceptrons(), rows(3), path, ZEROS, dynamic_batch=True)
    return path


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_explained(Recurrent(), sequences(1), path, OF_SEQUENCE)
    return path


def test_export_gives_the_contract_outputs_for_any_batch(perceptrons):
    for n in (1, 4, 9):
        outputs = run(perceptrons, rows(n))
        assert list(outputs) == list(OUTPUTS[:6])
        assert [outputs[name].shape for name in OUTPUTS[:6]] == [(n, 3), (n, 2, 3), (n, 5), (n,), (n,), (n,)]


def test_export_gives_an_interval_where_the_module_has_one(tmp_path):
    export_explained(Ranged(), rows(3), tmp_path / "model.onnx", ZEROS)
    outputs = run(tmp_path / "model.onnx", rows(3))
    assert list(outputs) == list(OUTPUTS)
    width = outputs["interval"][:, :, 1] - outputs["interval"][:, :, 0]
    np.testing.assert_allclose(width, np.full((3, 3), 0.3), atol=1e-6)


def test_export_agrees_with_torch(perceptrons):
    assert max(check_parity(perceptrons, Perceptrons(), rows(50), ZEROS).values()) < 1e-5


def test_export_of_a_sequence_model_agrees_with_torch(recurrent):
    assert max(check_parity(recurrent, Recurrent(), sequences(5), OF_SEQUENCE).values()) < 1e-5


def test_export_parity_fails_on_another_module(perceptrons):
    with pytest.raises(ParityError, match="output probability"):
        check_parity(perceptrons, Perceptrons(torch.nn.ReLU), rows(5), ZEROS)


def test_export_attributions_sum_to_the_rise_within_the_stated_gap(perceptrons):
    outputs = run(perceptrons, rows(50))
    rise = outputs["probability"][:, 1] - outputs["baseline_probability"]
    np.testing.assert_allclose(outputs["attributions"].sum(1) - rise, outputs["completeness_gap"], atol=2e-7)
    assert np.abs(outputs["completeness_gap"]).max() < 1e-6


def test_export_gap_of_a_sequence_model_is_small_at_eight_steps(recurrent):
    gaps = [
        abs(run(recurrent, {k: v[i : i + 1] for k, v in sequences(5).items()})["completeness_gap"][0]) for i in range(5)
    ]
    assert max(gaps) < 1e-3  # the norm is steep near the baseline of all zeros


def test_export_attributes_nothing_to_a_value_equal_to_its_baseline(perceptrons):
    inputs = rows(1)
    inputs["x"][0, 2] = 0.0
    assert run(perceptrons, inputs)["attributions"][0, 2] == 0.0


def test_export_gauss_legendre_closes_better_than_the_midpoint_rule():
    module = Perceptrons().double()
    x = rows(20)["x"].double()
    module.requires_grad_(requires_grad=False)
    rise = module(x)[0][:, 1] - module(torch.zeros_like(x))[0][:, 1]

    def gap(nodes, weights):
        total = torch.zeros_like(x)
        for node, weight in zip(nodes, weights, strict=True):
            total += weight * torch.func.grad(lambda p: module(p)[0][:, 1].sum())(x * node)
        return float(((total * x).sum(1) - rise).abs().max())

    nodes, weights = np.polynomial.legendre.leggauss(8)
    assert gap((nodes + 1) / 2, weights / 2) < gap((np.arange(8) + 0.5) / 8, np.full(8, 1 / 8)) / 100


def test_export_prepares_inputs_inside_the_graph(tmp_path):
    def prepare(inputs):
        return {"x": torch.cat([inputs["low"].clamp(max=0.5), inputs["high"]], dim=1)}

    scaled = Explanation(explained=0, inputs=("x",), baseline=ZEROS.baseline, steps=4, prepare=prepare)
    inputs = {"low": torch.rand(1, 2), "high": torch.rand(1, 3)}
    export_explained(Perceptrons(), inputs, tmp_path / "model.onnx", scaled)
    expected = Perceptrons()(prepare(inputs)["x"])[0].detach().numpy()
    np.testing.assert_allclose(run(tmp_path / "model.onnx", inputs)["probability"], expected, atol=1e-6)


def test_export_leaves_no_word_of_the_host_in_the_graph(perceptrons, recurrent):
    for path in (perceptrons, recurrent):
        content = path.read_bytes()
        for trace in (b".py", b"stack_trace", b"torch", sys.prefix.encode(), str(Path.cwd()).encode()):
            assert trace not in content
        model = onnx.load(path)
        assert not model.producer_name
        assert not model.metadata_props
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_export_uses_only_standard_operators(perceptrons, recurrent):
    for path in (perceptrons, recurrent):
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} == {""}
        assert [opset.domain for opset in model.opset_import] == [""]
        assert not model.functions


def test_export_gives_the_same_bytes_again(tmp_path):
    paths = [tmp_path / "once.onnx", tmp_path / "again.onnx"]
    for path in paths:
        export_explained(Perceptrons(), rows(1), path, ZEROS)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_export_leaves_the_module_as_it_was(tmp_path):
    module = Perceptrons().train()
    export_explained(module, rows(1), tmp_path / "model.onnx", ZEROS)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_export_graph_runs_without_torch(perceptrons):
    program = (
        "import sys, numpy, onnxruntime; s = onnxruntime.InferenceSession(sys.argv[1]);"
        "s.run(None, {'x': numpy.zeros((1, 5), 'float32')}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(perceptrons)], check=True)


def test_export_holds_each_constant_once(recurrent):
    constants = [
        (value.dtype.str, value.shape, value.tobytes())
        for value in map(onnx.numpy_helper.to_array, onnx.load(recurrent).graph.initializer)
    ]
    assert len(set(constants)) == len(constants)
