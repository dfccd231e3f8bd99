"""The manifest of a model: everything about it that is not arithmetic, read strictly from `manifest.toml`.

Owns the schema `bedside-model/1`. Unknown members are refused, so a misspelt threshold cannot pass for a default.
Texts are clinical words and are shown on cards as they stand. Nothing here opens the ONNX file.

To extend: add a member with a default here, say in its comment what it is for, and let `model_card.py` print it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Literal, NewType, TypeAlias

import msgspec

from model_artifacts.errors import ManifestError
from model_artifacts.gate import Gate, gate_problems

ModelId = NewType("ModelId", str)
Sha256 = NewType("Sha256", str)

SCHEMA = "bedside-model/1"
Indicator = Literal["info", "warning", "critical"]

OPSETS = range(17, 24)
"""The ONNX opsets accepted: what the pinned onnxruntime runs and our exporter writes."""
MOST_EXACT, MOST_PERMUTATIONS = 12, 512
"""Bounds of what one call may ask of a graph: 4,096 coalitions, or 512 orders both ways."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class GraphInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named input tensor; `shape` is without the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int64", "int32"] = "float32"


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ONNX file: its digest, opset and what its outputs mean."""

    sha256: str
    opset: int
    inputs: tuple[GraphInput, ...]
    explained: str  # name of the output that the attributions explain
    members: int = 1  # ensemble members; 1 means a single network or an equation
    integration_steps: int = 0
    completeness_tolerance: float = 1e-3  # probability; above it a decision is refused
    novelty_threshold: float | None = None
    file: str = "model.onnx"
    explainer: Literal["graph", "occlusion"] = "graph"  # "occlusion": the graph gives outputs only; see `Occlusion`


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output in the words a card uses: a probability, or with a `unit` a quantity between 0 and `at_most`."""

    name: str
    label: str  # "10-year risk of cardiovascular disease"
    event: str  # "a heart attack, a stroke or heart failure within 10 years"
    floor: float = 0.0005  # estimates below it are shown as "below": what the evaluation cannot tell apart from nothing
    optional: bool = False  # may be not-a-number where the model doesn't define it (a 30-year risk at 65)
    unit: str = ""  # UCUM code of a quantity ("mg/wk"); "" for a probability
    at_most: float = 1.0  # what lies above is a fault of the graph and not shown


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Risk band of the first output: `at_least` is its lower bound, a probability."""

    code: str
    at_least: float
    label: str
    indicator: Indicator
    consider: tuple[str, ...] = ()
    meaning: str = ""  # what the evaluation showed about this threshold, in words


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One condition of the population, evaluated by `population.py`; unmet, the model abstains with `text`."""

    kind: (
        Literal["age", "alive", "sex-recorded", "no-condition", "no-current-condition"]
        | Literal["icu-stay", "no-hospital-stay", "drafted-drug"]
        | Literal["leaving-hospital", "not-leaving-to", "condition-or-drug"]
    )
    text: str
    at_least: float | None = None
    at_most: float | None = None  # of a current condition: days since it began
    codes: str | None = None  # file in the model folder holding a code list, of diagnoses, of drugs or of dispositions
    drugs: str | None = None  # of a condition or drug: the file with the drugs
    silent: bool = False  # unmet, there is nothing to say: no card, only the log's entry


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the model is for, in words and as a predicate."""

    text: str
    criteria: tuple[Criterion, ...]


class AbstainRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When inputs are too few: the essential ones by name, and how many must be there at least."""

    essential: tuple[str, ...] = ()
    minimum_present: int = 0


class ConformalSpan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds from this value of the input on which they depend."""

    at_least: float
    event_bound: float
    no_event_bound: float


class Conformal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Split-conformal set for a yes/no outcome: an outcome stays in the set while its probability is at least its bound.

    Where coverage has to hold within spans of something (the hour of a stay), `by` names the graph's input of one number that
    says so, and `spans` the bounds from each value on, ascending; below the first span the two bounds here hold.
    """

    coverage: float
    event_bound: float
    no_event_bound: float
    source: str
    by: str = ""
    spans: tuple[ConformalSpan, ...] = ()

    def bounds_at(self, value: float | None) -> tuple[float, float]:
        """Of the event and of its absence, at this value of the input `by`; None where it names no input."""
        reached = [span for span in self.spans if value is not None and value >= span.at_least]
        span = reached[-1] if reached else self
        return span.event_bound, span.no_event_bound


BaselineValue: TypeAlias = float | Literal["missing"]


class Occlusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a graph that gives outputs only is explained: `occlusion.py`. All that decides which rows it is asked is here.

    Attributes:
        output: the graph's output that holds the manifest's outputs, of shape (rows, columns) or (rows,).
        columns: the column of each of the manifest's outputs there.
        baseline: of each input in its order, a number or "missing"; of an input of several positions, a list.
        budget_ms: for prediction and explanation on one thread. Tests hold it, not a clock: a decision must be repeatable.
        permutations: orders of the inputs, each walked forwards and backwards.
        exact_up_to: where no more inputs differ from the baseline, all their combinations are asked.
    """

    output: str
    columns: tuple[int, ...]
    baseline: dict[str, BaselineValue | tuple[BaselineValue, ...]]
    budget_ms: float
    permutations: int = 32
    exact_up_to: int = 8


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the attributions are measured against, in words."""

    baseline: str
    unit: Literal["probability", "mg/wk"] = "probability"
    occlusion: Occlusion | None = None  # needed by explainer "occlusion", and by no other


