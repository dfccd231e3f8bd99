"""A witness: cosigns the checkpoints of logs it knows, and never two that contradict one another (C2SP tlog-witness).

Run it where the log's operator has no power: all it says is worth is that. It needs of a log its verifier key and nothing
else, sees sizes and hashes and never an entry, and serves any log that speaks C2SP.

    POST /add-checkpoint                     200 with cosignature lines, or
        400  out of form, or the old size is beyond the checkpoint's
        403  no signature of a trusted key that is in force at this size, or a wrong one
        404  a log it doesn't know
        408  the body didn't come in time (`witness_app.bodies`)
        409  another old size than the one cosigned last, which is the body
        422  the proof doesn't hold, or the same size has another root
    GET  /<hex sha256(origin)>/checkpoint    the newest cosigned checkpoint

A further log is a verifier key more; what is kept of it stands in `witness_state`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from audit.add_checkpoint import AddCheckpoint, parse_add_checkpoint
from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.cosignature import Cosigner, cosigned_time_s, format_lines
from audit.encoding import format_base64
from audit.errors import AuditError, FormatError, KeyFileError, ProofError, SignatureError, StorageError
from audit.key_history import KeyPeriod
from audit.merkle import EMPTY_ROOT, TreeSize, check_consistency
from audit.note import ED25519, Note, VerifierKey, format_note, open_note, parse_note
from audit.witness_state import LogState, WitnessState, origin_hash

log = logging.getLogger("bedside.audit.witness")


class WitnessRefusalError(AuditError):
    """A request that gets no cosignature; `status` is the HTTP status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class SizeConflictError(WitnessRefusalError):
    """The old size isn't the one cosigned last, which is `size` (409)."""

    def __init__(self, size: TreeSize) -> None:
        self.size = size
        super().__init__(409, f"old size: expected {size}, which was cosigned last")


def known_logs(keys: Iterable[VerifierKey | KeyPeriod]) -> dict[str, tuple[KeyPeriod, ...]]:
    """The keys of each log by its origin, which is their name; two while a key is being rotated.

    A key with a period signs checkpoints of the sizes in it alone; one without it, of any.

    Raises:
        KeyFileError: a key of a type that signs no checkpoints, or one with two periods.
    """
    logs: dict[str, dict[VerifierKey, KeyPeriod]] = {}
    for given in keys:
        period = given if isinstance(given, KeyPeriod) else KeyPeriod(given, 0, None)
        if period.key.key_type != ED25519:
            message = f"verifier key {period.key.name}: expected a log's"
            raise KeyFileError(message)
        if logs.setdefault(period.key.name, {}).setdefault(period.key, period) != period:
            message = f"verifier key {period.key.name}+{period.key.key_id.hex()}: expected it once, got two periods"
            raise KeyFileError(message)
    return {name: tuple(periods.values()) for name, periods in logs.items()}


