"""Drift found by the service as it is run: a model from elsewhere, two workers, real calls; and nothing of anybody in it.

First people like those of the reference, then older ones whose cholesterol arrives tenfold (mg/L filed as mg/dL).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import requests

from audit.entry import parse_entry
from audit.entry_monitoring import AlarmEntry, SketchEntry
from audit.export.cef import cef_line
from audit.export.fhir_auditevent import audit_events
from audit.export.otlp import logs_data
from audit.export.records import read_records
from audit.merkle import LeafIndex
from audit.storage import Query
from audit.storage.opening import open_storage
from model_artifacts.assessment import Prediction
from model_artifacts.examples import example_record
from model_artifacts.runtime import ReleasedModel
from model_artifacts.training.reference import write_reference
from tests.cds_service import patients
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port, run_bedside
from tests.model_artifacts.signer import Signer

WAIT_S = 30.0
PEOPLE = 180
SEEN = 130  # that many are written however the calls fall to the two workers, of whom each keeps 49 to itself at most
ROWS = 300
NAMES = ("age", "male", "total_cholesterol", "hdl_cholesterol", "sbp", "bmi", "egfr", "hba1c", "smoking")


@dataclass(frozen=True, slots=True)
class Site:
    """The running service."""

    url: str
    folder: Path
    audit: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    @property
    def stderr(self) -> Path:
        return self.folder / "stderr"

    def entries(self, kind: str) -> list[Any]:
        """Every entry of this type, newest first."""
        storage = open_storage(self.audit)
        try:
            return [
                parse_entry(storage.entry(found.index) or b"") for found in storage.find(Query(type=kind, limit=1000))
            ]
        finally:
            storage.close()

    def drift(self, code: int) -> dict[str, Any]:
        done = run_bedside("model", "drift", "--json", environment=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def _person(chance: random.Random, number: int, moment: datetime, *, drifted: bool = False) -> dict[str, Any]:
    """Everything the model asks for, of one invented person."""
    name, age = f"{patients.PATIENT_ID}-{number}", min(max(round(chance.gauss(54, 8)) + 18 * drifted, 31), 79)
    born = moment - timedelta(days=365.25 * age + 100)
    person = patients.patient(name) | {
        "birthDate": born.date().isoformat(),
        "gender": chance.choice(("female", "male")),
    }
    values = {
        "blood_pressure": [("8480-6", round(min(max(chance.gauss(128, 14), 95), 175)), "mm[Hg]")],
        "body_mass_index": [("39156-5", round(min(max(chance.gauss(27, 3), 19), 38), 1), "kg/m2")],
        "cholesterol": [
            ("2093-3", round(min(max(chance.gauss(200, 20), 140), 300)) * (10 if drifted else 1), "mg/dL"),
            ("2085-9", round(min(max(chance.gauss(52, 7), 25), 90)), "mg/dL"),
        ],
        "kidney_function": [("98979-8", round(chance.gauss(88, 9)), "mL/min/{1.73_m2}")],
    }
    ids = itertools.count(10 * number + 10)
    made = {
        key: patients.bundle(*(patients.observation(next(ids), *one, moment, name) for one in found))
        for key, found in values.items()
    }
    smoked = patients.bundle(patients.smoking(moment, name))
    return patients.prefetch(moment, name) | {"patient": person, "smoking_status": smoked} | made


def _call(number: int, prefetched: dict[str, Any]) -> bytes:
    context = {"userId": "Practitioner/canary-user", "patientId": f"{patients.PATIENT_ID}-{number}"}
    return patients.encoded(patients.call(prefetched, context=context))


def _make_package(folder: Path, prevent: ReleasedModel) -> Path:
    """An installed distribution with one model: PREVENT under another name, with a reference of such people, signed."""
    model, metadata = folder / "site" / "drifting_model", folder / "site" / "drifting_model-1.dist-info"
    model.mkdir(parents=True)
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: drifting-model\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[bedside.models]\ndrifting = drifting_model\n")
    (model / "__init__.py").write_text("")
    for name, what in (("inputs", "INPUTS"), ("finding", "interpret")):
        (model / f"{name}.py").write_text(f"from model_artifacts.prevent_cvd.{name} import {what} as {what}\n")
    listed = prevent.manifest.files.keys() - {"reference.json"}
    for name in ("model.onnx", "MODEL_CARD.md", "metrics.json", *listed):
        (model / name).write_bytes((prevent.folder / name).read_bytes())
    digest = _write_reference(model, prevent)
    text = (prevent.folder / "manifest.toml").read_text("utf-8").replace('id = "prevent_cvd"', 'id = "drifting"', 1)
    files = "\n".join(f'"{name}" = "{prevent.manifest.files[name]}"' for name in sorted(listed))
    text = re.split(r"^\[+(?:gate|monitoring|files)\b", text, maxsplit=1, flags=re.MULTILINE)[0]
    text += f'[monitoring]\nminimum_decisions = 100\n[files]\n{files}\n"reference.json" = "{digest}"\n'
    (model / "manifest.toml").write_text(text, "utf-8")
    signer = Signer(folder / "keys")
    signer.sign(model)
    return signer.public_file


def _write_reference(model: Path, prevent: ReleasedModel) -> str:
    chance, moment = random.Random(1), datetime.now(UTC)
    rows, risks = [], []
    for number in range(ROWS):
        person, *bundles = _person(chance, number, moment).values()
        resources = [entry["resource"] for found in bundles for entry in found["entry"]]
        record = example_record(person["id"], patients.bundle(person, *resources))
        assessment = prevent.assess(record, moment).assessment
        assert isinstance(assessment, Prediction), getattr(assessment, "reasons", None)
        values = {item.name: item.value for item in assessment.evidence}
        rows.append([np.nan if values[name] is None else values[name] for name in NAMES])
        risks.append(assessment.outputs["total_cvd_10y"])
    return write_reference(model, NAMES, np.array(rows), {"total_cvd_10y": np.array(risks)}, source="invented people")


@pytest.fixture
def site(tmp_path: Path, prevent: ReleasedModel) -> Iterator[Site]:
    public = _make_package(tmp_path, prevent)
    with _served(tmp_path, public) as running:
        yield running


@contextmanager
def _served(folder: Path, public: Path) -> Iterator[Site]:
    port, audit = free_port(), folder / "audit"
    (folder / "bedside.toml").write_text(
        f"[server]\nport = {port}\nworkers = 2\n[access]\nopen_on_loopback = true\n"
        f'[audit]\ndirectory = "{audit}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
        f'[models]\nenabled = ["drifting"]\ntrusted_keys = ["{public}"]\n[state]\ndirectory = "{folder / "state"}"\n'
        "[monitoring]\nevery_s = 1.0\n"
    )
    environment = clean_environment(BEDSIDE_CONFIG=str(folder / "bedside.toml"), PYTHONPATH=str(folder / "site"))
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=environment).returncode == 0
    with (folder / "stderr").open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "bedside", "serve"], env=environment, stderr=sink, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(process, f"{url}/ready")
        yield Site(url, folder, audit, environment, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)


def _send(site: Site, bodies: list[bytes]) -> list[dict[str, Any]]:
    def post(body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        answer = requests.post(f"{site.url}/cds-services/drifting", data=body, headers=headers, timeout=WAIT_S)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(post, bodies))


def _until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.1)
    pytest.fail(f"never happened: {what}")


def test_drift_is_an_alarm_of_the_running_service_and_holds_nothing_of_anybody(site: Site) -> None:
    chance, moment = random.Random(2), datetime.now(UTC)
    ordinary = [_call(number, _person(chance, number, moment)) for number in range(1000, 1000 + PEOPLE)]
    drifted = [_call(number, _person(chance, number, moment, drifted=True)) for number in range(2000, 2000 + PEOPLE)]

    answers = _send(site, ordinary)
    assert all(answer["cards"] for answer in answers)
    _until(lambda: sum(one.counted for one in site.entries("sketch/v1")) >= SEEN, "the workers write their counts")
    report = site.drift(code=0)
    assert report["models"][0]["judged"]
    assert site.entries("alarm/v1") == []

    _send(site, drifted)
    expected = {("psi", "age"), ("missing", "total_cholesterol"), ("abstention", "all")}
    _until(lambda: expected <= _raised(site), "the service raises the alarms by itself")
    report = site.drift(code=1)
    words = " ".join(alarm["words"] for model in report["models"] for alarm in model["alarms"])
    assert "input total_cholesterol is missing in " in words
    assert len(site.entries("alarm/v1")) == len(_raised(site))  # each once, whoever looked

    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(WAIT_S) == 0
    events = [json.loads(line) for line in site.stderr.read_text().splitlines()]
    told = [event for event in events if event["event"] == "model alarm"]
    assert {(event["measure"], event["of"]) for event in told} <= _raised(site)
    withheld = sum(event["decisions"] for event in events if event["event"] == "sketch withheld")
    sketches: list[SketchEntry] = site.entries("sketch/v1")
    assert sum(one.decisions for one in sketches) + withheld == 2 * PEOPLE
    assert min(one.counted for one in sketches) >= 50
    _nothing_of_anybody(site, sketches)


def _raised(site: Site) -> set[tuple[str, str]]:
    alarms: list[AlarmEntry] = site.entries("alarm/v1")
    return {(alarm.measure, alarm.of) for alarm in alarms if alarm.action == "raise"}


def _nothing_of_anybody(site: Site, sketches: list[SketchEntry]) -> None:
    """No name, identifier or token anywhere; and in the counts, no number that isn't one of decisions."""
    canaries = (patients.PATIENT_ID, patients.CANARY_NAME, patients.CANARY_TEXT, "canary", "Zyxwvut")
    left = [path for path in site.audit.rglob("*") if path.is_file()] + [site.stderr]
    for path in left:
        content = path.read_bytes()
        assert [canary for canary in canaries if canary.encode() in content] == [], path
    for sketch in sketches:
        for counts in (*sketch.inputs.values(), *(output.counts for output in sketch.outputs.values())):
            assert sum(counts) <= sketch.counted
        assert b"birth" not in msgspec.json.encode(sketch)
    exported = _exported(site)
    assert "alarm/v1" in exported
    assert [canary for canary in canaries if canary in exported] == []


def _exported(site: Site) -> str:
    """Every entry in every form that leaves the house, as text."""
    storage = open_storage(site.audit)
    try:
        records = list(read_records(storage, LeafIndex(0)))
    finally:
        storage.close()
    forms = [json.dumps(event) for record in records for event in audit_events(record)]
    return "\n".join([*forms, *map(cef_line, records), json.dumps(logs_data(records))])
