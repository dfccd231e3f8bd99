"""CDS Hooks cards as an EHR reads them (CDS Hooks 2.0.1, "CDS Service Response").

Reading is lenient in what it ignores and strict in what it needs: a card without summary, indicator or source label is
refused with the reason, and the others are still shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from demo.errors import CdsServiceError

Json: TypeAlias = dict[str, Any]
INDICATORS = {"info": "Information", "warning": "Warning", "critical": "Critical"}
_STATED_RISK = re.compile(r"\d\s?%|\d+ (?:in|of|out of) (?:every )?\d+")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Action:
    """What a suggestion does to the chart: create, update or delete."""

    type: str
    description: str
    resource: Json | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A choice offered with a card; its actions belong together. Without a `uuid` nothing can be told of it."""

    uuid: str | None
    label: str
    is_recommended: bool
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a card; `type` is absolute or smart."""

    label: str
    url: str
    type: str
    app_context: str | None


@dataclass(frozen=True, slots=True)
class OverrideReason:
    """A reason not to follow a card, as offered with it."""

    code: str
    system: str
    display: str


@dataclass(frozen=True, slots=True)
class Card:
    """One card; `indicator` is a key of `INDICATORS`. Without a `uuid` nothing can be told of it."""

    uuid: str | None
    summary: str
    indicator: str
    detail: str
    source_label: str
    source_url: str | None
    suggestions: tuple[Suggestion, ...]
    override_reasons: tuple[OverrideReason, ...]
    links: tuple[Link, ...]

    @property
    def states_a_risk(self) -> bool:
        """Whether the summary gives a figure: a percentage, or so many in so many."""
        return _STATED_RISK.search(self.summary) is not None


def parse_cards(body: Json) -> tuple[tuple[Card, ...], tuple[str, ...]]:
    """The readable cards of a response and, for each that is not, why. Raises CdsServiceError without `cards`."""
    entries = body.get("cards")
    if not isinstance(entries, list):
        raise CdsServiceError("response: expected an array of cards")
    cards: list[Card] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            cards.append(_parse_card(_object(entry)))
        except ValueError as exc:
            problems.append(f"card {number}: {exc}")
    return tuple(cards), tuple(problems)


def _parse_card(card: Json) -> Card:
    summary = _text(card, "summary")
    if len(summary) >= 140:
        raise ValueError(f"summary: expected under 140 characters, got {len(summary)}")
    indicator = _text(card, "indicator")
    if indicator not in INDICATORS:
        raise ValueError("indicator: expected info, warning or critical")
    source = _object(card.get("source"))
    return Card(
        uuid=_optional_text(card, "uuid"),
        summary=summary,
        indicator=indicator,
        detail=_optional_text(card, "detail") or "",
        source_label=_text(source, "label"),
        source_url=_optional_text(source, "url"),
        suggestions=_each(card, "suggestions", _parse_suggestion),
        override_reasons=_each(card, "overrideReasons", _parse_reason),
        links=_each(card, "links", _parse_link),
    )


def _parse_suggestion(suggestion: Json) -> Suggestion:
    recommended = suggestion.get("isRecommended") is True
    return Suggestion(
        _optional_text(suggestion, "uuid"),
        _text(suggestion, "label"),
        recommended,
        _each(suggestion, "actions", _parse_action),
    )


def _parse_reason(coding: Json) -> OverrideReason:
    return OverrideReason(_text(coding, "code"), _text(coding, "system"), _text(coding, "display"))


def _parse_action(action: Json) -> Action:
    resource = action.get("resource")
    return Action(
        _text(action, "type"),
        _optional_text(action, "description") or "",
        resource if isinstance(resource, dict) else None,
    )


def _parse_link(link: Json) -> Link:
    return Link(_text(link, "label"), _text(link, "url"), _text(link, "type"), _optional_text(link, "appContext"))


def _each(parent: Json, name: str, parse: Callable[[Json], _T]) -> tuple[_T, ...]:
    entries = parent.get(name, [])
    if not isinstance(entries, list):
        raise ValueError(f"{name}: expected an array")
    return tuple(parse(_object(entry)) for entry in entries)


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _text(parent: Json, name: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a text")
    return value


def _optional_text(parent: Json, name: str) -> str | None:
    value = parent.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: expected a text")
    return value
