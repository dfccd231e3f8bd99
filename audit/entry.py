"""The entry kinds and their canonical bytes.

An entry is one JSON object in RFC 8785 (JCS) form, UTF-8, at most 65,535 bytes, made of objects, arrays, strings,
true, false, null and integers up to 2^53-1, with ASCII keys. Its first member names its kind, so that no entry of
one kind can be read as one of another:

    {"_t":"gap/v1","clock":"synchronised","id":"0f1e...","reason":"storage","since":"2026-11-24T05:54:35.000000Z",...}

No kind has a field for a name, an identifier of a person or a clinical value: fields are digests, commitments,
counts, codes and identifiers of software, each held to its form. What replay needs lies encrypted in `payloads`.

Every kind begins with its id (the idempotency key), the time, the state of the clock it was read from, and the tenant.
Kinds share no base on purpose: an edit to one must not reach another.

This module has the kinds about patients' care, and reads and writes all kinds; `entry_operations` has those about the log
and the service, `entry_monitoring` those about how models do, `entry_custody` those about who looked and what was erased. A
new kind is one struct with a new tag, a place in `Entry`, and a golden entry in the tests. A kind that has been released is
never edited: its successor is `/v2`. Verifiers hash stored bytes and never write an entry anew. Pure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.entry_monitoring import AlarmEntry, SketchEntry
from audit.entry_operations import (
    AnchorEntry,
    ConfigEntry,
    EpochEntry,
    GapEntry,
    KeyRotationEntry,
    ModelEntry,
    SwitchEntry,
    VerifyEntry,
)
from audit.errors import EntryError
from audit.fields import MAX_INTEGER, Code, Count, EntryId, Hex256, Timestamp, Token, WebOrigin
from audit.tiles import MAX_ENTRY_BYTES


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The CDS service that answered."""

    id: Code
    version: Code


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hook request: what came, never what it said.

    `prefetch_present` are the keys that were sent, `prefetch_missing` those that were not and could be fetched,
    `prefetch_failed` those that could be had neither way, by the names of the service's own keys. `body` is a commitment
    to the request body. `hook_instance` is the UUID that CDS Hooks asks for; a client's that isn't a UUID has to be
    replaced by a commitment.
    """

    hook: Code
    hook_instance: Code
    body: Hex256
    prefetch_present: tuple[Code, ...]
    prefetch_missing: tuple[Code, ...]
    prefetch_failed: tuple[Code, ...]
    fhir_origin: WebOrigin | None
    scopes: tuple[Token, ...]


class Requester(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asked: the authenticated CDS client, and the user's role code.

    `practitioner` is a keyed digest, the same in every entry. Where the user is the patient or a relative, it is a commitment
    under the patient's key, another in every entry.
    """

    issuer: Token | None
    subject: Token | None
    practitioner: Hex256 | None
    role: Code | None


class ModelUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model version that decided, by digests of everything that defines it; status is `active`, `shadow`."""

    id: Code
    version: Code
    artefact: Hex256
    manifest: Hex256
    thresholds: Hex256
    card: Hex256
    status: Code


class Inputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A commitment to the feature vector, and how complete it was."""

    commitment: Hex256
    present: Count
    missing: Count
    stale: Count


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The band and the decision code; the exact value is in the payload."""

    band: Code | None
    decision: Code


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the output was explained, and a commitment to the explanation."""

    method: Code
    commitment: Hex256


class CardShown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card as it left: its text only as a commitment."""

    uuid: Code
    indicator: Code
    text: Hex256
    suggestions: tuple[Code, ...]


class PayloadReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encrypted payload of this entry: SHA-256 of the sealed bytes, and the key they are sealed under."""

    sha256: Hex256
    key_id: Code


class DecisionEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="decision/v1"
):
    """One decision: also one without a card, an abstention, an error, a timeout, a kill switch, a shadow run.

    `cards` and `system_actions` are what was sent: nothing, where the model ran unseen. An action is a commitment.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    service: Service
    software: Hex256
    config: Hex256
    request: Request
    requester: Requester
    patient: Hex256 | None
    model: ModelUse | None
    inputs: Inputs | None
    output: Output | None
    abstention: tuple[Code, ...]
    explanation: Explanation | None
    cards: tuple[CardShown, ...]
    system_actions: tuple[Hex256, ...]
    latency_us: dict[Code, Count]
    status: Code
    payload: PayloadReference | None


class FeedbackEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="feedback/v1"
):
    """What became of a card: outcome accepted or overridden, with the coded reason; free text is in the payload.

    `decision` is the id of the decision that showed it; `override_reason` is a code that was offered, or `other`.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    service: Service
    requester: Requester
    decision: EntryId
    card: Code
    outcome: Code
    accepted_suggestions: tuple[Code, ...]
    override_reason: Code | None
    outcome_time: Timestamp | None
    payload: PayloadReference | None


