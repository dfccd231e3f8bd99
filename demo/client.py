"""The EHR's side of CDS Hooks: discovery, and patient-view fired with prefetch or through the FHIR server.

Spec: CDS Hooks 2.0.1, "Discovery", "Calling a CDS Service" and "FHIR Resource Access". With prefetch, the request carries
the resolved templates and no FHIR access; through FHIR it carries `fhirServer` and `fhirAuthorization` and no
prefetch. So each way is seen to work alone.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import requests

from demo.cards import Card, Json, OverrideReason, Suggestion, parse_cards
from demo.errors import CdsServiceError
from demo.fhir_server import FhirServer
from demo.prefetch import Prefetch, resolve_prefetch
from demo.signer import Signer
from demo.store import CLINICIAN, Chart

CLIENT_ID = "bedside-demo-ehr"
TOKEN_LIFE_S = 300
# A clinician waits at most this long for advice; the first number is the time to connect.
TIMEOUT_S = (2.0, 15.0)
MAX_PARALLEL_CALLS = 4
RECEIPT_KEY = "org.bedside.receipt"
_SCOPES = " ".join(
    f"patient/{name}.rs" for name in ("Patient", "Encounter", "Observation", "Condition", "MedicationRequest")
)


class Via(StrEnum):
    """How the service comes by the patient's data."""

    PREFETCH = "prefetch"
    FHIR = "fhir"


@dataclass(frozen=True, slots=True)
class CdsService:
    """One entry of the discovery document; `prefetch` holds templates by key."""

    id: str
    hook: str
    title: str
    description: str
    prefetch: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CdsCall:
    """One call and what came of it; `status` is None where nothing answered, `problems` say what was wrong."""

    service: CdsService
    via: Via
    sent: Prefetch
    status: int | None
    elapsed_ms: float
    cards: tuple[Card, ...]
    extension: Json
    problems: tuple[str, ...]

    @property
    def receipt(self) -> Json:
        """The service's receipt for this response, empty where there is none."""
        receipt = self.extension.get(RECEIPT_KEY)
        return receipt if isinstance(receipt, dict) else {}

    @property
    def receipt_proof(self) -> str | None:
        proof = self.receipt.get("proof")
        return proof if isinstance(proof, str) else None


