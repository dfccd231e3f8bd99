"""A folder of FHIR is read as patients, whatever its form; what can't be read is counted and never quoted."""

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapters.bulk import Contents, Wanted, export_files, patient_of, read_export
from fhir_adapters.codes import LOINC
from fhir_adapters.errors import ExportError
from fhir_adapters.reasons import Reason

KINDS = frozenset({"Patient", "Observation", "Encounter", "Location"})


def _wanted(*patients: str, codes: frozenset[tuple[str, str]] | None = None) -> Wanted:
    return Wanted({name: place for place, name in enumerate(patients)}, KINDS, codes)


def _observation(number: int, patient: str, code: str = "2160-0") -> dict[str, object]:
    coding = [{"system": LOINC, "code": code}]
    reference = {"reference": f"Patient/{patient}"}
    return {"resourceType": "Observation", "id": str(number), "code": {"coding": coding}, "subject": reference}


def _lines(*resources: object) -> bytes:
    return b"".join(json.dumps(resource).encode() + b"\n" for resource in resources)


def _read(folder: Path, wanted: Wanted) -> tuple[list[list[str]], Contents]:
    """The ids of each wanted patient's resources, and the counts."""
    with read_export(folder, wanted) as export:
        held = [export.lines_of(place) for place in range(len(wanted.patients))]
        return [[json.loads(line)["resource"]["id"] for line in lines] for lines in held], export.contents


def test_bulk_reads_several_files_of_a_type_also_gzipped(tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_bytes(_lines({"resourceType": "Patient", "id": "a"}))
    (tmp_path / "Observation.000.ndjson").write_bytes(_lines(_observation(1, "a"), _observation(2, "b")))
    (tmp_path / "more").mkdir()
    packed = gzip.compress(_lines(_observation(3, "a"), _observation(4, "stranger")))
    (tmp_path / "more" / "Observation.001.ndjson.gz").write_bytes(packed)
    (tmp_path / "README.txt").write_text("none of it")
    held, contents = _read(tmp_path, _wanted("a", "b"))
    assert held == [["1", "a", "3"], ["2"]]
    assert contents.seen == {"Patient": 1, "Observation": 4}
    assert contents.known == {0, 1}
    assert (len(contents.files), contents.ignored_files) == (3, 1)


def test_bulk_reads_bundles_and_follows_their_uuids(tmp_path: Path) -> None:
    person = {"fullUrl": "urn:uuid:11", "resource": {"resourceType": "Patient"}}  # the server was to give the id
    stay = {"resourceType": "Encounter", "id": "e", "subject": {"reference": "urn:uuid:11"}}
    other = {"resourceType": "Encounter", "id": "f", "subject": {"reference": "https://ehr/fhir/Patient/b/_history/2"}}
    place = {"fullUrl": "urn:uuid:22", "resource": {"resourceType": "Location", "id": "l", "name": "MICU"}}
    entries = [{"fullUrl": "urn:uuid:33", "resource": stay}, person, place, {"resource": other}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    (tmp_path / "one.json").write_text(json.dumps(bundle, indent=2))
    with read_export(tmp_path, _wanted("11", "b")) as export:
        assert [json.loads(line) for line in export.lines_of(0)] == [entries[0], person]
        assert [json.loads(line)["resource"]["id"] for line in export.lines_of(1)] == ["f"]
        found = export.shared(["urn:uuid:22", "Location/l", "Location/none"])
    assert [json.loads(line)["resource"]["name"] for line in found] == ["MICU"]


def test_bulk_reads_ndjson_called_json_and_bundles_a_line_each(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": _observation(number, "a")} for number in (1, 2)]}
    (tmp_path / "all.json").write_bytes(_lines(bundle, _observation(3, "a")))
    assert _read(tmp_path, _wanted("a"))[0] == [["1", "2", "3"]]


def test_bulk_keeps_only_what_is_asked_for(tmp_path: Path) -> None:
    lines = _lines(_observation(1, "a"), _observation(2, "a", "718-7"), {"resourceType": "Claim", "id": "3"})
    (tmp_path / "x.ndjson").write_bytes(lines)
    held, contents = _read(tmp_path, _wanted("a", codes=frozenset({(LOINC, "718-7")})))
    assert held == [["2"]]
    assert contents.seen["Claim"] == 1
    assert not contents.set_aside


def test_bulk_counts_what_cannot_be_read_by_its_reason(tmp_path: Path) -> None:
    nobody = {"resourceType": "Observation", "id": "1"}
    lines = b"{broken\n\n" + _lines({"id": "no type"}, nobody, {"resourceType": 7}) + b"\xff\xfe\n"
    (tmp_path / "x.ndjson").write_bytes(lines + _lines(_observation(2, "a")))
    held, contents = _read(tmp_path, _wanted("a"))
    assert held == [["2"]]
    assert contents.set_aside == {
        ("unknown", Reason.NOT_JSON): 2,
        ("unknown", Reason.UNREADABLE): 2,
        ("Observation", Reason.NO_SUBJECT): 1,
    }


@pytest.mark.parametrize("cut", [1, 30])
def test_bulk_refuses_half_a_file_and_names_it(tmp_path: Path, cut: int) -> None:
    packed = gzip.compress(_lines(*(_observation(number, "a") for number in range(99))))
    (tmp_path / "Observation.ndjson.gz").write_bytes(packed[:-cut])
    with pytest.raises(ExportError, match=r"^export file Observation\.ndjson\.gz: it is no whole gzip file$"):
        _read(tmp_path, _wanted("a"))


def test_bulk_refuses_a_folder_that_is_none_or_empty(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected a folder"):
        export_files(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ExportError, match=r"expected files \.ndjson"):
        export_files(tmp_path)


@pytest.mark.parametrize(
    ("reference", "patient"),
    [
        ("Patient/1", "1"),
        ("https://ehr/fhir/Patient/1/_history/9", "1"),
        ("urn:uuid:1", "1"),
        ("#p", None),
        ("Group/1", None),
        ("Patient/", None),
        ("xPatient/1", None),
        (None, None),
    ],
)
def test_bulk_whose_a_reference_is(reference: str | None, patient: str | None) -> None:
    assert patient_of(reference, {}) == patient


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([_lines(_observation(1, "a")), b'{"resourceType":"Bundle"}'])))
def test_bulk_never_fails_for_what_a_line_holds(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.ndjson").write_bytes(b"\n".join(lines))
        held, _ = _read(Path(folder), _wanted("a"))
    assert held[0] == ["1"] * len(held[0])
