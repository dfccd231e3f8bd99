"""A version of prevent_cvd with a reference, and decisions of invented people, counted by real monitors into a real log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.entry_monitoring import AlarmEntry, SketchEntry
from audit.log import AuditLog
from cds_service.desk import Book
from cds_service.monitor import Pace, SketchMonitor
from cds_service.observed import Observed
from model_artifacts.assessment import Abstention, AbstentionReason, Prediction
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import Sha256, parse_manifest
from model_artifacts.runtime import ReleasedModel
from model_artifacts.training.reference import write_reference
from tests.conftest import NOW, TENANT

NAMES = ("age", "sbp", "hba1c", "smoking")
OUTPUT = "total_cvd_10y"
PACE = Pace(every_decisions=10_000, every_s=10_000.0, least=50)


@dataclass(frozen=True, slots=True)
class Person:
    """The four inputs of `NAMES`, None where missing, and the risk."""

    values: tuple[float | None, ...]
    risk: float


def people(seed: int, n: int, *, older: float = 0.0, tenfold_sbp: bool = False) -> list[Person]:
    """n people of one world."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        age = float(np.clip(round(random.normal(55, 9) + older), 30, 79))
        sbp = float(round(random.normal(130, 15))) * (10 if tenfold_sbp else 1)
        hba1c = None if random.random() < 0.6 else float(round(random.normal(5.8, 0.6), 1))
        risk = float(1 / (1 + np.exp(-(-2.8 + 0.07 * (age - 55)))))
        made.append(Person((age, sbp, hba1c, float(random.random() < 0.2)), risk))
    return made


def make_version(prevent: ReleasedModel, archive: Path, seed: int = 1, monitoring: str = "") -> ReleasedModel:
    """A version whose reference is of this world, in the archive as one that was in service; its graph is the real one's."""
    making = archive / "making"
    making.mkdir(parents=True)
    rows = people(seed, 4000)
    values = np.array([[np.nan if value is None else value for value in person.values] for person in rows])
    risks = {OUTPUT: np.array([person.risk for person in rows])}
    digest = write_reference(making, NAMES, values, risks, source="4,000 invented people", novel=0.01)
    text = (prevent.folder / "manifest.toml").read_text("utf-8")
    text = text.partition("[monitoring]")[0] + f"[monitoring]\n{monitoring}\n[files]" + text.partition("[files]")[2]
    text = text.rstrip() + f'\n"reference.json" = "{digest}"\n'
    (making / "manifest.toml").write_text(text, "utf-8")
    for name in ("model.onnx", "MODEL_CARD.md", "metrics.json", "diabetes.toml", "codes.toml", "known_cvd.toml"):
        (making / name).write_bytes((prevent.folder / name).read_bytes())
    manifest_sha256 = Sha256(hashlib.sha256(text.encode()).hexdigest())
    folder = making.rename(archive / manifest_sha256)
    identity = replace(prevent.identity, manifest_sha256=manifest_sha256)
    return replace(prevent, manifest=parse_manifest(text), identity=identity, folder=folder)


def serve(
    book: Book, model: ReleasedModel, served: Iterable[Person], *, first: int = 0, at: datetime = NOW, novel: int = 0
) -> None:
    """One worker's life: it decides for these people, and writes what it counted."""
    monitor = SketchMonitor({TENANT: book}, PACE, lambda: at)
    patient = first
    for person in served:
        evidence = tuple(
            Evidence(name, name, value, "", None, None, "missing" if value is None else None)
            for name, value in zip(NAMES, person.values, strict=True)
        )
        assessment = Prediction(model.identity, {OUTPUT: person.risk}, {}, None, 0.02, (), 0.0, None, evidence, ())
        monitor.note(Observed(TENANT, model, False, "answered", assessment, patient, ("info",), at))
        patient += 1
    for _ in range(novel):
        reasons = (AbstentionReason("unlike-training-data", "text"),)
        abstention = Abstention(model.identity, reasons, (), (), outside_population=False)
        monitor.note(Observed(TENANT, model, False, "abstained", abstention, patient, ("info",), at))
        patient += 1
    monitor.write(everything=True)


def alarms_of(log: AuditLog) -> list[AlarmEntry]:
    return [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, AlarmEntry)]


def sketches_of(log: AuditLog) -> list[SketchEntry]:
    return [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, SketchEntry)]


def looks_of(log: AuditLog) -> list[AccessEntry]:
    return [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, AccessEntry)]
