"""`MODEL_CARD.md` from what is already known: the manifest, the input spec and `metrics.json`. Nothing is written by hand.

The same folder always gives the same bytes; a test holds every committed card to it. A number comes from `metrics.json` (how
good the model is) or from the manifest (what it does), never from here. A section nobody can fill says "not available" and why.

To add a section: a function of `Facts` that returns Markdown blocks, and its title in `_SECTIONS`. To add a regulation's
attributes: a module like `source_attributes` or `tripod`, and its section here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from model_artifacts import card_performance as performance
from model_artifacts import source_attributes as dsi
from model_artifacts import tripod
from model_artifacts.card_performance import Facts, quantity_unit
from model_artifacts.finding import UNIT_WORDS, natural_frequency, percent
from model_artifacts.input_description import age_words, describe_inputs, describe_query
from model_artifacts.manifest import ModelManifest
from model_artifacts.metric_tables import Blocks, bullets, table
from model_artifacts.metrics import METRICS_FILE, load_metrics, parse_metrics
from model_artifacts.occlusion import method_words
from model_artifacts.registry import BUILT_IN
from model_artifacts.runtime import ReleasedModel

CARD_FILE = "MODEL_CARD.md"


def model_card(model: ReleasedModel) -> str:
    """The text of the model's card, Markdown with pipe tables, ending in a newline.

    Raises:
        ArtifactError: `metrics.json` is missing or unreadable.
        ManifestError: the manifest discloses what cannot be authored.
    """
    content = load_metrics(model.folder)
    facts = Facts(model, content, parse_metrics(content))
    blocks = [f"# {facts.manifest.title}", facts.manifest.description]
    for title, section in _SECTIONS:
        blocks += [f"## {title}", *section(facts)]
    return "\n\n".join(blocks) + "\n"


def _intended_use(facts: Facts) -> Blocks:
    use = facts.manifest.intended_use
    role = f"It {use.role} the clinician's decision. It never replaces it."
    moments = "; ".join(f"{_MOMENTS[hook]} ({hook})" if hook in _MOMENTS else hook for hook in facts.manifest.hooks)
    return [use.use, bullets([f"Users: {use.users}", f"Role: {role}", f"Moment: {moments}"])]


_MOMENTS = {
    "patient-view": "when the patient's record is opened",
    "order-select": "while an order is being chosen",
    "order-sign": "when orders are to be signed",
    "encounter-start": "when the stay begins",
    "encounter-discharge": "when the patient is being discharged",
}
"""The hooks of CDS Hooks in a clinician's words."""


def _population(facts: Facts) -> Blocks:
    population = facts.manifest.population
    return [
        f"For {population.text}. Checked on every call; the model does not answer if",
        bullets([criterion.text for criterion in population.criteria]),
    ]


def _out_of_scope(facts: Facts) -> Blocks:
    return [bullets(facts.manifest.intended_use.out_of_scope)]


def _inputs(facts: Facts) -> Blocks:
    essential = facts.manifest.abstain.essential
    rows = [
        (
            item.label,
            UNIT_WORDS.get(item.unit, item.unit) or "–",
            item.codes or "–",
            item.plausible or "–",
            "–" if item.oldest is None else age_words(item.oldest),
            "yes" if item.name in essential else "no",
        )
        for item in describe_inputs(facts.model.inputs)
    ]
    header = ("Input", "Unit", "LOINC codes read", "Plausible range", "Oldest allowed", "Needed for an answer")
    searches = bullets([describe_query(query) for query in facts.model.queries()])
    return [
        "Other units are converted; a value without a unit, in an unknown one or outside its plausible range is not used.",
        "What has no codes is read from the patient, the diagnoses, the medications or the encounter, or is computed.",
        table(header, rows),
        "Read from the patient's record:",
        searches,
    ]


