"""Erasure of 1,000 of 10,000 patients. Bar: no plaintext or key left on disk; others readable; proofs unchanged.

Each patient has a few decisions of sixteen years ago with payloads, short ones and ones that fill several pages, each with
random bytes of its own. A tenth of the patients is erased in one request, by two officers, while another thread appends: how
long it waits at most is a figure. Before and after, every file in the log's folder is scanned for what belongs to the erased:
their random plaintext, their keys, their wrapped keys, their lookups, and their sealed payloads. A run of 23 bytes of any of
it counts as found, wherever it lies, so half of a row in a free page would be. That the scan sees is shown by what it finds
before the erasure, and by a file with a key and a plaintext in it.

Then every payload of the others must open with its own plaintext, none of the erased may, every proof must be what it was
before, byte for byte, and the log must verify with as many tombstones as payloads were taken.

PostgreSQL is attacked in the same way with a tenth as many, and every file of its cluster is scanned, write-ahead log and all.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit import erasure
from audit.approvals import Officer
from audit.custody import Custody, approve
from audit.errors import PayloadError
from audit.keys import Ed25519Signer
from audit.log import AuditLog, LogConfig
from audit.merkle import LeafIndex, TreeSize, prove_inclusion
from audit.proof import LogProof, format_proof
from audit.retention import RetentionRule
from audit.storage.opening import STORE_FILE
from audit.vault import patient_subject
from benchmarks.drills import DrillSkippedError, Figures
from benchmarks.drills.postgresql_server import running_postgresql
from benchmarks.drills.workload import decision, new_log, now, open_log, verify, without_deadline

PATIENTS = 10_000
DECISIONS = 3
PROOFS = 3_000
ERASED_OF = 10  # every tenth
_LONG_AGO = "2010-03-01T08:00:00.000000Z"
_SIZES = (40, 200, 900, 2_000, 9_000)  # bytes of plaintext: many to a page, one to a page, over several pages
_SECRET_BYTES = 32
_THREADS = 32
_WINDOW = 8
_SCANNED_WORDS = 1 << 20
_LOW_BITS = np.uint64((1 << 24) - 1)
_NOTHING = ("", None)
_SEALED_HEADER = 9  # version and key ref, which aren't secret


@dataclass(frozen=True, slots=True)
class _Written:
    """One payload in the log, and the random bytes that its plaintext begins with."""

    patient: str
    index: LeafIndex
    secret: bytes


def run(workspace: Path, scale: float) -> Figures:
    """The figures of erasing PATIENTS * scale / 10 patients; of a tenth of that in PostgreSQL, where it is installed."""
    patients = round(PATIENTS * scale)
    figures = _attack(new_log(workspace / "log"), [workspace / "log"], patients, workspace / "decoy")
    try:
        with running_postgresql() as server:
            directory = workspace / "postgresql"
            directory.mkdir(mode=0o700)
            server.write_url(directory / "database-url")
            place = {"store": "postgresql", "database_url_file": "database-url", "schema": "drill"}
            (directory / STORE_FILE).write_text(json.dumps(place), "utf-8")
            folders = [directory, server.folder]
            found = _attack(new_log(directory), folders, patients // ERASED_OF, workspace / "second-decoy")
    except DrillSkippedError:
        return figures
    return figures | {f"postgresql_{name}": value for name, value in found.items()}


def _attack(config: LogConfig, folders: Sequence[Path], count: int, decoy: Path) -> Figures:
    """Erases every tenth of so many patients, at least of twenty; what is found in the files of `folders`, and what isn't."""
    patients = [f"patient-{number}" for number in range(max(2 * ERASED_OF, count))]
    erased = patients[::ERASED_OF]
    log = open_log(without_deadline(config))
    try:
        written = _write(log, patients)
        needles = _Needles(log, set(erased), written)
        before = needles.scan(folders)
        size = log.storage.newest_checkpoint().size
        proofs = list(_proofs(log, written, size))
        figures = _erase(log, erased)
        after = needles.scan(folders)
        figures |= _read_all(log, written, set(erased))
        again = _proofs(log, written, size)
        figures["proofs_compared"] = len(proofs)
        figures["proofs_changed"] = sum(old != new for old, new in zip(proofs, again, strict=True))
    finally:
        log.close()
    closed = needles.scan(folders)
    report = verify(config)
    return {
        "patients": len(patients),
        "erased": len(erased),
        "entries": report.entries,
        **{f"{name}_found_before": found for name, found in before.items()},
        **{f"{name}_found_after": max(after[name], closed[name]) for name in after},
        "found_on_disk": sum(after.values()) + sum(closed.values()),
        "scan_sees_keys_and_plaintexts": _scan_sees(needles, decoy),
        **figures,
        "tombstones": report.erased,
        "tombstones_missing": sum(one.patient in set(erased) for one in written) - report.erased,
    }


