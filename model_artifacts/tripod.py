"""The items of TRIPOD+AI, the reporting guideline for prediction models: the schema plug-in "tripod-ai" of the model card.

Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement. BMJ 2024;385:e078378: 27 items in 52 parts, here in words of our
own. For each part the card says where it answers it, or what the manifest's `[tripod]` authors under the part's number, or
"not available" and why. A part is answered only as far as the card answers it: what is left open is said in the same cell.

To extend: what the card newly answers gets a line in `_from_manifest` or `_from_metrics`. A guideline for the reporting of
studies, not a mark of quality: a model can answer everything and be a bad one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model_artifacts.answers import Answer, check_authored, see
from model_artifacts.manifest import ModelManifest
from model_artifacts.metrics import Section

SCHEMA = "tripod-ai"

ITEMS: Mapping[str, str] = {
    "1": "Title: the kind of study, for whom, and which outcome",
    "2": "Abstract, by the checklist for abstracts",
    "3a": "Background: the medical question, why a model, and which there are",
    "3b": "Background: target population, place in the course of care, users",
    "3c": "Background: known inequalities of health between groups of society",
    "4": "Objectives: whether a model is made, evaluated, or both",
    "5a": "Data: where from, for making and for evaluating, why these, and how representative",
    "5b": "Data: dates of inclusion and of follow-up",
    "6a": "Participants: kind, number and places of the centres",
    "6b": "Participants: who was eligible",
    "6c": "Participants: treatments received, and how they were dealt with",
    "7": "Preparation of the data and checks of their quality, also by group",
    "8a": "Outcome: what, within what time, how it was found out, why this one",
    "8b": "Outcome: who judged it, where that takes judgement",
    "8c": "Outcome: whether its assessment was blinded",
    "9a": "Predictors: how the first ones were chosen",
    "9b": "Predictors: what each is, and how and when it was measured",
    "9c": "Predictors: who judged them, where that takes judgement",
    "10": "Sample size: how it came about and why it is enough",
    "11": "Missing data: how they were dealt with, and what was left out",
    "12a": "Analysis: which data were used for what, and how they were divided",
    "12b": "Analysis: the form in which predictors entered",
    "12c": "Analysis: kind of model, how it was built and tuned, internal validation",
    "12d": "Analysis: differences between clusters such as hospitals",
    "12e": "Analysis: measures and plots of performance, comparison of models",
    "12f": "Analysis: updating of the model after its evaluation",
    "12g": "Analysis: how the predictions were computed",
    "13": "Class imbalance: whether and how it was dealt with, and recalibration after it",
    "14": "Fairness: approaches and their reasons",
    "15": "Output of the model; classes and how their thresholds were found",
    "16": "Differences between the data for making and for evaluating",
    "17": "Approval by an ethics committee, consent",
    "18a": "Open science: funding and the funders' part in it",
    "18b": "Open science: conflicts of interest",
    "18c": "Open science: protocol",
    "18d": "Open science: registration",
    "18e": "Open science: availability of the data",
    "18f": "Open science: availability of the code",
    "19": "Involvement of patients and the public",
    "20a": "Results: flow of participants, with and without the outcome",
    "20b": "Results: characteristics of the participants, also by group",
    "20c": "Results: predictors' distribution in evaluation against development",
    "21": "Results: participants and events in each analysis",
    "22": "Results: the whole model, so that others can use and evaluate it; restrictions",
    "23a": "Results: performance with intervals, also by group",
    "23b": "Results: differences of performance between clusters",
    "24": "Results: the updated model and its performance",
    "25": "Discussion: interpretation, also of fairness and against earlier studies",
    "26": "Discussion: limitations and what follows from them",
    "27a": "Use: poor or missing input",
    "27b": "Use: what users have to do, and what they must know for it",
    "27c": "Use: next steps of research",
}
"""Part of an item to what it asks for."""

_UNWRITTEN = "nobody has written it into the manifest"
_NONE_OF_IT: Mapping[str, str] = {
    "12d": "no analysis by cluster is recorded",
    "12f": "no updating after the evaluation is recorded",
    "18c": "no protocol is recorded",
    "18d": "no registration is recorded",
    "20c": "the two were not compared",
    "23b": "no analysis by cluster is recorded",
    "24": "no updating after the evaluation is recorded",
}
"""Why a part is empty, where there is more to say than that nobody wrote it."""


def tripod_items(manifest: ModelManifest, sections: Sequence[Section]) -> dict[str, Answer]:
    """Exactly the keys of `ITEMS`, in their order; what the manifest authors follows what the card says by itself.

    Raises:
        ManifestError: the manifest authors a part that there isn't.
    """
    check_authored(manifest, "tripod", manifest.tripod, ITEMS)
    found = _from_manifest(manifest) | _from_metrics(manifest, sections)
    return {key: _joined(found.get(key, _unwritten(key)), manifest.tripod.get(key)) for key in ITEMS}


def _unwritten(key: str) -> Answer:
    return Answer(None, _NONE_OF_IT.get(key, _UNWRITTEN))


def _joined(found: Answer, authored: str | None) -> Answer:
    if authored is None:
        return found
    return Answer(authored if found.text is None else f"{found.text}. {authored}")


def _from_manifest(manifest: ModelManifest) -> dict[str, Answer]:
    """What every manifest says, and so every card."""
    texts = {
        "1": f"“{manifest.title}”; {_study(manifest)}",
        "3b": "see sections “Intended use” and “Population”",
        "5a": "see section “Training data”; why these data is not said",
        "6b": "see sections “Population” and “Training data”",
        "7": "see section “Inputs”: units, plausible ranges and what is set aside, the same for everybody",
        "8a": "see section “Outputs”; how the outcome was found out is not said",
        "9b": "see section “Inputs”",
        "11": "in use see sections “Inputs” and “When it does not answer”; in development it is not said",
        "12g": "by the ONNX graph that also serves, see sections “Reproducibility” and “Version and digests”",
        "15": "see section “Outputs”",
        "18a": f"{manifest.developer.funding}; the funders' part is not said",
        "18e": "see section “Training data”: licence and citation",
        "18f": "see section “Reproducibility”",
        "22": "the graph is released with the manifest, see section “Version and digests”",
        "26": "see section “Limits”",
        "27a": "see sections “Inputs” and “When it does not answer”",
        "27b": "nothing is typed in: inputs are read from the record; users: " + manifest.intended_use.users,
    }
    return {key: Answer(text) for key, text in texts.items()} | {"14": _fairness(manifest)}


def _study(manifest: ModelManifest) -> str:
    if manifest.kind == "published-equation":
        return "a published equation, implemented here"
    return f"made here, for {manifest.population.text}"


def _fairness(manifest: ModelManifest) -> Answer:
    parts = [f"bounds by group, see section “{section}”" for section in _gate(manifest)]
    authored = manifest.disclosures.get("fairness_approach")
    parts += [f"see source attribute 15: {authored}"] if authored else []
    return Answer("; ".join(parts)) if parts else Answer(None, "no approach was documented")


def _gate(manifest: ModelManifest) -> list[str]:
    return ["Release gate"] if any(rule.by for rule in manifest.gate.rules) else []


def _from_metrics(manifest: ModelManifest, sections: Sequence[Section]) -> dict[str, Answer]:
    """What depends on what was measured."""
    kinds = {section.kind for section in sections}
    own = any(section.kind == "evaluation" and section.name != "general" for section in sections)
    described = any(section.name == "general" for section in sections)
    made, unmeasured = manifest.kind == "learned", "it was not measured here"
    how = see("Evaluation figures", described, "how the model was made and measured is not in metrics.json")
    internal = "the evaluation is on data of the same source that the fit never saw, see section “Evaluation figures”"
    return {
        "4": Answer(_objective(made=made, evaluated=own)),
        "12a": how,
        "12c": Answer(f"{how.text}, and section “Reproducibility”") if how.text and made else how,
        "12e": see("Evaluation figures", own, unmeasured),
        "16": Answer(internal) if own and made else Answer(None, unmeasured),
        "20a": see("Training data", "data" in kinds, "the flow of participants is not in metrics.json"),
        "20b": see("Subgroups", "subgroups" in kinds, "the participants were not described by group"),
        "21": see("Training data", "data" in kinds, "the numbers are not in metrics.json"),
        "23a": _performance(own=own, groups="subgroups" in kinds, why_not=unmeasured),
    }


def _objective(*, made: bool, evaluated: bool) -> str:
    model = "to make a model" if made else "to implement a published model"
    return (
        f"{model} and to evaluate it on held-out data of the same source"
        if evaluated
        else f"{model}; not to evaluate it"
    )


def _performance(*, own: bool, groups: bool, why_not: str) -> Answer:
    if not own:
        return Answer(None, why_not)
    return Answer(
        "see sections “Evaluation figures”, “Calibration” and “Subgroups”"
        if groups
        else "see section “Evaluation figures”; by group it was not measured"
    )
