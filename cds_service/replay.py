"""Repeats a recorded decision: the stored tensors through the same model bytes, and the same words on the card.

 (1) the payload is read; who may open it is the caller's business;
 (2) what the leaf says of the patient, the model, the inputs, the cards and what was filed must follow from the payload;
 (3) the model's artefact and manifest must be the recorded ones; where they aren't, a kept copy of that version repeats the
     answer, and without one the change is said, not compared;
 (4) the tensors run through the graph; the answer's bytes must have the recorded digest;
 (5) the leaf's explanation, thresholds, abstention and output must follow from that answer;
 (6) finding, card and what was filed are made again and must equal the recorded ones, character for character.

A kept version gives its answer only: its words come from code that has changed since, so of (5) only explanation and
thresholds are compared, and nothing of (6). Where the model abstained before its graph ran, (4) has nothing to compare, and
(6) starts from the recorded reasons, if that version is installed.

A new comparison is one line in `_against_leaf`, `_against_answer` or `_against_finding`, by the name of the leaf's member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import msgspec

from audit.entry import DecisionEntry, format_time, parse_entry, read_header
from audit.errors import AuditError, NoSuchEntryError, PayloadError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.vault import SubjectKey
from cds_service.cards import present
from cds_service.decision import (
    Commit,
    ReplayPayload,
    leaf_action,
    leaf_card,
    leaf_explanation,
    leaf_inputs,
    leaf_output,
    leaf_thresholds,
)
from cds_service.risk_assessment import record_risk
from model_artifacts.archive import KeptModel
from model_artifacts.assessment import Abstention, Assessment, Finding, Prediction
from model_artifacts.errors import ModelError
from model_artifacts.graph import GraphAnswer
from model_artifacts.inputs import ModelInputs
from model_artifacts.manifest import ModelManifest
from model_artifacts.runtime import ReleasedModel

Outcome = Literal[
    "reproduced",
    "answer-reproduced",
    "abstained-before-running",
    "leaf-differs",
    "answer-differs",
    "card-differs",
    "filed-differs",
    "model-changed",
    "model-unknown",
]
DECISION = "decision/v1"
FindKept = Callable[[str], KeptModel | None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision as the log keeps it: its leaf, its payload, and the key that the payload was under."""

    entry: DecisionEntry
    payload: bytes
    key: SubjectKey

    @property
    def commit(self) -> Commit:
        """As the leaf's commitments were made."""
        return partial(self.key.commit, self.entry.id)


def read_recorded(log: AuditLog, index: LeafIndex) -> Recorded | None:
    """The decision at `index`, None where the entry is none in which a model came to an assessment.

    Raises:
        NoSuchEntryError: no such entry, or its payload isn't there.
        PayloadError: the payload was erased, or can't be opened.
    """
    data = log.entry(index)
    entry = parse_entry(data) if read_header(data).type == DECISION else None
    if not isinstance(entry, DecisionEntry) or entry.inputs is None:
        return None
    key = log.payload_key(index)
    if key is None:
        raise NoSuchEntryError(index)
    return Recorded(entry, log.payload(index), key)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What came of replaying one decision; `differs` names the leaf's members that say otherwise, never what they say."""

    outcome: Outcome
    model_id: str
    model_version: str
    recorded_answer: str | None
    repeated_answer: str | None
    differs: tuple[str, ...] = ()


def replay(
    recorded: Recorded, models: Mapping[str, ReleasedModel], find_kept: FindKept = lambda _: None
) -> ReplayReport:
    """The report on repeating the decision; `find_kept` finds a version kept by its manifest's SHA-256.

    Raises:
        PayloadError: the payload is none of this schema, or holds what the model can't be run on.
        ModelError: a kept version was altered, or the repeated answer must not be shown.
    """
    try:
        stored = msgspec.msgpack.decode(recorded.payload, type=ReplayPayload)  # (1)
        return _replay(recorded, stored, models, find_kept)
    except (AuditError, ModelError):
        raise
    except Exception as exc:  # whoever wrote the payload may have put anything into it
        message = f"payload: not one that can be replayed ({type(exc).__name__})"
        raise PayloadError(message) from exc


