"""Joins a site's outcomes to the probabilities that decisions gave, through the encrypted payloads, on site.

    decision,outcome
    0198f0c2a7d47b1e8f3a5c6d7e8f9a0b,1
    0198f0c2-a7d4-7b1e-8f3a-5c6d7e8f9a0c,0
    4711,0

A decision is named by what the EHR keeps of it: the receipt's `entryId`, its `index`, or the id of its card. A payload holds
the recorded inputs, and not the answer; so the same model bytes run once more, and the answer's digest must be the recorded
one. The look is an entry of the log, `access/v1` with action `decrypt`, before the first payload is opened.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from audit.entry import DecisionEntry, ModelUse, parse_entry
from audit.entry_monitoring import SketchedModel
from audit.errors import AuditError, EntryError, NoSuchEntryError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.card_ids import find_decision
from cds_service.decision import ReplayPayload
from cds_service.replay import read_recorded
from model_artifacts.archive import KeptModel, find_kept
from model_artifacts.errors import ModelError
from model_artifacts.manifest import ModelManifest

HEADER = ["decision", "outcome"]
_ENTRY_ID = re.compile(r"[0-9a-f]{32}")
_INDEX = re.compile(r"[0-9]{1,15}")


class OutcomesFileError(AuditError):
    """The file of outcomes can't be read as one; the message names the line and never what stands there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line: the decision as it is named there, and whether the event came."""

    decision: str
    happened: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision of the log with its outcome."""

    index: LeafIndex
    time: str
    model: ModelUse
    happened: int


@dataclass(slots=True)
class Joined:
    """The decisions of one version with their outcomes; `patient` is a number that means something in this run alone."""

    model: SketchedModel
    status: str
    manifest: ModelManifest
    probability: list[float] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    patient: list[int] = field(default_factory=list)
    month: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Join:
    """What came of a file: by version, and how many of its lines could not be used, by the reason."""

    versions: list[Joined]
    left_out: Counter[str]


def read_outcomes(path: Path) -> tuple[Outcome, ...]:
    """The lines of the file, each decision once.

    Raises:
        OutcomesFileError: not CSV with these columns, an outcome that is neither 0 nor 1, a decision twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not CSV in UTF-8"
        message = f"{path.name}: {why}"
        raise OutcomesFileError(message) from exc
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        message = f"{path.name}: expected the header {','.join(HEADER)}"
        raise OutcomesFileError(message)
    outcomes, seen = [], set()
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if len(cells) != len(HEADER) or not cells[0] or cells[1] not in ("0", "1"):
            message = f"{path.name}: line {number}: expected a decision and 0 or 1"
            raise OutcomesFileError(message)
        if cells[0] in seen:
            message = f"{path.name}: line {number}: this decision stands there twice"
            raise OutcomesFileError(message)
        seen.add(cells[0])
        outcomes.append(Outcome(cells[0], int(cells[1])))
    return tuple(outcomes)


def place_outcomes(
    log: AuditLog, outcomes: tuple[Outcome, ...], model: str | None, left_out: Counter[str]
) -> tuple[Placed, ...]:
    """The decisions that the file names and a model answered, from the entries alone; the others are counted in `left_out`.

    A decision that is named in two ways counts once.
    """
    placed: dict[LeafIndex, Placed] = {}
    for outcome in outcomes:
        index = _index(log, outcome.decision)
        entry = None if index is None else _decision(log, index)
        if index is None or entry is None:
            left_out["not in this log"] += 1
        elif entry.model is None or (model is not None and entry.model.id != model):
            left_out["of another model"] += 1
        elif entry.output is None or entry.output.band is None:
            left_out["without a prediction"] += 1
        elif index in placed:
            left_out["named twice"] += 1
        else:
            placed[index] = Placed(index, entry.time, entry.model, outcome.happened)
    return tuple(placed.values())


def join_outcomes(
    log: AuditLog, placed: tuple[Placed, ...], archive: Path, output: str | None, left_out: Counter[str]
) -> Join:
    """The probabilities of these decisions with their outcomes. `output` is the manifest's first one if None.

    Raises:
        StorageError: the log can't be read.
    """
    kept: dict[str, KeptModel | None] = {}
    joined: dict[tuple[str, str], Joined] = {}
    patients: dict[str, int] = {}
    for one in placed:
        try:
            stored = _stored(log, one)
            model = _kept(archive, stored.manifest_sha256, kept)
            probability = None if model is None else _probability(model, stored, output)
        except (AuditError, ModelError, msgspec.DecodeError):  # erased, of a later schema, or altered since
            left_out["not to be opened"] += 1
            continue
        if model is None or probability is None:
            left_out["model not kept" if model is None else "answer differs, or no probability"] += 1
            continue
        version = _version(joined, one.model, model.manifest)
        version.probability.append(probability)
        version.outcome.append(one.happened)
        version.patient.append(patients.setdefault(stored.patient_id, len(patients)))
        version.month.append(one.time[:7])
    return Join(list(joined.values()), left_out)


def _index(log: AuditLog, name: str) -> LeafIndex | None:
    if _INDEX.fullmatch(name):
        return LeafIndex(int(name))
    plain = name.replace("-", "").lower()
    if not _ENTRY_ID.fullmatch(plain):
        return None
    index = log.index_of(plain)
    if index is not None:
        return index
    card = find_decision(log, name)
    return None if card is None else card.index


def _decision(log: AuditLog, index: LeafIndex) -> DecisionEntry | None:
    try:
        entry = parse_entry(log.entry(index))
    except (EntryError, NoSuchEntryError):
        return None
    return entry if isinstance(entry, DecisionEntry) else None


def _stored(log: AuditLog, placed: Placed) -> ReplayPayload:
    recorded = read_recorded(log, placed.index)
    if recorded is None:
        raise NoSuchEntryError(placed.index)
    return msgspec.msgpack.decode(recorded.payload, type=ReplayPayload)


def _kept(archive: Path, manifest_sha256: str, kept: dict[str, KeptModel | None]) -> KeptModel | None:
    if manifest_sha256 not in kept:
        kept[manifest_sha256] = find_kept(archive, manifest_sha256)
    return kept[manifest_sha256]


def _probability(model: KeptModel, stored: ReplayPayload, output: str | None) -> float | None:
    """What this decision said of the output, None where the answer isn't the recorded one, or no probability."""
    if not model.manifest.gives_probabilities:
        return None
    answer = model.run({name: array.unpack() for name, array in stored.arrays.items()})
    if answer.digest() != stored.answer:
        return None
    names = [one.name for one in model.manifest.outputs]
    value = float(answer.probability[names.index(output) if output in names else 0])
    return value if 0 <= value <= 1 else None


def _version(joined: dict[tuple[str, str], Joined], use: ModelUse, manifest: ModelManifest) -> Joined:
    key = (use.manifest, use.status)
    if key not in joined:
        model = SketchedModel(use.id, use.version, use.artefact, use.manifest, None)
        joined[key] = Joined(model, use.status, manifest)
    return joined[key]
