import json
from typing import Any

import pytest

from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"


def _race(*extension: Any) -> tuple[str, ...] | None:
    person = {"resourceType": "Patient", "id": "p", "extension": list(extension)}
    patient = build_record(PatientId("p"), [json.dumps(person).encode()]).patient
    assert patient is not None
    return patient.race


def _category(code: str) -> dict[str, Any]:
    return {"url": "ombCategory", "valueCoding": {"code": code}}


@pytest.mark.parametrize(
    ("parts", "race"),
    [
        ([_category("2054-5")], ("2054-5",)),
        ([_category("2106-3"), _category("2028-9")], ("2028-9", "2106-3")),
        ([{"url": "text", "valueString": "of the islands"}], ()),
        ([_category("UNK")], None),
    ],
)
def test_patient_race_is_the_recorded_categories(parts: list[Any], race: tuple[str, ...] | None) -> None:
    assert _race({"url": RACE, "extension": parts}) == race


@pytest.mark.parametrize("extension", [(), ({"url": "https://example.org/other"},), ("no extension",), ({"url": 5},)])
def test_patient_race_is_unknown_where_nothing_readable_says_it(extension: tuple[Any, ...]) -> None:
    assert _race(*extension) is None
