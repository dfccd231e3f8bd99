"""What an operator asks of a log's files: whether they are whole and closed to others, and what was left undone.

This isn't `verify`: nothing here proves what the log says; it looks at what the log needs in order to go on. Each check is one
function that yields what it found, in `CHECKS`; a further one is a function and its line there (the write-ahead
log first: whoever opens a store may move it). What a check can put right
without losing anything it puts right when asked to, and says so: a missing seal, a head file that lags behind, files that a
process left half written. Everything else is the operator's to decide. It must run as the log's own user.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apsw

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.custody import APPROVED, UNFINISHED
from audit.durable_files import TEMPORARY_SUFFIX
from audit.errors import AuditError, RollbackError, SignatureError
from audit.gap_journal import leftovers
from audit.head import HEAD_FILE, HeadFile, check_extends
from audit.key_history import trusted_periods
from audit.keys import KEY_DIRECTORY, VKEY_FILE, load_keys, load_vkeys
from audit.log import HEADS_DIRECTORY
from audit.note import VerifierKey, open_note
from audit.private_files import destroy_file, read_private
from audit.rotation import rotation_entries
from audit.storage import Storage
from audit.storage.opening import open_scan, open_storage, open_vault, read_place
from audit.storage.sqlite_schema import DATABASE_FILE, check_sqlite_version
from audit.storage.sqlite_seal import MAX_SEALED_BYTES, seal_path
from audit.storage.vault_sqlite import VAULT_FILE
from audit.storage.vault_store import VaultStore

OK, NOTE, PROBLEM, REPAIRED = "ok", "note", "PROBLEM", "repaired"

# The write-ahead log is moved into the file every 1,000 pages or so; far more means that a reader keeps it from being moved.
MAX_WAL_BYTES = 64 << 20
# A log that is written needs room for its write-ahead log and for the next months.
MIN_FREE_BYTES = 1 << 30
# A file that a process writes is done in milliseconds.
_LEFT_BEHIND_S = 600.0
_DRAFT_MARK = ".draft-"
_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `level` is OK, NOTE, PROBLEM or REPAIRED."""

    level: str
    part: str
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """What to look at, and as of when; `quick` leaves out what reads the whole store."""

    directory: Path
    now: datetime
    vault_directory: Path | None = None
    head_path: Path | None = None
    repair: bool = False
    quick: bool = False

    @property
    def is_sqlite(self) -> bool:
        return read_place(self.directory) is None

    @property
    def head_file(self) -> Path:
        return self.head_path or self.directory / HEAD_FILE


def examine(place: Place) -> Iterator[Finding]:
    """What each check found, in the order of `CHECKS`; a check that can't be done is a problem of its own."""
    for part, check in CHECKS.items():
        try:
            yield from (Finding(level, part, text) for level, text in check(place))
        except AuditError as exc:
            yield Finding(PROBLEM, part, str(exc))
        except OSError as exc:
            yield Finding(PROBLEM, part, f"{Path(exc.filename or '').name}: {exc.strerror}")


Found = Iterator[tuple[str, str]]


def _check_sqlite(place: Place) -> Found:
    if not place.is_sqlite:
        return
    check_sqlite_version(apsw.sqlitelibversion())
    yield OK, f"{apsw.sqlitelibversion()}, free of the WAL-reset race"


def _check_private(place: Place) -> Found:
    """Files and folders that nobody else may read."""
    keys = place.directory / KEY_DIRECTORY
    for folder in (place.directory, keys):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            yield PROBLEM, f"{folder.name}: expected mode 0700, got {mode:04o}"
    store = read_place(place.directory)
    files = [path for path in sorted(keys.iterdir()) if path.is_file() and _DRAFT_MARK not in path.name]
    for path in [*files, *([] if store is None else [store.database_url_file])]:
        read_private(path)
    ring = load_keys(place.directory)
    if ring.signer.verifier_key not in load_vkeys(place.directory / VKEY_FILE):
        yield PROBLEM, f"{VKEY_FILE} doesn't list the key that signs: nobody can verify what it signs"
    yield OK, f"{len(files)} key files, signing as {ring.signer.verifier_key.name}"


