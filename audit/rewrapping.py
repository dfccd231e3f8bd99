"""Replacing the wrapping key: every patient's key is wrapped anew, and what the old wrapping key opened is opened no more.

    (1) keys/wrapping.next.key
    (2) keyrotate/v1 introduce
    (3) keys/wrapping.old.key is the old key's second name, then next becomes current: processes wrap under the new key from
        here on, and unwrap under both
    (4) every key in the vault is wrapped anew, batch by batch, and no copy under the old one stays in its files
    (5) the old key is destroyed: overwritten and removed, or destroyed in its token; its file says so
    (6) keyrotate/v1 destroy
    (7) keys/wrapping.old.key goes

Each step is durable before the next and does nothing where it was done: after a crash, run it again. What was sealed stays
as it is: a payload is under its patient's key, and only that key's wrapping changes, so the wrapping key that an entry names is
the one of its time. Hosts that share a vault in a database have key files each: let only one of them write meanwhile, and
give the others its new keys/wrapping.key.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.errors import KeyFileError, StorageError
from audit.key_history import DESTROY, INTRODUCE, WRAPPING
from audit.keys import DESTROYED, KEY_DIRECTORY, OLD_WRAPPING_FILE, WRAPPING_FILE, make_wrapper
from audit.log import AuditLog
from audit.pkcs11 import destroy_key
from audit.pkcs11_uri import is_uri, parse_uri
from audit.private_files import clear_drafts, destroy_file, read_private, replace_file, sync_directory, write_key_file
from audit.rotation import SCHEDULED, OpenLog, rotation_entries, rotation_entry
from audit.wrapping import WRAPPING_KEY_BYTES, KeyWrapper

NEXT_WRAPPING_FILE = "wrapping.next.key"
GONE_WRAPPING_FILE = "wrapping.gone.key"
# A run that finds nothing ends it; each can find only what was made while the one before ran.
_MAX_RUNS = 10


@dataclass(frozen=True, slots=True)
class RewrapReport:
    """The wrapping key in force, and how many keys were wrapped anew by this run."""

    key_id: str
    keys: int


def rewrap(
    directory: Path,
    open_log: OpenLog,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    *,
    uri: str | None = None,
    reason: str = SCHEDULED,
) -> RewrapReport:
    """What was done, to the end: under a new key in a file, or with `uri` under one that its token holds.

    Raises:
        KeyFileError: the token doesn't hold the key.
        PayloadError: keys in the vault that the old wrapping key doesn't open; all others are done, and it is kept.
        AppendError, StorageError: it stopped half-way; run it again.
    """
    keys = directory / KEY_DIRECTORY
    current, old, following = (keys / name for name in (WRAPPING_FILE, OLD_WRAPPING_FILE, NEXT_WRAPPING_FILE))
    clear_drafts(keys)
    if following.exists() or not old.exists():
        with open_log() as log:
            if not following.exists():
                text = uri or random_bytes(WRAPPING_KEY_BYTES).hex()
                _check_fresh(make_wrapper(text, random_bytes), log.keys.wrapper)
                write_key_file(following, text, 0o600)  # (1)
            _note(log, now, INTRODUCE, make_wrapper(read_private(following), random_bytes).key_id, reason)  # (2)
        if not old.exists():
            os.link(current, old)  # (3)
        following.replace(current)
        sync_directory(keys)
    with open_log() as log:
        count = _rewrap_all(log, old, random_bytes)  # (4)
        gone = _destroy(old, random_bytes)  # (5)
        _note(log, now, DESTROY, gone, reason)  # (6)
        old.unlink()  # (7)
        sync_directory(keys)
        return RewrapReport(log.keys.wrapper.key_id, count)


def _rewrap_all(log: AuditLog, old: Path, random_bytes: Callable[[int], bytes]) -> int:
    text = read_private(old)
    if text.startswith(DESTROYED):
        return 0
    before, now = make_wrapper(text, random_bytes), log.keys.wrapper
    count = 0
    for _ in range(_MAX_RUNS):
        done = log.vault.rewrap(before, now)
        count += done
        if not done:
            return count
    raise StorageError("rewrap: the vault is written faster than it is wrapped anew; run it again")


def _destroy(old: Path, random_bytes: Callable[[int], bytes]) -> str:
    """The id of the old key, which is no more; the file that was its own says so."""
    gone = old.with_name(GONE_WRAPPING_FILE)
    text = read_private(old)
    if not text.startswith(DESTROYED):
        key_id = make_wrapper(text, random_bytes).key_id
        if not gone.exists():
            os.link(old, gone)
        replace_file(old, DESTROYED + key_id, 0o600)
    else:
        key_id = text.removeprefix(DESTROYED)
    if gone.exists():
        text = read_private(gone)
        if is_uri(text):
            destroy_key(parse_uri(text))
        destroy_file(gone)
    return key_id


def _note(log: AuditLog, now: datetime, action: str, key_id: str, reason: str) -> None:
    """Logs what happened to the wrapping key, unless the log says so."""
    if not any((entry.key_id, entry.action) == (key_id, action) for _, entry in rotation_entries(log.storage)):
        log.record(rotation_entry(log, now, (WRAPPING, action), key_id, None, reason))


def _check_fresh(following: KeyWrapper, current: KeyWrapper) -> None:
    if following.key_id == current.key_id:
        raise KeyFileError("rewrap: the new wrapping key is the old one")
