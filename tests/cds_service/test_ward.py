from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit.commitments import IndexKey
from cds_service.ward import Ward, WardUnavailableError, fingerprint, may_be_quieted, quiet_key
from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import Finding, OrderLab
from tests.cds_service.patients import PATIENT_ID
from tests.conftest import NOW

KEY = IndexKey(b"k" * 32)
FINDING = Finding(
    code="total_cvd_10y:high",
    urgency="warning",
    headline="10-year risk 21 %",
    statements=("21 of 100",),
    reasons=(),
    missing=("HbA1c",),
    considerations=(),
    proposals=(OrderLab(Code(LOINC, "4548-4"), "HbA1c", "unknown"),),
)
MINUTE = timedelta(minutes=1)


def _off(ward: Ward, tenant: str = "north", service: str = "s", model: str = "m") -> str | None:
    switch = ward.switched_off(tenant, service, model)
    return None if switch is None else switch.scope


def test_ward_switches_hold_for_what_they_name_in_their_tenant(ward: Ward) -> None:
    for scope, name in (("service", "s"), ("model", "m"), ("tenant", "north")):
        ward.set_switch(scope, name, tenant="north", off=True, reason="safety", moment=NOW)  # type: ignore[arg-type]
        assert _off(ward) == scope
        assert _off(ward, tenant="south") is None
        ward.set_switch(scope, name, tenant="north", off=False, reason="safety", moment=NOW)  # type: ignore[arg-type]
        assert _off(ward) is None
    ward.set_switch("service", "m", tenant="north", off=True, reason="safety", moment=NOW)
    assert _off(ward) is None  # a service of the model's name is another thing


def test_ward_switches_are_listed_with_reason_and_time(ward: Ward) -> None:
    ward.set_switch("model", "m", tenant="north", off=True, reason="drift", moment=NOW)
    (switch,) = ward.switches()
    assert (switch.scope, switch.name, switch.tenant, switch.reason, switch.since) == (
        *("model", "m", "north", "drift"),
        NOW,
    )


def test_ward_switch_set_by_another_process_is_seen_at_once_and_outlives_it(ward: Ward, tmp_path: Path) -> None:
    assert _off(ward) is None
    path = tmp_path / "ward.sqlite3"
    program = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC; from cds_service.ward import Ward\n"
        "Ward.open(Path(sys.argv[1])).set_switch('service','s',tenant='north',off=True,reason='safety',"
        "moment=datetime.now(UTC))"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    assert _off(ward) == "service"
    again = Ward.open(path)
    assert _off(again) == "service"
    again.close()


def test_ward_knows_the_last_finding_shown_and_no_other(ward: Ward) -> None:
    ward.remember("k", "a", NOW)
    assert ward.shown_at("k", "a", NOW - MINUTE) == NOW
    assert ward.shown_at("k", "b", NOW - MINUTE) is None
    assert ward.shown_at("other", "a", NOW - MINUTE) is None
    assert ward.shown_at("k", "a", NOW + MINUTE) is None
    ward.remember("k", "b", NOW + MINUTE)
    assert ward.shown_at("k", "a", NOW - MINUTE) is None


def test_ward_forgets_what_is_older_than_any_window(ward: Ward) -> None:
    ward.remember("old", "a", NOW - timedelta(days=400))
    for number in range(600):
        ward.remember(f"k{number}", "a", NOW)
    assert ward.shown_at("old", "a", NOW - timedelta(days=500)) is None
    assert ward.shown_at("k0", "a", NOW - MINUTE) == NOW


def test_ward_serves_many_threads(ward: Ward) -> None:
    def work(number: int) -> bool:
        ward.remember(f"k{number}", "a", NOW)
        return ward.shown_at(f"k{number}", "a", NOW) == NOW and ward.switched_off("t", "s", "m") is None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


@pytest.mark.parametrize(
    "changes",
    [
        {"headline": "10-year risk 22 %"},
        {"code": "total_cvd_10y:other"},
        {"urgency": "critical"},
        {"missing": ()},
        {"proposals": ()},
    ],
)
def test_ward_a_finding_that_reads_or_offers_otherwise_is_another(changes: dict[str, object]) -> None:
    same = fingerprint(KEY, "m", "1.0.0", FINDING)
    assert same == fingerprint(KEY, "m", "1.0.0", replace(FINDING, statements=("more words",)))
    assert same != fingerprint(KEY, "m", "1.0.0", replace(FINDING, **changes))  # type: ignore[arg-type]
    assert same != fingerprint(KEY, "m", "1.0.1", FINDING)


def test_ward_quiet_keys_tell_patients_services_tenants_and_users_apart() -> None:
    keys = {
        quiet_key(KEY, *parts)
        for parts in (
            ("t", "s", "p", None),
            ("t", "s", "q", None),
            ("t", "r", "p", None),
            ("u", "s", "p", None),
            ("t", "s", "p", "Practitioner/1"),
            ("t", "s", "p", "Practitioner/2"),
        )
    }
    assert len(keys) == 6


def test_ward_critical_findings_are_never_quieted() -> None:
    assert may_be_quieted(FINDING)
    assert not may_be_quieted(replace(FINDING, urgency="critical"))


def test_ward_file_is_private_and_holds_nothing_of_a_patient(ward: Ward, tmp_path: Path) -> None:
    ward.remember(quiet_key(KEY, "t", "s", PATIENT_ID, None), fingerprint(KEY, "m", "1", FINDING), NOW)
    files = list(tmp_path.glob("ward.sqlite3*"))
    assert stat.S_IMODE((tmp_path / "ward.sqlite3").stat().st_mode) == 0o600
    content = b"".join(path.read_bytes() for path in files)
    assert quiet_key(KEY, "t", "s", PATIENT_ID, None).encode() in content
    for canary in (PATIENT_ID, FINDING.headline, "total_cvd"):
        assert canary.encode() not in content


def test_ward_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "ward.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(WardUnavailableError, match=r"^state of the ward: can't be opened$"):
        Ward.open(path)


def test_ward_that_was_damaged_while_open_is_unavailable(ward: Ward, tmp_path: Path) -> None:
    import sqlite3

    other = sqlite3.connect(tmp_path / "ward.sqlite3")
    other.execute("DROP TABLE switches")
    other.close()
    with pytest.raises(WardUnavailableError, match="can't be read or written"):
        _off(ward)
