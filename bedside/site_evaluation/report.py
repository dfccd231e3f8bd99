"""The report as Markdown, and as one HTML page that needs nothing else: the content in words, tables and plots."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from bedside.site_evaluation.comparing import FEWEST
from model_artifacts.figures import number_words, words
from model_artifacts.finding import percent
from model_artifacts.local_validity import compared_table, estimate_words
from model_artifacts.metric_tables import bullets, table
from model_artifacts.plots import plots_of
from smart_app.markdown_page import render_page

Content = Mapping[str, Any]
_FEW = "fewer than 10"
_PLOTS_BEFORE = '<h2 id="what-the-data-were">'
# By group: who is told apart worse, for whom risks are off, who is overlooked. The tables hold the other figures.
_DRAWN = frozenset(
    {"auroc", "calibration_intercept", "false_negative_rate", "mean_absolute_error", "bias", "interval_coverage"}
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def report_markdown(content: Content) -> str:
    """The whole report, Markdown with pipe tables."""
    return "\n\n".join(_blocks(content)) + "\n"


def report_html(content: Content) -> str:
    """The whole report as a page: the same words and tables, and the plots that there are figures for."""
    title = html.escape(f"{content['model']['title']}: local validation")
    style = (files("smart_app") / "static" / "page.css").read_text(encoding="utf-8")
    page = render_page(report_markdown(content))
    plots = "".join(
        f"<figure>{plot.svg}<figcaption>{html.escape(f'{plot.title}. {plot.reading}')}</figcaption></figure>"
        for plot in plots_of(_drawable(content), content["model"]["unit"])
    )
    drawn = f'<h2 id="plots">Plots</h2>{plots}' if plots else ""
    body = page.body.replace(_PLOTS_BEFORE, drawn + _PLOTS_BEFORE)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f'<style>\n{style}\n</style>\n</head>\n<body>\n<main id="main">\n<article>\n{page.lead}{body}</article>\n'
        "</main>\n</body>\n</html>\n"
    )


def _drawable(content: Content) -> dict[str, Any]:
    groups = [
        {name: value for name, value in row.items() if not isinstance(value, dict) or name in _DRAWN}
        for row in content.get("subgroups", ())
        if "withheld" not in row
    ]
    drawn = {"reliability": content.get("reliability"), "subgroups": groups}
    return {name: rows for name, rows in drawn.items() if rows}


def _blocks(content: Content) -> Iterator[str]:
    model = content["model"]
    yield f"# {model['title']}: validation on this site's own patients"
    yield (
        f"Made on {content['made_at']}. Model `{model['id']}`, version {model['version']}, output “{model['output_label']}”. "
        "It says how the model did on these patients, and nothing of what its use does for them."
    )
    yield "## In short"
    yield bullets(_short(content))
    yield "## Who was asked, and who answered"
    yield table(("What", "Labels"), list(_count_rows(content)))
    yield from _compared(content)
    yield from _tables(content)
    yield "## What the data were"
    yield bullets(_data_lines(content))
    yield "## What to hold it to"
    yield table(("What", "SHA-256"), _digests(content))
    yield bullets([f"{name} {number}" for name, number in content["software"].items()])
    yield f"How it was made: {content['how']}."


def _short(content: Content) -> list[str]:
    rows = {row["measure"]: row for row in content["compared"]}
    if not rows:
        return ["Too few people were answered to say anything about the model here."]
    chosen = ("auroc", "calibration_slope", "calibration_intercept", "mean_absolute_error", "within_20_percent")
    return [
        f"{_capital(words(name))} {estimate_words(rows[name]['site'])}: {rows[name]['words']}."
        for name in chosen
        if name in rows
    ]


def _count_rows(content: Content) -> Iterator[tuple[str, str]]:
    counts = content["counts"]
    yield f"Labels, of {counts['patients']} patients", str(counts["labels"])
    yield "Answered", _count(counts["answered"])
    if "events" in counts:
        yield "Answered, with the event", _count(counts["events"])
    for key, what in (
        ("outside_population", "Outside of the model's population"),
        ("abstained", "Not answered"),
        ("not_asked", "Not asked"),
    ):
        for reason, n in counts[key].items():
            yield f"{what}: {reason.rpartition(':')[2].replace('-', ' ')}", _count(n)


def _compared(content: Content) -> Iterator[str]:
    if content["compared"]:
        yield "## Beside the released figures"
        yield compared_table(content)
        yield (
            f"Nothing is concluded from fewer than {FEWEST} people with the event or without it, nor, of quantities, from "
            f"fewer than {FEWEST} people."
        )


def _tables(content: Content) -> Iterator[str]:
    if content.get("bands"):
        yield "## The bands on the card"
        rows = [
            (row["band"], _told(row["n"]), estimate_words(row["observed"]) if "observed" in row else "withheld")
            for row in content["bands"]
        ]
        yield table(("Estimate", "Answers", "Share who had the event (95 % interval)"), rows)
    if content.get("reliability"):
        yield "## Reliability"
        yield _reliability(content["reliability"])
    if content.get("conformal"):
        yield "## The prediction set"
        yield bullets(_conformal(content["conformal"]))
    if content.get("subgroups"):
        yield "## By group"
        yield from _subgroups(content["subgroups"])
        if "alert_from" in content:
            yield f"False negatives had the event with an estimate below {percent(content['alert_from'])}, in the first band."
    if content.get("missing_inputs"):
        yield "## Inputs that were missing"
        yield table(
            ("Input", "Share of answers without it"),
            [(row["input"], _share(row["share"])) for row in content["missing_inputs"]],
        )


def _reliability(rows: Sequence[Mapping[str, Any]]) -> str:
    if "needed" in rows[0]:
        told = [(str(row["n"]), number_words(row["estimated"]), estimate_words(row["needed"])) for row in rows]
        return table(("Answers", "Estimated, mean", "True, mean (95 % interval)"), told)
    told = [
        (
            str(row["n"]),
            number_words(row["predicted"]),
            estimate_words({"estimate": row["observed"], "low": row["low"], "high": row["high"]}),
        )
        for row in rows
    ]
    return table(("Answers", "Predicted, mean", "Observed (95 % interval)"), told)


def _conformal(conformal: Mapping[str, Any]) -> list[str]:
    said = [f"Stated coverage: {number_words(conformal['nominal'])}"]
    said += [
        f"{_capital(words(name))}: {estimate_words(value)}"
        for name, value in conformal.items()
        if isinstance(value, dict)
    ]
    return [*said, f"Both outcomes in the set: {_share(conformal['both_outcomes_in_the_set'])} of answers"]


def _subgroups(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, dict)))
    for by in dict.fromkeys(row["by"] for row in rows):
        own = [row for row in rows if row["by"] == by]
        told = [
            (
                row["group"],
                _told(row["n"]),
                *(
                    estimate_words(row[name]) if name in row else "withheld" if "withheld" in row else "–"
                    for name in names
                ),
            )
            for row in own
        ]
        yield f"By {by}:"
        yield table((_capital(by), "Answers", *(_capital(words(name)) for name in names)), told)


def _data_lines(content: Content) -> list[str]:
    data = content["data"]
    lines = [
        f"{data['files']} files of FHIR, {data['files_ignored']} of other kinds",
        f"Labels from {data['first_month']} to {data['last_month']}",
        "Resources: " + (", ".join(f"{kind} {n}" for kind, n in data["resources"].items()) or "none"),
    ]
    for key, what in (
        ("unreadable", "Could not be read or belonged to nobody"),
        ("set_aside", "Read and not usable, counted per label"),
        ("not_known_then", "Not known yet at as_of, counted per label"),
    ):
        if data[key]:
            lines.append(f"{what}: " + ", ".join(f"{name} {n}" for name, n in data[key].items()))
    if data["orders_no_longer_active"]:
        lines.append(
            f"{data['orders_no_longer_active']} drug orders of before as_of (per label) are not active any more. FHIR does "
            "not date a change of status, so whether they were active then is unknown, and they were not read"
        )
    return lines


def _digests(content: Content) -> list[tuple[str, str]]:
    model, data = content["model"], content["data"]
    return [
        ("The model's graph", f"`{model['artifact_sha256']}`"),
        ("Its manifest", f"`{model['manifest_sha256']}`"),
        ("Its card", f"`{model['card_sha256']}`"),
        ("The labels", f"`{data['labels_sha256']}`"),
        ("The list of the data's files and their digests", f"`{data['files_sha256']}`"),
    ]


def _count(n: int | None) -> str:
    return _FEW if n is None else str(n)


def _told(n: int | None) -> str:
    """Of a group; it may be withheld for being few, or because it would give away another one that is."""
    return "withheld" if n is None else str(n)


def _share(share: float | None) -> str:
    return f"{_FEW} answers" if share is None else f"{100 * share:.1f} %"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
