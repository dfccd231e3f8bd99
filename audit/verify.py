"""Full verification of a log, or of one receipt: offline, from the public key alone, without any secret.

A log is read once, front to back, in constant memory. Everything stored is either recomputed from the entries or
compared with what they say, so a changed byte in an entry, a node, a column, a payload or a checkpoint shows, and
the first bad index is named. To detect a rewrite by whoever holds the signing key, bring heads kept elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from audit.anchor_check import ANCHOR_TYPE, AnchorCheck, AnchorReport, CheckTimestamp
from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.commitments import digest
from audit.committer import summarise
from audit.entry import EntryHeader, parse_entry, read_header
from audit.entry_custody import ErasureEntry
from audit.entry_operations import AnchorEntry, KeyRotationEntry
from audit.errors import (
    AuditError,
    EntryError,
    ForkError,
    PayloadError,
    RollbackError,
    StorageError,
    VerificationError,
)
from audit.key_history import ROTATION_TYPE, KeyHistory
from audit.merkle import Frontier, LeafIndex, Sha256, TreeSize, extend, leaf_hash, root
from audit.note import VerifierKey, parse_note
from audit.payloads import read_key_ref
from audit.proof import check_proof, parse_proof, proven_leaf
from audit.storage import Scan, StoredCheckpoint, StoredEntry, StoredPayload
from audit.tombstones import TakenPart, Tombstones

ERASURE_TYPE = "erasure/v1"


@dataclass(frozen=True, slots=True)
class LogReport:
    """A log that holds: its newest checkpoint, and how much was checked."""

    checkpoint: Checkpoint
    entries: int
    checkpoints: int
    payloads: int
    heads: int
    erased: int
    anchors: AnchorReport


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """A receipt that holds: which leaf stands where, under which checkpoint."""

    checkpoint: Checkpoint
    index: LeafIndex
    leaf_hash: Sha256
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier knows beforehand: keys, the origin if it is to be one, and signed heads kept elsewhere.

    Of the keys the first that the log had is enough: the log names those that came after (`audit.key_history`). Of a log that
    goes on in another epoch also what the verified logs of later ones took from it.
    """

    log_keys: tuple[VerifierKey, ...]
    origin: str | None = None
    heads: tuple[bytes, ...] = ()
    witness_keys: tuple[VerifierKey, ...] = ()
    check_timestamp: CheckTimestamp | None = None
    taken_later: tuple[TakenPart, ...] = ()


def verify_log(scan: Scan, trust: Trust) -> LogReport:
    """The report of a log that holds.

    (1) the store is of our form;
    (2) entries are numbered without a gap; each leaf hash, and each node it completes, is the stored one; the
        columns say what the entry says; the payload is there and has the digest that the entry names, or neither is,
        or it was taken by an erasure in this log, which took as many, and these (`audit.tombstones`);
    (3) every stored checkpoint is signed by a key in force, and its root is the root of the entries before it; that all
        of them are roots of one growing tree is stronger than pairwise consistency proofs;
    (4) the newest checkpoint covers the last entry, and nothing lies beyond it;
    (5) the store has no damage of its own, also outside entries;
    (6) every head kept elsewhere is signed by a key in force and is a root of the same tree;
    (7) what outsiders gave for its heads is about these checkpoints, and is what the log says they gave (`audit.anchor_check`).

    Raises:
        VerificationError: step 1 to 5 and 7, with the first bad index where it is an entry's; an unsigned head.
        RollbackError, ForkError: step 6 and 7.
    """
    scan.check_form()  # (1)
    heads = _open_heads(trust)
    walk = _Walk(trust, scan, heads)
    walk.pass_size()
    for stored in _indexed(scan.entries(), walk):
        walk.take(stored)  # (2)
        walk.pass_size()  # (3)
    newest = walk.finish()  # (4)
    try:
        stray = scan.stray_index(walk.size)
    except StorageError as exc:
        raise VerificationError("store", str(exc)) from exc
    if stray is not None:
        raise VerificationError("payloads and facts", "a row without an entry", stray)
    scan.check_integrity()  # (5)
    for head, note in heads:  # (6)
        if head.size > walk.size:
            walk.check_head(note)
            raise RollbackError(note, walk.newest_note)
    anchors = walk.anchors.finish()  # (7)
    return LogReport(newest, walk.size, walk.checkpoints, walk.payloads, len(heads), walk.erased, anchors)