def _outputs(facts: Facts) -> Blocks:
    manifest = facts.manifest
    outputs = [
        (item.label, item.event, "where it is defined" if item.optional else "always") for item in manifest.outputs
    ]
    if not manifest.gives_probabilities:
        rows = [
            (*output, UNIT_WORDS.get(item.unit, item.unit))
            for output, item in zip(outputs, manifest.outputs, strict=True)
        ]
        return [table(("Quantity", "What it is", "Given", "Unit"), rows)]
    bands = [
        (
            band.label,
            f"from {percent(band.at_least)}" if band.at_least else "from 0 %",
            band.indicator,
            band.meaning or "–",
        )
        for band in manifest.bands
    ]
    return [
        table(("Probability", "Of", "Given"), outputs),
        f"Bands of the first output ({manifest.outputs[0].label}):",
        table(("Band", "Begins", "Shown as", "Why there"), bands),
    ]


def _how_to_read(facts: Facts) -> Blocks:
    manifest = facts.manifest
    if not manifest.gives_probabilities:
        return [bullets(_QUANTITY_READING)]
    example = manifest.bands[-1].at_least
    frequency = natural_frequency(example, manifest.outputs[0].event)
    sureness = {
        "ensemble-range": "the card shows how far the networks disagree, and which outcomes cannot be ruled out",
        "conformal-interval": "the card shows the interval",
        "none": "no interval is given",
    }[manifest.uncertainty.kind]
    lines = [
        f"{percent(example)} means: {frequency[:1].lower()}{frequency[1:]}. It does not say which of them this patient is.",
        "The estimate is about people with the same recorded values. What is not among the inputs is not in it.",
        f"Figures are rounded to a tenth of a percentage point; the decimals don't say how sure the estimate is: {sureness}.",
        "What moved the estimate is the model's arithmetic, not a cause, and says nothing about what a treatment would do.",
    ]
    return [bullets(lines if example else lines[1:])]


_QUANTITY_READING = (
    "The estimate is what people with the same recorded values needed on average. What is not among the inputs is not in it.",
    "The interval is what to read: it says how far single people lay from the estimate, whose decimals are no surer than it.",
    "What moved the estimate is the model's arithmetic, not a cause, and says nothing about what a treatment would do.",
)


def _explanation(facts: Facts) -> Blocks:
    artifact, manifest = facts.manifest.artifact, facts.manifest
    method = method_words(manifest) if artifact.explainer == "occlusion" else _gradients_words(manifest)
    check = (
        "The contributions add up to the estimate minus the baseline's. They are added up again on every call, "
        f"and a gap above {_plain(artifact.completeness_tolerance)} means that nothing is shown."
    )
    return [method, f"Compared with {manifest.explanation.baseline}.", check, *facts.printed("explanation")]


def _plain(number: float) -> str:
    """The number without an exponent: 0.00001."""
    return f"{number:.10f}".rstrip("0")


def _gradients_words(manifest: ModelManifest) -> str:
    return (
        f"Integrated gradients of the output “{manifest.outputs[manifest.explained_index].label}” in "
        f"{manifest.artifact.integration_steps} steps, computed inside the graph, in {_unit(manifest)}."
    )


def _unit(manifest: ModelManifest) -> str:
    if manifest.gives_probabilities:
        return "probability (percentage points on the card)"
    return quantity_unit(manifest)


def _abstention(facts: Facts) -> Blocks:
    manifest = facts.manifest
    labels = {item.name: item.label for item in describe_inputs(facts.model.inputs)}
    rules = ["the patient is outside of the population (above)"]
    if manifest.abstain.essential:
        names = ", ".join(labels[name] for name in manifest.abstain.essential)
        rules.append(f"one of these is missing, too old or not usable: {names}")
    if manifest.abstain.minimum_present:
        rules.append(f"fewer than {manifest.abstain.minimum_present} of the {len(labels)} inputs are there")
    if manifest.artifact.novelty_threshold is not None:
        rules.append(
            f"the inputs are unlike the training data (a score above {manifest.artifact.novelty_threshold:.4g})"
        )
    kind = "a probability" if manifest.gives_probabilities else "a quantity within its bounds"
    rules.append(f"the graph's answer is not {kind}, or its explanation does not add up")
    return ["The model does not answer, and says why, if", bullets(rules)]


def _limits(facts: Facts) -> Blocks:
    return [bullets(facts.manifest.intended_use.limits)]


def _training_data(facts: Facts) -> Blocks:
    data = facts.manifest.training_data
    listed = bullets([f"Licence: {data.licence}", f"Citation: {data.citation}"])
    return [data.description, listed, *facts.printed("data")]


