from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.__main__ import main, show_once, write_secret
from demo.ehr import PocketEhr

if TYPE_CHECKING:
    from tests.demo.conftest import CdsServiceDouble


def test_main_once_prints_cards_and_writes_receipts(
    ehr: PocketEhr, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_once(ehr, tmp_path / "receipts") == 0
    printed = capsys.readouterr().out
    assert "[WARNING] 10-year cardiovascular risk 12.4 %" in printed
    assert "> Suggestion: Order HbA1c" in printed
    assert "through the FHIR server" in printed
    assert "3 calls, 0 failed, 3 cards with a risk" in printed
    names = sorted(path.name for path in (tmp_path / "receipts").iterdir())
    assert names == ["icu.risk.prefetch.tlog-proof", "p1.risk.fhir.tlog-proof", "p1.risk.prefetch.tlog-proof"]


def test_main_once_fails_when_a_call_fails(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    cds_service.status = 412
    assert show_once(ehr, None) == 1


def test_main_once_fails_when_no_card_gives_a_risk(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    cds_service.answer = {"cards": []}
    assert show_once(ehr, None) == 1


def test_main_runs_over_the_bundled_patients_and_prints_no_secret(
    cds_service: CdsServiceDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file = tmp_path / "token"
    arguments = ["--bedside", cds_service.url, "--port", "0", "--once", "--token-file", str(token_file)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    token = token_file.read_text()
    assert token
    assert token not in printed.out + printed.err


def test_main_without_a_service_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bedside", "http://127.0.0.1:9", "--port", "0", "--once"]) == 2
    assert "CDS service: no answer" in capsys.readouterr().err


def test_main_secret_is_for_its_owner_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_secret(path, "abc")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_secret(path, "def")


def test_main_once_tells_what_became_of_the_cards(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    """The double's cards all carry one id, so the one that is not followed is another's only by its call."""
    assert show_once(ehr, None) == 0
    (card,) = cds_service.answer["cards"]
    told = [request["feedback"][0] for request in cds_service.requests if "feedback" in request]
    assert [(one["card"], one["outcome"]) for one in told] == [(card["uuid"], "accepted"), (card["uuid"], "overridden")]
    assert told[0]["acceptedSuggestions"] == [{"id": card["suggestions"][0]["uuid"]}]
    assert told[1]["overrideReason"] == {"reason": card["overrideReasons"][0]}
