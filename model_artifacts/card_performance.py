"""The model card's sections on how good a model is: in short, figures, calibration, subgroups, gate, uncertainty, monitoring.

Each is a function of `Facts` that returns Markdown blocks. Numbers come from `metrics.json` alone; where a section of it is
drawn (`plots`), the plot's table stands in the card and the page puts the drawing above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from model_artifacts.figures import Figure, Grid, cell_words
from model_artifacts.finding import UNIT_WORDS, capitalised, percent
from model_artifacts.gate import judge
from model_artifacts.manifest import Conformal, ModelManifest
from model_artifacts.manifest_words import comparison_words, monitoring_words
from model_artifacts.metric_tables import Blocks, bullets, grid_names, print_sections, table
from model_artifacts.metrics import Kind, Section
from model_artifacts.plots import Content, Plot, drawn_sections, not_drawn, plots_of
from model_artifacts.runtime import ReleasedModel


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card is made of: the model, and `metrics.json` as it is and as sections."""

    model: ReleasedModel
    content: Content
    metrics: tuple[Section, ...]

    @property
    def manifest(self) -> ModelManifest:
        return self.model.manifest

    @property
    def unit(self) -> str:
        """Of the model's quantity, in words; "" where it gives probabilities."""
        return quantity_unit(self.manifest)

    def of(self, *kinds: Kind) -> tuple[Section, ...]:
        return tuple(section for section in self.metrics if section.kind in kinds)

    def printed(self, *kinds: Kind) -> Blocks:
        """The sections as tables, then the plots' tables."""
        drawn = drawn_sections(self.content, self.unit)
        sections = print_sections(section for section in self.of(*kinds) if section.name not in drawn)
        plots = [plot for plot in plots_of(self.content, self.unit) if plot.kind in kinds and plot.rows]
        return sections + [block for plot in plots for block in _print_plot(plot)]


def quantity_unit(manifest: ModelManifest) -> str:
    """The unit of the explained output in words; "" for a probability."""
    unit = manifest.outputs[manifest.explained_index].unit
    return UNIT_WORDS.get(unit, unit)


def _print_plot(plot: Plot) -> Blocks:
    return [f"### {plot.heading}", plot.reading, table(plot.header, plot.rows)]


def in_short(facts: Facts) -> Blocks:
    """What a reader must know who reads nothing else."""
    manifest = facts.manifest
    of_what = f"a quantity in {facts.unit}" if facts.unit else "a probability"
    sureness = {
        "ensemble-range": f"the card shows the lowest and highest of {manifest.artifact.members} networks, see “Uncertainty”.",
        "conformal-interval": manifest.uncertainty.text,
        "none": manifest.uncertainty.text,
    }[manifest.uncertainty.kind]
    lines = [
        f"**Gives:** {manifest.outputs[0].label}, {of_what}. It {manifest.intended_use.role} a decision and never makes it.",
        f"**For:** {manifest.population.text}.",
        f"**Not for:** {'; '.join(_uncapitalised(text) for text in manifest.intended_use.out_of_scope)}.",
        f"**How good:** {_how_good(facts)}",
        f"**Where it is least good:** {_least_good(facts)}",
        f"**How sure:** {sureness}",
    ]
    return [bullets(lines)]


def _uncapitalised(text: str) -> str:
    """The text as it stands within a sentence; what begins with an abbreviation stays."""
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def _how_good(facts: Facts) -> str:
    compared = [grid for section in facts.metrics if section.name == "model_and_rivals" for grid in section.grids]
    if not compared:
        return "not measured here; what others published is under “Evaluation figures”."
    grid = compared[0]
    name, cells = grid.rows[0]
    models = [(column, cell) for column, cell in zip(grid.columns, cells, strict=True) if " minus " not in column]
    told = "; ".join(f"{column} {cell_words(cell)}" for column, cell in models)
    unit = f" in {facts.unit}" if facts.unit and name in _IN_THE_UNIT else ""
    meaning = f" {capitalised(name)}: {_MEANINGS[name]}." if name in _MEANINGS else ""
    return f"{name}{unit}, on data that the fit never saw: {told}. In brackets: 95 % interval.{meaning}"


def _least_good(facts: Facts) -> str:
    """The group in which the model's first figure is worst."""
    lowest: Mapping[str, Callable[..., tuple[str, Figure]]] = {"AUROC": min, "mean absolute error": max}
    for section in facts.of("subgroups"):
        for grid in section.grids:
            for metric, edge in lowest.items():
                figures = _column(grid, metric)
                if figures:
                    name, figure = edge(figures, key=lambda item: item[1].value)
                    return f"{name}, {metric} {cell_words(figure)}; see section “Subgroups”."
    return "not measured by group here."


def _column(grid: Grid, name: str) -> list[tuple[str, Figure]]:
    """The column's figures that have an interval, by group."""
    if name not in grid.columns:
        return []
    cells = [(group, row[grid.columns.index(name)]) for group, row in grid.rows]
    return [(group, cell) for group, cell in cells if isinstance(cell, Figure)]


def evaluation(facts: Facts) -> Blocks:
    """The figures beside the rivals', the curves, what the figures mean, and which plots there are no numbers for."""
    kinds: tuple[Kind, ...] = ("evaluation", "published", "external")
    blocks = facts.printed(*kinds) or ["not available: this model's performance was not measured"]
    meanings = _meanings(facts, facts.of(*kinds, "subgroups"))
    missing = not_drawn(facts.content, facts.unit)
    if meanings:
        blocks += ["### What the figures mean", bullets(meanings)]
    if missing:
        blocks += ["### Plots that are not available", bullets(missing)]
    return blocks


