"""`bedside model evaluate`: the command, from files to a report folder and an entry in the log.

A report is kept in `models.local_validation`, from where the model's page and `bedside model card` show it; with `--out` it is
written there instead, and shown by nobody: for trials.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bedside.config import Config, ConfigError
from bedside.environment import now, read_config
from bedside.site_evaluation.cohort import GROUPINGS, Evaluation
from bedside.site_evaluation.content import report_bytes, report_content
from bedside.site_evaluation.labels import Labels, read_labels
from bedside.site_evaluation.recording import record_evaluation
from bedside.site_evaluation.report import report_html, report_markdown
from bedside.versions.site import Site
from fhir_adapters.bulk import read_export
from fhir_adapters.errors import ExportError
from model_artifacts.local_validity import REPORT
from model_artifacts.manifest import Output
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from model_artifacts.versions import load_version

FILES = """
--fhir DIR: FHIR R4, as a bulk export (a file or several for each type, one resource a line) or as Bundles (a file or a line
  each). Names end in .ndjson, .jsonl or .json, also with .gz. Needed are Patient and what the model asks for; see its card.

--labels FILE: what came true, as a table with commas:

  patient,as_of,outcome
  4711,2026-03-01T08:00:00Z,0
  4712,2026-03-02T09:30:00+01:00,1

  patient    the id of a Patient in the data
  as_of      the moment at which the model is asked, with its offset from UTC; nothing later is read
  outcome    0 or 1; of a model that estimates a quantity, the true quantity in the model's unit
  encounter  (perhaps) the id of the Encounter that the call is about, for models that are asked about one
  order      (perhaps) of a model that reads a drafted order: the id of that MedicationRequest, whatever its status is today;
             without it, those whose status is draft
  outcome_at (perhaps) when the outcome was known, which must be after as_of

Nothing leaves this machine. A report holds no patient's id, date or value, and no count of fewer than ten people.
"""


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FILES
    parser.add_argument(
        "model", metavar="ID", choices=tuple(model_packages()), help="which model; `bedside model list`"
    )
    parser.add_argument("--fhir", type=Path, required=True, metavar="DIR", help="the patients, see below")
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="what came true, see below")
    parser.add_argument(
        "--candidate", type=Path, metavar="DIR", help="a signed version's folder (default: the version in force)"
    )
    parser.add_argument("--output", metavar="NAME", help="which of the model's outputs (default: its first)")
    parser.add_argument(
        "--by", type=_groupings, default=GROUPINGS, metavar="LIST", help="groups to tell apart (default: sex,age,race)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the report there; the model's page doesn't show it then"
    )
    parser.add_argument("--tenant", metavar="NAME", help="whose log says that it was made (default: audit.tenant)")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.set_defaults(run=run_evaluate)


def _groupings(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(GROUPINGS):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(GROUPINGS)}")
    return names


def run_evaluate(options: argparse.Namespace) -> int:
    """Exit code 0 if the report is written and, where there is a log, recorded; 1 if it could not be recorded.

    Raises:
        ConfigError: the data or the labels can't be used, or no such output, tenant or place to write.
        ModelError: the model is not as released.
    """
    config, made_at = read_config(), now()
    model = _model(options)
    output = _output(model, options.output)
    labels = read_labels(options.labels, output)
    content = _evaluate(model, output, options, labels, made_at)
    folder = _write(_place(config, options.out, content), content)
    if options.json:
        sys.stdout.write(report_bytes(content).decode())
    else:
        sys.stdout.write(f"{_summary(content)}\nreport: {folder}\n")
    digest = hashlib.sha256(report_bytes(content)).hexdigest()
    return record_evaluation(config, options.tenant, model.identity, digest)


def _model(options: argparse.Namespace) -> ReleasedModel:
    """The version in force, or the candidate that the installed code can run."""
    site = Site.open(options.model)
    if options.candidate is None:
        return site.in_force()
    found = site.candidate(options.candidate)
    return load_version(site.package, options.candidate, site.trust, found.manifest_sha256)


def _output(model: ReleasedModel, name: str | None) -> Output:
    outputs = {output.name: output for output in model.manifest.outputs}
    if name is None:
        return model.manifest.outputs[0]
    if name not in outputs:
        raise ConfigError(f"--output: expected one of {', '.join(outputs)}, got {name}")
    return outputs[name]


def _evaluate(
    model: ReleasedModel, output: Output, options: argparse.Namespace, labels: Labels, made_at: datetime
) -> dict[str, Any]:
    evaluation = Evaluation(model, output)
    wanted = evaluation.wanted(labels.rows)
    try:
        with read_export(options.fhir, wanted, _progress("resources read")) as export:
            cohort = evaluation.run(labels.rows, export, wanted, _progress("labels asked", len(labels.rows)))
            contents = export.contents
    except ExportError as exc:
        raise ConfigError(str(exc)) from exc
    if len(contents.known) == 0:
        raise ConfigError(
            "labels: expected patients of the data, got none of them: column patient is the id of a Patient"
        )
    for why, lines in cohort.counts.lines.items():
        places = ", ".join(map(str, lines))
        sys.stderr.write(
            f"{cohort.counts.not_asked[why]} labels not asked, {why.replace('-', ' ')}: lines {places} …\n"
        )
    return report_content(model, output, options.by, labels, contents, cohort, made_at)


def _place(config: Config, out: Path | None, content: Mapping[str, Any]) -> Path:
    if out is not None:
        return out
    when = content["made_at"].replace(":", "").replace("-", "")
    digest = hashlib.sha256(report_bytes(content)).hexdigest()
    return config.local_validation.joinpath(content["model"]["id"], f"{when}-{digest[:8]}")


def _write(folder: Path, content: Mapping[str, Any]) -> Path:
    texts = {
        REPORT: report_bytes(content),
        "local-validation.md": report_markdown(content).encode(),
        "local-validation.html": report_html(content).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in reversed(texts.items()):  # what is looked for last: a report half written is none
            (folder / name).write_bytes(data)
    except OSError as exc:
        raise ConfigError(f"report folder {folder}: {exc.strerror}") from exc
    return folder


def _summary(content: Mapping[str, Any]) -> str:
    counts = content["counts"]
    answered = "fewer than 10" if counts["answered"] is None else counts["answered"]
    lines = [f"{counts['labels']} labels of {counts['patients']} patients, {answered} answered"]
    for row in content["compared"]:
        site = row["site"]
        lines.append(
            f"  {row['measure']}: {site['estimate']:.3f} ({site['low']:.3f}–{site['high']:.3f}), {row['words']}"
        )
    return "\n".join(lines)


def _progress(what: str, whole: int | None = None) -> Callable[[int], None]:
    """Tells on a terminal's standard error how far it is, at most ten times a second."""
    if not sys.stderr.isatty():
        return lambda _: None
    started = last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        moment = time.monotonic()
        if moment - last < 0.1 and done != whole:
            return
        last = moment
        of = "" if whole is None else f" of {whole:,}"
        sys.stderr.write(f"\r{done:,}{of} {what}, {done / max(moment - started, 1e-9):,.0f}/s ")
        if done == whole:
            sys.stderr.write("\n")

    return tell
