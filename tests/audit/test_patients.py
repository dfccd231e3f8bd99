import os

from audit.entry import FeedbackEntry, Requester, Service, format_entry
from audit.patients import entries_about
from audit.vault import SubjectKey

TIME = "2026-03-01T08:00:00.000000Z"


def _key(ref: int = 1) -> SubjectKey:
    return SubjectKey(ref, os.urandom(32), "wrap:00000000")


def _feedback(entry_id: str, decision: str) -> bytes:
    return format_entry(
        FeedbackEntry(
            id=entry_id,
            time=TIME,
            clock="synchronised",
            tenant="north",
            service=Service("prevent-cvd", "1"),
            requester=Requester(None, None, None, None),
            decision=decision,
            card="0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1",
            outcome="accepted",
            accepted_suggestions=(),
            override_reason=None,
            outcome_time=None,
            payload=None,
        )
    )


def test_patients_entries_are_found_with_the_feedback_on_them(decision) -> None:
    ours, theirs = _key(), _key()
    ids = [f"{number:032x}" for number in range(6)]
    entries = [
        format_entry(decision(ids[0], patient=ours.commitment(ids[0]))),
        format_entry(decision(ids[1], patient=theirs.commitment(ids[1]))),
        _feedback(ids[2], ids[0]),
        _feedback(ids[3], ids[1]),
        format_entry(decision(ids[4], patient=ours.commitment(ids[4]), payload=None)),
        format_entry(decision(ids[5], patient=ours.commitment(ids[0]))),  # a commitment of another entry
    ]
    found = list(entries_about(entries, ours))
    assert [(one.index, one.header.type) for one in found] == [
        (0, "decision/v1"),
        (2, "feedback/v1"),
        (4, "decision/v1"),
    ]
    assert [one.entry for one in found] == [entries[0], entries[2], entries[4]]
    assert [one.index for one in entries_about(entries, _key())] == []
