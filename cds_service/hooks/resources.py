"""The FHIR resources that a context itself holds, as `ContextResource`.

Resources are taken as they come: drafts lack much, Bundles lack their type, and a reader further on says what it can use.
Only what shows whose a resource is gets read here, in one pass each; the rest stays the client's bytes. A resource that
names another patient than the context is refused, as advice about the one must not rest on orders for the other.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cds_service.errors import BadRequestError
from cds_service.hooks.context import (
    ID,
    ContextResource,
    Members,
    PatientId,
    decode,
    is_present,
    json_type,
    local_reference,
    read_array,
    require,
    require_type,
)

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ABSENT = msgspec.Raw(b"null")


class _WireEntry(msgspec.Struct):
    resource: msgspec.Raw = _ABSENT


class _WireBundle(msgspec.Struct, rename="camel"):
    resource_type: Any = None
    entry: list[_WireEntry | None] | None = None


class _WireResource(msgspec.Struct, rename={"resource_type": "resourceType", "for_": "for"}):
    """`for` is Task's subject; `resource` is there where the resource comes wrapped."""

    resource_type: Any = None
    id: Any = None
    subject: Any = None
    patient: Any = None
    for_: Any = None
    resource: msgspec.Raw = _ABSENT


_BUNDLES = msgspec.json.Decoder(_WireBundle)
_RESOURCES = msgspec.json.Decoder(_WireResource)


def require_bundle(context: Members, name: str, patient_id: PatientId) -> tuple[ContextResource, ...]:
    """The resources of the Bundle in `context[name]`; entries without one are skipped.

    Raises:
        BadRequestError: absent, no Bundle, an entry that is no object, or a resource of another patient.
    """
    document = require(context, name)
    require_type(document, "an object", name)
    bundle = decode(_BUNDLES, document, name)
    if bundle.resource_type not in (None, "Bundle"):
        raise BadRequestError(f"context.{name}: expected a Bundle, got another resource")
    resources = (entry.resource for entry in bundle.entry or () if entry is not None)
    return tuple(_read(resource, name, patient_id) for resource in resources if bytes(resource) != b"null")


def require_resource(context: Members, name: str, patient_id: PatientId) -> ContextResource:
    """The one resource in `context[name]`, bare or as `{"resource": …}`, which examples of the specification have.

    Raises:
        BadRequestError: absent, no resource, or one of another patient.
    """
    return _read(require(context, name), name, patient_id, may_be_wrapped=True)


def optional_resources(context: Members, name: str, patient_id: PatientId) -> tuple[ContextResource, ...]:
    """The resources in `context[name]`, an array or a single one; none when absent or null.

    Raises:
        BadRequestError: something that is no resource, or one of another patient.
    """
    if not is_present(context, name):
        return ()
    document = context[name]
    items = read_array(document, name) if is_array(context, name) else [document]
    return tuple(_read(item, name, patient_id, may_be_wrapped=True) for item in items)


def is_array(context: Members, name: str) -> bool:
    """Whether `context[name]` is an array."""
    return name in context and json_type(context[name]) == "an array"


def _read(document: msgspec.Raw, name: str, patient_id: PatientId, *, may_be_wrapped: bool = False) -> ContextResource:
    wire = decode(_RESOURCES, document, name)
    if may_be_wrapped and wire.resource_type is None and json_type(wire.resource) != "null":
        return _read(wire.resource, name, patient_id)
    if not isinstance(wire.resource_type, str) or not _TYPE.fullmatch(wire.resource_type):
        raise BadRequestError(f"context.{name}: expected resources with a resourceType")
    _require_own(wire, name, patient_id)
    has_id = isinstance(wire.id, str) and ID.fullmatch(wire.id)
    reference = f"{wire.resource_type}/{wire.id}" if has_id else None
    return ContextResource(reference, wire.resource_type, bytes(document))


def _require_own(wire: _WireResource, name: str, patient_id: PatientId) -> None:
    """What names no Patient by id (an identifier, a display, a contained one) may be anybody's and passes."""
    for subject in (wire.subject, wire.patient, wire.for_):
        reference = subject.get("reference") if isinstance(subject, dict) else None
        if isinstance(reference, str) and _is_anothers(local_reference(reference), patient_id):
            raise BadRequestError(
                f"context.{name}: expected resources of the patient of context.patientId, got another's"
            )


def _is_anothers(local: str, patient_id: PatientId) -> bool:
    resource_type, _, identifier = local.partition("/")
    return resource_type == "Patient" and identifier not in ("", patient_id)
