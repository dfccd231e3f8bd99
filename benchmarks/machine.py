"""The machine a figure was taken on, without anything that names it: processor, cores, versions, what a sync to disk costs."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("bedside", "flask", "granian", "msgspec", "onnxruntime", "apsw")


def describe() -> dict[str, str]:
    """What to know of the machine and the software, in words."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "load": f"{os.getloadavg()[0]:.1f} processes wanted to run in the minute before, on {os.cpu_count()} cores",
    }


def sync_ms(folder: Path, repeats: int = 50) -> float:
    """The median time of an fsync of 4 KiB in `folder`: no durable log can answer in less."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(repeats):
            os.write(file.fileno(), b"x" * 4096)
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"unknown, {sys.platform}"
