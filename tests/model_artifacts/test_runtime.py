"""Loading refuses what isn't as released; assessing abstains in its order; a wrong answer of the graph never gets out.

The graphs are real, a few nodes each: what they answer is written into them as constants.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.errors import ArtifactError, GraphOutputError, ManifestError, ModelError
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
ANSWER: dict[str, Any] = {
    "probability": [[0.3]],
    "members": [[[0.25], [0.35]]],
    "attributions": [[0.15, 0.05]],
    "baseline_probability": [0.1],
    "completeness_gap": [0.0],
}
_INPUTS = """
from datetime import datetime
import numpy as np
from fhir_adapters.record import PatientRecord
from model_artifacts.inputs import Evidence, ModelInputs


class Two:
    def queries(self):
        return ()

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        age = None if record.patient is None else record.patient.age(as_of)
        row = np.array([[np.nan if age is None else age, 1.0]], dtype=np.float32)
        evidence = (
            Evidence("age", "age", age, "a", None, None, "missing" if age is None else None),
            Evidence("dose", "dose", 1.0, "mg", None, None),
        )
        return ModelInputs({"features": row}, evidence, ((0,), (1,)), ("one thing",))


INPUTS = Two()
"""
_MANIFEST = """
schema = "bedside-model/1"
id = "tiny"
version = "1.2.3"
title = "Tiny"
description = "A graph of constants."
kind = "learned"
hooks = ["patient-view"]
[artifact]
sha256 = "{sha256}"
opset = {opset}
explained = "event"
members = 2
completeness_tolerance = 1e-3
{artifact}
[[artifact.inputs]]
name = "features"
shape = [2]
[[outputs]]
name = "event"
label = "risk of the event"
event = "the event"
{outputs}
[[bands]]
code = "all"
at_least = 0.0
label = "any"
indicator = "info"
[population]
text = "the living"
[[population.criteria]]
kind = "alive"
text = "the patient is recorded as deceased"
[abstain]
{abstain}
[explanation]
baseline = "nobody"
{explanation}
[uncertainty]
kind = "ensemble-range"
text = "Two networks."
{uncertainty}
[intended_use]
use = "Testing."
users = "Tests"
role = "informs"
out_of_scope = []
limits = []
[source]
label = "Tiny"
url = "https://example.org/"
topic_system = "urn:t"
topic_code = "t"
topic_display = "T"
citation = "None."
[developer]
name = "Tests"
contact = "none"
funding = "none"
[training_data]
description = "none"
licence = "none"
citation = "none"
[files]
{files}
"""

MakeModel = Callable[..., ReleasedModel]


def _graph(answer: dict[str, Any], opset: int = 20, width: int = 2, name: str = "features") -> bytes:
    """A graph that answers `answer` whatever comes in; an entry of None leaves its output out."""
    given = {key: np.asarray(value, np.float32) for key, value in answer.items() if value is not None}
    nodes = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(value)) for key, value in given.items()
    ]
    features = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
    outputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape) for key, value in given.items()]
    nodes.append(helper.make_node("Identity", [name], ["unused"]))
    graph = helper.make_graph(nodes, "tiny", [features], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes a model package and gives its import path: make_package(answer, **changes)."""
    numbers = count()
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(answer: dict[str, Any] | None = None, *, graph: bytes | None = None, **changes: Any) -> str:
        package = f"tiny_{tmp_path.name}_{next(numbers)}"
        folder = tmp_path / package
        folder.mkdir()
        data = _graph(ANSWER if answer is None else {**ANSWER, **answer}) if graph is None else graph
        (folder / "model.onnx").write_bytes(data)
        (folder / "__init__.py").write_text("")
        (folder / "inputs.py").write_text(changes.pop("inputs", _INPUTS))
        fields = {"sha256": hashlib.sha256(data).hexdigest(), "opset": 20, "artifact": "", "outputs": "", "abstain": ""}
        (folder / "manifest.toml").write_text(
            _MANIFEST.format_map({**fields, "uncertainty": "", "files": "", "explanation": "", **changes})
        )
        made.append(package)
        return package

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]


@pytest.fixture
def make_model(make_package: Callable[..., str]) -> MakeModel:
    return lambda answer=None, **changes: ReleasedModel.load(make_package(answer, **changes), UNSIGNED)


def _record(**changes: Any) -> PatientRecord:
    patient = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1970-06-15", **changes}
    return build_record(PatientId("p"), [json.dumps({k: v for k, v in patient.items() if v is not None}).encode()])


