"""The public pages about models, through a real server on loopback, as a browser would get them."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import msgspec
import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

from model_artifacts.errors import ArtifactError
from model_artifacts.manifest import Sha256
from model_artifacts.metrics import METRICS_FILE
from model_artifacts.model_card import model_card
from model_artifacts.runtime import ReleasedModel
from smart_app.app import CONTENT_SECURITY_POLICY, add_model_pages
from smart_app.card_page import render_card, standalone_page
from smart_app.markdown_page import anchor, render_page

MODEL = ReleasedModel.load("model_artifacts.prevent_cvd")
ICU = ReleasedModel.load("model_artifacts.icu_mortality")
PAGES = ["/models", "/models/prevent_cvd", "/models/icu_mortality", "/models/strange", "/models/absent"]
MAX_PAGE_BYTES = 300_000
MARKUP = """# <script>alert(1)</script>

## A & B

[x](javascript:alert(1)) <img src=x onerror=y>

| a | b |
| --- | --- |
| <b>1</b> | 2 |
"""


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str | None]


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [element.attributes for element in self.elements if element.tag in tags]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("strange")
    (folder / "MODEL_CARD.md").write_text(MARKUP)
    title = msgspec.structs.replace(MODEL.manifest, title='<i>Strange</i> & "quoted"', id="strange")
    digest = Sha256(hashlib.sha256(MARKUP.encode()).hexdigest())
    strange = replace(MODEL, folder=folder, manifest=title, identity=replace(MODEL.identity, card_sha256=digest))
    app = Flask(__name__)
    add_model_pages(app, {"prevent_cvd": MODEL, "strange": strange, "icu_mortality": ICU})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _get(site: str, path: str) -> requests.Response:
    with requests.Session() as session:
        return session.get(site + path, timeout=10)


def _page(site: str, path: str) -> _Reader:
    return _Reader(_get(site, path).text)


def test_pages_list_every_model_with_its_link(site: str) -> None:
    page = _page(site, "/models")
    links = {link["href"] for link in page.all("a")}
    assert {"/models/prevent_cvd", "/models/strange"} <= links
    assert MODEL.manifest.title in "".join(page.words)
    assert MODEL.identity.artifact_sha256[:16] in "".join(page.words)


def test_pages_show_the_whole_card(site: str) -> None:
    text = re.sub(r"\s+", " ", "".join(_page(site, "/models/prevent_cvd").words))
    card = (MODEL.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^## (.+)$", card, re.MULTILINE):
        assert heading in text
    assert MODEL.identity.manifest_sha256 in text
    assert "Demographic representativeness of the training data" in text


@pytest.mark.parametrize(
    "path", ["/models/absent", "/models/../models/absent", "/models/prevent_cvd%00", "/models/%2e%2e%2fetc"]
)
def test_pages_know_no_other_model(site: str, path: str) -> None:
    response = _get(site, path)
    assert response.status_code == 404
    assert "absent" not in response.text


def test_pages_answer_an_unknown_model_in_words(site: str) -> None:
    assert "No enabled model has this name" in _get(site, "/models/absent").text


@pytest.mark.parametrize("path", [*PAGES, "/models/static/page.css"])
def test_pages_are_locked_down(site: str, path: str) -> None:
    headers = _get(site, path).headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "script-src" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", PAGES)
def test_pages_load_nothing_from_elsewhere_and_run_nothing(site: str, path: str) -> None:
    page = _page(site, path)
    assert not page.all("script", "iframe", "object", "embed", "form", "base")
    loaded = [*page.all("link", "img", "source", "video")]
    assert all((item.get("href") or item.get("src") or "").startswith(("/", "data:")) for item in loaded)
    assert not any(name.startswith("on") or name == "style" for element in page.elements for name in element.attributes)
    assert "url(" not in _get(site, "/models/static/page.css").text
    assert "@import" not in _get(site, "/models/static/page.css").text


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_built_for_assistive_technology(site: str, path: str) -> None:
    page = _page(site, path)
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"
    assert len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch(r"h[1-6]", element.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("a")[0]["href"] == "#main"


def test_pages_tables_name_their_columns_and_rows_and_scroll_alone(site: str) -> None:
    page = _page(site, "/models/prevent_cvd")
    heads = page.all("th")
    assert heads
    assert {head["scope"] for head in heads} == {"col", "row"}
    regions = [item for item in page.all("div") if item.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    assert all(item["tabindex"] == "0" and (item["aria-label"] or "").startswith("Table: ") for item in regions)


def test_pages_contents_lead_to_every_section(site: str) -> None:
    page = _page(site, "/models/prevent_cvd")
    anchors = [head["id"] for head in page.all("h2")]
    assert len(set(anchors)) == len(anchors) == 21
    assert [link["href"] for link in page.all("a") if (link["href"] or "").startswith("#")][1:] == [
        f"#{name}" for name in anchors
    ]


def test_pages_never_turn_a_cards_text_into_markup(site: str) -> None:
    text = _get(site, "/models/strange").text
    assert "<script" not in text
    assert "<img" not in text
    assert "<b>" not in text
    assert 'href="javascript:' not in text
    assert "&lt;i&gt;Strange&lt;/i&gt;" in text
    assert "&lt;i&gt;Strange&lt;/i&gt;" in _get(site, "/models").text


def test_pages_follow_the_readers_colours_and_width() -> None:
    style = (Path(__file__).parents[2] / "smart_app" / "static" / "page.css").read_text()
    assert "prefers-color-scheme: dark" in style
    assert "overflow-x: auto" in style
    light, dark, _printed = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root \{(.+?)\}", style, re.DOTALL)
    )
    for colours in (light, dark):
        for line in ("plot0", "plot1", "plot2", "plot3", "plot4"):
            assert _contrast(colours[line], colours["paper"]) >= 3  # WCAG 2.2, 1.4.11
        for ink in ("ink", "quiet", "accent"):
            assert _contrast(colours[ink], colours["paper"]) >= 4.5  # WCAG 2.2, 1.4.3
            assert _contrast(colours[ink], colours["panel"]) >= 4.5


def _contrast(a: str, b: str) -> float:
    lighter, darker = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_pages_refuse_a_model_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"MODEL_CARD\.md of model prevent_cvd"):
        add_model_pages(Flask("none"), {"prevent_cvd": replace(MODEL, folder=tmp_path)})


def test_pages_without_models_say_so() -> None:
    app = Flask("none")
    add_model_pages(app, {})
    assert "No model is enabled." in app.test_client().get("/models").text


def test_markdown_page_splits_before_the_first_section() -> None:
    page = render_page("# Title\n\nWords\n\n## One & two\n\ntext\n\n## Three\n")
    assert page.lead.startswith('<h1 id="title">')
    assert page.body.startswith('<h2 id="one-two">')
    assert page.contents == (("one-two", "One & two"), ("three", "Three"))
    assert anchor("Source attributes (hti1-dsi-31)") == "source-attributes-hti1-dsi-31"


def _shown(model: ReleasedModel, folder: Path, metrics: bytes | None) -> ReleasedModel:
    """The model with other metrics beside the card that was made from its own."""
    card = (model.folder / "MODEL_CARD.md").read_bytes()
    (folder / "MODEL_CARD.md").write_bytes(card)
    if metrics is not None:
        (folder / METRICS_FILE).write_bytes(metrics)
    return replace(model, folder=folder)


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_small_and_give_no_id_twice(site: str, path: str) -> None:
    text = _get(site, path).text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(text.encode()) < MAX_PAGE_BYTES
    assert len(ids) == len(set(ids))


def test_pages_draw_the_plots_under_their_headings_and_fold_the_numbers(site: str) -> None:
    page = _page(site, "/models/icu_mortality")
    text = _get(site, "/models/icu_mortality").text
    calibration = text.split('<h2 id="calibration">')[1].split("<h2")[0]
    calibration = calibration[calibration.index("<figure") :]  # tables without a plot of their own may stand before it
    assert calibration.index("<svg") < calibration.index('<details class="numbers">') < calibration.index("<table")
    assert len(page.all("figure")) == len(page.all("svg")) >= 5
    assert all(drawing["role"] == "img" for drawing in page.all("svg"))
    assert len(page.all("details")) > 1


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        (None, "metrics.json is not there"),
        (b'{"reliability": []}', "metrics.json is not the one that this card was made from"),
    ],
)
def test_pages_draw_nothing_from_other_figures_than_the_cards(tmp_path: Path, metrics: bytes | None, why: str) -> None:
    card = render_card(_shown(ICU, tmp_path, metrics))
    assert "<svg" not in card.page.body
    assert why in card.plots_missing
    assert "<table" in card.page.body


def test_pages_never_turn_a_figures_label_into_markup(tmp_path: Path) -> None:
    hostile = '</svg><script>alert(1)</script>" onload="x'
    figure = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    content = {
        "attributions": [{"input": "a", "label": hostile, "mean_absolute": 0.1}],
        "subgroups": [{"by": hostile, "group": name, "n": 9, hostile: figure} for name in ("one", "other")],
        "risk_coverage": [{"coverage": 1.0, hostile: 0.1}, {"coverage": 0.5, hostile: 0.2}],
    }
    (tmp_path / METRICS_FILE).write_text(json.dumps(content))
    model = replace(MODEL, folder=tmp_path)
    card = model_card(model).encode()
    (tmp_path / "MODEL_CARD.md").write_bytes(card)
    digest = Sha256(hashlib.sha256(card).hexdigest())
    body = render_card(replace(model, identity=replace(model.identity, card_sha256=digest))).page.body
    assert body.count("<svg") == 3
    assert "<script" not in body
    assert not any(name.startswith("on") for element in _Reader(body).elements for name in element.attributes)


def test_pages_standalone_need_nothing_else(site: str) -> None:
    text = standalone_page(ICU)
    page = _Reader(text)
    assert not page.all("link", "script", "img", "iframe")
    assert "url(" not in text
    assert ICU.identity.card_sha256 in text
    assert len(page.all("svg")) == len(_page(site, "/models/icu_mortality").all("svg"))
    assert {link["href"] for link in page.all("a") if (link["href"] or "").startswith("#")} == {
        f"#{head['id']}" for head in page.all("h2")
    }


def test_pages_answers_as_json_are_thirty_one_and_fifty_two(site: str) -> None:
    content = _get(site, "/models/icu_mortality/card.json").json()
    assert len(content["hti1-dsi-31"]) == 31
    assert len(content["tripod-ai"]) == 52
    assert (
        content["card_sha256"] == hashlib.sha256(_get(site, "/models/icu_mortality/MODEL_CARD.md").content).hexdigest()
    )


def test_markdown_page_gives_sections_their_own_anchor_first() -> None:
    page = render_page("## Other\n\n### Subgroups\n\n## Subgroups\n\n### Subgroups\n")
    assert re.findall(r'<h(\d) id="([^"]+)"', page.body) == [
        ("2", "other"),
        ("3", "subgroups-2"),
        ("2", "subgroups"),
        ("3", "subgroups-3"),
    ]


def test_markdown_page_folds_only_the_table_under_a_drawing() -> None:
    text = (
        "## A\n\n### Drawn\n\nwords\n\n|a|b|\n|-|-|\n|1|2|\n\n|c|d|\n|-|-|\n|3|4|\n\n### Plain\n\n|e|f|\n|-|-|\n|5|6|\n"
    )
    body = render_page(text, {"Drawn": "<svg></svg>"}).body
    assert body.count("<details") == body.count("</details>") == 1
    assert (
        body.index("Drawn</h3>")
        < body.index("<svg>")
        < body.index("<p>words")
        < body.index("<details")
        < body.index("<td>2")
    )
    assert body.index("</details>") < body.index('<th scope="row">3')
