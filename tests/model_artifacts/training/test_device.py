import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.training.device import choose_device, load_state, state_arrays  # noqa: E402


@pytest.fixture(autouse=True)
def _as_before():
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def trained(seed):
    choose_device(seed, prefer="cpu")
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    rows = torch.randn(64, 8)
    for _ in range(20):
        optimiser.zero_grad()
        network(rows).square().mean().backward()
        optimiser.step()
    return state_arrays(network), float(np.random.random())


def test_device_one_seed_gives_one_training_to_the_bit():
    first, second, third = trained(3), trained(3), trained(4)
    assert first[1] == second[1] != third[1]
    assert all(np.array_equal(first[0][name], second[0][name]) for name in first[0])
    assert not np.array_equal(first[0]["0.weight"], third[0]["0.weight"])


def test_device_says_what_it_is_and_how_repeatable():
    device = choose_device(1, prefer="cpu")
    assert device.torch.type == "cpu"
    assert device.words == "CPU, 1 thread, deterministic"
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_a_gpu_that_is_not_there_is_refused_when_asked_for():
    assert choose_device(1).name == "cpu"
    with pytest.raises(ValueError, match="cuda was asked for"):
        choose_device(1, prefer="cuda")


def test_device_a_networks_state_comes_back_from_arrays():
    one, two = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    load_state(two, state_arrays(one))
    rows = torch.randn(4, 3)
    assert torch.equal(one(rows), two(rows))
