"""The log: append with a receipt, read, prove. Fails closed.

An append is acknowledged only when the entry is durable, has its index, and is covered by a signed checkpoint. How
entries become batches is in `group_commit`, what happens to a batch in `committer`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.clock import ClockGuard, ClockStatus
from audit.closing import check_open
from audit.committer import Appendable, Committer, LogReceipt
from audit.entry import Entry, EntryHeader, format_entry, format_time, parse_entry, read_header
from audit.entry_operations import GapEntry
from audit.errors import (
    AuditError,
    EntryConflictError,
    EntryError,
    EpochEndedError,
    ErasedError,
    KeyFileError,
    NoSuchEntryError,
    StorageError,
)
from audit.gap_journal import GapJournal, NotedGap, leftovers
from audit.group_commit import DEFAULT_DEADLINE_S, DEFAULT_MAX_WAITING, GroupCommit, Limits
from audit.head import HEAD_FILE, HeadFile, link_head
from audit.head_guard import HeadGuard, HeadPlace, check_start
from audit.keys import VKEY_FILE, KeyRing, KeySource, load_vkeys
from audit.merkle import EMPTY_ROOT, LeafIndex, TreeSize, leaf_hash, prove_inclusion
from audit.note import VerifierKey
from audit.payloads import PayloadContext, SealedPayload, check_payload, open_payload, read_key_ref
from audit.proof import LogProof
from audit.storage import EntrySummary, Query, Reader, Storage, StoredCheckpoint
from audit.storage.opening import create_storage, open_storage, open_vault
from audit.storage.vault_store import VaultStore
from audit.vault import SubjectKey, Vault

_ID_RANDOM_BYTES = 10
HEADS_DIRECTORY = "heads"
# Marks a log whose key is lost, so that not even an entry can close it.
CLOSED_FILE = "closed"
FIRST = LeafIndex(0)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where a log lives and in whose name it speaks; its heads and its vault may lie on other volumes."""

    directory: Path
    origin: str
    tenant: str
    deadline_s: float = DEFAULT_DEADLINE_S
    max_waiting: int = DEFAULT_MAX_WAITING
    head_path: Path | None = None
    vault_directory: Path | None = None
    heads_path: Path | None = None

    @property
    def heads_directory(self) -> Path:
        """Where cosigned heads are kept that opening is compared with."""
        return self.heads_path or self.directory / HEADS_DIRECTORY

    @property
    def head_file(self) -> Path:
        return self.head_path or self.directory / HEAD_FILE


def create_log(config: LogConfig, keys: KeyRing, *, page_size: int = 4096) -> None:
    """Makes an empty log: its store, and the head file with the signed checkpoint of the empty tree.

    Raises:
        StorageError: there is a log already, or the directory can't be written.
    """
    note = sign_checkpoint(Checkpoint(config.origin, TreeSize(0), EMPTY_ROOT), keys.signers)
    create_storage(config.directory, StoredCheckpoint(TreeSize(0), note), page_size=page_size)
    head = HeadFile(config.head_file, create=True)
    head.write(note)
    head.close()
    link_head(config.directory, config.head_file)


def read_entry(store: Reader, index: LeafIndex) -> bytes:
    """The bytes of entry `index`; raises NoSuchEntryError."""
    found = store.entry(index)
    if found is None:
        raise NoSuchEntryError(index)
    return found


def read_entries(store: Reader, start: LeafIndex = FIRST) -> Iterator[bytes]:
    """The bytes of every entry from `start` on, in order, as far as there are any; some 7 µs an entry."""
    index = start
    while (entry := store.entry(index)) is not None:
        yield entry
        index = LeafIndex(index + 1)


def prove_entry(store: Reader, index: LeafIndex) -> LogProof:
    """The proof that entry `index` is in the newest checkpoint; its extra data is the whole entry.

    Raises:
        NoSuchEntryError: no such entry.
    """
    entry = read_entry(store, index)
    newest = store.newest_checkpoint()
    return LogProof(index, prove_inclusion(index, newest.size, store.node), newest.note, extra=entry)


def _open_vault(config: LogConfig, storage: Storage) -> VaultStore:
    """The log's vault, made now if the log is still empty: of a log with entries, a missing vault is a lost one."""
    with storage.exclusive() as transaction:
        is_new = transaction.newest_checkpoint().size == 0
        return open_vault(config.directory, config.vault_directory, create=is_new, wait_s=config.deadline_s)


def check_goes_on(directory: Path, storage: Storage) -> None:
    """Returns if neither the log's last entry nor its directory says that it was closed; raises EpochEndedError."""
    size = storage.newest_checkpoint().size
    if size:
        check_open(storage.entry(LeafIndex(size - 1)))
    if (directory / CLOSED_FILE).exists():
        raise EpochEndedError((directory / CLOSED_FILE).read_text("utf-8").strip(), "marked")


