"""A new epoch of a log: another origin and signing key after a compromise, tied to the log before by its last checkpoint.

    (1) the old log gets a last entry that closes it (`closing`), and its directory the file `closed`, which says so to whoever
        opens it later, whatever was written after that entry; where its key is lost, the file alone
    (2) the new directory gets a signing key of its own, and the old index and wrapping keys: patients' keys stay readable
    (3) its vault is the old one's: a link to it, or the same directory by configuration
    (4) the new log is made; its first entry, epoch/v1, holds the old log's last checkpoint verbatim
    (5) the old directory's index and wrapping keys become links to the new ones, so one re-wrap serves both

What the old key signs from then on has no place in the new epoch: its tree may grow or be written anew, the checkpoint that
the epoch began from stays. Until (5) the old directory holds everything, so a begun new directory may be removed.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.closing import LOG_SCOPE
from audit.encoding import parse_decimal
from audit.entry import format_time, parse_entry
from audit.entry_operations import EpochEntry, SwitchEntry
from audit.errors import EpochEndedError, FormatError, StorageError, VerificationError
from audit.head import HEAD_FILE
from audit.keys import (
    INDEX_FILE,
    KEY_DIRECTORY,
    OLD_WRAPPING_FILE,
    VKEY_FILE,
    WRAPPING_FILE,
    init_keys,
    load_keys,
    load_vkeys,
)
from audit.log import CLOSED_FILE, FIRST, AuditLog, LogConfig, create_log
from audit.note import VerifierKey, parse_note
from audit.operators import present_operator
from audit.private_files import sync_directory, write_key_file
from audit.storage import Erasure, Scan
from audit.storage.opening import open_storage, read_place, write_place
from audit.storage.vault_sqlite import VAULT_FILE, VAULT_LOCK_FILE
from audit.tombstones import find_taken
from audit.verify import LogReport, Trust, verify_log

COMPROMISE = "key-compromise"


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """What begins: where, why, and with which keys; `schema` where the log lies in PostgreSQL.

    Attributes:
        vault_directory: of the old log's vault, where it doesn't lie in the log's directory.
        old_key_lost: the old log can't be signed any more, so its directory is marked instead.
    """

    old: Path
    new: Path
    reason: str = COMPROMISE
    vault_directory: Path | None = None
    signing_uri: str | None = None
    schema: str | None = None
    old_key_lost: bool = False


@dataclass(frozen=True, slots=True)
class EpochReport:
    """The epoch that began, and the checkpoint it began from."""

    origin: str
    key: VerifierKey
    previous: Checkpoint


@dataclass(frozen=True, slots=True)
class LinkReport:
    """The epoch before: verified, and how many of its entries came after its end."""

    log: LogReport
    previous: Checkpoint
    later_entries: int


def begin_epoch(
    epoch: NewEpoch, config: LogConfig, clock: Callable[[], datetime], random_bytes: Callable[[int], bytes]
) -> EpochReport:
    """What began; `config` is the old log's. Run again after a crash, it goes on.

    Raises:
        FormatError: the old origin's last part isn't a number.
        StorageError: the new directory holds another log, or half of one.
        AppendError: the old log couldn't be closed, or the first entry not be written.
    """
    origin = following_origin(config.origin)
    _check_target(epoch.new)
    _close(epoch, config, origin, clock, random_bytes)  # (1)
    previous = _newest_note(epoch.old)
    new = LogConfig(
        epoch.new, origin, config.tenant, deadline_s=config.deadline_s, vault_directory=config.vault_directory
    )
    if not new.head_file.exists():
        _make(epoch, new, random_bytes)  # (2) to (4)
    _enter(new, epoch.reason, previous, clock, random_bytes)  # (4)
    _link_keys(epoch)  # (5)
    key = load_vkeys(epoch.new / VKEY_FILE)[0]
    return EpochReport(origin, key, parse_checkpoint(parse_note(previous.encode()).text))


def verify_link(
    first_entry: bytes, origin: str, scan: Scan, keys: tuple[VerifierKey, ...], erasures: Sequence[Erasure] = ()
) -> LinkReport:
    """The report of the epoch before the log `origin` that begins with `first_entry`; `scan` and `keys` are the old one's.

    `erasures` are those of the later logs, verified, which may have taken payloads of the old one.

    (1) the entry is an epoch/v1 of this origin, which follows the one it names;
    (2) the checkpoint it names is one that the old log holds, verbatim;
    (3) the old log holds, and has that checkpoint's root at its size.

    Raises:
        VerificationError: step 1 or 2, or the old log doesn't hold.
        ForkError, RollbackError: step 3: the old log is another than the one that the epoch began from.
    """
    entry = parse_entry(first_entry)  # (1)
    if not isinstance(entry, EpochEntry) or entry.previous is None:
        raise VerificationError("epoch", "the first entry names no epoch before", 0)
    note = entry.previous.encode()
    previous = parse_checkpoint(parse_note(note).text)
    if entry.origin != origin or following_origin(previous.origin) != origin:
        reason = f"expected {following_origin(previous.origin)} after {previous.origin}, got {origin}"
        raise VerificationError("epoch", reason, 0)
    taken = tuple(find_taken(erasures, previous.origin))
    report = verify_log(scan, Trust(keys, previous.origin, (note,), taken_later=taken))  # (3)
    stored = next((one.note for one in scan.checkpoints() if one.size == previous.size), None)
    if stored != note:  # (2)
        raise VerificationError("epoch", f"the log before has another checkpoint of size {previous.size}", 0)
    return LinkReport(report, previous, report.entries - previous.size)


def following_origin(origin: str) -> str:
    """The origin of the epoch after `origin`: its last part one higher; raises FormatError where that isn't a number."""
    path, slash, number = origin.rpartition("/")
    if not slash:
        raise FormatError("origin: expected its last part to be the epoch's number")
    return f"{path}/{parse_decimal(number, 'epoch number') + 1}"


