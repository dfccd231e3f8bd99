"""Every command line of ours that a page shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedside.cli import build_parser
from bedside.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(bedside [a-z][^`…|{]*)`")


TOKEN_KEY = "pkcs11:token=bedside;object=key?module-path=/usr/lib/softhsm/libsofthsm2.so"


def _lines(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("bedside "):
                yield line
    yield from _INLINE.findall(text)


def _arguments(line: str) -> list[str]:
    """The words after `bedside`, without what is optional, left out, redirected or remarked."""
    plain = re.sub(r"\[[^\]]*\]", " ", line.partition(" #")[0].partition(" > ")[0].partition(" | ")[0])
    words = shlex.split(plain)[1:]
    known = {"N": "1", "M": "2", "INDEX": "1", "$SIGNING": TOKEN_KEY, "$WRAPPING": TOKEN_KEY}
    return [known.get(word, word) for word in words]


COMMANDS = sorted({(page.name, line.strip()) for page in PAGES for line in _lines(page)})


def test_docs_show_commands() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_docs_commands_are_taken(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _arguments(line)
    verbs_only = all(re.fullmatch(r"[a-z-]+", word) for word in arguments)
    try:
        build_parser(Config()).parse_args(arguments)
    except SystemExit:
        said = capsys.readouterr().err
        # A sentence may name a verb without all that it needs; a verb or an option that isn't there is a mistake.
        assert verbs_only, f"{page}: {line}\n{said}"
        assert "required" in said, f"{page}: {line}\n{said}"
