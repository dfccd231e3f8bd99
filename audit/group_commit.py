"""Group commit: many threads append, one thread commits, and the deadline holds.

A batch is whatever arrived until its turn came, after the previous commit and those of other processes: no timer, and nothing
to tune. The committing thread, and not
the caller, waits for the log's lock and for the disk, so a caller is released at the deadline even when the disk
hangs. An entry that still waited then is withdrawn and will never be written; one already being written may yet
become durable, unacknowledged, and appending it again gives its place.

What was refused is counted, in memory and in the gap journal, and the next batch that gets through begins with a gap entry
that says so; one more for each process that died with its count unwritten.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from audit.committer import Appendable, Committer, Outcome
from audit.entry import format_time
from audit.errors import AppendError, AppendTimeoutError, AuditError, LogClosedError, LogOverloadedError
from audit.gap_journal import GapJournal, Leftover, NotedGap

log = logging.getLogger("bedside.audit.commit")

# The bar: fail closed within a quarter of a second.
DEFAULT_DEADLINE_S = 0.25
# At 2,000 entries/s this is half a second of arrears, twice the deadline: whoever queued behind it would time out.
DEFAULT_MAX_WAITING = 1_024
# Bounds the time one batch holds the lock; 256 entries of 2 KB commit in some 20 ms.
MAX_BATCH = 256
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an append may wait, and how many may."""

    deadline_s: float
    max_waiting: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries refused since `since`, and why the first of them was."""

    since: datetime
    reason: str
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class _Request:
    items: tuple[Appendable, ...]
    future: Future[list[Outcome]]


class GroupCommit:
    """The queue before a committer, and the thread that empties it; belongs to the process that made it."""

    def __init__(
        self,
        committer: Committer,
        limits: Limits,
        clock: Callable[[], datetime],
        gap_entry: Callable[[NotedGap], Appendable],
        journal: GapJournal,
        left: Sequence[Leftover] = (),
    ) -> None:
        self._committer = committer
        self._journal = journal
        self._left = tuple(left)
        self._limits = limits
        self._clock = clock
        self._gap_entry = gap_entry
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._state = threading.Lock()  # guards what follows
        self._gap: Gap | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._pid = os.getpid()

    def shed_if_full(self, count: int) -> None:
        """Returns while there is room in the queue: under overload no work is to be done for what is shed anyway.

        Raises:
            LogOverloadedError: there is none; the `count` entries are noted as refused.
        """
        try:
            self._check_room()
        except LogOverloadedError as exc:
            self._note_refusal(exc, count)
            raise

    def submit(self, items: tuple[Appendable, ...]) -> list[Outcome]:
        """One outcome per item, when the batch they are in is durable.

        Raises:
            AppendError: none of them was acknowledged.
        """
        self._start()
        try:
            return self._submit(items)
        except AppendError as exc:
            self._note_refusal(exc, len(items))
            raise

    def note_refusal(self, reason: str, count: int) -> None:
        """Counts entries that came to nothing before they could be submitted; the next gap entry tells of them too."""
        with self._state:
            if not self._closed and self._pid == os.getpid():
                self._count_refusal(reason, count)

    def close(self) -> bool:
        """Commits what waits and stops; later submissions raise LogClosedError.

        False: the disk hangs, and the committing thread with it. Nothing that it may yet write through was closed, and
        nothing may be: a descriptor's number goes to whatever is opened next.
        """
        with self._state:
            self._closed = True
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join(_CLOSE_TIMEOUT_S)
            if self._thread.is_alive():
                log.error("log left open: a commit hangs", extra={"waited_s": _CLOSE_TIMEOUT_S})
                return False
        self._journal.close(keep=self._gap is not None)
        for leftover in self._left:
            os.close(leftover.descriptor)
        return True

    def _start(self) -> None:
        """Starts the thread with the first append, not before: a server may fork after opening the log."""
        with self._state:
            if self._closed or self._pid != os.getpid():
                raise LogClosedError("log is closed, or was opened in another process")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit-committer", daemon=True)
                self._thread.start()

    def _check_room(self) -> None:
        if self._requests.qsize() >= self._limits.max_waiting:
            message = f"{self._limits.max_waiting} appends are waiting already"
            raise LogOverloadedError(message)

    def _submit(self, items: tuple[Appendable, ...]) -> list[Outcome]:
        self._check_room()
        future: Future[list[Outcome]] = Future()
        self._requests.put(_Request(items, future))
        try:
            return future.result(self._limits.deadline_s)
        except TimeoutError as exc:
            raise AppendTimeoutError(self._limits.deadline_s, withdrawn=future.cancel()) from exc

    def _run(self) -> None:
        """Commits batch after batch until `close` sends None."""
        more = True
        while more and (first := self._requests.get()) is not None:
            more = self._commit(_Gathering(first, self._requests))

    def _commit(self, gathering: "_Gathering") -> bool:
        """Commits a batch, and tells everybody in it; False when `close` asked to stop."""
        gap, left = None, self._left
        gaps: list[Appendable] = []

        def take() -> list[Appendable]:
            nonlocal gap
            items = gathering.items()
            if items:
                gap = self._gap
                noted = [*([] if gap is None else [_noted(gap)]), *(leftover.gap for leftover in left)]
                gaps.extend(map(self._gap_entry, noted))
            return [*gaps, *items]

        try:
            outcomes = self._committer.commit(take)[len(gaps) :]
        except Exception as exc:  # noqa: BLE001 - border: those who wait must learn of any failure, and the thread live on
            gathering.items()  # where it failed before our turn came
            for request in gathering.requests:
                request.future.set_exception(_as_append_error(exc))
            return gathering.more
        if not gathering.requests:
            return gathering.more
        if gap is not None:
            self._forget(gap)
        self._left = ()
        for leftover in left:
            leftover.forget()
        start = 0
        for request in gathering.requests:
            request.future.set_result(outcomes[start : start + len(request.items)])
            start += len(request.items)
        return gathering.more

    def _note_refusal(self, error: AppendError, count: int) -> None:
        reason = {AppendTimeoutError: "deadline", LogOverloadedError: "overload"}.get(type(error), "storage")
        with self._state:
            self._count_refusal(reason, count)

    def _count_refusal(self, reason: str, count: int) -> None:
        known = self._gap or Gap(self._clock(), reason, 0)
        self._gap = Gap(known.since, known.reason, known.unacknowledged + count)
        self._journal.note(_noted(self._gap))

    def _forget(self, written: Gap) -> None:
        """Takes off what the gap entry told; refusals since then stay for the next."""
        with self._state:
            rest = (self._gap.unacknowledged if self._gap else 0) - written.unacknowledged
            self._gap = Gap(written.since, written.reason, rest) if rest > 0 else None
            self._journal.note(None if self._gap is None else _noted(self._gap))


class _Gathering:
    """A batch that begins with a request, and takes what else waits when it is asked for its items first."""

    def __init__(self, first: _Request, waiting: queue.SimpleQueue[_Request | None]) -> None:
        self._waiting = waiting
        self._first: _Request | None = first
        self.requests: list[_Request] = []
        self.more = True  # False when `close` asked to stop

    def items(self) -> list[Appendable]:
        """The entries of all that waited, up to the limit, less what was withdrawn; from now on nothing can be."""
        request, self._first = self._first, None
        entries = 0
        while request is not None:
            if request.future.set_running_or_notify_cancel():
                self.requests.append(request)
                entries += len(request.items)
            request = self._next() if entries < MAX_BATCH else None
        return [item for request in self.requests for item in request.items]

    def _next(self) -> _Request | None:
        try:
            request = self._waiting.get_nowait()
        except queue.Empty:
            return None
        self.more = request is not None
        return request


def _noted(gap: Gap) -> NotedGap:
    return NotedGap(format_time(gap.since), gap.reason, gap.unacknowledged)


def _as_append_error(exc: Exception) -> AppendError:
    error = AppendError(f"not acknowledged: {exc}" if isinstance(exc, AuditError) else "not acknowledged")
    error.__cause__ = exc
    return error
