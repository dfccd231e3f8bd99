"""`python -m benchmarks.memory`: what one serving process holds with every registered model loaded, step by step.

A fresh process imports what a worker imports, then loads one model after the other and has each answer all of its examples, as
memory that a first answer takes is a worker's memory too. Resident memory counts what the process shares with its siblings
(library code), so n workers take less than n times this. The bar is `LARGEST_MIB` at the peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a fresh process must not have imported it before it looks at its memory
    from model_artifacts.runtime import ReleasedModel

LARGEST_MIB = 250
"""Per worker, at the peak: four workers and the database fit a machine of 2 GiB."""
_INSIDE = "--inside"


def measure() -> dict[str, float]:
    """Resident MiB of a fresh process after each step, and "peak"; seconds.

    Raises:
        subprocess.CalledProcessError: a model could not be loaded or failed on an example.
    """
    command = [sys.executable, "-m", "benchmarks.memory", _INSIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _inside() -> dict[str, float]:
    """The steps, in this process, which must be fresh."""
    figures = {"python": resident_mib("VmRSS")}
    import bedside.wiring  # noqa: F401 - what a worker has imported before it loads a model
    from model_artifacts.registry import model_packages
    from model_artifacts.runtime import ReleasedModel

    figures["libraries"] = resident_mib("VmRSS")
    kept = []
    for name, package in model_packages().items():
        kept.append(ReleasedModel.load(package))
        _answer_all(kept[-1])
        figures[name] = resident_mib("VmRSS")
    return figures | {"peak": resident_mib("VmHWM")}


def _answer_all(model: ReleasedModel) -> None:
    from model_artifacts.examples import example_record

    for case in sorted(path for path in (model.code / "examples").iterdir() if path.is_dir()):
        expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
        record = example_record(expected["patient"], json.loads((case / "record.json").read_text(encoding="utf-8")))
        model.assess(record, datetime.fromisoformat(expected["as_of"]))


def resident_mib(field: str) -> float:
    """A field of /proc/self/status in MiB: VmRSS is what is resident now, VmHWM the most that ever was."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(f"{field}:"))
    return round(int(line.split()[1]) / 1024, 1)


def main() -> int:
    """Prints the steps; 1 if the peak is above the bar."""
    if _INSIDE in sys.argv[1:]:
        print(json.dumps(_inside()))
        return 0
    figures = measure()
    for step, mib in figures.items():
        print(f"{step:20} {mib:7.1f} MiB")
    print(f"{'bar':20} {LARGEST_MIB:7.1f} MiB")
    return int(figures["peak"] > LARGEST_MIB)


if __name__ == "__main__":
    sys.exit(main())