def _reproducibility(facts: Facts) -> Blocks:
    manifest, folder = facts.manifest, facts.model.folder
    seeds = ", ".join(map(str, manifest.seeds))
    if manifest.kind == "published-equation":
        seeds = "none; nothing random decides the answer"
    inputs = ", ".join(f"`{item.name}` {item.dtype} ({_shape(item.shape)})" for item in manifest.artifact.inputs)
    # A model from elsewhere is trained by the package it came in.
    command = f"make train MODEL={manifest.id}" if manifest.id in BUILT_IN else f"python -m {folder.name}.train"
    lines = [
        f"Command: `{command}`"
        if (folder / "train.py").exists()
        else "Command: not available: the folder has no train.py",
        f"Seeds: {seeds or 'not available: the manifest names none'}",
        f"Graph: ONNX opset {manifest.artifact.opset}, inputs {inputs}",
    ]
    return [bullets(lines), *facts.printed("build")]


def _shape(shape: Sequence[int]) -> str:
    return ", ".join(("n", *map(str, shape)))


def _version(facts: Facts) -> Blocks:
    manifest, identity = facts.manifest, facts.model.identity
    metrics = hashlib.sha256((facts.model.folder / METRICS_FILE).read_bytes()).hexdigest()
    own = {manifest.artifact.file: identity.artifact_sha256, "manifest.toml": identity.manifest_sha256}
    digests = (*own.items(), (METRICS_FILE, metrics), *sorted(manifest.files.items()))
    return [
        f"Model `{manifest.id}`, version {manifest.version}, a {manifest.kind.replace('-', ' ')} model.",
        table(("File", "SHA-256"), [(name, f"`{digest}`") for name, digest in digests]),
        "The log's entry of a decision names this card by its own SHA-256, which the card cannot hold; the page shows it.",
        f"Source: [{manifest.source.label}]({manifest.source.url}). {manifest.source.citation}",
    ]


def _source_attributes(facts: Facts) -> Blocks:
    attributes = dsi.source_attributes(facts.manifest, facts.model.inputs, facts.metrics)
    rows = [
        (str(number), dsi.ATTRIBUTES[key], attribute.words())
        for number, (key, attribute) in enumerate(attributes.items(), start=1)
    ]
    return [
        "45 CFR 170.315(b)(11)(iv)(B), in the regulation's order. What is not there is said, not hidden.",
        table(("No.", "Attribute", "This model"), rows),
    ]


def _reporting_guideline(facts: Facts) -> Blocks:
    items = tripod.tripod_items(facts.manifest, facts.metrics)
    answered = sum(answer.text is not None for answer in items.values())
    intro = (
        f"TRIPOD+AI (Collins GS, et al. BMJ 2024;385:e078378): the {len(items)} parts of its 27 items in words of our own, of "
        f"which this card answers {answered}. An answer says where it is reported, not that it is good."
    )
    rows = [(key, tripod.ITEMS[key], item.words()) for key, item in items.items()]
    return [intro, table(("Part", "Asks for", "This card"), rows)]


_SECTIONS: tuple[tuple[str, Callable[[Facts], Blocks]], ...] = (
    ("In short", performance.in_short),
    ("Intended use", _intended_use),
    ("Population", _population),
    ("Out of scope", _out_of_scope),
    ("Inputs", _inputs),
    ("Outputs", _outputs),
    ("How to read it", _how_to_read),
    ("Evaluation figures", performance.evaluation),
    ("Calibration", performance.calibration),
    ("Subgroups", performance.subgroups),
    ("Release gate", performance.release_gate),
    ("Uncertainty", performance.uncertainty),
    ("Explanation", _explanation),
    ("When it does not answer", _abstention),
    ("Limits", _limits),
    ("Training data", _training_data),
    ("Reproducibility", _reproducibility),
    ("Monitoring in service", performance.monitoring),
    ("Version and digests", _version),
    (f"Source attributes ({dsi.SCHEMA})", _source_attributes),
    (f"Reporting guideline ({tripod.SCHEMA})", _reporting_guideline),
)
