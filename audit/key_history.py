"""Which keys may sign a log's checkpoints, learned from the log itself: so the first key is all that a verifier needs.

    index 41   keyrotate/v1  signing  introduce  B      sizes up to 41: A    from 42 on: A and B, each by itself enough
    index 90   keyrotate/v1  signing  retire     A      sizes from 91 on: B

An introduction counts once a checkpoint covers it that a key in force signed, and the new key too: whoever introduces a key has
to hold it. A retirement counts from the checkpoint that covers it. So a checkpoint that only a retired key signed, or
only one that wasn't introduced yet, is refused, even where that key is among those trusted from the start.

A key of a type that isn't known here (`note.KEY_TYPES`) is passed over, as its signature lines are. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.encoding import parse_decimal
from audit.entry_operations import KeyRotationEntry
from audit.errors import FormatError, SignatureError, VerificationError
from audit.merkle import LeafIndex
from audit.note import ED25519_COSIGNATURE, OpenedNote, VerifierKey, format_vkey, open_note, parse_vkey

ROTATION_TYPE = "keyrotate/v1"
SIGNING, WRAPPING = "signing", "wrapping"
INTRODUCE, RETIRE, DESTROY = "introduce", "retire", "destroy"


@dataclass(frozen=True, slots=True)
class KeyPeriod:
    """The tree sizes whose checkpoints a key may sign, both inclusive; `last` is None for a key in force."""

    key: VerifierKey
    first: int
    last: int | None

    def covers(self, size: int) -> bool:
        """Whether the key may sign a checkpoint of this size."""
        return self.first <= size and (self.last is None or size <= self.last)


@dataclass(frozen=True, slots=True)
class _Change:
    index: LeafIndex
    action: str
    key: VerifierKey


class KeyHistory:
    """The keys in force at the place where a verification stands; told of every rotation entry and checkpoint in order."""

    def __init__(self, first_keys: Iterable[VerifierKey]) -> None:
        """Trusts `first_keys` from the start, each until the log says otherwise."""
        self._in_force = dict.fromkeys(first_keys, 0)
        self._known = dict.fromkeys(self._in_force)
        self._pending: list[_Change] = []
        self._settled: set[VerifierKey] = set()  # of which the log has said when they are in force
        # By which keys, and from which checkpoint on: were these all introduced only later, it had no warrant.
        self._relied: dict[frozenset[VerifierKey], tuple[int, int]] = {}
        self._covered = 0

    @property
    def known(self) -> tuple[VerifierKey, ...]:
        """Every key that signed or may sign, in the order they came."""
        return tuple(self._known)

    def take(self, index: LeafIndex, entry: KeyRotationEntry) -> None:
        """Notes a rotation entry, which counts with the next checkpoint."""
        change = read_change(index, entry)
        if change is not None:
            self._pending.append(change)
            self._known.setdefault(change.key)

    def open(self, note: bytes, origin: str | None) -> Checkpoint:
        """The checkpoint in `note`, which covers every entry taken so far.

        (1) every signature of a known key holds, and the text is a checkpoint of `origin`;
        (2) introductions since the checkpoint before count, where a key in force and the new one signed;
        (3) retirements since then count;
        (4) a key in force signed.

        Raises:
            FormatError, SignatureError: it isn't one, or has no warrant.
            VerificationError: an earlier checkpoint had none: all its keys came later.
        """
        opened, checkpoint = self._open(note, origin)  # (1)
        for change in self._pending:
            if change.action == INTRODUCE:
                self._introduce(change, opened.signed_by)  # (2)
        for change in self._pending:
            if change.action == RETIRE:
                self._in_force.pop(change.key, None)  # (3)
                self._settled.add(change.key)
        self._pending.clear()
        self._rely(opened, checkpoint)  # (4)
        self._covered = checkpoint.size
        return checkpoint

    def open_head(self, note: bytes, origin: str | None) -> Checkpoint:
        """The checkpoint in `note`, a head kept elsewhere, of the size where the verification stands, or beyond its end.

        Raises:
            FormatError, SignatureError: it isn't one, or no key in force signed it.
        """
        opened, checkpoint = self._open(note, origin)
        self._signers_in_force(opened)
        return checkpoint

    def _open(self, note: bytes, origin: str | None) -> tuple[OpenedNote, Checkpoint]:
        opened = open_note(note, self.known)
        checkpoint = parse_checkpoint(opened.text)
        if origin is not None and checkpoint.origin != origin:
            message = f"checkpoint: expected origin {origin}, got {checkpoint.origin}"
            raise SignatureError(message)
        return opened, checkpoint

    def _introduce(self, change: _Change, signed_by: Sequence[VerifierKey]) -> None:
        warranted = any(key in self._in_force for key in signed_by if key != change.key)
        if change.key not in signed_by or not warranted:
            return
        self._in_force[change.key] = change.index + 1
        if change.key not in self._settled:
            self._settled.add(change.key)
            self._unrely(change)

    def _unrely(self, change: _Change) -> None:
        """Takes back what the key warranted before it was introduced."""
        for keys in [keys for keys in self._relied if change.key in keys]:
            size, first = self._relied.pop(keys)
            if keys == {change.key}:
                reason = f"signed only by a key introduced later, at index {change.index}"
                raise VerificationError(f"checkpoint of size {size}", reason, first)
            self._relied.setdefault(keys - {change.key}, (size, first))

    def _rely(self, opened: OpenedNote, checkpoint: Checkpoint) -> None:
        signers = self._signers_in_force(opened)
        self._relied.setdefault(signers, (checkpoint.size, min(self._covered, max(checkpoint.size - 1, 0))))

    def _signers_in_force(self, opened: OpenedNote) -> frozenset[VerifierKey]:
        signers = frozenset(key for key in opened.signed_by if key in self._in_force)
        if not signers:
            ids = ", ".join(key.key_id.hex() for key in opened.signed_by)
            message = f"checkpoint: signed only by keys that aren't in force at its size ({ids})"
            raise SignatureError(message)
        return signers


def read_change(index: LeafIndex, entry: KeyRotationEntry) -> _Change | None:
    """What the entry says of a key that signs checkpoints; None: nothing, or of a key of a type that isn't known here."""
    if entry.purpose != SIGNING or entry.action not in (INTRODUCE, RETIRE) or entry.vkey is None:
        return None
    try:
        key = parse_vkey(entry.vkey)
    except FormatError:
        return None
    return None if key.key_type == ED25519_COSIGNATURE else _Change(index, entry.action, key)


