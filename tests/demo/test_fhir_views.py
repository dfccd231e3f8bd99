from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from demo.ehr import PocketEhr


def _get(ehr: PocketEhr, path: str, **headers: str) -> requests.Response:
    presented = {"Authorization": f"Bearer {ehr.fhir.token}", **headers}
    return requests.get(f"{ehr.fhir.base_url}/{path}", headers=presented, timeout=5)


def _ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def test_fhir_views_read_a_patient(ehr: PocketEhr) -> None:
    answer = _get(ehr, "Patient/p1")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/fhir+json"
    assert answer.json()["resourceType"] == "Patient"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic abc", "Bearer ünïcode"])
@pytest.mark.parametrize("path", ["Patient/p1", "Observation?patient=p1", "Nothing"])
def test_fhir_views_without_the_token_answer_401(ehr: PocketEhr, path: str, authorization: str) -> None:
    answer = requests.get(
        f"{ehr.fhir.base_url}/{path}", headers={"Authorization": authorization.encode("latin-1")}, timeout=5
    )
    assert answer.status_code == 401
    assert answer.json()["issue"][0]["code"] == "login"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_fhir_views_metadata_is_open_and_lists_what_is_served(ehr: PocketEhr) -> None:
    answer = requests.get(f"{ehr.fhir.base_url}/metadata", timeout=5)
    statement = answer.json()
    served = {entry["type"]: {p["name"] for p in entry["searchParam"]} for entry in statement["rest"][0]["resource"]}
    assert statement["fhirVersion"] == "4.0.1"
    assert {"patient", "code", "date", "category", "status", "encounter"} <= served["Observation"]


def test_fhir_views_search_as_a_service_sends_it(ehr: PocketEhr) -> None:
    url = "Observation?patient=p1&code=http://loinc.org|2093-3,http://loinc.org|2085-9&date=ge2024-01-01T00:00:00Z&_sort=-date&_count=200"
    bundle = _get(ehr, url).json()
    assert bundle["total"] == 26
    assert len(_ids(bundle)) == 26
    assert _ids(bundle)[0] == "o24-2093-3"
    assert bundle["entry"][0]["search"] == {"mode": "match"}


@pytest.mark.parametrize("count", [1, 4, 5, 13, 25, 26])
def test_fhir_views_paging_is_complete_and_without_duplicates(ehr: PocketEhr, count: int) -> None:
    url: str | None = f"{ehr.fhir.base_url}/Observation?patient=p1&_sort=-date&_count={count}"
    whole = _ids(_get(ehr, "Observation?patient=p1&_sort=-date&_count=100").json())
    seen: list[str] = []
    pages = 0
    while url is not None:
        assert url.startswith(ehr.fhir.base_url)
        bundle = _get(ehr, url.removeprefix(f"{ehr.fhir.base_url}/")).json()
        seen += _ids(bundle)
        pages += 1
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert seen == whole
    assert pages == -(-26 // count)


def test_fhir_views_page_links_name_no_patient(ehr: PocketEhr) -> None:
    links = _get(ehr, "Observation?patient=p1&_count=1").json()["link"]
    following = next(link["url"] for link in links if link["relation"] == "next")
    assert list(parse_qs(urlsplit(following).query)) == ["_page"]


def test_fhir_views_no_match_is_an_empty_searchset(ehr: PocketEhr) -> None:
    bundle = _get(ehr, "MedicationRequest?patient=p1&status=active").json()
    assert bundle["total"] == 0
    assert "entry" not in bundle


def test_fhir_views_count_zero_gives_only_the_total(ehr: PocketEhr) -> None:
    bundle = _get(ehr, "Observation?patient=p1&_count=0").json()
    assert (bundle["total"], _ids(bundle), len(bundle["link"])) == (26, [], 1)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Observation?colour=red", 400),
        ("Observation?patient=p1&_count=many", 400),
        ("Observation?patient=p1&_count=-1", 400),
        ("Observation?patient=p1&_sort=-colour", 400),
        ("Observation?patient=p1&date=ge", 400),
        ("Observation?patient=p1&_include=*", 400),
        ("Observation?_page=unknown", 410),
        ("Observation?_format=xml", 406),
        ("Patient/nobody", 404),
        ("Nothing?patient=p1", 404),
        ("Patient/p1/_history/1", 404),
        ("", 404),
    ],
)
def test_fhir_views_errors_are_operation_outcomes(ehr: PocketEhr, path: str, status: int) -> None:
    answer = _get(ehr, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/fhir+json"
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_fhir_views_errors_repeat_no_value(ehr: PocketEhr) -> None:
    assert "secretpatient" not in _get(ehr, "Patient/secretpatient").text
    assert "secretpatient" not in _get(ehr, "Observation?date=secretpatient").text
