"""A folder of FHIR R4 as patients: a bulk export (NDJSON, a file or several for each type) or Bundles, also gzipped.

https://hl7.org/fhir/uv/bulkdata (NDJSON), https://hl7.org/fhir/R4/bundle.html. `read_export` goes through the files once and
keeps what is asked for in a temporary SQLite database, which SQLite makes private, spills to disk and deletes by itself. So
memory holds one line, or one Bundle, and a page cache, however many patients there are. What can't be read is counted by its
reason and never quoted.

What belongs to a patient is found by `subject` or `patient`, in a Bundle also by the fullUrl that a Patient has there
(`urn:uuid:…`). Places and drugs that resources refer to belong to nobody and are kept apart. A file that ends before its end is
an error: half an export must not pass for a whole one.

Must not import cds_service or model_artifacts. To read one more form of file: a line in `_SUFFIXES`.
"""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import msgspec

from fhir_adapters.codes import SYSTEM_ALIASES, CodeKey
from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.errors import ExportError
from fhir_adapters.reasons import Reason
from fhir_adapters.resources import KeyConcept, Reference

SHARED_KINDS = frozenset({"Location", "Medication"})
"""Kinds that belong to no patient and that patients' resources refer to."""

_SUFFIXES = (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz")
_LARGEST_LINE = 256 * 1024 * 1024  # bytes; a Bundle of one patient's whole life is some tens of MB
_CHUNK = 500  # resources of one patient written together: fewer, larger rows
_CACHE_KIB = 64 * 1024
_DEPTH = 8  # Bundles in Bundles

Tell = Callable[[int], None]
"""Called now and then with the number of resources seen so far."""


class _Head(msgspec.Struct, rename="camel"):
    resource_type: str
    id: str | None = None
    subject: msgspec.Raw = msgspec.Raw()
    patient: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()


class _Entry(msgspec.Struct, rename="camel"):
    full_url: str | None = None
    resource: msgspec.Raw = msgspec.Raw()


class _Entries(msgspec.Struct):
    entry: tuple[_Entry, ...] | None = None


_HEADS = msgspec.json.Decoder(_Head)
_ENTRIES = msgspec.json.Decoder(_Entries)
_CODES = msgspec.json.Decoder(KeyConcept)
_REFERENCES = msgspec.json.Decoder(Reference | None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to keep: these patients' resources of these kinds, and of Observations those with one of these codes."""

    patients: Mapping[str, int]
    kinds: frozenset[str]
    codes: frozenset[CodeKey] | None = None


@dataclass(slots=True)
class Contents:
    """What a folder held.

    Attributes:
        seen: resources by kind, of whomever.
        set_aside: how many could not be used, by kind ("unknown" where it can't be told) and reason.
        files: SHA-256 of each file by its path in the folder.
        ignored_files: files of other kinds.
        known: positions of the wanted patients of whom a resource of any kind was found.
    """

    seen: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    ignored_files: int = 0
    known: set[int] = field(default_factory=set)


class Export:
    """Resources grouped by patient, on disk; made by `read_export`."""

    def __init__(self, database: sqlite3.Connection, contents: Contents) -> None:
        self._database = database
        self.contents = contents

    def lines_of(self, patient: int) -> list[bytes]:
        """The patient's resources as Bundle entries in JSON, one each, in the order of the files."""
        rows = self._database.execute("SELECT body FROM held WHERE patient = ? ORDER BY rowid", (patient,))
        return [line for (body,) in rows for line in body.split(b"\n")]

    def shared(self, references: Collection[str]) -> list[bytes]:
        """Places and drugs under these references, as Bundle entries."""
        rows = (self._database.execute("SELECT body FROM shared WHERE name = ?", (name,)) for name in references)
        return list(dict.fromkeys(body for found in rows for (body,) in found))


@contextmanager
def read_export(folder: Path, wanted: Wanted, tell: Tell = lambda _: None) -> Iterator[Export]:
    """The export in `folder`, for the length of a block; what was written for it is gone afterwards.

    Raises:
        ExportError: no such folder, no file of FHIR in it, a file that ends early or can't be read, or no space left.
    """
    database = sqlite3.connect("", isolation_level=None)  # "": SQLite's own temporary file
    try:
        try:
            _make_tables(database)
            reader = _Reader(database, wanted, tell)
            reader.read(folder)
            database.execute("CREATE INDEX held_patient ON held (patient)")
        except sqlite3.Error as exc:
            message = f"temporary database: {exc}; SQLITE_TMPDIR names a folder with more space"
            raise ExportError(message) from exc
        yield Export(database, reader.contents)
    finally:
        database.close()


def _make_tables(database: sqlite3.Connection) -> None:
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE held (patient INTEGER NOT NULL, body BLOB NOT NULL)")
    database.execute("CREATE TABLE shared (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")


class _Reader:
    """Goes through the files; `_waiting` are resources of one patient that are not yet written."""

    def __init__(self, database: sqlite3.Connection, wanted: Wanted, tell: Tell) -> None:
        self.contents = Contents()
        self._database = database
        self._wanted = wanted
        self._tell = tell
        self._patient = -1
        self._waiting: list[bytes] = []
        self._count = 0

    def read(self, folder: Path) -> None:
        paths = export_files(folder)
        self.contents.ignored_files = sum(path.is_file() for path in folder.rglob("*")) - len(paths)
        self._database.execute("BEGIN")
        for path in paths:
            try:
                self._read_file(path)
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except (OSError, EOFError, zlib.error) as exc:
                why = getattr(exc, "strerror", None) or "it is no whole gzip file"
                raise ExportError(f"export file {path.name}: {why}") from exc
            self.contents.files[str(path.relative_to(folder))] = digest
        self._write()
        self._database.execute("COMMIT")

    def _read_file(self, path: Path) -> None:
        with _opened(path) as file:
            if path.name.lower().removesuffix(".gz").endswith(".json") and not _holds_lines(file):
                whole = file.read(_LARGEST_LINE + 1)
                if len(whole) > _LARGEST_LINE:
                    raise ExportError(f"export file {path.name}: expected at most {_LARGEST_LINE} bytes in one Bundle")
                self._take(whole, None, {}, 0)
            else:
                self._read_lines(file)

    def _read_lines(self, file: IO[bytes]) -> None:
        while line := file.readline(_LARGEST_LINE + 1):
            if len(line) > _LARGEST_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(_LARGEST_LINE)
                self.contents.set_aside["unknown", Reason.UNREADABLE] += 1
                continue
            line = line.strip()
            if line:
                self._take(line, None, {}, 0)

    def _take(self, raw: bytes | msgspec.Raw, full_url: str | None, people: Mapping[str, str], depth: int) -> None:
        """One resource; `people` are the ids of the Bundle's patients by their fullUrl."""
        self._count += 1
        if self._count % 10_000 == 0:
            self._tell(self._count)
        try:
            head = _HEADS.decode(raw)
        except msgspec.ValidationError:
            self.contents.set_aside["unknown", Reason.UNREADABLE] += 1
            return
        except DECODE_ERRORS:
            self.contents.set_aside["unknown", Reason.NOT_JSON] += 1
            return
        if head.resource_type == "Bundle":
            self._open_bundle(raw, depth)
            return
        self.contents.seen[head.resource_type] += 1
        if head.resource_type in SHARED_KINDS:
            if head.resource_type in self._wanted.kinds:
                self._keep_shared(head, raw, full_url)
            return
        self._keep(head, raw, full_url, people)

    def _open_bundle(self, raw: bytes | msgspec.Raw, depth: int) -> None:
        try:
            entries = _ENTRIES.decode(raw).entry or ()
        except DECODE_ERRORS:
            entries = None
        if entries is None or depth >= _DEPTH:
            self.contents.set_aside["Bundle", Reason.UNREADABLE] += 1
            return
        held = [entry for entry in entries if bytes(entry.resource) not in (b"", b"null")]
        people = _people(held)
        for entry in held:
            self._take(entry.resource, entry.full_url, people, depth + 1)

    def _keep(self, head: _Head, raw: bytes | msgspec.Raw, full_url: str | None, people: Mapping[str, str]) -> None:
        if head.resource_type not in self._wanted.kinds:
            return
        owner = _owner(head, full_url, people)
        if owner is None:
            self.contents.set_aside[head.resource_type, Reason.NO_SUBJECT] += 1
            return
        position = self._wanted.patients.get(owner)
        if position is None:
            return
        self.contents.known.add(position)
        if head.resource_type == "Observation" and not self._has_wanted_code(head):
            return
        if position != self._patient or len(self._waiting) >= _CHUNK:
            self._write()
            self._patient = position
        self._waiting.append(_as_entry(raw, full_url))

    def _has_wanted_code(self, head: _Head) -> bool:
        """Whether a search by the wanted codes would find it; one whose code is unreadable is kept, to be counted."""
        if self._wanted.codes is None:
            return True
        try:
            coding = _CODES.decode(head.code).coding or ()
        except DECODE_ERRORS:
            return True
        return any(code_key(one.system, one.code) in self._wanted.codes for one in coding)

    def _keep_shared(self, head: _Head, raw: bytes | msgspec.Raw, full_url: str | None) -> None:
        names = {full_url} if full_url else set()
        if head.id:
            names.add(f"{head.resource_type}/{head.id}")
        entry = _as_entry(raw, full_url)
        self._database.executemany("INSERT OR REPLACE INTO shared VALUES (?, ?)", [(name, entry) for name in names])

    def _write(self) -> None:
        if self._waiting:
            self._database.execute("INSERT INTO held VALUES (?, ?)", (self._patient, b"\n".join(self._waiting)))
            self._waiting.clear()


def export_files(folder: Path) -> list[Path]:
    """The files of FHIR in a folder and below it, by path.

    Raises:
        ExportError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise ExportError(f"export folder {folder}: expected a folder, found none")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(_SUFFIXES))
    if not paths:
        raise ExportError(f"export folder {folder}: expected files {', '.join(_SUFFIXES)}, found none")
    return paths


def patient_of(reference: str | None, people: Mapping[str, str]) -> str | None:
    """The patient's id in a reference: by the Bundle's fullUrls, `Patient/1`, `https://…/Patient/1`, `urn:uuid:1`."""
    if not reference:
        return None
    if reference in people:
        return people[reference]
    unversioned = reference.split("/_history/", 1)[0]
    if unversioned.startswith("urn:uuid:"):
        return unversioned[9:] or None
    kind, _, name = unversioned.rpartition("/")
    return name if name and (kind == "Patient" or kind.endswith("/Patient")) else None


def code_key(system: str | None, code: str | None) -> CodeKey:
    """A code as searches compare it, in the system's first name."""
    return SYSTEM_ALIASES.get(system or "", system or ""), code or ""


def _owner(head: _Head, full_url: str | None, people: Mapping[str, str]) -> str | None:
    """The id of the patient whose resource it is, None where it doesn't say so."""
    if head.resource_type == "Patient":
        return people.get(full_url or "") or head.id
    for raw in (head.subject, head.patient):
        try:
            reference = _REFERENCES.decode(raw) if bytes(raw) else None
        except DECODE_ERRORS:
            reference = None
        if reference is not None:
            return patient_of(reference.reference, people)
    return None


def _holds_lines(file: IO[bytes]) -> bool:
    """Whether the first line is a resource by itself: NDJSON is called .json too. The file is at its beginning again."""
    first = file.readline(_LARGEST_LINE)
    file.seek(0)
    try:
        _HEADS.decode(first)
    except msgspec.ValidationError:
        return True
    except DECODE_ERRORS:
        return False
    return True


def _people(entries: Collection[_Entry]) -> dict[str, str]:
    """The ids of a Bundle's patients by fullUrl; one without an id, which the server was to give, goes by its UUID."""
    people: dict[str, str] = {}
    for entry in entries:
        if not entry.full_url:
            continue
        try:
            head = _HEADS.decode(entry.resource)
        except DECODE_ERRORS:
            continue
        if head.resource_type == "Patient":
            people[entry.full_url] = head.id or entry.full_url.removeprefix("urn:uuid:")
    return people


def _as_entry(raw: bytes | msgspec.Raw, full_url: str | None) -> bytes:
    """On one line: a line break in JSON lies between tokens only, so that a blank says the same."""
    resource = bytes(raw).replace(b"\n", b" ").replace(b"\r", b" ")
    url = b'"fullUrl":' + msgspec.json.encode(full_url) + b"," if full_url else b""
    return b"{" + url + b'"resource":' + resource + b"}"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as packed:
            yield cast("IO[bytes]", packed)
    else:
        with path.open("rb") as file:
            yield file
