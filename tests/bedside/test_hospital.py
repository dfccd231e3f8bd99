from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from bedside.config import Config
from bedside.hospital import HospitalFhir
from cds_service.desk import Access
from cds_service.request import FhirAuthorization
from fhir_adapters.errors import OriginNotAllowedError, UpstreamConnectionError, UpstreamTimeoutError
from tests.cds_service.callers import caller
from tests.cds_service.patients import CANARY_TOKEN
from tests.conftest import free_port
from tests.end_to_end.fhir_double import running_fhir

TOKEN = FhirAuthorization(CANARY_TOKEN, "", None, None, None)


def _access(until_s: float = 2.0, **changes: Any) -> Access:
    known = {"fhir_servers": frozenset({"https://fhir.example/r4"}), **changes}
    return Access(caller(**known), time.monotonic() + until_s)


@pytest.mark.parametrize(
    "server",
    [
        "https://fhir.example/r4/other",
        "https://fhir.example",
        "https://fhir.example.evil.example/r4",
        "https://fhir.example@evil.example/r4",
        "http://fhir.example/r4",
        "https://FHIR.example/r4",
        "",
    ],
)
def test_hospital_asks_a_fhir_server_only_at_exactly_the_configured_address(server: str) -> None:
    fhir = HospitalFhir(Config())
    answers = fhir(_access(), server, TOKEN, {"a": "Patient/1", "b": "Condition?patient=1"})
    assert {key: type(answer) for key, answer in answers.items()} == dict.fromkeys("ab", OriginNotAllowedError)


@pytest.mark.parametrize("slash", ["", "/"])
def test_hospital_gives_the_reason_for_each_key(slash: str) -> None:
    base = f"http://127.0.0.1:{free_port()}/fhir"
    fhir = HospitalFhir(Config())
    answers = fhir(_access(fhir_servers=frozenset({base})), base + slash, None, {"a": "Patient/1"})
    assert isinstance(answers["a"], UpstreamConnectionError)


def test_hospital_does_not_use_a_token_that_is_another_clients() -> None:
    base = f"http://127.0.0.1:{free_port()}/fhir"
    access = _access(fhir_servers=frozenset({base}), subject="bedside-north")
    for subject in ("other", None):
        (answer,) = HospitalFhir(Config())(access, base, replace(TOKEN, subject=subject), {"a": "Patient/1"}).values()
        assert isinstance(answer, OriginNotAllowedError)
    own = HospitalFhir(Config())(access, base, replace(TOKEN, subject="bedside-north"), {"a": "Patient/1"})
    assert isinstance(own["a"], UpstreamConnectionError)


def test_hospital_does_not_use_a_token_beyond_its_life() -> None:
    with running_fhir() as fhir:
        base = fhir.base("hang")
        access = _access(20.0, fhir_servers=frozenset({base}), deadline_s=20.0)
        started = time.monotonic()
        answers = HospitalFhir(Config())(access, base, replace(TOKEN, expires_in=1), {"a": "Patient/1"})
        assert isinstance(answers["a"], UpstreamTimeoutError)
        assert time.monotonic() - started < 10


def test_hospital_passes_on_the_ids_by_which_the_caller_knows_the_call() -> None:
    with running_fhir() as fhir:
        base = fhir.base("good")
        access = _access(fhir_servers=frozenset({base}))
        HospitalFhir(Config())(access, base, TOKEN, {"a": "Patient/1"})
        assert fhir.requests == [("/good/Patient/1", f"Bearer {CANARY_TOKEN}")]
