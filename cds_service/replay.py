"""Repeats a recorded decision: the stored tensors through the same model bytes, and the same words on the card.

 (1) the payload is decrypted and read; who may do that is the caller's business;
 (2) the model's artefact and manifest must be the recorded ones; where they aren't, a kept copy of that version repeats the
     answer, and without one the change is said, not compared;
 (3) the tensors run through the graph; the answer's bytes must have the recorded digest;
 (4) assessment, finding and card are made again and must equal the recorded card, character for character.

A kept version gives its answer only: its words come from code that has changed since, so the card isn't compared.
Where the model had abstained before its graph ran, (3) has nothing to compare and (4) starts from the recorded reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from cds_service.cards import present
from cds_service.decision import ReplayPayload
from model_artifacts.archive import KeptModel
from model_artifacts.assessment import Abstention, Assessment, Finding
from model_artifacts.inputs import ModelInputs
from model_artifacts.runtime import ReleasedModel

Outcome = Literal["reproduced", "answer-reproduced", "model-changed", "model-unknown", "answer-differs", "card-differs"]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What came of replaying one decision; the figures are the model's outputs, for those who may see them."""

    outcome: Outcome
    model_id: str
    model_version: str
    recorded_answer: str | None
    repeated_answer: str | None
    card_summary: str


def replay(
    payload: bytes, models: Mapping[str, ReleasedModel], find_kept: Callable[[str], KeptModel | None] = lambda _: None
) -> ReplayReport:
    """The report on repeating the decision in `payload`; `find_kept` finds a version kept by its manifest's SHA-256.

    Raises:
        msgspec.DecodeError: `payload` is no replay payload of this schema.
    """
    stored = msgspec.msgpack.decode(payload, type=ReplayPayload)  # (1)
    model = models.get(stored.model_id)
    if model is None or not _is_recorded(model, stored):  # (2)
        kept = find_kept(stored.manifest_sha256)
        if kept is not None and kept.manifest.artifact.sha256 == stored.artifact_sha256:
            return _repeat(kept, stored)
        return _report(stored, "model-unknown" if model is None else "model-changed", None)
    identity = model.identity
    inputs = _inputs(stored)
    repeated = None
    assessment: Assessment
    if stored.answer is None:
        assessment = Abstention(
            identity, stored.abstention, stored.evidence, stored.set_aside, stored.outside_population
        )
    else:
        answer = model.run(inputs.arrays)  # (3)
        repeated = answer.digest()
        if repeated != stored.answer:
            return _report(stored, "answer-differs", repeated)
        assessment = model.conclude(answer, inputs)
    finding = _without(model.interpret(assessment, model.manifest), stored.drafted)  # (4)
    if isinstance(assessment, Abstention) and assessment.silent:
        return _report(stored, "card-differs" if stored.cards else "reproduced", repeated)
    uuids = _uuids(stored.cards)
    card = present(finding, model.manifest, stored.patient_id, stored.model_page, lambda: next(uuids), stored.gaps)
    return _report(stored, "reproduced" if (card.to_json(),) == stored.cards else "card-differs", repeated)


def _is_recorded(model: ReleasedModel, stored: ReplayPayload) -> bool:
    identity = model.identity
    return (identity.artifact_sha256, identity.manifest_sha256) == (stored.artifact_sha256, stored.manifest_sha256)


def _repeat(kept: KeptModel, stored: ReplayPayload) -> ReplayReport:
    """The report on the answer alone."""
    if stored.answer is None:
        return _report(stored, "model-changed", None)
    repeated = kept.run(_inputs(stored).arrays).digest()
    return _report(stored, "answer-reproduced" if repeated == stored.answer else "answer-differs", repeated)


def _without(finding: Finding, drafted: tuple[tuple[str, str], ...]) -> Finding:
    """The finding without the proposals that the draft orders held."""
    kept = tuple(item for item in finding.proposals if (item.code.system, item.code.code) not in drafted)
    return replace(finding, proposals=kept)


def _inputs(stored: ReplayPayload) -> ModelInputs:
    arrays = {name: array.unpack() for name, array in stored.arrays.items()}
    return ModelInputs(arrays, stored.evidence, stored.slots, stored.set_aside)


def _uuids(cards: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """The recorded uuids in the order in which `present` asks for new ones: the card's, then its suggestions'.

    `present` makes the suggestions' uuids after the card's, in their order.
    """
    for card in cards:
        yield card["uuid"]
        for suggestion in card.get("suggestions", ()):
            yield suggestion["uuid"]


def _report(stored: ReplayPayload, outcome: Outcome, repeated: str | None) -> ReplayReport:
    summary = stored.cards[0]["summary"] if stored.cards else ""
    return ReplayReport(outcome, stored.model_id, stored.model_version, stored.answer, repeated, summary)
