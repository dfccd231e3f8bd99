from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from demo.build_patients import CHOICES, LIPID_PANEL, Choice, format_bundle, read_archive, reduced
from demo.store import PATIENTS_FOLDER


def _raw() -> dict[str, Any]:
    patient = {
        "resourceType": "Patient",
        "id": "1",
        "name": [{"family": "Doe"}],
        "gender": "male",
        "birthDate": "1970-01-01",
        "address": [{"city": "Boston"}],
        "extension": [{"url": "http://example.org/race"}],
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-00-0000"}],
    }
    lab = {
        "resourceType": "Observation",
        "id": "2",
        "meta": {"tag": []},
        "code": {"coding": [{"code": "2093-3"}]},
        "subject": {"reference": "urn:uuid:1"},
        "performer": {"reference": "urn:uuid:elsewhere"},
        "valueQuantity": {"value": 173.4657394},
    }
    claim = {"resourceType": "Claim", "id": "3"}
    return {
        "resourceType": "Bundle",
        "entry": [{"fullUrl": f"urn:uuid:{item['id']}", "resource": item} for item in (claim, lab, patient)],
    }


def test_build_patients_reduces_to_what_is_needed() -> None:
    patient, lab = (entry["resource"] for entry in reduced(_raw(), frozenset())["entry"])
    assert set(patient) == {"resourceType", "id", "name", "gender", "birthDate", "meta", "extension", "identifier"}
    assert (patient["identifier"], patient["extension"]) == ([], [])
    assert lab["subject"] == {"reference": "Patient/1"}
    assert lab["valueQuantity"] == {"value": 173.47}
    assert not {"meta", "performer"} & lab.keys()


def test_build_patients_leaves_out_codes_on_purpose() -> None:
    assert len(reduced(_raw(), LIPID_PANEL)["entry"]) == 1


def test_build_patients_gives_the_same_bytes_each_time() -> None:
    assert format_bundle(reduced(_raw(), frozenset())) == format_bundle(reduced(_raw(), frozenset()))


def test_build_patients_reads_the_chosen_from_the_archive(tmp_path: Path) -> None:
    content = json.dumps(_raw()).encode()
    path = tmp_path / "bundles.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        for name in ("bundles/A_Doe_11.json", "bundles/B_Doe_22.json"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert read_archive(path, [Choice("b", "22")]) == {"22": _raw()}
    with pytest.raises(SystemExit):
        read_archive(path, [Choice("c", "33")])


def test_build_patients_files_are_those_of_the_choices() -> None:
    present = {path.name for path in PATIENTS_FOLDER.glob("*.json.gz") if not path.name.startswith("icu-")}
    assert present == {f"{choice.name}.json.gz" for choice in CHOICES}