class CdsClient:
    """Calls the CDS services under `base_url` for charts of `fhir`, and shows with each call who it is."""

    def __init__(self, base_url: str, fhir: FhirServer, signer: Signer) -> None:
        self._base_url = base_url.rstrip("/")
        self._fhir = fhir
        self.signer = signer

    def discover(self) -> tuple[CdsService, ...]:
        """The services on offer. Raises CdsServiceError."""
        status, body = self._exchange("GET", "cds-services", None)
        services = body.get("services")
        if status != 200 or not isinstance(services, list):
            raise CdsServiceError(f"discovery: expected 200 and an array of services, got status {status}")
        return tuple(map(_parse_service, services))

    def patient_view(self, chart: Chart, via: Via) -> tuple[CdsCall, ...]:
        """patient-view fired at every service that asked for it. Raises CdsServiceError when discovery fails."""
        services = [service for service in self.discover() if service.hook == "patient-view"]
        instance = str(uuid.uuid4())
        with ThreadPoolExecutor(MAX_PARALLEL_CALLS) as pool:
            return tuple(pool.map(lambda service: self.call(service, chart, via, instance), services))

    def call(self, service: CdsService, chart: Chart, via: Via, hook_instance: str) -> CdsCall:
        """One call to one service; whatever goes wrong is told in the result."""
        context = hook_context(chart)
        request: Json = {"hook": service.hook, "hookInstance": hook_instance, "context": context}
        sent = Prefetch({}, ())
        if via is Via.PREFETCH:
            sent = resolve_prefetch(service.prefetch, template_tokens(context), self._fhir.resolve)
            if sent.data:
                request["prefetch"] = sent.data
        else:
            request |= self._fhir_access(chart)
        started = time.perf_counter()
        status: int | None = None
        cards: tuple[Card, ...] = ()
        problems: tuple[str, ...] = ()
        body: Json = {}
        try:
            status, body = self._exchange("POST", f"cds-services/{quote(service.id, safe='')}", request)
            cards, problems = parse_cards(body) if status == 200 else ((), (_refusal(status, body),))
        except CdsServiceError as exc:
            problems = (str(exc),)
        elapsed_ms = 1000 * (time.perf_counter() - started)
        extension = body.get("extension")
        return CdsCall(
            service, via, sent, status, elapsed_ms, cards, extension if isinstance(extension, dict) else {}, problems
        )

    def accept(self, call: CdsCall, card: Card, suggestion: Suggestion, moment: datetime) -> Json:
        """What the service says to the news that `suggestion` was accepted. Raises CdsServiceError."""
        return self._tell(call, card, "accepted", moment, {"acceptedSuggestions": [{"id": suggestion.uuid}]})

    def override(self, call: CdsCall, card: Card, reason: OverrideReason, moment: datetime) -> Json:
        """What the service says to the news that `card` was not followed. Raises CdsServiceError."""
        coding = {"code": reason.code, "system": reason.system, "display": reason.display}
        return self._tell(call, card, "overridden", moment, {"overrideReason": {"reason": coding}})

    def _tell(self, call: CdsCall, card: Card, outcome: str, moment: datetime, what: Json) -> Json:
        told = {"card": card.uuid, "outcome": outcome, "outcomeTimestamp": moment.isoformat(), **what}
        path = f"cds-services/{quote(call.service.id, safe='')}/feedback"
        status, body = self._exchange("POST", path, {"feedback": [told]})
        if status != 200:
            raise CdsServiceError(f"feedback: {_refusal(status, body)}")
        return body

    def _fhir_access(self, chart: Chart) -> Json:
        return {
            "fhirServer": self._fhir.base_url,
            "fhirAuthorization": {
                "access_token": self._fhir.token,
                "token_type": "Bearer",
                "expires_in": TOKEN_LIFE_S,
                "scope": _SCOPES,
                "subject": CLIENT_ID,
                "patient": chart.patient_id,
            },
        }

    def _exchange(self, method: str, path: str, body: Json | None) -> tuple[int, Json]:
        """Status and JSON object of one HTTP exchange. Raises CdsServiceError."""
        url = f"{self._base_url}/{path}"
        headers = {"Authorization": f"Bearer {self.signer.token(url)}"}
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy between this EHR and its CDS service
                answer = session.request(
                    method, url, json=body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False
                )
        except requests.RequestException as exc:
            raise CdsServiceError(f"CDS service: no answer ({type(exc).__name__})") from exc
        try:
            parsed: Any = json.loads(answer.content)
        except ValueError as exc:
            raise CdsServiceError(f"CDS service: expected JSON, got something else with {answer.status_code}") from exc
        if not isinstance(parsed, dict):
            raise CdsServiceError(f"CDS service: expected a JSON object with {answer.status_code}")
        return answer.status_code, parsed


def hook_context(chart: Chart) -> dict[str, str]:
    """The patient-view context; `encounterId` only where the patient is here now."""
    context = {"userId": f"Practitioner/{CLINICIAN['id']}", "patientId": chart.patient_id}
    encounter_id = chart.current_encounter_id
    return context if encounter_id is None else {**context, "encounterId": encounter_id}


def template_tokens(context: Mapping[str, str]) -> dict[str, str]:
    """The values of the prefetch tokens that this client knows."""
    tokens = {f"context.{name}": value for name, value in context.items()}
    return {**tokens, "userPractitionerId": str(CLINICIAN["id"])}


def _parse_service(entry: object) -> CdsService:
    match entry:
        case {"id": str(identifier), "hook": str(hook), "description": str(description), **rest}:
            offered = rest.get("prefetch")
            templates = offered if isinstance(offered, dict) else {}
            title = rest.get("title")
            return CdsService(
                identifier,
                hook,
                title if isinstance(title, str) else identifier,
                description,
                {key: template for key, template in templates.items() if isinstance(template, str)},
            )
        case _:
            raise CdsServiceError("discovery: expected id, hook and description of each service")


def _refusal(status: int, body: Json) -> str:
    """What a service that refused says in its OperationOutcome."""
    issues = body.get("issue")
    first = issues[0] if isinstance(issues, list) and issues and isinstance(issues[0], dict) else {}
    reason = first.get("diagnostics")
    return f"status {status}" + (f": {reason}" if isinstance(reason, str) else "")
