from pathlib import Path

import pytest

from audit.storage.sqlite import SqliteStorage
from audit.storage.vault_sqlite import SqliteVaultStore
from benchmarks.drills import erasure


def test_erasure_drill_finds_nothing_of_the_erased_and_all_of_the_others(tmp_path: Path) -> None:
    figures = erasure.run(tmp_path, 0.003)
    assert (figures["patients"], figures["erased"], figures["others_read"]) == (30, 3, 81)
    for kind in ("ciphertexts", "lookups", "wrapped_keys"):
        assert figures[f"{kind}_found_before"] > 0, kind
    for kind in ("plaintexts", "keys"):
        assert figures[f"{kind}_found_before"] == 0, kind
    assert figures["scan_sees_keys_and_plaintexts"] is True
    for name in ("found_on_disk", "others_unreadable", "erased_readable", "proofs_changed", "tombstones_missing"):
        assert figures[name] == 0, name
    assert (figures["tombstones"], figures["proofs_compared"]) == (9, 90)


@pytest.mark.parametrize(("store", "kinds"), [(SqliteStorage, ["ciphertexts"]), (SqliteVaultStore, ["wrapped_keys"])])
def test_erasure_drill_finds_what_a_store_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: type, kinds: list[str]
) -> None:
    monkeypatch.setattr(store, "scrub", lambda _self: None)
    figures = erasure.run(tmp_path, 0.002)
    for kind in kinds:
        assert figures[f"{kind}_found_after"] > 0, kind
