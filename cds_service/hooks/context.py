"""What every hook's context has in common, and strict readers for its plain fields; `resources` reads the FHIR ones.

The members arrive as the client's own bytes and each is decoded once, where it is read. Identifiers never have defaults:
a missing `patientId` is the client's error, not a generated id. `Patient/123` is tolerated for the bare id that the
specification asks for, because services in the field send it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType, TypeVar

import msgspec

from cds_service.errors import BadRequestError

PatientId = NewType("PatientId", str)
Members = Mapping[str, msgspec.Raw]
T = TypeVar("T")

# FHIR's id type (R4, 2.24.0.1) plus the underscore that some servers allow; "." and ".." would climb in a URL's path.
ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
USERS = frozenset({"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"})
_JSON_TYPES = {
    b"n": "null",
    b"t": "a boolean",
    b"f": "a boolean",
    b'"': "a string",
    b"[": "an array",
    b"{": "an object",
}
_VALUES = msgspec.json.Decoder()
_ARRAYS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class UserReference:
    """Who triggered the hook, as `Type/id`."""

    resource_type: str
    id: str


@dataclass(frozen=True, slots=True)
class ContextResource:
    """A FHIR resource that the context itself holds: a draft order, an appointment, a new allergy or problem.

    Attributes:
        reference: `Type/id` where it has an id.
        document: its JSON as received, whose other members nobody has read yet.
        selected: whether advice is wanted on it; False for the other drafts of order-select.
    """

    reference: str | None = field(repr=False)
    resource_type: str
    document: bytes = field(repr=False)
    selected: bool = True


@dataclass(frozen=True, slots=True)
class HookContext:
    """The fields that all hooks share; `encounter_id` and `user` are None where the hook allows their absence."""

    patient_id: PatientId
    user: UserReference | None
    encounter_id: str | None
    resources: tuple[ContextResource, ...] = ()


def read_common(context: Members, *, user: bool = True, encounter: bool = False) -> HookContext:
    """The shared fields; `user` and `encounter` say whether the hook requires them.

    Raises:
        BadRequestError: one that is required is missing, or one has the wrong form.
    """
    patient_id = PatientId(require_id(context, "patientId", "Patient"))
    who = require_user(context, USERS) if user or is_present(context, "userId") else None
    read_encounter = require_id if encounter else optional_id
    return HookContext(patient_id, who, read_encounter(context, "encounterId", "Encounter"))


def require_id(context: Members, name: str, resource_type: str) -> str:
    """The bare id in `context[name]`.

    Raises:
        BadRequestError: absent, not a string, or not a FHIR id.
    """
    require(context, name)
    return _read_id(context, name, resource_type)


def optional_id(context: Members, name: str, resource_type: str) -> str | None:
    """The bare id in `context[name]`, or None when absent or null.

    Raises:
        BadRequestError: not a string, or not a FHIR id.
    """
    return _read_id(context, name, resource_type) if is_present(context, name) else None


def require_user(context: Members, allowed: frozenset[str]) -> UserReference:
    """The user in `context.userId`, relative or absolute, whose resource type must be one of `allowed`.

    Raises:
        BadRequestError: absent, not `Type/id`, or of another type.
    """
    value = decode(_VALUES, require(context, "userId"), "userId")
    resource_type, _, identifier = local_reference(value).partition("/") if isinstance(value, str) else ("", "", "")
    if resource_type not in allowed or not ID.fullmatch(identifier):
        raise BadRequestError(f"context.userId: expected Type/id with Type one of {', '.join(sorted(allowed))}")
    return UserReference(resource_type, identifier)


def require_string(context: Members, name: str) -> str:
    """The string in `context[name]`.

    Raises:
        BadRequestError: absent, or not a string.
    """
    return _read_string(require(context, name), name)


def require_strings(context: Members, name: str) -> tuple[str, ...]:
    """The strings in the array `context[name]`, which may be none; null items are skipped.

    Raises:
        BadRequestError: absent, or not an array of strings.
    """
    return tuple(_read_string(item, name) for item in read_array(require(context, name), name))


def require(context: Members, name: str) -> msgspec.Raw:
    """`context[name]`, whatever it is.

    Raises:
        BadRequestError: absent or null.
    """
    if not is_present(context, name):
        raise BadRequestError(f"context.{name} is required")
    return context[name]


def first_present(context: Members, *spellings: str) -> str:
    """The first of the names under which the context has something, else the first."""
    return next((name for name in spellings if is_present(context, name)), spellings[0])


def is_present(context: Members, name: str) -> bool:
    """Whether `context[name]` is there and not null."""
    return name in context and json_type(context[name]) != "null"


def read_array(document: msgspec.Raw, name: str) -> list[msgspec.Raw]:
    """The items of an array that aren't null.

    Raises:
        BadRequestError: not an array.
    """
    require_type(document, "an array", name)
    return [item for item in decode(_ARRAYS, document, name) if json_type(item) != "null"]


def require_type(document: msgspec.Raw, expected: str, name: str) -> None:
    """Refuses a value of another JSON type.

    Raises:
        BadRequestError: it is not `expected`, a word of `json_type`.
    """
    got = json_type(document)
    if got != expected:
        raise BadRequestError(f"context.{name}: expected {expected}, got {got}")


def json_type(document: msgspec.Raw) -> str:
    """What a JSON value is, in words and without the value; its first byte tells."""
    return _JSON_TYPES.get(bytes(memoryview(document)[:1]), "a number")


def decode(decoder: msgspec.json.Decoder[T], document: msgspec.Raw, name: str) -> T:
    """The value of `document`.

    Raises:
        BadRequestError: of another type, or no JSON, which the parser of the whole call doesn't look for in a context.
    """
    try:
        return decoder.decode(document)
    except msgspec.ValidationError as exc:
        raise BadRequestError(f"context.{name}: {without_values(exc)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError(f"context.{name}: expected JSON in UTF-8 that isn't nested too deeply") from None


def local_reference(reference: str) -> str:
    """`Type/id` of a reference that may be absolute, or name a version."""
    return "/".join(reference.partition("/_history/")[0].split("/")[-2:])


def without_values(exc: msgspec.ValidationError) -> str:
    """Its message, which names types and paths; values it quotes for enums and tags alone, and our schemas have none."""
    text = str(exc)
    return text[0].lower() + text[1:]


def _read_id(context: Members, name: str, resource_type: str) -> str:
    value = _read_string(context[name], name)
    bare = value.removeprefix(f"{resource_type}/")
    if not ID.fullmatch(bare):
        raise BadRequestError(f"context.{name}: expected a FHIR id, got {len(value)} characters that are not one")
    return bare


def _read_string(document: msgspec.Raw, name: str) -> str:
    require_type(document, "a string", name)
    return str(decode(_VALUES, document, name))
