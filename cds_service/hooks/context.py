"""What every hook's context has in common, and strict readers for its fields.

Identifiers never have defaults: a missing `patientId` is the client's error, not a generated id. `Patient/123` is
tolerated for the bare id that the specification asks for, because services in the field send it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from cds_service.errors import BadRequestError

PatientId = NewType("PatientId", str)

# FHIR's id type (R4, 2.24.0.1) plus the underscore that some servers allow; "." and ".." would climb in a URL's path.
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class UserReference:
    """Who triggered the hook, as `Type/id`."""

    resource_type: str
    id: str


@dataclass(frozen=True, slots=True)
class HookContext:
    """The fields that all hooks share; `encounter_id` and `user` are None where the hook allows their absence."""

    patient_id: PatientId
    user: UserReference | None
    encounter_id: str | None


def require_id(context: dict[str, object], name: str, resource_type: str) -> str:
    """The bare id in `context[name]`.

    Raises:
        BadRequestError: absent, not a string, or not a FHIR id.
    """
    value = optional_id(context, name, resource_type)
    if value is None:
        raise BadRequestError(f"context.{name} is required")
    return value


def optional_id(context: dict[str, object], name: str, resource_type: str) -> str | None:
    """The bare id in `context[name]`, or None when absent or null.

    Raises:
        BadRequestError: not a string, or not a FHIR id.
    """
    value = context.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRequestError(f"context.{name}: expected a string, got {_json_type(value)}")
    bare = value.removeprefix(f"{resource_type}/")
    if not _ID.fullmatch(bare):
        raise BadRequestError(f"context.{name}: expected a FHIR id, got {len(value)} characters that are not one")
    return bare


def require_user(context: dict[str, object], allowed: frozenset[str]) -> UserReference:
    """The user in `context.userId`, whose resource type must be one of `allowed`.

    Raises:
        BadRequestError: absent, not `Type/id`, or of another type.
    """
    value = context.get("userId")
    if value is None:
        raise BadRequestError("context.userId is required")
    resource_type, _, identifier = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    resource_type = resource_type.rpartition("/")[2]
    if resource_type not in allowed or not _ID.fullmatch(identifier):
        raise BadRequestError(f"context.userId: expected Type/id with Type one of {', '.join(sorted(allowed))}")
    return UserReference(resource_type, identifier)


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "something else")