def test_runtime_predicts_with_spread_attributions_and_evidence(make_model: MakeModel) -> None:
    model = make_model()
    assessed = model.assess(_record(), AS_OF)
    prediction = assessed.assessment
    assert isinstance(prediction, Prediction)
    assert prediction.outputs == {"event": pytest.approx(0.3)}
    assert prediction.spread == {"event": pytest.approx((0.25, 0.35))}
    assert [(item.evidence, item.contribution) for item in prediction.attributions] == [
        ("age", pytest.approx(0.15)),
        ("dose", pytest.approx(0.05)),
    ]
    assert prediction.baseline == pytest.approx(0.1)
    assert prediction.gap == pytest.approx(0.0, abs=1e-6)
    assert prediction.evidence == assessed.inputs.evidence
    assert prediction.set_aside == ("one thing",)
    assert prediction.model == model.identity


def test_runtime_identity_is_of_the_bytes_on_disk(make_model: MakeModel) -> None:
    model = make_model()
    identity = model.identity
    assert (identity.id, identity.version) == ("tiny", "1.2.3")
    assert identity.artifact_sha256 == hashlib.sha256((model.folder / "model.onnx").read_bytes()).hexdigest()
    assert identity.manifest_sha256 == hashlib.sha256((model.folder / "manifest.toml").read_bytes()).hexdigest()
    assert identity.card_sha256 == hashlib.sha256(b"").hexdigest()


def test_runtime_repeats_an_answer_bit_for_bit(make_model: MakeModel) -> None:
    model = make_model()
    first = model.assess(_record(), AS_OF)
    assert first.answer is not None
    assert model.run(first.inputs.arrays).digest() == first.answer.digest()
    other = make_model({"probability": [[0.30001]]}).run(first.inputs.arrays)
    assert other.digest() != first.answer.digest()


def test_runtime_looks_at_the_population_before_the_inputs(make_model: MakeModel) -> None:
    model = make_model(abstain='essential = ["age"]')
    assessed = model.assess(_record(deceasedBoolean=True, birthDate=None), AS_OF)
    assert isinstance(assessed.assessment, Abstention)
    assert assessed.assessment.outside_population
    assert [reason.code for reason in assessed.assessment.reasons] == ["outside-population:alive"]
    assert assessed.answer is None


def test_runtime_abstains_for_an_essential_input_that_is_missing(make_model: MakeModel) -> None:
    assessment = make_model(abstain='essential = ["age", "dose"]').assess(_record(birthDate=None), AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert not assessment.outside_population
    assert [(reason.code, reason.evidence) for reason in assessment.reasons] == [("input-missing", "age")]
    assert assessment.reasons[0].text == "age: not in the data received"


def test_runtime_abstains_for_too_few_inputs(make_model: MakeModel) -> None:
    model = make_model(abstain="minimum_present = 2")
    assessment = model.assess(_record(birthDate=None), AS_OF).assessment
    assert isinstance(assessment, Abstention)
    assert [reason.code for reason in assessment.reasons] == ["too-few-inputs"]
    assert "1 of 2 inputs" in assessment.reasons[0].text
    assert isinstance(model.assess(_record(), AS_OF).assessment, Prediction)


@pytest.mark.parametrize(
    ("novelty", "kind"), [(2.9, Prediction), (3.0, Prediction), (3.1, Abstention), (np.nan, Abstention)]
)
def test_runtime_abstains_for_a_patient_unlike_the_training_data(
    make_model: MakeModel, novelty: float, kind: type
) -> None:
    model = make_model({"novelty": [novelty]}, artifact="novelty_threshold = 3.0")
    assessment = model.assess(_record(), AS_OF).assessment
    assert isinstance(assessment, kind)
    if isinstance(assessment, Abstention):
        assert [reason.code for reason in assessment.reasons] == ["unlike-training-data"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"probability": [[np.nan]]}, "expected a probability"),
        ({"probability": [[np.inf]]}, "expected a probability"),
        ({"probability": [[-0.001]]}, "expected a probability"),
        ({"probability": [[1.001]]}, "expected a probability"),
        ({"probability": [[0.3, 0.4]]}, "expected 1 outputs"),
        ({"baseline_probability": [np.nan]}, "completeness"),
        ({"attributions": [[0.15, 0.06]]}, "completeness"),
        ({"attributions": [[np.nan, 0.05]]}, "completeness"),
        ({"attributions": [[np.inf, -np.inf]]}, "completeness"),
        ({"attributions": [[0.15]]}, "slots"),
        ({"attributions": [[0.15, 0.05, 0.01]]}, "unexplained"),
        ({"attributions": [[0.15, 0.05, np.nan]]}, "unexplained"),
        ({"members": [[[np.nan], [0.3]]]}, "members"),
        ({"members": [[[0.2], [1.2]]]}, "members"),
        ({"members": [[[0.3]]]}, "members"),
    ],
)
def test_runtime_never_lets_a_wrong_answer_out(make_model: MakeModel, answer: dict[str, Any], message: str) -> None:
    model = make_model(answer)
    with pytest.raises(GraphOutputError, match=message):
        model.assess(_record(), AS_OF)


