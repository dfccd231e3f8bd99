from audit.entry import format_entry
from audit.entry_custody import ErasureEntry
from audit.entry_operations import GapEntry
from audit.log import AuditLog, read_entries
from audit.storage import Anchor
from audit.summary import summarise_log

DIGEST = "5a" * 32
TIME = "2026-03-01T08:00:00.000000Z"


def _common(log: AuditLog) -> dict[str, str]:
    return {"id": log.new_entry_id(), "time": TIME, "clock": "stepped-back", "tenant": "north"}


def test_summary_counts_what_entries_say(log, make_entry) -> None:
    for changes in ({}, {"status": "abstained"}, {"status": "abstained", "model": None}):
        log.append(*make_entry(log, **changes))
    log.record(GapEntry(**_common(log), since=TIME, until=TIME, reason="storage", unacknowledged=7))
    erased = {"requested_by": DIGEST, "approved_by": DIGEST, "approval": DIGEST, "erased": DIGEST}
    log.record(ErasureEntry(**_common(log), reason="gdpr-17", subjects=2, payloads=5, retention="ended", **erased))
    anchors = [Anchor(size, "cosignature", "w1", b"", TIME) for size in (1, 3)]  # type: ignore[arg-type]
    found = summarise_log(read_entries(log.storage), log.storage.newest_checkpoint(), anchors)
    assert (found.size, found.first_time, found.last_time) == (5, TIME, TIME)
    assert found.types == {"decision/v1": 3, "erasure/v1": 1, "gap/v1": 1}
    assert found.decisions == {"abstained": 2, "ok": 1}
    assert found.models == {"prevent_cvd@1.0.0": 2}
    assert found.clocks == {"synchronised": 3, "stepped-back": 2}
    assert (found.unacknowledged, found.subjects_erased, found.payloads_erased) == (7, 2, 5)
    assert found.anchors == (f"cosignature of w1: size 3, {TIME}",)
    assert found.head.encode() == log.checkpoint()


def test_summary_of_a_snapshot_leaves_out_what_came_after(log, make_entry) -> None:
    log.append(*make_entry(log))
    newest = log.storage.newest_checkpoint()
    log.append(*make_entry(log))
    assert summarise_log(read_entries(log.storage), newest, ()).types == {"decision/v1": 1}


def test_summary_of_an_empty_log(log) -> None:
    found = summarise_log([], log.storage.newest_checkpoint(), ())
    assert (found.size, found.first_time, found.types) == (0, None, {})


def test_summary_counts_kinds_of_a_later_release(log) -> None:
    entry = format_entry(GapEntry(**_common(log), since=TIME, until=TIME, reason="x", unacknowledged=1))
    log.append(entry)
    later = entry.replace(b"gap/v1", b"gap/v9")
    found = summarise_log([later], log.storage.newest_checkpoint(), ())
    assert (found.types, found.unacknowledged) == ({"gap/v9": 1}, 0)
