from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.bundles import strings
from demo.errors import BundleError
from demo.instants import age_in_years, parse_span
from demo.store import PATIENTS_FOLDER, load_store


def test_store_loads_every_bundle_of_the_folder(charts_folder: Path, now: datetime) -> None:
    store = load_store(charts_folder, now)
    assert [chart.patient_id for chart in store.charts] == ["p1", "icu"]
    assert store.read("Observation", "o3-2093-3") is not None
    assert store.read("Observation", "nothing") is None


def test_store_knows_the_encounter_in_progress(charts_folder: Path, now: datetime) -> None:
    outpatient, stay = load_store(charts_folder, now).charts
    assert outpatient.current_encounter_id is None
    assert stay.current_encounter_id == "stay"


def test_store_refuses_a_bundle_without_an_index_entry(charts_folder: Path, now: datetime) -> None:
    (charts_folder / "other.json").write_text("{}")
    with pytest.raises(BundleError, match=r"other\.json: expected an entry in index\.json"):
        load_store(charts_folder, now)


def test_store_refuses_the_same_patient_twice(charts_folder: Path, now: datetime) -> None:
    (charts_folder / "icu-2.json").write_bytes((charts_folder / "icu-1.json").read_bytes())
    with pytest.raises(BundleError, match="Patient id used twice"):
        load_store(charts_folder, now)


def test_store_refuses_an_unknown_shift(charts_folder: Path, now: datetime) -> None:
    index = {"bundles": [{"files": "*", "shift": "sideways", "note": ""}]}
    (charts_folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match=r"index\.json"):
        load_store(charts_folder, now)


def test_store_bundled_outpatients_are_complete_and_of_the_present() -> None:
    now = datetime(2031, 3, 1, 9, 30, tzinfo=UTC)
    charts = [chart for chart in load_store(PATIENTS_FOLDER, now).charts if chart.current_encounter_id is None]
    ages = [age_in_years(chart.patient["birthDate"], now) for chart in charts]
    assert ages == [38, 63, 69, 50, 74, 69, 41, 47, 28]
    for chart in charts:
        dates = [parse_span(text).low for key, text in strings(chart.resources) if key.endswith(("DateTime", "end"))]
        assert now - timedelta(hours=34) <= max(dates) < now
        assert "urn:uuid:" not in json.dumps(chart.resources)


def test_store_bundled_patients_weigh_little() -> None:
    assert sum(path.stat().st_size for path in PATIENTS_FOLDER.iterdir()) < 3_000_000
