"""A table says what is read: searches, features and the person, and refuses what it doesn't know."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.errors import ManifestError
from model_artifacts.feature_table import read_feature_table
from model_artifacts.input_description import describe_inputs, sensitive_inputs

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
TABLE = """
person = ["male", "age"]
resources = ["Encounter"]
[[feature]]
name = "lactate"
label = "lactate, highest of a day"
loinc = ["2524-7", "32693-4"]
unit = "mmol/L"
analyte = "lactate"
low = 0.1
high = 40
oldest_h = 24
statistic = "max"
search = "gases"
results = 10
[[feature]]
name = "sodium"
label = "sodium"
loinc = ["2951-2"]
unit = "mmol/L"
oldest_h = 48
search = "gases"
"""


def _write(folder: Path, text: str = TABLE) -> Path:
    path = folder / "features.toml"
    path.write_text(text)
    return path


def _observation(number: int, code: str, value: float, unit: str, hours: float) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": (AS_OF - timedelta(hours=hours)).isoformat(),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def _record(*resources: dict[str, Any]) -> PatientRecord:
    return build_record(PatientId("p"), [json.dumps(resource).encode() for resource in resources])


def test_feature_table_asks_for_what_it_lists(tmp_path: Path) -> None:
    queries = {query.name: query for query in read_feature_table(_write(tmp_path)).queries()}
    assert queries.keys() == {"patient", "current_encounters", "gases"}
    assert queries["patient"].required
    assert queries["current_encounters"].required
    gases = queries["gases"]
    assert [code.code for code in gases.codes] == ["2524-7", "32693-4", "2951-2"]
    assert (gases.lookback, gases.count) == (timedelta(hours=48), 15)


def test_feature_table_reads_features_then_the_person(tmp_path: Path) -> None:
    record = _record(
        {"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1960-01-01"},
        _observation(1, "2524-7", 36.0, "mg/dL", 3),
        _observation(2, "2524-7", 2.0, "mmol/L", 1),
        _observation(3, "2951-2", 141, "mmol/L", 40),
    )
    inputs = read_feature_table(_write(tmp_path)).extract(record, AS_OF)
    assert [item.name for item in inputs.evidence] == ["lactate", "sodium", "male", "age"]
    assert inputs.arrays["features"].tolist() == [pytest.approx([3.996, 141, 1, 66], abs=0.01)]
    assert inputs.evidence[0].source == "Observation/o1"
    assert inputs.evidence[3].source == "Patient/p"


def test_feature_table_tells_what_is_missing(tmp_path: Path) -> None:
    record = _record({"resourceType": "Patient", "id": "p"}, _observation(1, "2524-7", 2.0, "mmol/L", 30))
    evidence = read_feature_table(_write(tmp_path)).extract(record, AS_OF).evidence
    assert [item.absence for item in evidence] == ["stale", "missing", "missing", "missing"]


def test_feature_table_is_described_by_what_it_says(tmp_path: Path) -> None:
    spec = read_feature_table(_write(tmp_path))
    lactate, _, male, _ = describe_inputs(spec)
    assert (lactate.codes, lactate.plausible, lactate.oldest) == ("2524-7, 32693-4", "0.1 to 40", timedelta(hours=24))
    assert male.codes == ""
    assert sensitive_inputs(spec)["sex"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('unit = "mmol/L"\noldest_h', 'unit = "furlong"\noldest_h', "unit"),
        ('analyte = "lactate"', 'analyte = "milk"', "unit"),
        ('search = "gases"', 'serach = "gases"', "serach"),
        ('statistic = "max"', 'statistic = "mode"', "statistic"),
        ('person = ["male", "age"]', 'person = ["shoe-size"]', "person"),
        ('name = "sodium"', 'name = "lactate"', "names must differ"),
        ('name = "sodium"', 'name = "age"', "names must differ"),
        ("[[feature]]", "[[feature", "features.toml"),
    ],
)
def test_feature_table_refuses_what_it_does_not_know(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        read_feature_table(_write(tmp_path, TABLE.replace(old, new)))


def test_feature_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"feature table features.toml of "):
        read_feature_table(tmp_path / "features.toml")
