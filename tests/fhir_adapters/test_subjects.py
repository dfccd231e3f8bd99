import json
from collections.abc import Callable
from typing import Any

import pytest

from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId, Reference
from fhir_adapters.subjects import Subjects

Make = Callable[..., dict[str, Any]]


def refusal(reference: str | None, base_url: str | None = None) -> Reason | None:
    patients = [("urn:uuid:1111", "p"), ("urn:uuid:2222", "q"), ("https://ehr/fhir/Patient/p", "p")]
    return Subjects(PatientId("p"), patients, base_url).refusal(Reference(reference=reference) if reference else None)


@pytest.mark.parametrize(
    "reference",
    [
        *("Patient/p", "Patient/p/_history/3", "https://ehr/fhir/Patient/p", "https://other/fhir/Patient/p/_history/1"),
        *("urn:uuid:1111", "urn:uuid:p"),
    ],
)
def test_subjects_accepts_every_form_of_the_patient(reference: str) -> None:
    assert refusal(reference) is None


@pytest.mark.parametrize(
    "reference",
    [
        *("Patient/q", "Patient/pp", "patient/p", "Group/p", "p", "#p", "urn:uuid:2222", "urn:uuid:3333"),
        *("xPatient/p", "https://ehr/fhir/Patient/q", "https://ehr/fhir?x=/Patient/p", "https://ehr/fhir#/Patient/p"),
        *("ftp://ehr/Patient/p", "//ehr/Patient/p", "https://[::1/Patient/p"),
    ],
)
def test_subjects_refuses_what_may_be_somebody_else(reference: str) -> None:
    assert refusal(reference) is Reason.OTHER_PATIENT


def test_subjects_nobody_is_not_the_patient() -> None:
    assert refusal(None) is Reason.NO_SUBJECT


def test_subjects_known_base_binds_absolute_references() -> None:
    assert refusal("https://here/fhir/Patient/p", "https://here/fhir/") is None
    assert refusal("https://elsewhere/fhir/Patient/p", "https://here/fhir") is Reason.OTHER_PATIENT


def test_subjects_full_url_of_another_patient_named_like_ours_is_refused() -> None:
    subjects = Subjects(PatientId("2222"), [("urn:uuid:2222", "q")])
    assert subjects.refusal(Reference(reference="urn:uuid:2222")) is Reason.OTHER_PATIENT


def test_subjects_other_patients_resources_are_counted_without_their_references(
    observation: Make, record: Callable[..., PatientRecord]
) -> None:
    built = record(observation(subject={"reference": "Patient/q"}), observation(id="o2", subject=None))
    assert built.observation_count == 0
    assert [(a.reference, a.reason) for a in built.set_aside] == [
        (None, Reason.OTHER_PATIENT),
        (None, Reason.NO_SUBJECT),
    ]


def test_subjects_patient_with_another_id_is_not_taken() -> None:
    built = build_record(
        PatientId("p"), [json.dumps({"resourceType": "Patient", "id": "q", "gender": "male"}).encode()]
    )
    assert built.patient is None
    assert [a.reason for a in built.set_aside] == [Reason.OTHER_PATIENT]