def _close(
    epoch: NewEpoch,
    config: LogConfig,
    origin: str,
    clock: Callable[[], datetime],
    random_bytes: Callable[[int], bytes],
) -> None:
    """Ends the old log, unless it is; raises EpochEndedError where it ended for another epoch."""
    number = origin.rpartition("/")[2]
    if not epoch.old_key_lost:
        _write_closing(epoch, config, number, clock, random_bytes)
    if not (epoch.old / CLOSED_FILE).exists():
        write_key_file(epoch.old / CLOSED_FILE, number, 0o644)


def _write_closing(
    epoch: NewEpoch,
    config: LogConfig,
    number: str,
    clock: Callable[[], datetime],
    random_bytes: Callable[[int], bytes],
) -> None:
    """Writes the last entry, unless it is there."""
    try:
        log = AuditLog.open(config, clock=clock, random_bytes=random_bytes)
    except EpochEndedError as exc:
        if exc.following != number:
            raise
        return
    try:
        now = clock()
        log.record(
            SwitchEntry(
                id=log.new_entry_id(),
                time=format_time(now),
                clock=log.clock_status(now),
                tenant=config.tenant,
                scope=LOG_SCOPE,
                name=number,
                off=True,
                reason=epoch.reason,
                operator=present_operator(log.keys.index_key),
            )
        )
    finally:
        log.close()


def _check_target(directory: Path) -> None:
    """Returns if the directory holds nothing yet, or an epoch that was begun."""
    if not (directory / HEAD_FILE).exists():
        return
    storage = open_storage(directory)
    try:
        first = storage.entry(FIRST)
    finally:
        storage.close()
    if first is not None and not isinstance(parse_entry(first), EpochEntry):
        raise StorageError("epoch: the new directory holds another log")


def _make(epoch: NewEpoch, new: LogConfig, random_bytes: Callable[[int], bytes]) -> None:
    keys = epoch.new / KEY_DIRECTORY
    if keys.exists():
        raise StorageError("epoch: the new directory has keys and no log; remove it and begin again")
    epoch.new.mkdir(mode=0o700, parents=True, exist_ok=True)
    _place(epoch)
    init_keys(epoch.new, new.origin, random_bytes, signing_uri=epoch.signing_uri)
    for name in (INDEX_FILE, WRAPPING_FILE):  # (2)
        _share(epoch.old / KEY_DIRECTORY / name, keys / name)
    sync_directory(keys)
    if epoch.vault_directory is None and read_place(epoch.old) is None:  # (3)
        for name in (VAULT_FILE, VAULT_LOCK_FILE):
            (epoch.new / name).symlink_to(os.path.relpath((epoch.old / name).resolve(), epoch.new.resolve()))
    create_log(new, load_keys(epoch.new, random_bytes))  # (4)
    sync_directory(epoch.new)


def _place(epoch: NewEpoch) -> None:
    """Where the old log lies in PostgreSQL, the new one does in a schema beside it, with the same vault."""
    place = read_place(epoch.old)
    if place is None:
        return
    if epoch.schema is None:
        raise StorageError("epoch: expected a schema for the new log, beside the old one's")
    write_place(epoch.new, place.following(epoch.schema))


def _enter(
    new: LogConfig,
    reason: str,
    previous: str,
    clock: Callable[[], datetime],
    random_bytes: Callable[[int], bytes],
) -> None:
    """Writes the first entry, unless it is there."""
    log = AuditLog.open(new, clock=clock, random_bytes=random_bytes)
    try:
        if log.storage.entry(FIRST) is None:
            now = clock()
            log.record(
                EpochEntry(
                    id=log.new_entry_id(),
                    time=format_time(now),
                    clock=log.clock_status(now),
                    tenant=new.tenant,
                    origin=new.origin,
                    reason=reason,
                    previous=previous,
                )
            )
        found = parse_entry(log.storage.entry(FIRST) or b"")
        if not isinstance(found, EpochEntry) or found.previous != previous:
            raise StorageError("epoch: the new directory holds another log")
    finally:
        log.close()


def _link_keys(epoch: NewEpoch) -> None:
    """Has the old directory read its index and wrapping keys in the new one; also an old wrapping key during a re-wrap."""
    old, new = (directory / KEY_DIRECTORY for directory in (epoch.old, epoch.new))
    for name in (INDEX_FILE, WRAPPING_FILE, OLD_WRAPPING_FILE):
        if (old / name).is_symlink():
            continue
        link = old / f".{name}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath((new / name).absolute(), old.resolve()))
        link.replace(old / name)
    sync_directory(old)


def _share(source: Path, target: Path) -> None:
    """The same file under another name, in the place of the one that is there."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # another file system
        write_key_file(target, source.read_text("ascii").strip(), 0o600)


def _newest_note(directory: Path) -> str:
    storage = open_storage(directory)
    try:
        return storage.newest_checkpoint().note.decode()
    finally:
        storage.close()
