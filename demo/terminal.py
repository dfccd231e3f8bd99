"""Calls and cards as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from demo.cards import INDICATORS, Card
from demo.chart_view import Banner
from demo.client import CdsCall, Via
from demo.markdown import render_lines

WIDTH = 100
_INDENT = "  "
_WAYS = {Via.PREFETCH: "with prefetch", Via.FHIR: "through the FHIR server"}


def patient_lines(banner: Banner, note: str) -> list[str]:
    title = f"{banner.name} · {banner.sex} · {banner.age} · {banner.place}"
    return ["", "=" * WIDTH, _safe(title), _safe(note), "=" * WIDTH]


def call_lines(call: CdsCall) -> list[str]:
    """One call: how it went, then each card."""
    status = "no answer" if call.status is None else f"status {call.status}"
    receipt = "with receipt" if call.receipt_proof else "without receipt"
    title = f"{call.service.title}, {_WAYS[call.via]}: {status} in {call.elapsed_ms:.0f} ms, {receipt}"
    lines = ["", _safe(title), *(_safe(f"! {problem}") for problem in call.problems)]
    if not call.cards and not call.problems:
        lines.append("No advice for this patient.")
    for card in call.cards:
        lines += ["", *_card_lines(card)]
    return lines


def _card_lines(card: Card) -> Iterator[str]:
    yield from _wrapped(f"[{INDICATORS[card.indicator].upper()}] {card.summary}", "")
    yield from _wrapped(f"Source: {card.source_label}", _INDENT)
    if card.detail:
        yield ""
        yield from (f"{_INDENT}{_safe(line)}".rstrip() for line in render_lines(card.detail, WIDTH - len(_INDENT)))
    for suggestion in card.suggestions:
        actions = "; ".join(action.description or action.type for action in suggestion.actions)
        yield from _wrapped(f"> Suggestion: {suggestion.label}" + (f" ({actions})" if actions else ""), _INDENT)
    for link in card.links:
        kind = " (SMART app)" if link.type == "smart" else ""
        yield from _wrapped(f"> Link: {link.label}{kind}: {link.url}", _INDENT)
    if card.override_reasons:
        yield from _wrapped(
            f"> Reasons not to follow: {'; '.join(reason.display for reason in card.override_reasons)}", _INDENT
        )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        _safe(text), WIDTH, initial_indent=indent, subsequent_indent=indent + _INDENT, break_on_hyphens=False
    )


def _safe(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(character for character in text if character.isprintable())
