from __future__ import annotations

import argparse
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from audit.commands import VERBS
from audit.commands.verbs import Verb, add_verbs, more_verbs

_MODULE = "import argparse\n\n\ndef fill(parser, *given):\n    parser.add_argument('--n', type=int, default=given[0])\n"


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """Two verbs, each in a module of its own that nobody has imported."""
    for name in ("verbs_test_first", "verbs_test_second"):
        (tmp_path / f"{name}.py").write_text(_MODULE)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    made = argparse.ArgumentParser(prog="bedside")
    verbs = add_verbs(made, "verb", [Verb("first", "does this", "verbs_test_first:fill")], 3)
    more_verbs(verbs, [Verb("second", "does that", "verbs_test_second:fill")], 4)
    return made


def test_verbs_import_the_module_of_the_one_asked_for(parser: argparse.ArgumentParser) -> None:
    assert parser.parse_args(["second"]) == argparse.Namespace(verb="second", n=4)
    assert "verbs_test_second" in sys.modules
    assert "verbs_test_first" not in sys.modules


def test_verbs_are_listed_without_any_of_their_modules(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    told = capsys.readouterr().out
    assert "does this" in told
    assert "does that" in told
    assert not {"verbs_test_first", "verbs_test_second"} & set(sys.modules)


def test_verbs_own_help_shows_their_arguments(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["first", "--help"])
    assert "--n N" in capsys.readouterr().out


def test_verbs_can_be_parsed_again(parser: argparse.ArgumentParser) -> None:
    assert [parser.parse_args(["first", *more]).n for more in ([], ["--n", "5"], [])] == [3, 5, 3]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.fill)
def test_verbs_of_every_table_are_there(verb: Verb) -> None:
    assert callable(resolve_name(verb.fill))