_MEANINGS: Mapping[str, str] = {
    "AUROC": "how often, of two people, the one with the event has a higher estimate than the one without; chance is 0.5",
    "AUPRC": "mean positive predictive value over all thresholds; chance is the share of people with the event",
    "min sensitivity PPV": "the highest value that sensitivity and positive predictive value reach together at one threshold",
    "Brier": "mean squared distance between probability and what happened, 1 or 0: the lower the better",
    "calibration slope": "1 is right; below 1 the estimates are too extreme, above 1 not extreme enough",
    "calibration intercept": "0 is right; above 0 the estimates are too low on the whole, below 0 too high",
    "c statistic": "the same as AUROC, where all are followed equally long",
    "sensitivity": "share of those with the event whose estimate reaches the threshold",
    "specificity": "share of those without the event whose estimate stays below the threshold",
    "PPV": "share of those whose estimate reaches the threshold who have the event",
    "NPV": "share of those whose estimate stays below the threshold who don't have the event",
    "alert rate": "share of all people whose estimate reaches the threshold",
    "false negative rate": "share of those with the event whose estimate stays below the threshold, so that they are missed",
    "mean absolute error": "how far the estimate lies from what was needed, on average, in either direction",
    "within 20 percent": "share of people whose estimate lies within 20 % of what they needed",
    "bias": "estimate minus what was needed, on average: below 0 the estimates are too low on the whole",
    "coverage": "share of people whose interval held what they needed",
    "interval coverage": "share of people whose interval held what they needed",
    "mean width": "upper minus lower end of the interval, on average",
}
_IN_THE_UNIT = {"mean absolute error", "bias", "mean width"}


def _meanings(facts: Facts, sections: Sequence[Section]) -> list[str]:
    figures = [figure.name for section in sections for figure in section.figures]
    used = {*grid_names(sections), *figures}
    return [
        f"{name}: {meaning}{f' ({facts.unit})' if facts.unit and name in _IN_THE_UNIT else ''}"
        for name, meaning in _MEANINGS.items()
        if name in used
    ]


def calibration(facts: Facts) -> Blocks:
    """The reliability curve."""
    elsewhere = any("calibration" in text for text in grid_names(facts.of("evaluation", "published", "external")))
    reason = "see “Evaluation figures” for slope and intercept; no curve was measured"
    why_not = reason if elsewhere else "calibration was not measured"
    return facts.printed("calibration") or [f"not available: {why_not}"]


def subgroups(facts: Facts) -> Blocks:
    """Performance by group; the page draws it as forests."""
    return facts.printed("subgroups") or ["not available: performance by group was not measured here"]


def release_gate(facts: Facts) -> Blocks:
    """What a version must keep to come into force, and whether this one does."""
    gate = facts.manifest.gate
    if not (gate.rules or gate.comparisons):
        return ["not available: the manifest sets no bounds, and a version without them cannot be promoted"]
    blocks = ["Bounds on the figures above. A version that breaks one is not promoted, and the log shows the attempt."]
    if gate.rules:
        rows = [
            (verdict.name, "kept" if verdict.passed else "broken", verdict.figures, verdict.reason)
            for verdict in judge(gate, facts.content)
        ]
        blocks.append(table(("Bound", "This version", "Judged by", "Why"), rows))
    if gate.comparisons:
        compared = [f"{comparison_words(item)}: {_uncapitalised(item.reason)}" for item in gate.comparisons]
        blocks += ["Compared with the version in force when it is to be promoted:", bullets(compared)]
    return blocks


def uncertainty(facts: Facts) -> Blocks:
    """What the range or interval is, what the prediction set means, and what abstaining buys."""
    stated = facts.manifest.uncertainty
    blocks = [stated.text]
    if stated.kind == "ensemble-range":
        blocks.append(f"The range on the card is the lowest and highest of {facts.manifest.artifact.members} networks.")
    if stated.conformal is not None:
        blocks.append(_prediction_set(stated.conformal))
    return blocks + facts.printed("uncertainty")


def _prediction_set(conformal: Conformal) -> str:
    """The set in the words of what it leaves out; a risk of 30 % that "rules out survival" would be read as death otherwise."""
    event, no_event = percent(conformal.event_bound), percent(1 - conformal.no_event_bound)
    missed = f"{100 * (1 - conformal.coverage):.0f} %"
    return (
        f"Prediction set with a coverage of {100 * conformal.coverage:.0f} %: an estimate below {event} leaves the event out, "
        f"one above {no_event} its absence; between them both stay in. Left out means: of all people who had the event, about "
        f"{missed} lay below {event}, and of all who hadn't, about {missed} lay above {no_event}. It does not mean that most "
        f"people above {no_event} have the event: how many do is their probability. {capitalised(conformal.source)}"
        f"{_spans(conformal)}"
    )


def _spans(conformal: Conformal) -> str:
    """The bounds of each span of the input they go by, where they do."""
    if not conformal.spans:
        return ""
    each = [
        f"from {span.at_least:g} on {percent(span.event_bound)} and {percent(1 - span.no_event_bound)}"
        for span in conformal.spans
    ]
    return f" The two bounds go by the input “{conformal.by}”: {'; '.join(each)}."


def monitoring(facts: Facts) -> Blocks:
    """How the model is watched in service, and how a new version comes into force."""
    return [
        bullets(monitoring_words(facts.manifest)),
        "A site measures validity and fairness on its own patients with `bedside model evaluate`: this card knows no site.",
    ]
