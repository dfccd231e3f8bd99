"""Versions that run beside those in force: each call is decided once more with them, recorded, and shown to nobody.

They run after the answer is made, in one thread of the worker process, so that none of their time is the clinician's and none
of their failures reaches an answer. At most `WAITING` runs wait; what comes while so many do is left out, which the operations
log says: a shadow that can't keep up is seen there, and never by a caller. A process that ends finishes what it can in a few
seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from model_artifacts.runtime import ReleasedModel

log = logging.getLogger("bedside.candidates")

WAITING = 64  # each holds one patient's record, a few MB at most
STOP_WITHIN_S = 5.0
LOOK_EVERY_S = 0.1  # whether the process ends


class Candidates(Protocol):
    """Versions in shadow, by the id of their model."""

    def run(self, model_id: str, work: Callable[[ReleasedModel], None]) -> None:
        """Has `work` done with the version of this model that runs in shadow, if there is one; never waits, never raises."""
        ...


class NoCandidates:
    """Nothing runs in shadow."""

    def run(self, model_id: str, work: Callable[[ReleasedModel], None]) -> None:
        """See `Candidates.run`."""


class CandidateRuns:
    """The versions in shadow of one worker process. Must be made in the process that uses it, and closed before its logs."""

    def __init__(self, models: Mapping[str, ReleasedModel]) -> None:
        self._models = dict(models)
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="candidates", daemon=True)

    def start(self) -> None:
        """Begins to run them."""
        self._thread.start()

    def run(self, model_id: str, work: Callable[[ReleasedModel], None]) -> None:
        """See `Candidates.run`."""
        candidate = self._models.get(model_id)
        if candidate is None or self._stopped.is_set():
            return
        try:
            self._queue.put_nowait(partial(work, candidate))
        except queue.Full:
            log.warning("shadow run left out", extra={"model": model_id, "why": f"{WAITING} are waiting"})

    def close(self) -> None:
        """Takes no more, and finishes what waits, within `STOP_WITHIN_S`."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)
        if self._thread.is_alive():
            log.warning("shadow runs left out", extra={"why": "the process ends"})

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as exc:  # noqa: BLE001 - border: a thread that ends would observe nothing more, unseen
                log.error("shadow run failed", extra={"error": type(exc).__name__})

    def _next(self) -> Callable[[], None] | None:
        """The next one to do; None when the process ends and none waits."""
        while not (self._stopped.is_set() and self._queue.empty()):
            try:
                return self._queue.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue
        return None
