"""What every hook's context has in common, and strict readers for its fields.

Identifiers never have defaults: a missing `patientId` is the client's error, not a generated id. `Patient/123` is
tolerated for the bare id that the specification asks for, because services in the field send it. Resources are taken as
they come: drafts lack much, Bundles lack their type, and a reader further on says what it can use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

import msgspec

from cds_service.errors import BadRequestError

PatientId = NewType("PatientId", str)

# FHIR's id type (R4, 2.24.0.1) plus the underscore that some servers allow; "." and ".." would climb in a URL's path.
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
USERS = frozenset({"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"})
_JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


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
        document: its JSON.
        selected: whether advice is wanted on it; False for the other drafts of order-select.
    """

    reference: str | None
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


Members = Mapping[str, object]


def read_common(
    context: Members, *, user: bool = True, encounter: bool = False, resources: tuple[ContextResource, ...] = ()
) -> HookContext:
    """The shared fields; `user` and `encounter` say whether the hook requires them.

    Raises:
        BadRequestError: one that is required is missing, or one has the wrong form.
    """
    patient_id = PatientId(require_id(context, "patientId", "Patient"))
    who = require_user(context, USERS) if user or context.get("userId") is not None else None
    read_encounter = require_id if encounter else optional_id
    return HookContext(patient_id, who, read_encounter(context, "encounterId", "Encounter"), resources)


def require_id(context: Members, name: str, resource_type: str) -> str:
    """The bare id in `context[name]`.

    Raises:
        BadRequestError: absent, not a string, or not a FHIR id.
    """
    value = optional_id(context, name, resource_type)
    if value is None:
        raise BadRequestError(f"context.{name} is required")
    return value


def optional_id(context: Members, name: str, resource_type: str) -> str | None:
    """The bare id in `context[name]`, or None when absent or null.

    Raises:
        BadRequestError: not a string, or not a FHIR id.
    """
    value = context.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRequestError(f"context.{name}: expected a string, got {json_type(value)}")
    bare = value.removeprefix(f"{resource_type}/")
    if not _ID.fullmatch(bare):
        raise BadRequestError(f"context.{name}: expected a FHIR id, got {len(value)} characters that are not one")
    return bare


def require_user(context: Members, allowed: frozenset[str]) -> UserReference:
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


def require_references(context: Members, name: str) -> frozenset[str]:
    """The references in the array `context[name]`; at least one.

    Raises:
        BadRequestError: absent, not an array of strings, or empty.
    """
    value = context.get(name)
    if value is None:
        raise BadRequestError(f"context.{name} is required")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequestError(f"context.{name}: expected an array of references")
    if not value:
        raise BadRequestError(f"context.{name}: expected at least one reference, got none")
    return frozenset(value)


def require_bundle(context: Members, name: str) -> tuple[ContextResource, ...]:
    """The resources of the Bundle in `context[name]`; entries without one are skipped.

    Raises:
        BadRequestError: absent, no object, another resource than a Bundle, or an entry that is none.
    """
    bundle = _require_object(context, name)
    if bundle.get("resourceType", "Bundle") != "Bundle":
        raise BadRequestError(f"context.{name}: expected a Bundle, got another resource")
    entries = bundle.get("entry")
    if entries is not None and not isinstance(entries, list):
        raise BadRequestError(f"context.{name}.entry: expected an array, got {json_type(entries)}")
    found = []
    for entry in entries or ():
        if entry is not None and not isinstance(entry, dict):
            raise BadRequestError(f"context.{name}.entry: expected objects, got {json_type(entry)}")
        resource = (entry or {}).get("resource")
        if resource is not None:
            found.append(_resource(resource, f"{name}.entry.resource", context))
    return tuple(found)


def require_resource(context: Members, name: str) -> ContextResource:
    """The one resource in `context[name]`, bare or wrapped as `{"resource": …}` (as one page of the specification has it).

    Raises:
        BadRequestError: absent, or no resource.
    """
    value = _require_object(context, name)
    if "resourceType" not in value and "resource" in value:
        return _resource(value["resource"], name, context)
    return _resource(value, name, context)


def optional_resources(context: Members, name: str) -> tuple[ContextResource, ...]:
    """The resources in the array `context[name]`, none when absent or null.

    Raises:
        BadRequestError: no array of resources.
    """
    value = context.get(name)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    return tuple(_resource(item, name, context) for item in items if item is not None)


def json_type(value: object) -> str:
    """What a decoded JSON value is, in words and without the value."""
    return _JSON_TYPES.get(type(value), "something else")


def local_reference(reference: str) -> str:
    """The last two parts of a reference: `MedicationRequest/1` of an absolute one too."""
    return "/".join(reference.split("/")[-2:])


def _require_object(context: Members, name: str) -> dict[str, Any]:
    value = context.get(name)
    if value is None:
        raise BadRequestError(f"context.{name} is required")
    if not isinstance(value, dict):
        raise BadRequestError(f"context.{name}: expected an object, got {json_type(value)}")
    return value


def _resource(value: object, name: str, context: Members) -> ContextResource:
    if not isinstance(value, dict):
        raise BadRequestError(f"context.{name}: expected a resource, got {json_type(value)}")
    resource_type, identifier = value.get("resourceType"), value.get("id")
    if not isinstance(resource_type, str) or not _TYPE.fullmatch(resource_type):
        raise BadRequestError(f"context.{name}: expected a resource with a resourceType")
    if _names_another_patient(value, context):
        raise BadRequestError(f"context.{name}: expected a resource of the patient of context.patientId, got another's")
    known = isinstance(identifier, str) and _ID.fullmatch(identifier)
    reference = f"{resource_type}/{identifier}" if known else None
    return ContextResource(reference, resource_type, msgspec.json.encode(value))


def _names_another_patient(resource: dict[str, Any], context: Members) -> bool:
    """Whether the subject refers to a Patient by an id that isn't the context's."""
    patient_id = str(context.get("patientId")).removeprefix("Patient/")
    return any(
        local.startswith("Patient/") and local != f"Patient/{patient_id}"
        for local in map(local_reference, _subjects(resource))
    )


def _subjects(resource: dict[str, Any]) -> Iterable[str]:
    for name in ("subject", "patient", "for"):  # Task says "for"
        subject = resource.get(name)
        reference = subject.get("reference") if isinstance(subject, dict) else None
        if isinstance(reference, str):
            yield reference.partition("/_history/")[0]
