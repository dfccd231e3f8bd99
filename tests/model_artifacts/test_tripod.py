"""52 parts of 27 items, each answered as far as the card answers it, or openly not."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_artifacts.answers import Answer
from model_artifacts.errors import ManifestError
from model_artifacts.gate import Gate, GateRule
from model_artifacts.manifest import parse_manifest
from model_artifacts.metrics import parse_metrics
from model_artifacts.tripod import ITEMS, tripod_items

MANIFESTS = {
    name: parse_manifest((Path(str(files(f"model_artifacts.{name}"))) / "manifest.toml").read_text(encoding="utf-8"))
    for name in ("prevent_cvd", "icu_mortality")
}
MEASURED = {
    "what": "five folds",
    "model": {"auroc": 0.87},
    "subgroups": [{"group": "female", "n": 3}, {"group": "male", "n": 4}],
    "cohort": {"stays": 7},
}


def _items(metrics: dict[str, Any], name: str = "icu_mortality", **changes: Any) -> dict[str, Answer]:
    return tripod_items(msgspec.structs.replace(MANIFESTS[name], **changes), parse_metrics(metrics))


def test_tripod_has_the_parts_of_the_published_checklist() -> None:
    parts = {
        "3": "abc",
        "5": "ab",
        "6": "abc",
        "8": "abc",
        "9": "abc",
        "12": "abcdefg",
        "18": "abcdef",
        "20": "abc",
        "23": "ab",
        "27": "abc",
    }
    assert list(ITEMS) == [f"{item}{part}" for item in range(1, 28) for part in parts.get(str(item), "") or ("",)]
    assert len(ITEMS) == 52


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("metrics", [{}, MEASURED])
def test_tripod_parts_are_answered_or_say_why_not(name: str, metrics: dict[str, Any]) -> None:
    items = _items(metrics, name, disclosures={})
    assert list(items) == list(ITEMS)
    assert all((answer.text is None) is bool(answer.reason) for answer in items.values())


@pytest.mark.parametrize("part", ["12e", "16", "20a", "20b", "21", "23a"])
def test_tripod_never_claims_what_was_not_measured(part: str) -> None:
    assert _items({})[part].text is None
    assert _items(MEASURED)[part].text


def test_tripod_published_figures_are_no_evaluation_of_ones_own() -> None:
    items = _items({"published": {"c_statistic": 0.79}}, "prevent_cvd")
    assert items["23a"].text is None
    assert items["4"].text == "to implement a published model; not to evaluate it"


def test_tripod_takes_what_a_person_authored_after_what_the_card_says() -> None:
    items = _items({}, tripod={"5b": "2001 to 2008", "5a": "Routine care."})
    assert items["5b"].text == "2001 to 2008"
    assert items["5a"].text == "see section “Training data”; why these data is not said. Routine care."


@pytest.mark.parametrize("part", ["28", "5", "5c", "colour"])
def test_tripod_parts_that_there_are_not_cannot_be_authored(part: str) -> None:
    with pytest.raises(ManifestError, match=f"tripod of icu_mortality: {part} cannot be authored"):
        _items({}, tripod={part: "text"})


def test_tripod_fairness_is_the_gates_bounds_by_group() -> None:
    assert _items({}, disclosures={}, gate=Gate(()))["14"].text is None
    whole, by_sex = GateRule("a", "model.auroc", "r", at_least=0.8), GateRule("b", "auroc", "r", by="sex", at_least=0.8)
    assert _items({}, disclosures={}, gate=Gate((whole,)))["14"].text is None
    assert _items({}, disclosures={}, gate=Gate((by_sex,)))["14"].text == "bounds by group, see section “Release gate”"


def test_tripod_points_only_to_sections_that_the_card_has() -> None:
    card = (Path(str(files("model_artifacts.icu_mortality"))) / "MODEL_CARD.md").read_text(encoding="utf-8")
    named = {name for answer in _items(MEASURED).values() for name in re.findall("“([A-Z][a-z ]+)”", answer.text or "")}
    assert len(named) > 8
    assert all(f"\n## {name}\n" in card for name in named)
