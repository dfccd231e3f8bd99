from __future__ import annotations

import itertools
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from audit.vault import SubjectKey
from cds_service.cards import Card, present
from cds_service.ward import Ward, WardUnavailableError, fingerprint, may_be_quieted, quiet_key
from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import Finding, OrderLab
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.patients import PATIENT_ID
from tests.conftest import NOW

KEY, OTHER_KEY = SubjectKey(1, b"k" * 32, "wrap:00000000"), SubjectKey(2, b"l" * 32, "wrap:00000000")
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


@pytest.fixture
def locked(ward: Ward, tmp_path: Path) -> Iterator[apsw.Connection]:
    """Another writer that keeps the file locked until it rolls back."""
    other = apsw.Connection(str(tmp_path / "ward.sqlite3"))
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


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


def test_ward_looks_through_few_rows_at_once_for_what_it_may_forget(ward: Ward, tmp_path: Path) -> None:
    """A purge of everything would keep every process waiting."""
    other = apsw.Connection(str(tmp_path / "ward.sqlite3"))
    long_ago = int((NOW - timedelta(days=400)).timestamp() * 1_000_000)
    with other:
        other.executemany("INSERT INTO shown VALUES (?, 'a', ?)", ((f"{n:064x}", long_ago) for n in range(3_000)))
    for _ in range(512):
        ward.remember("0", "a", NOW)
    assert next(other.execute("SELECT count(*) FROM shown"))[0] == 3_001 - 2_048
    other.close()


def test_ward_switches_are_known_at_once_while_another_writer_keeps_the_file(
    ward: Ward, locked: apsw.Connection
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ward.set_switch, "service", "s", tenant="north", off=True, reason="other", moment=NOW)
        time.sleep(0.05)
        started = time.monotonic()
        assert _off(ward) is None
        assert time.monotonic() - started < 3
        assert not waiting.done()
        locked.execute("ROLLBACK")
        waiting.result(timeout=10)
    assert _off(ward) == "service"


def test_ward_gives_up_noting_a_finding_soon(ward: Ward, locked: apsw.Connection) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(80) as pool:
        noted = [pool.submit(ward.remember, f"k{number}", "a", NOW) for number in range(80)]
        assert all(isinstance(one.exception(), WardUnavailableError) for one in noted)
    assert time.monotonic() - started < 3.5  # one after the other they would take longer


def test_ward_doubts_what_was_shown_before_a_finding_it_could_not_note(ward: Ward, locked: apsw.Connection) -> None:
    locked.execute("ROLLBACK")
    ward.remember("k", "a", NOW)
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(WardUnavailableError):
        ward.remember("k", "b", NOW + MINUTE)
    assert ward.shown_at("k", "a", NOW) is None  # the last one shown was b
    locked.execute("ROLLBACK")
    ward.remember("k", "a", NOW + 2 * MINUTE)
    assert ward.shown_at("k", "a", NOW) == NOW + 2 * MINUTE


def test_ward_serves_many_threads(ward: Ward) -> None:
    def work(number: int) -> bool:
        ward.remember(f"k{number}", "a", NOW)
        return ward.shown_at(f"k{number}", "a", NOW) == NOW and ward.switched_off("t", "s", "m") is None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


def _card(prevent: ReleasedModel, **changes: Any) -> Card:
    ids = itertools.count()
    return present(replace(FINDING, **changes), prevent.manifest, "p", None, lambda: str(next(ids)))


@pytest.mark.parametrize(
    "changes",
    [
        {"headline": "10-year risk 22 %"},
        {"code": "total_cvd_10y:other"},
        {"urgency": "critical"},
        {"missing": ()},
        {"proposals": ()},
        {"statements": ("20 of 100",)},
        {"figures": (("10-year risk of heart failure", "40 %"),)},
        {"considerations": ("Stopping the drug is an option.",)},
    ],
)
def test_ward_a_card_that_reads_or_offers_otherwise_is_another(changes: dict[str, Any], prevent: ReleasedModel) -> None:
    same = fingerprint(KEY, _card(prevent))
    assert same == fingerprint(KEY, replace(_card(prevent), uuid="another"))
    assert same != fingerprint(KEY, _card(prevent, **changes))


def test_ward_quiet_keys_tell_patients_services_clients_and_users_apart() -> None:
    keys = {
        quiet_key(*parts)
        for parts in (
            (KEY, "t", "s", None),
            (OTHER_KEY, "t", "s", None),
            (KEY, "t", "r", None),
            (KEY, "u", "s", None),
            (KEY, "t", "s", "Practitioner/1"),
            (KEY, "t", "s", "Practitioner/2"),
        )
    }
    assert len(keys) == 6


def test_ward_without_the_patients_key_nobody_can_try_cards(prevent: ReleasedModel) -> None:
    assert fingerprint(KEY, _card(prevent)) != fingerprint(OTHER_KEY, _card(prevent))


def test_ward_critical_findings_are_never_quieted() -> None:
    assert may_be_quieted(FINDING)
    assert not may_be_quieted(replace(FINDING, urgency="critical"))


def test_ward_file_is_private_and_holds_nothing_of_a_patient(ward: Ward, tmp_path: Path) -> None:
    ward.remember(quiet_key(KEY, "t", "s", None), "ab" * 32, NOW)
    files = list(tmp_path.glob("ward.sqlite3*"))
    assert stat.S_IMODE((tmp_path / "ward.sqlite3").stat().st_mode) == 0o600
    content = b"".join(path.read_bytes() for path in files)
    assert quiet_key(KEY, "t", "s", None).encode() in content
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
    with pytest.raises(WardUnavailableError, match=r"^state of the ward: can't be read$"):
        _off(ward)


@pytest.mark.parametrize("again", [False, True], ids=["removed", "replaced"])
def test_ward_whose_file_is_no_longer_there_is_unavailable(again: bool, ward: Ward, tmp_path: Path) -> None:
    """It could still be read, and a switch set in the new file would never be seen."""
    assert _off(ward) is None
    for path in tmp_path.glob("ward.sqlite3*"):
        path.unlink()
    if again:
        Ward.open(tmp_path / "ward.sqlite3").close()
    for ask in (lambda: _off(ward), ward.switches, lambda: ward.shown_at("k", "a", NOW)):
        with pytest.raises(WardUnavailableError):
            ask()
