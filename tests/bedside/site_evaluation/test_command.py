"""`bedside model evaluate`, from files to a report that the card's page shows and an entry in the log."""

import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from audit.entry import parse_entry
from audit.entry_operations import ModelEntry
from audit.merkle import LeafIndex
from audit.storage.sqlite import SqliteStorage
from bedside.cli import main
from model_artifacts.local_validity import find_report, site_section
from smart_app.app import add_model_pages
from tests.bedside.site_evaluation.wards import icu_as_of, model, ward, write_bulk, write_labels
from tests.conftest import ORIGIN


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """21 patients: an export and labels."""
    folder = tmp_path_factory.mktemp("site")
    patients = ward(3)
    rows = [(name, icu_as_of().isoformat(), number % 2) for number, name in enumerate(patients)]
    return write_bulk(folder / "fhir", patients.values()), write_labels(folder / "labels.csv", rows)


Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """The command on these data, with the log and the state of `tmp_path`."""
    monkeypatch.setenv("BEDSIDE_AUDIT_DIRECTORY", str(tmp_path / "audit"))
    monkeypatch.setenv("BEDSIDE_AUDIT_ORIGIN", ORIGIN)
    monkeypatch.setenv("BEDSIDE_STATE_DIRECTORY", str(tmp_path / "state"))
    folder, labels = data

    def run(*arguments: str, labels: Path = labels) -> int:
        given = ("--fhir", str(folder), "--labels", str(labels))
        return main(["model", "evaluate", "icu_mortality", *given, *arguments])

    return run


def _report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "local-validation.json").read_bytes())
    return content


def test_command_keeps_a_report_that_the_log_and_the_page_know(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "init", "--origin", ORIGIN]) == 0
    assert evaluate() == 0
    told = capsys.readouterr()
    folder = Path(re.findall(r"^report: (.+)$", told.out, re.MULTILINE)[0])
    assert folder.parent == tmp_path / "state" / "local-validation" / "icu_mortality"
    identity, content = model("icu_mortality").identity, _report(folder)
    assert content["model"]["manifest_sha256"] == identity.manifest_sha256
    entry = _newest(tmp_path / "audit")
    digest = hashlib.sha256((folder / "local-validation.json").read_bytes()).hexdigest()
    assert (entry.action, entry.model, entry.reason) == ("evaluate", "icu_mortality", f"report:{digest}")
    assert entry.manifest == identity.manifest_sha256
    kept = tmp_path / "state" / "local-validation"
    assert find_report(kept, identity) == content
    app = Flask("test")
    add_model_pages(app, {"icu_mortality": model("icu_mortality")}, lambda own: site_section(kept, own))
    page = app.test_client().get("/models/icu_mortality").get_data(as_text=True)
    assert '<h2 id="at-this-site">At this site</h2>' in page
    assert f"Measured on {content['made_at'][:10]} on this site" in page


def _newest(audit: Path) -> ModelEntry:
    storage = SqliteStorage(audit)
    try:
        entry = parse_entry(storage.entry(LeafIndex(storage.newest_checkpoint().size - 1)) or b"")
    finally:
        storage.close()
    assert isinstance(entry, ModelEntry)
    return entry


def test_command_writes_a_trial_elsewhere_and_shows_it_nowhere(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--out", str(tmp_path / "trial"), "--json", "--by", "sex") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == _report(tmp_path / "trial")
    assert {row["by"] for row in _report(tmp_path / "trial")["subgroups"]} <= {"sex"}
    assert "no log in" in told.err
    assert not (tmp_path / "state" / "local-validation").exists()


class _Page(HTMLParser):
    """What a page would load or run, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}" for name, value in attrs if name in {"src", "href"} and (value or "#")[0] != "#"]


def test_command_writes_a_page_that_needs_nothing_else(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate("--out", str(tmp_path)) == 0
    page, text = _Page(), (tmp_path / "local-validation.html").read_text(encoding="utf-8")
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert "table" in page.tags
    assert _report(tmp_path)["model"]["artifact_sha256"] in text
    assert "Labels, of 21 patients" in (tmp_path / "local-validation.md").read_text(encoding="utf-8")


def test_command_tells_nothing_of_a_patient(
    evaluate: Evaluate, data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--out", str(tmp_path)) == 0
    told = capsys.readouterr()
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("local-validation.*"))
    for name in ward(3):
        assert name not in written + told.out + told.err
    assert icu_as_of().isoformat()[:10] not in written


def test_command_names_the_lines_of_patients_it_does_not_know(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = (next(iter(ward(1))), icu_as_of().isoformat(), 1)
    rows = [("nobody-here", icu_as_of().isoformat(), 1), known]
    labels = write_labels(tmp_path / "some.csv", rows)
    assert evaluate("--out", str(tmp_path), labels=labels) == 0
    err = capsys.readouterr().err
    assert "1 labels not asked, patient not in the data: lines 2" in err
    assert "nobody-here" not in err
    assert evaluate("--out", str(tmp_path), labels=write_labels(tmp_path / "none.csv", rows[:1])) == 2
    assert "expected patients of the data, got none of them" in capsys.readouterr().err


def test_command_refuses_what_it_cannot_use(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--output", "nothing") == 2
    assert "--output: expected one of" in capsys.readouterr().err
    bad = write_labels(tmp_path / "bad.csv", [("1", "yesterday", 1)])
    assert evaluate(labels=bad) == 2
    assert "labels bad.csv: line 2, column as_of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate("--by", "postcode")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["model", "evaluate", "icu_mortality", "--fhir", str(empty), "--labels", str(bad)]) == 2


def test_command_says_where_the_log_could_not_be_written(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audit").mkdir()
    assert evaluate("--out", str(tmp_path / "out")) == 1
    assert (tmp_path / "out" / "local-validation.json").exists()
    assert "could not be logged" in capsys.readouterr().err


def test_command_explains_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["model", "evaluate", "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert "patient,as_of,outcome\n" in told
    for column in ("patient", "as_of", "outcome", "encounter", "order", "outcome_at"):
        assert re.search(rf"^  {column} ", told, re.MULTILINE)
