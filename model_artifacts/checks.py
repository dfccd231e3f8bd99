"""What every model is held to, built-in or from a package of its own: `CHECKS`, for anybody's tests.

    SUBJECT = open_subject("long_stay", "bedside_long_stay")

    @pytest.mark.parametrize("name", CHECKS)
    def test_long_stay_is_a_model_as_bedside_wants_it(name: str) -> None:
        CHECKS[name](SUBJECT)

A check returns, or raises `CheckFailed` saying what was expected. Those that look into the graph's file need onnx and stand in
`training/graph_checks.py`. No check knows of a test runner, and nothing that serves imports this.

To add one: a function of a `Subject` and a line in `CHECKS`; every model is held to it from then on.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from model_artifacts.assessment import Abstention, Assessment, Prediction
from model_artifacts.errors import ModelError
from model_artifacts.example_changes import Bundle, Change, disturbed, varied, without_codes, without_member
from model_artifacts.examples import example_record
from model_artifacts.folder import read_folder
from model_artifacts.graph import OPTIONAL_OUTPUTS, REQUIRED_OUTPUTS
from model_artifacts.input_description import InputDescription, describe_inputs
from model_artifacts.inputs import Evidence
from model_artifacts.model_card import CARD_FILE, model_card
from model_artifacts.runtime import Assessed, ReleasedModel
from model_artifacts.signing import UNSIGNED, Trust
from model_artifacts.unfinished import require_finished

MAX_FILE_BYTES = 10_000_000
SHOWN_WITHIN = 1e-5  # examples hold six decimals
HEADLINE_CHARS = 140
TRAINING_LIBRARIES = ("torch", "sklearn", "skl2onnx", "onnx", "onnxscript", "pandas", "pyarrow", "scipy")
_TEMPLATES = {"manifest.toml", "manifest.template.toml"}


class CheckFailed(ModelError):  # noqa: N818 - it is what a check says, not what went wrong with it
    """A model isn't as it has to be; the message names what, what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Case:
    """One example: a record, the moment it is looked at, and what the model must say of it."""

    name: str
    expected: Mapping[str, Any]
    bundle: Bundle

    @property
    def predicts(self) -> bool:
        """Whether the model must answer."""
        return bool(self.expected["kind"] == "prediction")


@dataclass(frozen=True)
class Subject:
    """A model that is looked at: its id as registered, its import package, its folder's model and examples."""

    name: str
    package: str
    model: ReleasedModel

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The examples, by name."""
        folders = sorted(path for path in (self.model.folder / "examples").iterdir() if path.is_dir())
        return tuple(
            Case(folder.name, _read(folder / "expected.json"), _read(folder / "record.json")) for folder in folders
        )

    @property
    def predictions(self) -> tuple[Case, ...]:
        """The examples that the model answers."""
        return tuple(case for case in self.cases if case.predicts)

    def assess(self, case: Case, change: Change = lambda bundle: bundle) -> Assessed:
        """The model's assessment of an example, or of one that was changed."""
        bundle = change(json.loads(json.dumps(case.bundle)))
        record = example_record(case.expected["patient"], bundle)
        return self.model.assess(record, datetime.fromisoformat(case.expected["as_of"]))


Check = Callable[[Subject], None]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def open_subject(name: str, package: str, trust: Trust = UNSIGNED) -> Subject:
    """The model in `package`, whose entry point is called `name`. Raises: as `ReleasedModel.load`."""
    return Subject(name, package, ReleasedModel.load(package, trust))


def require(holds: object, message: str) -> None:
    """Raises CheckFailed with `message` if `holds` doesn't."""
    if not holds:
        raise CheckFailed(message)


def check_name(subject: Subject) -> None:
    require(subject.model.manifest.id == subject.name, f"id: expected {subject.name}, got {subject.model.manifest.id}")


def check_finished(subject: Subject) -> None:
    require_finished(read_folder(subject.model.folder, UNSIGNED))


def check_tables_are_listed(subject: Subject) -> None:
    """Every table that may decide the answer has its digest in the manifest."""
    tables = {path.name for path in subject.model.folder.glob("*.toml")} - _TEMPLATES
    unlisted = sorted(tables - subject.model.manifest.files.keys())
    require(not unlisted, f"files: expected {', '.join(unlisted)} to be listed")


