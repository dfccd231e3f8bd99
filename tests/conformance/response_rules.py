"""What an answer of a CDS service must be: our own reading of CDS Hooks 3.0 and its invariants, as rules.

Sources: https://build.fhir.org/ig/HL7/cds-hooks/ (Use of JSON, Discovery, CDS Service Response, HTTP Status Codes) and the
logical models' invariants cds-resp-1 to cds-resp-7, and 2.0.1 where that is narrower (a system action's description).
Independent of the service on purpose: nothing here imports the product.

Each `check_…` gives the faults, none for a good answer. A fault begins with the JSON path of what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.fhir_rules import check_resource

MAX_SUMMARY = 139
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
REVERSE_DNS = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9-]+)+")
RELATIVE = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}")

CARD = frozenset(
    [
        "uuid",
        "summary",
        "detail",
        "indicator",
        "source",
        "suggestions",
        "selectionBehavior",
        "overrideReasons",
        "links",
        "extension",
    ]
)
SOURCE = frozenset({"label", "url", "icon", "topic", "extension"})
CODING = frozenset({"system", "version", "code", "display", "userSelected"})
SUGGESTION = frozenset({"label", "uuid", "isRecommended", "actions", "extension"})
ACTION = frozenset({"type", "description", "resource", "resourceId", "extension"})
LINK = frozenset({"label", "url", "type", "appContext", "autolaunchable", "extension"})
RESPONSE = frozenset({"cards", "systemActions", "extension"})
MAY_BE_EMPTY = ("$.cards", "$.services")
# Where it was agreed, clients from before 2.0 find system actions here: the one extension that is no object.
SYSTEM_ACTIONS_OF_OLD = "systemActions"

Json = dict[str, Any]


def check_response(status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """The faults of a hook call's answer."""
    if not 200 <= status < 300:
        return check_outcome(status, headers, body)
    if status != 200:
        return [f"$: expected status 200, got {status}"]
    document, faults = read_document(headers, body)
    return faults if document is None else [*faults, *_response(document)]


