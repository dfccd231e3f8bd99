"""Every model of the registry keeps the platform's promises; a new model is tested by being there."""

import hashlib
import importlib
import json
import math
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapters.record import PatientRecord
from model_artifacts import graph
from model_artifacts.assessment import Abstention, Assessment, Prediction
from model_artifacts.errors import ArtifactError
from model_artifacts.examples import example_record
from model_artifacts.graph import OPTIONAL_OUTPUTS, REQUIRED_OUTPUTS
from model_artifacts.input_description import describe_inputs
from model_artifacts.manifest import read_manifest
from model_artifacts.model_card import CARD_FILE, model_card
from model_artifacts.registry import model_packages
from model_artifacts.runtime import Assessed, ReleasedModel

ROOT = Path(__file__).parents[1]
MAX_FILE_BYTES = 10_000_000
SHOWN_WITHIN = 1e-5


def _folder(package: str) -> Path:
    return Path(str(files(package)))


PACKAGES = {
    name: package for name, package in model_packages().items() if (_folder(package) / "manifest.toml").exists()
}
EXAMPLES = [
    (name, case)
    for name in PACKAGES
    for case in sorted((_folder(PACKAGES[name]) / "examples").iterdir())
    if case.is_dir()
]
PREDICTED = [
    (name, case)
    for name, case in EXAMPLES
    if json.loads((case / "expected.json").read_text()).get("kind") == "prediction"
]

every_model = pytest.mark.parametrize("name", PACKAGES)
every_example = pytest.mark.parametrize(("name", "case"), EXAMPLES, ids=lambda part: getattr(part, "name", part))
every_prediction = pytest.mark.parametrize(("name", "case"), PREDICTED, ids=lambda part: getattr(part, "name", part))
first_prediction = pytest.mark.parametrize(
    ("name", "case"),
    list({name: (name, case) for name, case in reversed(PREDICTED)}.values()),
    ids=lambda part: getattr(part, "name", part),
)


@cache
def _load(name: str) -> ReleasedModel:
    return ReleasedModel.load(PACKAGES[name])


@cache
def _graph(name: str) -> onnx.ModelProto:
    model = _load(name)
    return onnx.load(model.folder / model.manifest.artifact.file)


