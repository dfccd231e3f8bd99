"""Whom a model is for is decided on the record, and what can't be decided counts as not met."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.codes import Code
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.errors import ManifestError
from model_artifacts.manifest import Criterion, ModelManifest, Population, parse_manifest
from model_artifacts.population import current_icu_stay, read_code_list, unmet_criteria

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
FOLDER = Path(__file__).parents[2] / "model_artifacts" / "prevent_cvd"
MANIFEST = parse_manifest((FOLDER / "manifest.toml").read_text(encoding="utf-8"))
SNOMED = "http://snomed.info/sct"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
HSLOC = "https://www.cdc.gov/nhsn/cdaportal/terminology/codesystem/hsloc.html"


def _record(*resources: dict[str, Any], **patient: Any) -> PatientRecord:
    person = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1970-06-15", **patient}
    person = {key: value for key, value in person.items() if value is not None}
    return build_record(PatientId("p"), [json.dumps(item).encode() for item in (person, *resources)])


def _with(*criteria: Criterion) -> ModelManifest:
    return msgspec.structs.replace(MANIFEST, population=Population("adults", criteria))


def _unmet(criterion: Criterion, record: PatientRecord, folder: Path = FOLDER, as_of: datetime = AS_OF) -> bool:
    reasons = unmet_criteria(_with(criterion), folder, record, as_of)
    age = record.patient.age(as_of) if criterion.kind == "age" and record.patient is not None else None
    text = criterion.text if age is None else f"the patient is {age} years old"
    assert all((reason.code, reason.text) == (f"outside-population:{criterion.kind}", text) for reason in reasons)
    return bool(reasons)


@pytest.mark.parametrize(
    ("born", "inside"),
    [
        ("1996-06-01", True),  # 30 today
        ("1996-06-02", False),  # 30 tomorrow
        ("1946-06-02", True),  # 79, 80 tomorrow
        ("1946-06-01", False),  # 80 today
        ("1970-05", True),  # 56 on every day of it
        ("1970-06", False),  # 55 or 56: the age is an input, and unknown
        ("1970", False),
        ("2030-01-01", False),
        (None, False),
        ("unknown", False),
    ],
)
def test_population_age_bounds_are_inclusive_and_an_open_age_is_outside(born: str | None, inside: bool) -> None:
    assert _unmet(Criterion("age", "x", at_least=30, at_most=79), _record(birthDate=born)) is not inside


def test_population_age_may_be_bounded_on_one_side() -> None:
    record = _record(birthDate="1930-01-01")
    assert not _unmet(Criterion("age", "x", at_least=16), record)
    assert _unmet(Criterion("age", "x", at_most=90), record)


def test_population_without_a_patient_resource_says_only_that() -> None:
    record = build_record(PatientId("p"), [])
    reasons = unmet_criteria(MANIFEST, FOLDER, record, AS_OF)
    assert [reason.code for reason in reasons] == ["outside-population:patient-unknown"]
    assert "deceased" not in reasons[0].text


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({"deceasedBoolean": False}, True),
        ({"deceasedBoolean": True}, False),
        ({"deceasedDateTime": "2025-01-01"}, False),
        ({"deceasedDateTime": "some day"}, False),
    ],
)
def test_population_of_the_living(change: dict[str, Any], alive: bool) -> None:
    assert _unmet(Criterion("alive", "x"), _record(**change)) is not alive


@pytest.mark.parametrize(
    ("gender", "met"), [("female", True), ("male", True), ("other", False), ("unknown", False), (None, False)]
)
def test_population_of_a_recorded_sex(gender: str | None, met: bool) -> None:
    assert _unmet(Criterion("sex-recorded", "x"), _record(gender=gender)) is not met


def _condition(system: str, code: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": system, "code": code}]},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        **changes,
    }


KNOWN_CVD = Criterion("no-condition", "cardiovascular disease is known", codes="known_cvd.toml")


@pytest.mark.parametrize(
    ("condition", "outside"),
    [
        (_condition(ICD10CM, "I21.4"), True),
        (_condition(ICD10CM, "I214"), True),
        (_condition(SNOMED, "22298006"), True),
        (_condition(SNOMED, "22298006", clinicalStatus={"coding": [{"code": "resolved"}]}), True),
        (_condition(SNOMED, "22298006", verificationStatus={"coding": [{"code": "refuted"}]}), False),
        (_condition(SNOMED, "22298006", verificationStatus={"coding": [{"code": "entered-in-error"}]}), False),
        (_condition(SNOMED, "22298006", subject={"reference": "Patient/other"}), False),
        (_condition(ICD10CM, "J45"), False),
        (_condition("urn:local", "I21.4"), False),
        (_condition("urn:local", "X1") | {"code": {"text": "Old myocardial infarction, 2014"}}, True),
        (_condition("urn:local", "X1") | {"code": {"coding": [{"code": "X1", "display": "TIA"}]}}, True),
        (_condition("urn:local", "X1") | {"code": {"text": "angioma of the skin"}}, False),
        (
            _condition(ICD10CM, "Z82.49")
            | {"code": {"coding": [{"system": ICD10CM, "code": "Z82.49"}], "text": "Family: stroke"}},
            False,
        ),
    ],
)
def test_population_without_a_diagnosis_counts_history_but_not_what_was_refuted(
    condition: dict[str, Any], outside: bool
) -> None:
    assert _unmet(KNOWN_CVD, _record(condition)) is outside


def _encounter(code: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "e",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code},
        "subject": {"reference": "Patient/p"},
        "period": {"start": "2026-01-01T08:00:00Z"},
        **changes,
    }


@pytest.mark.parametrize(
    ("encounter", "outside"),
    [
        (_encounter("IMP"), True),
        (_encounter("EMER"), True),
        (_encounter("AMB"), False),
        (_encounter("IMP", status="finished"), False),
        (_encounter("IMP", period={"start": "2026-01-01T08:00:00Z", "end": "2026-01-03T08:00:00Z"}), False),
        (_encounter("IMP", subject={"reference": "Patient/other"}), False),
    ],
)
def test_population_of_people_who_are_not_in_hospital(encounter: dict[str, Any], outside: bool) -> None:
    assert _unmet(Criterion("no-hospital-stay", "in hospital"), _record(encounter)) is outside


def test_population_reason_is_silent_where_its_criterion_is() -> None:
    criterion = Criterion("alive", "deceased", silent=True)
    (reason,) = unmet_criteria(_with(criterion), FOLDER, _record(deceasedBoolean=True), AS_OF)
    assert reason.silent


def test_population_reasons_come_in_the_manifests_order() -> None:
    criteria = (KNOWN_CVD, Criterion("alive", "deceased"), Criterion("age", "too old", at_most=20))
    record = _record(_condition(SNOMED, "22298006"), deceasedBoolean=True)
    assert [reason.code for reason in unmet_criteria(_with(*criteria), FOLDER, record, AS_OF)] == [
        f"outside-population:{criterion.kind}" for criterion in criteria
    ]


def test_population_code_list_holds_icd_categories_and_other_codes_alone(tmp_path: Path) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(f'[[codes]]\nsystem = "{ICD10CM}"\ncode = "I21"\n[[codes]]\nsystem = "{SNOMED}"\ncode = "123"\n')
    listed = read_code_list(path)
    held = [Code(ICD10CM, "I21"), Code(ICD10CM, "I21.4"), Code(SNOMED, "123", "whatever")]
    assert all(listed.holds(code) for code in held)
    assert not any(listed.holds(code) for code in (Code(ICD10CM, "I2"), Code(SNOMED, "1234"), Code("urn:local", "I21")))


@pytest.mark.parametrize("text", ["", "codes = [", '[[codes]]\nsystem = "x"\n', "[other]\n"])
def test_population_code_list_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.toml").write_text(text)
    with pytest.raises(ManifestError, match=r"code list broken\.toml"):
        read_code_list(tmp_path / "broken.toml")
    with pytest.raises(ManifestError, match=r"code list absent\.toml"):
        read_code_list(tmp_path / "absent.toml")


def _encounter(hours_ago: float = 50, **changes: Any) -> dict[str, Any]:
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": "e",
        "status": "in-progress",
        "class": {"code": "IMP"},
        "subject": {"reference": "Patient/p"},
        "period": {"start": _at(hours_ago)},
        **changes,
    }
    return {key: value for key, value in encounter.items() if value is not None}


def _at(hours_ago: float) -> str:
    return (AS_OF - timedelta(hours=hours_ago)).isoformat()


def _place(name: str, **period: str) -> dict[str, Any]:
    return {"location": {"display": name}, **({"period": period} if period else {})}


def _starts(*encounters: dict[str, Any]) -> float | None:
    stay = current_icu_stay(_record(*encounters), AS_OF)
    return None if stay is None else (AS_OF - stay.start) / timedelta(hours=1)


@pytest.mark.parametrize(
    "words",
    [
        {"type": [{"text": "Medical intensive care unit"}]},
        {"type": [{"coding": [{"system": HSLOC, "code": "1027-2", "display": "Medical Critical Care"}]}]},
        {"serviceType": {"coding": [{"system": "urn:local", "code": "7", "display": "SICU"}]}},
        {"serviceType": {"text": "Coronary care"}},
        {"class": {"system": "urn:local", "code": "x", "display": "ICU stay"}},
        {"location": [_place("Surgical ICU, bed 4")]},
    ],
)
def test_population_finds_an_icu_stay_by_class_type_service_or_location(words: dict[str, Any]) -> None:
    assert _starts(_encounter(**words)) == 50


@pytest.mark.parametrize(
    "name", ["NICU", "PICU", "Neonatal intensive care", "Paediatric ICU", "Pediatric critical care"]
)
def test_population_counts_no_neonatal_or_paediatric_unit(name: str) -> None:
    assert _starts(_encounter(location=[_place(name)])) is None
    assert _starts(_encounter(type=[{"text": name}])) is None


@pytest.mark.parametrize("name", ["Ward 4", "Difficult airway clinic", "Medicus", "", "Stroke unit"])
def test_population_counts_no_other_ward(name: str) -> None:
    assert _starts(_encounter(location=[_place(name)])) is None


def test_population_icu_stay_begins_when_the_location_was_entered() -> None:
    moved = [_place("Emergency", start=_at(80), end=_at(60)), _place("MICU", start=_at(60))]
    assert _starts(_encounter(hours_ago=80, location=moved)) == 60


def test_population_icu_stay_ends_when_the_location_was_left() -> None:
    moved = [_place("MICU", start=_at(80), end=_at(10)), _place("Ward 4", start=_at(10))]
    assert _starts(_encounter(hours_ago=80, location=moved)) is None


def test_population_icu_stay_to_come_does_not_count() -> None:
    assert _starts(_encounter(hours_ago=80, location=[_place("MICU", start=_at(-2))])) is None
    assert _starts(_encounter(hours_ago=-1, type=[{"text": "ICU"}])) is None


@pytest.mark.parametrize(("left", "began"), [(20, 60), (20.5, 60), (25, 20)])
def test_population_icu_stay_goes_on_from_unit_to_unit_but_not_over_a_ward(left: float, began: float) -> None:
    moved = [_place("MICU", start=_at(60), end=_at(left)), _place("SICU", start=_at(20))]
    assert _starts(_encounter(hours_ago=80, location=moved)) == began
    assert _starts(_encounter(hours_ago=80, location=moved[::-1])) == began


def test_population_icu_location_without_an_end_lasts_on() -> None:
    assert _starts(_encounter(hours_ago=80, location=[_place("MICU", start=_at(60))])) == 60


def test_population_suspected_diagnosis_of_tomorrow_does_not_count() -> None:
    later = (AS_OF + timedelta(days=1)).isoformat()
    assert not _unmet(KNOWN_CVD, _record(_condition(SNOMED, "22298006", onsetDateTime=later)))


@pytest.mark.parametrize(
    ("change", "outside"),
    [
        ({}, True),
        ({"onsetDateTime": "2026-01-10"}, True),
        ({"onsetDateTime": "2025-06-01"}, False),  # a year ago: it has ended, though nobody wrote that
        ({"recordedDate": "2025-06-01"}, False),
        ({"onsetDateTime": "2025"}, True),  # it may have begun in December
        ({"clinicalStatus": {"coding": [{"code": "resolved"}]}}, False),
        ({"onsetDateTime": "2026-01-10", "abatementDateTime": "2026-03-01"}, False),
        ({"code": {"text": "Pregnant, 12 weeks"}}, True),
        ({"code": {"coding": [{"system": ICD10CM, "code": "O80"}]}}, False),  # the delivery
    ],
)
def test_population_without_a_current_condition(change: dict[str, Any], outside: bool) -> None:
    criterion = Criterion("no-current-condition", "a pregnancy is recorded", codes="pregnancy.toml", at_most=310)
    condition = {
        "resourceType": "Condition",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": ICD10CM, "code": "O09.90"}]},
    }
    folder = FOLDER.parent / "warfarin_dose"
    assert _unmet(criterion, _record(condition | change), folder) is outside


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({"status": "in-progress"}, True),
        ({"status": "onleave"}, True),
        ({"status": None}, True),
        ({"status": "planned"}, False),
        ({"status": "finished"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "entered-in-error"}, False),
        ({"period": {"start": _at(50), "end": _at(1)}}, False),
        ({"period": {"start": _at(50), "end": _at(-1)}}, True),
        ({"period": None}, False),
    ],
)
def test_population_counts_only_a_stay_going_on(changes: dict[str, Any], there: bool) -> None:
    assert (_starts(_encounter(type=[{"text": "ICU"}], **changes)) is not None) is there


def test_population_takes_the_latest_of_two_stays() -> None:
    first = _encounter(hours_ago=70, type=[{"text": "ICU"}])
    second = _encounter(hours_ago=30, type=[{"text": "ICU"}], id="e2")
    assert _starts(first, second) == _starts(second, first) == 30


@given(st.floats(0, 200).map(lambda hours: round(hours, 2)))
def test_population_of_an_icu_stay_bounds_its_length(hours: float) -> None:
    criterion = Criterion("icu-stay", "x", at_least=48, at_most=72)
    stay = _record(_encounter(hours_ago=hours, type=[{"text": "ICU"}]))
    assert _unmet(criterion, stay) is not (
        48 <= (AS_OF - datetime.fromisoformat(_at(hours))) / timedelta(hours=1) <= 72
    )


def _drafted(name: str, *, selected: bool = True) -> PatientRecord:
    order = {
        "resourceType": "MedicationRequest",
        "id": "d",
        "status": "draft",
        "medicationCodeableConcept": {"text": name},
    }
    person = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1970-06-15"}
    documents, drafts = [json.dumps(person).encode()], [(json.dumps(order).encode(), selected)]
    return build_record(PatientId("p"), documents, drafts=drafts)


@pytest.mark.parametrize(
    ("record", "inside"),
    [
        (_drafted("Warfarin 5 mg"), True),
        (_drafted("Warfarin 5 mg", selected=False), False),
        (_drafted("Apixaban 5 mg"), False),
        (_record(), False),
    ],
)
def test_population_of_a_drafted_drug_are_those_for_whom_it_is_selected(record: PatientRecord, inside: bool) -> None:
    criterion = Criterion("drafted-drug", "no such order", codes="warfarin.toml")
    assert _unmet(criterion, record, FOLDER.parent / "warfarin_dose") == (not inside)