def _check_store(place: Place) -> Found:
    scan = open_scan(place.directory)
    try:
        scan.check_form()
        if place.quick:
            yield OK, "opens, of our form; its structure was not gone through"
            return
        scan.check_integrity()
    finally:
        scan.close()
    yield OK, "opens, of our form, its structure undamaged"


def _check_seal(place: Place) -> Found:
    """The seal of a closed SQLite file; where it is missing the log is in use, or wasn't closed cleanly."""
    database = place.directory / DATABASE_FILE
    if not place.is_sqlite:
        return
    if seal_path(database).exists():
        yield OK, "sealed: closed, and not written to since"
    elif database.stat().st_size > MAX_SEALED_BYTES:
        yield OK, "too large to be sealed when it is closed"
    elif place.repair:
        _close_cleanly(place.directory)
        sealed = seal_path(database).exists()
        yield (REPAIRED, "sealed") if sealed else (NOTE, "not sealed: a process reads it")
    else:
        yield NOTE, "not sealed: in use, or not closed cleanly; --repair seals it"


def _check_write_ahead_log(place: Place) -> Found:
    wal = place.directory / f"{DATABASE_FILE}-wal"
    size = wal.stat().st_size if wal.exists() else 0
    if not place.is_sqlite:
        return
    if size > MAX_WAL_BYTES:
        yield PROBLEM, f"{size >> 20} MiB: a process that reads without end keeps it from being moved into the file"
    else:
        yield OK, f"{size >> 10} KiB"


def _check_head(place: Place) -> Found:
    """The head file against the store: equal, behind (a process died in between, or the power went), ahead or apart."""
    keys = load_vkeys(place.directory / VKEY_FILE)
    head = HeadFile(place.head_file)
    storage = open_storage(place.directory)
    try:
        known_note = head.read()  # before the store, which may grow
        newest = storage.newest_checkpoint()
        origin = _open_in_force(newest.note, keys, storage).origin
        known = open_checkpoint(known_note, keys, origin=origin)
        check_extends(known, known_note, newest.size, newest.note, storage.node)
        if known.size == newest.size:
            yield OK, f"of size {known.size}, as the store"
        elif place.repair:
            with storage.exclusive() as transaction:
                newest = transaction.newest_checkpoint()
                _open_in_force(newest.note, keys, storage)
                check_extends(known, known_note, newest.size, newest.note, transaction.node)
                head.write(newest.note)
            yield REPAIRED, f"was of size {known.size}, the store of {newest.size}; now as the store"
        else:
            yield NOTE, f"of size {known.size}, the store of {newest.size}; the next append or --repair brings it up"
    except RollbackError as exc:
        yield PROBLEM, f"ahead of the store: {exc}"
    finally:
        storage.close()
        head.close()


def _open_in_force(note: bytes, keys: Sequence[VerifierKey], storage: Storage) -> Checkpoint:
    """The checkpoint in `note`, signed by a key that the log hasn't retired; raises FormatError or SignatureError."""
    checkpoint = open_checkpoint(note, keys)
    periods = trusted_periods(keys, rotation_entries(storage))
    if not any(periods[key].covers(checkpoint.size) for key in open_note(note, keys).signed_by):
        message = f"the store's newest checkpoint, of size {checkpoint.size}, is signed by retired keys only"
        raise SignatureError(message)
    return checkpoint


def _check_vault(place: Place) -> Found:
    """Payloads whose key is missing can't be read any more by anyone; keys without payload do no harm."""
    if _has_no_vault_yet(place):
        yield NOTE, "none yet: the service makes it when it first opens the log"
        return
    storage = open_storage(place.directory)
    vault = open_vault(place.directory, place.vault_directory)
    try:
        used = _payload_keys(storage)
        known = _vault_keys(vault)
    finally:
        vault.close()
        storage.close()
    lost = sorted(used.keys() - known)
    if lost:
        first = lost[0]
        reason = "a vault that isn't this log's, an old copy of it, or an erasure that was cut short"
        yield PROBLEM, f"{len(lost)} keys of payloads are missing, first key {first} of entry {used[first]}: {reason}"
    unused = len(known - used.keys())
    yield OK, f"{len(known)} keys, {len(used)} of them with payloads"
    if unused:
        yield NOTE, f"{unused} keys have no payload: their decisions were refused, or named nothing to keep"