_SECOND = '[[outputs]]\nname = "later"\nlabel = "later risk"\nevent = "the event later"\noptional = {optional}\n'


def test_runtime_leaves_out_an_optional_output_that_is_not_defined(make_model: MakeModel) -> None:
    answer = {"probability": [[0.3, np.nan]], "members": [[[0.3, np.nan], [0.3, np.nan]]]}
    prediction = make_model(answer, outputs=_SECOND.format(optional="true")).assess(_record(), AS_OF).assessment
    assert isinstance(prediction, Prediction)
    assert prediction.outputs.keys() == prediction.spread.keys() == {"event"}
    with pytest.raises(GraphOutputError, match="output later"):
        make_model(answer, outputs=_SECOND.format(optional="false")).assess(_record(), AS_OF)


@pytest.mark.parametrize(
    ("risk", "outcomes"), [(0.5, "either"), (0.1, "either"), (0.05, "no event"), (0.7, "event"), (0.65, "event")]
)
def test_runtime_prediction_set_follows_the_bounds(make_model: MakeModel, risk: float, outcomes: str) -> None:
    conformal = "[uncertainty.conformal]\ncoverage = 0.9\nevent_bound = 0.1\nno_event_bound = 0.4\nsource = 'x'\n"
    answer = {"probability": [[risk]], "baseline_probability": [risk - 0.2]}
    prediction = make_model(answer, uncertainty=conformal).assess(_record(), AS_OF).assessment
    assert isinstance(prediction, Prediction)
    assert prediction.outcome_set == outcomes


def test_runtime_prediction_set_may_be_empty(make_model: MakeModel) -> None:
    conformal = "[uncertainty.conformal]\ncoverage = 0.5\nevent_bound = 0.6\nno_event_bound = 0.8\nsource = 'x'\n"
    prediction = make_model(uncertainty=conformal).assess(_record(), AS_OF).assessment
    assert isinstance(prediction, Prediction)
    assert prediction.outcome_set == "neither"


@pytest.mark.parametrize("missing", list(ANSWER))
def test_runtime_refuses_a_graph_without_a_required_output(make_package: Callable[..., str], missing: str) -> None:
    package = make_package({missing: None})
    with pytest.raises(ArtifactError, match=f"lacks outputs .*{missing}"):
        ReleasedModel.load(package, UNSIGNED)


@pytest.mark.parametrize("graph", [_graph(ANSWER, width=3), _graph(ANSWER, name="x")])
def test_runtime_refuses_a_graph_with_other_inputs(make_package: Callable[..., str], graph: bytes) -> None:
    package = make_package(graph=graph)
    with pytest.raises(ArtifactError, match="graph inputs of model tiny"):
        ReleasedModel.load(package, UNSIGNED)


@pytest.mark.parametrize("data", [b"", b"not a graph", _graph(ANSWER)[:-20]])
def test_runtime_refuses_bytes_that_are_no_graph(make_package: Callable[..., str], data: bytes) -> None:
    package = make_package(graph=data)
    with pytest.raises(ArtifactError, match="graph of model tiny does not load"):
        ReleasedModel.load(package, UNSIGNED)


def test_runtime_refuses_an_altered_or_missing_file_and_names_it(
    make_package: Callable[..., str], tmp_path: Path
) -> None:
    package = make_package(files=f'"codes.toml" = "{hashlib.sha256(b"a").hexdigest()}"')
    with pytest.raises(ArtifactError, match=r"file codes\.toml of model tiny: No such file"):
        ReleasedModel.load(package, UNSIGNED)
    (tmp_path / package / "codes.toml").write_bytes(b"b")
    with pytest.raises(
        ArtifactError, match=r"file codes\.toml of model tiny is altered: expected sha-256 ca978112"
    ) as refused:
        ReleasedModel.load(package, UNSIGNED)
    assert refused.value.model_id == "tiny"
    (tmp_path / package / "codes.toml").write_bytes(b"a")
    assert ReleasedModel.load(package, UNSIGNED).manifest.id == "tiny"


