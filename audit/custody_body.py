"""What a custody request holds beside its subjects, and the digest of it that officers sign.

Nothing here names a patient; `audit.custody` says what becomes of it. A further thing to ask for is a field of `Asked` and
`Body`, and a line with a word of its own in `digest_asked`.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec

from audit.approvals import digest_subjects
from audit.commitments import Digest
from audit.errors import ApprovalError, CustodyError
from audit.fields import EntryId, Hex256, Timestamp
from audit.storage.vault_store import CustodyRequest

_Salt = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request holds beside its subjects; hex where it is bytes.

    `note` is the signed text. `subjects` (salt and digest of each; no salt once it is forgotten), `keys`, `payloads` (key,
    index and number of the epoch), `holds` and `until` are what is asked for, signed by their digest. The rest is found on
    the way: `plan` the keys that an erasure found, `size` the log's when it destroyed them, `retention` how it met the duty,
    `payload_count` and `erased` what its entry says of the payloads, `earlier` the origins of the epochs before from which it
    takes some too, `parts` and `earlier_count` what it took there; `entry_ids` and `patients` what the entries of each hold
    say; `rotate` the token's URI of the wrapping key that is to follow the one `rotate_from`, or "" for a file;
    `withdrawal` the note of the officer who ended it. `seal` is over all of it, see `check_seal`.
    """

    note: str
    salt: _Salt
    subjects: tuple[tuple[_Salt, Hex256], ...] = ()
    keys: tuple[int, ...] = ()
    payloads: tuple[tuple[int, int, int], ...] = ()
    holds: tuple[EntryId, ...] = ()
    until: Timestamp | None = None
    erasure_salt: _Salt = ""
    plan: tuple[int, ...] = ()
    size: int = 0
    retention: str = ""
    payload_count: int = 0
    erased: str = ""
    earlier: tuple[str, ...] = ()
    parts: str | None = None
    earlier_count: int = 0
    entry_ids: tuple[EntryId, ...] = ()
    patients: tuple[Hex256, ...] = ()
    rotate: str | None = None
    rotate_from: str = ""
    withdrawal: str = ""
    seal: str = ""

    def forgotten(self) -> "Body":
        """What stays once all is done: who signed what, and nothing by which a patient could be told."""
        return Body(
            note=self.note,
            salt="",
            retention=self.retention,
            payload_count=self.payload_count,
            earlier_count=self.earlier_count,
            rotate=self.rotate,
            rotate_from=self.rotate_from,
            withdrawal=self.withdrawal,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What one officer asks for: about which subjects (lookups), on what else, and why; `reason` and `override` are codes."""

    kind: str
    reason: str
    subjects: tuple[bytes, ...] = ()
    override: str | None = None
    keys: tuple[int, ...] = ()
    payloads: tuple[tuple[int, int, int], ...] = ()
    holds: tuple[str, ...] = ()
    until: str | None = None
    entry_ids: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()


def format_body(body: Body) -> bytes:
    """The JSON of `body`."""
    return msgspec.json.encode(body)


def parse_body(row: CustodyRequest) -> Body:
    """The body of `row`; raises CustodyError where it can't be read."""
    try:
        return msgspec.json.decode(row.body, type=Body)
    except msgspec.DecodeError:
        message = f"request {row.id}: unreadable"
        raise CustodyError(message) from None


def digest_asked(row: CustodyRequest, body: Body) -> Digest:
    """The digest of all that is asked for, each with a word of its own before it.

    Raises:
        ApprovalError: the subjects of the row aren't those of its body.
    """
    kept = tuple((salt, made) for salt, made in body.subjects if salt)
    if kept != tuple(
        blind(bytes.fromhex(salt), lookup) for (salt, _), lookup in zip(kept, row.subjects, strict=False)
    ) or len(kept) != len(row.subjects):
        message = f"request {row.id}: its subjects are those of another request"
        raise ApprovalError(message)
    asked = [b"subject " + made.encode() for _, made in body.subjects]
    asked += [b"key %d" % key_ref for key_ref in body.keys]
    asked += [b"payload %d %d %d" % payload for payload in body.payloads]
    asked += [b"hold " + hold.encode() for hold in body.holds]
    if body.until is not None:
        asked.append(b"until " + body.until.encode())
    return digest_subjects(bytes.fromhex(body.salt), asked)


def blind(salt: bytes, lookup: bytes) -> tuple[str, str]:
    """A subject as it is signed: without the salt nobody can tell whom the digest is of, not even with the index key."""
    return salt.hex(), sha256(salt + lookup).hexdigest()
