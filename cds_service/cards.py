"""A finding as a CDS Hooks card (2.0.1, "Card Attributes").

Order of the detail: what the figure means, how sure it is, what moved it, what was missing, what to consider, which model
said it. The score alone never leads. Texts of the manifest are trusted; everything that came from FHIR is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cds_service.markdown import escape
from cds_service.suggestions import NO_DRAFTS, Suggestion, suggest
from model_artifacts.assessment import Finding
from model_artifacts.explanation import Attribution
from model_artifacts.finding import UNIT_WORDS, capitalised, date_words, value_words
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import Indicator, ModelManifest

MAX_SUMMARY_CHARS = 139  # "< 140 characters" (CDS Hooks, card.summary)
OVERRIDE_SYSTEM = "urn:bedside:override-reason"


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a card; its URL comes from the configuration alone, never from FHIR.

    Raises:
        ValueError: `url` isn't an absolute http(s) URL, or `app_context` is given though `type` isn't "smart".
    """

    label: str
    url: str
    type: str
    app_context: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.netloc:
            message = f"link url: expected an absolute http(s) URL, got {self.url!r}"
            raise ValueError(message)
        if self.app_context is not None and self.type != "smart":
            message = f"link app_context: expected none for type {self.type!r}"
            raise ValueError(message)

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        link = {"label": self.label, "url": self.url, "type": self.type}
        return link if self.app_context is None else {**link, "appContext": self.app_context}


@dataclass(frozen=True, slots=True)
class Card:
    """One card, complete but for what is only known once the decision is in the log.

    `kind` names what the card says, such as "prevent_cvd:total_cvd_10y:high", the same whoever the patient is; no part of
    the wire form, but clients that keep a user's override by topic need it.
    """

    uuid: str
    summary: str
    detail: str
    indicator: Indicator
    source: dict[str, Any]
    suggestions: tuple[Suggestion, ...]
    override_reasons: tuple[dict[str, str], ...]
    links: tuple[Link, ...]
    kind: str = ""

    def to_json(self) -> dict[str, Any]:
        """Wire form: no member is null or empty."""
        card: dict[str, Any] = {
            "uuid": self.uuid,
            "summary": self.summary,
            "detail": self.detail,
            "indicator": self.indicator,
            "source": self.source,
        }
        if self.suggestions:
            card["suggestions"] = [suggestion.to_json() for suggestion in self.suggestions]
            card["selectionBehavior"] = "any"
        if self.override_reasons:
            card["overrideReasons"] = list(self.override_reasons)
        if self.links:
            card["links"] = [link.to_json() for link in self.links]
        return card


def present(
    finding: Finding,
    manifest: ModelManifest,
    patient_id: str,
    model_page: str | None,
    new_uuid: Callable[[], str],
    gaps: tuple[str, ...] = (),
    drafts: Mapping[str, bytes] = NO_DRAFTS,
) -> Card:
    """The card for `finding`.

    `model_page` is the absolute URL of the model's public page, if there is one; `gaps` say what could not be had or read.
    `drafts` are the draft orders that a proposal would change, by reference: a proposal whose order isn't there is left out.
    """
    suggestions = (suggest(proposal, patient_id, new_uuid(), drafts) for proposal in finding.proposals)
    return Card(
        uuid=new_uuid(),
        summary=_shorten(finding.headline),
        detail=_detail(finding, manifest, gaps),
        indicator=finding.urgency,
        source=_source(manifest),
        suggestions=tuple(suggestion for suggestion in suggestions if suggestion is not None),
        override_reasons=tuple(
            {"code": reason.code, "system": OVERRIDE_SYSTEM, "display": reason.display}
            for reason in manifest.override_reasons
        ),
        links=() if model_page is None else (Link(f"About this model: {manifest.title}", model_page, "absolute"),),
        kind=f"{manifest.id}:{finding.code}",
    )


def present_failure(manifest: ModelManifest, new_uuid: Callable[[], str]) -> Card:
    """The card that says a model failed; saying nothing would read as "no risk"."""
    return Card(
        uuid=new_uuid(),
        summary=_shorten(f"{manifest.outputs[0].label} not available: the model failed"),
        detail=(
            "The model did not return a usable answer, so nothing is shown. "
            "This is a fault of the software and says nothing about the patient. The failure is recorded.\n\n"
            + _signature(manifest)
        ),
        indicator="info",
        source=_source(manifest),
        suggestions=(),
        override_reasons=(),
        links=(),
        kind=f"{manifest.id}:failed",
    )


def _detail(finding: Finding, manifest: ModelManifest, gaps: tuple[str, ...]) -> str:
    blocks = list(finding.statements)
    if finding.figures:
        blocks.append("\n".join(f"- {label}: {figure}" for label, figure in finding.figures))
    if finding.reasons:
        blocks.append(
            f"**What moved this estimate**, compared with {manifest.explanation.baseline}. "
            "These are contributions inside the model, not causes and not effects of treatment:"
        )
        unit = manifest.explanation.unit
        blocks.append("\n".join(_reason_line(evidence, moved, unit) for evidence, moved in finding.reasons))
        if finding.comparison:
            blocks.append(finding.comparison)
    if finding.missing or gaps:
        blocks.append("**Not available**")
        blocks.append("\n".join(f"- {escape(item)}" for item in (*finding.missing, *gaps)))
    if finding.considerations:
        blocks.append("**To consider**")
        blocks.append("\n".join(f"- {item}" for item in finding.considerations))
    blocks.append(_signature(manifest))
    return "\n\n".join(blocks)


def _reason_line(evidence: Evidence, moved: Attribution, unit: str) -> str:
    parts = [f"{escape(capitalised(evidence.label))}: {escape(value_words(evidence))}"]
    if evidence.observed_at is not None:
        parts.append(f"({date_words(evidence)})")
    direction = "raises" if moved.contribution > 0 else "lowers"
    by = f"{100 * abs(moved.contribution):.1f} percentage points"
    if unit != "probability":
        by = f"{abs(moved.contribution):.1f} {UNIT_WORDS.get(unit, unit)}"
    line = f"- {' '.join(parts)} {direction} it by {by}"
    origin = [escape(text) for text in (evidence.note, evidence.source) if text]
    return f"{line} [{'; '.join(origin)}]" if origin else line


def _signature(manifest: ModelManifest) -> str:
    return (
        f"_{manifest.title}, model {escape(manifest.id)} version {escape(manifest.version)}. "
        f"Intended users: {manifest.intended_use.users}. "
        f"It {manifest.intended_use.role} a decision and does not replace judgement._"
    )


def _source(manifest: ModelManifest) -> dict[str, Any]:
    source = manifest.source
    topic = {"system": source.topic_system, "code": source.topic_code, "display": source.topic_display}
    members = {"label": source.label, "url": source.url, "topic": _filled(topic) if source.topic_code else {}}
    return _filled(members)


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    """The members that have a value: a manifest may leave texts empty, the wire form may not."""
    return {name: value for name, value in members.items() if value}


def _shorten(text: str) -> str:
    """The text, cut between words if it is too long: half a figure would read as another figure."""
    if len(text) <= MAX_SUMMARY_CHARS:
        return text
    kept = text[:MAX_SUMMARY_CHARS]
    return (kept.rpartition(" ")[0].rstrip() or kept[:-1]) + "…"