def test_runtime_runs_no_code_of_a_package_whose_graph_is_refused(
    make_package: Callable[..., str], tmp_path: Path
) -> None:
    package = make_package(sha256="0" * 64, inputs="raise SystemExit('code of an altered package ran')\n")
    with pytest.raises(ArtifactError, match=r"file model\.onnx of model tiny is altered"):
        ReleasedModel.load(package, UNSIGNED)


@pytest.mark.parametrize("inputs", ["raise SystemExit('gone')\n", "import no_such_library\n", "INPUT = 1\n"])
def test_runtime_names_the_package_whose_code_fails(make_package: Callable[..., str], inputs: str) -> None:
    package = make_package(inputs=inputs)
    with pytest.raises(ArtifactError, match=f"code of package {package} fails: "):
        ReleasedModel.load(package, UNSIGNED)


def test_runtime_refuses_an_opset_that_is_not_run(make_package: Callable[..., str]) -> None:
    with pytest.raises(ManifestError, match="opset 12"):
        ReleasedModel.load(make_package(opset=12), UNSIGNED)


def test_runtime_refuses_an_essential_input_that_does_not_exist(make_package: Callable[..., str]) -> None:
    package = make_package(abstain='essential = ["age", "dosis"]')
    with pytest.raises(ModelError, match="essential input dosis of model tiny is none of age, dose"):
        ReleasedModel.load(package, UNSIGNED)


def test_runtime_uses_the_models_own_words_where_it_has_them(make_package: Callable[..., str], tmp_path: Path) -> None:
    package = make_package()
    (tmp_path / package / "finding.py").write_text(
        dedent("""
            from dataclasses import replace
            from model_artifacts.finding import interpret_by_bands
            def interpret(assessment, manifest):
                return replace(interpret_by_bands(assessment, manifest), headline="own words")
        """)
    )
    model = ReleasedModel.load(package, UNSIGNED)
    assert model.interpret(model.assess(_record(), AS_OF).assessment, model.manifest).headline == "own words"


def test_runtime_answers_from_many_threads_alike(make_model: MakeModel) -> None:
    model = make_model()
    arrays: dict[str, npt.NDArray[Any]] = {"features": np.ones((1, 2), np.float32)}
    with ThreadPoolExecutor(4) as pool:
        assert len({answer.digest() for answer in pool.map(lambda _: model.run(arrays), range(64))}) == 1


_MILLIGRAMS: dict[str, Any] = {"outputs": 'unit = "mg/wk"\nat_most = 300.0', "explanation": 'unit = "mg/wk"'}
_DOSE = {
    "probability": [[30.0]],
    "members": [[[28.0], [32.0]]],
    "attributions": [[4.0, 1.0]],
    "baseline_probability": [25.0],
    "interval": [[[17.0, 50.0]]],
}


def test_runtime_predicts_a_quantity_with_its_interval(make_model: MakeModel) -> None:
    prediction = make_model(_DOSE, **_MILLIGRAMS).assess(_record(), AS_OF).assessment
    assert isinstance(prediction, Prediction)
    assert (prediction.outputs, prediction.spread) == ({"event": 30.0}, {"event": (28.0, 32.0)})
    assert prediction.interval == {"event": (17.0, 50.0)}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"probability": [[301.0]]}, "expected 0 to 300 mg/wk"),
        ({"members": [[[-1.0], [32.0]]]}, "expected 0 to 300 mg/wk from each"),
        ({"interval": [[[31.0, 50.0]]]}, "one from 0 on that holds the output"),
        ({"interval": [[[17.0, 29.0]]]}, "one from 0 on that holds the output"),
        ({"interval": [[[-1.0, 50.0]]]}, "one from 0 on that holds the output"),
        ({"interval": [[[float("nan"), 50.0]]]}, "one from 0 on that holds the output"),
    ],
)
def test_runtime_refuses_a_quantity_or_interval_out_of_bounds(
    answer: dict[str, Any], message: str, make_model: MakeModel
) -> None:
    with pytest.raises(GraphOutputError, match=message):
        make_model(_DOSE | answer, **_MILLIGRAMS).assess(_record(), AS_OF)


def test_runtime_interval_is_part_of_the_answers_digest(make_model: MakeModel) -> None:
    answers = [make_model(_DOSE | {"interval": ends}, **_MILLIGRAMS) for ends in ([[[17.0, 50.0]]], [[[17.0, 51.0]]])]
    digests = {
        assessed.answer and assessed.answer.digest()
        for assessed in (model.assess(_record(), AS_OF) for model in answers)
    }
    assert len(digests) == 2
