"""Asking witnesses for their cosignature of the log's newest checkpoint (the client's side of C2SP tlog-witness).

A witness that isn't ours, or that we were told is one, is believed nothing: what it answers counts only if its signature
over exactly our checkpoint holds. What it refuses counts too: that it holds a larger tree, or another one, is what a rewrite
by the log's own operator looks like from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.add_checkpoint import PATH, SIZE_TYPE, AddCheckpoint, format_add_checkpoint, parse_size
from audit.checkpoint import open_checkpoint
from audit.cosignature import Cosigned, attach_cosignatures, check_witness_key
from audit.errors import FormatError, SignatureError
from audit.merkle import TreeSize, prove_consistency
from audit.note import VerifierKey, parse_vkey
from audit.outside import Ask, HttpAnswer, OutsideError
from audit.storage import Reader, StoredCheckpoint
from audit.witness_state import origin_hash

TIMEOUT_S = 5.0
NEVER = TreeSize(0)
# Once with what we know, once with what we are told, and once more where another client was faster in between.
_ATTEMPTS = 3
_MAX_NAME = 255


class WitnessError(OutsideError):
    """A witness that gives no cosignature."""


class WitnessContradictionError(WitnessError):
    """A witness that holds a larger tree than ours, or one that ours doesn't extend: the log was rewritten, or it lies."""


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness that is asked: its key, where it takes checkpoints, and where it gives out its newest ("" for nowhere)."""

    key: VerifierKey
    url: str
    monitoring_url: str = ""

    @property
    def name(self) -> str:
        """Its name: the one it signs with."""
        return self.key.name


@dataclass(frozen=True, slots=True)
class WitnessedCheckpoint:
    """The checkpoint that was shown, and what came back: the same note with the witness's signature."""

    shown: StoredCheckpoint
    cosigned: Cosigned


def known_witness(vkey: str, url: str, monitoring_url: str = "") -> KnownWitness:
    """The witness with this verifier key at this address.

    Raises:
        FormatError: not a witness's key, or a name that entries can't hold.
    """
    key = parse_vkey(vkey)
    check_witness_key(key)
    if not (key.name.isascii() and key.name.isprintable() and len(key.name) <= _MAX_NAME):
        message = f"witness key: expected a name of at most {_MAX_NAME} printable ascii characters"
        raise FormatError(message)
    return KnownWitness(key, url.rstrip("/"), monitoring_url.rstrip("/"))


def ask_cosignature(
    store: Reader, witness: KnownWitness, ask: Ask, *, known: TreeSize = NEVER, timeout_s: float = TIMEOUT_S
) -> WitnessedCheckpoint:
    """The store's newest checkpoint, cosigned; `known` is the size that the witness cosigned last, as far as we know.

    (1) show the newest checkpoint, with the proof from the size known;
    (2) told another size, prove from there, if our tree is so large;
    (3) what comes back must be the witness's signature over what we showed.

    Raises:
        WitnessContradictionError: it holds a tree that ours doesn't extend.
        WitnessError: it doesn't know the log, or gives something else.
        OutsideError: it can't be asked.
        StorageError: the store can't be read.
    """
    for _ in range(_ATTEMPTS):
        newest = store.newest_checkpoint()
        if known > newest.size:
            raise _ahead(witness, known, newest.size)
        proof = prove_consistency(known, newest.size, store.node)
        body = format_add_checkpoint(AddCheckpoint(known, proof, newest.note))  # (1)
        answer = ask("POST", f"{witness.url}/{PATH}", body=body, headers=_HEADERS, timeout_s=timeout_s)
        if answer.status == 200:
            return WitnessedCheckpoint(newest, _taken(newest, answer, witness))  # (3)
        if answer.status != 409:
            raise _refused(witness, answer)
        known = _told_size(witness, answer)  # (2)
    message = f"witness {witness.name}: expected a cosignature, got {_ATTEMPTS} different sizes"
    raise WitnessError(message)


def fetch_head(
    witness: KnownWitness, log_keys: Sequence[VerifierKey], origin: str, ask: Ask, *, timeout_s: float = TIMEOUT_S
) -> bytes | None:
    """The newest checkpoint that the witness cosigned for `origin`, signed by log and witness; None where it has none.

    Raises:
        OutsideError: it can't be asked, or answers something else.
        FormatError, SignatureError: what it gives isn't signed by both.
    """
    url = f"{witness.monitoring_url}/{origin_hash(origin)}/checkpoint"
    answer = ask("GET", url, timeout_s=timeout_s)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise _refused(witness, answer)
    open_checkpoint(answer.body, log_keys, origin=origin, witness_keys=[witness.key], quorum=1)
    return answer.body


_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}
_REFUSALS = {
    400: "it can't read the request",
    403: "it doesn't trust the log's key",
    404: "it doesn't know the log",
}


def _taken(newest: StoredCheckpoint, answer: HttpAnswer, witness: KnownWitness) -> Cosigned:
    try:
        return attach_cosignatures(newest.note, answer.body, witness.key)
    except (FormatError, SignatureError) as exc:
        message = f"witness {witness.name}: {exc}"
        raise WitnessError(message) from exc


def _told_size(witness: KnownWitness, answer: HttpAnswer) -> TreeSize:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    try:
        if kind != SIZE_TYPE:
            message = f"expected {SIZE_TYPE}"
            raise FormatError(message)
        return parse_size(answer.body)
    except FormatError as exc:
        message = f"witness {witness.name}: answered 409: {exc}"
        raise WitnessError(message) from exc


def _refused(witness: KnownWitness, answer: HttpAnswer) -> WitnessError:
    if answer.status == 422:
        return WitnessContradictionError(f"witness {witness.name}: it holds a tree that ours doesn't extend")
    reason = _REFUSALS.get(answer.status, f"it answered {answer.status}")
    return WitnessError(f"witness {witness.name}: {reason}")


def _ahead(witness: KnownWitness, told: TreeSize, ours: TreeSize) -> WitnessError:
    message = f"witness {witness.name}: it holds a tree of {told} entries, ours has {ours}"
    return WitnessContradictionError(message)
