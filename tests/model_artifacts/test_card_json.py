"""The card for machines: exact keys, each answered or openly not, and digests that lead back to the log."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_artifacts.card_json import card_json, card_schema
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


def _holds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether the value is what the schema says, for the words that our schema uses."""
    if "$ref" in schema:
        return _holds(value, card_schema()["$defs"]["answer"])
    if "oneOf" in schema:
        return sum(_holds(value, one) for one in schema["oneOf"]) == 1
    if "const" in schema:
        return bool(value == schema["const"])
    if schema["type"] == "string":
        return (
            isinstance(value, str)
            and len(value) >= schema.get("minLength", 0)
            and bool(re.search(schema.get("pattern", ""), value))
        )
    members = schema["properties"]
    return (
        isinstance(value, dict)
        and value.keys() == members.keys() == set(schema["required"])
        and all(_holds(value[key], members[key]) for key in members)
    )


def test_card_json_is_what_its_schema_says() -> None:
    content = card_json(MODEL)
    assert _holds(content, card_schema())
    without = {key: answer for key, answer in content["hti1-dsi-31"].items() if key != "funding"}
    for wrong in (
        without,
        {**without, "colour": content["hti1-dsi-31"]["funding"]},
        {**without, "funding": {"status": "not-available", "reason": ""}},
    ):
        assert not _holds({**content, "hti1-dsi-31": wrong}, card_schema())


def test_card_json_schema_in_the_docs_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "model-card.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == card_schema()
