"""Two versions side by side: words on examples, figures with what is paired, and calls that both decided."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bedside.versions.comparing import Agreement, agreement, agreement_lines, compare_examples, metric_lines
from model_artifacts.runtime import ReleasedModel
from model_artifacts.versions import UnfitError

ONE, OTHER = "1" * 64, "2" * 64


def test_comparing_tells_what_both_say_of_each_example(prevent: ReleasedModel) -> None:
    pairs = compare_examples(prevent, prevent)
    assert [pair.case for pair in pairs] == sorted(
        path.parent.name for path in prevent.code.glob("examples/*/record.json")
    )
    assert all(pair.alike for pair in pairs)
    assert any(pair.one.endswith(" %") for pair in pairs)
    assert any("(" in pair.one for pair in pairs)  # an abstention with its reasons


def test_comparing_shows_quantities_in_their_unit(models: dict[str, ReleasedModel]) -> None:
    words = [pair.one for pair in compare_examples(models["warfarin_dose"], models["warfarin_dose"])]
    assert any(text.endswith(" mg/wk") for text in words)


def test_comparing_refuses_a_version_that_fails_on_an_example(prevent: ReleasedModel) -> None:
    def fail(*_given: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(UnfitError, match=r"fails on the example .*: ZeroDivisionError") as refused:
        compare_examples(prevent, replace(prevent, interpret=fail))
    assert refused.value.code == "examples"


def test_comparing_pairs_figures_only_where_the_evaluation_did() -> None:
    one = {"model": {"auroc": {"estimate": 0.87, "low": 0.86, "high": 0.88}, "brier": 0.09}}
    other = {
        "model": {"auroc": {"estimate": 0.88, "low": 0.87, "high": 0.89}, "slope": 1.0},
        "difference": {
            "version 1.0.0": {"auroc": {"estimate": 0.01, "low": 0.005, "high": 0.015}},
            "boosting": {"brier": 9},
        },
    }
    assert list(metric_lines(one, other, "1.0.0")) == [
        "auroc: 0.87 (0.86 to 0.88) -> 0.88 (0.87 to 0.89), paired difference 0.01 (0.005 to 0.015)",
        "brier: 0.09 -> none, not paired",
        "slope: none -> 1, not paired",
    ]
    assert list(metric_lines({}, {"model": []}, "1.0.0")) == []


def _decision(call: str, manifest: str, said: str | None, service: str = "s", status: str = "answered") -> bytes:
    entry = {
        "_t": "decision/v1",
        "request": {"hook_instance": call, "hook": "patient-view"},
        "service": {"id": service},
        "status": status,
        "model": {"id": "m", "manifest": manifest},
        "output": None if said is None else {"band": said, "decision": f"m:{said}"},
    }
    return json.dumps(entry, separators=(",", ":")).encode()


def test_comparing_counts_calls_that_both_versions_decided() -> None:
    log = [
        b'{"_t":"config/v1"}',
        _decision("a", ONE, "low"),
        _decision("a", OTHER, "low"),
        _decision("b", OTHER, "high"),
        _decision("b", ONE, "low"),
        _decision("c", ONE, "low"),  # the other was left out
        _decision("d", ONE, "low"),
        _decision("d", OTHER, "high", service="another"),
        _decision("e", ONE, "low"),
        _decision("e", OTHER, None, status="failed"),
        _decision("f", "3" * 64, "low"),
    ]
    found = agreement(log, "m", ONE, OTHER)
    pairs = Counter({("low", "low"): 1, ("low", "high"): 1, ("low", "failed"): 1})
    assert found == Agreement(3, 1, pairs)
    assert list(agreement_lines(found)) == [
        "in the log: 1 of 3 calls alike (33.3 %)",
        "  low -> failed: 1",
        "  low -> high: 1",
    ]
    assert agreement(log, "another", ONE, OTHER).calls == 0


def test_comparing_says_where_the_log_has_nothing() -> None:
    assert list(agreement_lines(agreement([], "m", ONE, OTHER))) == ["in the log: no call that both decided"]
