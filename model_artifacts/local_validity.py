"""What a site measured of a model on its own patients, as the model card's local attributes: validity (27) and fairness (29).

Owns the reading of `local-validation.json` (schema `bedside-local-validation/1`, written by `bedside model evaluate`). A folder
holds one folder a model, in it one folder a report; the newest of the version in force counts, which is the one with the same
manifest and graph. The signed card is never altered: this stands beside it.

    <folder>/<model id>/<when>-<digest>/local-validation.json

Must not import the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_artifacts.answers import Answer
from model_artifacts.assessment import ModelIdentity
from model_artifacts.figures import Figure, cell_words, number_words, words
from model_artifacts.metric_tables import table
from model_artifacts.source_attributes import ATTRIBUTES

SCHEMA = "bedside-local-validation/1"
REPORT = "local-validation.json"
LOCAL_ATTRIBUTES = ("validity_local", "fairness_local")

_MAIN = (
    "auroc",
    "calibration_slope",
    "calibration_intercept",
    "mean_absolute_error",
    "within_20_percent",
    "interval_coverage",
)
_BY_GROUP = ("auroc", "calibration_intercept", "false_negative_rate", "mean_absolute_error", "within_20_percent")

Content = Mapping[str, Any]


def find_report(folder: Path, identity: ModelIdentity) -> Content | None:
    """The newest report on exactly this version in `folder`, or None; what is no report is passed over."""
    own = [report for report in _reports(folder / identity.id) if _is_of(report, identity)]
    return max(own, key=lambda report: str(report.get("made_at")), default=None)


def _reports(folder: Path) -> Iterator[Content]:
    for path in sorted(folder.glob(f"*/{REPORT}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("schema") == SCHEMA:
            yield content


def _is_of(report: Content, identity: ModelIdentity) -> bool:
    model = report.get("model")
    return isinstance(model, dict) and (model.get("manifest_sha256"), model.get("artifact_sha256")) == (
        identity.manifest_sha256,
        identity.artifact_sha256,
    )


def local_attributes(report: Content | None) -> dict[str, Answer]:
    """The attributes of `LOCAL_ATTRIBUTES`, in their order."""
    if report is None:
        why = "no local validation of this version is kept here; `bedside model evaluate` makes one"
        return {name: Answer(None, why) for name in LOCAL_ATTRIBUTES}
    return {"validity_local": _validity(report), "fairness_local": _fairness(report)}


def local_section(report: Content | None) -> str:
    """The section beside the card, Markdown: both attributes, and a report's figures beside the released ones."""
    numbers = {name: place for place, name in enumerate(ATTRIBUTES, start=1)}
    rows = [
        (str(numbers[name]), ATTRIBUTES[name], attribute.words())
        for name, attribute in local_attributes(report).items()
    ]
    blocks = [
        "## At this site",
        "Measured here and not part of the signed card.",
        table(("No.", "Attribute", "Here"), rows),
    ]
    if report is not None and report.get("compared"):
        blocks.append(compared_table(report))
    return "\n\n".join(blocks) + "\n"


def site_section(folder: Path, identity: ModelIdentity) -> str:
    """`local_section` of the newest report on this version in `folder`."""
    return local_section(find_report(folder, identity))


def compared_table(report: Content) -> str:
    """The site's figures beside the released ones, as a Markdown table."""
    header = ("Figure", "This site (95 % interval)", "Released (95 % interval)", "In words")
    rows = [
        (
            _capital(words(row["measure"])),
            estimate_words(row["site"]),
            estimate_words(row["released"]) if row.get("released") else "–",
            row["words"],
        )
        for row in report["compared"]
    ]
    return table(header, rows)


def estimate_words(estimate: Mapping[str, float]) -> str:
    return cell_words(Figure("", estimate["estimate"], estimate["low"], estimate["high"]))


def _validity(report: Content) -> Answer:
    if not report.get("compared"):
        return Answer(None, f"{_made(report)} too few people were answered to say anything")
    figures = [
        f"{words(row['measure'])} {estimate_words(row['site'])}: {row['words']}"
        for row in report["compared"]
        if row["measure"] in _MAIN
    ]
    return Answer(f"{_made(report)} {'; '.join(figures)}.")


def _fairness(report: Content) -> Answer:
    groups = [row for row in report.get("subgroups", ()) if "withheld" not in row and _group_words(row)]
    left_out = sum("withheld" in row for row in report.get("subgroups", ()))
    if not groups:
        return Answer(None, f"{_made(report)} no group had enough people to say anything")
    said = "; ".join(f"{row['group']} ({row['by']}, n={row['n']}): {_group_words(row)}" for row in groups)
    more = f" Of {left_out} further groups too few were there to say." if left_out else ""
    return Answer(f"{_made(report)} {said}.{more}")


def _group_words(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{words(name)} {estimate_words(row[name])}" for name in _BY_GROUP if name in row)


def _made(report: Content) -> str:
    counts = report["counts"]
    answered = counts["answered"]
    events = f", {number_words(counts['events'])} with the event" if counts.get("events") is not None else ""
    who = "fewer than ten people answered" if answered is None else f"{answered} answers{events}"
    return f"Measured on {report['made_at'][:10]} on this site's own patients, {who}:"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
