import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.training.ensemble import (  # noqa: E402 (they import torch)
    Rows,
    Targets,
    disagreement,
    fit_ensemble,
    left_out_logits,
)
from model_artifacts.training.event_network import (  # noqa: E402
    EventNetwork,
    ExactPooling,
    Shape,
    stretches,
    within_stay,
)
from model_artifacts.training.export import Explanation, whole_answer  # noqa: E402
from model_artifacts.training.stay_fit import look_back  # noqa: E402
from model_artifacts.training.stay_model import (  # noqa: E402
    HourlyCalibration,
    Novelty,
    Prepare,
    StayModel,
    baseline,
    fit_scales,
    hour_features,
)

VARIABLES = 3
HOURS = (12, 48)


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
    return tensors | {"statics": torch.tensor(statics), "elapsed": torch.full((n, 1), 48.0)}


def at(inputs, hour):
    """The same stays as they were at this hour."""
    earlier = {name: look_back(inputs[name], hour) for name in ("values", "counts")}
    return inputs | earlier | {"elapsed": torch.full_like(inputs["elapsed"], float(hour))}


def prepared(n=400, seed=0):
    inputs = raw(n, seed)
    logarithmic, offset = torch.tensor([False, True, False]), torch.zeros(VARIABLES)
    prepare = Prepare(fit_scales(inputs["values"], inputs["counts"], inputs["statics"], logarithmic, offset))
    return inputs, prepare, prepare(**inputs)


def model(z, counts):
    torch.manual_seed(0)
    pooling, novelty = ExactPooling(VARIABLES), Novelty(VARIABLES, [float(hour) for hour in HOURS])
    raw = torch.stack([pooling.raw(look_back(z, hour), look_back(counts, hour)) for hour in HOURS])
    pooling.fit(raw.flatten(0, 1))
    novelty.fit(pooling.standardise(raw))
    network = EventNetwork(Shape(2, VARIABLES, 11, 1, hidden=16, token=8))
    calibration = HourlyCalibration()
    calibration.weights.copy_(torch.tensor([1.1, 0.1, -0.5, 0.2, 0.05]))
    return StayModel(pooling, network, novelty, calibration).eval()


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
            late = z[row, hours[hours >= 36], variable]
            extremes = [late.max(), late.min()] if len(late) else [0, 0]
            assert found[row, variable, 14:16] == pytest.approx(extremes)
            assert found[row, variable, 16] == pytest.approx(np.log1p(counts[row, 36:, variable].sum()) / 2, abs=1e-6)
            recent = z[row, hours[hours >= 42], variable]
            assert found[row, variable, 17] == pytest.approx(recent.sum() / (len(recent) + 0.5), abs=1e-5)
            apart = (hours - hours.mean()) / 12
            assert found[row, variable, 18] == pytest.approx((seen * apart).sum() / ((apart**2).sum() + 1), abs=1e-4)


def test_networks_a_course_before_admission_changes_nothing():
    _, _, inputs = prepared(20)
    answer = model(inputs["z"], inputs["counts"])
    young = inputs | {name: look_back(inputs[name], 10) for name in ("z", "counts")}
    young["elapsed"] = torch.full((20, 1), 10.0)
    before = answer(**young)[0]
    with torch.no_grad():
        answer.network.course.place[:, :, :9] += 5.0  # the nine stretches that lie before admission altogether
    torch.testing.assert_close(answer(**young)[0], before)
    answer.network.course.place.data[:, :, 9] += 5.0
    assert not torch.equal(answer(**young)[0], before)


def test_networks_stretches_within_the_stay_are_counted_from_the_end():
    held = within_stay(torch.tensor([[6.0], [8.0], [8.1], [48.0]])).sum(dim=1)
    assert held.tolist() == [2, 2, 3, 12]


def test_networks_calibration_follows_the_hour():
    random = np.random.default_rng(0)
    logits, elapsed = random.normal(-1, 1.5, (2, 20_000)), np.repeat([[12.0], [48.0]], 20_000, axis=1)
    slope, intercept = np.array([[0.5], [1.5]]), np.array([[-0.4], [0.3]])
    died = (random.random(logits.shape) < 1 / (1 + np.exp(-(slope * logits + intercept)))).astype(np.int64)
    calibration = HourlyCalibration()
    calibration.fit(logits, elapsed, died)
    found = calibration(torch.tensor(logits), torch.tensor(elapsed)).numpy()
    assert found == pytest.approx(1 / (1 + np.exp(-(slope * logits + intercept))), abs=0.03)


def test_networks_never_look_at_what_was_not_measured():
    inputs, prepare, _ = prepared(20)
    changed = {**inputs, "values": torch.where(inputs["counts"] > 0, inputs["values"], torch.tensor(99.0))}
    torch.testing.assert_close(prepare(**changed)["z"], prepare(**inputs)["z"])


