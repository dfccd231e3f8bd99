import json

import pytest
from fhir.resources.R4B.bundle import Bundle

from model_artifacts.icu_mortality.events import INDEX
from tests.model_artifacts.icu_mortality.stays import STAYS, bundle_of, record_of

STAY = STAYS["140525"]


def test_challenge_fhir_is_valid_r4():
    assert Bundle.model_validate_json(json.dumps(bundle_of(STAYS["132585"]))).type == "collection"


def test_challenge_fhir_writes_one_observation_for_each_measurement():
    kinds = [entry["resource"]["resourceType"] for entry in bundle_of(STAY)["entry"]]
    assert kinds.count("Observation") == len(STAY.values) + ("Height" in STAY.statics)
    assert (kinds.count("Patient"), kinds.count("Encounter")) == (1, 1)


def test_challenge_fhir_numbers_survive_json_exactly():
    sent = json.loads(json.dumps(bundle_of(STAY)))["entry"]
    numbers = [
        entry["resource"]["valueQuantity"]["value"]
        for entry in sent
        if entry["resource"].get("valueQuantity") and not entry["resource"]["id"].endswith("height")
    ]
    assert numbers == STAY.values[STAY.variable != INDEX["MechVent"]].tolist()


def test_challenge_fhir_an_unknown_sex_is_left_out():
    assert "gender" not in bundle_of(STAYS["144078"])["entry"][0]["resource"]
    assert record_of(STAYS["144078"]).patient.sex is None


def test_challenge_fhir_keeps_the_record_id_as_an_identifier():
    assert bundle_of(STAY)["entry"][0]["resource"]["identifier"][0]["value"] == "140525"


@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_challenge_fhir_ids_are_unique(stay):
    urls = [entry["fullUrl"] for entry in bundle_of(stay)["entry"]]
    assert len(urls) == len(set(urls))