def _write(log: AuditLog, patients: Sequence[str]) -> list[_Written]:
    """DECISIONS decisions of each patient, in turns, some with a long payload."""

    def write(number: int) -> _Written:
        patient, secret = patients[number % len(patients)], os.urandom(_SECRET_BYTES)
        payload = secret + bytes(_SIZES[number // ERASED_OF % len(_SIZES)])
        entry, sealed = decision(log, payload=payload, patient=patient, time=_LONG_AGO, clock="synchronised")
        return _Written(patient, log.record(entry, sealed).index, secret)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(write, range(len(patients) * DECISIONS)))


def _erase(log: AuditLog, erased: Sequence[str]) -> Figures:
    """Erases by two officers beside a thread that appends; how long it took, and how long the other waited at most."""
    signers = [Ed25519Signer(name, os.urandom(32)) for name in ("ada", "ben")]
    officers = tuple(Officer(one.verifier_key.name, one.verifier_key, ("privacy-officer",)) for one in signers)
    custody = Custody(log, log.vault, officers, RetentionRule(), now, os.urandom, settle_s=0.1)
    with _Appender(log) as appender:
        begun = time.monotonic()
        request = erasure.request_erasure(custody, erased, signers[0], "gdpr-17")
        requested = time.monotonic()
        erasure.carry_out(custody, approve(custody, request.id, signers[1]).id)
        ended = time.monotonic()
    return {
        "request_s": round(requested - begun, 3),
        "carry_out_s": round(ended - requested, 3),
        "appended_meanwhile": appender.appended,
        "longest_append_ms": round(appender.longest_s * 1000, 1),
    }


class _Appender:
    """Appends small entries every few milliseconds for the length of a block."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._append)
        self.appended = 0
        self.longest_s = 0.0

    def __enter__(self) -> _Appender:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _append(self) -> None:
        while not self._stop.wait(0.005):
            begun = time.monotonic()
            self._log.record(*decision(self._log))
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.appended += 1


def _read_all(log: AuditLog, written: Iterable[_Written], erased: set[str]) -> Figures:
    """How many of the others' payloads don't open with their own plaintext, and how many of the erased do."""
    unreadable = readable = others = 0
    for one in written:
        try:
            plaintext = log.payload(one.index)
        except PayloadError:
            plaintext = b""
        if one.patient in erased:
            readable += plaintext != b""
        else:
            others += 1
            unreadable += not plaintext.startswith(one.secret)
    return {"others_read": others, "others_unreadable": unreadable, "erased_readable": readable}


def _proofs(log: AuditLog, written: Sequence[_Written], size: TreeSize) -> Iterator[bytes]:
    """The proofs of up to PROOFS entries under the checkpoint of `size`."""
    note = log.storage.checkpoint(size) or b""
    for one in written[:: max(1, len(written) // PROOFS)]:
        path = prove_inclusion(one.index, size, log.storage.node)
        yield format_proof(LogProof(one.index, path, note, extra=log.entry(one.index)))


class _Needles:
    """What must not be found of the erased, and the scan for it.

    A needle is known by its windows of eight bytes, eight bytes apart. A place in a file counts when one of them stands
    there and is followed by the eight bytes that follow it in the needle.
    """

    def __init__(self, log: AuditLog, erased: set[str], written: Iterable[_Written]) -> None:
        self._kinds: list[str] = []
        self._windows: dict[int, tuple[str, bytes | None]] = {}
        mine = [one for one in written if one.patient in erased]
        self.secrets = [one.secret for one in mine]
        self._add("plaintexts", self.secrets)
        sealed = (log.storage.payload(one.index) for one in mine)
        self._add("ciphertexts", (one.sealed[_SEALED_HEADER:] for one in sealed if one and one.sealed))
        subjects = [patient_subject(patient) for patient in sorted(erased)]
        rows = [row for row in (log.vault.store.key(log.vault.lookup(subject)) for subject in subjects) if row]
        self._add("lookups", (row.lookup for row in rows))
        self._add("wrapped_keys", (row.wrapped[1:] for row in rows))
        self.keys = [log.vault.key_for(subject).key for subject in subjects]
        self._add("keys", self.keys)
        # Which low bits a window has: 24 of them rule out nearly every place at once.
        self._low_bits = np.zeros(1 << 24, dtype=bool)
        self._low_bits[np.array(sorted(self._windows), dtype="<u8") & _LOW_BITS] = True

    def scan(self, folders: Iterable[Path]) -> dict[str, int]:
        """How many places in the files under these folders hold something, by kind."""
        found = dict.fromkeys(self._kinds, 0)
        for path in sorted(path for folder in folders for path in folder.rglob("*")):
            if path.is_file():
                for kind in self._found(_bytes_of(path)):
                    found[kind] += 1
        return found

    def _found(self, data: bytes) -> Iterator[str]:
        """The kind of each window that stands in `data`, followed by what follows it."""
        for shift in range(_WINDOW):
            count = (len(data) - shift) // _WINDOW
            for start in range(0, max(count, 0), _SCANNED_WORDS):
                size = min(_SCANNED_WORDS, count - start)
                words = np.frombuffer(data, dtype="<u8", count=size, offset=shift + start * _WINDOW)
                for place in np.flatnonzero(self._low_bits[words & _LOW_BITS]):
                    kind, following = self._windows.get(int(words[place]), _NOTHING)
                    after = shift + (start + int(place) + 1) * _WINDOW
                    if data[after : after + _WINDOW] == following:
                        yield kind

    def _add(self, kind: str, needles: Iterable[bytes]) -> None:
        self._kinds.append(kind)
        for needle in needles:
            for start in range(0, len(needle) - 2 * _WINDOW + 1, _WINDOW):
                middle = start + _WINDOW
                window = int.from_bytes(needle[start:middle], "little")
                self._windows[window] = (kind, needle[middle : middle + _WINDOW])


def _bytes_of(path: Path) -> bytes:
    """What is in the file; nothing where a server has just taken it away."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _scan_sees(needles: _Needles, folder: Path) -> bool:
    """Whether the scan finds one key and one plaintext, at odd places of a file that holds them."""
    folder.mkdir()
    (folder / "decoy").write_bytes(b"\0" * 4099 + needles.keys[-1] + b"\1" * 77 + needles.secrets[-1])
    found = needles.scan([folder])
    return found["keys"] > 0 and found["plaintexts"] > 0
