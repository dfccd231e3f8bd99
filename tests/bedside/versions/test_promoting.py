"""A version comes into force only signed, fit, through its gate and recorded; and goes back as it came."""

import os
import shutil
from pathlib import Path

import onnx
import pytest

from audit.errors import AppendError
from audit.log import AuditLog
from audit.operators import operator_digest, present_operator
from bedside.cli import main
from bedside.environment import read_config
from bedside.offered import load_candidates, load_models
from bedside.versions import promoting
from model_artifacts.errors import ArtifactError
from model_artifacts.gate import Verdict
from model_artifacts.versions import StoreError
from tests.bedside.versions.conftest import TENANTS, Hospital
from tests.model_artifacts.candidates import with_graph
from tests.model_artifacts.signer import Signer

INSTALLED = "1.0.0"
BROKEN_GATE = {"measured": {"people": 1, "torch_onnx_max_difference": 0.1}}
RULE = '\n[[gate.rules]]\nname = "auroc-by-sex"\nmetric = "auroc"\nby = "sex"\nlargest_gap = 0.05\nreason = "alike"\n'


def promote(folder: Path, *more: str) -> int:
    return main(["model", "promote", "prevent_cvd", "--candidate", str(folder), "--reason", "new-release", *more])


def rollback() -> int:
    return main(["model", "rollback", "prevent_cvd", "--reason", "safety"])


def shadow(*what: str) -> int:
    return main(["model", "shadow", "prevent_cvd", "--reason", "evaluation", *what])


def in_force() -> str:
    return load_models(read_config())["prevent_cvd"].manifest.version