def _read(case: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads((case / "expected.json").read_text()), json.loads((case / "record.json").read_text())


def _of(case: Path) -> tuple[str, dict[str, Any]]:
    expected, bundle = _read(case)
    return expected["patient"], bundle


def _record(patient: str, bundle: dict[str, Any]) -> PatientRecord:
    return example_record(patient, bundle)


def _assess(
    name: str, case: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda bundle: bundle
) -> Assessed:
    expected, bundle = _read(case)
    return _load(name).assess(_record(expected["patient"], change(bundle)), datetime.fromisoformat(expected["as_of"]))


@every_model
def test_every_model_is_named_as_the_registry_names_it(name: str) -> None:
    assert _load(name).manifest.id == name


@every_model
def test_every_model_has_the_digests_it_declares(name: str) -> None:
    manifest, _ = read_manifest(_folder(PACKAGES[name]))
    declared = {manifest.artifact.file: manifest.artifact.sha256, **manifest.files}
    actual = {file: hashlib.sha256((_folder(PACKAGES[name]) / file).read_bytes()).hexdigest() for file in declared}
    assert actual == declared


@every_model
def test_every_model_lists_every_table_it_reads(name: str) -> None:
    tables = {path.name for path in _folder(PACKAGES[name]).glob("*.toml")} - {
        "manifest.toml",
        "manifest.template.toml",
    }
    assert tables <= _load(name).manifest.files.keys()


def _listed_files() -> list[tuple[str, str]]:
    manifests = {name: read_manifest(_folder(package))[0] for name, package in PACKAGES.items()}
    return [(name, file) for name, item in manifests.items() for file in (item.artifact.file, *item.files)]


@pytest.mark.parametrize(("name", "file"), _listed_files())
def test_every_model_with_one_flipped_bit_is_refused_before_its_graph_is_parsed(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        pytest.fail("onnxruntime saw the bytes of an altered model")

    package = f"altered_{name}_{file.replace('.', '_')}"  # a name of its own: imports are remembered
    shutil.copytree(
        _folder(PACKAGES[name]), tmp_path / package, ignore=shutil.ignore_patterns("examples", "__pycache__")
    )
    altered = tmp_path / package / file
    data = bytearray(altered.read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(graph.onnxruntime, "InferenceSession", parse)
    with pytest.raises(ArtifactError, match=f"file {re.escape(file)} of model {name} is altered"):
        ReleasedModel.load(package)
    assert f"{package}.inputs" not in sys.modules


@every_model
def test_every_model_has_the_opset_it_declares_and_no_custom_operators(name: str) -> None:
    graph = _graph(name)
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": _load(name).manifest.artifact.opset}
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}


@first_prediction
def test_every_model_answers_in_the_declared_shapes(name: str, case: Path) -> None:
    model = _load(name)
    inputs = model.inputs.extract(_record(*_of(case)), datetime.fromisoformat(_read(case)[0]["as_of"]))
    names = [output.name for output in model.session.get_outputs()]
    shapes = {key: array.shape for key, array in zip(names, model.session.run(None, dict(inputs.arrays)), strict=True)}
    outputs, artifact = len(model.manifest.outputs), model.manifest.artifact
    assert set(REQUIRED_OUTPUTS) <= shapes.keys() <= {*REQUIRED_OUTPUTS, *OPTIONAL_OUTPUTS}
    assert shapes["probability"] == (1, outputs)
    assert shapes["members"] == (1, artifact.members, outputs)
    assert shapes["attributions"] == (1, 1 + max(slot for group in inputs.slots for slot in group))
    assert shapes.get("interval", (1, outputs, 2)) == (1, outputs, 2)
    assert shapes["baseline_probability"] == shapes["completeness_gap"] == (1,)
    assert {item.name: (1, *item.shape) for item in artifact.inputs} == {
        key: array.shape for key, array in inputs.arrays.items()
    }


@every_model
def test_every_model_graph_tells_nothing_of_the_machine_it_was_made_on(name: str) -> None:
    model = _graph(name)
    graph = model.graph
    assert not model.metadata_props
    assert not graph.metadata_props
    parts = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    assert not any(part.doc_string for part in parts)
    assert not any(node.metadata_props for node in graph.node)
    data = (_load(name).folder / _load(name).manifest.artifact.file).read_bytes()
    assert not re.search(rb"/(root|home|tmp|work|Users)/|site-packages|\.py\b", data)


@every_model
def test_every_model_card_is_what_the_generator_writes(name: str) -> None:
    model = _load(name)
    committed = (model.folder / CARD_FILE).read_text(encoding="utf-8")
    assert committed == model_card(model), f"run: bedside model card {name} --write"
    assert model.identity.card_sha256 == hashlib.sha256(committed.encode()).hexdigest()


@every_model
def test_every_model_card_fills_each_section_or_says_why_not(name: str) -> None:
    sections = dict(re.findall(r"^## (.+?)\n\n(.+?)(?=\n\n## |\Z)", model_card(_load(name)), re.MULTILINE | re.DOTALL))
    assert len(sections) == 17
    assert all(len(text) > 40 or text.startswith("not available: ") for text in sections.values())
    assert "TODO" not in model_card(_load(name))


@every_model
def test_every_model_card_shows_every_figure_of_its_metrics_and_no_other(name: str) -> None:
    card = model_card(_load(name))
    figures = [
        value
        for value in _numbers(json.loads((_load(name).folder / "metrics.json").read_text()))
        if math.isfinite(value)
    ]
    sections = re.split(r"^## ", card, flags=re.MULTILINE)
    measured = [text for text in sections if text.startswith(("Evaluation", "Calibration", "Subgroups"))]
    tables = [line for text in measured for line in text.splitlines() if line.startswith("|")]
    cells = " ".join(cell for line in tables for cell in line.strip("|").split("|")[1:])
    assert [number for number in _shown(cells) if not any(_is_shown_as(value, number) for value in figures)] == []
    assert [value for value in figures if not any(_is_shown_as(value, number) for number in _shown(card))] == []


def _shown(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.–])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w–])", text))


