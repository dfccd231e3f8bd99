from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_artifacts.runtime import ReleasedModel
from smart_app.app import CONTENT_SECURITY_POLICY, add_model_pages
from tests.conftest import RunningBedside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "MODEL_CARD.md").write_text(
        "# A card\n\n<script>alert(1)</script>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    return tmp_path


@pytest.fixture
def client(prevent: ReleasedModel, folder: Path) -> Iterator[FlaskClient]:
    app = Flask("test")
    add_model_pages(app, {"prevent_cvd": replace(prevent, folder=folder)})
    yield app.test_client()


def test_app_lists_the_models(client: FlaskClient, prevent: ReleasedModel) -> None:
    page = client.get("/models")
    assert page.status_code == 200
    assert f'<a href="/models/prevent_cvd">{prevent.manifest.title}</a>' in page.text


def test_app_shows_a_models_card_without_its_html(client: FlaskClient) -> None:
    page = client.get("/models/prevent_cvd")
    assert page.status_code == 200
    assert "<h1>A card</h1>" in page.text
    assert "<table>" in page.text
    assert "<script" not in page.text


@pytest.mark.parametrize("path", ["/models/unknown", "/models/..", "/models/prevent_cvd/other"])
def test_app_knows_no_other_page(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_app_a_card_that_is_not_there_is_no_failure(client: FlaskClient, folder: Path) -> None:
    """Once a 500."""
    (folder / "MODEL_CARD.md").unlink()
    assert client.get("/models/prevent_cvd").status_code == 404


@pytest.mark.parametrize("path", ["/models", "/models/prevent_cvd", "/models/static/page.css"])
def test_app_pages_load_nothing_from_elsewhere_and_run_nothing(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "http://" not in page.text
    assert "style=" not in page.text


def test_app_every_card_links_to_a_page_that_is_there(bedside: RunningBedside) -> None:
    index = bedside.get("/models")
    assert index.status_code == 200
    assert 'href="/models/prevent_cvd"' in index.text
