from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from demo.ehr import PocketEhr

if TYPE_CHECKING:
    from tests.demo.conftest import CdsServiceDouble


def _page(ehr: PocketEhr, path: str) -> requests.Response:
    return requests.get(f"{ehr.origin}{path}", timeout=10)


def test_pages_list_every_patient(ehr: PocketEhr) -> None:
    page = _page(ehr, "/")
    assert page.status_code == 200
    assert 'href="/patients/p1"' in page.text
    assert 'href="/patients/icu"' in page.text
    assert "Not for care" in page.text


def test_pages_escape_markup_in_the_patients_name(ehr: PocketEhr) -> None:
    for path in ("/", "/patients/p1"):
        text = _page(ehr, path).text
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_pages_show_the_card_as_an_ehr_would(ehr: PocketEhr) -> None:
    text = _page(ehr, "/patients/p1").text
    for shown in ("10-year cardiovascular risk 12.4 %", "Warning", "Test double", "Order HbA1c", "ServiceRequest"):
        assert shown in text
    for shown in ("Limited life expectancy", "Guideline", "SMART app", "c2sp.org/tlog-proof@v1", "<td>a|b</td>"):
        assert shown in text


def test_pages_keep_a_cards_markup_text(ehr: PocketEhr) -> None:
    text = _page(ehr, "/patients/p1").text
    assert "<img" not in text
    assert "javascript:alert(1)" in text
    assert 'href="javascript' not in text


def test_pages_toggle_chooses_the_way(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    _page(ehr, "/patients/p1?via=fhir")
    _page(ehr, "/patients/p1?via=prefetch")
    assert ["fhirServer" in request for request in cds_service.requests] == [True, False]


def test_pages_hold_a_strict_content_security_policy(ehr: PocketEhr) -> None:
    for path in ("/", "/patients/p1", "/patients/nobody", "/static/ehr.css"):
        policy = _page(ehr, path).headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy


def test_pages_carry_no_script_no_style_and_load_nothing_from_elsewhere(ehr: PocketEhr) -> None:
    text = _page(ehr, "/patients/p1").text
    assert "<script" not in text
    assert "<style" not in text
    assert " style=" not in text
    assert 'src="' not in text
    assert text.count("<link ") == text.count('href="/static/')


def test_pages_unknown_patient_is_404(ehr: PocketEhr) -> None:
    assert _page(ehr, "/patients/nobody").status_code == 404


def test_pages_never_show_the_token(ehr: PocketEhr) -> None:
    assert ehr.fhir.token not in _page(ehr, "/patients/p1?via=fhir").text


def test_pages_refuse_a_foreign_host_name(ehr: PocketEhr) -> None:
    answer = requests.get(f"{ehr.origin}/", headers={"Host": "evil.example"}, timeout=5)
    assert answer.status_code == 400


def test_pages_without_an_answering_service_still_show_the_chart(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    cds_service.status = 500
    cds_service.answer = b"broken"
    text = _page(ehr, "/patients/p1").text
    assert "no complete answer" in text
    assert "Hypertension" in text
