"""The table of outcomes a site brings: `patient,as_of,outcome`, strict, with errors that name the line and never a value.

    patient,as_of,outcome
    4711,2026-03-01T08:00:00Z,0

Optional columns: `encounter`, the id of the Encounter that the hook is about; `order`, the id of the MedicationRequest that
was drafted at that moment, for models that read a draft; and `outcome_at`, when the outcome was known, which must lie after
`as_of`. To add a column: its name in `_OPTIONAL`, its reading in `_read_row`.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path

from bedside.config import ConfigError
from fhir_adapters.errors import InstantError
from fhir_adapters.instants import parse_instant
from model_artifacts.manifest import Output

_NEEDED = ("patient", "as_of", "outcome")
_OPTIONAL = ("encounter", "order", "outcome_at")
_MOST_TOLD = 10  # errors at once


@dataclass(frozen=True, slots=True)
class Label:
    """What came true of one patient after one moment; `line` is where it stands in the file."""

    line: int
    patient: str
    as_of: datetime
    outcome: float
    encounter: str | None = None
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """A file's labels, in its order, and its SHA-256."""

    rows: tuple[Label, ...]
    sha256: str


def read_labels(path: Path, output: Output) -> Labels:
    """The labels in a file; moments may lie ahead, as de-identified data have shifted dates.

    Raises:
        ConfigError: not readable, a column too many or too few, or rows out of form: at most ten are named.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"labels {path.name}: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"labels {path.name}: expected UTF-8") from None
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = tuple(name.strip() for name in next(reader, []))
        _check_header(path.name, header)
        rows = _read_rows(path.name, header, reader, output)
    except csv.Error as exc:
        raise ConfigError(f"labels {path.name} line {reader.line_num}: {exc}") from None
    if not rows:
        raise ConfigError(f"labels {path.name}: expected at least one row, got none")
    return Labels(tuple(rows), hashlib.sha256(data).hexdigest())


def _check_header(name: str, header: tuple[str, ...]) -> None:
    known = (*_NEEDED, *_OPTIONAL)
    missing = [column for column in _NEEDED if column not in header]
    unknown = [place for place, column in enumerate(header, start=1) if column not in known]
    if missing or unknown or len(set(header)) != len(header):
        what = (
            f"lacks {', '.join(missing)}"
            if missing
            else f"column {unknown[0]} is none of them"
            if unknown
            else "twice one"
        )
        raise ConfigError(
            f"labels {name} line 1: expected the columns {', '.join(_NEEDED)} and perhaps {', '.join(_OPTIONAL)}, separated "
            f"by commas; {what}"
        )


class _BadCellError(Exception):
    """`column`, and what was expected there."""


def _read_rows(name: str, header: tuple[str, ...], reader: Iterator[list[str]], output: Output) -> list[Label]:
    rows: list[Label] = []
    problems: list[str] = []
    first: dict[tuple[str, datetime, str | None, str | None], int] = {}
    for cells in reader:
        line: int = reader.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in cells):
            continue
        try:
            label = _read_row(line, header, cells, output)
            earlier = first.setdefault((label.patient, label.as_of, label.encounter, label.order), line)
            if earlier != line:
                raise _BadCellError(f"expected each patient and as_of once, got those of line {earlier} again")
            rows.append(label)
        except _BadCellError as exc:
            problems.append(f"line {line}{exc}" if str(exc).startswith(",") else f"line {line}: {exc}")
            if len(problems) == _MOST_TOLD:
                problems.append("and perhaps more")
                break
    if problems:
        raise ConfigError(f"labels {name}: " + "; ".join(problems))
    return rows


def _read_row(line: int, header: tuple[str, ...], cells: list[str], output: Output) -> Label:
    if len(cells) != len(header):
        raise _BadCellError(f"expected {len(header)} cells, got {len(cells)}")
    row = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    patient = row["patient"].removeprefix("Patient/")
    if not patient:
        raise _BadCellError(", column patient: expected the id of a Patient, got nothing")
    as_of = _read_moment(row["as_of"], "as_of")
    known = row.get("outcome_at")
    if known and _read_moment(known, "outcome_at") <= as_of:
        raise _BadCellError(", column outcome_at: expected a moment after as_of, got one that is not")
    order = row.get("order", "").removeprefix("MedicationRequest/") or None
    encounter = row.get("encounter", "").removeprefix("Encounter/") or None
    return Label(line, patient, as_of, _read_outcome(row["outcome"], output), encounter, order)


def _read_moment(text: str, column: str) -> datetime:
    try:
        return parse_instant(text)
    except InstantError:
        raise _BadCellError(
            f", column {column}: expected a date with time and offset such as 2026-03-01T08:00:00Z, got something else"
        ) from None


def _read_outcome(text: str, output: Output) -> float:
    if not output.unit:
        if text not in ("0", "1"):
            raise _BadCellError(", column outcome: expected 0 or 1, got something else")
        return float(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= output.at_most:
        raise _BadCellError(
            f", column outcome: expected a number above 0, at most {output.at_most:g}, in {output.unit}, got something else"
        )
    return value
