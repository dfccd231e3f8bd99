import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.durable_files import DurableWriter, locked_folder
from tests.programs import need

WRITE = """
import sys
from pathlib import Path
from audit.durable_files import DurableWriter
writer = DurableWriter()
writer.write(Path(sys.argv[1]) / "a" / "b" / "file", b"data")
writer.write(Path(sys.argv[1]) / "last", b"more")
writer.sync_folders()
"""


def test_durable_files_makes_and_replaces_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    writer = DurableWriter()
    for data in (b"first", b"", b"second"):
        writer.write(tmp_path / "a" / "b" / "file", data)
        assert (tmp_path / "a" / "b" / "file").read_bytes() == data
    writer.sync_folders()
    assert (writer.files, writer.bytes) == (3, 11)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_durable_files_leaves_the_old_file_where_the_new_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file.tmp").mkdir()
    with pytest.raises(IsADirectoryError):
        DurableWriter().write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_durable_files_syncs_each_file_before_its_name_and_each_folder_after(tmp_path: Path) -> None:
    """As the kernel sees it."""
    log = tmp_path / "calls"
    target = tmp_path / "target"
    target.mkdir()
    command = [need("strace"), "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2,mkdir", "-o", str(log)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, sys.executable, "-c", WRITE, str(target)], check=True, timeout=60, env=environment)
    calls = [line.split(" ", 1)[1].strip() for line in log.read_text().splitlines() if str(target) in line]
    steps = [(call.split("(")[0].replace("renameat2", "rename"), call) for call in calls]
    assert [name for name, _ in steps] == ["mkdir", "mkdir", "fsync", "rename", "fsync", "rename"] + ["fsync"] * 3
    for number, name in ((2, "a/b/file"), (4, "last")):
        assert f"{target}/{name}.tmp" in steps[number][1]
        assert f"{target}/{name}" in steps[number + 1][1]
    synced = {call.split("<")[1].split(">")[0] for _, call in steps[6:]}
    assert synced == {str(target), f"{target}/a", f"{target}/a/b"}


def test_durable_files_lock_keeps_others_out_until_it_is_left(tmp_path: Path) -> None:
    try_it = "import sys; from pathlib import Path; from audit.durable_files import locked_folder\n"
    try_it += "with locked_folder(Path(sys.argv[1])): pass\n"
    command = [sys.executable, "-c", try_it, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with locked_folder(tmp_path):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert "BlockingIOError" in done.stderr
    subprocess.run(command, timeout=60, check=True, env=environment)
