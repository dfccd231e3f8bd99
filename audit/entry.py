"""The entry kinds and their canonical bytes.

An entry is one JSON object in RFC 8785 (JCS) form, UTF-8, at most 65,535 bytes, made of objects, arrays, strings,
true, false, null and integers up to 2^53-1, with ASCII keys. Its first member names its kind, so that no entry of
one kind can be read as one of another:

    {"_t":"gap/v1","clock":"synchronised","id":"0f1e...","reason":"storage","since":"2026-11-24T05:54:35.000000Z",...}

No kind has a field for a name, an identifier of a person or a clinical value: fields are digests, commitments,
counts, codes and identifiers of software, each held to its form. What replay needs lies encrypted in `payloads`.

Every kind begins with its id (the idempotency key), the time, the state of the clock it was read from, and the tenant.
Kinds share no base on purpose: an edit to one must not reach another.

A new kind is one struct with a new tag, a place in `Entry`, and a golden entry in the tests. A kind that has been
released is never edited: its successor is `/v2`. Verifiers hash stored bytes and never write an entry anew. Pure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from audit.errors import EntryError
from audit.tiles import MAX_ENTRY_BYTES

MAX_INTEGER = 2**53 - 1  # RFC 8785 writes numbers as IEEE 754 doubles

# \Z, not $: a dollar would let a final line feed through.
EntryId: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]  # a UUID; the idempotency key
Hex256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Timestamp: TypeAlias = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}Z\Z")
]
Code: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}\Z")]
Token: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,255}\Z")]
WebOrigin: TypeAlias = Annotated[
    str, Meta(pattern=r"^https?://[A-Za-z0-9.\[\]_:-]{1,255}\Z")
]  # no path: it may name a patient
LogOrigin: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x2a\x2c-\x7e]{1,255}\Z")]  # no space, no plus
CheckpointText: TypeAlias = Annotated[str, Meta(pattern=r"^[\x0a\x20-\x7e\u2014]{1,8192}\Z")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The CDS service that answered."""

    id: Code
    version: Code


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hook request: what came, never what it said.

    `prefetch_present` are the keys that were sent, `prefetch_missing` those that were not and could be fetched,
    `prefetch_failed` those that could be had neither way, by the names of the service's own keys. `body` is a keyed digest
    of the request body. `hook_instance` is the UUID that CDS Hooks asks for; a client's that isn't a UUID has to be
    replaced by its keyed digest.
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
    """Who asked: the authenticated CDS client, and the practitioner as a keyed digest and role code."""

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
    """A card as it left: its text only as a keyed digest."""

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

    `cards` and `system_actions` are what was sent: nothing, where the model ran unseen. An action is a keyed digest.
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


class SwitchEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="switch/v1"
):
    """Something was switched off or on again: a service, a model, or all of a tenant; by whom as a keyed digest."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    scope: Code
    name: Code
    off: bool
    reason: Code
    operator: Hex256 | None


class GapEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="gap/v1"):
    """Between `since` and `until`, `unacknowledged` entries were refused or timed out in one process."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    since: Timestamp
    until: Timestamp
    reason: Code
    unacknowledged: Count


class ConfigEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="config/v1"
):
    """The software and configuration in force from here on."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    software: Hex256
    software_version: Code
    config: Hex256
    models: tuple[Hex256, ...]


class EpochEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="epoch/v1"):
    """The first entry of an epoch: its origin, why it began, and the last checkpoint of the one before."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    origin: LogOrigin
    reason: Code
    previous: CheckpointText | None


class VerifyEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="verify/v1"
):
    """A full verification that was run, and what it found."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    size: Count
    root: Hex256
    outcome: Code
    first_bad_index: Count | None


Entry: TypeAlias = DecisionEntry | FeedbackEntry | SwitchEntry | GapEntry | ConfigEntry | EpochEntry | VerifyEntry


class EntryHeader(msgspec.Struct, frozen=True):
    """The fields by which a log is indexed, read from an entry of any kind, also one this release doesn't know."""

    type: str = msgspec.field(name="_t")
    id: EntryId
    time: Timestamp
    tenant: str
    service: Service | None = None
    payload: PayloadReference | None = None


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


def header_of(entry: Entry) -> EntryHeader:
    """What `read_header` reads from the bytes of `entry`."""
    return EntryHeader(
        type=str(entry.__struct_config__.tag),
        id=entry.id,
        time=entry.time,
        tenant=entry.tenant,
        service=entry.service if isinstance(entry, DecisionEntry | FeedbackEntry) else None,
        payload=entry.payload if isinstance(entry, DecisionEntry | FeedbackEntry) else None,
    )


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