Entry: TypeAlias = (
    DecisionEntry
    | FeedbackEntry
    | SwitchEntry
    | GapEntry
    | ConfigEntry
    | ModelEntry
    | EpochEntry
    | KeyRotationEntry
    | AnchorEntry
    | VerifyEntry
    | AccessEntry
    | ErasureEntry
    | HoldEntry
    | SketchEntry
    | AlarmEntry
)


class _Named(msgspec.Struct, frozen=True):
    id: str
    version: str = ""


class _Practitioner(msgspec.Struct, frozen=True):
    practitioner: str | None = None


class EntryHeader(msgspec.Struct, frozen=True):
    """The fields by which a log is indexed, read from an entry of any kind, also one this release doesn't know."""

    type: str = msgspec.field(name="_t")
    id: EntryId
    time: Timestamp
    tenant: str
    clock: str = ""
    service: _Named | None = None
    payload: PayloadReference | None = None
    model: _Named | str | None = None
    version: str = ""
    status: str | None = None
    outcome: str | None = None
    action: str | None = None
    requester: _Practitioner | None = None
    actor: str | None = None
    operator: str | None = None
    requested_by: str | None = None

    @property
    def service_id(self) -> str:
        """The service, "" for kinds without one."""
        return "" if self.service is None else self.service.id

    @property
    def model_version(self) -> str:
        """`id@version` of the model, "" for kinds without one."""
        if self.model is None:
            return ""
        return (
            f"{self.model}@{self.version}" if isinstance(self.model, str) else f"{self.model.id}@{self.model.version}"
        )

    @property
    def result(self) -> str:
        """A decision's status, feedback's outcome, or what else was done; "" for kinds without one."""
        return self.status or self.outcome or self.action or ""

    @property
    def person(self) -> str:
        """The keyed digest of the practitioner, operator or account, "" where there is none."""
        practitioner = self.requester and self.requester.practitioner
        return practitioner or self.actor or self.operator or self.requested_by or ""


_encoder = msgspec.json.Encoder(order="sorted")
_entry_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_header_decoder = msgspec.json.Decoder(EntryHeader)


def format_entry(entry: Entry) -> bytes:
    """The canonical bytes of `entry`, checked field by field as they will be when read.

    Raises:
        EntryError: a field is out of form, or the entry is too large.
    """
    try:
        data = _encoder.encode(entry)
    except (TypeError, ValueError) as exc:
        raise EntryError("entry: can't be written as JSON") from exc
    parse_entry(data)
    return data


def parse_entry(data: bytes) -> Entry:
    """The entry in `data`.

    (1) at most 65,535 bytes;
    (2) a known kind, every field there and in its form, none besides;
    (3) writing it again gives the same bytes: no second spelling, no duplicate member, no other order.

    Raises:
        EntryError: a step fails. The message names the field and never holds its value.
    """
    check_size(data)  # (1)
    try:
        entry = _entry_decoder.decode(data)  # (2)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise EntryError(_without_values(exc)) from None
    if _encoder.encode(entry) != data:  # (3)
        raise EntryError("entry: not in canonical form")
    return entry


def read_header(data: bytes) -> EntryHeader:
    """The index fields of an entry of any kind; nothing else is checked.

    Raises:
        EntryError: not an entry.
    """
    try:
        return _header_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise EntryError(_without_values(exc)) from None


def format_json(value: object) -> bytes:
    """The RFC 8785 bytes of `value`, which holds only what entries may hold: the rules for kinds to come.

    Raises:
        EntryError: a float, an integer beyond 2^53-1, a key that isn't ASCII text, or any other type.
    """
    _check_value(value)
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as exc:
        raise EntryError("entry: a string isn't Unicode") from exc


def format_time(time: datetime) -> str:
    """`2026-11-24T05:54:35.000000Z`: of fixed width, so that text order is time order.

    Raises:
        EntryError: the time has no time zone.
    """
    if time.tzinfo is None:
        raise EntryError("time: expected a time zone")
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def check_size(data: bytes) -> None:
    """Returns if `data` fits in an entry bundle; raises EntryError."""
    if len(data) > MAX_ENTRY_BYTES:
        message = f"entry: expected at most {MAX_ENTRY_BYTES} bytes, got {len(data)}"
        raise EntryError(message)


def _check_value(value: object) -> None:
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) > MAX_INTEGER:
                raise EntryError("entry: integer beyond 2^53-1")
        case Mapping():
            for key, member in value.items():
                if not isinstance(key, str) or not key.isascii():
                    raise EntryError("entry: expected ASCII text as member name")
                _check_value(member)
        case list() | tuple():
            for item in value:
                _check_value(item)
        case _:
            message = f"entry: a {type(value).__name__} can't be logged"
            raise EntryError(message)


def _without_values(exc: Exception) -> str:
    """The place of a decoding error, without msgspec's quotation of what stood there."""
    place = str(exc).rpartition(" - at `")[2].rstrip("`") if " - at `" in str(exc) else "$"
    return f"entry: unreadable or out of form at {place}"
