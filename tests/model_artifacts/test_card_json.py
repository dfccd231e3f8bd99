"""The card for machines: exact keys, each answered or openly not, and digests that lead back to the log."""

from dataclasses import replace
from pathlib import Path

from model_artifacts.card_json import card_json
from model_artifacts.runtime import ReleasedModel
from model_artifacts.source_attributes import ATTRIBUTES
from model_artifacts.tripod import ITEMS

MODEL = ReleasedModel.load("model_artifacts.icu_mortality")
FILLED, OPEN = {"status", "text"}, {"status", "reason"}


def test_card_json_has_exactly_the_keys_of_both_schemas() -> None:
    content = card_json(MODEL)
    assert list(content["hti1-dsi-31"]) == list(ATTRIBUTES)
    assert list(content["tripod-ai"]) == list(ITEMS)
    for answer in (*content["hti1-dsi-31"].values(), *content["tripod-ai"].values()):
        assert (answer["status"], set(answer)) in (("available", FILLED), ("not-available", OPEN))
        assert all(answer.values())


def test_card_json_names_what_the_log_names() -> None:
    content, identity = card_json(MODEL), MODEL.identity
    assert content["model"]["sha256"] == identity.artifact_sha256
    assert content["model"]["manifest_sha256"] == identity.manifest_sha256
    assert content["card_sha256"] == identity.card_sha256


def test_card_json_without_metrics_claims_no_figure(tmp_path: Path) -> None:
    attributes = card_json(replace(MODEL, folder=tmp_path))["hti1-dsi-31"]
    assert attributes["validity_same_source"] == {"status": "not-available", "reason": "it was not measured"}
    assert attributes["fairness_same_source"]["status"] == "not-available"
    assert "0.8" in card_json(MODEL)["hti1-dsi-31"]["validity_same_source"]["text"]
