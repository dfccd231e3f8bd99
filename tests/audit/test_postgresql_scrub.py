"""What is left in the server's files of what was erased."""

from collections.abc import Callable, Iterator

import pytest

from audit.entry import format_entry
from audit.errors import StorageError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.storage import Erasure
from audit.storage.opening import read_place
from audit.storage.postgresql_scrub import scrub_tables
from audit.vault import patient_subject
from benchmarks.drills.postgresql_server import PostgresqlServer

pytestmark = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
PLAINTEXT = b"canary plaintext " * 90


def _holding(server: PostgresqlServer, wanted: bytes) -> list[str]:
    """The server's files that hold any of four pieces of these bytes: the write-ahead log cuts them where a page ends."""
    pieces = [wanted[start : start + 24] for start in range(0, len(wanted) - 24, max(1, (len(wanted) - 24) // 4))]
    found = []
    for path in server.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if any(piece in content for piece in pieces):
                found.append(str(path.relative_to(server.data)))
    return sorted(found)


@pytest.fixture
def erased(make_log, open_log, decision, owner_session) -> tuple[AuditLog, dict[str, bytes]]:
    """A log that forgot the patient of its first entry and kept that of its second, and the bytes of both."""
    config, _ = make_log()
    log = open_log(config)
    for name in ("gone", "kept"):
        entry_id = log.new_entry_id()
        sealed = log.seal(entry_id, "decision/v1", PLAINTEXT, log.vault.key_for(patient_subject(name)))
        log.append(format_entry(decision(entry_id, payload=sealed.reference)), sealed)
    place = read_place(config.directory)
    assert place is not None
    session = owner_session(place.schema)
    found = {}
    for index, name in enumerate(("gone", "kept")):
        payload = log.storage.payload(LeafIndex(index))
        key = log.vault.store.key(log.vault.lookup(patient_subject(name)))
        assert payload is not None
        assert payload.sealed is not None
        assert key is not None
        found |= {f"{name} payload": payload.sealed[20:], f"{name} key": key.wrapped, f"{name} lookup": key.lookup}
        found[f"{name} ref"] = payload.key_ref
    session.script("ANALYZE")
    with log.storage.exclusive() as transaction:
        assert transaction.erase(Erasure("ab" * 16, b"salt"), key_refs=[found["gone ref"]]) == (0,)
    log.vault.store.destroy_keys([found["gone ref"]], "2026")
    session.script("CHECKPOINT")
    return log, {name: value for name, value in found.items() if isinstance(value, bytes)}


def test_postgresql_scrub_leaves_nothing_of_what_was_erased(erased, postgresql) -> None:
    log, found = erased
    postgresql.administer("CHECKPOINT")  # what is only in memory would not be found
    before = {name: _holding(postgresql, value) for name, value in found.items()}
    assert all(before.values()), before
    log.storage.scrub()
    log.vault.store.scrub()
    after = {name: _holding(postgresql, value) for name, value in found.items()}
    assert {name: files for name, files in after.items() if name.startswith("gone")} == {
        "gone payload": [], "gone key": [], "gone lookup": [],
    }  # fmt: skip
    assert all(files for name, files in after.items() if name.startswith("kept"))
    assert _holding(postgresql, PLAINTEXT[:100]) == []
    assert log.payload(LeafIndex(1)) == PLAINTEXT


@pytest.fixture
def slot(postgresql) -> Iterator[Callable[[], object]]:
    """A slot for a standby that never comes, from before anything is logged; gives what drops it."""
    postgresql.administer("SELECT pg_create_physical_replication_slot('standby', true)")
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
    yield lambda: postgresql.administer(drop)
    postgresql.administer(drop)


def test_postgresql_scrub_says_where_old_segments_are_kept(slot, erased, postgresql, monkeypatch) -> None:
    log, found = erased
    monkeypatch.setattr("audit.storage.postgresql_scrub._PAUSE_S", 0.01)
    with pytest.raises(StorageError, match="keeps old write-ahead log"):
        log.storage.scrub()
    assert _holding(postgresql, found["gone payload"])
    slot()
    log.storage.scrub()
    assert _holding(postgresql, found["gone payload"]) == []


def test_postgresql_scrub_needs_its_rights(erased, postgresql, owner_session) -> None:
    log, _ = erased
    place = read_place(log.config.directory)
    assert place is not None
    postgresql.administer("REVOKE pg_checkpoint FROM log_owner")
    try:
        with pytest.raises(StorageError, match="no right to"):
            scrub_tables(owner_session(place.schema), ("payloads",))
    finally:
        postgresql.administer("GRANT pg_checkpoint TO log_owner")