def test_promoting_puts_a_signed_version_in_force_and_records_it_in_every_log(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_models(read_config())["prevent_cvd"].identity
    assert promote(hospital.candidate()) == 0
    told = capsys.readouterr().out
    assert f"version {INSTALLED} -> version 9.1.0: " in told
    assert "gate graph-equals-equations: passed" in told
    assert "version 9.1.0 is promoted, after 1.0.0; it acts when a worker starts" in told
    after = load_models(read_config())["prevent_cvd"].identity
    assert (before.version, after.version) == (INSTALLED, "9.1.0")
    for tenant in TENANTS:
        (entry,) = hospital.entries(tenant)
        assert (entry.action, entry.reason, entry.tenant) == ("promote", "new-release", tenant)
        assert (entry.version, entry.artefact) == (after.version, after.artifact_sha256)
        assert (entry.manifest, entry.card) == (after.manifest_sha256, after.card_sha256)
        assert entry.replaces == before.artifact_sha256
    assert [one.version for one in hospital.standing.before] == [INSTALLED]


def test_promoting_says_who_did_it(hospital: Hospital) -> None:
    assert promote(hospital.candidate("one")) == 0
    assert promote(hospital.candidate("two", version="9.2.0"), "--operator", "dr-who") == 0
    first, second = hospital.entries()
    with hospital.log() as log:
        assert first.operator == present_operator(log.keys.index_key)
        assert second.operator == operator_digest(log.keys.index_key, "dr-who")


def test_promoting_a_version_that_breaks_its_gate_is_refused_and_the_log_has_the_attempt(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(hospital.candidate(metrics=BROKEN_GATE)) == 1
    told = capsys.readouterr().out
    assert "gate graph-equals-equations: FAILED: measured.torch_onnx_max_difference 0.1; expected at most 1e-05" in told
    assert "version 9.1.0 is REFUSED: its gate isn't passed" in told
    assert in_force() == INSTALLED
    for tenant in TENANTS:
        assert hospital.told(tenant) == [("refuse", "9.1.0", "gate:graph-equals-equations")]
    assert not any(path.is_dir() for path in (hospital.store.directory / "prevent_cvd").iterdir())


def test_promoting_an_unfair_version_is_refused_with_the_groups_figures(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"by": "sex", "group": group, "n": 900, "auroc": auroc} for group, auroc in (("f", 0.71), ("m", 0.82))]
    assert promote(hospital.candidate(adding=RULE, metrics={"subgroups": rows})) == 1
    assert "auroc by sex: f 0.71 of 900, m 0.82 of 900, gap 0.11; expected a gap of at most 0.05 (alike)" in (
        capsys.readouterr().out
    )
    assert hospital.told() == [("refuse", "9.1.0", "gate:auroc-by-sex")]


def test_promoting_a_version_without_the_gate_in_force_does_not_escape_it(hospital: Hospital, tmp_path: Path) -> None:
    """A candidate that left the rules out of its manifest would pass by having none."""
    folder = hospital.candidate(metrics=BROKEN_GATE)
    manifest = folder / "manifest.toml"
    rules, kept = manifest.read_text().partition("[[gate.rules]]"), "[monitoring]"
    manifest.write_text(rules[0] + kept + rules[2].partition(kept)[2])
    assert "[[gate" not in manifest.read_text()
    hospital.signer.sign(folder)
    assert promote(folder) == 1
    assert hospital.told() == [("refuse", "9.1.0", "gate:graph-equals-equations")]


def test_promoting_names_as_many_broken_rules_as_a_code_holds() -> None:
    broken = [Verdict(f"rule-{number:03}", False, "", "") for number in range(64)]
    code = promoting._gate_code(broken)
    assert code.startswith("gate:rule-000+rule-001+")
    assert 110 < len(code) <= 128
    assert promoting._gate_code(broken[:1]) == "gate:rule-000"


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"version": "0.9.0"}, "downgrade", "expected a later one than 1.0.0"),
        ({"version": INSTALLED, "adding": "\n# more\n"}, "version-reused", "was here already, with another manifest"),
        ({"version": INSTALLED, "metrics": {"more": 1}}, "in-force", "has the manifest of the one in force"),
        ({"replacing": {'hooks = ["patient-view"]': 'hooks = ["order-sign"]'}}, "unfit", "other hooks"),
    ],
)
def test_promoting_what_cannot_follow_is_refused_and_recorded(
    changes: dict[str, object], reason: str, said: str, hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    version = changes.get("version", "9.1.0")
    assert promote(hospital.candidate(**changes)) == 1
    assert said in capsys.readouterr().out
    assert hospital.told() == [("refuse", version, reason)]
    assert in_force() == INSTALLED


def test_promoting_the_version_in_force_is_refused(hospital: Hospital) -> None:
    folder = hospital.candidate()
    assert promote(folder) == 0
    assert promote(folder) == 1
    assert hospital.told()[-1] == ("refuse", "9.1.0", "in-force")
    assert in_force() == "9.1.0"
    assert [one.version for one in hospital.standing.before] == [INSTALLED]


def test_promoting_other_bytes_under_a_number_that_was_in_force_is_refused(hospital: Hospital) -> None:
    assert promote(hospital.candidate("one")) == 0
    assert rollback() == 0
    assert promote(hospital.candidate("two", version="9.2.0")) == 0
    assert rollback() == 0
    assert promote(hospital.candidate("other", version=INSTALLED, adding="\n# other bytes\n")) == 1
    assert hospital.told()[-1] == ("refuse", INSTALLED, "version-reused")


def test_promoting_a_version_that_fails_on_an_example_is_refused(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate()
    graph = onnx.load(folder / "model.onnx")
    constant = onnx.helper.make_node("Constant", [], ["wrong"], value_float=7.0)
    for node in graph.graph.node:
        for place, name in enumerate(node.output):
            if name == "completeness_gap":
                node.output[place] = "unused_gap"
    shape = onnx.helper.make_node("Mul", ["unused_gap", "wrong"], ["completeness_gap"])
    for node in graph.graph.node:
        for place, name in enumerate(node.output):
            if name == "baseline_probability":
                node.output[place] = "true_baseline"
    shifted = onnx.helper.make_node("Add", ["true_baseline", "wrong"], ["baseline_probability"])
    graph.graph.node.extend([constant, shape, shifted])
    with_graph(folder, graph.SerializeToString(), hospital.signer)
    assert promote(folder) == 1
    assert "fails on the example" in capsys.readouterr().out
    assert hospital.told() == [("refuse", "9.1.0", "examples")]


@pytest.mark.parametrize(
    "name", ["manifest.toml", "model.onnx", "MODEL_CARD.md", "metrics.json", "codes.toml", "model.sig"]
)
def test_promoting_an_altered_candidate_is_refused_with_the_files_name(
    name: str, hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert promote(folder) == 2
    assert f"file {name} of model " in capsys.readouterr().err
    assert hospital.told() == []
    assert in_force() == INSTALLED


def test_promoting_takes_neither_an_unsigned_candidate_nor_a_strangers(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate()
    Signer(tmp_path / "stranger").sign(folder)
    assert promote(folder) == 2
    assert "models.trusted_keys" in capsys.readouterr().err
    (folder / "model.sig").unlink()
    assert promote(folder) == 2
    assert "is unsigned: file model.sig is missing" in capsys.readouterr().err
    assert hospital.told() == []


def test_promoting_a_version_of_another_model_is_refused(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate(model="warfarin_dose")
    assert promote(folder) == 2
    assert "expected a version of model prevent_cvd, got one of warfarin_dose" in capsys.readouterr().err


def test_promoting_follows_no_link_out_of_the_candidates_folder(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate()
    shutil.move(folder / "metrics.json", tmp_path / "metrics.json")
    (folder / "metrics.json").symlink_to(tmp_path / "metrics.json")
    assert promote(folder) == 2
    assert "file metrics.json of model prevent_cvd: expected a plain file" in capsys.readouterr().err


def test_promoting_waits_for_no_pipe(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hospital.candidate()
    (folder / "metrics.json").unlink()
    os.mkfifo(folder / "metrics.json")
    assert promote(folder) == 2
    assert "file metrics.json of model prevent_cvd: expected a file" in capsys.readouterr().err


def test_promoting_what_one_log_does_not_record_does_not_happen(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = AuditLog.record

    def south_is_down(log: AuditLog, *given: object) -> object:
        if log.config.tenant == "south":
            raise AppendError("the store of south is away")
        return record(log, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(AuditLog, "record", south_is_down)
    assert promote(hospital.candidate()) == 2
    assert "the store of south is away" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("BEDSIDE_CONFIG", str(hospital.folder / "bedside.toml"))
    assert in_force() == INSTALLED
    assert hospital.told("south") == []
    assert hospital.told("north") == [("promote", "9.1.0", "new-release"), ("withdraw", "9.1.0", "not-done")]


def test_promoting_that_cannot_be_put_in_force_is_taken_back_in_the_logs(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_given: object) -> None:
        raise StoreError("store of model prevent_cvd: No space left on device")

    monkeypatch.setattr("model_artifacts.versions.VersionStore.stand", full)
    assert promote(hospital.candidate()) == 2
    assert "No space left" in capsys.readouterr().err
    assert in_force() == INSTALLED
    for tenant in TENANTS:
        assert [action for action, _, _ in hospital.told(tenant)] == ["promote", "withdraw"]


class PowerCut(BaseException):
    """Nothing after it runs."""


def test_promoting_cut_off_between_log_and_store_is_told_apart(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut(*_given: object) -> None:
        raise PowerCut

    with monkeypatch.context() as cut_off:
        cut_off.setattr("model_artifacts.versions.VersionStore.stand", cut)
        with pytest.raises(PowerCut):
            promote(hospital.candidate())
    assert in_force() == INSTALLED
    capsys.readouterr()
    assert main(["model", "show", "prevent_cvd"]) == 1
    told = capsys.readouterr().out
    assert (
        "the log's newest entry is promote of version 9.1.0, and in force is version 1.0.0: that change did not" in told
    )
    assert promote(hospital.folder / "candidate") == 0
    assert main(["model", "show", "prevent_cvd"]) == 0


def test_promoting_by_two_at_once_is_done_by_one(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hospital.candidate()
    with hospital.store.changing("prevent_cvd"):
        assert promote(folder) == 2
    assert "somebody else is changing its version" in capsys.readouterr().err
    assert hospital.told() == []
    assert promote(folder) == 0


def test_promoting_goes_back_step_by_step_to_what_was_installed(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(hospital.candidate("one")) == 0
    assert promote(hospital.candidate("two", version="9.2.0")) == 0
    assert in_force() == "9.2.0"
    assert rollback() == 0
    assert in_force() == "9.1.0"
    assert rollback() == 0
    assert in_force() == INSTALLED
    assert hospital.standing.in_force is None
    assert rollback() == 2
    assert "expected a version to go back to" in capsys.readouterr().err
    assert hospital.told("south")[2:] == [("rollback", "9.1.0", "safety"), ("rollback", INSTALLED, "safety")]
    assert [entry.replaces for entry in hospital.entries()][-1] == hospital.entries()[0].artefact


def test_promoting_goes_back_from_a_version_that_was_altered_and_would_not_start(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(hospital.candidate()) == 0
    standing = hospital.standing.in_force
    assert standing is not None
    card = hospital.store.folder("prevent_cvd", standing.manifest) / "MODEL_CARD.md"
    card.write_text("another card")
    with pytest.raises(ArtifactError, match=r"file MODEL_CARD\.md of model prevent_cvd is altered"):
        load_models(read_config())
    assert main(["model", "verify"]) == 1
    assert rollback() == 0
    assert in_force() == INSTALLED


def test_promoting_does_not_go_back_to_a_version_that_was_altered(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(hospital.candidate("one")) == 0
    assert promote(hospital.candidate("two", version="9.2.0")) == 0
    earlier = hospital.standing.before[0]
    (hospital.store.folder("prevent_cvd", earlier.manifest) / "metrics.json").write_text("{}")
    assert rollback() == 2
    assert "file metrics.json of model prevent_cvd is altered" in capsys.readouterr().err
    assert in_force() == "9.2.0"
    assert [action for action, _, _ in hospital.told()] == ["promote", "promote"]


def test_promoting_refuses_the_start_where_the_makers_key_is_trusted_no_longer(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert promote(hospital.candidate()) == 0
    monkeypatch.setenv("BEDSIDE_MODELS_TRUSTED_KEYS", "")
    with pytest.raises(ArtifactError, match=r"isn't trusted here"):
        load_models(read_config())


def test_promoting_lets_a_version_run_in_shadow_and_ends_it(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hospital.candidate()
    assert shadow("--candidate", str(folder)) == 0
    assert in_force() == INSTALLED
    assert load_candidates(read_config())["prevent_cvd"].manifest.version == "9.1.0"
    assert shadow("--candidate", str(folder)) == 2
    assert "expected nothing in shadow, got version 9.1.0; see --off" in capsys.readouterr().err
    assert shadow("--off") == 0
    assert load_candidates(read_config()) == {}
    assert shadow("--off") == 2
    for tenant in TENANTS:
        assert hospital.told(tenant) == [("shadow", "9.1.0", "evaluation"), ("shadow-end", "9.1.0", "evaluation")]


def test_promoting_the_version_in_shadow_ends_its_shadow(hospital: Hospital) -> None:
    folder = hospital.candidate()
    assert shadow("--candidate", str(folder)) == 0
    assert promote(folder) == 0
    assert in_force() == "9.1.0"
    assert hospital.standing.shadow is None


def test_promoting_ends_the_shadow_of_a_version_that_was_altered(hospital: Hospital) -> None:
    assert shadow("--candidate", str(hospital.candidate())) == 0
    standing = hospital.standing.shadow
    assert standing is not None
    (hospital.store.folder("prevent_cvd", standing.manifest) / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"file model\.onnx"):
        load_candidates(read_config())
    assert shadow("--off") == 0
    assert load_candidates(read_config()) == {}


def test_promoting_lets_a_version_into_shadow_whose_gate_is_not_passed_and_says_so(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shadow("--candidate", str(hospital.candidate(metrics=BROKEN_GATE))) == 0
    assert "gate graph-equals-equations: FAILED" in capsys.readouterr().out
