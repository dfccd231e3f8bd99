"""Section J of the checklist: browsers, statuses, security and audit."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import RISK, WEB_ORIGIN, Hospital
from tests.conformance.response_rules import check_outcome

PATH = f"/cds-services/{RISK}"
ROUTES = {"/cds-services": "GET", PATH: "POST", f"{PATH}/feedback": "POST"}
FROM_PAGE = {"Origin": WEB_ORIGIN}


def test_86_a_page_of_the_client_may_read_answers(hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), headers=FROM_PAGE)
    assert answer.headers["Access-Control-Allow-Origin"] == WEB_ORIGIN
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{WEB_ORIGIN}.evil.example", "https://sandbox.example"]
)
def test_86_any_other_page_may_not(origin: str, hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ROUTES)
def test_87_preflights_are_answered_without_a_token(path: str, hospital: Hospital) -> None:
    method = ROUTES[path]
    wanted = "authorization" if method == "GET" else "authorization,content-type"
    asked = FROM_PAGE | {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    answer = hospital.send("OPTIONS", path, client=None, headers=asked)
    assert 200 <= answer.status_code < 300
    assert answer.headers["Access-Control-Allow-Origin"] == WEB_ORIGIN
    assert "Origin" in answer.headers["Vary"]
    assert {method, "OPTIONS"} <= set(re.split(r",\s*", answer.headers["Access-Control-Allow-Methods"]))
    assert set(wanted.split(",")) <= set(re.split(r",\s*", answer.headers["Access-Control-Allow-Headers"]))


@pytest.mark.parametrize("path", ROUTES)
def test_87_a_preflight_of_a_stranger_allows_nothing(path: str, hospital: Hospital) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": ROUTES[path]}
    answer = hospital.send("OPTIONS", path, client=None, headers=asked)
    assert not [name for name in answer.headers if name.startswith("Access-Control-Allow")]


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (400, {"body": b"{"}),
        (401, {"body": b"{}", "client": None}),
        (404, {"body": b"{}", "service": "none"}),
        (412, {"body": calls.call(prefetch={})}),
        (415, {"body": b"{}", "headers": {"Content-Type": "text/plain"}}),
    ],
)
def test_87_refusals_can_be_read_by_the_page_too(status: int, how: dict[str, Any], hospital: Hospital) -> None:
    how = how | {"headers": FROM_PAGE | how.get("headers", {})}
    answer = hospital.call(**how)
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == WEB_ORIGIN


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_88_another_method_is_a_405(method: str, hospital: Hospital) -> None:
    answer = hospital.send(method, PATH, b"{}" if method != "GET" else None)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert check_outcome(405, answer.headers, answer.content) == []


@pytest.mark.parametrize("name", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_88_another_media_type_is_a_415(name: str, hospital: Hospital) -> None:
    assert hospital.call(calls.call(), headers={"Content-Type": name}).status_code == 415


def test_88_too_large_is_a_413(hospital: Hospital) -> None:
    assert hospital.call(b" " * (8 * 2**20 + 1)).status_code == 413


def test_88_gzip_is_taken_and_a_bomb_is_a_413(hospital: Hospital) -> None:
    packed = {"Content-Encoding": "gzip"}
    assert hospital.call(gzip.compress(json.dumps(calls.call()).encode()), headers=packed).status_code == 200
    assert hospital.call(gzip.compress(b" " * 2**25), headers=packed).status_code == 413
    assert hospital.call(b"not gzip", headers=packed).status_code == 400
    assert hospital.call(b"{}", headers={"Content-Encoding": "br"}).status_code == 415


def test_88_too_many_calls_are_a_429_that_says_when(hospital: Hospital) -> None:
    """Each of two workers gives its half of four a minute."""
    answers = [hospital.call(calls.call(), "limited") for _ in range(7)]
    assert [answer.status_code for answer in answers].count(200) <= 4
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert hospital.call(calls.call()).status_code == 200


@pytest.mark.parametrize("path", ["/", "/cds-services/a/b/c", "/cds-service", "/favicon.ico", "/cds-services/a/b"])
def test_88_an_unknown_path_is_a_404(path: str, hospital: Hospital) -> None:
    answer = hospital.send("GET", path)
    assert answer.status_code == 404
    assert check_outcome(404, answer.headers, answer.content) == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_88_health_and_readiness_are_told(path: str, hospital: Hospital) -> None:
    assert hospital.send("GET", path, client=None).status_code == 200


def test_89_every_decision_is_in_the_log_and_can_be_proved(hospital: Hospital) -> None:
    receipt = hospital.call(calls.call()).json()["extension"]["org.bedside.receipt"]
    assert receipt["origin"] == "tests.example/cds-audit/north/1"
    assert receipt["proof"].startswith("c2sp.org/tlog-proof@v1")
    shown = hospital.run("audit", "show", str(receipt["index"]))
    assert shown.returncode == 0, shown.stderr
    assert receipt["entryId"] in shown.stdout
    assert patients.PATIENT_ID not in shown.stdout


def test_89_a_tenants_decisions_are_in_its_own_log(hospital: Hospital) -> None:
    receipt = hospital.call(calls.call(), "south").json()["extension"]["org.bedside.receipt"]
    assert receipt["origin"] == "tests.example/cds-audit/south/1"


def test_90_no_value_of_a_patient_is_in_a_summary_url_or_id(hospital: Hospital) -> None:
    (card,) = hospital.cards(calls.call())
    public = [card["summary"], card["uuid"], *(link["url"] for link in card["links"])]
    private = (patients.PATIENT_ID, patients.CANARY_NAME, patients.CANARY_TEXT, "151", "canary", "1974")
    assert not [text for text in public if any(word in text for word in private)]


@pytest.mark.parametrize("body", [calls.call(), calls.call(prefetch={}), {}], ids=["answer", "412", "400"])
def test_90_answers_are_not_to_be_stored(body: dict[str, Any], hospital: Hospital) -> None:
    answer = hospital.call(body)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_90_ids_of_other_systems_are_kept_if_they_look_like_ids(hospital: Hospital) -> None:
    known = "7b0f2d0e-9d6b-4e0c-8a43-0a1f6c3a9f10"
    kept = hospital.call(calls.call(), headers={"X-Request-ID": known})
    other = hospital.call(calls.call(), headers={"X-Request-ID": "Zyxwvut Canarybird"})
    assert kept.headers["X-Request-ID"] == known
    assert "Canary" not in other.headers["X-Request-ID"]


def test_91_a_service_can_be_switched_off_at_once_and_on_again(hospital: Hospital) -> None:
    what = ("--service", "prevent-cvd", "--tenant", "north")
    off = hospital.run("switch", "off", *what, "--reason", "safety")
    assert off.returncode == 0, off.stderr
    try:
        assert hospital.cards(calls.call(), service="prevent-cvd") == []
        assert len(hospital.cards(calls.call())) == 1
        assert len(hospital.cards(calls.call(), "south", "prevent-cvd")) == 1
    finally:
        on = hospital.run("switch", "on", *what, "--reason", "maintenance")
    assert on.returncode == 0, on.stderr
    assert len(hospital.cards(calls.call(), service="prevent-cvd")) == 1


def test_91_what_a_service_needs_is_said_in_discovery(hospital: Hospital) -> None:
    assert all("FHIR R4" in service["usageRequirements"] for service in hospital.discover())