def check_file_sizes(subject: Subject) -> None:
    large = [
        path.name
        for path in subject.model.folder.rglob("*")
        if path.is_file() and path.stat().st_size >= MAX_FILE_BYTES
    ]
    require(not large, f"files: expected less than {MAX_FILE_BYTES} bytes each, got more in {', '.join(large)}")


def check_card_is_generated(subject: Subject) -> None:
    """The card is what the generator writes of manifest, inputs and metrics, and its digest the one that decisions carry."""
    path = subject.model.folder / CARD_FILE
    card = path.read_text(encoding="utf-8") if path.exists() else ""
    require(
        card == model_card(subject.model),
        f"{CARD_FILE}: expected what `bedside model card {subject.name} --write` writes",
    )
    digest = hashlib.sha256(card.encode()).hexdigest()
    require(subject.model.identity.card_sha256 == digest, f"{CARD_FILE}: expected its digest in the model's identity")


def check_card_sections(subject: Subject) -> None:
    """Each section says something, or why it can't."""
    found = re.findall(r"^## (.+?)\n\n(.+?)(?=\n\n## |\Z)", model_card(subject.model), re.MULTILINE | re.DOTALL)
    empty = [title for title, text in found if len(text) <= 40 and not text.startswith("not available: ")]
    require(
        len(found) >= 17 and not empty, f"{CARD_FILE}: expected 17 filled sections, got {len(found)}, empty: {empty}"
    )


def check_examples_of_both_kinds(subject: Subject) -> None:
    kinds = {case.expected["kind"] for case in subject.cases}
    require(
        kinds == {"prediction", "abstention"}, f"examples: expected a prediction and an abstention, got {sorted(kinds)}"
    )


def check_shapes(subject: Subject) -> None:
    """The graph answers in the shapes that the manifest declares; the tensors that go in have them too."""
    model, case = subject.model, subject.predictions[0]
    assessed = subject.assess(case)
    arrays, answer, artifact = assessed.inputs.arrays, assessed.answer, model.manifest.artifact
    went_in = {name: array.shape for name, array in arrays.items()}
    declared = {item.name: (1, *item.shape) for item in artifact.inputs}
    require(went_in == declared, f"inputs: expected {declared}, got {went_in}")
    outputs, slots = len(model.manifest.outputs), max(slot for group in assessed.inputs.slots for slot in group)
    assert answer is not None
    shapes = (answer.probability.shape, answer.members.shape, answer.attributions.shape, answer.baseline.shape)
    expected = ((outputs,), (artifact.members, outputs), (1 + slots,), ())
    require(shapes == expected, f"outputs, members, attributions and baseline: expected {expected}, got {shapes}")
    require(
        answer.interval is None or answer.interval.shape == (outputs, 2), "interval: expected two ends for each output"
    )
    names = {item.name for item in model.session.get_outputs()}
    if artifact.explainer == "graph":
        known = {*REQUIRED_OUTPUTS, *OPTIONAL_OUTPUTS}
        require(
            set(REQUIRED_OUTPUTS) <= names <= known,
            f"graph's outputs: expected some of {sorted(known)}, got {sorted(names)}",
        )


def check_examples_are_reproduced(subject: Subject) -> None:
    """Finding, outputs, attributions or reasons of each example are those in its `expected.json`."""
    for case in subject.cases:
        assessment = subject.assess(case).assessment
        finding = subject.model.interpret(assessment, subject.model.manifest)
        got: dict[str, Any] = {"code": finding.code, "proposals": [item.code.code for item in finding.proposals]}
        match assessment:
            case Prediction():
                got |= {"kind": "prediction"}
                moved = {item.evidence: item.contribution for item in assessment.attributions}
                _require_close(f"outputs of {case.name}", assessment.outputs, case.expected.get("outputs", {}))
                _require_close(f"attributions of {case.name}", moved, case.expected.get("attributions", {}))
            case Abstention():
                reasons = [reason.code for reason in assessment.reasons]
                got |= {"kind": "abstention", "reasons": reasons, "outside_population": assessment.outside_population}
        said = {name: case.expected.get(name) for name in got}
        require(got == said, f"example {case.name}: expected {said}, got {got}")


