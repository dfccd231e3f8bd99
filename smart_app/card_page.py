"""A released model's card as a page: its Markdown, and the plots drawn from the very `metrics.json` that the card was made of.

What binds them, so that an auditor can compare: the log's entry of a decision names the card by its SHA-256; the page shows
the card with that digest and no other; the card holds the digest of `metrics.json`, and only from those bytes is drawn.
Nothing here knows Flask.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from model_artifacts.card_json import card_json
from model_artifacts.card_performance import quantity_unit
from model_artifacts.errors import ArtifactError
from model_artifacts.metrics import METRICS_FILE
from model_artifacts.model_card import CARD_FILE
from model_artifacts.plots import Plot, plots_of
from model_artifacts.runtime import ReleasedModel
from smart_app.markdown_page import Page, render_page


@dataclass(frozen=True, slots=True)
class CardPage:
    """The card as it was released, its digest, the page, and the card's answers as JSON.

    `plots_missing` says why there are no plots, where there should be some.
    """

    card: bytes
    sha256: str
    page: Page
    answers: bytes
    plots_missing: str = ""


def render_card(model: ReleasedModel) -> CardPage:
    """The page of the model's card.

    Raises:
        ArtifactError: there is no card, or not the one that the log names for this model.
    """
    try:
        card = (model.folder / CARD_FILE).read_bytes()
    except OSError as exc:
        message = f"file {CARD_FILE} of model {model.manifest.id}: {exc.strerror}"
        raise ArtifactError(message, model_id=model.manifest.id) from exc
    sha256 = hashlib.sha256(card).hexdigest()
    if sha256 != model.identity.card_sha256:
        message = f"file {CARD_FILE} of model {model.manifest.id}: expected SHA-256 {model.identity.card_sha256}, got {sha256}"
        raise ArtifactError(message, model_id=model.manifest.id)
    text = card.decode()
    plots, missing = _plots(model, text)
    page = render_page(text, _drawings(plots))
    return CardPage(card, sha256, page, json.dumps(card_json(model), ensure_ascii=False).encode(), missing)


def standalone_page(model: ReleasedModel) -> str:
    """The card as one HTML document that needs nothing else: for `bedside model card --format html`, to mail or to print.

    Raises:
        ArtifactError: as `render_card`.
    """
    card = render_card(model)
    style = (files("smart_app") / "static" / "page.css").read_text(encoding="utf-8")
    contents = "".join(f'<li><a href="#{place}">{escape(words)}</a></li>\n' for place, words in card.page.contents)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(model.manifest.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<article>\n"
        f"{card.page.lead}{_digest(card)}"
        f'<nav class="contents" aria-label="Contents of this card">\n<ul>\n{contents}</ul>\n</nav>\n'
        f"{card.page.body}</article>\n</main>\n</body>\n</html>\n"
    )


def _digest(card: CardPage) -> str:
    missing = f"<p>{escape(card.plots_missing)}</p>\n" if card.plots_missing else ""
    return f'<p class="quiet">SHA-256 of this card: <code>{card.sha256}</code></p>\n{missing}'


def _plots(model: ReleasedModel, card: str) -> tuple[tuple[Plot, ...], str]:
    """What can be drawn from the metrics that the card names, and else why nothing is."""
    try:
        data = (model.folder / METRICS_FILE).read_bytes()
    except OSError:
        return (), f"No plots: {METRICS_FILE} is not there."
    if hashlib.sha256(data).hexdigest() not in card:
        return (), f"No plots: {METRICS_FILE} is not the one that this card was made from."
    return plots_of(json.loads(data), quantity_unit(model.manifest)), ""


def _drawings(plots: Iterable[Plot]) -> dict[str, str]:
    """By heading, the figures under it."""
    found: dict[str, str] = {}
    for plot in plots:
        caption = "" if plot.title == plot.heading else f"<figcaption>{escape(plot.title)}</figcaption>\n"
        figure = f"<figure>\n{caption}{plot.svg}\n</figure>\n"
        found[plot.heading] = found.get(plot.heading, "") + figure
    return {heading: f'<div class="plots">\n{figures}</div>\n' for heading, figures in found.items()}
