"""The 31 source attributes of a predictive decision support intervention: the schema plug-in "hti1-dsi-31" of the model card.

45 CFR 170.315(b)(11)(iv)(B), final rule 89 FR 1192 of 9 January 2024 (HTI-1), in its order. A plug-in because rules come and
go: the card prints what `source_attributes` returns and knows nothing else of it.

Each attribute is filled from the manifest, the input spec or `metrics.json`, or says "not available" and why. What only a
person can know (external validation, monitoring) is authored in the manifest's `[disclosures]`, by the keys of `ATTRIBUTES`;
what is derived can't be authored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_artifacts.errors import ManifestError
from model_artifacts.finding import UNIT_WORDS
from model_artifacts.input_description import sensitive_inputs
from model_artifacts.inputs import InputSpec
from model_artifacts.manifest import ModelManifest
from model_artifacts.metrics import Section

SCHEMA = "hti1-dsi-31"

ATTRIBUTES: Mapping[str, str] = {
    "developer": "Name and contact information of the developer",
    "funding": "Funding source of the technical implementation",
    "output": "Value that the intervention produces as an output",
    "output_type": "Whether the output is a prediction, classification, recommendation, evaluation, analysis or other",
    "intended_use": "Intended use",
    "intended_population": "Intended patient population",
    "intended_users": "Intended users",
    "decision_role": "Intended decision-making role",
    "out_of_scope": "Tasks, situations or populations where the user is cautioned against applying it",
    "known_limits": "Known risks, inappropriate settings or uses, known limitations",
    "training_criteria": "Exclusion and inclusion criteria that influenced the training data set",
    "sensitive_inputs": "Use of the variables in (b)(11)(iv)(A)(5) to (13) as input features",
    "training_representativeness": "Demographic representativeness of the training data",
    "training_relevance": "Relevance of the training data to the intended deployed setting",
    "fairness_approach": "Approach taken to ensure that the output is fair",
    "bias_approach": "Approaches to manage, reduce or eliminate bias",
    "external_source": "Data source, clinical setting or environment of external validation",
    "external_party": "Party that conducted the external testing",
    "external_representativeness": "Demographic representativeness of the external data",
    "external_process": "External validation process",
    "validity_same_source": "Validity in test data from the same source as the training data",
    "fairness_same_source": "Fairness in test data from the same source as the training data",
    "validity_external": "Validity in external data",
    "fairness_external": "Fairness in external data",
    "outcome_evaluations": "References to evaluations of use on outcomes",
    "validity_monitoring": "Process and frequency by which validity is monitored over time",
    "validity_local": "Validity in local data",
    "fairness_monitoring": "Process and frequency by which fairness is monitored over time",
    "fairness_local": "Fairness in local data",
    "update_process": "Process and frequency by which the intervention is updated",
    "correction_frequency": "Frequency by which performance is corrected when risks to validity or fairness are identified",
}

# Why an attribute is empty, as long as nobody has authored it.
_WHY_NOT: Mapping[str, str] = {
    "training_relevance": "only the organisation that deploys it can judge this; no covariate shift was measured",
    "fairness_approach": "no approach was documented",
    "bias_approach": "no approach was documented",
    "external_source": "no validation outside of the source of the training data is recorded",
    "external_party": "no external testing is recorded",
    "external_representativeness": "no external data are described",
    "external_process": "no external validation is recorded",
    "outcome_evaluations": "no evaluation of its effect on outcomes is known",
    "validity_monitoring": "this release does not monitor validity by itself",
    "validity_local": "no outcome data of this site have been joined to its predictions",
    "fairness_monitoring": "this release does not monitor fairness by itself",
    "fairness_local": "no outcome data of this site have been joined to its predictions",
    "update_process": "no update schedule is set",
    "correction_frequency": "no correction schedule is set",
}
NOT_AVAILABLE = "not available"


@dataclass(frozen=True, slots=True)
class SourceAttribute:
    """One attribute: `text` if there is one, else the reason why there is none; never both, never neither."""

    text: str | None
    reason: str | None = None

    def to_json(self) -> dict[str, str]:
        """Wire form: {"status": "available", "text": …} or {"status": "not-available", "reason": …}."""
        if self.text is not None:
            return {"status": "available", "text": self.text}
        return {"status": "not-available", "reason": self.reason or ""}

    def words(self) -> str:
        """As the card shows it."""
        return self.text if self.text is not None else f"{NOT_AVAILABLE}: {self.reason}"


def source_attributes(
    manifest: ModelManifest, spec: InputSpec, sections: Sequence[Section]
) -> dict[str, SourceAttribute]:
    """Exactly the keys of `ATTRIBUTES`, in their order.

    Raises:
        ManifestError: the manifest authors an attribute that is unknown or derived.
    """
    filled = _from_manifest(manifest) | _from_inputs(spec) | _from_metrics(sections)
    wrong = manifest.disclosures.keys() - _WHY_NOT.keys()
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ManifestError(f"disclosures of {manifest.id}: {names} cannot be authored", model_id=manifest.id)
    authored = {key: SourceAttribute(text) for key, text in manifest.disclosures.items()}
    empty = {key: SourceAttribute(None, reason) for key, reason in _WHY_NOT.items()}
    everything = empty | filled | authored
    return {key: everything[key] for key in ATTRIBUTES}


def _from_manifest(manifest: ModelManifest) -> dict[str, SourceAttribute]:
    use, developer = manifest.intended_use, manifest.developer
    criteria = "; ".join(f"it does not answer if {criterion.text}" for criterion in manifest.population.criteria)
    texts = {
        "developer": f"{developer.name}. {developer.contact}",
        "funding": developer.funding,
        "output": "; ".join(f"{output.label} ({_quantity(output.unit)})" for output in manifest.outputs),
        "output_type": "prediction",
        "intended_use": use.use,
        "intended_population": f"{manifest.population.text}, checked on every call: {criteria}",
        "intended_users": use.users,
        "decision_role": f"{use.role} clinical management; it never replaces it",
        "out_of_scope": "; ".join(use.out_of_scope),
        "known_limits": " ".join(use.limits),
        "training_criteria": manifest.training_data.description,
    }
    return {key: SourceAttribute(text) for key, text in texts.items()}


def _quantity(unit: str) -> str:
    return f"a quantity in {UNIT_WORDS.get(unit, unit)}" if unit else "a probability"


def _from_inputs(spec: InputSpec) -> dict[str, SourceAttribute]:
    flags = ", ".join(f"{name}: {'yes' if used else 'no'}" for name, used in sensitive_inputs(spec).items())
    return {"sensitive_inputs": SourceAttribute(f"{flags} (derived from the input spec)")}


def _from_metrics(sections: Sequence[Section]) -> dict[str, SourceAttribute]:
    """What the figures allow to be said; the figures themselves stand in the card's own sections."""
    own = any(section.kind == "evaluation" and not section.says_external for section in sections)
    groups = any(section.kind == "subgroups" and not section.says_external for section in sections)
    external = [section for section in sections if section.says_external]
    unmeasured = "it was not measured"
    filled = {
        "validity_same_source": _see("Evaluation figures", own, unmeasured),
        "fairness_same_source": _see("Subgroups", groups, unmeasured),
        "training_representativeness": _see("Subgroups", groups, "the training data were not described by group"),
        "validity_external": _see("Evaluation figures", bool(external), "it was not measured on data from elsewhere"),
        "fairness_external": _see(
            "Subgroups",
            any(section.kind == "subgroups" for section in external),
            "it was not measured by group on data from elsewhere",
        ),
    }
    if external:
        described = [text for section in external for name, text in section.notes if name in {"outcome", "source"}]
        filled["external_source"] = SourceAttribute("; ".join(described) or "see section “Evaluation figures”")
        for key in ("external_party", "external_representativeness", "external_process"):
            filled[key] = SourceAttribute(
                None, "the manifest does not describe it; see the source of the external figures"
            )
    return filled


def _see(section: str, there: bool, why_not: str) -> SourceAttribute:
    return SourceAttribute(f"see section “{section}”") if there else SourceAttribute(None, why_not)
