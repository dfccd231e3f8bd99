import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_adapters.codes import ICD10CM, LOINC, RXNORM, SNOMED, Code, keys
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId

Make = Callable[..., dict[str, Any]]
Build = Callable[..., PatientRecord]
Bytes = Callable[[str], bytes]
GLUCOSE = keys(Code(LOINC, "2345-7"))
SUBJECT = {"reference": "Patient/p"}


def reasons(record: PatientRecord) -> list[Reason]:
    return [aside.reason for aside in (*record.set_aside, *record.read_observations(GLUCOSE).set_aside)]


@pytest.mark.parametrize(
    ("status", "reason"), [("entered-in-error", Reason.ENTERED_IN_ERROR), ("cancelled", Reason.CANCELLED)]
)
def test_record_drops_and_counts_withdrawn_observations(
    status: str, reason: Reason, observation: Make, record: Build
) -> None:
    built = record(observation(status=status))
    assert built.observations(GLUCOSE) == ()
    assert reasons(built) == [reason]


def test_record_keeps_a_preliminary_result_and_flags_it(observation: Make, record: Build) -> None:
    (value,) = record(observation(status="preliminary")).observations(GLUCOSE)
    assert value.preliminary
    assert value.value == 100.0


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_record_final_result_supersedes_the_preliminary(status: str, observation: Make, record: Build) -> None:
    early = observation(status="preliminary", valueQuantity={"value": 90, "unit": "mg/dL"})
    built = record(early, observation(id="o2", status=status))
    assert [v.value for v in built.observations(GLUCOSE)] == [100.0]
    assert reasons(built) == [Reason.SUPERSEDED]


def test_record_corrected_result_supersedes_the_final(observation: Make, record: Build) -> None:
    corrected = observation(id="o2", status="corrected", valueQuantity={"value": 120, "unit": "mg/dL"})
    assert [v.value for v in record(corrected, observation()).observations(GLUCOSE)] == [120.0]


def test_record_preliminary_of_another_time_is_not_superseded(observation: Make, record: Build) -> None:
    early = observation(id="o2", status="preliminary", effectiveDateTime="2026-05-01T07:59:00Z")
    assert len(record(observation(), early).observations(GLUCOSE)) == 2


def test_record_counts_one_resource_sent_twice_once(observation: Make) -> None:
    document = json.dumps(observation()).encode()
    built = build_record(PatientId("p"), [document, document])
    assert len(built.observations(GLUCOSE)) == 1
    assert reasons(built) == [Reason.DUPLICATE]


def test_record_counts_equal_values_of_one_time_once(observation: Make, record: Build) -> None:
    same = observation(id="o2", valueQuantity={"value": 100.0, "unit": "mg/dl"})
    assert len(record(observation(), same).observations(GLUCOSE)) == 1


def test_record_keeps_different_values_of_one_time_last_issued_last(observation: Make, record: Build) -> None:
    late = observation(id="o2", issued="2026-05-01T10:00:00Z", valueQuantity={"value": 111, "unit": "mg/dL"})
    early = observation(id="o3", issued="2026-05-01T09:00:00Z")
    assert [v.value for v in record(late, early).observations(GLUCOSE)] == [100.0, 111.0]


@pytest.mark.parametrize("order", [0, 1])
def test_record_erroneous_version_of_a_resource_wins(order: int, observation: Make, record: Build) -> None:
    versions = [observation(), observation(status="entered-in-error")]
    built = record(versions[order], versions[1 - order])
    assert built.observations(GLUCOSE) == ()
    assert reasons(built) == [Reason.DUPLICATE, Reason.ENTERED_IN_ERROR]


def test_record_same_id_of_two_types_is_two_resources(observation: Make, record: Build) -> None:
    built = record(observation(id="1"), {"resourceType": "Condition", "id": "1", "subject": SUBJECT})
    assert built.observation_count == len(built.conditions) == 1


def test_record_loinc_is_never_matched_by_prefix_nor_without_system(observation: Make, record: Build) -> None:
    longer = observation(code={"coding": [{"system": LOINC, "code": "2345-70"}]})
    bare = observation(id="o2", code={"coding": [{"code": "2345-7"}]})
    local = observation(id="o3", code={"coding": [{"system": "urn:lab", "code": "2345-7"}]})
    assert record(longer, bare, local).observations(GLUCOSE) == ()