def _replay(
    recorded: Recorded, stored: ReplayPayload, models: Mapping[str, ReleasedModel], find_kept: FindKept
) -> ReplayReport:
    if differs := _against_leaf(recorded, stored):  # (2)
        return _report(stored, "leaf-differs", differs=differs)
    model = models.get(stored.model_id)
    if model is not None and _is_recorded(model, stored):  # (3)
        return _repeat(model, recorded, stored)
    if stored.answer is None:
        return _report(stored, "abstained-before-running")
    kept = find_kept(stored.manifest_sha256)
    if kept is None or kept.manifest.artifact.sha256 != stored.artifact_sha256:
        return _report(stored, "model-unknown" if model is None else "model-changed")
    return _repeat_answer(kept, recorded, stored)


def _repeat(model: ReleasedModel, recorded: Recorded, stored: ReplayPayload) -> ReplayReport:
    """The report by the version that is installed."""
    inputs, repeated = _inputs(stored), None
    differs: tuple[str, ...] = ()
    assessment: Assessment
    if stored.answer is None:
        assessment = Abstention(
            model.identity, stored.abstention, stored.evidence, stored.set_aside, stored.outside_population
        )
    else:
        answer = model.run(inputs.arrays)  # (4)
        repeated = answer.digest()
        if repeated != stored.answer:
            return _report(stored, "answer-differs", repeated)
        differs = _against_answer(recorded, answer, model.manifest)  # (5)
        assessment = model.conclude(answer, inputs)
    finding = _without(model.interpret(assessment, model.manifest), stored.drafted)
    if differs := differs + _against_finding(recorded.entry, assessment, finding):
        return _report(stored, "leaf-differs", repeated, differs)
    return _report(stored, _compare_words(model.manifest, assessment, finding, stored), repeated)  # (6)


def _repeat_answer(kept: KeptModel, recorded: Recorded, stored: ReplayPayload) -> ReplayReport:
    """The report by a version that was kept: on the answer alone."""
    answer = kept.run(_inputs(stored).arrays)  # (4)
    repeated = answer.digest()
    if repeated != stored.answer:
        return _report(stored, "answer-differs", repeated)
    differs = _against_answer(recorded, answer, kept.manifest)  # (5)
    return _report(stored, "leaf-differs" if differs else "answer-reproduced", repeated, differs)


def _against_leaf(recorded: Recorded, stored: ReplayPayload) -> tuple[str, ...]:
    """The leaf's members that don't follow from the payload."""
    entry, commit, arrays = recorded.entry, recorded.commit, _inputs(stored).arrays
    cards = stored.cards if stored.shown else ()
    output, model = entry.output, entry.model
    is_shadow = model is not None and model.status == "shadow"
    return _unequal(
        ("time", entry.time, format_time(stored.as_of)),
        ("patient", entry.patient, recorded.key.commitment(entry.id)),
        ("model.id", model and model.id, stored.model_id),
        ("model.version", model and model.version, stored.model_version),
        ("model.artefact", model and model.artefact, stored.artifact_sha256),
        ("model.manifest", model and model.manifest, stored.manifest_sha256),
        ("inputs", entry.inputs, leaf_inputs(arrays, stored.evidence, commit)),
        ("abstention", entry.abstention, tuple(reason.code for reason in stored.abstention)),
        ("output.band", output and output.band is None, bool(stored.abstention)),
        ("explanation", entry.explanation is None, stored.answer is None),
        ("cards", entry.cards, tuple(leaf_card(card, commit) for card in cards)),
        (
            "system_actions",
            entry.system_actions,
            tuple(leaf_action(action, commit) for action in stored.system_actions),
        ),
        ("status", entry.status, _status(stored, is_shadow=is_shadow)),
        ("model.status", model and model.status, "shadow" if is_shadow and not stored.shown else "active"),
    )


def _status(stored: ReplayPayload, *, is_shadow: bool) -> str:
    """What the leaf's status has to be: beside shadow runs, nothing is kept from view but what was shown a moment ago."""
    if not stored.shown and not is_shadow:
        return "quieted"
    return "abstained" if stored.abstention else "answered"