class Witness:
    """Answers for the logs it knows; safe in many threads, and beside other processes on the same state."""

    def __init__(
        self,
        cosigner: Cosigner,
        logs: Mapping[str, Sequence[KeyPeriod]],
        state: WitnessState,
        clock: Callable[[], datetime],
    ) -> None:
        """Raises KeyFileError where a log has the witness's own key, which then would say two things."""
        own = cosigner.verifier_key.public_key
        if any(period.key.public_key == own for periods in logs.values() for period in periods):
            raise KeyFileError("witness key: expected one that is no log's")
        self._cosigner = cosigner
        self._logs = logs
        self._state = state
        self._clock = clock
        self._hashes = {origin_hash(origin): origin for origin in logs}

    @property
    def verifier_key(self) -> VerifierKey:
        return self._cosigner.verifier_key

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature lines for the checkpoint in `body`; what they say is durable by then.

        (1) the request is in form, and the log is known;
        (2) one of the log's keys signed, in force at this size, and none of their signatures is wrong;
        (3) the old size is not beyond the new one;
        (4) under the log's lock, from here to the end: the old size is the one cosigned last;
        (5) the proof leads from the tree cosigned last to the new one;
        (6) keep the new one, and only then answer.

        Raises:
            WitnessRefusalError: step 1 to 5.
            StorageError: the state can't be read or written, or isn't what this witness signed.
        """
        request, origin = _read(body)  # (1)
        periods = self._logs.get(origin)
        if periods is None:
            raise WitnessRefusalError(404, "unknown log")
        note = _signed_note(request.checkpoint, [period.key for period in periods])  # (2)
        checkpoint = _checkpoint(note.text)
        _check_in_force(note, periods, checkpoint.size)
        if request.old_size > checkpoint.size:  # (3)
            raise WitnessRefusalError(400, "old size: expected one not beyond the checkpoint's")
        with self._state.locked(origin) as state:  # (4)
            last = self._last(state, origin)
            if request.old_size != last.size:
                raise SizeConflictError(last.size)
            self._check_follows(request, last, checkpoint, state)  # (5)
            cosignature = self._cosigner.cosign(note.text, int(self._clock().timestamp()))
            state.keep(format_note(Note(note.text, (*note.signatures, cosignature))))  # (6)
        return format_lines([cosignature])

    def newest(self, hashed_origin: str) -> bytes:
        """The newest cosigned checkpoint of the log with this hash; WitnessRefusalError (404) where there is none."""
        origin = self._hashes.get(hashed_origin)
        note = None if origin is None else self._state.newest(origin)
        if note is None:
            raise WitnessRefusalError(404, "no checkpoint of such a log")
        return note

    def _last(self, state: LogState, origin: str) -> Checkpoint:
        """What was cosigned last; the empty tree before the first time."""
        note = state.newest()
        if note is None:
            return Checkpoint(origin, TreeSize(0), EMPTY_ROOT)
        try:
            cosigned_time_s(note, self._cosigner.verifier_key)
            return parse_checkpoint(parse_note(note).text)
        except (FormatError, SignatureError) as exc:
            message = f"witness state of {origin}: expected a checkpoint cosigned by {self.verifier_key.name}: {exc}"
            raise StorageError(message) from exc

    def _check_follows(self, request: AddCheckpoint, last: Checkpoint, new: Checkpoint, state: LogState) -> None:
        try:
            check_consistency(last.size, new.size, request.proof, last.root, new.root)
        except ProofError as exc:
            if (
                last.size == new.size and last.root != new.root
            ):  # signed twice: proof against the log that anyone can check
                state.keep_fork(request.checkpoint)
                log.error("log forked", extra={"origin": new.origin, "size": new.size})
            else:
                facts = {"origin": new.origin, "old_size": last.size, "size": new.size}
                log.warning("consistency proof refused", extra=facts)
            message = f"consistency proof: {exc}"
            raise WitnessRefusalError(422, message) from exc


def _read(body: bytes) -> tuple[AddCheckpoint, str]:
    """The request and the origin it names."""
    try:
        request = parse_add_checkpoint(body)
        text, separator, lines = request.checkpoint.decode("utf-8").rpartition("\n\n")
    except (FormatError, UnicodeDecodeError) as exc:
        message = f"request: {exc}" if isinstance(exc, FormatError) else "checkpoint: expected UTF-8"
        raise WitnessRefusalError(400, message) from exc
    if not separator or not lines.endswith("\n"):
        raise WitnessRefusalError(400, "checkpoint: expected text, empty line, signature lines")
    return request, text.partition("\n")[0]


def _signed_note(data: bytes, keys: Sequence[VerifierKey]) -> Note:
    """The note with the signatures of `keys` alone, which hold: strangers' don't make what is kept grow."""
    try:
        open_note(data, keys)
        note = parse_note(data)
    except (FormatError, SignatureError) as exc:  # a signature that can't be read is none that verifies
        message = f"invalid signature: {exc}"
        raise WitnessRefusalError(403, message) from exc
    known = {(key.name, key.key_id) for key in keys}
    own = dict.fromkeys(one for one in note.signatures if (one.name, one.key_id) in known)
    return Note(note.text, tuple(own))


def _check_in_force(note: Note, periods: Sequence[KeyPeriod], size: TreeSize) -> None:
    """Returns if a key signed that may sign a checkpoint of this size; WitnessRefusalError (403) if not."""
    signed = {(line.name, line.key_id) for line in note.signatures}
    if not any(period.covers(size) for period in periods if (period.key.name, period.key.key_id) in signed):
        log.warning("key not in force", extra={"origin": periods[0].key.name, "size": size})
        message = f"invalid signature: by a key that isn't in force at size {size}"
        raise WitnessRefusalError(403, message)


def _checkpoint(text: str) -> Checkpoint:
    if text.split("\n")[1:2] == ["0"] and text.split("\n")[2:3] != [format_base64(EMPTY_ROOT)]:
        raise WitnessRefusalError(422, "checkpoint: the empty tree has another root")
    try:
        return parse_checkpoint(text)
    except FormatError as exc:
        raise WitnessRefusalError(400, str(exc)) from exc