def _require_close(what: str, got: Mapping[str, float], expected: Mapping[str, float]) -> None:
    require(got.keys() == expected.keys(), f"{what}: expected {sorted(expected)}, got {sorted(got)}")
    far = [name for name, value in got.items() if not abs(value - expected[name]) <= SHOWN_WITHIN]
    require(not far, f"{what}: expected those of the example, got others for {', '.join(far)}")


def check_attributions_add_up(subject: Subject) -> None:
    """To the output minus the baseline's, within the manifest's tolerance."""
    artifact = subject.model.manifest.artifact
    for case in subject.predictions:
        prediction = subject.assess(case).assessment
        assert isinstance(prediction, Prediction)
        moved = fsum(item.contribution for item in prediction.attributions)
        gap = moved - (prediction.outputs[artifact.explained] - prediction.baseline)
        require(abs(gap) <= artifact.completeness_tolerance, f"attributions of {case.name}: got a gap of {gap:g}")


def check_answers_repeat(subject: Subject) -> None:
    """The same tensors give the same answer bit for bit, as replaying a decision needs."""
    for case in subject.predictions:
        assessed = subject.assess(case)
        assert assessed.answer is not None
        again = subject.model.run(assessed.inputs.arrays)
        require(again.digest() == assessed.answer.digest(), f"example {case.name}: got another answer the second time")


def check_evidence(subject: Subject) -> None:
    """What is shown has its unit, date and source, and a headline that fits a card."""
    for case in subject.cases:
        assessment = subject.assess(case).assessment
        finding = subject.model.interpret(assessment, subject.model.manifest)
        require(
            len(finding.headline) < HEADLINE_CHARS,
            f"headline of {case.name}: expected less than {HEADLINE_CHARS} signs",
        )
        resources = [entry["resource"] for entry in case.bundle["entry"]]
        known = {f"{resource['resourceType']}/{resource['id']}" for resource in resources}
        for item, _ in finding.reasons:
            require(_is_traceable(item, known), f"input {item.name} of {case.name}: expected unit, date and source")


def _is_traceable(item: Evidence, known: set[str]) -> bool:
    if item.source is None:
        return bool(item.note)
    if item.source not in known:
        return False
    measured = item.source.startswith("Observation/")
    return not measured or (item.observed_at is not None and bool(item.unit or item.display or item.value is not None))


def check_single_missing_inputs(subject: Subject) -> None:
    """Without any one input the model abstains and says which, or is allowed to answer and shows that it wasn't there."""
    if not subject.predictions:
        return
    for item in describe_inputs(subject.model.inputs):
        if item.codes:
            check_without(subject, subject.predictions[0], item)


def check_without(subject: Subject, case: Case, item: InputDescription) -> None:
    """The check above for one input of one example."""
    codes = set(item.codes.split(", "))
    assessment = subject.assess(case, lambda bundle: without_codes(bundle, codes)).assessment
    require_absence_is_told(subject, item.name, assessment)


def check_missing_person(subject: Subject) -> None:
    """As for single inputs, without birth date or sex."""
    case = subject.predictions[0]
    before = {item.name: item.value for item in subject.assess(case).assessment.evidence}
    for member in ("birthDate", "gender"):
        assessment = subject.assess(case, without_member(member)).assessment
        for item in assessment.evidence:
            if item.value is None and before[item.name] is not None:
                require_absence_is_told(subject, item.name, assessment)


def require_absence_is_told(subject: Subject, missing: str, assessment: Assessment) -> None:
    """Absent and essential: abstains, and says which; absent and not: answers, and shows that it wasn't there."""
    manifest = subject.model.manifest
    item = next(item for item in assessment.evidence if item.name == missing)
    if item.value is not None:
        require(item.note, f"input {missing}: expected a note of what stood in for it")
    elif missing in manifest.abstain.essential:
        named = isinstance(assessment, Abstention) and (
            assessment.outside_population or missing in {reason.evidence for reason in assessment.reasons}
        )
        require(named, f"input {missing}: expected an abstention that names it")
    elif isinstance(assessment, Prediction):
        told = subject.model.interpret(assessment, manifest).missing
        require(
            any(item.label.lower() in line.lower() for line in told), f"input {missing}: expected to be told as missing"
        )
    else:
        codes = {reason.code for reason in assessment.reasons}
        require(
            codes <= {"too-few-inputs", "unlike-training-data"}, f"input {missing}: got the reasons {sorted(codes)}"
        )