def test_record_reads_a_system_named_by_oid(observation: Make, record: Build) -> None:
    by_oid = observation(code={"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "2345-7"}]})
    assert len(record(by_oid).observations(GLUCOSE)) == 1


def test_record_observation_with_two_asked_codes_counts_once(observation: Make, record: Build) -> None:
    both = observation(code={"coding": [{"system": LOINC, "code": "2345-7"}, {"system": LOINC, "code": "2339-0"}]})
    assert len(record(both).observations(GLUCOSE | keys(Code(LOINC, "2339-0")))) == 1


def test_record_sorts_newest_last_whatever_the_order_sent(observation: Make, record: Build) -> None:
    days = ["2026-05-03", "2026-05-01T08:00:00-05:00", "2026-05-02T00:00:00Z"]
    built = record(*(observation(id=str(i), effectiveDateTime=day) for i, day in enumerate(days)))
    assert [v.source for v in built.observations(GLUCOSE)] == ["Observation/1", "Observation/2", "Observation/0"]


def test_record_components_carry_the_panels_time_and_source(fixture_bytes: Bytes) -> None:
    built = build_record(PatientId("example"), [fixture_bytes("us-core/blood-pressure.json")])
    (systolic,) = built.observations(keys(Code(LOINC, "8480-6")))
    (diastolic,) = built.observations(keys(Code(LOINC, "8462-4")))
    assert (systolic.value, diastolic.value, systolic.source) == (109.0, 44.0, "Observation/blood-pressure")
    assert systolic.observed_at == diastolic.observed_at


def test_record_component_without_value_keeps_its_reason(fixture_bytes: Bytes) -> None:
    built = build_record(PatientId("example"), [fixture_bytes("us-core/bp-data-absent.json")])
    (diastolic,) = built.observations(keys(Code(LOINC, "8462-4")))
    assert (diastolic.value, diastolic.absent_reason) == (None, "unknown")


def test_record_reads_smoking_status_answers(fixture_bytes: Bytes) -> None:
    built = build_record(PatientId("example"), [fixture_bytes("us-core/some-day-smoker.json")])
    (value,) = built.observations(keys(Code(LOINC, "72166-2")))
    assert value.answers == (Code(SNOMED, "428041000124106"),)
    assert (value.text, value.timing) == ("Current some day smoker", "period")
    assert value.observed_at == datetime(2016, 3, 18, 5, 27, 4, tzinfo=UTC)


def test_record_reads_a_synthea_transaction_bundle(fixture_bytes: Bytes) -> None:
    patient_id = PatientId("6d23a95e-7e18-4201-90ec-9501fa89fbd2")
    built = build_record(patient_id, [fixture_bytes("synthea/alfreda_wyman.json")])
    assert built.patient is not None
    assert (built.patient.sex, built.patient.age(datetime(2020, 12, 1, tzinfo=UTC))) == ("female", 40)
    assert (built.observation_count, len(built.conditions), len(built.encounters), len(built.medications)) == (
        79,
        3,
        8,
        2,
    )
    assert built.set_aside == ()
    assert [round(v.value or 0, 1) for v in built.observations(keys(Code(LOINC, "4548-4")))] == [6.1, 5.9]
    assert len(built.observations(keys(Code(LOINC, "8480-6")))) == 5


def test_record_takes_no_synthea_neighbours_data(fixture_bytes: Bytes) -> None:
    both = [fixture_bytes("synthea/alfreda_wyman.json"), fixture_bytes("synthea/liz_conn.json")]
    built = build_record(PatientId("ee9f8dd8-72d2-4769-8020-89e504b1504b"), both)
    assert built.observation_count == 36
    assert {aside.reason for aside in built.set_aside} == {Reason.OTHER_PATIENT}
    assert len(built.set_aside) == 79 + 3 + 8 + 2 + 1


@pytest.mark.parametrize(
    ("verification", "reason"), [("refuted", Reason.REFUTED), ("entered-in-error", Reason.ENTERED_IN_ERROR)]
)
def test_record_ignores_refuted_and_erroneous_conditions(verification: str, reason: Reason, record: Build) -> None:
    condition = {
        "resourceType": "Condition",
        "subject": SUBJECT,
        "verificationStatus": {"coding": [{"code": verification}]},
    }
    built = record(condition)
    assert built.conditions == ()
    assert reasons(built) == [reason]


def test_record_condition_statuses_and_categories(record: Build) -> None:
    built = record(
        {
            "resourceType": "Condition",
            "subject": SUBJECT,
            "clinicalStatus": {"coding": [{"code": "resolved"}]},
            "code": {"coding": [{"system": ICD10CM, "code": "I21.4", "display": "NSTEMI"}]},
            "onsetDateTime": "2020-03",
        },
        {"resourceType": "Condition", "subject": SUBJECT, "clinicalStatus": "active", "code": {"text": "Gout"}},
        {"resourceType": "Condition", "subject": SUBJECT, "abatementDateTime": "2021"},
        {"resourceType": "Condition", "subject": SUBJECT},
    )
    first = built.conditions[0]
    assert first.has_any((Code(ICD10CM, "I21"),))
    assert not first.has_any((Code(ICD10CM, "I22"), Code(SNOMED, "I21.4")))
    assert first.text == "NSTEMI"
    assert [condition.is_active for condition in built.conditions] == [False, True, False, True]


def test_record_resolves_contained_medication(fixture_bytes: Bytes) -> None:
    built = build_record(PatientId("example"), [fixture_bytes("us-core/medicationrequest-contained-oral-axid.json")])
    (entry,) = built.medications
    assert entry.codes
    assert entry.text


@pytest.mark.parametrize("reference", ["Medication/m", "urn:uuid:1", "#m"])
def test_record_resolves_medication_references(reference: str, record: Build) -> None:
    drug = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"system": RXNORM, "code": "855332"}]}}
    order = {
        "resourceType": "MedicationRequest",
        "id": "r",
        "subject": SUBJECT,
        "status": "active",
        "intent": "order",
        "medicationReference": {"reference": reference},
        "contained": [{"resourceType": "Organization", "id": "m"}, drug],
    }
    (entry,) = record(order, drug).medications
    assert entry.has_any((Code(RXNORM, "855332"),))
    assert (entry.text, entry.is_current) == ("855332", True)


