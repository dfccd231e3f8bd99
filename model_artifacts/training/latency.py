"""How long the released graph takes for one patient, with its explanation and without: one thread, warm, one process.

Owns the section `latency` of `metrics.json`. Sessions are opened as serving opens them (`runtime.py`). The prediction alone
is the same graph cut down to its output `probability`: what the explanation costs is the difference. The host matters as much
as the graph, so what it ran on is said, and how busy that was: beside the time that passed stands the processor's time, which
a neighbour's work doesn't lengthen as much.
"""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import onnxruntime

Rows = Mapping[str, npt.NDArray[Any]]

WARM_UP = 30
RUNS = 1000


def latency(graph: Path, rows: Rows, runs: int = RUNS) -> dict[str, Any]:
    """The section: p50 and p99 in ms over `runs` calls of one row; `rows` are the graph's inputs, n rows each."""
    whole = graph.read_bytes()
    return {
        "how": f"{runs} calls of one row each after {WARM_UP} to warm up, one after the other in one process; prediction is "
        "the same graph cut to its answer",
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "load_average": os.getloadavg()[0],
        "prediction_and_explanation": timed(open_session(whole), rows, runs),
        "prediction": timed(open_session(cut(whole)), rows, runs),
    }


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread, as serving has it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def cut(graph: bytes, output: str = "probability") -> bytes:
    """The part of the graph that `output` needs; inputs that it doesn't need stay declared."""
    model = onnx.load_from_string(graph)
    inputs = [item.name for item in model.graph.input]
    part: bytes = onnx.utils.Extractor(model).extract_model(inputs, [output]).SerializeToString()
    return part


def timed(session: onnxruntime.InferenceSession, rows: Rows, runs: int) -> dict[str, float]:
    """`p50_ms` and `p99_ms` of single rows, as time passed and as the processor's time."""
    total = len(next(iter(rows.values())))
    names = [item.name for item in session.get_inputs()]
    feeds = [{name: rows[name][row : row + 1] for name in names} for row in range(min(total, runs))]
    for feed in feeds[:WARM_UP]:
        session.run(None, feed)
    passed, spent = [], []
    for run in range(runs):
        began, began_processor = time.perf_counter(), time.process_time()
        session.run(None, feeds[run % len(feeds)])
        spent.append(1000 * (time.process_time() - began_processor))
        passed.append(1000 * (time.perf_counter() - began))
    return {
        f"p{q}{of}_ms": float(np.percentile(times, q))
        for of, times in (("", passed), ("_processor", spent))
        for q in (50, 99)
    }
