"""Where one call's time goes, in one process: the steps of `cds_service.pipeline.answer`, each with a watch around it.

The pipeline runs as it is; only the names it calls are replaced by the same functions with a watch, while this measures. Times
are of the processor, so that neighbours on a shared machine don't count; what waits for the disk is told apart.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.entry import DecisionEntry, parse_entry
from audit.merkle import LeafIndex
from benchmarks.charts import call_body
from benchmarks.desks import caller_of, only_book
from cds_service import pipeline
from cds_service.desk import Desk
from cds_service.response import RECEIPT_KEY
from cds_service.services import CdsService
from model_artifacts.inputs import ModelInputs

STEPS = {
    "parse": "parse_hook_request",
    "gather": "gather",
    "present": "present",
    "append": "record_decision",
    "respond": "response_bytes",
}
"""Stage to the pipeline's name for the step."""

STAGES = ("parse", "gather", "extract", "assess", "explain", "present", "append", "respond")


class Laps:
    """Nanoseconds by stage, one list entry per call."""

    def __init__(self) -> None:
        self.by_stage: dict[str, list[int]] = defaultdict(list)

    def watch(self, stage: str, step: Callable[..., Any]) -> Callable[..., Any]:
        """`step`, with the processor time of each call noted under `stage`."""

        def watched(*arguments: Any, **named: Any) -> Any:
            begin = time.process_time_ns()
            try:
                return step(*arguments, **named)
            finally:
                self.by_stage[stage].append(time.process_time_ns() - begin)

        return watched


class WatchedInputs:
    """A model's inputs with a watch around `extract`."""

    def __init__(self, inputs: Any, laps: Laps) -> None:
        self.queries = inputs.queries
        self.extract: Callable[..., ModelInputs] = laps.watch("extract", inputs.extract)


def stage_times(desk: Desk, service: CdsService, observations: int, repeats: int) -> dict[str, float]:
    """Median microseconds of processor time by stage; "whole" is the whole call, "elapsed" its time by the clock."""
    body = call_body(service, observations, datetime.now(UTC) - timedelta(hours=1))
    laps, caller = Laps(), caller_of(desk)
    elapsed = []
    with _watched(service, laps) as watched:
        for _ in range(5):
            _require_answered(pipeline.answer(body, watched, caller, desk), desk)
        laps.by_stage.clear()
        gc.collect()
        gc.freeze()
        whole = laps.watch("whole", pipeline.answer)
        for _ in range(repeats):
            begin = time.perf_counter_ns()
            whole(body, watched, caller, desk)
            elapsed.append(time.perf_counter_ns() - begin)
        gc.unfreeze()
    median = {stage: statistics.median(times) / 1e3 for stage, times in laps.by_stage.items()}
    median["assess"] = median.pop("assess and explain") - median["extract"] - median["explain"]
    return {**{stage: round(value, 1) for stage, value in median.items()}, "elapsed": statistics.median(elapsed) / 1e3}


def _require_answered(given: bytes, desk: Desk) -> None:
    """Returns if the model spoke: an abstention is cheaper and would flatter."""
    index = json.loads(given)["extension"][RECEIPT_KEY]["index"]
    entry = parse_entry(only_book(desk).log.entry(LeafIndex(index)))
    if not isinstance(entry, DecisionEntry) or entry.status != "answered":
        raise RuntimeError("the benchmark's patient: expected an answer of the model, got none")


@contextmanager
def _watched(service: CdsService, laps: Laps) -> Iterator[CdsService]:
    names = {"assess and explain": "_judge", **STEPS}
    kept = {name: getattr(pipeline, name) for name in names.values()}
    model = service.model
    watched = replace(model, inputs=WatchedInputs(model.inputs, laps), interpret=laps.watch("explain", model.interpret))
    for stage, name in names.items():
        setattr(pipeline, name, laps.watch(stage, kept[name]))
    try:
        yield replace(service, model=watched)
    finally:
        for name, step in kept.items():
            setattr(pipeline, name, step)