@pytest.mark.parametrize(
    ("changes", "current"),
    [
        ({"status": "active"}, True),
        ({"status": "stopped"}, False),
        ({"status": "active", "intent": "proposal"}, False),
        ({"status": "active", "doNotPerform": True}, False),
        ({"resourceType": "MedicationStatement", "status": "active"}, True),
        ({"resourceType": "MedicationStatement", "status": "not-taken"}, False),
        ({"resourceType": "MedicationAdministration", "status": "completed"}, True),
        ({"resourceType": "MedicationAdministration", "status": "not-done"}, False),
    ],
)
def test_record_current_medication(changes: dict[str, object], current: bool, record: Build) -> None:
    use = {"resourceType": "MedicationRequest", "subject": SUBJECT, "medicationCodeableConcept": {"text": "warfarin"}}
    (entry,) = record({**use, **changes}).medications
    assert entry.is_current is current


def test_record_cancelled_encounter_is_dropped(record: Build) -> None:
    assert record({"resourceType": "Encounter", "status": "cancelled", "subject": SUBJECT}).encounters == ()


def test_record_reads_an_inpatient_encounter(fixture_bytes: Bytes) -> None:
    built = build_record(PatientId("example"), [fixture_bytes("us-core/encounter-1036.json")])
    (encounter,) = built.encounters
    assert encounter.class_code is not None
    assert (encounter.class_code.code, encounter.status, encounter.start) == ("IMP", "in-progress", None)
    assert "Holy Family Hospital" in encounter.words


@pytest.mark.parametrize(
    "class_", [{"code": "IMP"}, "IMP", [{"coding": [{"system": "http://hl7.org/fhir/v3/ActCode", "code": "IMP"}]}]]
)
def test_record_encounter_place_comes_from_its_location_resource(class_: object, record: Build) -> None:
    place = {"resourceType": "Location", "id": "icu", "name": "Medical Intensive Care Unit"}
    stay = {
        "resourceType": "Encounter",
        "id": "e",
        "status": "in-progress",
        "class": class_,
        "subject": SUBJECT,
        "period": {"start": "2026-05-01T08:00:00+02:00"},
        "location": [{"location": {"reference": "Location/icu"}, "period": {"start": "2026-05-01T09:00:00+02:00"}}],
    }
    (encounter,) = record(place, stay).encounters
    assert encounter.class_code == Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "IMP")
    assert "Intensive Care" in encounter.words
    assert encounter.covers(datetime(2026, 5, 2, tzinfo=UTC))
    assert not encounter.covers(datetime(2026, 5, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("member", "deceased"),
    [
        ({}, False),
        ({"deceasedBoolean": True}, True),
        ({"deceasedBoolean": False}, False),
        ({"deceasedDateTime": "then"}, True),
    ],
)
def test_record_deceased_patients(member: dict[str, object], deceased: bool, record: Build) -> None:
    patient = record({"resourceType": "Patient", "id": "p", **member}).patient
    assert patient is not None
    assert patient.deceased is deceased


def test_record_deceased_date(fixture_bytes: Bytes) -> None:
    patient = build_record(
        PatientId("deceased-example"), [fixture_bytes("us-core/patient-deceased-example.json")]
    ).patient
    assert patient is not None
    assert patient.deceased_at is not None
    assert patient.deceased_at.start == datetime(2022, 7, 22, tzinfo=UTC)


def test_record_partial_birth_date_leaves_the_age_open(record: Build) -> None:
    patient = record({"resourceType": "Patient", "id": "p", "birthDate": "1960", "gender": "unknown"}).patient
    assert patient is not None
    assert (patient.age(datetime(2026, 6, 1, tzinfo=UTC)), patient.sex) == (None, None)
    assert patient.age_bounds(datetime(2026, 6, 1, tzinfo=UTC)) == (65, 66)


def test_record_of_a_patient_sent_twice_keeps_a_death_and_doubts_what_disagrees() -> None:
    alive = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1970-01-01"}
    dead = {**alive, "gender": "male", "deceasedBoolean": True}
    for pair in ((alive, dead), (dead, alive)):
        found = build_record(PatientId("p"), [json.dumps(item).encode() for item in pair])
        assert found.patient is not None
        assert (found.patient.deceased, found.patient.sex) == (True, None)
        assert found.patient.birth is not None
        assert [item.reason for item in found.set_aside] == [Reason.CONTRADICTORY]
    assert not build_record(PatientId("p"), [json.dumps(alive).encode()] * 2).set_aside