def check_order_of_the_bundle(subject: Subject) -> None:
    """Resources in another order, and some of them twice, give the same answer bit for bit."""
    for case, seed in ((case, seed) for case in subject.predictions for seed in (1, 2)):
        plain, other = subject.assess(case), subject.assess(case, disturbed(seed))
        assert plain.answer is not None
        same = other.answer is not None and other.answer.digest() == plain.answer.digest()
        require(
            same and other.assessment.evidence == plain.assessment.evidence, f"example {case.name}: got another answer"
        )


def check_varied_patients(subject: Subject) -> None:
    """Values up to half as much again, or a third less, give an answer within the manifest's bounds, or reasons."""
    for seed in range(8):
        assessment = subject.assess(subject.predictions[0], varied(np.random.default_rng(seed), 0.05 * seed)).assessment
        require_within_bounds(subject, assessment)


def require_within_bounds(subject: Subject, assessment: Assessment) -> None:
    """An abstention has reasons; a prediction's outputs, baseline, spread and interval lie within the manifest's bounds."""
    if isinstance(assessment, Abstention):
        require(assessment.reasons, "abstention: expected reasons")
        return
    most = max(output.at_most for output in subject.model.manifest.outputs)
    ends = [end for ends in assessment.spread.values() for end in ends if not np.isnan(end)]
    within = all(0.0 <= value <= most for value in (*assessment.outputs.values(), assessment.baseline, *ends))
    require(within, f"answer: expected values of 0 to {most:g}")
    for output, (low, high) in assessment.interval.items():
        require(
            0.0 <= low <= assessment.outputs[output] <= high,
            f"interval of {output}: expected one that holds the output",
        )


def check_budget(subject: Subject, calls: int = 30) -> None:
    """Prediction and explanation by occlusion keep to the manifest's budget: the quickest call, for a machine may be busy."""
    occlusion = subject.model.manifest.explanation.occlusion
    if occlusion is None:
        return
    inputs = subject.assess(subject.predictions[0]).inputs
    spent = []
    for _ in range(calls):
        started = time.perf_counter()
        subject.model.run(inputs.arrays)
        spent.append(1000 * (time.perf_counter() - started))
    message = f"budget: expected at most {occlusion.budget_ms:g} ms for an answer, got {min(spent):.2f} at best"
    require(min(spent) <= occlusion.budget_ms, message)


def check_serves_without_training_libraries(subject: Subject) -> None:
    """Loading and answering imports nothing that only training needs; looked at in a process of its own."""
    script = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from model_artifacts.runtime import ReleasedModel\n"
        "from model_artifacts.signing import UNSIGNED\n"
        f"ReleasedModel.load({subject.package!r}, UNSIGNED)\n"
        f"print(*sorted(set({TRAINING_LIBRARIES!r}) & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own words
    require(done.returncode == 0, f"loading in a process of its own failed: {done.stderr[-300:]}")
    require(not done.stdout.strip(), f"serving: expected no training library, got {done.stdout.strip()}")


CHECKS: dict[str, Check] = {
    "name": check_name,
    "finished": check_finished,
    "tables-are-listed": check_tables_are_listed,
    "file-sizes": check_file_sizes,
    "card-is-generated": check_card_is_generated,
    "card-sections": check_card_sections,
    "examples-of-both-kinds": check_examples_of_both_kinds,
    "shapes": check_shapes,
    "examples-are-reproduced": check_examples_are_reproduced,
    "attributions-add-up": check_attributions_add_up,
    "answers-repeat": check_answers_repeat,
    "evidence": check_evidence,
    "single-missing-inputs": check_single_missing_inputs,
    "missing-person": check_missing_person,
    "order-of-the-bundle": check_order_of_the_bundle,
    "varied-patients": check_varied_patients,
    "budget": check_budget,
    "serves-without-training-libraries": check_serves_without_training_libraries,
}
