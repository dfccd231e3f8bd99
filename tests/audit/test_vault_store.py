"""What every vault store does; a further store is one more parameter of `open_store`."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import HoldError, StorageError
from audit.merkle import TreeSize
from audit.storage import StoredCheckpoint
from audit.storage.opening import PostgresqlPlace
from audit.storage.postgresql_schema import create_schema
from audit.storage.postgresql_url import load_database_url
from audit.storage.vault_postgresql import PostgresqlVaultStore
from audit.storage.vault_sqlite import SqliteVaultStore, create_vault
from audit.storage.vault_store import CustodyRequest, Hold, Rewrapped, VaultStore, WrappedKey

NOW, LATER = "2026-03-01T08:00:00.000000Z", "2026-03-01T09:00:00.000000Z"
EARLIER = "2026-03-01T07:00:00.000000Z"
WRAPPING = "wrap:00000001"
HOLD = Hold("case-1", b"\x01" * 32, EARLIER, None, "litigation")
REQUEST = CustodyRequest("ab" * 16, "erase", b"\x00body", "requested", NOW, (b"\x02" * 32, b"\x01" * 32))

OpenStore = Callable[[], VaultStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same vault each time, as another process would."""
    opened: list[VaultStore] = []
    open_it = (
        _sqlite(tmp_path) if request.param == "sqlite" else _postgresql(request.getfixturevalue("postgresql_place")())
    )

    def open_one() -> VaultStore:
        opened.append(open_it())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def _sqlite(folder: Path) -> OpenStore:
    create_vault(folder)
    return lambda: SqliteVaultStore(folder)


def _postgresql(place: PostgresqlPlace) -> OpenStore:
    url = load_database_url(place.database_url_file)
    create_schema(url, place.schema, StoredCheckpoint(TreeSize(0), b"note"))
    return lambda: PostgresqlVaultStore(lambda: url, place.schema)


@pytest.fixture
def store(open_store: OpenStore) -> VaultStore:
    return open_store()


def _keep(store: VaultStore, number: int, wrapping_key: str = WRAPPING) -> WrappedKey:
    return store.keep_key(bytes([number]) * 32, b"wrapped %d" % number, wrapping_key, NOW)


def test_vault_store_finds_a_key_by_its_lookup_and_by_its_ref(store: VaultStore, open_store: OpenStore) -> None:
    kept = _keep(store, 1)
    assert kept == WrappedKey(kept.key_ref, b"\x01" * 32, b"wrapped 1", WRAPPING, NOW)
    for reader in (store, open_store()):
        assert reader.key(b"\x01" * 32) == reader.key_at(kept.key_ref) == kept
        assert reader.key(b"\x02" * 32) is reader.key_at(kept.key_ref + 1) is None


def test_vault_store_keeps_the_first_key_of_a_subject(store: VaultStore, open_store: OpenStore) -> None:
    first = _keep(store, 1)
    assert open_store().keep_key(b"\x01" * 32, b"another", "wrap:00000002", LATER) == first
    assert store.key_at(first.key_ref) == first


def test_vault_store_many_threads_that_make_keys_at_once_get_one_for_each_subject(
    store: VaultStore, open_store: OpenStore
) -> None:
    """Of each subject's makers, some in the same store, some in another one."""
    stores, together = (store, open_store()), threading.Barrier(24)
    got: list[tuple[int, WrappedKey]] = []

    def make(thread: int) -> None:
        together.wait()
        for subject in range(10):
            lookup = bytes([subject]) * 32
            got.append((subject, stores[thread % 2].keep_key(lookup, b"by %d" % thread, WRAPPING, NOW)))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 240
    assert len({kept for _, kept in got}) == len({kept.key_ref for _, kept in got}) == 10
    for subject, kept in got:
        assert store.key(bytes([subject]) * 32) == kept


def test_vault_store_never_gives_a_ref_twice(store: VaultStore, open_store: OpenStore) -> None:
    assert store.newest_key_ref() == 0
    refs = [_keep(store, number).key_ref for number in range(3)]
    assert refs == sorted(set(refs))
    assert store.destroy_keys(refs, NOW) == tuple(refs)
    assert all(store.key_at(ref) is None for ref in refs)
    assert store.newest_key_ref() >= refs[-1]
    store.scrub()
    again = _keep(open_store(), 1)
    assert again.key_ref > refs[-1]


def test_vault_store_destroys_what_is_there_and_says_what_that_was(store: VaultStore) -> None:
    first, second, third = (_keep(store, number) for number in (1, 2, 3))
    assert store.destroy_keys([third.key_ref, first.key_ref, 99, first.key_ref], NOW) == (first.key_ref, third.key_ref)
    assert store.destroy_keys([first.key_ref], NOW) == ()
    assert store.key_at(second.key_ref) == second


def test_vault_store_destroys_nothing_while_a_hold_is_on_one_of_the_subjects(store: VaultStore) -> None:
    refs = [_keep(store, number).key_ref for number in (1, 2)]
    store.place_hold(HOLD)
    with pytest.raises(HoldError) as caught:
        store.destroy_keys(refs, NOW)
    assert caught.value.holds == ("case-1",)
    assert all(store.key_at(ref) for ref in refs)
    assert store.destroy_keys(refs[1:], NOW) == (refs[1],)
    assert store.release_hold("case-1") == HOLD
    assert store.destroy_keys(refs[:1], NOW) == (refs[0],)