def key_periods(first_key: VerifierKey, entries: Iterable[tuple[LeafIndex, KeyRotationEntry]]) -> tuple[KeyPeriod, ...]:
    """When each key was in force, from a log's rotation entries in order; of a log that holds."""
    periods = {first_key: KeyPeriod(first_key, 0, None)}
    for index, entry in entries:
        change = read_change(index, entry)
        if change is None:
            continue
        if change.action == INTRODUCE:
            periods.setdefault(change.key, KeyPeriod(change.key, index + 1, None))
        elif change.key in periods:
            periods[change.key] = KeyPeriod(change.key, periods[change.key].first, index)
    return tuple(periods.values())


def trusted_periods(
    keys: Iterable[VerifierKey], entries: Iterable[tuple[LeafIndex, KeyRotationEntry]]
) -> dict[VerifierKey, KeyPeriod]:
    """When each of these keys is in force: from the start and for good, save where an entry says otherwise; in any order."""
    periods = {key: KeyPeriod(key, 0, None) for key in keys}
    for index, entry in entries:
        change = read_change(index, entry)
        period = None if change is None else periods.get(change.key)
        if change is None or period is None:
            continue
        if change.action == RETIRE:
            periods[change.key] = KeyPeriod(change.key, period.first, index if period.last is None else period.last)
        elif period.first == 0 and period.last is None:
            periods[change.key] = KeyPeriod(change.key, index + 1, None)
    return periods


def parse_periods(text: str) -> tuple[KeyPeriod, ...]:
    """The keys in a list of lines as `format_periods` writes them; a vkey alone is of a key always in force.

    Raises:
        FormatError: malformed, or empty.
    """
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    if not lines or any(len(line) not in (1, 3) for line in lines):
        raise FormatError("verifier keys: expected lines of a key, or of a key and its first and last tree size")
    return tuple(_parse_period(line) for line in lines)


def format_periods(periods: Iterable[KeyPeriod]) -> str:
    """One line a key: vkey, first and last tree size; `-` for a key in force."""
    lines = (f"{format_vkey(one.key)} {one.first} {'-' if one.last is None else one.last}" for one in periods)
    return "".join(f"{line}\n" for line in lines)


def _parse_period(line: Sequence[str]) -> KeyPeriod:
    vkey, first, last = line if len(line) == 3 else (*line, "0", "-")
    until = None if last == "-" else parse_decimal(last, "last tree size")
    return KeyPeriod(parse_vkey(vkey), parse_decimal(first, "first tree size"), until)
