"""A small folder of charts, a running pocket EHR over it, and a stand-in for the CDS service it calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from demo.ehr import PocketEhr, running_ehr

NOW = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
LOINC = "http://loinc.org"
MARKUP_NAME = 'Bobby <script>alert(1)</script> "Tables"'

PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "cholesterol": "Observation?patient={{context.patientId}}&code=http://loinc.org|2093-3,http://loinc.org|2085-9&_sort=-date&_count=2",
    "encounter": "Encounter/{{context.encounterId}}",
    "author": "Practitioner/{{userPractitionerId}}",
    "birthday": "Observation?date=ge{{today()}}",
    "unknown": "Observation?patient={{context.patientId}}&colour=red",
}
CARD = {
    "uuid": "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c01",
    "summary": "10-year cardiovascular risk 12.4 %",
    "indicator": "warning",
    "detail": "**In words**: 12 in 100.\n\n| Value | Date |\n|---|---|\n| a\\|b | 2026-11-01 |\n\n"
    "- <img src=x onerror=alert(1)>\n- [site](https://example.org/a?b=1&c=2) and [bad](javascript:alert(1))",
    "source": {"label": "Test double", "url": "https://example.org/"},
    "suggestions": [
        {
            "uuid": "5d1f7c52-5f0e-4a3c-8f3b-1b0f6f2f9a10",
            "label": "Order HbA1c",
            "actions": [
                {
                    "type": "create",
                    "description": "Order HbA1c",
                    "resource": {"resourceType": "ServiceRequest", "status": "draft"},
                }
            ],
        }
    ],
    "selectionBehavior": "any",
    "overrideReasons": [{"code": "frail", "system": "urn:test", "display": "Limited life expectancy"}],
    "links": [
        {"label": "Guideline", "url": "https://example.org/guideline", "type": "absolute"},
        {"label": "Reasons", "url": "https://example.org/launch", "type": "smart", "appContext": "{}"},
    ],
}
PROOF = "c2sp.org/tlog-proof@v1\nindex 0\n\nexample.org/log\n1\n"


@dataclass
class CdsServiceDouble:
    """Stands in for a CDS service: discovery, and one fixed answer; keeps the requests it got."""

    url: str = ""
    status: int = 200
    answer: Any = field(
        default_factory=lambda: {"cards": [CARD], "extension": {"org.bedside.receipt": {"index": 0, "proof": PROOF}}}
    )
    requests: list[dict[str, Any]] = field(default_factory=list)

    def discovery(self) -> dict[str, Any]:
        described = {"hook": "patient-view", "id": "risk", "title": "Risk", "description": "Tells the risk"}
        other = {"hook": "order-sign", "id": "other", "description": "Not for patient-view"}
        return {"services": [{**described, "prefetch": PREFETCH}, other]}


@pytest.fixture
def cds_service() -> Iterator[CdsServiceDouble]:
    double = CdsServiceDouble()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, double.discovery())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            double.requests.append(json.loads(body))
            self._send(double.status, double.answer)

        def _send(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode() if not isinstance(body, bytes) else body
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield double
    server.shutdown()
    thread.join()
    server.server_close()


def observation(number: int, code: str = "2093-3", when: str | None = None) -> dict[str, Any]:
    day = datetime(2020, 1, 1, 8, tzinfo=UTC) + timedelta(days=number)
    return {
        "resourceType": "Observation",
        "id": f"o{number}-{code}",
        "status": "final" if number % 2 == 0 else "amended",
        "category": [{"coding": [{"system": "http://hl7.org/category", "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}], "text": "Cholesterol"},
        "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e1"},
        "effectiveDateTime": when or day.isoformat(),
        "valueQuantity": {
            "value": 180 + number,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }


def chart_bundle() -> dict[str, Any]:
    """Patient p1, born 1970-06-15: 25 cholesterol results of January 2020, a finished encounter and more."""
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "Patient",
            "id": "p1",
            "gender": "male",
            "birthDate": "1970-06-15",
            "name": [{"family": MARKUP_NAME}],
        },
        {
            "resourceType": "Encounter",
            "id": "e1",
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": "Patient/p1"},
            "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-01T09:00:00Z"},
        },
        {
            "resourceType": "Condition",
            "id": "c1",
            "clinicalStatus": {"coding": [{"system": "http://hl7.org/clinical", "code": "active"}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}], "text": "Hypertension"},
            "subject": {"reference": "Patient/p1"},
            "onsetDateTime": "2015-03",
        },
        *(observation(number) for number in range(25)),
        observation(3, "2085-9"),
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in resources]}


def icu_bundle() -> dict[str, Any]:
    """Patient icu, born in 1950, admitted 2008-02-28 23:17 and still here."""
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": "icu", "gender": "female", "birthDate": "1950"},
        {
            "resourceType": "Encounter",
            "id": "stay",
            "status": "in-progress",
            "class": {"code": "IMP"},
            "subject": {"reference": "Patient/icu"},
            "period": {"start": "2008-02-28T23:17:00Z"},
        },
        {
            "resourceType": "Observation",
            "id": "pulse",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
            "subject": {"reference": "Patient/icu"},
            "effectiveDateTime": "2008-03-01T01:17:00Z",
        },
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in resources]}


@pytest.fixture
def charts_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "patients"
    folder.mkdir()
    index = [
        {"files": "p1.json", "shift": "newest-to-yesterday", "note": "For the tests"},
        {"files": "icu-*.json", "shift": "icu-admission-50-hours-ago", "note": "Intensive care"},
    ]
    (folder / "index.json").write_text(json.dumps({"bundles": index}))
    (folder / "p1.json").write_text(json.dumps(chart_bundle()))
    (folder / "icu-1.json").write_text(json.dumps(icu_bundle()))
    return folder


@pytest.fixture
def ehr(cds_service: CdsServiceDouble, charts_folder: Path) -> Iterator[PocketEhr]:
    with running_ehr(cds_service.url, lambda: NOW, folder=charts_folder) as running:
        yield running


@pytest.fixture
def raw_chart() -> Callable[[], dict[str, Any]]:
    return chart_bundle


@pytest.fixture
def raw_stay() -> Callable[[], dict[str, Any]]:
    return icu_bundle


@pytest.fixture
def now() -> datetime:
    return NOW
