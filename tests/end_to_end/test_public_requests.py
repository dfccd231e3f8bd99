"""The public requests that projects around CDS Hooks test with, each answered, with the reason.

None of their FHIR servers is allowed, so none is called: what they did not prefetch under our keys cannot be had.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cds_service.hooks import PARSERS
from tests.cds_service.patients import empty_members
from tests.conftest import EVERY_HOOK, RunningBedside

FOLDER = Path(__file__).parents[1] / "fixtures" / "cds_hooks_examples"
OTHER_HOOK = (400, f"hook: expected one of {', '.join(sorted(PARSERS))}")
LACKING = "required data missing: prefetch patient, conditions, active_medications not usable, and "
OTHER_KEYS = (412, LACKING + "fhir server: expected an allowed one, got another")

NO_USER = (400, "context.userId is required")  # they say "user" beside the context, as before 1.0
ANSWERS: dict[str, tuple[int, str]] = {
    "ahrq-cql-services/Adolfo777_Braun514.json": OTHER_KEYS,
    "ahrq-cql-services/Adrian111_Wunsch504.json": OTHER_KEYS,
    "ahrq-cql-services/Cher186_Crooks415.json": OTHER_KEYS,
    "ahrq-cql-services/Debora709_Mayer370.json": OTHER_KEYS,
    "ahrq-cql-services/unhealthy_patient.json": OTHER_KEYS,
    "cqf-ruler/html-request.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-01-request-prefetch.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-01-request.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-04-request-prefetch.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-04-request.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-08-request-prefetch.json": OTHER_KEYS,
    "cqf-ruler/opioidcds-08-request.json": OTHER_KEYS,
    "cqf-ruler/request-ExclusionPatient.json": OTHER_KEYS,
    "cqf-ruler/request-HelloWorld.json": OTHER_KEYS,
    "cqf-ruler/request-HighRiskIDUPatient.json": OTHER_KEYS,
    "cqf-ruler/unicode-request.json": OTHER_KEYS,
    "davinci-crd/deviceRequestEmptyPrefetch_r4.json": NO_USER,
    "davinci-crd/deviceRequestFullPrefetchWithCoverage_r4.json": NO_USER,
    "davinci-crd/deviceRequestFullPrefetch_r4.json": NO_USER,
    "davinci-crd/deviceRequestNoPrefetch.json": NO_USER,
    "davinci-crd/deviceRequestNoPrefetchNoDoc.json": NO_USER,
    "davinci-crd/deviceRequestPrefetch.json": NO_USER,
    "davinci-crd/deviceRequestPrefetchNoDoc.json": NO_USER,
    "davinci-crd/medicationRequestNoPrefetch.json": OTHER_HOOK,
    "davinci-crd/medicationRequestNoPrefetchNoDoc.json": OTHER_HOOK,
    "davinci-crd/medicationRequestPrefetch.json": OTHER_HOOK,
    "davinci-crd/medicationRequestPrefetchNoDoc.json": OTHER_HOOK,
    "spec-json/examples_0.json": (400, "context.draftOrders is required"),  # it says "medications"
    "spec-json/examples_2.json": OTHER_KEYS,
}


def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def test_public_requests_are_all_here() -> None:
    assert sorted(ANSWERS) == sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.json"))


@pytest.mark.parametrize("name", ANSWERS)
def test_public_requests_are_answered_or_refused_with_the_reason(name: str, bedside: RunningBedside) -> None:
    answer = bedside.post(_read(name), EVERY_HOOK)
    status, diagnostics = ANSWERS[name]
    assert answer.json()["issue"][0]["diagnostics"] == diagnostics
    assert answer.status_code == status


@pytest.mark.parametrize("name", ["ahrq-cql-services/Adolfo777_Braun514.json", "spec-json/examples_0.json"])
def test_public_requests_to_a_service_that_is_none_are_not_found(name: str, bedside: RunningBedside) -> None:
    assert bedside.post(_read(name), "patient-greeter").status_code == 404


KEYS = {
    "Patient": "patient",
    "Condition": "conditions",
    "MedicationRequest": "active_medications",
    "MedicationStatement": "active_medications",
    "Observation": "kidney_function",
}


AHRQ = [name for name in ANSWERS if name.startswith("ahrq")]


def _under_our_keys(name: str) -> dict[str, Any]:
    request: dict[str, Any] = json.loads(_read(name))
    return request | {"prefetch": {KEYS.get(key, key): value for key, value in request["prefetch"].items()}}


@pytest.mark.parametrize("name", AHRQ)
def test_public_requests_under_our_keys_are_answered(name: str, bedside: RunningBedside) -> None:
    request = _under_our_keys(name)
    request["context"]["patientId"] = request["prefetch"]["patient"]["id"]
    answer = bedside.post(json.dumps(request).encode())
    assert answer.status_code == 200, answer.text
    (card,) = answer.json()["cards"]
    assert card["summary"].startswith("10-year risk of cardiovascular disease")
    assert empty_members(answer.json()) == []


@pytest.mark.parametrize("name", [name for name in AHRQ if "unhealthy" not in name])
def test_public_requests_that_prefetch_another_patient_are_refused(name: str, bedside: RunningBedside) -> None:
    """As published: the context's patientId is "2-1", the Patient sent is somebody else."""
    answer = bedside.post(json.dumps(_under_our_keys(name)).encode())
    assert answer.status_code == 412
    assert answer.json()["issue"][0]["diagnostics"] == (
        "required data missing: prefetch patient holds no readable Patient with the id of context.patientId"
    )