def test_networks_an_empty_stay_still_gives_a_probability():
    _, prepare, inputs = prepared(50)
    empty = {name: torch.zeros(1, 48, VARIABLES) for name in ("values", "counts")}
    nothing = prepare(**empty, statics=torch.full((1, 4), float("nan")), elapsed=torch.tensor([[6.0]]))
    probability, members, novelty = model(inputs["z"], inputs["counts"])(**nothing)
    assert 0 < probability.item() < 1
    assert members.shape == (1, 2, 1)
    assert torch.isfinite(novelty).all()


@pytest.mark.parametrize("hour", HOURS)
def test_networks_novelty_is_below_one_for_99_of_100_fitted_on_at_any_hour_and_higher_on_shuffled_variables(hour):
    inputs, prepare, ready = prepared()
    answer = model(ready["z"], ready["counts"])
    looked_at = prepare(**at(inputs, hour))
    strange = answer(**{**looked_at, "z": -looked_at["z"].flip(2) * 3})[2]
    usual = answer(**looked_at)[2]
    assert (usual <= 1).float().mean() == pytest.approx(0.99, abs=0.003)
    assert strange.mean() > 1.3 * usual.mean()


def test_networks_novelty_between_two_hours_is_judged_by_both():
    _, _, ready = prepared(50)
    novelty = model(ready["z"], ready["counts"]).novelty
    novelty.usual.copy_(torch.tensor([1.0, 2.0]))
    pooled = ExactPooling(VARIABLES)(ready["z"], ready["counts"])
    by_hour = [novelty(pooled, torch.full((50, 1), hour)) for hour in (6.0, 12.0, 30.0, 48.0, 60.0)]
    for found, usual in zip(by_hour, (1.0, 1.0, 1.5, 2.0, 2.0), strict=True):
        torch.testing.assert_close(found, novelty.distance(pooled) / usual)


def test_networks_members_learn_and_their_left_out_rows_are_ranked():
    _, _, inputs = prepared(800)
    outcome = (inputs["z"][:, 24:, 0].sum(1) / (inputs["counts"][:, 24:, 0] > 0).sum(1).clamp(min=1) > 0).float()
    elapsed = torch.tensor(HOURS, dtype=torch.float32).unsqueeze(1)
    pooling = ExactPooling(VARIABLES)
    looks = [(look_back(inputs["z"], hour), look_back(inputs["counts"], hour)) for hour in HOURS]
    rows = Rows(
        torch.stack([pooling.raw(*look) for look in looks]),
        torch.stack([stretches(*look) for look in looks]),
        torch.cat([inputs["person"], inputs["known"]], dim=1),
        within_stay(elapsed),
        hour_features(elapsed),
    )
    torch.manual_seed(0)
    network = EventNetwork(Shape(2, VARIABLES, 11, 3, hidden=16, token=8))
    zeros = torch.zeros(800, 1)
    targets = Targets(torch.stack([outcome, outcome], dim=1), zeros, zeros)
    part = np.arange(800) % 4  # two members, each without a quarter of its own; the other rows are in both
    fit_ensemble(network, rows, targets, [np.flatnonzero(part != 0), np.flatnonzero(part != 1)], epochs=20, seed=0)
    logits = left_out_logits(network, rows, np.minimum(part, 1), 1)
    left_out = part < 2
    assert np.corrcoef(logits[left_out], outcome[left_out].numpy())[0, 1] > 0.5
    early = left_out_logits(network, rows, np.minimum(part, 1), 0)  # what decides lies in the last 24 hours
    assert (
        np.corrcoef(early[left_out], outcome[left_out].numpy())[0, 1]
        < np.corrcoef(logits[left_out], outcome[left_out].numpy())[0, 1]
    )
    assert disagreement(network, rows, np.arange(100), 1) > 0


def test_networks_left_out_logits_are_each_rows_own_member():
    _, _, inputs = prepared(7)
    ready = model(inputs["z"], inputs["counts"])
    elapsed = torch.tensor([[48.0]])
    rows = Rows(
        ready.pooling(inputs["z"], inputs["counts"]).unsqueeze(0),
        stretches(inputs["z"], inputs["counts"]).unsqueeze(0),
        torch.cat([inputs["person"], inputs["known"]], dim=1),
        within_stay(elapsed),
        hour_features(elapsed),
    )
    part = np.array([0, 1, 1, 0, 1, 1, 1])
    both = ready.network.for_all(*rows.at(torch.zeros(7, dtype=torch.int64), torch.arange(7)))[:, :, 0]
    expected = both.detach().numpy()[part, np.arange(7)]
    np.testing.assert_allclose(left_out_logits(ready.network, rows, part, 0), expected, rtol=1e-5)


@pytest.mark.parametrize("hour", HOURS)
def test_networks_attributions_add_up_and_leave_the_unmeasured_alone(hour):
    inputs, prepare, ready = prepared(12)
    inputs = at(inputs, hour)
    explanation = Explanation(0, ("z", "person"), baseline, steps=8, prepare=prepare.graph_inputs)
    answer = whole_answer(model(ready["z"], ready["counts"]), tuple(inputs), explanation)(*inputs.values())
    attributions, gap = answer[2], answer[4]
    assert gap.abs().max() < 1e-3
    assert attributions[:, : 48 * VARIABLES][inputs["counts"].flatten(1) == 0].abs().max() == 0
