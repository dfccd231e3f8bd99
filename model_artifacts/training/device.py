"""Where a training runs and how repeatable it is: the GPU when there is one, else the CPU, seeds fixed, and said in words.

Owns torch's global switches, which no other module touches. On the CPU two runs of one recipe with the same number of
threads are equal to the bit. On a GPU torch is asked for deterministic algorithms too; between a GPU and a CPU, or between two
kinds of GPU, the last digits differ, and so may a metric's fourth.
"""

import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]  # scikit-learn brings it
from torch import nn

THREADS = 1
"""More threads change the order of sums, and with it the last digits."""


@dataclass(frozen=True, slots=True)
class Device:
    """`name` is torch's ("cuda" or "cpu"); `words` go into `metrics.json` and to the terminal."""

    name: str
    words: str

    @property
    def torch(self) -> torch.device:
        """As torch wants it."""
        return torch.device(self.name)


def choose_device(seed: int, *, threads: int = THREADS, prefer: str = "auto") -> Device:
    """The device to train on, after seeding Python, numpy and torch; `prefer` is "auto", "cpu" or "cuda".

    Raises:
        ValueError: "cuda" was asked for and there is none.
    """
    there = torch.cuda.is_available()
    if prefer == "cuda" and not there:
        raise ValueError("device cuda was asked for: torch finds none")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # NumPy's and scikit-learn's linear algebra too
    torch.use_deterministic_algorithms(True, warn_only=True)
    if there and prefer != "cpu":
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS is deterministic with a fixed workspace only
        torch.backends.cudnn.benchmark = False
        name = torch.cuda.get_device_name()
        words = f"{name}; deterministic algorithms were asked for; the last digits differ from a CPU's"
        return Device("cuda", words)
    return Device("cpu", f"CPU, {threads} thread{'s'[: threads != 1]}, deterministic")


def state_arrays(module: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Every parameter and buffer by name, as `checkpoints.py` keeps them."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def load_state(module: nn.Module, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Fills `module` from `state_arrays` of one of the same shape.

    Raises:
        RuntimeError: names or shapes differ (torch's own message says which).
    """
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