def _is_shown_as(value: float, number: str) -> bool:
    """Whether `number` is `value` rounded to the decimals that `number` has."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(value - float(number)) <= 0.5000001 * 10.0**-decimals


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _numbers(member)
    elif isinstance(value, list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


@every_model
def test_every_model_has_examples_of_an_answer_and_of_an_abstention(name: str) -> None:
    kinds = {_read(case)[0]["kind"] for model, case in EXAMPLES if model == name}
    assert kinds == {"prediction", "abstention"}


@every_example
def test_every_model_reproduces_its_examples(name: str, case: Path) -> None:
    expected, assessment = _read(case)[0], _assess(name, case).assessment
    finding = _load(name).interpret(assessment, _load(name).manifest)
    assert finding.code == expected["code"]
    assert [proposal.code.code for proposal in finding.proposals] == expected["proposals"]
    match assessment:
        case Prediction():
            assert expected["kind"] == "prediction"
            assert dict(assessment.outputs) == pytest.approx(expected["outputs"], abs=SHOWN_WITHIN)
            moved = {item.evidence: item.contribution for item in assessment.attributions}
            assert moved == pytest.approx(expected["attributions"], abs=SHOWN_WITHIN)
        case Abstention():
            assert [reason.code for reason in assessment.reasons] == expected["reasons"]
            assert assessment.outside_population == expected["outside_population"]


@every_prediction
def test_every_model_attributions_sum_to_output_minus_baseline(name: str, case: Path) -> None:
    prediction, manifest = _assess(name, case).assessment, _load(name).manifest
    assert isinstance(prediction, Prediction)
    moved = math.fsum(item.contribution for item in prediction.attributions)
    change = prediction.outputs[manifest.artifact.explained] - prediction.baseline
    assert moved == pytest.approx(change, abs=manifest.artifact.completeness_tolerance)


@every_prediction
def test_every_model_names_unit_date_and_source_of_what_it_shows(name: str, case: Path) -> None:
    model, assessment = _load(name), _assess(name, case).assessment
    references = {f"{item['resource']['resourceType']}/{item['resource']['id']}" for item in _of(case)[1]["entry"]}
    for evidence, _ in model.interpret(assessment, model.manifest).reasons:
        assert evidence.source is None or evidence.source in references
        assert evidence.source is not None or evidence.note
        if evidence.source and evidence.source.startswith("Observation/"):
            assert evidence.observed_at is not None
            assert evidence.unit or evidence.display or evidence.value is not None


@every_example
def test_every_model_headline_fits_a_card(name: str, case: Path) -> None:
    model = _load(name)
    assert len(model.interpret(_assess(name, case).assessment, model.manifest).headline) < 140


def _without_codes(bundle: dict[str, Any], codes: set[str]) -> dict[str, Any]:
    def coded(item: dict[str, Any]) -> bool:
        return any(coding.get("code") in codes for coding in item.get("code", {}).get("coding", ()))

    kept = []
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Observation" and coded(resource):
            continue
        parts = [part for part in resource.get("component", ()) if not coded(part)]
        kept.append({"resource": {**resource, "component": parts} if "component" in resource else resource})
    return {**bundle, "entry": kept}


def _single_inputs() -> list[tuple[str, str]]:
    specs = {name: importlib.import_module(f"{package}.inputs").INPUTS for name, package in PACKAGES.items()}
    return [(name, item.name) for name, spec in specs.items() for item in describe_inputs(spec) if item.codes]


@pytest.mark.parametrize(("name", "missing"), _single_inputs())
def test_every_model_without_one_input_abstains_or_is_allowed_to_answer(name: str, missing: str) -> None:
    case = next(case for model, case in PREDICTED if model == name)
    spec = next(item for item in describe_inputs(_load(name).inputs) if item.name == missing)
    assessment = _assess(name, case, lambda bundle: _without_codes(bundle, set(spec.codes.split(", ")))).assessment
    _check_absence(name, missing, assessment)


@pytest.mark.parametrize("member", ["birthDate", "gender"])
@first_prediction
def test_every_model_without_a_birth_date_or_sex_abstains_or_is_allowed_to_answer(
    name: str, case: Path, member: str
) -> None:
    def anonymous(bundle: dict[str, Any]) -> dict[str, Any]:
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "Patient":
                entry["resource"].pop(member, None)
        return bundle

    before = {item.name: item.value for item in _assess(name, case).assessment.evidence}
    assessment = _assess(name, case, anonymous).assessment
    for item in assessment.evidence:
        if item.value is None and before[item.name] is not None:
            _check_absence(name, item.name, assessment)


def _check_absence(name: str, missing: str, assessment: Assessment) -> None:
    """Absent and essential: abstains, and says which; absent and not: answers, and shows that it wasn't there."""
    model = _load(name)
    item = next(item for item in assessment.evidence if item.name == missing)
    finding = model.interpret(assessment, model.manifest)
    if item.value is not None:  # another measurement stood in for it
        assert item.note
    elif missing in model.manifest.abstain.essential:
        assert isinstance(assessment, Abstention)
        assert assessment.outside_population or missing in {reason.evidence for reason in assessment.reasons}
    elif isinstance(assessment, Prediction):
        assert any(item.label.lower() in line.lower() for line in finding.missing)
    else:
        assert {reason.code for reason in assessment.reasons} <= {"too-few-inputs", "unlike-training-data"}


