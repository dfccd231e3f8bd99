from pathlib import Path

import pytest

from audit.storage.sqlite import SqliteStorage
from audit.storage.vault_sqlite import SqliteVaultStore
from benchmarks.drills import DrillSkippedError, Figures, erasure
from tests.programs import need


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return erasure.run(tmp_path_factory.mktemp("erasure"), 0.003)


@pytest.mark.parametrize("store", ["", "postgresql_"])
def test_erasure_drill_finds_nothing_of_the_erased_and_all_of_the_others(figures: Figures, store: str) -> None:
    if store:
        need("initdb")
    patients = 20 if store else 30
    assert (figures[f"{store}patients"], figures[f"{store}erased"]) == (patients, patients // 10)
    assert figures[f"{store}others_read"] == patients * 3 * 9 // 10
    for kind in ("ciphertexts", "lookups", "wrapped_keys"):
        assert figures[f"{store}{kind}_found_before"] > 0, kind
    for kind in ("plaintexts", "keys"):
        assert figures[f"{store}{kind}_found_before"] == 0, kind
    assert figures[f"{store}scan_sees_keys_and_plaintexts"] is True
    for name in ("found_on_disk", "others_unreadable", "erased_readable", "proofs_changed", "tombstones_missing"):
        assert figures[f"{store}{name}"] == 0, name
    assert figures[f"{store}tombstones"] == patients * 3 // 10
    assert figures[f"{store}proofs_compared"] == patients * 3


def _nowhere() -> None:
    raise DrillSkippedError


@pytest.mark.parametrize(("store", "kinds"), [(SqliteStorage, ["ciphertexts"]), (SqliteVaultStore, ["wrapped_keys"])])
def test_erasure_drill_finds_what_a_store_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: type, kinds: list[str]
) -> None:
    monkeypatch.setattr(store, "scrub", lambda _self: None)
    monkeypatch.setattr(erasure, "running_postgresql", _nowhere)
    figures = erasure.run(tmp_path, 0.002)
    for kind in kinds:
        assert figures[f"{kind}_found_after"] > 0, kind
