from benchmarks.memory import LARGEST_MIB, measure, resident_mib
from model_artifacts.registry import model_packages


def test_memory_of_a_worker_with_every_model_stays_below_the_bar() -> None:
    figures = measure()
    assert set(figures) == {"python", "libraries", *model_packages(), "peak"}
    assert figures["python"] < figures["libraries"] < figures["peak"] <= LARGEST_MIB


def test_memory_is_seen_to_grow_by_what_is_taken() -> None:
    before = resident_mib("VmRSS")
    taken = bytearray(b"x" * (64 * 1024**2))
    assert resident_mib("VmRSS") - before > 50
    assert len(taken) == 64 * 1024**2
    assert resident_mib("VmHWM") >= before + 50
