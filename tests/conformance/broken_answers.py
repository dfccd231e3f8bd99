"""A good answer, and what is refused of it when one thing is broken: name, how it is broken, the fault that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Break = Callable[[Json], object]

LABORATORY = {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": "HbA1c"}], "text": "HbA1c"}
ORDER: Json = {
    "resourceType": "ServiceRequest",
    "status": "draft",
    "intent": "proposal",
    "code": LABORATORY,
    "subject": {"reference": "Patient/1"},
}
ESTIMATE: Json = {
    "resourceType": "RiskAssessment",
    "status": "final",
    "subject": {"reference": "Patient/1"},
    "occurrenceDateTime": "2026-11-24T09:30:00Z",
    "prediction": [{"outcome": {"text": "An event"}, "probabilityDecimal": 12.3}],
}
ANSWER: Json = {
    "cards": [
        {
            "uuid": "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c01",
            "summary": "s" * 139,
            "detail": "**d**",
            "indicator": "warning",
            "source": {
                "label": "Model",
                "url": "https://cds.example.org/models/m",
                "icon": "https://cds.example.org/icon.png",
                "topic": {"system": "urn:x", "code": "t", "display": "T"},
            },
            "suggestions": [
                {
                    "label": "Order",
                    "uuid": "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c02",
                    "isRecommended": True,
                    "actions": [{"type": "create", "description": "Order", "resource": ORDER}],
                },
                {
                    "label": "Change",
                    "uuid": "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c03",
                    "actions": [
                        {"type": "update", "description": "Change", "resource": ORDER | {"id": "1"}},
                        {"type": "delete", "description": "Stop", "resourceId": "ServiceRequest/2"},
                    ],
                },
            ],
            "selectionBehavior": "at-most-one",
            "overrideReasons": [{"system": "urn:x", "code": "frail", "display": "Frail"}],
            "links": [
                {"label": "Page", "url": "https://cds.example.org/m", "type": "absolute"},
                {"label": "App", "url": "https://cds.example.org/launch", "type": "smart", "appContext": "{}"},
            ],
            "extension": {"org.example.a": {"b": 1}},
        }
    ],
    "systemActions": [{"type": "create", "description": "File", "resource": ESTIMATE}],
    "extension": {"org.example.receipt": {"index": 0}},
}


def _card(change: Break) -> Break:
    return lambda answer: change(answer["cards"][0])


def _set(place: str, value: Any) -> Break:
    """Sets the member at a dotted place of the card; `None` as value is JSON's null."""

    def change(card: Json) -> None:
        *way, last = place.split(".")
        at: Any = card
        for step in way:
            at = at[int(step)] if step.isdigit() else at[step]
        at[last] = value

    return change


def _drop(place: str) -> Break:
    def change(card: Json) -> None:
        *way, last = place.split(".")
        at: Any = card
        for step in way:
            at = at[int(step)] if step.isdigit() else at[step]
        del at[last]

    return change


