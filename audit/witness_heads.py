"""What the witnesses hold, brought to where opening a log is compared with it; called before it is opened.

The heads directory alone could be put back together with the store. What a witness gives out now could not.

A witness that still takes a key which the log has retired may cosign a longer tree for whoever stole that key. Such a head must
not stop the log for good, yet a log that was rewritten may claim any retirement: so a head is passed over only where the same
witness signed, before, a tree of ours that holds the retirement. It can't then take it for news that the key is retired.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from audit.anchor_check import COSIGNATURE
from audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from audit.errors import AuditError, FormatError, SignatureError
from audit.heads import keep_head
from audit.key_history import RETIRE, read_change
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import LogConfig
from audit.merkle import LeafIndex, check_inclusion, leaf_hash, prove_inclusion
from audit.note import VerifierKey, open_note
from audit.outside import Ask, OutsideError
from audit.rotation import rotation_entries
from audit.storage import Storage
from audit.storage.opening import open_storage
from audit.witnessing import KnownWitness, fetch_head

log = logging.getLogger("bedside.audit.heads")

# A start waits no longer for witnesses that don't answer.
START_TIMEOUT_S = 2.0


def keep_witness_heads(
    config: LogConfig, witnesses: Sequence[KnownWitness], ask: Ask, *, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Brings what the witnesses cosigned last into the heads directory; to be called before the log is opened.

    Witnesses are asked side by side. One that can't be reached, or gives nothing that it and the log signed, is a warning in
    the operations log and no more: a start must not hang on an outsider.

    Raises:
        KeyFileError: the log's verifier keys can't be read.
        StorageError: a head can't be kept, so that opening couldn't be compared with it; or the log can't be read.
    """
    asked = [witness for witness in witnesses if witness.monitoring_url]
    if not asked:
        return
    keys = load_vkeys(config.directory / VKEY_FILE)

    def fetched(witness: KnownWitness) -> bytes | None:
        try:
            return fetch_head(witness, keys, config.origin, ask, timeout_s=timeout_s)
        except (OutsideError, FormatError, SignatureError) as exc:
            log.warning("witness not compared with", extra={"witness": witness.name, "why": str(exc)})
            return None

    with ThreadPoolExecutor(len(asked), thread_name_prefix="witness-head") as pool:
        notes = list(pool.map(fetched, asked))
    heads = [(witness, note) for witness, note in zip(asked, notes, strict=True) if note is not None]
    for witness, note in _warranted(config, keys, heads):
        keep_head(config.heads_directory, witness.name, note)


def check_warrant(note: bytes, log_keys: Sequence[VerifierKey], witness: KnownWitness, storage: Storage) -> None:
    """Returns unless `note`, which the witness cosigned, is signed only by keys of the log that it had seen retired before.

    (1) each of the log's keys that signed is retired, by the log's own entries, for sizes such as this;
    (2) the newest cosignature of the witness that the store keeps is over a checkpoint of the log, and holds;
    (3) each of the retirements is in the tree of that checkpoint.

    Where any of this can't be shown the head counts: the log may be the one that lies.

    Raises:
        SignatureError: all of it is shown.
    """
    opened = open_note(note, log_keys)
    signers, size = opened.signed_by, parse_checkpoint(opened.text).size
    retired = _retirements(storage)
    if any(retired.get(key, size) >= size for key in signers):  # (1)
        return
    try:
        seen = _seen(log_keys, witness, storage)  # (2)
        for index in {retired[key] for key in signers}:  # (3)
            leaf = leaf_hash(storage.entry(index) or b"")
            check_inclusion(leaf, index, seen.size, prove_inclusion(index, seen.size, storage.node), seen.root)
    except (AuditError, ValueError):
        return
    ids = ", ".join(key.key_id.hex() for key in signers)
    message = f"signed only by keys that {witness.name} had seen retired before ({ids}): somebody else holds one"
    raise SignatureError(message)


def _warranted(
    config: LogConfig, keys: Sequence[VerifierKey], heads: Sequence[tuple[KnownWitness, bytes]]
) -> list[tuple[KnownWitness, bytes]]:
    """Those of the heads that count."""
    if len(keys) == 1 or not heads:  # no key was ever retired
        return list(heads)
    storage = open_storage(config.directory)
    try:
        return [(witness, note) for witness, note in heads if _counts(note, keys, witness, storage)]
    finally:
        storage.close()


def _counts(note: bytes, keys: Sequence[VerifierKey], witness: KnownWitness, storage: Storage) -> bool:
    try:
        check_warrant(note, keys, witness, storage)
    except SignatureError as exc:
        log.error("witness's head not counted", extra={"witness": witness.name, "why": str(exc)})
        return False
    return True


def _retirements(storage: Storage) -> dict[VerifierKey, LeafIndex]:
    """The keys that are retired, and by which entry."""
    retired: dict[VerifierKey, LeafIndex] = {}
    for index, entry in rotation_entries(storage):
        change = read_change(index, entry)
        if change is None:
            continue
        if change.action == RETIRE:
            retired[change.key] = index
        else:
            retired.pop(change.key, None)
    return retired


def _seen(log_keys: Sequence[VerifierKey], witness: KnownWitness, storage: Storage) -> Checkpoint:
    """The newest checkpoint that the witness cosigned, by its own signature."""
    given = [one for one in storage.newest_anchors() if (one.kind, one.authority) == (COSIGNATURE, witness.name)]
    if not given:
        message = f"{witness.name}: no cosignature is kept"
        raise SignatureError(message)
    return open_checkpoint(given[0].evidence, log_keys, witness_keys=[witness.key], quorum=1)
