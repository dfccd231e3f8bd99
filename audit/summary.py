"""What is in a log, counted in one pass of constant memory: the body of `bedside audit report`. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.entry import EntryHeader, parse_entry, read_header
from audit.entry_custody import ErasureEntry
from audit.entry_operations import GapEntry
from audit.errors import EntryError
from audit.storage import Anchor, StoredCheckpoint


@dataclass(frozen=True, slots=True)
class LogSummary:
    """Counts by what entries say, what is known to be missing, and the head: the whole note, to be kept with the report.

    Attributes:
        unacknowledged: calls that got no advice, as the gap entries tell.
        anchors: the newest head that each outsider has, in words.
    """

    size: int
    first_time: str | None
    last_time: str | None
    types: dict[str, int]
    decisions: dict[str, int]
    models: dict[str, int]
    feedback: dict[str, int]
    looks: dict[str, int]
    clocks: dict[str, int]
    unacknowledged: int
    subjects_erased: int
    payloads_erased: int
    anchors: tuple[str, ...]
    head: str


def summarise_log(entries: Iterable[bytes], newest: StoredCheckpoint, anchors: Sequence[Anchor]) -> LogSummary:
    """The summary of the first `newest.size` entries; entries of kinds unknown to this release are counted by type.

    Raises:
        EntryError: an entry's header can't be read.
    """
    counters: dict[str, Counter[str]] = {
        name: Counter() for name in ("type", "decision", "model", "feedback", "access", "clock")
    }
    missing = Counter[str]()
    times: list[str] = []
    for _, data in zip(range(newest.size), entries, strict=False):
        header = read_header(data)
        times = [times[0] if times else header.time, header.time]
        counters["type"][header.type] += 1
        counters["clock"][header.clock] += 1
        _count_result(header, counters)
        if header.type in ("gap/v1", "erasure/v1"):
            _count_missing(data, missing)
    return LogSummary(
        size=newest.size,
        first_time=times[0] if times else None,
        last_time=times[1] if times else None,
        types=_sorted(counters["type"]),
        decisions=_sorted(counters["decision"]),
        models=_sorted(counters["model"]),
        feedback=_sorted(counters["feedback"]),
        looks=_sorted(counters["access"]),
        clocks=_sorted(counters["clock"]),
        unacknowledged=missing["unacknowledged"],
        subjects_erased=missing["subjects"],
        payloads_erased=missing["payloads"],
        anchors=_newest_of_each(anchors),
        head=newest.note.decode("utf-8", "backslashreplace"),
    )


def _count_result(header: EntryHeader, counters: dict[str, Counter[str]]) -> None:
    kind = header.type.partition("/")[0]
    if kind in ("decision", "feedback", "access"):
        counters[kind][header.result] += 1
    if kind == "decision" and header.model_version:
        counters["model"][header.model_version] += 1


def _count_missing(data: bytes, missing: Counter[str]) -> None:
    try:
        entry = parse_entry(data)
    except EntryError:  # of a later release
        return
    match entry:
        case GapEntry():
            missing["unacknowledged"] += entry.unacknowledged
        case ErasureEntry():
            missing["subjects"] += entry.subjects
            missing["payloads"] += entry.payloads
        case _:
            pass


def _newest_of_each(anchors: Sequence[Anchor]) -> tuple[str, ...]:
    newest = {(anchor.kind, anchor.authority): anchor for anchor in anchors}  # in order of size: the last one wins
    return tuple(f"{one.kind} of {one.authority}: size {one.size}, {one.time}" for _, one in sorted(newest.items()))


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
