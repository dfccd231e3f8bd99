from pathlib import Path

import pytest

from audit.errors import KeyFileError
from audit.private_files import clear_drafts, destroy_file, read_private, replace_file, write_key_file


def test_private_files_are_written_whole_with_their_mode_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "one.key"
    write_key_file(path, "secret", 0o600)
    assert read_private(path) == "secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_private_files_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "one.key"
    write_key_file(path, "first", 0o600)
    with pytest.raises(KeyFileError, match=r"one\.key: exists already"):
        write_key_file(path, "second", 0o600)
    assert read_private(path) == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_private_files_are_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.key"
    write_key_file(path, "first", 0o600)
    with path.open() as before:
        replace_file(path, "second", 0o600)
        assert (before.read(), read_private(path)) == ("first\n", "second")


def test_private_files_are_overwritten_before_they_go(tmp_path: Path) -> None:
    path, other = tmp_path / "one.key", tmp_path / "other"
    write_key_file(path, "secret", 0o600)
    other.hardlink_to(path)  # shows what became of the bytes
    destroy_file(path)
    assert not path.exists()
    assert other.read_bytes() == bytes(7)
    destroy_file(path)


def test_private_files_left_half_written_are_cleared_and_finished_ones_kept(tmp_path: Path) -> None:
    path, half, linked = tmp_path / "one.key", tmp_path / ".two.key.draft-1", tmp_path / ".one.key.draft-2"
    write_key_file(path, "secret", 0o600)
    half.write_text("half")
    linked.hardlink_to(path)  # killed between giving the name and clearing up
    clear_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert read_private(path) == "secret"
