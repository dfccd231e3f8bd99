"""Exactly 31 source attributes, each filled or openly empty."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_artifacts.answers import Answer
from model_artifacts.errors import ManifestError
from model_artifacts.gate import Gate, GateRule
from model_artifacts.manifest import Monitoring, parse_manifest
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
    assert attributes["training_representativeness"].text == "female: 3; male: 4 (see section “Subgroups”)"
    assert attributes["validity_external"].text is None
    assert attributes["validity_local"].text is None


def test_source_attributes_give_the_main_figures_and_the_range_over_groups() -> None:
    figure = {"estimate": 0.87, "low": 0.861, "high": 0.882}
    groups = [
        {"by": "sex", "group": name, "n": 9, "auroc": {**figure, "estimate": value}}
        for name, value in (("female", 0.9), ("male", 0.7))
    ]
    attributes = _attributes(
        {"model": {"auroc": figure}, "rivals": {"boosting": {"auroc": figure}}, "subgroups": groups}
    )
    assert attributes["validity_same_source"].text == "AUROC 0.870 (0.861 to 0.882) (see section “Evaluation figures”)"
    fairness = attributes["fairness_same_source"].text or ""
    assert fairness.startswith("AUROC from 0.700 (0.861 to 0.882) in sex male to 0.900")


def test_source_attributes_join_the_authored_approach_to_fairness_and_the_gates_bounds() -> None:
    rule = GateRule("sex", "auroc", "Equal ranking.", by="sex", at_least=0.8)
    manifest = msgspec.structs.replace(
        MANIFEST, gate=Gate((rule,)), disclosures={"fairness_approach": "By sex and age."}
    )
    text = source_attributes(manifest, INPUTS, ())["fairness_approach"].text
    assert text == "By sex and age. A version is promoted only if it keeps bounds by group: AUROC by sex at least 0.80."


def test_source_attributes_say_how_validity_is_monitored_and_how_often() -> None:
    manifest = msgspec.structs.replace(
        MANIFEST, monitoring=Monitoring(abstention_alarm=0.31, frequency="every quarter")
    )
    text = source_attributes(manifest, INPUTS, ())["validity_monitoring"].text or ""
    assert "abstains in a share above 0.31" in text
    assert text.endswith("How often: every quarter.")
    assert source_attributes(MANIFEST, INPUTS, ())["fairness_monitoring"].text is None
