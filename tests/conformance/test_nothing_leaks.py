"""Neither a token nor a patient is anywhere in what the service writes, and in no refusal, after a mixed run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.cds_service import patients
from tests.cds_service.tokens import with_signature
from tests.conformance import calls
from tests.conformance.hospital import RISK, Hospital

PATH = f"/cds-services/{RISK}"
PRIVATE = ("canary", "Canary", "CANARY", "Zyxwvut", "Qwertzuiop", "151.0", "Condition/c1", "1974-06-01")


def _bodies(hospital: Hospital) -> list[dict[str, Any]]:
    fhir = hospital.servers.fhir
    return [
        calls.call(),
        calls.call(prefetch={}),
        calls.call("order-sign"),
        calls.call(hookInstance=patients.CANARY_TEXT),
        calls.call(context={"patientId": patients.CANARY_TEXT, "userId": "Practitioner/canary-user"}),
        calls.call(context={"patientId": patients.PATIENT_ID, "userId": patients.CANARY_NAME}),
        calls.call(prefetch=calls.prefetched(conditions=patients.CANARY_TEXT)),
        *(calls.without_prefetch(fhir(name)) for name in ("good", "401", "503", "redirect", "elsewhere", "outcome")),
        calls.without_prefetch(fhir("good"), scope=f"patient/{patients.CANARY_TEXT}"),
        calls.without_prefetch(f"https://{patients.PATIENT_ID}.example.org/{patients.CANARY_NAME}"),
    ]


def _tokens(hospital: Hospital) -> list[str]:
    """Good ones and bad ones; each has its own jti."""
    good = hospital.token(PATH, jti="canary-jti-good")
    return [
        good,
        with_signature(hospital.token(PATH, jti="canary-jti-forged"), b"canary-signature"),
        hospital.token(PATH, jti="canary-jti-old", iat=int(time.time()) - 900, exp=int(time.time()) - 600),
        hospital.token("/canary-audience", jti="canary-jti-aud"),
        hospital.token(PATH, iss="https://canary-issuer.example"),
        hospital.token(PATH, "spec", {"kid": "canary-kid"}),
        hospital.token(PATH, "spec", {"jku": f"{hospital.servers.canary}/canary-jku"}),
        good,
    ]


def _files(hospital: Hospital) -> dict[Path, bytes]:
    folders = ("audit", "auditsouth", "state")
    found = [path for name in folders for path in (hospital.folder / name).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in (*found, hospital.stderr)}


def test_nothing_leaks_into_refusals_logs_or_databases(hospital: Hospital) -> None:
    sent, answers = _tokens(hospital), []
    answers += [hospital.call(calls.call(), None, token=token) for token in sent]
    for client in ("spec", "epic", "south", "filing"):
        for body in _bodies(hospital):
            answers += [hospital.call(body, client), hospital.call(json.dumps(body).encode()[:-3], client)]
    comment = {"card": "canary-card", "outcome": "overridden", "overrideReason": {"userComment": "canary"}}
    answers.append(hospital.feedback(comment | {"outcomeTimestamp": "2026-11-24T10:20:30Z"}))
    assert {200, 400, 401, 412} <= {answer.status_code for answer in answers}
    for answer in answers:
        assert patients.CANARY_TOKEN not in answer.text
        if answer.status_code != 200:
            assert not [word for word in PRIVATE if word in answer.text], answer.text
    time.sleep(0.2)  # the operations log catches up
    secrets = [*PRIVATE, *(part for token in sent for part in token.split(".") if len(part) > 20)]
    files = _files(hospital)
    assert sum(path.suffix == ".sqlite3" for path in files) >= 4
    found = [(path.name, word) for path, content in files.items() for word in secrets if word.encode() in content]
    assert found == []


def test_nothing_leaks_and_yet_the_reasons_are_in_the_operations_log(hospital: Hospital) -> None:
    hospital.call(calls.call(), None, token=hospital.token("/elsewhere"))
    hospital.call(calls.call(), None)
    time.sleep(0.2)
    lines = [json.loads(line) for line in hospital.stderr.read_text().splitlines()]
    whys = {line.get("why") for line in lines if line["event"] == "call refused"}
    assert {"audience", "no-token"} <= whys
