import base64
from pathlib import Path

import pytest

from benchmarks.drills import canary
from benchmarks.drills.canary import Canaries


def test_canary_identifiers_are_found_nowhere_but_in_decrypted_payloads(tmp_path: Path) -> None:
    figures = canary.run(tmp_path, 0.01)
    assert (figures["found"], figures["found_in"], figures["control_missed"]) == (0, "nothing", 0)
    assert int(figures["payloads_with_canary"]) >= 2
    assert int(figures["files_searched"]) > 30
    said = (tmp_path / "everything" / "operations.log").read_text()
    assert '"event": "feedback recorded"' in said
    refused = (tmp_path / "everything" / "refusals.log").read_text()
    assert "is not JSON" in refused


@pytest.mark.parametrize(
    "written",
    [
        lambda needle: needle.encode(),
        lambda needle: needle.upper().encode(),
        lambda needle: needle.encode().hex().encode(),
        lambda needle: base64.b64encode(needle.encode()),
        lambda needle: base64.b64encode(b"x" + needle.encode() + b"y"),
        lambda needle: base64.b64encode(b"xy" + needle.encode() + b"yz"),
        lambda needle: needle.encode("utf-16-le"),
    ],
)
def test_canary_search_finds_each_in_any_spelling(tmp_path: Path, written) -> None:
    canaries = Canaries.hatched()
    for number, needle in enumerate(canaries.needles):
        (tmp_path / f"{number}").write_bytes(b"before " + written(needle) + b" after")
    files, found = canary.search(tmp_path, canaries)
    assert files == len(canaries.needles)
    assert {needle for _, needle in found} == set(canaries.needles)


def test_canary_words_replace_what_identifies(tmp_path: Path) -> None:
    canaries = Canaries.hatched()
    assert len(set(canaries.needles)) == len(canaries.needles) == 13
    call = canaries.put_in(
        b'{"context":{"patientId":"8f0a1c52-6a0e-4f0e-9d5c-2f1f0d3a7b11","userId":"Practitioner/1"}}'
    )
    assert call["context"]["patientId"] == canaries.needles[0]
    assert call["context"]["userId"] == f"Practitioner/{canaries.needles[1]}"
