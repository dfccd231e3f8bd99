"""The check every FHIR resource of ours passes before it leaves.

(1) structure, types and cardinalities of FHIR R4, by the models of `fhir.resources`, once for each outline;
(2) the required bindings, which those models don't check, by the tables of `fhir_codes`;
(3) every code of a system we take codes from is one we use, with its own display;
(4) references are by identifier, with system and value: none leads to a patient's record;
(5) ids, times, addresses and base64 have their form, and no text is blank: the models let much of that pass.

The models take a millisecond for an event, and a hundred thousand events differ in digests and times alone. So what they passed
is kept as an outline: the resource with those values replaced by the name of their form whose form was checked here. Any
other value stands in the outline as it is, so that a resource with a new one is given to the models again.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from datetime import datetime
from typing import Any

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.provenance import Provenance

from audit.export.errors import ExportError
from audit.export.fhir_codes import CODES, REQUIRED

_MODELS: dict[str, Callable[[dict[str, Any]], object]] = {
    "AuditEvent": AuditEvent.model_validate,
    "Provenance": Provenance.model_validate,
}

_TEXT = re.compile(r"[!-~]+(?: [!-~]+)*")  # visible ASCII in words: all that entries hold
_URI = re.compile(r"[!-~]+")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
# Elements by name, as far as we write them, whose FHIR type has a form of its own; all others are texts or codes.
_FORMS: dict[str, re.Pattern[str]] = {
    "id": re.compile(r"[A-Za-z0-9.-]{1,64}"),
    "system": _URI,
    "url": _URI,
    "profile": _URI,
    "valueBase64Binary": re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)"),
    "recorded": _TIME,
    "occurredDateTime": _TIME,
}
# Elements whose values, once of their form, the models always pass: what differs between two events of one outline.
_VARYING = frozenset(("id", "valueBase64Binary", "recorded", "occurredDateTime", "value", "valueString", "display"))
_VARYING |= {"outcomeDesc", "description", "text", "site", "address"}
_MOST_OUTLINES = 4096  # of some kilobytes each
_passed: set[Hashable] = set()


def check_resource(resource: dict[str, Any]) -> None:
    """Returns if `resource` is one of ours in every respect.

    Raises:
        ExportError: it isn't; names the first element that is out of place, never its value.
    """
    kind = resource.get("resourceType")
    if kind not in _MODELS:
        raise ExportError("resource: expected an AuditEvent or a Provenance")
    _check_structure(kind, resource)  # (1)
    for path, value in _walk(kind, resource):
        if isinstance(value, str) and not _is_formed(path.rpartition(".")[2], value):  # (5)
            message = f"{path}: not in its form"
            raise ExportError(message)
        if path in REQUIRED and value not in REQUIRED[path]:  # (2)
            message = f"{path}: expected one of {', '.join(sorted(REQUIRED[path]))}"
            raise ExportError(message)
        if isinstance(value, dict):
            _check_coding(path, value)  # (3)
            _check_reference(path, value)  # (4)


def _check_structure(kind: str, resource: dict[str, Any]) -> None:
    outline = _outline("", resource)
    if outline in _passed:
        return
    try:
        _MODELS[kind](resource)
    except ValueError as exc:
        message = f"{kind}: not valid FHIR R4 at {_places(exc)}"
        raise ExportError(message) from None
    if len(_passed) >= _MOST_OUTLINES:
        _passed.clear()
    _passed.add(outline)


def _outline(name: str, value: object) -> Hashable:
    """What the models have to see of an element called `name`."""
    match value:
        case dict():
            return tuple((key, _outline(key, member)) for key, member in value.items())
        case list():
            return (list, *(_outline(name, item) for item in value))
        case str() if name in _VARYING and _is_formed(name, value):
            return str
        case _:
            return (type(value), value)


def _is_formed(name: str, value: str) -> bool:
    form = _FORMS.get(name, _TEXT)
    return form.fullmatch(value) is not None and (form is not _TIME or _is_moment(value))


def _is_moment(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


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
