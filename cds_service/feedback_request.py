"""A feedback body as its entries (CDS Hooks 2.0.1, "Feedback"): each is read by itself, so a bad one never drops the rest.

Unknown members are ignored. An entry in which a member stands twice is refused, as another reader on the way may have taken
the other one. Nothing here looks at the log: whether a card or a suggestion is known is for `feedback` to say.
What a client may differ in is Epic's, and read only from clients that have that quirk: `overrideReasons`, or a reason
somewhere in `extension`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cds_service.errors import BadRequestError

MAX_ENTRIES = 1_000  # one commit holds the log's lock for some 40 ms with as many
OUTCOMES = ("accepted", "overridden")


class Coding(msgspec.Struct, frozen=True):
    """A reason as the client sent it; `display` and `system` may be missing, and so may `code` where there is a text."""

    code: str | None = None
    system: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that was not taken: its place in the batch, and why, without a value of it."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a client says became of one card.

    Attributes:
        index: its place in the batch.
        moment: when the outcome came about, aware UTC.
        extension: JSON of what came in `extension`, where the client's reasons may stand there.
    """

    index: int
    card: str
    outcome: str
    moment: datetime
    suggestions: tuple[str, ...]
    reasons: tuple[Coding, ...]
    comment: str
    extension: bytes


class _WireSuggestion(msgspec.Struct):
    id: str


class _WireReason(msgspec.Struct, rename="camel"):
    reason: Coding | None = None
    user_comment: str | None = None
    extension: msgspec.Raw = msgspec.Raw()


class _WireEntry(msgspec.Struct, rename="camel"):
    card: str
    outcome: str
    outcome_timestamp: Annotated[datetime, Meta(tz=True)]
    accepted_suggestions: tuple[_WireSuggestion, ...] | None = None
    override_reason: _WireReason | None = None
    override_reasons: msgspec.Raw = msgspec.Raw()
    extension: msgspec.Raw = msgspec.Raw()


class _WireBody(msgspec.Struct):
    feedback: msgspec.Raw


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """Why an entry can't be taken."""


class _RepeatedError(Exception):
    """A member stands twice in one object."""


_BODY = msgspec.json.Decoder(_WireBody)
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_WireEntry)


def parse_feedback(body: bytes, *, plural: bool) -> tuple[tuple[Feedback, ...], tuple[Refusal, ...]]:
    """The entries of the body, and those that can't be read; `plural`: the client has its reasons in other places, too.

    Raises:
        BadRequestError: not JSON, no object with one filled array `feedback`, too many entries, or not one that can be read.
    """
    entries: list[Feedback] = []
    refused: list[Refusal] = []
    for index, raw in enumerate(_split(body)):
        try:
            entries.append(_read(index, bytes(raw), plural=plural))
        except _Unreadable as exc:
            refused.append(Refusal(index, str(exc)))
    if not entries:
        raise BadRequestError(f"feedback: no entry can be read; the first: {refused[0].reason}")
    return tuple(entries), tuple(refused)


def _split(body: bytes) -> list[msgspec.Raw]:
    try:
        array = bytes(_BODY.decode(body).feedback)
        entries = _ENTRIES.decode(array)
        _refuse_repeated_members(body.replace(array, b"null", 1))
    except msgspec.ValidationError as exc:
        raise BadRequestError(f"body is no feedback: {_without_values(exc)}") from None
    except _RepeatedError:
        raise BadRequestError("body is no feedback: a member was sent twice") from None
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors, as is a number too long
        raise BadRequestError(f"body is not JSON in UTF-8, or nested too deeply: {len(body)} bytes") from None
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise BadRequestError(f"feedback: expected 1 to {MAX_ENTRIES} entries, got {len(entries)}")
    return entries


def _read(index: int, raw: bytes, *, plural: bool) -> Feedback:
    try:
        wire = _ENTRY.decode(raw)
        _refuse_repeated_members(raw)
        moment = wire.outcome_timestamp.astimezone(UTC)
        overridden = wire.outcome == "overridden"
        reasons, comments, extension = _reasons(wire, plural=plural) if overridden else ([], [], b"")
    except msgspec.ValidationError as exc:
        raise _Unreadable(_without_values(exc)) from None
    except _RepeatedError:
        raise _Unreadable("a member was sent twice") from None
    except (ValueError, RecursionError):  # as in `_split`
        raise _Unreadable("not JSON in UTF-8, or nested too deeply") from None
    except OverflowError:
        raise _Unreadable("outcomeTimestamp: expected a time of the years 1 to 9999 in UTC") from None
    if wire.outcome not in OUTCOMES:
        raise _Unreadable(f"outcome: expected {' or '.join(OUTCOMES)}")
    suggestions = tuple(dict.fromkeys(chosen.id.lower() for chosen in wire.accepted_suggestions or ()))
    if not overridden and not suggestions:
        raise _Unreadable("acceptedSuggestions: expected at least one for an accepted card")
    return Feedback(
        index=index,
        card=wire.card,
        outcome=wire.outcome,
        moment=moment,
        suggestions=() if overridden else suggestions,
        reasons=tuple(reasons),
        comment="\n".join(comments),
        extension=extension,
    )


def _refuse_repeated_members(document: bytes) -> None:
    """Reads the JSON once more, by a parser that sees every member.

    Raises:
        _RepeatedError: a member stands twice in one object.
    """
    json.loads(document, object_pairs_hook=_members)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RepeatedError
    return members


def _reasons(wire: _WireEntry, *, plural: bool) -> tuple[list[Coding], list[str], bytes]:
    """Codings, comments, and the extensions as one JSON array, empty if there are none."""
    given = [wire.override_reason] if wire.override_reason is not None else []
    codings: list[Coding] = []
    extensions: list[Any] = []
    if plural:
        given += _plural(bytes(wire.override_reasons))
        raw = [bytes(found) for found in (wire.extension, *(one.extension for one in given))]
        extensions = [found for found in (msgspec.json.decode(json) for json in raw if json) if found]
        codings = list(_codings(extensions))
    codings = [one.reason for one in given if one.reason is not None and one.reason != Coding()] + codings
    comments = [one.user_comment for one in given if one.user_comment]
    return codings, comments, msgspec.json.encode(extensions) if extensions else b""


def _plural(raw: bytes) -> list[_WireReason]:
    """The members of `overrideReasons`: Codings, or objects like `overrideReason`."""
    members = msgspec.json.decode(raw, type=list[msgspec.Raw] | None) if raw else None
    return [_either(bytes(member)) for member in members or ()]


def _either(raw: bytes) -> _WireReason:
    names = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    if {"reason", "userComment", "extension"} & names.keys():
        return msgspec.json.decode(raw, type=_WireReason)
    return _WireReason(reason=msgspec.json.decode(raw, type=Coding))


def _codings(value: Any) -> Iterator[Coding]:
    """Every object with a `code` in `value`, however deep."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            texts = {name: found[name] for name in Coding.__struct_fields__ if isinstance(found.get(name), str)}
            if "code" in texts:
                yield Coding(**texts)
            else:
                waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)


def _without_values(exc: msgspec.ValidationError) -> str:
    """The message of msgspec, which names types and places, and for the types used here no values."""
    text = str(exc)
    return text[0].lower() + text[1:]
