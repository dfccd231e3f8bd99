"""Replacing a log's signing key while it is written: both keys sign for a time, so nobody who follows the log loses it.

    keys rotate   (1) keys/signing.next.key: from here on every process signs with both keys
                  (2) log.vkey lists the new key
                  (3) keyrotate/v1 introduce, under a checkpoint of both
    keys retire   (4) keyrotate/v1 retire, under a checkpoint of both
                  (5) keys/signing.old.key is the old key's second name, then next becomes current
                  (6) the old key is overwritten and removed; in a token, destroyed where that is asked for

Each step is durable before the next and does nothing where it was done, so whichever was reached in a crash, the same verb
goes on from it. Processes that write meanwhile look at the key files under the log's lock before each checkpoint
(`keys.KeySource`), so none signs without the new key once an entry says that it is there, or with the old alone once it is
retired. Hosts that share a log in a database have key files each: those need (1), (2) and (5) too, and until a host has
the new key it goes on with the old one and stops at (4) (`committer`).

How long both sign is for those who verify to say: until they, and witnesses, have the new key.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from audit.entry import format_time, parse_entry
from audit.entry_operations import KeyRotationEntry
from audit.errors import KeyFileError
from audit.key_history import INTRODUCE, RETIRE, ROTATION_TYPE, SIGNING, KeyPeriod, key_periods, read_change
from audit.keys import (
    KEY_DIRECTORY,
    NEXT_SIGNING_FILE,
    SEED_BYTES,
    SIGNING_FILE,
    VKEY_FILE,
    format_skey,
    list_vkey,
    load_signer,
    load_vkeys,
    make_signer,
)
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.note import Signer, VerifierKey, format_vkey
from audit.operators import present_operator
from audit.pkcs11 import destroy_key
from audit.pkcs11_uri import is_uri, parse_uri
from audit.private_files import clear_drafts, destroy_file, read_private, sync_directory, write_key_file
from audit.storage import Query, Storage

OLD_SIGNING_FILE = "signing.old.key"
SCHEDULED = "scheduled"
MAX_ROTATIONS = 10_000

OpenLog = Callable[[], AbstractContextManager[AuditLog]]


def rotate(
    directory: Path,
    open_log: OpenLog,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    *,
    uri: str | None = None,
    reason: str = SCHEDULED,
) -> VerifierKey:
    """The key that signs from now on beside the old one: a new one in a file, or with `uri` one that its token holds.

    Raises:
        KeyFileError: another rotation isn't finished, or the token doesn't hold the key.
        AppendError: the introduction wasn't logged; run it again.
    """
    keys = directory / KEY_DIRECTORY
    if (keys / OLD_SIGNING_FILE).exists():
        raise KeyFileError("rotation: a retirement isn't finished; finish it first")
    clear_drafts(keys)
    following = keys / NEXT_SIGNING_FILE
    with open_log() as log:
        if not following.exists():
            text = uri or format_skey(log.config.origin, random_bytes(SEED_BYTES))
            _check_fresh(make_signer(text, log.config.origin), directory)
            write_key_file(following, text, 0o600)  # (1)
        elif uri is not None and read_private(following) != uri:
            raise KeyFileError("rotation: one with another key is under way; finish it first")
        key = load_signer(following, directory / VKEY_FILE).verifier_key
        list_vkey(directory / VKEY_FILE, key)  # (2)
        if key not in log.keys.verifier_keys:
            raise KeyFileError("rotation: the log's keys don't include the new one")
        if not is_in_force(log.storage, key):
            log.record(signing_entry(log, now, INTRODUCE, key, reason))  # (3)
    return key


def retire(
    directory: Path, open_log: OpenLog, now: datetime, *, destroy_in_token: bool = False, reason: str = SCHEDULED
) -> VerifierKey:
    """The key that signs alone from now on; the old one is gone.

    Raises:
        KeyFileError: no rotation is under way, or its key isn't introduced yet.
        AppendError: the retirement wasn't logged; run it again.
    """
    keys = directory / KEY_DIRECTORY
    current, following, old = (keys / name for name in (SIGNING_FILE, NEXT_SIGNING_FILE, OLD_SIGNING_FILE))
    if following.exists():
        _log_retirement(open_log, now, load_signer(following, directory / VKEY_FILE), reason)  # (4)
        if not old.exists():
            os.link(current, old)  # (5)
        following.replace(current)
        sync_directory(keys)
    elif not old.exists():
        raise KeyFileError("rotation: none is under way; begin one first")
    _destroy(old, in_token=destroy_in_token)  # (6)
    return load_signer(current, directory / VKEY_FILE).verifier_key


def signing_entry(log: AuditLog, now: datetime, action: str, key: VerifierKey, reason: str) -> KeyRotationEntry:
    """The entry that says what happens to a signing key."""
    return rotation_entry(log, now, (SIGNING, action), key.key_id.hex(), format_vkey(key), reason)


def rotation_entry(
    log: AuditLog, now: datetime, act: tuple[str, str], key_id: str, vkey: str | None, reason: str
) -> KeyRotationEntry:
    """The entry that says what happens to a key, by the operator of this process; `act` is purpose and action."""
    purpose, action = act
    return KeyRotationEntry(
        id=log.new_entry_id(),
        time=format_time(now),
        clock=log.clock_status(now),
        tenant=log.config.tenant,
        purpose=purpose,
        action=action,
        key_id=key_id,
        vkey=vkey,
        reason=reason,
        operator=present_operator(log.keys.index_key),
    )


def rotation_entries(storage: Storage) -> list[tuple[LeafIndex, KeyRotationEntry]]:
    """The log's rotation entries, in order."""
    found = reversed(storage.find(Query(type=ROTATION_TYPE, limit=MAX_ROTATIONS)))
    entries = ((one.index, parse_entry(storage.entry(one.index) or b"")) for one in found)
    return [(index, entry) for index, entry in entries if isinstance(entry, KeyRotationEntry)]


def signing_periods(storage: Storage, vkey_file: Path) -> tuple[KeyPeriod, ...]:
    """When each of the log's signing keys was in force; raises KeyFileError where the first key isn't known."""
    return key_periods(load_vkeys(vkey_file)[0], rotation_entries(storage))


def is_in_force(storage: Storage, key: VerifierKey) -> bool:
    """Whether the log introduced the key and hasn't retired it since."""
    return _latest_action(storage, key) == INTRODUCE


def _log_retirement(open_log: OpenLog, now: datetime, following: Signer, reason: str) -> None:
    with open_log() as log:
        if not is_in_force(log.storage, following.verifier_key):
            raise KeyFileError("rotation: the new key isn't introduced; run the rotation again first")
        old = log.keys.signer.verifier_key
        if old == following.verifier_key or _latest_action(log.storage, old) == RETIRE:
            return
        log.record(signing_entry(log, now, RETIRE, old, reason))


def _latest_action(storage: Storage, key: VerifierKey) -> str | None:
    changes = [read_change(index, entry) for index, entry in rotation_entries(storage)]
    own = [change.action for change in changes if change is not None and change.key == key]
    return own[-1] if own else None


def _check_fresh(signer: Signer, directory: Path) -> None:
    """A key that signed here before, or signs now, is no successor."""
    if signer.verifier_key in load_vkeys(directory / VKEY_FILE):
        raise KeyFileError("rotation: the log had this key already")


def _destroy(path: Path, *, in_token: bool) -> None:
    text = read_private(path)
    if in_token and is_uri(text):
        destroy_key(parse_uri(text))
    destroy_file(path)