def verify_receipt(data: bytes, trust: Trust, entry: bytes | None = None) -> ReceiptReport:
    """The report of a .tlog-proof file that holds; `entry` where the receipt doesn't say what it is about.

    Raises:
        FormatError, SignatureError, ProofError: it doesn't hold.
    """
    proof = parse_proof(data)
    leaf = proven_leaf(proof) if entry is None else leaf_hash(entry)
    checkpoint = check_proof(proof, leaf, trust.log_keys, origin=trust.origin)
    if entry is None and proof.extra is not None and proof.extra != leaf:
        entry = proof.extra
    return ReceiptReport(checkpoint, proof.index, leaf, entry)


class _Walk:
    """Where a verification stands: the tree of the entries taken so far, and what has been compared with it."""

    def __init__(self, trust: Trust, scan: Scan, heads: Sequence[tuple[Checkpoint, bytes]]) -> None:
        self._origin = trust.origin
        self._keys = KeyHistory(trust.log_keys)
        self._pending = scan.checkpoints()
        self._next = self._advance()
        self._heads = heads
        self._tombstones = _read_tombstones(scan, trust)
        self.anchors = AnchorCheck(scan.anchors(), self._keys, trust.witness_keys, trust.check_timestamp)
        self._frontier = Frontier()
        self._covered: Checkpoint | None = None
        self.newest_note = b""
        self.checkpoints = 0
        self.payloads = 0
        self.erased = 0

    @property
    def size(self) -> TreeSize:
        return self._frontier.size

    def take(self, stored: StoredEntry) -> None:
        """Checks one entry and adds it to the tree."""
        index = LeafIndex(self.size)
        if stored.summary.index != index:
            raise VerificationError("entry", f"missing, next is {stored.summary.index}", index)
        self._frontier, completed = extend(self._frontier, [leaf_hash(stored.entry)])
        expected = b"".join(completed[0])
        if stored.nodes[:32] != expected[:32]:
            raise VerificationError("entry", "the bytes don't hash to the stored leaf hash", index)
        if stored.nodes != expected:
            raise VerificationError("nodes", "not the hashes of the entries below", index)
        try:
            header = read_header(stored.entry)
        except EntryError as exc:
            raise VerificationError("entry", str(exc), index) from exc
        if stored.summary != summarise(index, header):
            raise VerificationError("columns", "they don't say what the entry says", index)
        self._check_payload(index, header, stored.payload)
        if header.type in (ERASURE_TYPE, ROTATION_TYPE, ANCHOR_TYPE):
            self._heed(index, stored.entry)

    def _check_payload(self, index: LeafIndex, header: EntryHeader, payload: StoredPayload | None) -> None:
        if header.payload is None and payload is None:
            return
        if payload is None:
            raise VerificationError("payload", "missing", index)
        if header.payload is None:
            raise VerificationError("payload", "the entry names none", index)
        if payload.sealed is None:
            self._tombstones.take(index, payload.erasure)
            self.erased += 1
            return
        if payload.erasure:
            raise VerificationError("payload", "it is said to be erased, and is there", index)
        if digest(payload.sealed) != header.payload.sha256:
            raise VerificationError("payload", "not the one the entry names", index)
        try:
            key_ref = read_key_ref(payload.sealed)
        except PayloadError as exc:
            raise VerificationError("payload", str(exc), index) from exc
        if key_ref != payload.key_ref:  # else the erasure of another patient would take it along
            raise VerificationError("payload", "filed under another key than it is sealed under", index)
        self.payloads += 1

    def _heed(self, index: LeafIndex, data: bytes) -> None:
        """Takes in an entry that says what is to be found elsewhere in the log."""
        try:
            entry = parse_entry(data)
        except EntryError as exc:
            raise VerificationError("entry", str(exc), index) from exc
        if isinstance(entry, ErasureEntry):
            self._tombstones.check_entry(index, entry)
        elif isinstance(entry, KeyRotationEntry):
            self._keys.take(index, entry)
        elif isinstance(entry, AnchorEntry):
            self.anchors.take(index, entry)

    def pass_size(self) -> None:
        """Compares the tree, at its present size, with the stored checkpoint and the heads of that size."""
        while self._next is not None and self._next.size <= self.size:
            self._check_checkpoint(self._next)
            self._next = self._advance()
        for head, note in self._heads:
            if head.size == self.size:
                self.check_head(note)
                if head.root != root(self._frontier):
                    raise ForkError(note, self.newest_note)

    def check_head(self, note: bytes) -> None:
        """Returns if a head kept elsewhere is signed by a key in force here."""
        try:
            self._keys.open_head(note, self._origin)
        except AuditError as exc:
            raise VerificationError("head", str(exc)) from exc

    def _check_checkpoint(self, stored: StoredCheckpoint) -> None:
        part = f"checkpoint of size {stored.size}"
        # Entries up to the last good checkpoint stand; with this one, those that come after it lose their warrant.
        first = 0 if self._covered is None else self._covered.size
        unwarranted = first if stored.size > first else None
        try:
            checkpoint = self._keys.open(stored.note, self._origin)
        except VerificationError:
            raise
        except AuditError as exc:
            raise VerificationError(part, str(exc), unwarranted) from exc
        if checkpoint.size != stored.size or stored.size != self.size:
            raise VerificationError(part, f"it says size {checkpoint.size}", unwarranted)
        if self._covered is not None and checkpoint.origin != self._covered.origin:
            raise VerificationError(part, "it is of another origin", unwarranted)
        if checkpoint.root != root(self._frontier):
            reason = f"entries {first} to {stored.size - 1} don't lead to the root of their signed checkpoint"
            raise VerificationError("entry", reason, first)
        self._covered, self.newest_note = checkpoint, stored.note
        self.checkpoints += 1
        self.anchors.pass_checkpoint(stored)

    def finish(self) -> Checkpoint:
        """The newest checkpoint, which covers exactly the entries."""
        if self._next is not None:
            raise VerificationError(
                "entry", f"missing, though a checkpoint of size {self._next.size} is there", self.size
            )
        if self._covered is None:
            raise VerificationError("checkpoints", "none")
        if self._covered.size != self.size:
            raise VerificationError("entry", "no checkpoint covers it", self._covered.size)
        self._tombstones.finish()
        return self._covered

    def _advance(self) -> StoredCheckpoint | None:
        try:
            return next(self._pending, None)
        except StorageError as exc:
            raise VerificationError("checkpoints", str(exc)) from exc


def _indexed(entries: Iterable[StoredEntry], walk: _Walk) -> Iterator[StoredEntry]:
    """The entries; where the store can't be read on, the error names the entry that was to come."""
    try:
        yield from entries
    except StorageError as exc:
        raise VerificationError("entry", str(exc), walk.size) from exc


def _read_tombstones(scan: Scan, trust: Trust) -> Tombstones:
    try:
        return Tombstones(scan.erasures(), trust.taken_later)
    except StorageError as exc:
        raise VerificationError("erasures", str(exc)) from exc


def _open_heads(trust: Trust) -> list[tuple[Checkpoint, bytes]]:
    """What the heads say; their signatures are checked where the keys of that size are known."""
    opened = []
    for note in trust.heads:
        try:
            opened.append((parse_checkpoint(parse_note(note).text), note))
        except AuditError as exc:
            raise VerificationError("head", str(exc)) from exc
    return opened
