"""Patients on disk: the bundled ICU stays, each several times with fewer measurements, as exports and labels."""

import copy
import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bedside.site_evaluation.cohort import Cohort, Counts
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from tests.model_artifacts.icu_mortality.stays import ADMITTED, STAYS, bundle_of

Resource = dict[str, Any]


@cache
def model(name: str) -> ReleasedModel:
    return ReleasedModel.load(model_packages()[name])


def icu_as_of() -> datetime:
    """A moment at which the model for intensive care answers, whichever hours it is made for."""
    [stay] = [item for item in model("icu_mortality").manifest.population.criteria if item.kind == "icu-stay"]
    return ADMITTED + timedelta(hours=stay.at_most or 48) - timedelta(minutes=30)


@cache
def _bundles() -> tuple[tuple[str, str], ...]:
    return tuple((name, json.dumps(bundle_of(stay))) for name, stay in STAYS.items())


def ward(copies: int, *, keep: int = 4) -> dict[str, list[Resource]]:
    """Resources by patient: each stay `copies` times, the nth without every (n + keep)th measurement."""
    patients: dict[str, list[Resource]] = {}
    for number in range(copies):
        for name, text in _bundles():
            own = f"challenge-{name}"
            resources = [entry["resource"] for entry in json.loads(text.replace(own, f"{own}-{number}"))["entry"]]
            measured = [item for item in resources if item["resourceType"] == "Observation"]
            dropped = {id(item) for place, item in enumerate(measured) if number and place % (number + keep) == 0}
            patients[f"{own}-{number}"] = [item for item in resources if id(item) not in dropped]
    return patients


def write_bulk(folder: Path, patients: Iterable[Sequence[Resource]]) -> Path:
    """A bulk export: a file for each type."""
    folder.mkdir(parents=True, exist_ok=True)
    by_kind: dict[str, list[Resource]] = {}
    for resources in patients:
        for item in resources:
            by_kind.setdefault(item["resourceType"], []).append(item)
    for kind, items in by_kind.items():
        (folder / f"{kind}.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder


def write_labels(path: Path, rows: Iterable[Sequence[object]], header: str = "patient,as_of,outcome") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def later(resources: Sequence[Resource], as_of: datetime, *, offset: timedelta, ended: bool = True) -> list[Resource]:
    """The same patient with what comes `offset` after `as_of`: each measurement again, a third higher; a death and an end."""
    when = (as_of + offset).isoformat()
    changed = copy.deepcopy(list(resources))
    for item in changed:
        if item["resourceType"] == "Patient" and ended:
            item["deceasedDateTime"] = when
        elif item["resourceType"] == "Encounter" and ended:
            item["status"] = "finished"
            item["period"]["end"] = when
            item["hospitalization"] = {"dischargeDisposition": {"text": "died"}}
    measured = [item for item in changed if "valueQuantity" in item]
    for item in measured:
        value = item["valueQuantity"]
        new = {
            "id": f"{item['id']}-later",
            "effectiveDateTime": when,
            "valueQuantity": value | {"value": 1.3 * value["value"]},
        }
        changed.append(item | new)
    return changed


def cohort_of(value: Any, outcome: Any, **changes: Any) -> Cohort:
    """Answers and outcomes, half of them men, as the model's asking would give them."""
    n = len(value)
    same = tuple("female" if place % 2 else "male" for place in range(n))
    empty = np.full(n, np.nan)
    columns = {
        "low": empty,
        "high": empty,
        "patient": np.arange(n),
        "outcome_sets": ("either",) * n,
        "groups": {"sex": same, "age": ("45–64",) * n, "race": ("not recorded",) * n},
        "inputs": ("pH",),
        "missing": np.arange(n)[:, None] % 4 == 0,
        "counts": Counts(n, n, Counter()),
    }
    return Cohort(np.asarray(value, dtype=float), np.asarray(outcome, dtype=float), **columns | changes)


def calibrated(n: int = 700) -> tuple[Any, Any]:
    """Risks, and outcomes that come true as often as they say."""
    generator = np.random.default_rng(3)
    risk = generator.beta(1.2, 5, n)
    return risk, generator.random(n) < risk