def _check_requests(place: Place) -> Found:
    if _has_no_vault_yet(place):
        yield NOTE, "none yet: they lie in the vault"
        return
    vault = open_vault(place.directory, place.vault_directory)
    try:
        unfinished = [row for state in UNFINISHED for row in vault.requests(state)]
    finally:
        vault.close()
    for row in unfinished:
        yield (
            PROBLEM,
            f"{row.kind} {row.id} is {row.state} since {row.created}: `bedside audit erase resume` completes it"
            + (", with an officer's --key where it was refused" if row.state == APPROVED else ""),
        )
    if not unfinished:
        yield OK, "no erasure or hold is half done"


def _check_gaps(place: Place) -> Found:
    """What processes that died had refused; whoever opens the log next writes it down."""
    count = refused = 0
    for leftover in leftovers(place.directory):
        count, refused = count + 1, refused + leftover.gap.unacknowledged
        os.close(leftover.descriptor)
    if count:
        yield NOTE, f"{refused} refusals by {count} processes that are gone: the next append writes gap entries of them"
    else:
        yield OK, "nothing refused that the log doesn't tell"


def _check_leftovers(place: Place) -> Found:
    """Files that a process was killed over; none of them has been given its name, so nothing misses them."""
    found = 0
    for path in _half_written(place):
        found += 1
        if place.now.timestamp() - path.stat().st_mtime < _LEFT_BEHIND_S:
            yield NOTE, f"{path.name}: being written"
        elif place.repair:
            destroy_file(path)  # it may hold a key
            yield REPAIRED, f"{path.name}: half written, overwritten and removed"
        else:
            secret = ", and may hold a key" if _DRAFT_MARK in path.name else ""
            yield PROBLEM, f"{path.name}: half written by a process that is gone{secret}; --repair removes it"
    if not found:
        yield OK, "no file was left half written"


def _check_space(place: Place) -> Found:
    for folder in dict.fromkeys([place.directory, place.vault_directory or place.directory]):
        usage = shutil.disk_usage(folder)
        room = f"{usage.free >> 20} MiB free under {folder.name}"
        yield (OK, room) if usage.free >= MIN_FREE_BYTES else (PROBLEM, f"{room}: a full disk refuses every decision")


def _has_no_vault_yet(place: Place) -> bool:
    """Whether the log is as `init` leaves it: empty, and with no vault, which of a log with entries is a lost one."""
    if not place.is_sqlite or os.path.lexists((place.vault_directory or place.directory) / VAULT_FILE):
        return False
    storage = open_storage(place.directory)
    try:
        return storage.newest_checkpoint().size == 0
    finally:
        storage.close()


def _half_written(place: Place) -> list[Path]:
    folders = [place.directory, place.directory / KEY_DIRECTORY, place.directory / HEADS_DIRECTORY]
    names = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    seal = seal_path(place.directory / DATABASE_FILE).with_suffix(".new").name
    return [
        path for path in names if path.name.endswith(TEMPORARY_SUFFIX) or _DRAFT_MARK in path.name or path.name == seal
    ]


def _close_cleanly(directory: Path) -> None:
    """Opens the store as a writer and closes it, which moves the write-ahead log into the file and seals it."""
    storage = open_storage(directory)
    try:
        with storage.exclusive():
            pass
    finally:
        storage.close()


def _payload_keys(storage: Storage) -> dict[int, int]:
    """The keys under which payloads lie, each with the first entry that it is of."""
    used: dict[int, int] = {}
    key_ref, after = 0, -1
    while page := storage.kept_payloads(key_ref, after, _PAGE):
        for payload in page:
            used.setdefault(payload.key_ref, payload.index)
        key_ref, after = page[-1].key_ref, page[-1].index
    return used


def _vault_keys(vault: VaultStore) -> set[int]:
    known: set[int] = set()
    after = 0
    while page := vault.keys_not_under("", after=after, limit=_PAGE):
        known.update(key.key_ref for key in page)
        after = page[-1].key_ref
    return known


CHECKS: dict[str, Callable[[Place], Found]] = {
    "sqlite": _check_sqlite,
    "write-ahead log": _check_write_ahead_log,
    "private files": _check_private,
    "store": _check_store,
    "head": _check_head,
    "vault": _check_vault,
    "requests": _check_requests,
    "gaps": _check_gaps,
    "leftovers": _check_leftovers,
    "seal": _check_seal,
    "space": _check_space,
}
