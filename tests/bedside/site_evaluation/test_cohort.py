"""The released model is asked what a call of then would have asked it, and nothing later is read."""

import copy
import json
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bedside.site_evaluation.cohort import Cohort, Evaluation
from bedside.site_evaluation.labels import Label
from fhir_adapters.bulk import read_export
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId
from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.examples import example_record
from model_artifacts.registry import model_packages
from model_artifacts.training.evaluate import auroc
from tests.bedside.site_evaluation.wards import ADMITTED, Resource, icu_as_of, later, model, ward, write_bulk

STRANGERS = [
    {"resourceType": kind, "id": "x", "subject": {"reference": "Patient/another"}}
    for kind in ("Condition", "MedicationRequest")
]
"""An export holds others too; without anybody's diagnoses, nobody's absence would mean anything."""


def _ask(name: str, folder: Path, labels: list[Label]) -> Cohort:
    released = model(name)
    evaluation = Evaluation(released, released.manifest.outputs[0])
    wanted = evaluation.wanted(labels)
    with read_export(folder, wanted) as export:
        return evaluation.run(labels, export, wanted, lambda _: None)


def _exported_later(bundle: Resource, as_of: str) -> Resource:
    """The same record as an export of today has it: what went on then has ended, at that moment."""
    later = copy.deepcopy(bundle)
    for entry in later["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Encounter" and resource.get("status") == "in-progress":
            resource.setdefault("period", {}).setdefault("end", as_of)
            resource["status"] = "finished"
    return later


def _labels(patients: dict[str, list[Resource]], as_of: datetime) -> list[Label]:
    return [Label(line, patient, as_of, line % 2) for line, patient in enumerate(patients, start=2)]


def _examples() -> list[tuple[str, str]]:
    folders = {name: Path(str(files(package))) / "examples" for name, package in model_packages().items()}
    return [(name, case.name) for name, folder in folders.items() for case in sorted(folder.glob("*/"))]


@pytest.mark.parametrize(("name", "case"), _examples())
def test_cohort_answers_as_the_model_answers_its_examples(name: str, case: str, tmp_path: Path) -> None:
    folder = model(name).code / "examples" / case
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    bundle = json.loads((folder / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps(_exported_later(bundle, expected["as_of"])))
    write_bulk(tmp_path, [STRANGERS])
    as_of = datetime.fromisoformat(expected["as_of"])
    cohort = _ask(name, tmp_path, [Label(2, expected["patient"], as_of, 1.0)])
    direct = model(name).assess(example_record(expected["patient"], bundle), as_of).assessment
    match direct:
        case Prediction():
            assert cohort.value.tolist() == [direct.outputs[model(name).manifest.outputs[0].name]]
            assert cohort.missing.sum() == sum(item.value is None for item in direct.evidence)
        case Abstention():
            counted = cohort.counts.outside if direct.outside_population else cohort.counts.abstained
            assert sum(counted.values()) == 1


def test_cohort_ranks_as_the_graph_does_on_the_same_tensors(tmp_path: Path) -> None:
    patients, as_of = ward(3), icu_as_of()
    labels, released = _labels(patients, as_of), model("icu_mortality")
    cohort = _ask("icu_mortality", write_bulk(tmp_path, patients.values()), labels)
    probabilities, outcomes = [], []
    for label in labels:
        documents = [json.dumps(item).encode() for item in patients[label.patient]]
        record = build_record(PatientId(label.patient), documents)
        if isinstance(released.assess(record, as_of).assessment, Prediction):
            arrays = released.inputs.extract(record, as_of).arrays
            probabilities.append(float(released.run(arrays).probability[0]))
            outcomes.append(int(label.outcome))
    assert len(probabilities) > 14
    np.testing.assert_array_equal(cohort.value, probabilities)
    direct = auroc(np.array(probabilities), np.array(outcomes))
    assert auroc(cohort.value, cohort.outcome.astype(int)) == pytest.approx(direct, abs=1e-6)


def test_cohort_reads_nothing_later_than_as_of(tmp_path: Path) -> None:
    patients, as_of = ward(1), icu_as_of()
    labels = _labels(patients, as_of)
    plain = _ask("icu_mortality", write_bulk(tmp_path / "plain", patients.values()), labels)
    second = timedelta(seconds=1)
    poisoned = [later(own, as_of, offset=second) for own in patients.values()]
    same = _ask("icu_mortality", write_bulk(tmp_path / "poisoned", poisoned), labels)
    assert len(plain.value) >= 5
    np.testing.assert_array_equal(same.value, plain.value)
    np.testing.assert_array_equal(same.missing, plain.missing)
    assert same.counts.outside == plain.counts.outside


def test_cohort_reads_what_came_before_as_of(tmp_path: Path) -> None:
    """What the test above adds changes every answer, and ends every stay, where it is not later."""
    patients, as_of = ward(1), icu_as_of()
    labels, earlier = _labels(patients, as_of), ADMITTED + timedelta(hours=1) - as_of
    plain = _ask("icu_mortality", write_bulk(tmp_path / "plain", patients.values()), labels)
    measured = [later(own, as_of, offset=earlier, ended=False) for own in patients.values()]
    changed = _ask("icu_mortality", write_bulk(tmp_path / "measured", measured), labels)
    assert not set(plain.value) & set(changed.value)
    ended = [later(own, as_of, offset=earlier) for own in patients.values()]
    assert not len(_ask("icu_mortality", write_bulk(tmp_path / "ended", ended), labels).value)


def test_cohort_leaves_out_what_the_data_do_not_hold(tmp_path: Path) -> None:
    patients, as_of = ward(1), icu_as_of()
    known = next(iter(patients))
    labels = [
        Label(2, "nobody", as_of, 1.0),
        Label(3, known, as_of, 1.0, encounter="no-such-stay"),
        Label(4, known, as_of, 1.0, encounter=f"{known}-icu"),
    ]
    cohort = _ask("icu_mortality", write_bulk(tmp_path, patients.values()), labels)
    assert cohort.counts.not_asked == {"patient-not-in-the-data": 1, "encounter-not-in-the-data": 1}
    assert cohort.counts.lines == {"patient-not-in-the-data": [2], "encounter-not-in-the-data": [3]}
    assert (cohort.counts.labels, cohort.counts.patients) == (3, 2)


def _warfarin(tmp_path: Path, **changes: object) -> tuple[str, datetime, str]:
    """An example with its draft changed: patient, moment and the draft's id."""
    folder = model("warfarin_dose").code / "examples" / "genotypes-known"
    expected = json.loads((folder / "expected.json").read_text())
    resources = [entry["resource"] for entry in json.loads((folder / "record.json").read_text())["entry"]]
    [draft] = [item for item in resources if item.get("status") == "draft"]
    draft |= changes
    write_bulk(tmp_path, [resources, STRANGERS])
    return expected["patient"], datetime.fromisoformat(expected["as_of"]), draft["id"]


def test_cohort_takes_an_order_of_then_for_the_draft_it_was(tmp_path: Path) -> None:
    patient, as_of, order = _warfarin(tmp_path, status="completed")
    without = _ask("warfarin_dose", tmp_path, [Label(2, patient, as_of, 35.0)])
    assert sum(without.counts.outside.values()) == 1
    named = _ask("warfarin_dose", tmp_path, [Label(2, patient, as_of, 35.0, order=order)])
    assert len(named.value) == 1
    assert named.low[0] < named.value[0] < named.high[0]
    other = _ask("warfarin_dose", tmp_path, [Label(2, patient, as_of, 35.0, order="none")])
    assert other.counts.not_asked == {"order-not-in-the-data": 1}


def test_cohort_takes_no_silence_for_no_where_a_kind_is_missing_altogether(tmp_path: Path) -> None:
    """Without any Condition in the export nobody may conclude that there was no known cardiovascular disease."""
    folder = model("prevent_cvd").code / "examples" / "published-example"
    expected = json.loads((folder / "expected.json").read_text())
    resources = [entry["resource"] for entry in json.loads((folder / "record.json").read_text())["entry"]]
    label = Label(2, expected["patient"], datetime.fromisoformat(expected["as_of"]), 1.0)
    assert len(_ask("prevent_cvd", write_bulk(tmp_path / "a", [resources, STRANGERS]), [label]).value) == 1
    lacking = [item for item in resources if item["resourceType"] != "Condition"]
    cohort = _ask("prevent_cvd", write_bulk(tmp_path / "b", [lacking, STRANGERS[1:]]), [label])
    assert cohort.counts.abstained == {"record-incomplete": 1}


def test_cohort_knows_race_sex_and_age_at_as_of(tmp_path: Path) -> None:
    race = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
    category = {"url": "ombCategory", "valueCoding": {"code": "2054-5"}}
    patients, as_of = ward(1), icu_as_of()
    for number, own in enumerate(patients.values()):
        person = next(item for item in own if item["resourceType"] == "Patient")
        person |= {"birthDate": f"{as_of.year - 79}-01-01", "gender": "female"}
        if number:
            person["extension"] = [{"url": race, "extension": [category]}]
    cohort = _ask("icu_mortality", write_bulk(tmp_path, patients.values()), _labels(patients, as_of))
    assert set(cohort.groups["sex"]) == {"female"}
    assert set(cohort.groups["age"]) == {"65–79"}
    assert set(cohort.groups["race"]) <= {"not recorded", "Black or African American"}
    assert "Black or African American" in cohort.groups["race"]
