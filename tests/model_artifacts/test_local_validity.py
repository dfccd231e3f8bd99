"""The card's local attributes come from the newest report on exactly the version in force, and from no other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_artifacts.assessment import ModelIdentity
from model_artifacts.local_validity import REPORT, SCHEMA, find_report, local_attributes, local_section, site_section
from model_artifacts.manifest import ModelId, Sha256

IDENTITY = ModelIdentity(ModelId("sepsis"), "2.0.0", Sha256("a" * 64), Sha256("b" * 64), Sha256("c" * 64))
AUROC = {"estimate": 0.8, "low": 0.75, "high": 0.85}


def _content(**changes: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "made_at": "2026-03-01T08:00:00Z",
        "model": {"manifest_sha256": IDENTITY.manifest_sha256, "artifact_sha256": IDENTITY.artifact_sha256},
        "counts": {"answered": 1200, "events": 130},
        "compared": [
            {"measure": "auroc", "site": AUROC, "released": AUROC, "words": "compatible", "verdict": "compatible"}
        ],
        "subgroups": [
            {"by": "sex", "group": "female", "n": 700, "events": 70, "auroc": AUROC},
            {"by": "sex", "group": "male", "n": None, "withheld": "too few"},
        ],
    } | changes


def _keep(folder: Path, name: str, content: object) -> None:
    place = folder / "sepsis" / name
    place.mkdir(parents=True)
    (place / REPORT).write_text(json.dumps(content))


def test_local_validity_is_the_newest_report_of_the_version_in_force(tmp_path: Path) -> None:
    _keep(tmp_path, "1", _content())
    _keep(tmp_path, "2", _content(made_at="2026-04-01T08:00:00Z"))
    _keep(tmp_path, "3", _content(made_at="2026-05-01T08:00:00Z", model={"manifest_sha256": "d" * 64}))
    _keep(tmp_path, "4", _content(made_at="2026-06-01T08:00:00Z", schema="another/1"))
    _keep(tmp_path, "5", ["none"])
    (tmp_path / "sepsis" / "5" / REPORT).write_text("{")
    found = find_report(tmp_path, IDENTITY)
    assert found is not None
    assert found["made_at"] == "2026-04-01T08:00:00Z"
    assert find_report(tmp_path, replace(IDENTITY, artifact_sha256=Sha256("e" * 64))) is None
    assert find_report(tmp_path / "none", IDENTITY) is None


def test_local_validity_fills_attributes_27_and_29() -> None:
    validity, fairness = local_attributes(_content()).values()
    assert validity.text == (
        "Measured on 2026-03-01 on this site's own patients, 1200 answers, 130 with the event: "
        "AUROC 0.80 (0.75 to 0.85): compatible."
    )
    assert fairness.text is not None
    assert "female (sex, n=700): AUROC 0.80 (0.75 to 0.85)" in fairness.text
    assert fairness.text.endswith("Of 1 further groups too few were there to say.")
    section = local_section(_content())
    assert "| 27 | Validity in local data |" in section
    assert "| 29 | Fairness in local data |" in section
    assert "| AUROC | 0.80 (0.75 to 0.85) | 0.80 (0.75 to 0.85) | compatible |" in section


def test_local_validity_says_why_there_is_none(tmp_path: Path) -> None:
    assert all("no local validation of this version" in (one.reason or "") for one in local_attributes(None).values())
    assert "not available: no local validation of this version is kept here" in site_section(tmp_path, IDENTITY)
    few = _content(counts={"answered": None, "events": None}, compared=[], subgroups=[])
    for one in local_attributes(few).values():
        assert one.text is None
        assert "fewer than ten people answered" in (one.reason or "")