@pytest.mark.parametrize("seed", [1, 2])
@every_prediction
def test_every_model_gives_the_same_answer_however_the_bundle_is_ordered(name: str, case: Path, seed: int) -> None:
    shuffle = random.Random(seed)

    def disturb(bundle: dict[str, Any]) -> dict[str, Any]:
        entries = [{"resource": _reordered(entry["resource"], shuffle)} for entry in bundle["entry"]]
        entries += shuffle.sample(entries, max(1, len(entries) // 3))
        shuffle.shuffle(entries)
        return {"entry": entries, **{key: value for key, value in bundle.items() if key != "entry"}}

    plain, disturbed = _assess(name, case), _assess(name, case, disturb)
    assert plain.answer is not None
    assert disturbed.answer is not None
    assert plain.answer.digest() == disturbed.answer.digest()
    assert plain.assessment.evidence == disturbed.assessment.evidence


def _reordered(value: dict[str, Any], shuffle: random.Random) -> dict[str, Any]:
    members = list(value.items())
    shuffle.shuffle(members)
    return dict(members)


@first_prediction
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), strength=st.floats(0.0, 0.5))
def test_every_model_answers_plausible_patients_within_its_bounds_or_abstains(
    name: str, case: Path, seed: int, strength: float
) -> None:
    draw = np.random.default_rng(seed)

    def vary(bundle: dict[str, Any]) -> dict[str, Any]:
        for entry in bundle["entry"]:
            quantity = entry["resource"].get("valueQuantity")
            if quantity is not None:
                quantity["value"] = round(quantity["value"] * float(np.exp(strength * draw.standard_normal())), 3)
        return bundle

    assessment = _assess(name, case, vary).assessment
    if isinstance(assessment, Prediction):
        most = max(output.at_most for output in _load(name).manifest.outputs)
        spread = [bound for bounds in assessment.spread.values() for bound in bounds if not math.isnan(bound)]
        assert all(0.0 <= value <= most for value in (*assessment.outputs.values(), assessment.baseline, *spread))
        for output, (low, high) in assessment.interval.items():
            assert 0.0 <= low <= assessment.outputs[output] <= high
    else:
        assert assessment.reasons


@every_model
def test_every_model_file_is_small(name: str) -> None:
    large = [
        path.name
        for path in _folder(PACKAGES[name]).rglob("*")
        if path.is_file() and path.stat().st_size >= MAX_FILE_BYTES
    ]
    assert not large
