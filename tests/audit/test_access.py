import pytest

from audit.access import Look, Visitor, query_bytes, record_access
from audit.commitments import keyed_digest
from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.errors import AppendError, EntryError
from audit.log import AuditLog

VISITOR = Visitor("alice", "privacy-officer", "complaint")


def _recorded(log: AuditLog, index: int) -> AccessEntry:
    entry = parse_entry(log.entry(index))  # type: ignore[arg-type]
    assert isinstance(entry, AccessEntry)
    return entry


def test_access_is_an_entry_without_names(log, clock) -> None:
    receipt = record_access(log, VISITOR, Look("decrypt", 1, index=7), clock())
    entry = _recorded(log, receipt.index)
    said = (entry.role, entry.action, entry.index, entry.reason, entry.results)
    assert said == ("privacy-officer", "decrypt", 7, "complaint", 1)
    assert entry.actor == keyed_digest(log.keys.index_key, "operator", b"alice")
    assert b"alice" not in log.entry(receipt.index)


def test_access_keeps_a_keyed_digest_of_what_was_asked(log, clock) -> None:
    asked = [{"status": "overridden"}, {"status": "overridden"}, {"status": "accepted"}]
    found = [_recorded(log, record_access(log, VISITOR, Look("search", 3, asked=one), clock()).index) for one in asked]
    assert found[0].filter == found[1].filter != found[2].filter is not None


def test_access_takes_a_commitment_made_in_the_entry_to_be_written(log, clock) -> None:
    key, entry_id = log.vault.key_for("patient:p-1"), log.new_entry_id()
    committed = key.commit(entry_id, "query", query_bytes({"patient": "p-1"}))
    receipt = record_access(log, VISITOR, Look("search", 3, commitment=committed), clock(), entry_id)
    entry = _recorded(log, receipt.index)
    assert (entry.id, entry.filter) == (entry_id, committed)


def test_access_for_a_reason_in_free_text_is_refused(log, clock) -> None:
    with pytest.raises(EntryError):
        record_access(log, Visitor("alice", "auditor", "Mrs Smith complained"), Look("read", 1), clock())


def test_access_that_cannot_be_recorded_is_refused(log, clock) -> None:
    log.close()
    with pytest.raises(AppendError):
        record_access(log, VISITOR, Look("read", 1), clock())
