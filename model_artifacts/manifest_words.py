"""What a manifest binds a release and its monitoring to, in the model card's words. Pure: structs in, sentences out."""

from __future__ import annotations

from collections.abc import Iterable

from model_artifacts.figures import number_words, words
from model_artifacts.gate import GateComparison, GateRule
from model_artifacts.manifest import ModelManifest, Monitoring
from model_artifacts.sketch import REFERENCE_FILE

_JUDGED = {
    "estimate": "",
    "worse-end": ", with 95 % confidence",
    "better-end": ", unless chance explains it",
}


def gate_rules_words(rules: Iterable[GateRule]) -> tuple[str, ...]:
    """Each rule's bounds: "AUROC by sex at least 0.80, groups no farther apart than 0.05"."""
    return tuple(f"{_metric(rule)} {bounds_words(rule)}" for rule in rules)


def bounds_words(rule: GateRule) -> str:
    """The rule's bounds alone."""
    bounds = [
        *([] if rule.at_least is None else [f"at least {number_words(rule.at_least)}"]),
        *([] if rule.at_most is None else [f"at most {number_words(rule.at_most)}"]),
        *([] if rule.largest_gap is None else [f"groups no farther apart than {number_words(rule.largest_gap)}"]),
    ]
    return f"{', '.join(bounds) or 'measured'}{_JUDGED[rule.judged_by]}"


def comparison_words(comparison: GateComparison) -> str:
    """What a version may lose against the one in force."""
    direction = "lower" if comparison.higher_is_better else "higher"
    metric = words(comparison.metric.replace(".", "_"))
    return f"{metric} not {direction} than the version in force's by more than {number_words(comparison.margin)}"


def monitoring_words(manifest: ModelManifest) -> tuple[str, ...]:
    """How the model is watched in service and how often, a sentence each."""
    monitoring = manifest.monitoring
    compared = REFERENCE_FILE in manifest.files
    events = " to ".join(map(number_words, monitoring.observed_to_expected))
    slope = " to ".join(map(number_words, monitoring.calibration_slope))
    outcomes = (
        f"Where a site gives outcomes, from {monitoring.minimum_events} events on: if those that came are not {events} times "
        f"those predicted, or the calibration slope is not {slope}, and chance doesn't explain it."
    )
    return (
        "Decisions are counted, without patients' values; `bedside model drift` shows the counts and what is an alarm.",
        _compared(monitoring) if compared else _not_compared(monitoring),
        *([outcomes] if manifest.gives_probabilities else []),
        f"How often: {monitoring.frequency.rstrip('.') or 'not set by the model; the site decides'}.",
    )


def _compared(monitoring: Monitoring) -> str:
    moved, missing, unlike, abstained = map(
        number_words,
        (monitoring.psi_alarm, monitoring.missing_alarm, monitoring.novelty_alarm, monitoring.abstention_alarm),
    )
    return (
        f"From {monitoring.minimum_decisions} decisions on it is an alarm if an input or output is distributed otherwise than "
        f"in training (population stability index above {moved}), if the share without an input has changed by more than "
        f"{missing}, if the share of patients unlike the training data has grown by more than {unlike}, or if the model "
        f"abstains in a share above {abstained}; each only where chance doesn't explain it."
    )


def _not_compared(monitoring: Monitoring) -> str:
    return (
        f"From {monitoring.minimum_decisions} decisions on it is an alarm if the model abstains in a share above "
        f"{number_words(monitoring.abstention_alarm)} and chance doesn't explain it. How inputs and outputs are distributed is "
        "shown, and compared with nothing: the model comes without a reference of its training data."
    )


def _metric(rule: GateRule) -> str:
    name = words(rule.metric.replace(".", "_"))
    return f"{name} by {words(rule.by)}" if rule.by else name
