"""What the report of a site's validation holds, as `local-validation.json`: which model, on what, how it went, what it gave.

Schema `bedside-local-validation/1`. No patient's id, date or value is in it, and no count of fewer than ten people. It is made
once, from values; `model_artifacts.local_validity` reads it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

from bedside.site_evaluation.cohort import Cohort
from bedside.site_evaluation.comparing import compare, released_figures
from bedside.site_evaluation.figures import SMALLEST_CELL, site_figures, withheld
from bedside.site_evaluation.labels import Labels
from fhir_adapters.bulk import Contents
from model_artifacts.local_validity import SCHEMA
from model_artifacts.manifest import Output
from model_artifacts.runtime import ReleasedModel

_LIBRARIES = ("numpy", "onnxruntime", "msgspec")


def report_content(
    model: ReleasedModel,
    output: Output,
    by: Sequence[str],
    labels: Labels,
    contents: Contents,
    cohort: Cohort,
    made_at: datetime,
) -> dict[str, Any]:
    """The report, JSON-able."""
    figures = site_figures(cohort, model.manifest, output, by)
    people, events = len(cohort.value), None if output.unit else int(cohort.outcome.sum())
    return {
        "schema": SCHEMA,
        "made_at": made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "model": _model(model, output),
        "data": _data(labels, contents, cohort),
        "counts": _counts(cohort, events),
        "how": _how(output),
        "compared": compare(figures.get("measures", {}), released_figures(model.folder), events, people),
        **figures,
        "software": {"bedside": version("bedside"), "python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
    }


def report_bytes(content: Mapping[str, Any]) -> bytes:
    """As it is written, and digested for the log."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _model(model: ReleasedModel, output: Output) -> dict[str, Any]:
    identity = model.identity
    return {
        "id": identity.id,
        "version": identity.version,
        "title": model.manifest.title,
        "artifact_sha256": identity.artifact_sha256,
        "manifest_sha256": identity.manifest_sha256,
        "card_sha256": identity.card_sha256,
        "output": output.name,
        "output_label": output.label,
        "unit": output.unit,
    }


def _data(labels: Labels, contents: Contents, cohort: Cohort) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(contents.files, sort_keys=True).encode()).hexdigest()
    months = sorted(f"{label.as_of:%Y-%m}" for label in labels.rows)
    return {
        "files": len(contents.files),
        "files_ignored": contents.ignored_files,
        "files_sha256": digest,
        "labels_sha256": labels.sha256,
        "first_month": months[0],
        "last_month": months[-1],
        "resources": dict(contents.seen.most_common()),
        "unreadable": _listed({f"{kind}: {reason}": n for (kind, reason), n in contents.set_aside.items()}),
        "set_aside": _listed({f"{kind}: {reason}": n for (kind, reason), n in cohort.counts.set_aside.items()}),
        "not_known_then": _listed({f"{kind}: {why}": n for (kind, why), n in cohort.counts.unknown.items()}),
        "orders_no_longer_active": cohort.counts.orders_ended,
    }


def _counts(cohort: Cohort, events: int | None) -> dict[str, Any]:
    counts, answered = cohort.counts, len(cohort.value)
    own = {} if events is None else {"events": withheld(events)}
    return {
        "labels": counts.labels,
        "patients": counts.patients,
        "answered": withheld(answered),
        **own,
        "outside_population": _reasons(counts.outside),
        "abstained": _reasons(counts.abstained),
        "not_asked": _reasons(counts.not_asked),
    }


def _reasons(counted: Counter[str]) -> dict[str, int | None]:
    return {reason: withheld(n) for reason, n in counted.most_common()}


def _listed(counted: Mapping[str, int]) -> dict[str, int]:
    """Counts of resources, not of people."""
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _how(output: Output) -> str:
    what = "the quantity" if output.unit else "the event"
    return (
        "each label was asked as a call at its as_of would have been, with what of the data was known then; figures are over "
        f"those whom the model answered, {what} as the labels give it; intervals are 95 % percentile bootstrap intervals over "
        f"patients; nothing is said of fewer than {SMALLEST_CELL} people or, within a group, of fewer than {SMALLEST_CELL} "
        "with either outcome"
    )
