"""A log read by implementations that aren't ours, and a log of another implementation read by ours. Bar: all of it, both ways.

- A published log of 10,000 decisions, and a receipt of each 20th as the service gives them, go to a program in Go on
  golang.org/x/mod/sumdb, the libraries of Go's checksum database: it opens the checkpoint, computes the tree from the entries,
  compares every tile, makes and checks proofs, and checks the receipts.
- A published log of 600 with one bit flipped, at places chosen at random with a fixed seed in every file: Go must refuse.
- The log of transparency-dev's Tessera among the test vectors, at each of its sizes: ours must accept.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from audit.directory_scan import verify_folder
from audit.entry import format_entry
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import AuditLog, prove_entry
from audit.merkle import LeafIndex
from audit.note import format_vkey, parse_vkey
from audit.payloads import SealedPayload
from audit.proof import format_proof
from audit.publish import Publisher
from audit.verify import Trust
from benchmarks.drills import DrillSkippedError, Figures
from benchmarks.drills.go_reader import LIBRARY, RefusedError, build, read
from benchmarks.drills.workload import decision, new_log, open_log
from benchmarks.report import ROOT

ENTRIES, TAMPERED_ENTRIES, FLIPS = 10_000, 600, 1_000
RECEIPT_EVERY = 20
_BATCH = 200
_SEED = 4711
_TESSERA = ROOT / "tests" / "vectors" / "audit" / "tessera_log"
_TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def run(workspace: Path, scale: float) -> Figures:
    """What Go read and found good, what it refused, and what ours read of a foreign log."""
    go = shutil.which("go")
    if go is None or not LIBRARY.is_dir():
        raise DrillSkippedError("go and golang-golang-x-mod-dev are not installed")
    (workspace / "go").mkdir(parents=True, exist_ok=True)
    program = build(go, workspace / "go")
    whole = _published(workspace / "whole", max(int(ENTRIES * scale), 10))
    receipts = sorted((workspace / "whole" / "receipts").iterdir())
    good = read(program, whole, _vkey(whole), receipts)
    figures: Figures = {f"go_{name}": count for name, count in good.items() if name != "size"}
    small = _published(workspace / "small", TAMPERED_ENTRIES)
    flips, refused = _flip(program, small, max(int(FLIPS * scale), 20))
    figures |= {"tampered": flips, "tampered_accepted_by_go": flips - refused}
    return figures | {"foreign_checkpoints_accepted": _read_tessera(workspace / "tessera")}


def _published(directory: Path, entries: int) -> Path:
    """A log of so many decisions, published; receipts of some lie beside it."""
    config = new_log(directory / "log")
    (directory / "receipts").mkdir()
    log = open_log(config)
    try:
        for start in range(0, entries, _BATCH):
            log.append_all([_bytes(log) for _ in range(min(_BATCH, entries - start))])
        _write_receipts(log, directory / "receipts", entries)
        Publisher(directory / "tiles", load_vkeys(config.directory / VKEY_FILE)).publish(log.storage)
    finally:
        log.close()
    return directory / "tiles"


def _write_receipts(log: AuditLog, folder: Path, entries: int) -> None:
    for index in range(0, entries, RECEIPT_EVERY):
        (folder / f"{index}.tlog-proof").write_bytes(format_proof(prove_entry(log.storage, LeafIndex(index))))
    (folder / "appended.tlog-proof").write_text(log.append(*_bytes(log)).proof_text)


def _bytes(log: AuditLog) -> tuple[bytes, SealedPayload | None]:
    entry, payload = decision(log)
    return format_entry(entry), payload


def _vkey(folder: Path) -> str:
    return format_vkey(load_vkeys(folder / VKEY_FILE)[0])


def _flip(program: Path, folder: Path, flips: int) -> tuple[int, int]:
    """How many bits were flipped, one at a time, and how many of these logs Go refused."""
    chance, vkey, refused = random.Random(_SEED), _vkey(folder), 0
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != VKEY_FILE)
    for number in range(flips):
        path = paths[number % len(paths)]
        kept = path.read_bytes()
        place = chance.randrange(len(kept))
        path.write_bytes(kept[:place] + bytes([kept[place] ^ 1 << chance.randrange(8)]) + kept[place + 1 :])
        try:
            read(program, folder, vkey)
        except RefusedError:
            refused += 1
        path.write_bytes(kept)
    read(program, folder, vkey)  # it was the flips
    return flips, refused


def _read_tessera(workspace: Path) -> int:
    """How many checkpoints of the foreign log ours accepts, each with its own tiles."""
    accepted = 0
    for checkpoint in _TESSERA.glob("checkpoint.*"):
        folder, size = workspace / checkpoint.suffix[1:], int(checkpoint.suffix[1:])
        for name in ("0", "entries"):
            (folder / "tile" / name / "000.p").mkdir(parents=True)
            for width in range(1, size + 1):
                shutil.copy(_TESSERA / "tile" / name / "000.p" / str(width), folder / "tile" / name / "000.p")
        shutil.copy(checkpoint, folder / "checkpoint")
        accepted += verify_folder(folder, Trust((parse_vkey(_TESSERA_KEY),)), ours=False).entries == size
    return accepted
