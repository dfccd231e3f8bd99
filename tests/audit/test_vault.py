import hashlib
import hmac
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from audit.commitments import IndexKey
from audit.errors import ErasedError, NoSuchEntryError, PayloadError, StorageError
from audit.keys import Ed25519Signer, KeyRing
from audit.log import AuditLog, LogConfig
from audit.merkle import LeafIndex
from audit.payloads import PayloadContext, open_payload
from audit.storage.vault_sqlite import SqliteVaultStore, create_vault
from audit.storage.vault_store import Rewrapped, WrappedKey
from audit.vault import SubjectKey, Vault, decision_subject, patient_subject
from audit.wrapping import FileWrapper, KeyWrapper, OverlappingWrapper

ROOT = Path(__file__).parent.parent.parent
KEY_MAKER = Path(__file__).parent / "key_maker.py"
NOW = "2026-03-01T08:00:00.000000Z"
MOMENT = datetime(2026, 3, 1, 8, tzinfo=UTC)
OLD, NEW = FileWrapper(b"o" * 32, os.urandom), FileWrapper(b"n" * 32, os.urandom)
KEY = SubjectKey(1, bytes(range(32)), "wrap:00000001")
ENTRY_1, ENTRY_2 = "00" * 16, "01" * 16

OpenVault = Callable[..., Vault]
StartMaker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def open_vault(tmp_path: Path) -> Iterator[OpenVault]:
    """Opens the same vault each time: open_vault(wrapper=OLD, index_key=…, tenant=…)."""
    opened: list[Vault] = []
    create_vault(tmp_path)

    def open_one(
        wrapper: KeyWrapper = OLD, index_key: bytes = b"i" * 32, tenant: str = "north", wait_s: float = 10.0
    ) -> Vault:
        ring = KeyRing((Ed25519Signer("log.example", b"s" * 32),), IndexKey(index_key), wrapper)
        store = SqliteVaultStore(tmp_path, wait_s=wait_s)
        opened.append(Vault(store, lambda: ring, tenant, lambda: MOMENT, os.urandom))
        return opened[-1]

    yield open_one
    for vault in opened:
        vault.close()


@pytest.fixture
def vault(open_vault: OpenVault) -> Vault:
    return open_vault()


