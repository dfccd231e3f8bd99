"""The demonstration as a stranger runs it, and that both ways to the data lead to the same card."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from audit.entry import read_header
from audit.keys import load_vkeys
from audit.merkle import LeafIndex
from audit.storage.sqlite import SqliteStorage
from audit.verify import Trust, verify_receipt
from bedside.cli import main
from bedside.demo import ORIGIN
from demo.client import CdsCall, Via
from demo.ehr import PocketEhr, running_ehr
from tests.conftest import RunningBedside, await_answer, clean_environment, free_port, released_packages, run_bedside


@pytest.fixture
def ehr(bedside: RunningBedside) -> Iterator[PocketEhr]:
    with running_ehr(bedside.url, lambda: datetime.now(UTC), bedside.ehr_port) as running:
        yield running


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[CompletedProcess[str], Path]:
    """What `bedside demo --once` printed, and the folder it left."""
    folder = tmp_path_factory.mktemp("demo") / 'a "quoted" folder'
    environment = clean_environment(BEDSIDE_MODELS_ENABLED=" ".join(released_packages()))
    done = run_bedside(
        *("demo", "--once", "--directory", str(folder)),
        *("--port", str(free_port()), "--ehr-port", str(free_port())),
        environment=environment,
        cwd=folder.parent,
    )
    (run,) = folder.iterdir()
    return done, run


def test_demo_once_shows_cards_and_proves_them(demonstration: tuple[CompletedProcess[str], Path]) -> None:
    done, folder = demonstration
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    summary = re.search(r"(\d+) calls, 0 failed, (\d+) cards with a risk", done.stdout)
    assert summary is not None
    assert int(summary[2]) > 0
    assert len(re.findall(r"^valid: index", done.stdout, re.MULTILINE)) == int(summary[1])
    assert re.search(r"^Accepted: Order .*\nNot followed, with a reason: ", done.stdout, re.MULTILINE)
    assert re.search(r"^prevent_cvd +1\.0\.0 +\d+ +1/\d+ = .* 1/\d+ = ", done.stdout, re.MULTILINE)
    start, models, accepted, overridden, looks = 1, len(released_packages()), 1, 1, 1  # the look: `report feedback`
    entries = start + models + int(summary[1]) + accepted + overridden + looks
    assert re.search(rf"^valid: {entries} entries, ", done.stdout, re.MULTILINE)
    assert re.search(
        r"^entry \d+: reproduced\nmodel \w+ 1.0.0\nrecorded answer [0-9a-f]{64}$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^valid: (\d+) entries from 0 on, the hashes of \1, ", done.stdout, re.MULTILINE)
    receipts = list((folder / "receipts").glob("*.tlog-proof"))
    assert len(receipts) == int(summary[1])
    trust = Trust(load_vkeys(folder / "audit" / "log.vkey"))
    for receipt in receipts:
        assert verify_receipt(receipt.read_bytes(), trust).checkpoint.origin == ORIGIN


def test_demo_log_with_any_byte_changed_does_not_verify(
    demonstration: tuple[CompletedProcess[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of some 400 places all over the store, and each byte of one entry's id, whose index is named."""
    audit = demonstration[1] / "audit"
    store = audit / "log.sqlite3"
    data = store.read_bytes()
    assert main(["audit", "verify", str(audit)]) == 0
    assert "not sealed" not in capsys.readouterr().out
    member = b'"id":"' + read_header(_entry_of(audit, LeafIndex(3))).id.encode()
    start = data.index(member)
    for place in (*range(7, len(data), len(data) // 400), *range(start, start + len(member))):
        store.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        assert main(["audit", "verify", str(audit)]) == 1, place
        told = "".join(capsys.readouterr())
        assert "invalid: " in told
        if start <= place < start + len(member):
            assert "first bad index 3, entry" in told
    store.write_bytes(data)
    assert main(["audit", "verify", str(audit)]) == 0


def _entry_of(audit: Path, index: LeafIndex) -> bytes:
    storage = SqliteStorage(audit)
    try:
        entry = storage.entry(index)
    finally:
        storage.close()
    assert entry is not None
    return entry


def test_demo_refuses_a_port_in_use(tmp_path: Path, bedside: RunningBedside) -> None:
    """Once another server on the port was taken for the one just started."""
    port = bedside.url.rpartition(":")[2]
    done = run_bedside(
        *("demo", "--once", "--directory", str(tmp_path / "demo"), "--port", port, "--ehr-port", str(free_port())),
        environment=clean_environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"bedside: port {port}: Address already in use; see --port and --ehr-port\n"
    assert not (tmp_path / "demo").exists()


def _card_texts(calls: tuple[CdsCall, ...]) -> list[tuple[str, str, str]]:
    assert [(call.status, call.problems) for call in calls] == [(200, ())] * len(calls)
    return [(call.service.id, card.summary, card.detail) for call in calls for card in call.cards]


def test_demo_card_through_fhir_is_the_card_with_prefetch(ehr: PocketEhr) -> None:
    assert len(ehr.store.charts) >= 5
    for chart in ehr.store.charts:
        with_prefetch = _card_texts(ehr.client.patient_view(chart, Via.PREFETCH))
        through_fhir = _card_texts(ehr.client.patient_view(chart, Via.FHIR))
        assert with_prefetch == through_fhir, chart.note
        assert with_prefetch


def test_demo_leaves_its_pages_open_and_ends_what_it_started(tmp_path: Path) -> None:
    port, ehr_port = free_port(), free_port()
    arguments = ["demo", "--directory", str(tmp_path), "--port", str(port), "--ehr-port", str(ehr_port)]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bedside", *arguments], env=clean_environment(), stdout=out, stderr=out
        )
        try:
            await_answer(process, f"http://127.0.0.1:{port}/models")
            while b"Open in a browser" not in (tmp_path / "out").read_bytes():
                assert process.poll() is None
                time.sleep(0.1)
            await_answer(process, f"http://127.0.0.1:{ehr_port}/")
            await_answer(process, f"http://127.0.0.1:{port}/models/icu_mortality")
        finally:
            process.terminate()
            assert process.wait(30) == 0
    for ended in (port, ehr_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", ended)) != 0
