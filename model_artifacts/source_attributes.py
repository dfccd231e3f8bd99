"""The 31 source attributes of a predictive decision support intervention: the schema plug-in "hti1-dsi-31" of the model card.

45 CFR 170.315(b)(11)(iv)(B), final rule 89 FR 1192 of 9 January 2024 (HTI-1), in its order. A plug-in because rules come and
go: the card prints what `source_attributes` returns and knows nothing else of it.

Each attribute is filled from the manifest, the input spec or `metrics.json`, or says "not available" and why. What only a
person can know (external validation, relevance to a site) is authored in the manifest's `[disclosures]`, by the keys of
`ATTRIBUTES`; what is derived can't be authored. The approach to fairness is both: what was authored, and the release gate's
bounds by group. Local validity is a site's own: it stands on the page of the service, never in the released card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from model_artifacts.answers import Answer, check_authored, see
from model_artifacts.figures import Cell, Figure, cell_words
from model_artifacts.finding import UNIT_WORDS
from model_artifacts.input_description import sensitive_inputs
from model_artifacts.inputs import InputSpec
from model_artifacts.manifest import ModelManifest
from model_artifacts.manifest_words import gate_rules_words, monitoring_words
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
    "validity_local": "a released card knows no site; a site measures it with `bedside model evaluate`",
    "fairness_monitoring": "nothing watches the groups by itself; a site measures them with `bedside model evaluate`",
    "fairness_local": "a released card knows no site; a site measures it with `bedside model evaluate`",
    "correction_frequency": "no frequency is set",
}


def source_attributes(manifest: ModelManifest, spec: InputSpec, sections: Sequence[Section]) -> dict[str, Answer]:
    """Exactly the keys of `ATTRIBUTES`, in their order.

    Raises:
        ManifestError: the manifest authors an attribute that is unknown or derived.
    """
    check_authored(manifest, "disclosures", manifest.disclosures, _WHY_NOT)
    filled = _from_manifest(manifest) | _from_inputs(spec) | _from_metrics(sections) | _from_process(manifest)
    authored = {key: Answer(text) for key, text in manifest.disclosures.items()}
    bounds = filled.get("fairness_approach")
    if bounds is not None and "fairness_approach" in authored:
        authored["fairness_approach"] = Answer(f"{authored['fairness_approach'].text} {bounds.text}")
    everything = {key: Answer(None, reason) for key, reason in _WHY_NOT.items()} | filled | authored
    return {key: everything[key] for key in ATTRIBUTES}


def _from_manifest(manifest: ModelManifest) -> dict[str, Answer]:
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
    return {key: Answer(text) for key, text in texts.items()}


def _quantity(unit: str) -> str:
    return f"a quantity in {UNIT_WORDS.get(unit, unit)}" if unit else "a probability"


def _from_inputs(spec: InputSpec) -> dict[str, Answer]:
    flags = ", ".join(f"{name}: {'yes' if used else 'no'}" for name, used in sensitive_inputs(spec).items())
    return {"sensitive_inputs": Answer(f"{flags} (derived from the input spec)")}


def _from_process(manifest: ModelManifest) -> dict[str, Answer]:
    """What the manifest binds the release and its monitoring to."""
    filled = {
        "validity_monitoring": Answer(" ".join(monitoring_words(manifest))),
        "update_process": Answer(
            "No fixed frequency. A new version has a new number and new digests, and comes into force only when a person "
            "promotes it; the release gate (section “Release gate”) judges it then, and the log keeps who did what and when."
        ),
    }
    by_group = [rule for rule in manifest.gate.rules if rule.by]
    if by_group:
        bounds = "; ".join(gate_rules_words(by_group))
        filled["fairness_approach"] = Answer(f"A version is promoted only if it keeps bounds by group: {bounds}.")
    return filled


def _from_metrics(sections: Sequence[Section]) -> dict[str, Answer]:
    """What the figures allow to be said, with the main ones; all of them stand in the card's own sections."""
    own = [section for section in sections if section.kind == "evaluation" and not section.says_external]
    groups = [section for section in sections if section.kind == "subgroups" and not section.says_external]
    external = [section for section in sections if section.says_external]
    filled = {
        "validity_same_source": _with_figures("Evaluation figures", own, _main_figures(own), "it was not measured"),
        "fairness_same_source": _with_figures("Subgroups", groups, _ranges(groups), "it was not measured"),
        "training_representativeness": _with_figures(
            "Subgroups", groups, _sizes(groups), "the training data were not described by group"
        ),
        "validity_external": see("Evaluation figures", bool(external), "it was not measured on data from elsewhere"),
        "fairness_external": see(
            "Subgroups",
            any(section.kind == "subgroups" for section in external),
            "it was not measured by group on data from elsewhere",
        ),
    }
    if external:
        described = [text for section in external for name, text in section.notes if name in {"outcome", "source"}]
        filled["external_source"] = Answer("; ".join(described) or "see section “Evaluation figures”")
        for key in ("external_party", "external_representativeness", "external_process"):
            filled[key] = Answer(None, "the manifest does not describe it; see the source of the external figures")
    return filled


def _with_figures(section: str, there: Sequence[Section], figures: str, why_not: str) -> Answer:
    pointer = see(section, bool(there), why_not)
    return Answer(f"{figures} ({pointer.text})") if pointer.text and figures else pointer


def _main_figures(sections: Sequence[Section]) -> str:
    """The model's own figures with their intervals, where the model is compared with its rivals."""
    found = [
        f"{name} {cell_words(cells[0])}"
        for section in sections
        for grid in section.grids
        if section.name == "model_and_rivals"
        for name, cells in grid.rows
        if isinstance(cells[0], Figure)
    ]
    return "; ".join(found)


def _ranges(sections: Sequence[Section]) -> str:
    """For each figure by group, its lowest and highest with the groups' names."""
    found = []
    for section in sections:
        for grid in section.grids:
            for place, column in enumerate(grid.columns):
                figures = [(name, cells[place]) for name, cells in grid.rows]
                known = [(name, cell) for name, cell in figures if isinstance(cell, Figure) and cell.low is not None]
                if len(known) > 1:
                    found.append(f"{column} from {_extreme(known, min)} to {_extreme(known, max)}")
    return "; ".join(found)


def _extreme(figures: Sequence[tuple[str, Figure]], edge: Callable[..., tuple[str, Figure]]) -> str:
    name, figure = edge(figures, key=lambda item: item[1].value)
    return f"{cell_words(figure)} in {name}"


def _sizes(sections: Sequence[Section]) -> str:
    """How many people each group of the evaluation has; the figures of that section are of the same source."""
    rows: list[tuple[str, Cell]] = [
        (name, cells[grid.columns.index("n")])
        for section in sections
        for grid in section.grids
        if "n" in grid.columns
        for name, cells in grid.rows
    ]
    return "; ".join(f"{name}: {cell_words(size)}" for name, size in rows)
