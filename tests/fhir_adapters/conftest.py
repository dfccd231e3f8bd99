"""Small FHIR resources to vary, as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId

FIXTURES = Path(__file__).parents[1] / "fixtures"
AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
GLUCOSE = "2345-7"

Resource = dict[str, Any]


@pytest.fixture
def as_of() -> datetime:
    return AS_OF


@pytest.fixture
def fixture_bytes() -> Callable[[str], bytes]:
    return lambda name: (FIXTURES / name).read_bytes()


@pytest.fixture
def observation() -> Callable[..., Resource]:
    """A final glucose of 100 mg/dL of patient p on 2026-05-01; a keyword None removes a member."""

    def make(**changes: object) -> Resource:
        resource: Resource = {
            "resourceType": "Observation",
            "id": "o1",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": GLUCOSE}]},
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": "2026-05-01T08:00:00Z",
            "valueQuantity": {"value": 100, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"},
            **changes,
        }
        return {name: value for name, value in resource.items() if value is not None}

    return make


@pytest.fixture
def record() -> Callable[..., PatientRecord]:
    """The record of patient p from resources sent as one searchset."""

    def make(*resources: Resource) -> PatientRecord:
        entries = [{"resource": resource, "fullUrl": f"urn:uuid:{i}"} for i, resource in enumerate(resources)]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return build_record(PatientId("p"), [json.dumps(bundle).encode()])

    return make
