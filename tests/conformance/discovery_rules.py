"""What a discovery document must be (CDS Hooks 3.0, "Discovery", "Prefetch Template"), as rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from tests.conformance.response_rules import check_outcome, read_document, text, unknown

SERVICE = frozenset(
    ["hook", "title", "description", "id", "prefetch", "usageRequirements", "version", "hookVersion", "extension"]
)
ID = re.compile(r"[A-Za-z0-9._~-]+")
SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
# Version of each hook's published definition, and which of its context fields a prefetch token may name.
HOOKS: dict[str, tuple[str, frozenset[str]]] = {
    name: (version, frozenset(tokens.split()))
    for name, version, tokens in (
        ("patient-view", "1.0", "userId patientId encounterId"),
        ("order-select", "1.0", "userId patientId encounterId"),
        ("order-sign", "1.0", "userId patientId encounterId"),
        ("encounter-start", "1.0", "userId patientId encounterId"),
        ("encounter-discharge", "1.0", "userId patientId encounterId"),
        ("appointment-book", "1.0", "userId patientId encounterId"),
        ("order-dispatch", "1.1", "patientId dispatchedOrders performer"),
        ("allergyintolerance-create", "0.1.0", "userId patientId encounterId"),
        ("problem-list-item-create", "0.1.0", "userId patientId encounterId"),
        ("medication-refill", "0.1.0", "userId patientId encounterId"),
        ("medication-verify", "0.1.0", "userId patientId encounterId"),
    )
}
USERS = frozenset({"userPractitionerId", "userPractitionerRoleId", "userPatientId", "userRelatedPersonId"})
_TOKEN = re.compile(r"\{\{([^{}]*)\}\}")
_TODAY = re.compile(r"today\(\)( [+-] \d+ days)?")
_READ = re.compile(r"[A-Z][A-Za-z]+/(\{\{[^{}]+\}\}|[A-Za-z0-9.-]{1,64})")
_SEARCH = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")
_NAME = re.compile(r"(_count|_sort|_maxresults|[a-z][a-z-]*(:in)?)")
_DATE = re.compile(r"(eq|lt|gt|ge|le)?(\{\{[^{}]+\}\}|\d{4}.*)")


def check_discovery(status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """The faults of an answer to discovery."""
    if status != 200:
        return check_outcome(status, headers, body)
    document, faults = read_document(headers, body)
    return faults if document is None else [*faults, *_services(document)]


def _services(document: dict[str, Any]) -> Iterator[str]:
    yield from unknown(document, frozenset({"services", "extension"}), "$")
    services = document.get("services")
    if not isinstance(services, list):
        yield "$.services: required, an array"
        return
    for index, service in enumerate(services):
        path = f"$.services[{index}]"
        yield from _service(service, path) if isinstance(service, dict) else [f"{path}: expected an object"]
    pairs = Counter((one.get("hook"), one.get("id")) for one in services if isinstance(one, dict))
    yield from (f"$.services: {pair} is listed {times} times" for pair, times in pairs.items() if times > 1)


def _service(service: dict[str, Any], path: str) -> Iterator[str]:
    yield from unknown(service, SERVICE, path)
    for name in ("hook", "description", "id"):
        yield from text(service, name, path, required=True)
    for name in ("title", "usageRequirements", "version", "hookVersion"):
        yield from text(service, name, path)
    if isinstance(service.get("id"), str) and not ID.fullmatch(service["id"]):
        yield f"{path}.id: expected what may stand in a URL's path"
    hook = service.get("hook")
    if hook not in HOOKS:
        yield f"{path}.hook: expected a hook of the library"
        return
    version, tokens = HOOKS[hook]
    if service.get("hookVersion", version) != version:
        yield f"{path}.hookVersion: expected that of the definition, {version}"
    spec = service.get("version", "3.0.0")
    if isinstance(spec, str) and not SEMVER.fullmatch(spec):
        yield f"{path}.version: expected a semantic version"
    yield from _prefetch(service, tokens, is_3=isinstance(spec, str) and spec.startswith("3."), path=path)


def _prefetch(service: dict[str, Any], tokens: frozenset[str], *, is_3: bool, path: str) -> Iterator[str]:
    prefetch = service.get("prefetch", {})
    if not isinstance(prefetch, dict):
        yield f"{path}.prefetch: expected an object"
        return
    for key, template in prefetch.items():
        at = f"{path}.prefetch.{key}"
        if not isinstance(template, str):
            yield f"{at}: expected a string"
            continue
        yield from _tokens(template, tokens, is_3=is_3, path=at)
        yield from _query(template, at)


def _tokens(template: str, tokens: frozenset[str], *, is_3: bool, path: str) -> Iterator[str]:
    if "{{" in _TOKEN.sub("", template) or "}}" in _TOKEN.sub("", template):
        yield f"{path}: a token without an end"
    for token in _TOKEN.findall(template):
        name = token.removeprefix("context.")
        if (name != token and name in tokens) or token in USERS or (is_3 and _TODAY.fullmatch(token)):
            continue
        yield f"{path}: token {{{{{token}}}}} is none that this client can resolve"


def _query(template: str, path: str) -> Iterator[str]:
    """A read, or a search with what every server is asked to support: equality, `:in`, date prefixes, count and sort."""
    if _READ.fullmatch(template):
        return
    search = _SEARCH.fullmatch(template)
    if search is None:
        yield f"{path}: neither a read nor a search of one type"
        return
    for pair in search[2].split("&"):
        name, equals, value = pair.partition("=")
        if not equals or not value or not _NAME.fullmatch(name):
            yield f"{path}: {name}: beyond the recommended query syntax"
        if name == "date" and not _DATE.fullmatch(unquote(value)):
            yield f"{path}: date: expected one of the prefixes eq, lt, gt, ge, le"
        if name == "_count" and not value.isdigit():
            yield f"{path}: _count: expected a number"
