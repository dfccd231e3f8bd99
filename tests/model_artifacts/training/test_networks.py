import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.training.calibrate import Platt  # noqa: E402 (they import torch)
from model_artifacts.training.ensemble import Rows, Targets, fit_ensemble, member_logits  # noqa: E402
from model_artifacts.training.event_network import EventNetwork, ExactPooling, Shape  # noqa: E402
from model_artifacts.training.export import Explanation, whole_answer  # noqa: E402
from model_artifacts.training.stay_model import Novelty, Prepare, StayModel, baseline, fit_scales  # noqa: E402

VARIABLES = 3


def raw(n, seed=0):
    """Stays whose later values of variable 0 decide the outcome."""
    random = np.random.default_rng(seed)
    counts = random.poisson(0.4, (n, 48, VARIABLES)).astype(np.float32)
    values = (random.normal(5, 2, (n, 48, VARIABLES)) + random.normal(0, 2, (n, 1, VARIABLES))).astype(np.float32)
    statics = np.stack(
        [random.uniform(20, 90, n), random.integers(0, 2, n), random.normal(170, 10, n), random.integers(1, 5, n)], 1
    ).astype(np.float32)
    statics[::7, 2] = np.nan
    tensors = {"values": torch.tensor(values) * torch.tensor(counts > 0), "counts": torch.tensor(counts)}
    return tensors | {"statics": torch.tensor(statics)}


def prepared(n=400, seed=0):
    inputs = raw(n, seed)
    logarithmic, offset = torch.tensor([False, True, False]), torch.zeros(VARIABLES)
    prepare = Prepare(fit_scales(inputs["values"], inputs["counts"], inputs["statics"], logarithmic, offset))
    return inputs, prepare, prepare(**inputs)


def model(z, counts):
    torch.manual_seed(0)
    pooling, novelty = ExactPooling(VARIABLES), Novelty(VARIABLES)
    pooling.fit(z, counts)
    novelty.fit(pooling(z, counts))
    network = EventNetwork(Shape(2, VARIABLES, 9, 1, hidden=16, token=8))
    return StayModel(pooling, network, novelty, Platt(1.1, -0.5)).eval()


def test_networks_pooling_equals_numpy_on_the_measured_hours():
    _, _, inputs = prepared(30)
    z, counts = inputs["z"].numpy(), inputs["counts"].numpy()
    found = ExactPooling(VARIABLES).raw(inputs["z"], inputs["counts"]).numpy()
    for row in range(30):
        for variable in range(VARIABLES):
            hours = np.flatnonzero(counts[row, :, variable])
            seen = z[row, hours, variable]
            expected = [seen.mean(), seen.std(), seen.max(), seen.min(), seen[0], seen[-1]]
            assert found[row, variable, :6] == pytest.approx(expected, abs=6e-3)
            assert found[row, variable, 8] == pytest.approx((47 - hours[-1]) / 24)


def test_networks_never_look_at_what_was_not_measured():
    inputs, prepare, _ = prepared(20)
    changed = {**inputs, "values": torch.where(inputs["counts"] > 0, inputs["values"], torch.tensor(99.0))}
    torch.testing.assert_close(prepare(**changed)["z"], prepare(**inputs)["z"])


def test_networks_an_empty_stay_still_gives_a_probability():
    _, prepare, inputs = prepared(50)
    empty = {name: torch.zeros(1, 48, VARIABLES) for name in ("values", "counts")}
    nothing = prepare(**empty, statics=torch.full((1, 4), float("nan")))
    probability, members, novelty = model(inputs["z"], inputs["counts"])(**nothing)
    assert 0 < probability.item() < 1
    assert members.shape == (1, 2, 1)
    assert torch.isfinite(novelty).all()


def test_networks_novelty_is_about_one_on_the_rows_fitted_on_and_higher_on_shuffled_variables():
    _, _, inputs = prepared()
    answer = model(inputs["z"], inputs["counts"])
    strange = answer(**{**inputs, "z": -inputs["z"].flip(2) * 3})[2]
    usual = answer(**inputs)[2]
    assert 0.7 < usual.mean() < 1.1
    assert strange.mean() > 1.3 * usual.mean()


def test_networks_members_learn_and_their_left_out_rows_are_ranked():
    _, _, inputs = prepared(800)
    outcome = (inputs["z"][:, 24:, 0].sum(1) / (inputs["counts"][:, 24:, 0] > 0).sum(1).clamp(min=1) > 0).float()
    rows = Rows(
        ExactPooling(VARIABLES).raw(inputs["z"], inputs["counts"]),
        inputs["z"],
        inputs["counts"],
        torch.cat([inputs["person"], inputs["known"]], dim=1),
    )
    torch.manual_seed(0)
    network = EventNetwork(Shape(2, VARIABLES, 9, 3, hidden=16, token=8))
    zeros = torch.zeros(800, 1)
    targets = Targets(torch.stack([outcome, outcome], dim=1), zeros, zeros)
    fit_ensemble(network, rows, targets, [np.arange(600), np.arange(200, 800)], epochs=10, seed=0)
    logits = member_logits(network, rows, np.arange(600, 800))[0]
    assert np.corrcoef(logits, outcome[600:].numpy())[0, 1] > 0.5


def test_networks_attributions_add_up_and_leave_the_unmeasured_alone():
    inputs, prepare, ready = prepared(12)
    explanation = Explanation(0, ("z", "person"), baseline, steps=8, prepare=prepare.graph_inputs)
    answer = whole_answer(model(ready["z"], ready["counts"]), tuple(inputs), explanation)(*inputs.values())
    attributions, gap = answer[2], answer[4]
    assert gap.abs().max() < 1e-3
    assert attributions[:, : 48 * VARIABLES][inputs["counts"].flatten(1) == 0].abs().max() == 0
