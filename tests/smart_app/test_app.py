from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_artifacts.errors import ArtifactError
from model_artifacts.manifest import Sha256
from model_artifacts.runtime import ReleasedModel
from smart_app.app import CONTENT_SECURITY_POLICY, add_model_pages
from tests.cds_service import patients
from tests.conftest import RunningBedside

CARD = "# A card\n\n<script>alert(1)</script>\n\n[link](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


def _of_card(model: ReleasedModel, card: str) -> ReleasedModel:
    digest = Sha256(hashlib.sha256(card.encode()).hexdigest())
    return replace(model, identity=replace(model.identity, card_sha256=digest))


@pytest.fixture
def client(prevent: ReleasedModel, tmp_path: Path) -> FlaskClient:
    (tmp_path / "MODEL_CARD.md").write_text(CARD)
    app = Flask("test")
    add_model_pages(app, {"prevent_cvd": _of_card(replace(prevent, folder=tmp_path), CARD)})
    return app.test_client()


def test_app_lists_the_models(client: FlaskClient, prevent: ReleasedModel) -> None:
    page = client.get("/models")
    assert page.status_code == 200
    assert 'href="/models/prevent_cvd"' in page.text
    assert prevent.manifest.title in page.text


def test_app_shows_a_models_card_without_its_html(client: FlaskClient) -> None:
    page = client.get("/models/prevent_cvd")
    assert page.status_code == 200
    assert "A card" in page.text
    assert "<table" in page.text
    assert "<script" not in page.text
    assert 'href="javascript' not in page.text


@pytest.mark.parametrize("path", ["/models/unknown", "/models/..", "/models/prevent_cvd/other"])
def test_app_knows_no_other_page(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_app_refuses_a_model_without_a_card(prevent: ReleasedModel, tmp_path: Path) -> None:
    """Once a 500 for whoever followed a card's link."""
    with pytest.raises(ArtifactError, match=r"^file MODEL_CARD\.md of model prevent_cvd: No such file or directory$"):
        add_model_pages(Flask("test"), {"prevent_cvd": replace(prevent, folder=tmp_path)})


def test_app_refuses_another_card_than_the_log_names(prevent: ReleasedModel, tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text(CARD)
    with pytest.raises(
        ArtifactError, match=r"MODEL_CARD\.md of model prevent_cvd: expected SHA-256 \w{64}, got \w{64}"
    ):
        add_model_pages(Flask("test"), {"prevent_cvd": replace(prevent, folder=tmp_path)})


def test_app_gives_the_card_as_released(client: FlaskClient) -> None:
    card = client.get("/models/prevent_cvd/MODEL_CARD.md")
    assert card.data == CARD.encode()
    assert card.mimetype == "text/markdown"
    assert hashlib.sha256(card.data).hexdigest() in client.get("/models/prevent_cvd").text


@pytest.mark.parametrize("path", ["MODEL_CARD.md", "card.json"])
def test_app_has_no_files_of_a_model_there_is_not(client: FlaskClient, path: str) -> None:
    assert client.get(f"/models/unknown/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/models", "/models/prevent_cvd", "/models/static/page.css"])
def test_app_pages_load_nothing_from_elsewhere_and_run_nothing(client: FlaskClient, path: str) -> None:
    with client.get(path) as page:
        assert page.status_code == 200
        assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert "<script" not in page.text
        assert 'src="http' not in page.text


def test_app_every_card_links_to_a_page_that_is_there(bedside: RunningBedside) -> None:
    index = bedside.get("/models")
    assert index.status_code == 200
    assert 'href="/models/prevent_cvd"' in index.text
    assert bedside.get("/models/prevent_cvd").status_code == 200


def test_app_shows_the_very_card_that_the_log_names(bedside: RunningBedside) -> None:
    """Over a served call: the decision's entry, the digest on the page, and the bytes of the file are one card's."""
    answer = bedside.post(patients.encoded(patients.call(patients.prefetch(datetime.now(UTC)))))
    assert answer.json()["cards"]
    listed = bedside.run("audit", "show", "--last", "1", "--type", "decision/v1").stdout.splitlines()
    _, _, entry = bedside.run("audit", "show", listed[-1].split()[0]).stdout.split("\n", 2)
    logged = json.loads(entry)["model"]["card"]
    assert logged == hashlib.sha256(bedside.get("/models/prevent_cvd/MODEL_CARD.md").content).hexdigest()
    assert f"<code>{logged}</code>" in bedside.get("/models/prevent_cvd").text
    assert bedside.get("/models/prevent_cvd/card.json").json()["card_sha256"] == logged