class AuditLog:
    """One log, open for appending and reading; safe in many threads, and beside other processes.

    It must be opened in the process that uses it, after any fork.
    """

    def __init__(
        self,
        config: LogConfig,
        keys: Callable[[], KeyRing],
        storage: Storage,
        vault_store: VaultStore | None,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Takes over `storage` and `vault_store`, None where no payload is touched; `open` is the usual way in.

        Raises:
            UnsignedHeadError: the newest checkpoint in the store isn't signed by a key in force.
            RollbackError, ForkError: the store contradicts the head file, or a head that was kept; both are in the error.
        """
        self._config = config
        self._keys = keys
        self._storage = storage
        self._clock = clock
        self._random_bytes = random_bytes
        self._vault = None if vault_store is None else Vault(vault_store, keys, config.tenant, clock, random_bytes)
        with ExitStack() as resources:
            resources.callback(storage.close)
            if self._vault is not None:
                resources.callback(self._vault.close)
            self._head_file = HeadFile(config.head_file)
            resources.callback(self._head_file.close)
            self._guard = HeadGuard(lambda: keys().signers, self._known_vkeys, config.origin)
            self._guard.look_up(storage)
            place = HeadPlace(config.origin, self._head_file, config.heads_directory)
            check_start(place, self._guard, self._known_vkeys(), storage)
            self._clock_guard = ClockGuard(self._latest_time())
            committer = Committer(storage, self._head_file, lambda: keys().signers, config.origin, self._guard)
            limits = Limits(config.deadline_s, config.max_waiting)
            # Before the files of the dead are claimed: a start that fails must not hold their locks.
            journal = GapJournal(config.directory, random_bytes(_ID_RANDOM_BYTES).hex())
            left = list(leftovers(config.directory))
            self._group = GroupCommit(committer, limits, clock, self._gap_entry, journal, left)
            resources.callback(self._stop)
            self._resources = resources.pop_all()

    @classmethod
    def open(
        cls,
        config: LogConfig,
        *,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes] = os.urandom,
        keys: KeyRing | None = None,
        reading: bool = False,
        with_vault: bool = True,
    ) -> Self:
        """The log in `config.directory`, with the keys that lie there unless `keys` are given; `with_vault` to touch payloads.

        Raises:
            EpochEndedError: the log was closed, and isn't opened only for `reading`.
            KeyFileError: the keys can't be read, or belong to another origin.
            StorageError: the store, the head file or the vault can't be opened.
            RollbackError, ForkError: the store contradicts the head file.
        """
        given = keys
        source = KeySource(config.directory, random_bytes).keys if given is None else lambda: given
        name = source().signer.verifier_key.name
        if name != config.origin:
            message = f"signing key: expected one of {config.origin}, got {name}"
            raise KeyFileError(message)
        storage = open_storage(config.directory)
        try:
            if not reading:
                check_goes_on(config.directory, storage)
            vault_store = _open_vault(config, storage) if with_vault else None
        except AuditError:
            storage.close()
            raise
        log = cls(config, source, storage, vault_store, clock, random_bytes)
        if not reading and log._guard.ended is not None:
            log.close()
            raise log._guard.ended
        return log

    @property
    def keys(self) -> KeyRing:
        return self._keys()

    @property
    def storage(self) -> Storage:
        return self._storage

    @property
    def vault(self) -> Vault:
        """The patients' keys; raises StorageError where the log was opened without them."""
        if self._vault is None:
            raise StorageError("vault: the log was opened without it")
        return self._vault

    @property
    def config(self) -> LogConfig:
        return self._config

    def new_entry_id(self) -> str:
        """A UUID of version 7 (RFC 9562: milliseconds, then 74 random bits) as 32 hex digits.

        Ids that rise with time keep the store's index of them growing at one end, at any size of the log.
        """
        milliseconds = int(self._clock().timestamp() * 1000)
        bits = milliseconds << 80 | int.from_bytes(self._random_bytes(_ID_RANDOM_BYTES), "big")
        return f"{bits & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"

    def clock_status(self, now: datetime) -> ClockStatus:
        """What an entry of this time says of the clock; raises the alarm where it stepped back."""
        return self._clock_guard.status(now)

    def seal(self, entry_id: str, entry_type: str, plaintext: bytes, key: SubjectKey) -> SealedPayload:
        """The payload of the entry `entry_id`, under its patient's key.

        Its `reference` goes into the entry, then both into `append`.
        """
        return self.vault.seal(key, PayloadContext(entry_id, entry_type, self._config.tenant), plaintext)

    def append(self, entry: bytes, payload: SealedPayload | None = None) -> LogReceipt:
        """The receipt of `entry`, once it is durable. Appending the same entry again gives its place again.

        Raises:
            EntryError: the entry may not be logged, or names another payload than the one given.
            AppendError: no acknowledgement; act as if nothing had been logged.
        """
        return self.append_all([(entry, payload)])[0]

    def append_all(self, entries: Sequence[tuple[bytes, SealedPayload | None]]) -> list[LogReceipt]:
        """The receipts of several entries that go into one commit: all acknowledged, or the call raises.

        Raises:
            As `append`.
        """
        self._group.shed_if_full(len(entries))
        return self._commit(tuple(self._admit(entry, payload) for entry, payload in entries))

    def record(self, entry: Entry, payload: SealedPayload | None = None) -> LogReceipt:
        """As `append` of the entry's bytes, which are checked once: when they are made.

        Raises:
            As `append`.
        """
        self._group.shed_if_full(1)
        return self._commit((self._admit_formatted(format_entry(entry), payload),))[0]

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint."""
        return self._storage.newest_checkpoint().note

    def entry(self, index: LeafIndex) -> bytes:
        """The bytes of entry `index`; raises NoSuchEntryError."""
        return read_entry(self._storage, index)

    def payload(self, index: LeafIndex) -> bytes:
        """The decrypted payload of entry `index`.

        Raises:
            NoSuchEntryError: no such entry, or none with a payload.
            ErasedError: the payload or its key was destroyed.
            PayloadError: it can't be opened.
        """
        header, sealed = self._sealed(index)
        if header.payload is None or sealed is None:
            raise NoSuchEntryError(index)
        context = PayloadContext(header.id, header.type, header.tenant)
        return open_payload(self.vault.key_at, context, header.payload, sealed)

    def payload_key(self, index: LeafIndex) -> SubjectKey | None:
        """The key that the payload of entry `index` is under, None where it has no payload.

        Raises:
            As `payload`.
        """
        header, sealed = self._sealed(index)
        if header.payload is None or sealed is None:
            return None
        check_payload(header.payload, sealed)
        return self.vault.key_at(read_key_ref(sealed))

    def _sealed(self, index: LeafIndex) -> tuple[EntryHeader, bytes | None]:
        header, stored = read_header(self.entry(index)), self._storage.payload(index)
        if stored is None:
            return header, None
        if stored.sealed is None:
            message = f"erased: the payload of entry {index}, by {stored.erasure}"
            raise ErasedError(message)
        return header, stored.sealed

    def note_unrecorded(self, reason: str) -> None:
        """Counts an entry that came to nothing before it could be appended: a gap entry will tell of it. `reason` is a code."""
        self._group.note_refusal(reason, 1)

    def prove(self, index: LeafIndex) -> LogProof:
        """As `prove_entry`."""
        return prove_entry(self._storage, index)

    def index_of(self, entry_id: str) -> LeafIndex | None:
        """Where the entry with this id stands."""
        return self._storage.index_of(entry_id)

    def find(self, query: Query) -> list[EntrySummary]:
        """The newest entries that match, newest first."""
        return self._storage.find(query)

    def entries(self, start: LeafIndex = FIRST) -> Iterator[bytes]:
        """As `read_entries`."""
        return read_entries(self._storage, start)

    def close(self) -> None:
        """Commits what waits, then closes the store, unless a commit hangs; appends from now on raise LogClosedError."""
        self._resources.close()

    def _stop(self) -> None:
        if not self._group.close():
            self._resources.pop_all()  # which leaves what comes after this open

    def _commit(self, items: tuple[Appendable, ...]) -> list[LogReceipt]:
        receipts = []
        for outcome in self._group.submit(items):
            if isinstance(outcome, EntryConflictError):
                raise outcome
            receipts.append(outcome)
        return receipts

    def _admit(self, entry: bytes, payload: SealedPayload | None) -> Appendable:
        parse_entry(entry)
        return self._admit_formatted(entry, payload)

    def _admit_formatted(self, entry: bytes, payload: SealedPayload | None) -> Appendable:
        header = read_header(entry)
        if header.tenant != self._config.tenant:
            message = f"entry: expected tenant {self._config.tenant}"
            raise EntryError(message)
        if header.payload != (None if payload is None else payload.reference):
            raise EntryError("entry: names another payload than the one given")
        return Appendable(header, entry, leaf_hash(entry), payload)

    def _known_vkeys(self) -> tuple[VerifierKey, ...]:
        """The keys that signed before and those that sign, in the order they came."""
        listed = self._config.directory / VKEY_FILE
        earlier = load_vkeys(listed) if listed.exists() else ()
        return tuple(dict.fromkeys([*earlier, *self.keys.verifier_keys]))

    def _latest_time(self) -> datetime | None:
        latest = self._storage.latest_time()
        return None if latest is None else datetime.fromisoformat(latest).astimezone(UTC)

    def _gap_entry(self, gap: NotedGap) -> Appendable:
        moment = self._clock()
        now = format_time(moment)
        entry = GapEntry(
            id=self.new_entry_id(),
            time=now,
            clock=self.clock_status(moment),
            tenant=self._config.tenant,
            since=gap.since,
            until=now,
            reason=gap.reason,
            unacknowledged=gap.unacknowledged,
        )
        return self._admit_formatted(format_entry(entry), None)