def test_vault_store_a_hold_ends_at_its_time(store: VaultStore) -> None:
    ref = _keep(store, 1).key_ref
    store.place_hold(replace(HOLD, until=LATER))
    with pytest.raises(HoldError):
        store.destroy_keys([ref], NOW)
    assert store.destroy_keys([ref], LATER) == (ref,)


def test_vault_store_goes_through_the_keys_under_other_wrapping_keys(store: VaultStore) -> None:
    keys = [_keep(store, number, WRAPPING if number % 2 else "wrap:00000002") for number in range(6)]
    odd = [key for key in keys if key.wrapping_key == WRAPPING]
    assert store.keys_not_under("wrap:00000002") == odd
    assert store.keys_not_under("wrap:00000002", limit=2) == odd[:2]
    assert store.keys_not_under("wrap:00000002", after=odd[1].key_ref) == odd[2:]
    assert store.keys_not_under("") == keys


def test_vault_store_rewraps_what_is_as_it_was_and_leaves_the_rest(store: VaultStore) -> None:
    first, second, third = (_keep(store, number) for number in (1, 2, 3))
    store.destroy_keys([third.key_ref], NOW)
    replaced = store.replace_wrapped(
        [
            Rewrapped(first.key_ref, first.wrapped, b"new"),
            Rewrapped(second.key_ref, b"what it was long ago", b"new"),
            Rewrapped(third.key_ref, third.wrapped, b"new"),
        ],
        "wrap:00000002",
    )
    assert replaced == 1
    assert store.key_at(first.key_ref) == replace(first, wrapped=b"new", wrapping_key="wrap:00000002")
    assert store.key_at(second.key_ref) == second
    assert store.key_at(third.key_ref) is None


def test_vault_store_keeps_holds_by_name_and_finds_them_by_subject(store: VaultStore, open_store: OpenStore) -> None:
    other = Hold("case-2", HOLD.lookup, NOW, LATER, "inquiry")
    elsewhere = replace(other, hold="case-0", lookup=b"\x05" * 32)
    for hold in (HOLD, other, elsewhere):
        store.place_hold(hold)
    store.place_hold(HOLD)
    reader = open_store()
    assert reader.holds_on(HOLD.lookup) == [HOLD, other]
    assert reader.holds() == [elsewhere, HOLD, other]
    assert store.release_hold("case-2") == other
    assert store.release_hold("case-2") is None
    assert reader.holds() == [elsewhere, HOLD]


def test_vault_store_does_not_let_one_hold_take_anothers_name(store: VaultStore) -> None:
    store.place_hold(HOLD)
    with pytest.raises(StorageError, match="case-1: the name is taken"):
        store.place_hold(replace(HOLD, lookup=b"\x05" * 32))
    assert store.holds() == [HOLD]


def test_vault_store_keeps_requests(store: VaultStore, open_store: OpenStore) -> None:
    second = replace(REQUEST, id="aa" * 16, state="approved", created=LATER, subjects=())
    store.put_request(second)
    store.put_request(REQUEST)
    with pytest.raises(StorageError, match="exists already"):
        store.put_request(replace(REQUEST, body=b"other", subjects=(b"\x09" * 32,)))
    reader = open_store()
    assert reader.request(REQUEST.id) == REQUEST
    assert reader.request("00" * 16) is None
    assert reader.requests() == [REQUEST, second]
    assert reader.requests("approved") == [second]


def test_vault_store_a_request_changes_state_only_from_the_state_it_is_in(
    store: VaultStore, open_store: OpenStore
) -> None:
    store.put_request(REQUEST)
    other = open_store()
    assert store.set_request_state(REQUEST.id, "requested", "approved", b"signed")
    assert not other.set_request_state(REQUEST.id, "requested", "withdrawn", b"late")
    assert other.request(REQUEST.id) == replace(REQUEST, state="approved", body=b"signed")
    assert other.set_request_state(REQUEST.id, "approved", "done")
    assert store.request(REQUEST.id) == replace(REQUEST, state="done", body=b"signed")
    assert not store.set_request_state("00" * 16, "requested", "done")


def test_vault_store_forgets_whom_a_request_was_about(store: VaultStore) -> None:
    store.put_request(REQUEST)
    store.put_request(replace(REQUEST, id="cd" * 16))
    store.forget_subjects(REQUEST.id)
    assert store.request(REQUEST.id) == replace(REQUEST, subjects=())
    assert store.request("cd" * 16) == replace(REQUEST, id="cd" * 16)


def test_vault_store_forgets_some_of_whom_a_request_was_about_with_its_change(store: VaultStore) -> None:
    subjects = tuple(bytes([number]) * 32 for number in (3, 1, 2))
    other = replace(REQUEST, id="cd" * 16, subjects=subjects)
    store.put_request(replace(REQUEST, subjects=subjects))
    store.put_request(other)
    assert not store.set_request_state(REQUEST.id, "approved", "done", b"late", subjects)
    assert store.request(REQUEST.id) == replace(REQUEST, subjects=subjects)
    assert store.set_request_state(REQUEST.id, REQUEST.state, REQUEST.state, b"less", subjects[1:2])
    assert store.request(REQUEST.id) == replace(REQUEST, body=b"less", subjects=(subjects[0], subjects[2]))
    assert store.request(other.id) == other
