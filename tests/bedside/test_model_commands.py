"""`bedside model`: list, verify, card and sign, on the models that are installed."""

import hashlib
import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from bedside import models_installed, models_signing
from bedside.cli import main
from bedside.versions import site
from model_artifacts.folder import read_folder
from model_artifacts.model_card import model_card
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED
from model_artifacts.source_attributes import ATTRIBUTES
from tests.model_artifacts.signer import Signer


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    """A developer whom this site trusts."""
    made = Signer(tmp_path / "keys")
    monkeypatch.setenv("BEDSIDE_MODELS_TRUSTED_KEYS", str(made.public_file))
    return made


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of prevent_cvd, the only model there is."""
    name = f"copied_{tmp_path.name}"
    shutil.copytree(Path(str(files("model_artifacts.prevent_cvd"))), tmp_path / name)
    monkeypatch.syspath_prepend(tmp_path)
    for verbs in (models_installed, models_signing, site):
        monkeypatch.setattr(verbs, "model_packages", lambda: {"prevent_cvd": name})
    return tmp_path / name


def test_model_commands_list_id_version_hooks_and_title(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == "prevent_cvd 1.0.0  patient-view  AHA PREVENT cardiovascular risk\n"


def test_model_commands_verify_what_is_as_released(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "verify"]) == 0
    assert "prevent_cvd: as released, sha-256 " in capsys.readouterr().out


def test_model_commands_verify_refuses_an_altered_file(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (copy / "codes.toml").open("a") as file:
        file.write("\n")
    assert main(["model", "verify"]) == 1
    assert "prevent_cvd: REFUSED: file codes.toml of model prevent_cvd is altered" in capsys.readouterr().out


def test_model_commands_verify_tells_a_model_that_nobody_trusted_signed(
    copy: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signer.sign(copy)
    assert main(["model", "verify"]) == 0
    monkeypatch.delenv("BEDSIDE_MODELS_TRUSTED_KEYS")
    assert main(["model", "verify"]) == 1
    (copy / "model.sig").unlink()
    assert main(["model", "verify"]) == 1
    told = capsys.readouterr().out
    assert "REFUSED: file model.sig of model copied_" in told
    assert "models.trusted_keys" in told
    assert f"REFUSED: model {copy.name} is unsigned: file model.sig is missing" in told


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise OSError('no such device')", "OSError: no such device"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (None, "ModuleNotFoundError: No module named"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "verify"])
def test_model_commands_go_on_after_a_package_whose_code_fails(
    verb: str,
    code: str | None,
    why: str,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = f"broken_{copy.name}"
    if code is not None:
        (copy.parent / f"{broken}.py").write_text(code)
    for verbs in (models_installed, site):
        monkeypatch.setattr(verbs, "model_packages", lambda: {"sepsis": broken, "prevent_cvd": copy.name})
    assert main(["model", verb]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"sepsis: REFUSED: code of package {broken} fails: {why}")
    assert second.startswith("prevent_cvd")


def test_model_commands_refuse_a_package_that_holds_another_model(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for verbs in (models_installed, site):
        monkeypatch.setattr(verbs, "model_packages", lambda: {"sepsis": copy.name})
    assert main(["model", "list"]) == 1
    assert capsys.readouterr().out == (
        f"sepsis: REFUSED: model sepsis: package {copy.name} holds the model prevent_cvd\n"
    )


def test_model_commands_print_the_card_and_what_was_measured_here(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "card", "prevent_cvd"]) == 0
    released, _, here = capsys.readouterr().out.partition("\n## At this site\n")
    assert released == (copy / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "no local validation of this version is kept here" in here


def test_model_commands_write_the_card_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "MODEL_CARD.md").write_text("by hand")
    assert main(["model", "card", "prevent_cvd", "--write"]) == 0
    generated = model_card(ReleasedModel.load(copy.name, UNSIGNED))
    assert (copy / "MODEL_CARD.md").read_text(encoding="utf-8") == generated
    assert str(copy / "MODEL_CARD.md") in capsys.readouterr().out


def test_model_commands_print_a_card_that_was_never_written(
    copy: Path, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "MODEL_CARD.md").unlink()
    signer.sign(copy)
    assert main(["model", "card", "prevent_cvd"]) == 0
    assert capsys.readouterr().out.startswith("# AHA PREVENT cardiovascular risk\n")


def test_model_commands_know_no_other_model(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["model", "card", "sepsis"])
    assert stopped.value.code == 2
    assert "invalid choice: 'sepsis'" in capsys.readouterr().err


@pytest.fixture
def private_key(signer: Signer) -> Path:
    pytest.importorskip("model_signing", reason="model-signing is of the extra 'train'")
    return signer.private_file


def test_model_commands_sign_an_installed_model_that_then_loads(
    copy: Path, private_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (copy / "MODEL_CARD.md").open("a") as card:
        card.write("\nmore\n")
    assert main(["model", "verify"]) == 1
    assert main(["model", "sign", "prevent_cvd", "--key", str(private_key)]) == 0
    assert main(["model", "verify"]) == 0
    assert str(copy / "model.sig") in capsys.readouterr().out


def test_model_commands_sign_a_folder_that_is_not_installed(
    copy: Path, private_key: Path, signer: Signer, tmp_path: Path
) -> None:
    folder = shutil.copytree(copy, tmp_path / "candidate", ignore=shutil.ignore_patterns("*.sig", "*.py"))
    assert main(["model", "sign", "--folder", str(folder), "--key", str(private_key)]) == 0
    signed = read_folder(folder, (signer.trusted,)).signed
    assert signed is not None
    assert signed.model == "prevent_cvd"


def test_model_commands_do_not_sign_what_breaks_its_own_gate(
    copy: Path, private_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "model.sig").unlink()
    with (copy / "manifest.toml").open("a") as manifest:
        manifest.write('\n[[gate.rules]]\nname = "never"\nmetric = "model.auroc"\nat_least = 0.5\nreason = "none"\n')
    assert main(["model", "sign", "prevent_cvd", "--key", str(private_key)]) == 1
    assert not (copy / "model.sig").exists()
    assert "gate never: FAILED: model.auroc is not in metrics.json (none)\nnot signed" in capsys.readouterr().out


def test_model_commands_sign_with_no_key_of_another_kind(
    copy: Path, private_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private_key.write_text("no key")
    released = (copy / "model.sig").read_bytes()
    assert main(["model", "sign", "prevent_cvd", "--key", str(private_key)]) == 2
    assert "expected a P-256 private key as PEM text" in capsys.readouterr().err
    assert (copy / "model.sig").read_bytes() == released


def test_model_commands_print_the_card_as_a_page_with_its_plots(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "card", "prevent_cvd", "--format", "html"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert hashlib.sha256((copy / "MODEL_CARD.md").read_bytes()).hexdigest() in page


def test_model_commands_print_the_cards_answers_as_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "card", "prevent_cvd", "--format", "json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert answers["card_sha256"] == hashlib.sha256((copy / "MODEL_CARD.md").read_bytes()).hexdigest()
    assert list(answers["hti1-dsi-31"]) == list(ATTRIBUTES)
    assert all(
        answer["text"] if answer["status"] == "available" else answer["reason"]
        for answer in (*answers["hti1-dsi-31"].values(), *answers["tripod-ai"].values())
    )


def test_model_commands_do_not_write_and_convert_at_once(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["model", "card", "prevent_cvd", "--write", "--format", "json"])
    assert "not allowed with argument --write" in capsys.readouterr().err