@pytest.fixture
def start_maker() -> Iterator[StartMaker]:
    """Starts `key_maker`, which then waits for a line."""
    started: list[subprocess.Popen[bytes]] = []

    def start(directory: Path, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(KEY_MAKER), str(directory), *(str(one) for one in arguments)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, env={"PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield start
    for maker in started:
        maker.kill()
        maker.wait()
        for stream in (maker.stdin, maker.stdout):
            assert stream is not None
            stream.close()


def _line(maker: subprocess.Popen[bytes]) -> list[str]:
    assert maker.stdout is not None
    return maker.stdout.readline().decode().split()


def _go(maker: subprocess.Popen[bytes]) -> None:
    assert maker.stdin is not None
    maker.stdin.write(b"\n")
    maker.stdin.flush()


def test_vault_makes_a_key_once_and_finds_it_by_subject_and_by_ref(vault: Vault, open_vault: OpenVault) -> None:
    made = vault.key_for(patient_subject("p1"))
    assert len(made.key) == 32
    for other in (vault, open_vault()):
        assert other.key_for("patient:p1") == other.find("patient:p1") == other.key_at(made.ref) == made
    assert vault.key_for(patient_subject("p2")).key != made.key
    assert vault.find(patient_subject("p3")) is None


def test_vault_tells_a_decision_from_a_patient_of_the_same_id(vault: Vault) -> None:
    assert vault.key_for(decision_subject("ab")) != vault.key_for(patient_subject("ab"))


def test_vault_lookup_is_the_documented_hmac(vault: Vault) -> None:
    expected = hmac.new(b"i" * 32, b"subject\0patient:p1", hashlib.sha256).digest()
    assert vault.lookup(patient_subject("p1")) == expected
    made = vault.key_for(patient_subject("p1"))
    stored = vault.store.key(expected)
    assert stored is not None
    assert (stored.key_ref, stored.wrapping_key, stored.created) == (made.ref, OLD.key_id, NOW)


def test_vault_no_file_holds_a_key_a_lookup_of_another_index_key_or_an_identifier(vault: Vault, tmp_path: Path) -> None:
    keys = [vault.key_for(patient_subject(f"patient-{number}")) for number in range(50)]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert vault.lookup(patient_subject("patient-7")) in content
    for key in keys:
        for start in range(0, 32, 8):
            assert key.key[start : start + 8] not in content
        assert key.key.hex().encode() not in content
    assert b"patient-" not in content


def test_vault_says_nothing_of_a_key_when_it_is_printed(vault: Vault) -> None:
    key = vault.key_for(patient_subject("p1"))
    assert key.key.hex() not in repr(key)
    assert repr(key.key) not in repr(key)


def test_vault_a_destroyed_key_is_erased_and_the_next_one_is_another(vault: Vault, open_vault: OpenVault) -> None:
    first, other = vault.key_for(patient_subject("p1")), vault.key_for(patient_subject("p2"))
    vault.store.destroy_keys([first.ref], NOW)
    for reader in (vault, open_vault()):
        assert reader.find(patient_subject("p1")) is None
        with pytest.raises(ErasedError, match=f"erased: key {first.ref} was destroyed"):
            reader.key_at(first.ref)
    again = vault.key_for(patient_subject("p1"))
    assert again.ref not in (first.ref, other.ref)
    assert again.key != first.key
    with pytest.raises(ErasedError):
        vault.key_at(first.ref)
    assert vault.key_at(other.ref) == other


@pytest.mark.parametrize("ref", [0, -1, 2, 2**63 - 1])
def test_vault_tells_a_key_it_never_had_from_one_that_was_destroyed(vault: Vault, ref: int) -> None:
    vault.key_for(patient_subject("p1"))
    with pytest.raises(PayloadError, match="never had it") as caught:
        vault.key_at(ref)
    assert not isinstance(caught.value, ErasedError)


def test_vault_a_wrapped_key_fails_with_any_flipped_bit(vault: Vault) -> None:
    made = vault.key_for(patient_subject("p1"))
    stored = vault.store.key_at(made.ref)
    assert stored is not None
    before = stored.wrapped
    for bit in range(8 * len(before)):
        flipped = bytearray(stored.wrapped)
        flipped[bit // 8] ^= 1 << bit % 8
        assert vault.store.replace_wrapped([Rewrapped(made.ref, before, bytes(flipped))], OLD.key_id) == 1
        before = bytes(flipped)
        with pytest.raises(PayloadError):
            vault.key_for(patient_subject("p1"))
    vault.store.replace_wrapped([Rewrapped(made.ref, before, stored.wrapped)], OLD.key_id)
    assert vault.key_at(made.ref) == made


def test_vault_a_wrapped_key_moved_to_another_patient_or_tenant_fails(vault: Vault, open_vault: OpenVault) -> None:
    first, second = vault.key_for(patient_subject("p1")), vault.key_for(patient_subject("p2"))
    stored = [vault.store.key_at(key.ref) for key in (first, second)]
    assert stored[0] is not None
    assert stored[1] is not None
    vault.store.replace_wrapped([Rewrapped(first.ref, stored[0].wrapped, stored[1].wrapped)], OLD.key_id)
    with pytest.raises(PayloadError, match="of another owner"):
        vault.key_at(first.ref)
    with pytest.raises(PayloadError, match="of another owner"):
        open_vault(tenant="south").key_at(second.ref)
    assert vault.key_at(second.ref) == second


def test_vault_opens_nothing_without_the_wrapping_key(vault: Vault, open_vault: OpenVault) -> None:
    vault.key_for(patient_subject("p1"))
    with pytest.raises(PayloadError, match="under another wrapping key"):
        open_vault(NEW).key_for(patient_subject("p1"))


def test_vault_rewraps_every_key_and_leaves_no_copy_under_the_old_one(
    vault: Vault, open_vault: OpenVault, tmp_path: Path
) -> None:
    keys = [vault.key_for(patient_subject(f"p{number}")) for number in range(25)]
    old = [stored.wrapped for stored in vault.store.keys_not_under("")]
    assert vault.rewrap(OLD, NEW, batch=10) == 25
    renewed = open_vault(NEW)
    assert [renewed.key_at(key.ref) for key in keys] == [replace(key, wrapping_key=NEW.key_id) for key in keys]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [wrapped for wrapped in old if wrapped in content]
    assert vault.rewrap(OLD, NEW) == 0


def test_vault_rewrap_goes_on_where_it_was_stopped(vault: Vault, open_vault: OpenVault) -> None:
    for number in range(25):
        vault.key_for(patient_subject(f"p{number}"))

    class Stopping:
        """Wraps ten keys and then fails, as a token that is pulled out."""

        key_id = NEW.key_id
        left = 10

        def wrap(self, key: bytes, context: bytes) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise StorageError("gone")
            return NEW.wrap(key, context)

        def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
            return NEW.unwrap(wrapped, context)

    with pytest.raises(StorageError, match="gone"):
        vault.rewrap(OLD, Stopping(), batch=5)
    assert len(vault.store.keys_not_under(NEW.key_id)) == 15
    overlapping = open_vault(OverlappingWrapper(NEW, OLD))
    assert len({overlapping.key_for(patient_subject(f"p{number}")).key for number in range(25)}) == 25
    assert vault.rewrap(OLD, NEW) == 15


def test_vault_rewrap_names_keys_it_cannot_open_and_does_the_others(vault: Vault, open_vault: OpenVault) -> None:
    foreign = FileWrapper(b"f" * 32, os.urandom)
    stray = open_vault(foreign).key_for(patient_subject("stray"))
    keys = [vault.key_for(patient_subject(f"p{number}")) for number in range(5)]
    with pytest.raises(PayloadError, match=f"1 keys: not under {OLD.key_id}, or altered; the first is key {stray.ref}"):
        vault.rewrap(OLD, NEW, batch=2)
    assert [open_vault(NEW).key_at(key.ref).key for key in keys] == [key.key for key in keys]


def test_vault_rewraps_beside_a_writer(vault: Vault, open_vault: OpenVault) -> None:
    """The writer knows both keys; whatever it made under either is there in the end."""
    writer, stop = open_vault(OverlappingWrapper(NEW, OLD)), threading.Event()
    known = [vault.key_for(patient_subject(f"old{number}")) for number in range(50)]
    made: list[SubjectKey] = []

    def write() -> None:
        while not stop.is_set():
            made.append(writer.key_for(patient_subject(f"new{len(made)}")))
            assert writer.key_at(known[len(made) % 50].ref).key == known[len(made) % 50].key

    thread = threading.Thread(target=write)
    thread.start()
    while not made:
        time.sleep(0.001)
    try:
        assert vault.rewrap(OLD, NEW, batch=5) == 50
    finally:
        stop.set()
        thread.join()
    renewed = open_vault(NEW)
    assert [renewed.key_at(key.ref).key for key in (*known, *made)] == [key.key for key in (*known, *made)]


def test_vault_unreadable_raises_a_storage_error(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "vault.sqlite3").unlink()
    with pytest.raises(StorageError):
        vault.key_for(patient_subject("p1"))


def test_vault_two_processes_that_make_the_same_keys_at_once_get_the_same(
    make_log: Callable[..., tuple[LogConfig, KeyRing]], start_maker: StartMaker
) -> None:
    config, _ = make_log()
    makers = [start_maker(config.directory, 0, 40) for _ in range(2)]
    assert [_line(maker) for maker in makers] == [["ready"], ["ready"]]
    for maker in makers:
        _go(maker)
    made = [[_line(maker) for _ in range(41)] for maker in makers]
    assert made[0] == made[1]
    assert made[0][-1] == ["done"]
    assert len({ref for _, ref, _ in made[0][:-1]}) == 40


def test_vault_killed_between_key_and_entry_is_as_good_as_before(
    make_log: Callable[..., tuple[LogConfig, KeyRing]],
    open_log: Callable[[LogConfig], AuditLog],
    start_maker: StartMaker,
) -> None:
    """A key that was given out is there after a kill, with or without an entry, and whoever comes next gets it again."""
    config, _ = make_log()
    made: dict[int, list[str]] = {}
    for attempt in range(4):
        maker = start_maker(config.directory, 1000 * attempt, 1000, "append")
        assert _line(maker) == ["ready"]
        _go(maker)
        first = _line(maker)
        time.sleep(0.013 * attempt)
        maker.kill()
        assert maker.stdout is not None
        rows = [first, *(line.split() for line in maker.stdout.read().decode().splitlines())]
        made |= {int(row[0]): row[1:] for row in rows if len(row) == 4}
    log = open_log(config)
    log_size = sum(1 for _ in log.entries())
    for number, (ref, key, index) in made.items():
        assert log.vault.key_for(patient_subject(f"p{number}")) == log.vault.key_at(int(ref))
        assert log.vault.key_at(int(ref)).key.hex() == key
        assert log.payload(LeafIndex(int(index))) == b"about patient %d" % number
    assert log_size >= len(made)
    for index in range(log_size):  # also those that nobody was told of
        assert log.payload(LeafIndex(index)).startswith(b"about patient ")
    fresh = log.vault.key_for(patient_subject("next"))
    assert fresh.ref > max(int(ref) for ref, _, _ in made.values())


def test_vault_of_a_log_with_entries_is_not_made_anew(
    log: AuditLog, make_entry: Callable[..., object], tmp_path: Path
) -> None:
    """A lost vault must not look like an empty one: its refs would be given again."""
    log.append(*make_entry(log, b"eGFR 41.5"))  # type: ignore[misc]
    config = log.config
    log.close()
    for path in config.directory.glob("vault.sqlite3*"):
        path.unlink()
    with pytest.raises(StorageError, match="vault: can't open"):
        AuditLog.open(config, clock=lambda: MOMENT)


def test_vault_may_lie_elsewhere(
    make_log: Callable[..., tuple[LogConfig, KeyRing]], open_log: Callable[[LogConfig], AuditLog], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "vault"
    elsewhere.mkdir()
    config, _ = make_log(vault_directory=elsewhere)
    open_log(config).vault.key_for(patient_subject("p1"))
    assert (elsewhere / "vault.sqlite3").exists()
    assert not list(config.directory.glob("vault*"))


def test_vault_payload_of_an_erased_patient_is_gone_and_the_others_stay(
    log: AuditLog, make_entry: Callable[..., object]
) -> None:
    first = log.append(*make_entry(log, b"eGFR 41.5"))  # type: ignore[misc]
    other = log.vault.key_for(patient_subject("p2"))
    assert log.payload_key(first.index) == log.vault.find(patient_subject("p1"))
    bare = log.append(*make_entry(log))  # type: ignore[misc]
    assert log.payload_key(bare.index) is None
    with pytest.raises(NoSuchEntryError):
        log.payload(bare.index)
    key = log.vault.key_for(patient_subject("p1"))
    entries, proof = list(log.entries()), log.prove(first.index)
    log.vault.store.destroy_keys([key.ref], NOW)
    with pytest.raises(ErasedError, match="erased"):
        log.payload(first.index)
    with pytest.raises(ErasedError, match="erased"):
        log.payload_key(first.index)
    assert (list(log.entries()), log.prove(first.index)) == (entries, proof)
    assert log.vault.key_at(other.ref) == other


def test_vault_subject_key_makes_the_documented_values() -> None:
    def expand(info: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=info).derive(KEY.key)

    assert KEY.commitment(ENTRY_1) == hmac.new(KEY.key, ENTRY_1.encode(), hashlib.sha256).hexdigest()
    inner = expand(b"bedside commitment/v1\nbody\n" + ENTRY_1.encode())
    assert KEY.commit(ENTRY_1, "body", b"x") == hmac.new(inner, b"x", hashlib.sha256).hexdigest()
    inner = expand(b"bedside digest/v1\nbody")
    assert KEY.digest("body", b"x") == hmac.new(inner, b"x", hashlib.sha256).hexdigest()


def test_vault_subject_key_tells_entries_purposes_data_and_keys_apart() -> None:
    other = replace(KEY, key=bytes(32))
    values = [
        value
        for key in (KEY, other)
        for value in (
            key.commitment(ENTRY_1),
            key.commitment(ENTRY_2),
            key.commit(ENTRY_1, "body", b"x"),
            key.commit(ENTRY_2, "body", b"x"),
            key.commit(ENTRY_1, "card", b"x"),
            key.commit(ENTRY_1, "body", b"y"),
            key.digest("body", b"x"),
            key.digest("card", b"x"),
            key.digest("body", b"y"),
        )
    ]
    assert len(set(values)) == len(values)
    assert KEY.digest("body", b"x") == replace(KEY, ref=2).digest("body", b"x")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(1, 2**63 - 1))
def test_vault_subject_key_opens_what_it_sealed(key: bytes, plaintext: bytes, ref: int) -> None:
    subject = SubjectKey(ref, key, "wrap:00000001")
    context = PayloadContext(ENTRY_1, "decision/v1", "north")
    sealed = subject.seal(context, plaintext, os.urandom(12))
    assert (sealed.key_ref, sealed.key_id) == (ref, "wrap:00000001")
    assert open_payload({ref: subject}.__getitem__, context, sealed.reference, sealed.sealed) == plaintext


def test_vault_wrapped_keys_differ_though_a_patient_comes_again(vault: Vault) -> None:
    """Nothing of a destroyed key shows in the next one of the same patient."""
    seen: list[WrappedKey] = []
    for _ in range(2):
        ref = vault.key_for(patient_subject("p1")).ref
        stored = vault.store.key_at(ref)
        assert stored is not None
        seen.append(stored)
        vault.store.destroy_keys([ref], NOW)
    assert seen[0].lookup == seen[1].lookup
    assert seen[0].wrapped != seen[1].wrapped
