"""One batch, from waiting entries to receipts: the body of the group commit. Knows no threads.

(1) take the log's lock: from here on nobody else appends. What came while we waited for our turn is in the batch, too;
(2) re-read the newest checkpoint; if another process wrote it, re-read the frontier, and refuse to go on when it isn't
    signed by a key in force (`head_guard`), or the log is smaller than what we have seen, no longer holds the checkpoint we
    saw, leads to another root than its own, or was closed, or when our keys have been retired;
(3) set aside entries that are in the log already: appending again is acknowledged again, with other bytes refused;
(4) hash the rest into the tree and sign ONE checkpoint over it;
(5) write entries, nodes, payloads and checkpoint in ONE durable commit;
(6) leave the checkpoint in the head file and release the lock;
(7) make the receipts: siblings come from the frontier and the batch, so nothing is read back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.entry import EntryHeader
from audit.errors import EntryConflictError, ForkError, RollbackError
from audit.head import HeadFile, read_checked_frontier
from audit.head_guard import HeadGuard
from audit.merkle import (
    Frontier,
    LeafIndex,
    NodeReader,
    Sha256,
    TreeSize,
    extend,
    perfect_nodes,
    prove_inclusion,
    root,
)
from audit.note import Signer
from audit.payloads import SealedPayload
from audit.proof import LogProof, format_proof
from audit.storage import EntrySummary, Foreseen, Storage, StoredCheckpoint, StoredEntry, StoredPayload, Transaction


@dataclass(frozen=True, slots=True)
class Appendable:
    """An entry that passed every check and waits for its place."""

    header: EntryHeader
    entry: bytes
    leaf: Sha256
    payload: SealedPayload | None


@dataclass(frozen=True, slots=True)
class LogReceipt:
    """Acknowledgement of one entry: durable, at `index`, and covered by the signed checkpoint in `proof_text`.

    `proof_text` is a whole .tlog-proof file whose extra data is the leaf hash.
    """

    origin: str
    index: LeafIndex
    tree_size: TreeSize
    leaf_hash: Sha256
    entry_id: str
    proof_text: str


Outcome = LogReceipt | EntryConflictError


@dataclass(frozen=True, slots=True)
class _Head:
    """The head this process saw last."""

    note: bytes
    frontier: Frontier


class Committer:
    """Appends batches to one log; one caller at a time."""

    def __init__(
        self,
        storage: Storage,
        head_file: HeadFile,
        signers: Callable[[], Sequence[Signer]],
        origin: str,
        guard: HeadGuard,
    ) -> None:
        """Signs each checkpoint with all that `signers` gives at the time; `guard` looks at those of other processes."""
        self._storage = storage
        self._head_file = head_file
        self._signers = signers
        self._origin = origin
        self._guard = guard
        self._head: _Head | None = None

    def commit(self, take: Callable[[], Sequence[Appendable]]) -> list[Outcome]:
        """One outcome per entry of the batch, in order; `take` gives the batch, once, when it is our turn.

        Raises:
            StorageError: nothing was acknowledged; UnsignedHeadError: the log didn't sign what is in the store.
            RollbackError, ForkError: the store contradicts the head this process saw last; nothing was written.
            KeyFileError: our keys can't sign any more; nothing was written.
            EpochEndedError: the log was closed.
        """
        batch: list[Appendable] = []

        def turn() -> Foreseen:
            batch.extend(take())
            return self._guard.foreseen([item.header.id for item in batch])

        with self._storage.exclusive(turn) as transaction:  # (1)
            signers = self._signers()
            head = self._read_head(transaction, signers)  # (2)
            places, fresh = _place(batch, head.frontier.size, transaction)  # (3)
            nodes: dict[tuple[int, int], Sha256] = {}
            if fresh:
                before = head.frontier
                head, completed = self._grow(before, fresh, signers)  # (4)
                transaction.append(
                    _rows(before.size, fresh, completed), StoredCheckpoint(head.frontier.size, head.note)
                )  # (5)
                nodes = _known_nodes(before, completed)
                self._head = head
                self._guard.take_own([item.entry for item in fresh], head.frontier.size)
                self._head_file.write(head.note)  # (6)
        node = _overlay(nodes, self._storage.node)
        return [self._outcome(item, place, head, node) for item, place in zip(batch, places, strict=True)]  # (7)

    def _read_head(self, transaction: Transaction, signers: Sequence[Signer]) -> _Head:
        stored = transaction.newest_checkpoint()
        if self._head is not None and stored.note == self._head.note:
            self._guard.check_goes_on()
            return self._head
        signed = self._guard.open(stored, signers)
        if self._head is not None:
            if stored.size < self._head.frontier.size:
                raise RollbackError(self._head.note, stored.note)
            if transaction.checkpoint(self._head.frontier.size) != self._head.note:
                raise ForkError(self._head.note, stored.note)
        self._guard.follow(signed, transaction)
        self._guard.check_goes_on()
        self._head = _Head(stored.note, read_checked_frontier(signed.checkpoint, transaction.node))
        return self._head

    def _grow(
        self, before: Frontier, fresh: Sequence[Appendable], signers: Sequence[Signer]
    ) -> tuple[_Head, list[tuple[Sha256, ...]]]:
        frontier, completed = extend(before, (item.leaf for item in fresh))
        note = sign_checkpoint(Checkpoint(self._origin, frontier.size, root(frontier)), signers)
        return _Head(note, frontier), completed

    def _outcome(
        self, item: Appendable, place: LeafIndex | EntryConflictError, head: _Head, node: NodeReader
    ) -> Outcome:
        if isinstance(place, EntryConflictError):
            return place
        size = head.frontier.size
        proof = LogProof(place, prove_inclusion(place, size, node), head.note, extra=item.leaf)
        return LogReceipt(self._origin, place, size, item.leaf, item.header.id, format_proof(proof).decode())


def _place(
    batch: Sequence[Appendable], size: TreeSize, transaction: Transaction
) -> tuple[list[LeafIndex | EntryConflictError], list[Appendable]]:
    """Where each entry stands or will stand, and those that are new, in order."""
    places: list[LeafIndex | EntryConflictError] = []
    fresh: dict[str, tuple[LeafIndex, Appendable]] = {}
    logged = transaction.places([item.header.id for item in batch])
    for item in batch:
        entry_id = item.header.id
        if entry_id in fresh:
            index, first = fresh[entry_id]
            places.append(index if first.entry == item.entry else _conflict(entry_id))
        elif entry_id in logged:
            known, entry = logged[entry_id]
            places.append(known if entry == item.entry else _conflict(entry_id))
        else:
            index = LeafIndex(size + len(fresh))
            fresh[entry_id] = (index, item)
            places.append(index)
    return places, [item for _, item in fresh.values()]


def _conflict(entry_id: str) -> EntryConflictError:
    return EntryConflictError(f"entry id {entry_id}: taken by an entry with other bytes")


def _rows(size: TreeSize, fresh: Sequence[Appendable], completed: Sequence[Sequence[Sha256]]) -> list[StoredEntry]:
    return [
        StoredEntry(
            summarise(LeafIndex(index), item.header),
            b"".join(nodes),
            item.entry,
            None if item.payload is None else StoredPayload(item.payload.key_ref, item.payload.sealed),
        )
        for index, (item, nodes) in enumerate(zip(fresh, completed, strict=True), start=size)
    ]


def summarise(index: LeafIndex, header: EntryHeader) -> EntrySummary:
    """The facts an entry is found by."""
    return EntrySummary(
        index,
        header.id,
        header.type,
        header.time,
        header.service_id,
        header.model_version,
        header.result,
        header.person,
    )


def _known_nodes(before: Frontier, completed: Sequence[Sequence[Sha256]]) -> dict[tuple[int, int], Sha256]:
    """Every perfect node that a proof in the newest batch can ask for, by level and position."""
    nodes = dict(zip(perfect_nodes(0, before.size), before.peaks, strict=True))
    for index, hashes in enumerate(completed, start=before.size):
        for level, value in enumerate(hashes):
            nodes[level, index >> level] = value
    return nodes


def _overlay(nodes: Mapping[tuple[int, int], Sha256], stored: NodeReader) -> NodeReader:
    def read(level: int, position: int) -> Sha256:
        found = nodes.get((level, position))
        return stored(level, position) if found is None else found

    return read
