"""Exactly 31 source attributes, each filled or openly empty."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_artifacts.answers import Answer
from model_artifacts.errors import ManifestError
from model_artifacts.manifest import parse_manifest
from model_artifacts.metrics import parse_metrics
from model_artifacts.prevent_cvd.inputs import INPUTS
from model_artifacts.source_attributes import ATTRIBUTES, source_attributes

MANIFEST = parse_manifest(
    (Path(str(files("model_artifacts.prevent_cvd"))) / "manifest.toml").read_text(encoding="utf-8")
)
PUBLISHED = {"published": {"outcome": "death, external validation", "c_statistic": 0.79}}
MEASURED = {"evaluation": {"auroc": 0.87}, "subgroups": [{"group": "female", "n": 3}, {"group": "male", "n": 4}]}


def _attributes(metrics: dict[str, Any], **disclosures: str) -> dict[str, Answer]:
    manifest = msgspec.structs.replace(MANIFEST, disclosures=disclosures)
    return source_attributes(manifest, INPUTS, parse_metrics(metrics))


@pytest.mark.parametrize("metrics", [{}, PUBLISHED, MEASURED])
def test_source_attributes_are_exactly_thirty_one_in_order(metrics: dict[str, Any]) -> None:
    assert tuple(_attributes(metrics)) == tuple(ATTRIBUTES)
    assert len(ATTRIBUTES) == 31


@pytest.mark.parametrize("metrics", [{}, PUBLISHED, MEASURED])
def test_source_attributes_are_filled_or_say_why_not(metrics: dict[str, Any]) -> None:
    for attribute in _attributes(metrics).values():
        wire = attribute.to_json()
        assert wire == {"status": "available", "text": attribute.text} or (
            wire.keys() == {"status", "reason"} and wire["status"] == "not-available" and wire["reason"]
        )
        assert attribute.words().startswith("not available: ") is (attribute.text is None)


def test_source_attributes_of_input_variables_are_derived() -> None:
    text = _attributes({})["sensitive_inputs"].text or ""
    assert "race: no" in text
    assert "sex: yes" in text
    assert "date of birth: yes" in text
    with pytest.raises(ManifestError, match="sensitive_inputs cannot be authored"):
        _attributes({}, sensitive_inputs="none at all")


@pytest.mark.parametrize("key", ["validity_external", "developer", "colour"])
def test_source_attributes_that_are_derived_or_unknown_cannot_be_authored(key: str) -> None:
    with pytest.raises(ManifestError, match=f"{key} cannot be authored"):
        _attributes({}, **{key: "excellent"})


def test_source_attributes_take_what_a_person_disclosed() -> None:
    assert _attributes({}, fairness_approach="By sex and age.")["fairness_approach"].text == "By sex and age."


def test_source_attributes_never_take_published_figures_for_measured_ones() -> None:
    attributes = _attributes(PUBLISHED)
    assert attributes["validity_same_source"].text is None
    assert attributes["validity_external"].text == "see section “Evaluation figures”"
    assert attributes["external_source"].text == "death, external validation"


def test_source_attributes_point_to_what_was_measured_here() -> None:
    attributes = _attributes(MEASURED)
    assert attributes["validity_same_source"].text == "see section “Evaluation figures”"
    assert attributes["fairness_same_source"].text == "see section “Subgroups”"
    assert attributes["validity_external"].text is None
    assert attributes["validity_local"].text is None
