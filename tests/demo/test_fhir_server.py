from __future__ import annotations

from demo.ehr import PocketEhr


def test_fhir_server_token_is_not_shown_by_repr(ehr: PocketEhr) -> None:
    assert ehr.fhir.token not in repr(ehr)


def test_fhir_server_resolve_answers_like_http(ehr: PocketEhr) -> None:
    assert ehr.fhir.resolve("Patient/p1")["id"] == "p1"
    bundle = ehr.fhir.resolve("Observation?patient=p1&code=http%3A%2F%2Floinc.org%7C2085-9")
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["o3-2085-9"]


def test_fhir_server_each_start_has_its_own_token(ehr: PocketEhr) -> None:
    assert len(ehr.fhir.token) >= 32


def test_fhir_server_resolve_is_whole_unless_pages_are_asked_for(ehr: PocketEhr) -> None:
    whole = ehr.fhir.resolve("Observation?patient=p1&date=ge2000&code=2093-3,2085-9")
    paged = ehr.fhir.resolve("Observation?patient=p1&_count=5")
    assert [link["relation"] for link in whole["link"]] == ["self"]
    assert [link["relation"] for link in paged["link"]] == ["self", "next"]
