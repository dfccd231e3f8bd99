"""Load a released model and assess a patient with it.

Loading, in this order, so that no byte of an unknown graph is ever parsed:
 (1) a trusted key signed the folder;
 (2) the manifest is the one signed, and is read strictly; its opset is one we run;
 (3) the SHA-256 of the ONNX file and of every other file that decides an answer is the one signed, and the manifest's;
 (4) only then the bytes just digested (not the path) are given to onnxruntime;
 (5) the graph's inputs and outputs, and the essential inputs, are those the manifest declares.

Assessing, in this order:
 (6) outside the population: abstain;
 (7) too few inputs: abstain;
 (8) run the graph; refuse what is no probability (no quantity within the manifest's bound), members and interval too, or
     what the attributions don't add up to;
 (9) unlike the training data: abstain;
(10) otherwise predict.

Must not import torch, the service, or the log.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from fhir_adapters.mappings.draft_order import DraftOrder
from fhir_adapters.queries import Query
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.assessment import (
    Abstention,
    AbstentionReason,
    Assessment,
    Finding,
    ModelIdentity,
    OutcomeSet,
    Prediction,
)
from model_artifacts.errors import ArtifactError, GraphOutputError
from model_artifacts.explanation import attribute, check_completeness
from model_artifacts.finding import absence_words, capitalised, interpret_by_bands
from model_artifacts.folder import ModelFolder, read_folder
from model_artifacts.graph import Arrays, GraphAnswer, check_signature, open_session, run_graph
from model_artifacts.inputs import InputSpec, ModelInputs
from model_artifacts.manifest import Conformal, ModelId, ModelManifest, Output, Sha256
from model_artifacts.packages import code_of, package_folder
from model_artifacts.population import concerned_by, unmet_criteria
from model_artifacts.signing import Trust, release_keys
from model_artifacts.unfinished import require_finished

Interpreter = Callable[[Assessment, ModelManifest], Finding]


@dataclass(frozen=True, slots=True)
class Assessed:
    """An assessment with what is needed to repeat it: the tensors that went in and the raw answer (None if it never ran)."""

    assessment: Assessment
    inputs: ModelInputs
    answer: GraphAnswer | None


@dataclass(frozen=True, slots=True)
class ReleasedModel:
    """A model folder, verified and ready. Thread-safe: onnxruntime sessions may run concurrently.

    `code` is the installed package's folder: `folder` too, unless another version of the files is in force.
    """

    manifest: ModelManifest
    identity: ModelIdentity
    inputs: InputSpec
    interpret: Interpreter
    folder: Path
    session: onnxruntime.InferenceSession
    code: Path

    @classmethod
    def load(cls, package: str, trust: Trust | None = None, folder: Path | None = None) -> ReleasedModel:
        """The released model in the import package `package`; `folder` holds another version of its files.

        Without `trust`, Bedside's own key must vouch for it.

        Raises:
            ManifestError: the manifest is unreadable, contradicts itself, or is signed and not written to its end.
            ArtifactError: nobody whom `trust` names vouches for it, a file is missing or altered, the graph is not what the
                manifest declares, or the package's code fails.
        """
        code = package_folder(package)
        place = code if folder is None else folder
        name = package.rpartition(".")[2]
        found = read_folder(place, release_keys() if trust is None else trust, name)  # (1) (2) (3)
        if found.signed is not None:
            require_finished(found)
        manifest, session = found.manifest, open_graph(found)
        with code_of(package):
            inputs = importlib.import_module(f"{package}.inputs").INPUTS
            _check_essential(manifest, inputs)  # (5)
            interpret = _interpreter(package, code)
        return cls(manifest, identity_of(found), inputs, interpret, place, session, code)

    def queries(self) -> tuple[Query, ...]:
        """The FHIR data the model asks for."""
        return self.inputs.queries()

    def concerned_by(self, drafts: Sequence[DraftOrder]) -> bool:
        """Whether the model has any business at a call with these draft orders; without it, nothing need be gathered."""
        return concerned_by(self.manifest, self.folder, drafts)

    def assess(self, record: PatientRecord, as_of: datetime, unsure: Sequence[str] = ()) -> Assessed:
        """The model's assessment of `record` as known at `as_of` (aware UTC).

        `unsure` names searches whose silence would mean "no" and of which something is missing or could not be read.

        Raises:
            GraphOutputError: the graph's answer must not be shown.
        """
        inputs = self.inputs.extract(record, as_of)
        unmet = unmet_criteria(self.manifest, self.folder, record, as_of)  # (6)
        if unmet:
            return Assessed(self._abstain(unmet, inputs, outside=True), inputs, None)
        lacking = _unsure(unsure) + _lacking(self.manifest, inputs)  # (7)
        if lacking:
            return Assessed(self._abstain(lacking, inputs, outside=False), inputs, None)
        answer = self.run(inputs.arrays)  # (8)
        return Assessed(self.conclude(answer, inputs), inputs, answer)

    def run(self, arrays: Arrays) -> GraphAnswer:
        """The graph's raw answer for one patient's tensors; also what replaying a decision calls."""
        return run_graph(self.session, arrays, self.manifest)

    def conclude(self, answer: GraphAnswer, inputs: ModelInputs) -> Assessment:
        """The assessment that follows from a raw answer: checks (8), novelty (9), prediction (10).

        Raises:
            GraphOutputError: outside of what the manifest allows, or attributions that don't add up.
        """
        manifest = self.manifest
        outputs = _named_outputs(manifest, answer.probability)
        names = [item.name for item in inputs.evidence]
        attributions = attribute(answer.attributions, names, inputs.slots)
        baseline = float(answer.baseline)
        explained = outputs[manifest.artifact.explained]
        gap = check_completeness(attributions, explained, baseline, manifest.artifact.completeness_tolerance)
        novelty = None if answer.novelty is None else float(answer.novelty)
        limit = manifest.artifact.novelty_threshold
        if novelty is not None and limit is not None and not novelty <= limit:  # (9)
            text = "this patient's measurements are unlike those the model was trained on"
            return self._abstain((AbstentionReason("unlike-training-data", text),), inputs, outside=False)
        first = outputs[manifest.outputs[0].name]
        return Prediction(  # (10)
            self.identity,
            outputs,
            _spread(manifest, answer.members, outputs),
            _outcome_set(first, manifest.uncertainty.conformal, inputs.arrays),
            baseline,
            attributions,
            gap,
            novelty,
            inputs.evidence,
            inputs.set_aside,
            _interval(manifest, answer, outputs),
        )

    def _abstain(self, reasons: tuple[AbstentionReason, ...], inputs: ModelInputs, *, outside: bool) -> Abstention:
        return Abstention(self.identity, reasons, inputs.evidence, inputs.set_aside, outside)


def identity_of(folder: ModelFolder) -> ModelIdentity:
    """How the log and a decision name the version in a folder that was checked."""
    manifest = folder.manifest
    artifact_sha256 = Sha256(manifest.artifact.sha256)
    return ModelIdentity(
        ModelId(manifest.id), manifest.version, artifact_sha256, folder.manifest_sha256, folder.card_sha256
    )


def open_graph(folder: ModelFolder) -> onnxruntime.InferenceSession:
    """The graph in a model folder that was checked: steps (4) and (5).

    Raises:
        ArtifactError: the graph is not what the manifest declares.
    """
    session = open_session(folder.manifest, folder.graph)  # (4)
    check_signature(folder.manifest, session)  # (5)
    return session


def _check_baseline(manifest: ModelManifest, nobody: ModelInputs) -> None:
    """The manifest's baseline names the inputs in the order in which the graph's attributions explain them."""
    if manifest.explanation.occlusion is None:
        return
    names = {group: item.name for item, group in zip(nobody.evidence, nobody.slots, strict=True) if group}
    expected, got = [names[group] for group in sorted(names)], list(manifest.explanation.occlusion.baseline)
    if expected != got or sorted(names) != [(place,) for place in range(len(names))]:
        message = f"occlusion baseline of model {manifest.id}: expected {', '.join(expected)}, got {', '.join(got)}"
        raise ArtifactError(message, model_id=manifest.id)


def _check_essential(manifest: ModelManifest, inputs: InputSpec) -> None:
    nobody = inputs.extract(build_record(PatientId("nobody"), ()), datetime(2000, 1, 1, tzinfo=UTC))
    names = [item.name for item in nobody.evidence]
    unknown = [name for name in manifest.abstain.essential if name not in names]
    if unknown:
        message = f"essential input {', '.join(unknown)} of model {manifest.id} is none of {', '.join(names)}"
        raise ArtifactError(message, model_id=manifest.id)
    _check_baseline(manifest, nobody)


def _interpreter(package: str, folder: Path) -> Interpreter:
    if (folder / "finding.py").exists():
        interpret: Interpreter = importlib.import_module(f"{package}.finding").interpret
        return interpret
    return interpret_by_bands


def _unsure(searches: Sequence[str]) -> tuple[AbstentionReason, ...]:
    """What was not found there would count as "no", so it must not be taken for complete."""
    return tuple(
        AbstentionReason(
            "record-incomplete", f"{capitalised(name.replace('_', ' '))}: could not be received or read completely"
        )
        for name in searches
    )


def _lacking(manifest: ModelManifest, inputs: ModelInputs) -> tuple[AbstentionReason, ...]:
    by_name = {item.name: item for item in inputs.evidence}
    reasons = [
        AbstentionReason(
            f"input-{item.absence or 'missing'}", f"{item.label}: {absence_words(item.absence)}", item.name
        )
        for item in (by_name[name] for name in manifest.abstain.essential)
        if item.value is None
    ]
    present = sum(item.value is not None for item in inputs.evidence)
    if not reasons and present < manifest.abstain.minimum_present:
        text = f"only {present} of {len(by_name)} inputs were found; at least {manifest.abstain.minimum_present} are needed"
        reasons.append(AbstentionReason("too-few-inputs", text))
    return tuple(reasons)


def _named_outputs(manifest: ModelManifest, values: npt.NDArray[np.float32]) -> dict[str, float]:
    if values.shape != (len(manifest.outputs),):
        raise GraphOutputError(
            f"probability of {manifest.id}: expected {len(manifest.outputs)} outputs, got {values.shape}"
        )
    named: dict[str, float] = {}
    for output, value in zip(manifest.outputs, values.tolist(), strict=True):
        if output.optional and np.isnan(value):
            continue
        if not 0.0 <= value <= output.at_most:
            raise GraphOutputError(
                f"output {output.name} of {manifest.id}: expected {_kind(output)}", model_id=manifest.id
            )
        named[output.name] = value
    return named


def _kind(output: Output) -> str:
    return f"0 to {output.at_most:g} {output.unit}" if output.unit else "a probability"


def _spread(
    manifest: ModelManifest, members: npt.NDArray[np.float32], outputs: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """The lowest and highest member for each output that is defined here; none for a single network or equation."""
    expected = (manifest.artifact.members, len(manifest.outputs))
    if members.shape != expected:
        raise GraphOutputError(f"members of {manifest.id}: expected shape {expected}, got {members.shape}")
    spread: dict[str, tuple[float, float]] = {}
    for output, values in zip(manifest.outputs, members.T.tolist(), strict=True):
        if output.name not in outputs:
            continue
        if not all(0.0 <= value <= output.at_most for value in values):
            message = f"members of output {output.name} of {manifest.id}: expected {_kind(output)} from each"
            raise GraphOutputError(message, model_id=manifest.id)
        if len(values) > 1:
            spread[output.name] = (min(values), max(values))
    return spread


def _interval(
    manifest: ModelManifest, answer: GraphAnswer, outputs: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """The prediction interval of each output defined here, which must hold the output; none where the graph has none."""
    if answer.interval is None:
        return {}
    ends: dict[str, tuple[float, float]] = {}
    for output, (low, high) in zip(manifest.outputs, answer.interval.tolist(), strict=True):
        if output.name not in outputs:
            continue
        if not 0.0 <= low <= outputs[output.name] <= high:
            message = f"interval of output {output.name} of {manifest.id}: expected one from 0 on that holds the output"
            raise GraphOutputError(message, model_id=manifest.id)
        ends[output.name] = (low, high)
    return ends


def _outcome_set(probability: float, conformal: Conformal | None, arrays: Arrays) -> OutcomeSet | None:
    if conformal is None:
        return None
    value = float(arrays[conformal.by].item()) if conformal.by else None
    event_bound, no_event_bound = conformal.bounds_at(value)
    event, no_event = probability >= event_bound, 1 - probability >= no_event_bound
    match event, no_event:
        case True, True:
            return "either"
        case True, False:
            return "event"
        case False, True:
            return "no event"
        case _:
            return "neither"
