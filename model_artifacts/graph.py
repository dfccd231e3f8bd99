"""A model's graph: opened, held against its manifest, and asked: the only user of onnxruntime.

A graph either explains itself (explainer "graph": integrated gradients among its outputs), or gives its outputs alone and is
explained by occlusion (`occlusion.py`). What comes back is a `GraphAnswer` in both cases. Who vouches for the bytes is
`runtime.py`'s business: nothing here may be called with bytes whose digest wasn't checked.

To add an explainer: a name in `manifest.Artifact.explainer`, what it needs of a graph in `check_signature`, a branch in
`run_graph`.
Must not import the runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from model_artifacts.errors import ArtifactError, GraphOutputError
from model_artifacts.manifest import ModelManifest, Sha256
from model_artifacts.occlusion import explain_by_occlusion

Arrays = Mapping[str, npt.NDArray[Any]]

REQUIRED_OUTPUTS = ("probability", "members", "attributions", "baseline_probability", "completeness_gap")
"""By these names whatever the outputs are: where the manifest gives a unit, "probability" holds quantities in it."""
OPTIONAL_OUTPUTS = ("novelty", "interval")
_OWN_OUTPUTS = ("members", *OPTIONAL_OUTPUTS)
"""What a graph explained by occlusion may give beside its answer."""
_TABLE_TYPES = ("tensor(float)", "tensor(double)")
_NO_OTHER_FILE = ("session.model_external_initializers_file_folder_path", "/dev/null/none")
"""A place where no file can be: weights that a graph keeps in a file of their own would come from the working directory, and
nobody signed that file."""


@dataclass(frozen=True, slots=True)
class GraphAnswer:
    """One patient's raw answer of the graph; the arrays have lost their batch axis.

    Attributes:
        probability: (k,) float32.
        members: (m, k) float32.
        attributions: (a,) float32.
        baseline: float32 scalar array.
        novelty: float32 scalar array or None.
        interval: (k, 2) float32, low and high, or None.
    """

    probability: npt.NDArray[np.float32]
    members: npt.NDArray[np.float32]
    attributions: npt.NDArray[np.float32]
    baseline: npt.NDArray[np.float32]
    novelty: npt.NDArray[np.float32] | None
    interval: npt.NDArray[np.float32] | None = None

    def digest(self) -> Sha256:
        """SHA-256 over every output's bytes: equal digests mean equal answers, bit for bit."""
        optional = (self.novelty, self.interval)
        parts = [self.probability, self.members, self.attributions, self.baseline]
        parts += [part for part in optional if part is not None]
        return Sha256(hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())


def open_session(manifest: ModelManifest, graph: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread, from bytes that were verified and nothing else.

    Raises:
        ArtifactError: they are no graph that onnxruntime runs, or its weights lie in another file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one request, one core: workers scale by process
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry(*_NO_OTHER_FILE)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ArtifactError(f"graph of model {manifest.id} does not load: {exc}", model_id=manifest.id) from exc


def check_signature(manifest: ModelManifest, session: onnxruntime.InferenceSession) -> None:
    """Returns if the graph has the inputs that the manifest declares, and the outputs that its explainer needs.

    Raises:
        ArtifactError: it hasn't.
    """
    declared = {item.name: item.shape for item in manifest.artifact.inputs}
    actual = {item.name: tuple(item.shape[1:]) for item in session.get_inputs()}
    if declared != actual:
        message = f"graph inputs of model {manifest.id}: expected {declared}, got {actual}"
        raise ArtifactError(message, model_id=manifest.id)
    if manifest.artifact.explainer == "occlusion":
        _check_occludable(manifest, session)
        return
    missing = set(REQUIRED_OUTPUTS) - {item.name for item in session.get_outputs()}
    if missing:
        raise ArtifactError(f"graph of model {manifest.id} lacks outputs {sorted(missing)}", model_id=manifest.id)


def _check_occludable(manifest: ModelManifest, session: onnxruntime.InferenceSession) -> None:
    """Occlusion asks many rows at once, of one output that is a table of numbers."""
    occlusion = manifest.explanation.occlusion
    assert occlusion is not None  # `parse_manifest` saw to it
    types = {item.name: item.type for item in session.get_outputs()}
    got = types.get(occlusion.output, "none of this name")
    fixed = [item.name for item in session.get_inputs() if isinstance(item.shape[0], int)]
    for holds, message in (
        (got in _TABLE_TYPES, f"output {occlusion.output}: expected {' or '.join(_TABLE_TYPES)}, got {got}"),
        (not fixed, f"inputs {', '.join(fixed)}: expected a batch axis of any length, which occlusion needs"),
        (
            manifest.artifact.members == 1 or "members" in types,
            "output members: expected one, as the manifest has several",
        ),
    ):
        if not holds:
            raise ArtifactError(f"graph of model {manifest.id}: {message}", model_id=manifest.id)


def run_graph(session: onnxruntime.InferenceSession, arrays: Arrays, manifest: ModelManifest) -> GraphAnswer:
    """The raw answer for one patient's tensors: the graph's own, or with an explanation by occlusion."""
    names = [output.name for output in session.get_outputs()]
    if manifest.artifact.explainer == "occlusion":
        return _run_occluded(session, arrays, manifest, [name for name in names if name in _OWN_OUTPUTS])
    raw = dict(zip(names, session.run(None, dict(arrays)), strict=True))
    return GraphAnswer(
        raw["probability"][0],
        raw["members"][0],
        raw["attributions"][0],
        raw["baseline_probability"][0],
        *_further(raw),
    )


def _run_occluded(
    session: onnxruntime.InferenceSession, arrays: Arrays, manifest: ModelManifest, own: list[str]
) -> GraphAnswer:
    """As `run_graph`; without members of the graph's own, the output is the one member."""
    occlusion = manifest.explanation.occlusion
    assert occlusion is not None  # `parse_manifest` saw to it

    def ask(batch: Arrays) -> npt.NDArray[np.float32]:
        table = session.run([occlusion.output], dict(batch))[0]
        wide = table.size // max(1, len(table))
        if max(occlusion.columns) >= wide:
            message = (
                f"output {occlusion.output} of {manifest.id}: expected the columns {occlusion.columns}, got {wide}"
            )
            raise GraphOutputError(message, model_id=manifest.id)
        chosen: npt.NDArray[np.float32] = table.reshape(len(table), -1)[:, list(occlusion.columns)].astype(np.float32)
        return chosen

    outputs, shares, baseline = explain_by_occlusion(ask, arrays, manifest)
    raw = dict(zip(own, session.run(own, dict(arrays)), strict=True)) if own else {}
    members = raw["members"][0] if "members" in raw else outputs[np.newaxis]
    return GraphAnswer(outputs, members, shares, baseline, *_further(raw))


def _further(raw: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Novelty and interval, where the graph gives them."""
    novelty = np.asarray(raw["novelty"][0]) if "novelty" in raw else None
    return novelty, raw["interval"][0] if "interval" in raw else None