class Uncertainty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the interval on the card comes about, or why there is none."""

    kind: Literal["ensemble-range", "conformal-interval", "none"]
    text: str
    conformal: Conformal | None = None


class IntendedUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may use it for what, and what it must not be used for."""

    use: str
    users: str
    role: Literal["informs", "augments"]
    out_of_scope: tuple[str, ...]
    limits: tuple[str, ...]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model's claim comes from; shown as the card's source."""

    label: str
    url: str
    topic_system: str
    topic_code: str
    topic_display: str
    citation: str


class OverrideReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reason a clinician can give for not following the card."""

    code: str
    display: str


class Developer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who made it and with whose money (HTI-1 source attributes 1 and 2)."""

    name: str
    contact: str
    funding: str


class TrainingData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was made from."""

    description: str
    licence: str
    citation: str


class Monitoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the figures from service are an alarm; `sketch_judgement.py` says how each is judged, and that chance is none.

    The first four compare with `reference.json`, the last three with outcomes, where a site gives them.
    """

    psi_alarm: float = 0.25  # population stability index of an input or output; the customary bound for "has shifted"
    missing_alarm: float = 0.2  # change of the share without a value
    novelty_alarm: float = 0.1  # share unlike the training data, beyond the reference's own
    abstention_alarm: float = 0.5  # share of the decisions inside the population in which the model abstained
    minimum_decisions: int = 200  # fewer are shown and not judged
    observed_to_expected: tuple[float, float] = (0.8, 1.25)  # events that came, to those predicted
    calibration_slope: tuple[float, float] = (0.8, 1.25)
    minimum_events: int = 20  # fewer are shown and not judged
    frequency: str = ""  # how often somebody is to look, in words; for the model card


class ModelManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.toml`, whole."""

    schema: Literal["bedside-model/1"]
    id: str
    version: str
    title: str
    description: str
    kind: Literal["published-equation", "learned"]
    hooks: tuple[str, ...]
    artifact: Artifact
    outputs: tuple[Output, ...]
    bands: tuple[Band, ...]
    population: Population
    abstain: AbstainRule
    explanation: Explanation
    uncertainty: Uncertainty
    intended_use: IntendedUse
    source: Source
    developer: Developer
    training_data: TrainingData
    files: dict[str, str] = {}  # further files of the folder that decide the answer, with their SHA-256
    override_reasons: tuple[OverrideReason, ...] = ()
    seeds: tuple[int, ...] = ()
    monitoring: Monitoring = Monitoring()
    gate: Gate = Gate()  # what a version must keep to be promoted; without rules none can be
    disclosures: dict[
        str, str
    ] = {}  # what only a person can say about the model, by key of a model card's schema plug-in
    tripod: dict[str, str] = {}  # the same by part of the reporting guideline TRIPOD+AI, "5b"; keys in `tripod.py`

    @property
    def explained_index(self) -> int:
        """Position of the explained output among the outputs."""
        return [output.name for output in self.outputs].index(self.artifact.explained)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the outputs are probabilities; else they are quantities, each in its unit."""
        return not any(output.unit for output in self.outputs)

    def band(self, probability: float) -> Band:
        """The band of `probability` as displayed: the last whose lower bound it reaches."""
        return [band for band in self.bands if displayed(probability) >= band.at_least][-1]


def displayed(probability: float) -> float:
    """The probability as shown, to a tenth of a percent; bands and thresholds are taken from it, so words and figure agree."""
    return round(probability, 3)


def parse_manifest(text: str) -> ModelManifest:
    """The manifest in `text`.

    Raises:
        ManifestError: not TOML, unknown or missing members, wrong types, or contradictions.
    """
    try:
        manifest = msgspec.convert(tomllib.loads(text), ModelManifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise ManifestError(f"manifest cannot be read: {exc}") from exc
    _check_consistency(manifest)
    return manifest


def read_manifest(folder: Path) -> tuple[ModelManifest, Sha256]:
    """The manifest of a model folder and the SHA-256 of its bytes."""
    path = folder / "manifest.toml"
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ManifestError(f"manifest {path.name} of {folder.name} cannot be read: {exc.strerror}") from exc
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise ManifestError(f"manifest {path.name} of {folder.name} cannot be read: not UTF-8") from exc
    return parse_manifest(text), Sha256(hashlib.sha256(data).hexdigest())


def _check_consistency(manifest: ModelManifest) -> None:
    problems = [text for holds, text in _consistency_rules(manifest) if not holds]
    if problems:
        raise ManifestError(f"manifest of {manifest.id}: {'; '.join(problems)}", model_id=manifest.id)


def _consistency_rules(manifest: ModelManifest) -> list[tuple[bool, str]]:
    artifact = manifest.artifact
    names = [output.name for output in manifest.outputs]
    digests = {artifact.file: artifact.sha256, **manifest.files}
    listing = ("no-condition", "no-current-condition", "drafted-drug", "not-leaving-to", "condition-or-drug")
    code_lists = {item.codes or "" for item in manifest.population.criteria if item.kind in listing}
    code_lists |= {item.drugs or "" for item in manifest.population.criteria if item.kind == "condition-or-drug"}
    units = {output.unit for output in manifest.outputs}
    return [
        (manifest.id.isidentifier(), "id must be a Python identifier"),
        (bool(manifest.hooks), "hooks must name at least one hook"),
        (bool(names), "outputs must not be empty"),
        (len(set(names)) == len(names), "output names must differ"),
        (artifact.explained in names, f"explained output {artifact.explained!r} is not an output"),
        (units == {""} or "" not in units, "outputs must be all probabilities or all quantities"),
        (all(output.unit or output.at_most == 1 for output in manifest.outputs), "a probability's at_most must be 1"),
        (units <= {"", manifest.explanation.unit}, "the explanation's unit must be the outputs' unit"),
        *_band_rules([band.at_least for band in manifest.bands]),
        (artifact.opset in OPSETS, f"opset {artifact.opset} is not in {OPSETS.start}–{OPSETS.stop - 1}"),
        (artifact.members >= 1, "members must be at least 1"),
        *_occlusion_rules(manifest),
        (0 < artifact.completeness_tolerance < 1, "completeness_tolerance must be above 0 and below 1"),
        (all(map(_SHA256.fullmatch, digests.values())), "every sha256 must be 64 hexadecimal digits"),
        (all(map(_lies_inside, digests)), "files must lie in the model's own folder"),
        (code_lists <= manifest.files.keys(), "a criterion's code list must be among the files"),
        *_monitoring_rules(manifest.monitoring),
        *_conformal_rules(manifest),
        *gate_problems(manifest.gate),
    ]


def _conformal_rules(manifest: ModelManifest) -> list[tuple[bool, str]]:
    conformal = manifest.uncertainty.conformal
    if conformal is None:
        return []
    single = {item.name for item in manifest.artifact.inputs if item.shape == (1,)}
    starts = [span.at_least for span in conformal.spans]
    return [
        (bool(starts) == bool(conformal.by), "conformal spans need the input they go by, and the other way round"),
        (
            not conformal.by or conformal.by in single,
            f"conformal bounds go by {conformal.by!r}, no input of one number",
        ),
        (starts == sorted(set(starts)), "conformal spans must ascend"),
    ]


def _monitoring_rules(monitoring: Monitoring) -> list[tuple[bool, str]]:
    shares = (monitoring.missing_alarm, monitoring.novelty_alarm, monitoring.abstention_alarm)
    ranges = (monitoring.observed_to_expected, monitoring.calibration_slope)
    return [
        (monitoring.psi_alarm > 0, "monitoring.psi_alarm must be above 0"),
        (all(0 < share <= 1 for share in shares), "monitoring's shares must be above 0 and at most 1"),
        (all(0 <= low < 1 < high for low, high in ranges), "monitoring's ranges must hold 1"),
        (monitoring.minimum_decisions >= 50, "monitoring.minimum_decisions must be at least 50"),
        (monitoring.minimum_events >= 10, "monitoring.minimum_events must be at least 10"),
    ]


def _band_rules(bounds: list[float]) -> list[tuple[bool, str]]:
    return [
        (bool(bounds) and bounds[0] == 0.0, "the first band must begin at 0"),
        (bounds == sorted(set(bounds)), "bands must ascend"),
        (all(0 <= bound < 1 for bound in bounds), "band bounds must be probabilities below 1"),
    ]


def _occlusion_rules(manifest: ModelManifest) -> list[tuple[bool, str]]:
    occlusion = manifest.explanation.occlusion
    wanted = manifest.artifact.explainer == "occlusion"
    if occlusion is None or not wanted:
        return [(occlusion is None and not wanted, 'explainer "occlusion" and explanation.occlusion need each other')]
    return [
        (len(occlusion.columns) == len(manifest.outputs), "occlusion.columns must name a column for each output"),
        (all(column >= 0 for column in occlusion.columns), "occlusion.columns must not be negative"),
        (bool(occlusion.baseline), "occlusion.baseline must name every input"),
        (1 <= occlusion.permutations <= MOST_PERMUTATIONS, f"occlusion.permutations must be 1 to {MOST_PERMUTATIONS}"),
        (0 <= occlusion.exact_up_to <= MOST_EXACT, f"occlusion.exact_up_to must be 0 to {MOST_EXACT}"),
        (occlusion.budget_ms > 0, "occlusion.budget_ms must be above 0"),
    ]


def _lies_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
