"""`bedside model show | compare`: what a model is here, and what the log has of it."""

from __future__ import annotations

import pytest

from audit.entry import AccessEntry, parse_entry
from bedside.cli import main
from bedside.environment import read_config
from bedside.offered import load_models
from model_artifacts.signing import release_keys
from tests.bedside.versions.conftest import Hospital
from tests.bedside.versions.test_promoting import INSTALLED, promote, shadow


def _show(capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> list[str]:
    capsys.readouterr()
    assert main(["model", "show", "prevent_cvd", *more]) == code
    return capsys.readouterr().out.splitlines()


def test_showing_says_which_version_is_in_force_and_who_vouches_for_it(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_models(read_config())["prevent_cvd"]
    told = _show(capsys)
    (key,) = release_keys()
    assert told[0] == f"prevent_cvd {INSTALLED} (installed): {model.manifest.title}"
    assert f"signed by release.pub {key.hint}" in told
    assert f"manifest {model.identity.manifest_sha256}" in told
    assert f"graph {model.identity.artifact_sha256}" in told
    assert f"card {model.identity.card_sha256}" in told
    assert f"population: {model.manifest.population.text}" in told
    assert "used: prevent-cvd at patient-view" in told
    assert [line for line in told if line.startswith("band ")] == [
        f"band {band.code} from {band.at_least:g}: {band.label} ({band.indicator})" for band in model.manifest.bands
    ]
    assert [line.split(": ")[1] for line in told if line.startswith("gate ")] == ["passed"] * len(
        model.manifest.gate.rules
    )
    assert told[-2:] == ["shadow: none", "log: nothing about this model"]


def test_showing_tells_the_history_of_one_tenants_log(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    assert shadow("--candidate", str(hospital.candidate("one"))) == 0
    assert promote(hospital.candidate("two", version="9.2.0")) == 0
    told = _show(capsys, "--tenant", "south")
    assert told[0].startswith("prevent_cvd 9.2.0 (promoted): ")
    assert f"signed by maker.pub {hospital.signer.hint}" in told
    assert any(line.startswith("shadow: version 9.1.0, manifest ") for line in told)
    assert any(line.startswith(f"before: version {INSTALLED}, manifest ") for line in told)
    assert [line.split()[2:5] for line in told if line.startswith("log: ")] == [
        ["promote", "version", "9.2.0,"],
        ["shadow", "version", "9.1.0,"],
    ]


def test_showing_is_a_look_and_recorded(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote(hospital.candidate()) == 0
    _show(capsys, "--reason", "quality")
    with hospital.log() as log:
        *_, look = [parse_entry(data) for data in log.entries()]
    assert isinstance(look, AccessEntry)
    assert (look.action, look.results, look.reason) == ("report", 1, "quality")


def test_showing_a_model_that_would_not_start_says_why_and_what_stands(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(hospital.candidate()) == 0
    standing = hospital.standing.in_force
    assert standing is not None
    (hospital.store.folder("prevent_cvd", standing.manifest) / "model.onnx").write_bytes(b"")
    told = _show(capsys, code=1)
    assert told[0].startswith("prevent_cvd: REFUSED: file model.onnx of model prevent_cvd is altered")
    assert any(line.startswith(f"before: version {INSTALLED}") for line in told)


def test_showing_a_model_of_a_tenant_without_a_log_says_the_rest(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    (hospital.folder / "audit-north").rename(hospital.folder / "elsewhere")
    told = _show(capsys)
    assert told[0].startswith("prevent_cvd ")
    assert told[-1].startswith("log: ")


def test_showing_compares_with_a_candidate_and_with_the_version_in_shadow(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate(metrics={"model": {"auroc": 0.8}}, replacing={'code = "from-20"': 'code = "high"'})
    compare = ["model", "compare", "prevent_cvd"]
    assert main(compare) == 2
    assert "--candidate: expected a folder, as nothing runs in shadow" in capsys.readouterr().err
    assert main([*compare, "--candidate", str(folder), "--examples"]) == 0
    examples = capsys.readouterr().out
    assert examples.startswith(f"version {INSTALLED} -> version 9.1.0\n")
    assert "DIFFERS" in examples
    assert "auroc" not in examples
    assert shadow("--candidate", str(folder)) == 0
    capsys.readouterr()
    assert main(compare) == 0
    told = capsys.readouterr().out
    assert told.startswith(examples)
    assert told.endswith("auroc: none -> 0.8, not paired\nin the log: no call that both decided\n")
    assert hospital.told() == [("shadow", "9.1.0", "evaluation")]


def test_showing_lists_versions_in_force_and_in_shadow(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    assert shadow("--candidate", str(hospital.candidate("one"))) == 0
    assert promote(hospital.candidate("two", version="9.2.0")) == 0
    capsys.readouterr()
    main(["model", "list"])
    assert (
        "prevent_cvd 9.2.0  patient-view  AHA PREVENT cardiovascular risk  (and 9.1.0 in shadow)\n"
        in capsys.readouterr().out
    )
    main(["model", "verify"])
    told = capsys.readouterr().out
    for part in ("prevent_cvd", "prevent_cvd in shadow 9.1.0", f"prevent_cvd before {INSTALLED}"):
        assert f"{part}: as released, sha-256 " in told
