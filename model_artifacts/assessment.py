"""What a model says about one patient: a `Prediction` or an `Abstention`, and the `Finding` that words it.

`Assessment` is a closed union; `match` over it ends in `assert_never`. A model never makes a CDS Hooks card: it yields a
`Finding`, and the service words that as a card, which keeps imports acyclic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fhir_adapters.codes import Code
from model_artifacts.explanation import Attribution
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import Indicator, ModelId, Sha256

OutcomeSet = Literal["event", "no event", "either", "neither"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which bytes answered: enough to find and replay them later."""

    id: ModelId
    version: str
    artifact_sha256: Sha256
    manifest_sha256: Sha256
    card_sha256: Sha256


@dataclass(frozen=True, slots=True)
class Prediction:
    """A calibrated answer with its spread and its reasons.

    Where the manifest gives its outputs a unit, they are quantities in it, and so are spread, baseline and attributions.

    Attributes:
        outputs: output name to its value; outputs the model doesn't define for this patient are absent.
        spread: output name to (lowest, highest) over the ensemble's members; empty for a single network or equation.
        interval: output name to (low, high) of the prediction interval that the graph gives; empty without one.
        outcome_set: which outcomes cannot be ruled out at the manifest's coverage, or None without conformal bounds.
        baseline: the explained output at the baseline.
        attributions: one per evidence item, in its order; they sum to output minus baseline within `gap`.
        gap: completeness gap, recomputed from the attributions.
        novelty: how unlike the training data, or None where the graph doesn't say.
    """

    model: ModelIdentity
    outputs: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]]
    outcome_set: OutcomeSet | None
    baseline: float
    attributions: tuple[Attribution, ...]
    gap: float
    novelty: float | None
    evidence: tuple[Evidence, ...]
    set_aside: tuple[str, ...]
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AbstentionReason:
    """Why no prediction is given. `code` is for the log, `text` for the clinician, `evidence` names the input if one is.

    `silent` says that there is nothing for the clinician to read: the decision is logged, and no card is shown.
    """

    code: str
    text: str
    evidence: str | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Abstention:
    """A result, not an error: the model does not speak here, and says why."""

    model: ModelIdentity
    reasons: tuple[AbstentionReason, ...]
    evidence: tuple[Evidence, ...]
    set_aside: tuple[str, ...]
    outside_population: bool

    @property
    def silent(self) -> bool:
        """Whether the model has no business with this patient at all, and says nothing."""
        return any(reason.silent for reason in self.reasons)


Assessment: TypeAlias = Prediction | Abstention


@dataclass(frozen=True, slots=True)
class OrderLab:
    """Propose a laboratory order; the service makes a draft ServiceRequest of it."""

    code: Code
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChangeDose:
    """Propose another daily dose for an order that is still a draft; the service makes the draft's update of it.

    `order` is the draft's reference ("MedicationRequest/draft-1"), `code` the drug, `instruction` the dosage in words.
    """

    code: Code
    label: str
    order: str
    mg_per_day: float
    instruction: str


Proposal: TypeAlias = OrderLab | ChangeDose


@dataclass(frozen=True, slots=True)
class Finding:
    """Clinical words for one assessment; nothing in it knows CDS Hooks or FHIR's wire form.

    Attributes:
        code: decision code for the log, for example "total_cvd_10y:high" or "abstained:missing-input".
        urgency: how loudly to say it.
        headline: one sentence, under 140 characters, without patient identifiers.
        statements: the risk in words, the natural frequency and the interval, one sentence or two each.
        figures: further outputs, as label and figure.
        reasons: evidence with its attribution, most important first.
        comparison: how the reasons add up, from the baseline's estimate to this one; "" without reasons.
        missing: evidence that was not there, or the reasons for abstaining.
        considerations: what to consider; options, never commands.
        proposals: orders the clinician may accept.
    """

    code: str
    urgency: Indicator
    headline: str
    statements: tuple[str, ...]
    reasons: tuple[tuple[Evidence, Attribution], ...]
    missing: tuple[str, ...]
    considerations: tuple[str, ...]
    proposals: tuple[Proposal, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    comparison: str = ""
