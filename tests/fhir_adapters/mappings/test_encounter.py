"""Reading an Encounter: where from, where to, how urgently, and which diagnosis is the principal one."""

from __future__ import annotations

import json
from typing import Any

from fhir_adapters.codes import Code
from fhir_adapters.mappings.encounter import Concept, EncounterEntry
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

SOURCES = "http://terminology.hl7.org/CodeSystem/admit-source"
STAY = {
    "resourceType": "Encounter",
    "id": "stay",
    "status": "in-progress",
    "subject": {"reference": "Patient/p"},
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
}


def _read(**members: Any) -> EncounterEntry:
    document = json.dumps({**STAY, **members}).encode()
    return build_record(PatientId("p"), [document]).encounters[0]


def test_encounter_where_from_and_where_to_are_read_with_their_words() -> None:
    hospital = {
        "admitSource": {
            "coding": [{"system": SOURCES, "code": "emd", "display": "From accident/emergency department"}]
        },
        "dischargeDisposition": {"text": "Home health"},
    }
    stay = _read(hospitalization=hospital)
    assert stay.admit_source.codes == (Code(SOURCES, "emd"),)
    assert "accident/emergency" in stay.admit_source.words
    assert stay.discharge_disposition == Concept((), "Home health")


def test_encounter_without_hospitalization_tells_nothing_of_it() -> None:
    assert _read().admit_source == _read().discharge_disposition == _read().priority == Concept()
    assert _read().diagnoses == ()


def test_encounter_diagnoses_keep_their_rank_and_one_without_a_condition_is_left_out() -> None:
    stay = _read(
        diagnosis=[
            {"condition": {"reference": "Condition/b"}},
            {"condition": {"reference": "Condition/a"}, "rank": 1},
            {"rank": 2},
        ]
    )
    assert stay.diagnoses == (("Condition/b", None), ("Condition/a", 1))


def test_encounter_that_the_hook_names_is_told_in_the_record() -> None:
    record = build_record(PatientId("p"), [json.dumps(STAY).encode()], encounter_id="stay")
    assert record.encounter_id == "stay"
    assert build_record(PatientId("p"), []).encounter_id is None