def check_outcome(status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """The faults of an answer that is not 2xx: an OperationOutcome, which says nothing of its reason if it is a 401."""
    document, faults = read_document(headers, body)
    if document is None:
        return faults
    if status < 400:
        faults.append(f"$: expected a status of 200 or of 400 and above, got {status}")
    if document.get("resourceType") != "OperationOutcome":
        return [*faults, "$.resourceType: expected an OperationOutcome"]
    return [*faults, *check_resource(document), *_of_status(status, headers, document)]


def check_feedback(status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """The faults of the answer to feedback: 200 with a JSON object, which may be an empty one."""
    if not 200 <= status < 300:
        return check_outcome(status, headers, body)
    if status != 200:
        return [f"$: expected status 200, got {status}"]
    return read_document(headers, body)[1]


def _of_status(status: int, headers: Mapping[str, str], outcome: Json) -> Iterator[str]:
    names = {name.lower() for name in headers}
    obliged = {401: "www-authenticate", 405: "allow", 429: "retry-after"}.get(status)
    if obliged is not None and obliged not in names:
        yield f"header {obliged}: required with status {status}"
    if status == 401:
        said = [{key: issue.get(key) for key in ("code", "diagnostics")} for issue in outcome.get("issue", [])]
        if said != [{"code": "login", "diagnostics": "authentication required"}]:
            yield "$.issue: a refusal for want of authentication must not say why"


def read_document(headers: Mapping[str, str], body: bytes) -> tuple[Json | None, list[str]]:
    """The body as a JSON object, None if it is none, and the faults of its form and of the headers that go with it."""
    values = {name.lower(): value for name, value in headers.items()}
    faults = []
    if not re.fullmatch(r"application/json(; ?charset=utf-8)?", values.get("content-type", "")):
        faults.append("header content-type: expected application/json")
    if "no-store" not in values.get("cache-control", ""):
        faults.append("header cache-control: expected no-store")
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        return None, [*faults, f"$: not JSON: {exc}"]
    if not isinstance(document, dict):
        return None, [*faults, "$: expected a JSON object"]
    return document, [*faults, *_empty(document, "$")]


def _members(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _empty(value: Any, path: str) -> Iterator[str]:
    """Members that are null or empty, which CDS Hooks forbids everywhere but in two places."""
    if value is None or (value in ("", [], {}) and path not in ("$", *MAY_BE_EMPTY)):
        yield f"{path}: null or empty"
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _empty(member, f"{path}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _empty(item, f"{path}[{index}]")


def _response(response: Json) -> Iterator[str]:
    yield from unknown(response, RESPONSE, "$")
    cards = response.get("cards")
    if not isinstance(cards, list):
        yield "$.cards: required, an array"
        return
    for index, card in enumerate(cards):
        path = f"$.cards[{index}]"
        yield from _card(card, path) if isinstance(card, dict) else [f"{path}: expected an object"]
    yield from _actions(response.get("systemActions"), "$.systemActions")
    yield from _extension(response, "$")
    yield from _uuids(cards)


def _card(card: Json, path: str) -> Iterator[str]:
    yield from unknown(card, CARD, path)
    yield from text(card, "summary", path, required=True)
    yield from text(card, "detail", path)
    if isinstance(card.get("summary"), str) and len(card["summary"]) > MAX_SUMMARY:
        yield f"{path}.summary: expected fewer than 140 characters, got {len(card['summary'])}"
    yield from _among(card, "indicator", ("info", "warning", "critical"), path)
    yield from _source(card.get("source"), f"{path}.source")
    yield from _suggestions(card, path)
    for index, reason in enumerate(_array(card, "overrideReasons")):
        yield from _coding(reason, f"{path}.overrideReasons[{index}]", ("code", "system", "display"))
    for index, link in enumerate(_array(card, "links")):
        yield from _link(link, f"{path}.links[{index}]")
    for name in ("overrideReasons", "links"):
        if name in card and not isinstance(card[name], list):
            yield f"{path}.{name}: expected an array"
    yield from _extension(card, path)


def _source(source: object, path: str) -> Iterator[str]:
    if not isinstance(source, dict):
        yield f"{path}: required, an object"
        return
    yield from unknown(source, SOURCE, path)
    yield from text(source, "label", path, required=True)
    for name in ("url", "icon"):
        if name in source:
            yield from _url(source[name], f"{path}.{name}")
    if "topic" in source:
        yield from _coding(source["topic"], f"{path}.topic", ("code",))


def _suggestions(card: Json, path: str) -> Iterator[str]:
    """cds-resp-1, cds-resp-6: how to choose is said where there is something to choose, and nowhere else."""
    suggestions, behaviour = card.get("suggestions"), card.get("selectionBehavior")
    if suggestions is None:
        if behaviour is not None:
            yield f"{path}.selectionBehavior: expected none without suggestions"
        return
    yield from _among(card, "selectionBehavior", ("at-most-one", "any"), path)
    if not isinstance(suggestions, list):
        yield f"{path}.suggestions: expected an array"
        return
    for index, suggestion in enumerate(suggestions):
        yield from _suggestion(suggestion, f"{path}.suggestions[{index}]")
    recommended = sum(isinstance(one, dict) and one.get("isRecommended") is True for one in suggestions)
    if behaviour == "at-most-one" and recommended > 1:
        yield f"{path}.suggestions: expected at most one to be recommended, got {recommended}"


def _suggestion(suggestion: object, path: str) -> Iterator[str]:
    if not isinstance(suggestion, dict):
        yield f"{path}: expected an object"
        return
    yield from unknown(suggestion, SUGGESTION, path)
    yield from text(suggestion, "label", path, required=True)
    if not isinstance(suggestion.get("isRecommended", True), bool):
        yield f"{path}.isRecommended: expected a boolean"
    yield from _actions(suggestion.get("actions"), f"{path}.actions")
    for index, action in enumerate(_array(suggestion, "actions")):
        if isinstance(action, dict) and action.get("type") == "create":
            yield from _draft(action.get("resource"), f"{path}.actions[{index}].resource")


def _draft(resource: object, path: str) -> Iterator[str]:
    """An order that a person is still to accept has not been placed."""
    if isinstance(resource, dict) and resource.get("resourceType", "").endswith("Request"):
        if resource.get("status") != "draft":
            yield f"{path}.status: expected draft, as nobody has ordered it yet"
        if resource.get("intent") not in ("proposal", "plan", "order"):
            yield f"{path}.intent: expected proposal, plan or order"


def _actions(actions: object, path: str) -> Iterator[str]:
    if actions is None:
        return
    if not isinstance(actions, list):
        yield f"{path}: expected an array"
        return
    for index, action in enumerate(actions):
        at = f"{path}[{index}]"
        yield from _action(action, at) if isinstance(action, dict) else [f"{at}: expected an object"]


def _action(action: Json, path: str) -> Iterator[str]:
    """cds-resp-2, cds-resp-5: what is made or changed comes whole, what is deleted is only named."""
    yield from unknown(action, ACTION, path)
    yield from text(action, "description", path, required=True)
    yield from _among(action, "type", ("create", "update", "delete"), path)
    resource, identifier = action.get("resource"), action.get("resourceId")
    if action.get("type") == "delete":
        if resource is not None:
            yield f"{path}.resource: expected none to delete"
        if not isinstance(identifier, str) or not RELATIVE.fullmatch(identifier):
            yield f"{path}.resourceId: expected Type/id of what to delete"
        return
    if identifier is not None:
        yield f"{path}.resourceId: expected none but to delete"
    yield from check_resource(resource, f"{path}.resource")
    if action.get("type") == "update" and isinstance(resource, dict) and not isinstance(resource.get("id"), str):
        yield f"{path}.resource.id: required to update"


def _link(link: object, path: str) -> Iterator[str]:
    if not isinstance(link, dict):
        yield f"{path}: expected an object"
        return
    yield from unknown(link, LINK, path)
    yield from text(link, "label", path, required=True)
    yield from _url(link.get("url"), f"{path}.url")
    yield from _among(link, "type", ("absolute", "smart"), path)
    if "appContext" in link:
        if link.get("type") != "smart":
            yield f"{path}.appContext: expected none but with a smart link"
        if not isinstance(link["appContext"], str):
            yield f"{path}.appContext: expected a string"
    if not isinstance(link.get("autolaunchable", True), bool):
        yield f"{path}.autolaunchable: expected a boolean"
    query = urlsplit(link["url"]).query if isinstance(link.get("url"), str) and link.get("type") == "smart" else ""
    if {"iss", "launch"} & {pair.partition("=")[0] for pair in query.split("&")}:
        yield f"{path}.url: iss and launch are the client's to add"


def _coding(coding: object, path: str, required: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(coding, dict):
        yield f"{path}: expected a Coding"
        return
    yield from unknown(coding, CODING, path)
    for name in ("system", "version", "code", "display"):
        yield from text(coding, name, path, required=name in required)


def _extension(holder: Json, path: str) -> Iterator[str]:
    extension = holder.get("extension")
    if extension is None:
        return
    if not isinstance(extension, dict):
        yield f"{path}.extension: expected an object"
        return
    for name, value in extension.items():
        if name == SYSTEM_ACTIONS_OF_OLD:
            yield from _actions(value, f"{path}.extension.{name}")
            continue
        if not isinstance(value, dict):
            yield f"{path}.extension.{name}: expected an object"
        if not REVERSE_DNS.fullmatch(name):
            yield f"{path}.extension.{name}: expected a reverse domain name"


def _uuids(cards: list[Any]) -> Iterator[str]:
    seen: set[str] = set()
    for index, card in enumerate(cards):
        holders = [(f"$.cards[{index}].uuid", card)]
        if isinstance(card, dict):
            found = enumerate(_array(card, "suggestions"))
            holders += [(f"$.cards[{index}].suggestions[{at}].uuid", one) for at, one in found]
        for path, holder in holders:
            if not isinstance(holder, dict) or "uuid" not in holder:
                continue
            if not isinstance(holder["uuid"], str) or not UUID.fullmatch(holder["uuid"]):
                yield f"{path}: expected a UUID in lower case"
            elif holder["uuid"] in seen:
                yield f"{path}: not unique"
            else:
                seen.add(holder["uuid"])


def unknown(members: Json, known: frozenset[str], path: str) -> Iterator[str]:
    yield from (f"{path}.{name}: no member of the specification" for name in members if name not in known)


def _array(holder: Json, name: str) -> list[Any]:
    value = holder.get(name)
    return value if isinstance(value, list) else []


def text(holder: Json, name: str, path: str, *, required: bool = False) -> Iterator[str]:
    value = holder.get(name)
    if value is None and not required:
        return
    if not isinstance(value, str):
        yield f"{path}.{name}: {'required, ' if required else 'expected '}a string"
    elif value and not value.strip():
        yield f"{path}.{name}: blank"


def _among(holder: Json, name: str, allowed: tuple[str, ...], path: str) -> Iterator[str]:
    if holder.get(name) not in allowed:
        yield f"{path}.{name}: expected one of {', '.join(allowed)}"


def _url(value: object, path: str) -> Iterator[str]:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        whole = parts.scheme in ("https", "http") and bool(parts.hostname) and not re.search(r"\s", str(value))
    except ValueError:
        whole = False
    if not whole:
        yield f"{path}: expected an absolute URL"
