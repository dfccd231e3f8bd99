"""The check every FHIR resource of ours passes before it leaves.

(1) structure, types and cardinalities of FHIR R4, by the models of `fhir.resources`;
(2) the required bindings, which those models don't check, by the tables of `fhir_codes`;
(3) every code of a system we take codes from is one we use, with its own display;
(4) references are by identifier, with system and value: none leads to a patient's record.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.provenance import Provenance

from audit.export.errors import ExportError
from audit.export.fhir_codes import CODES, REQUIRED

_MODELS: dict[str, Callable[[dict[str, Any]], object]] = {
    "AuditEvent": AuditEvent.model_validate,
    "Provenance": Provenance.model_validate,
}


def check_resource(resource: dict[str, Any]) -> None:
    """Returns if `resource` is one of ours in every respect.

    Raises:
        ExportError: it isn't; names the first element that is out of place, never its value.
    """
    kind = resource.get("resourceType")
    if kind not in _MODELS:
        raise ExportError("resource: expected an AuditEvent or a Provenance")
    try:
        _MODELS[kind](resource)  # (1)
    except ValueError as exc:
        message = f"{kind}: not valid FHIR R4 at {_places(exc)}"
        raise ExportError(message) from None
    for path, value in _walk(kind, resource):
        if path in REQUIRED and value not in REQUIRED[path]:  # (2)
            message = f"{path}: expected one of {', '.join(sorted(REQUIRED[path]))}"
            raise ExportError(message)
        if isinstance(value, dict):
            _check_coding(path, value)  # (3)
            _check_reference(path, value)  # (4)


def _check_coding(path: str, value: dict[str, Any]) -> None:
    codes = CODES.get(value.get("system", ""))
    if codes is None or "code" not in value:
        return
    if codes.get(value["code"]) != value.get("display"):
        message = f"{path}: expected a listed code of {value['system']} with its display"
        raise ExportError(message)


def _check_reference(path: str, value: dict[str, Any]) -> None:
    if "reference" in value:
        message = f"{path}: expected a reference by identifier, got one by address"
        raise ExportError(message)
    identifier = value.get("identifier")
    if isinstance(identifier, dict) and not (identifier.get("system") and identifier.get("value")):
        message = f"{path}: expected an identifier with system and value"
        raise ExportError(message)


def _walk(path: str, value: object) -> Iterator[tuple[str, Any]]:
    """Every element with its path, array positions left out."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(path, item)
        return
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _walk(f"{path}.{name}", member)


def _places(exc: ValueError) -> str:
    """Where pydantic found fault, without the values it quotes."""
    errors = getattr(exc, "errors", None)
    if errors is None:
        return "an unknown place"
    return "; ".join(".".join(str(step) for step in error["loc"]) or "the whole" for error in errors()) or "the whole"
