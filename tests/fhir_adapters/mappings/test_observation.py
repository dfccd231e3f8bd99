from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_adapters.codes import LOINC, SNOMED, Code, keys
from fhir_adapters.mappings.observation import ObservedValue
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord

GLUCOSE = keys(Code(LOINC, "2345-7"))


@pytest.fixture
def read(
    observation: Callable[..., dict[str, Any]], record: Callable[..., PatientRecord]
) -> Callable[..., ObservedValue]:
    """The one value of the glucose Observation with these changes."""

    def make(**changes: object) -> ObservedValue:
        (value,) = record(observation(**changes)).observations(GLUCOSE)
        return value

    return make


Read = Callable[..., ObservedValue]


def test_observation_quantity_with_comparator_keeps_it(read: Read) -> None:
    value = read(valueQuantity={"value": 0.02, "comparator": "<", "unit": "ng/mL"})
    assert (value.value, value.comparator, value.unit) == (0.02, "<", "ng/mL")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<0.02", (0.02, "<", None, "<0.02")),
        (">= 90 mL/min", (90.0, ">=", "mL/min", ">= 90 mL/min")),
        ("6.3 mg/dL", (6.3, None, "mg/dL", "6.3 mg/dL")),
        ("0", (0.0, None, None, "0")),
        ("2+ protein", (None, None, None, "2+ protein")),
        ("10 days ago", (None, None, None, "10 days ago")),
        ("1,5", (None, None, None, "1,5")),
        ("POSITIVE BY EIA.  ", (None, None, None, "POSITIVE BY EIA.  ")),
        ("", (None, None, None, "")),
    ],
)
def test_observation_string_that_spells_a_number(text: str, expected: tuple[object, ...], read: Read) -> None:
    value = read(valueQuantity=None, valueString=text)
    assert (value.value, value.comparator, value.unit, value.text) == expected


def test_observation_integer_and_boolean(read: Read) -> None:
    assert read(valueQuantity=None, valueInteger=15).value == 15.0
    assert read(valueQuantity=None, valueBoolean=True).text == "true"


def test_observation_coded_answer(read: Read) -> None:
    coding = {"system": SNOMED, "code": "266919005", "display": "Never smoker"}
    value = read(valueQuantity=None, valueCodeableConcept={"coding": [coding]})
    assert value.answers == (Code(SNOMED, "266919005"),)
    assert value.text == "Never smoker"


def test_observation_absent_data_has_no_value_but_a_reason(read: Read) -> None:
    value = read(dataAbsentReason={"coding": [{"code": "not-performed"}]})
    assert (value.value, value.absent_reason) == (None, "not-performed")
    assert read(valueQuantity=None, dataAbsentReason={"text": "lost"}).absent_reason == "unknown"


@pytest.mark.parametrize(
    ("quantity", "unit", "label"),
    [
        ({"unit": "mg/dL"}, "mg/dL", None),
        ({"unit": "mmHg", "code": "mm[Hg]", "system": "http://unitsofmeasure.org"}, "mm[Hg]", "mmHg"),
        ({"unit": "mmHg", "code": "mm[Hg]"}, "mm[Hg]", "mmHg"),
        ({"unit": "mg/dL", "code": "258797006", "system": SNOMED}, "mg/dL", None),
        ({"unit": "K/uL", "code": "K/uL", "system": "urn:local"}, "K/uL", None),
        ({"code": "nonsense", "unit": "mg/dL", "system": "http://unitsofmeasure.org"}, "nonsense", "mg/dL"),
        ({}, None, None),
    ],
)
def test_observation_unit_is_the_ucum_code_else_the_words(
    quantity: dict[str, str], unit: str | None, label: str | None, read: Read
) -> None:
    value = read(valueQuantity={"value": 1, **quantity})
    assert (value.unit, value.unit_label) == (unit, label)


@pytest.mark.parametrize(
    ("changes", "observed_at", "timing"),
    [
        ({"effectiveDateTime": "2026-05-01T08:00:00-04:00"}, datetime(2026, 5, 1, 12, tzinfo=UTC), "effective"),
        (
            {"effectiveDateTime": None, "effectiveInstant": "2026-05-01T08:00:00Z"},
            datetime(2026, 5, 1, 8, tzinfo=UTC),
            "effective",
        ),
        ({"effectiveDateTime": "2026-05-01"}, datetime(2026, 5, 1, tzinfo=UTC), "effective"),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-05-01", "end": "2026-05-02T08:00:00Z"}},
            datetime(2026, 5, 2, 8, tzinfo=UTC),
            "period",
        ),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-05-01"}},
            datetime(2026, 5, 1, tzinfo=UTC),
            "period",
        ),
        ({"effectiveDateTime": None, "issued": "2026-05-01T09:00:00Z"}, datetime(2026, 5, 1, 9, tzinfo=UTC), "issued"),
    ],
)
def test_observation_time(changes: dict[str, object], observed_at: datetime, timing: str, read: Read) -> None:
    value = read(**changes)
    assert (value.observed_at, value.timing) == (observed_at, timing)


def test_observation_date_without_time_is_an_interval(read: Read) -> None:
    value = read(effectiveDateTime="2026-05")
    assert (value.earliest, value.latest) == (
        datetime(2026, 5, 1, tzinfo=UTC),
        datetime(2026, 5, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"effectiveDateTime": None},
        {"effectiveDateTime": "2026-05-01T08:00:00", "issued": "2026-05-01T09:00:00Z"},
        {"effectiveDateTime": None, "effectivePeriod": {}},
    ],
)
def test_observation_without_a_known_time_is_set_aside(
    changes: dict[str, object], observation: Callable[..., dict[str, Any]], record: Callable[..., PatientRecord]
) -> None:
    reading = record(observation(**changes)).read_observations(GLUCOSE)
    assert reading.values == ()
    assert [(a.reference, a.reason) for a in reading.set_aside] == [("Observation/o1", Reason.NO_TIME)]


@pytest.mark.parametrize(
    "value",
    [{"valueInteger": 10**400}, {"valueInteger": 2**31}, {"valueQuantity": {"value": 10**400}}, {"valueInteger": 1.5}],
)
def test_observation_number_beyond_fhir_is_set_aside(
    value: dict[str, object], observation: Callable[..., dict[str, Any]], record: Callable[..., PatientRecord]
) -> None:
    built = record(observation(**{"valueQuantity": None, **value}))
    assert built.observations(GLUCOSE) == ()
    assert [a.reason for a in built.set_aside] == [Reason.UNREADABLE]
