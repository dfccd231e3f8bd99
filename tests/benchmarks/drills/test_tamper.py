from pathlib import Path

import pytest

from audit.errors import VerificationError
from benchmarks.drills import tamper, tamper_steps
from benchmarks.drills.tamper import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path, 6, 0.005)


def test_tamper_finds_every_change_of_a_small_log(site: Site) -> None:
    for attack in tamper.ATTACKS:
        found = attack(site)
        assert sum(found.values()) > 10
        assert (found["undetected"], found["wrong_index_named"]) == (0, 0)


def test_tamper_finds_damage_in_the_write_ahead_log(tmp_path: Path) -> None:
    found = tamper.tamper_with_write_ahead_log(tmp_path, 0.01)
    assert (found["write_ahead_log_bytes"], found["undetected"]) == (3, 0)


def test_tamper_tries_every_byte_of_entries_and_proofs(site: Site) -> None:
    found = tamper.tamper_with_rows(site)
    published = tamper.tamper_with_published(site)
    (bundle,) = (site.published / "tile" / "entries").rglob("6")
    assert found["entry_bytes"] == published["published_entry_bytes"] == bundle.stat().st_size - 2 * 6
    others = [path.stat().st_size for path in site.published.rglob("*") if path.is_file() and path != bundle]
    assert published["published_bytes"] == sum(others) + 2 * 6
    receipts = [len(data) for data in tamper._receipts(site.config)]
    assert tamper.tamper_with_receipts(site)["receipt_bytes"] == sum(receipts)


def test_tamper_shares_cover_the_whole(site: Site, tmp_path: Path) -> None:
    whole = tamper.tamper_with_rows(site)
    parts = [tamper.copy_site(site, tmp_path / f"copy-{number}", (number, 2)) for number in range(2)]
    assert sum(map(tamper.tamper_with_rows, parts), start=type(whole)())["entry_bytes"] == whole["entry_bytes"]


def test_tamper_counts_what_a_blind_verification_lets_pass(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(tamper, "verify_receipt", lambda *_: None)
    assert tamper.tamper_with_receipts(site)["undetected"] > 1000
    monkeypatch.setattr(tamper, "verify", lambda _: None)
    found = tamper.tamper_with_file(site)
    assert found["undetected"] == found["file_bytes"] + found["file_lengths"]


def test_tamper_counts_a_wrong_index(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(tamper_steps.copy, "copy", _Misled)
    found = tamper.tamper_with_rows(site)
    assert found["wrong_index_named"] == sum(count for name, count in found.items() if name != "wrong_index_named")


class _Misled:
    """Names the entry after the one that was changed."""

    def __init__(self, walk: tamper_steps._Walk) -> None:
        self._size = int(walk.size)

    def take(self, stored: object) -> None:
        raise VerificationError("entry", "said of another", self._size + 1)

    def pass_size(self) -> None:
        raise VerificationError("checkpoint", "said of another", self._size + 1)