def _against_answer(recorded: Recorded, answer: GraphAnswer, manifest: ModelManifest) -> tuple[str, ...]:
    """The leaf's members that don't follow from the repeated answer and the manifest of the version that gave it."""
    entry, model = recorded.entry, recorded.entry.model
    return _unequal(
        ("model.id", model and model.id, manifest.id),
        ("model.version", model and model.version, manifest.version),
        ("model.thresholds", model and model.thresholds, leaf_thresholds(manifest)),
        ("explanation", entry.explanation, leaf_explanation(manifest, answer, recorded.commit)),
    )


def _against_finding(entry: DecisionEntry, assessment: Assessment, finding: Finding) -> tuple[str, ...]:
    """The leaf's members that don't follow from what the model makes of its answer."""
    reasons = assessment.reasons if isinstance(assessment, Abstention) else ()
    return _unequal(
        ("abstention", entry.abstention, tuple(reason.code for reason in reasons)),
        ("output", entry.output, leaf_output(finding, predicted=isinstance(assessment, Prediction))),
    )


def _unequal(*compared: tuple[str, object, object]) -> tuple[str, ...]:
    return tuple(name for name, said, expected in compared if said != expected)


def _compare_words(manifest: ModelManifest, assessment: Assessment, finding: Finding, stored: ReplayPayload) -> Outcome:
    """Whether card and what was filed are made again as they are in the payload."""
    cards: tuple[dict[str, Any], ...] = ()
    if not (isinstance(assessment, Abstention) and assessment.silent):
        uuids = _uuids(stored.cards)
        card = present(
            *(finding, manifest, stored.patient_id, stored.model_page, lambda: next(uuids), stored.gaps, stored.drafts)
        )
        cards = (card.to_json(),)
    if cards != stored.cards:
        return "card-differs"
    # Whether the client takes them isn't in the payload, but what they must be is.
    if stored.system_actions and _filed(manifest, assessment, stored) != stored.system_actions:
        return "filed-differs"
    return "reproduced"


def _filed(manifest: ModelManifest, assessment: Assessment, stored: ReplayPayload) -> tuple[dict[str, Any], ...]:
    """What is filed of this assessment; the encounter is taken from what was, for it is nowhere else."""
    if not isinstance(assessment, Prediction) or not manifest.gives_probabilities:
        return ()
    encounter = stored.system_actions[0]["resource"].get("encounter")
    encounter_id = None if encounter is None else encounter["reference"].removeprefix("Encounter/")
    return (record_risk(assessment, manifest, stored.patient_id, stored.as_of, encounter_id).to_json(),)


def _is_recorded(model: ReleasedModel, stored: ReplayPayload) -> bool:
    identity = model.identity
    return (identity.artifact_sha256, identity.manifest_sha256) == (stored.artifact_sha256, stored.manifest_sha256)


def _without(finding: Finding, drafted: tuple[tuple[str, str], ...]) -> Finding:
    """The finding without the proposals that the draft orders held."""
    kept = tuple(item for item in finding.proposals if (item.code.system, item.code.code) not in drafted)
    return replace(finding, proposals=kept)


def _inputs(stored: ReplayPayload) -> ModelInputs:
    arrays = {name: array.unpack() for name, array in stored.arrays.items()}
    return ModelInputs(arrays, stored.evidence, stored.slots, stored.set_aside)


def _uuids(cards: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """The recorded uuids in the order in which `present` asks for new ones, then empty ones: a card made anew may need more.

    `present` makes the suggestions' uuids after the card's, in their order.
    """
    for card in cards:
        yield card["uuid"]
        for suggestion in card.get("suggestions", ()):
            yield suggestion["uuid"]
    while True:
        yield ""


def _report(
    stored: ReplayPayload, outcome: Outcome, repeated: str | None = None, differs: tuple[str, ...] = ()
) -> ReplayReport:
    return ReplayReport(outcome, stored.model_id, stored.model_version, stored.answer, repeated, differs)