ACTION = "suggestions.0.actions.0"
CARD = "$.cards[0]"
DELETE = "suggestions.1.actions.1"
BROKEN: list[tuple[str, Break, str]] = [
    ("no cards", lambda a: a.pop("cards"), "$.cards: required, an array"),
    ("cards null", lambda a: a.update(cards=None), "$.cards: required, an array"),
    ("cards an object", lambda a: a.update(cards={}), "$.cards: required, an array"),
    ("a card of text", lambda a: a["cards"].append("x"), "$.cards[1]: expected an object"),
    ("unknown member of the answer", lambda a: a.update(card=1), "$.card: no member of the specification"),
    ("no actions", lambda a: a.update(systemActions=[]), "$.systemActions: null or empty"),
    ("actions an object", lambda a: a.update(systemActions={"a": 1}), "$.systemActions: expected an array"),
    (
        "system action without description",
        lambda a: a["systemActions"][0].pop("description"),
        "$.systemActions[0].description: required, a string",
    ),
    ("extension an array", lambda a: a.update(extension=[1]), "$.extension: expected an object"),
    (
        "extension value of text",
        lambda a: a["extension"].update({"org.example.x": "y"}),
        "$.extension.org.example.x: expected an object",
    ),
    (
        "extension of a short name",
        lambda a: a["extension"].update(x={"y": 1}),
        "$.extension.x: expected a reverse domain name",
    ),
    ("unknown member of a card", _card(_set("priority", 1)), f"{CARD}.priority: no member of the specification"),
    ("null in a card", _card(_set("detail", None)), f"{CARD}.detail: null or empty"),
    ("empty text", _card(_set("detail", "")), f"{CARD}.detail: null or empty"),
    ("empty array", _card(_set("links", [])), f"{CARD}.links: null or empty"),
    ("empty object", _card(_set("source.topic", {})), f"{CARD}.source.topic: null or empty"),
    ("null deep inside", _card(_set(f"{ACTION}.resource.note", None)), f"{CARD}.{ACTION}.resource.note: null or empty"),
    ("no summary", _card(_drop("summary")), f"{CARD}.summary: required, a string"),
    ("blank summary", _card(_set("summary", " ")), f"{CARD}.summary: blank"),
    (
        "long summary",
        _card(_set("summary", "s" * 140)),
        f"{CARD}.summary: expected fewer than 140 characters, got 140",
    ),
    ("detail an object", _card(_set("detail", {"a": 1})), f"{CARD}.detail: expected a string"),
    (
        "indicator of old",
        _card(_set("indicator", "hard-stop")),
        f"{CARD}.indicator: expected one of info, warning, critical",
    ),
    ("no indicator", _card(_drop("indicator")), f"{CARD}.indicator: expected one of info, warning, critical"),
    ("no source", _card(_drop("source")), f"{CARD}.source: required, an object"),
    ("source without label", _card(_drop("source.label")), f"{CARD}.source.label: required, a string"),
    ("relative source url", _card(_set("source.url", "/m")), f"{CARD}.source.url: expected an absolute URL"),
    ("relative icon", _card(_set("source.icon", "icon.png")), f"{CARD}.source.icon: expected an absolute URL"),
    ("topic without code", _card(_drop("source.topic.code")), f"{CARD}.source.topic.code: required, a string"),
    (
        "suggestions without behaviour",
        _card(_drop("selectionBehavior")),
        f"{CARD}.selectionBehavior: expected one of at-most-one, any",
    ),
    (
        "another behaviour",
        _card(_set("selectionBehavior", "all")),
        f"{CARD}.selectionBehavior: expected one of at-most-one, any",
    ),
    (
        "behaviour without suggestions",
        _card(_drop("suggestions")),
        f"{CARD}.selectionBehavior: expected none without suggestions",
    ),
    (
        "two recommended of at most one",
        _card(_set("suggestions.1.isRecommended", True)),
        f"{CARD}.suggestions: expected at most one to be recommended, got 2",
    ),
    (
        "recommended by a word",
        _card(_set("suggestions.0.isRecommended", "yes")),
        f"{CARD}.suggestions[0].isRecommended: expected a boolean",
    ),
    (
        "suggestion without label",
        _card(_drop("suggestions.0.label")),
        f"{CARD}.suggestions[0].label: required, a string",
    ),
    ("empty actions", _card(_set("suggestions.0.actions", [])), f"{CARD}.suggestions.0.actions: null or empty"),
    (
        "choice among actions",
        _card(_set("suggestions.0.actionSelectionBehavior", "any")),
        f"{CARD}.suggestions[0].actionSelectionBehavior: no member of the specification",
    ),
    (
        "uuid twice",
        _card(_set("suggestions.0.uuid", "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c01")),
        f"{CARD}.suggestions[0].uuid: not unique",
    ),
    ("uuid that is none", _card(_set("uuid", "card-1")), f"{CARD}.uuid: expected a UUID in lower case"),
    (
        "another type of action",
        _card(_set(f"{ACTION}.type", "replace")),
        f"{CARD}.{ACTION}.type: expected one of create, update, delete",
    ),
    (
        "action without description",
        _card(_drop(f"{ACTION}.description")),
        f"{CARD}.{ACTION}.description: required, a string",
    ),
    (
        "create without resource",
        _card(_drop(f"{ACTION}.resource")),
        f"{CARD}.{ACTION}.resource: expected a FHIR resource with a resourceType",
    ),
    (
        "create with an id",
        _card(_set(f"{ACTION}.resourceId", "ServiceRequest/1")),
        f"{CARD}.{ACTION}.resourceId: expected none but to delete",
    ),
    (
        "update of nothing",
        _card(_drop("suggestions.1.actions.0.resource.id")),
        f"{CARD}.suggestions.1.actions.0.resource.id: required to update",
    ),
    (
        "delete of nothing",
        _card(_drop(f"{DELETE}.resourceId")),
        f"{CARD}.{DELETE}.resourceId: expected Type/id of what to delete",
    ),
    (
        "delete with a resource",
        _card(_set(f"{DELETE}.resource", ORDER)),
        f"{CARD}.{DELETE}.resource: expected none to delete",
    ),
    (
        "an order that is placed already",
        _card(_set(f"{ACTION}.resource.status", "active")),
        f"{CARD}.{ACTION}.resource.status: expected draft, as nobody has ordered it yet",
    ),
    (
        "override reason without display",
        _card(_drop("overrideReasons.0.display")),
        f"{CARD}.overrideReasons[0].display: required, a string",
    ),
    (
        "override reason without system",
        _card(_drop("overrideReasons.0.system")),
        f"{CARD}.overrideReasons[0].system: required, a string",
    ),
    (
        "override reasons an object",
        _card(_set("overrideReasons", {"a": 1})),
        f"{CARD}.overrideReasons: expected an array",
    ),
    ("link without url", _card(_drop("links.0.url")), f"{CARD}.links[0].url: expected an absolute URL"),
    ("relative link", _card(_set("links.0.url", "m/1")), f"{CARD}.links[0].url: expected an absolute URL"),
    ("script for a link", _card(_set("links.0.url", "javascript:x")), f"{CARD}.links[0].url: expected an absolute URL"),
    (
        "another type of link",
        _card(_set("links.0.type", "app")),
        f"{CARD}.links[0].type: expected one of absolute, smart",
    ),
    (
        "appContext of a page",
        _card(_set("links.0.appContext", "x")),
        f"{CARD}.links[0].appContext: expected none but with a smart link",
    ),
    (
        "appContext an object",
        _card(_set("links.1.appContext", {"a": 1})),
        f"{CARD}.links[1].appContext: expected a string",
    ),
    (
        "iss of one's own",
        _card(_set("links.1.url", "https://cds.example.org/launch?iss=x")),
        f"{CARD}.links[1].url: iss and launch are the client's to add",
    ),
    (
        "status of no binding",
        lambda a: a["systemActions"][0]["resource"].update(status="done"),
        "$.systemActions[0].resource.status: 'done' is not in the required binding of RiskAssessment",
    ),
    (
        "two probabilities",
        lambda a: a["systemActions"][0]["resource"]["prediction"][0].update(probabilityRange={"low": {"value": 1}}),
        "$.systemActions[0].resource.prediction[0]: expected one probability, got two",
    ),
    (
        "more than certain",
        lambda a: a["systemActions"][0]["resource"]["prediction"][0].update(probabilityDecimal=123.4),
        "$.systemActions[0].resource.prediction[0].probabilityDecimal: expected 0 to 100 per cent",
    ),
    (
        "no dateTime",
        lambda a: a["systemActions"][0]["resource"].update(occurrenceDateTime="24.11.2026"),
        "$.systemActions[0].resource.occurrenceDateTime: not a FHIR dateTime",
    ),
]
