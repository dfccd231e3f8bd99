"""Stays of the PhysioNet/CinC Challenge 2012 as FHIR through icu_mortality, beside the answer from the training arrays.

Reading the raw data needs the `train` extra; without it, or without the data, the run says so and goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sources import Chart
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId
from model_artifacts.assessment import Prediction
from model_artifacts.icu_mortality.challenge import UNKNOWN, Stay, read_challenge
from model_artifacts.icu_mortality.challenge_fhir import ADMITTED, stay_bundle
from model_artifacts.icu_mortality.events import stay_tensors
from model_artifacts.runtime import ReleasedModel

EVERY = 40  # of 8,000 stays, 200
AS_OF = ADMITTED + timedelta(hours=50)
STATICS = ("Age", "Gender", "Height", "ICUType")


def challenge_stays(data: Path) -> tuple[Stay, ...]:
    """Every `EVERY`-th stay; none where the data or the library that reads them is not there."""
    try:
        challenge = read_challenge(data)
    except (FileNotFoundError, ImportError):
        return ()
    stays = []
    for position in range(0, len(challenge.record_ids), EVERY):
        rows = challenge.stay == position
        row = challenge.statics[position].tolist()
        statics = {name: UNKNOWN if np.isnan(value) else value for name, value in zip(STATICS, row, strict=True)}
        record_id = int(challenge.record_ids[position])
        stays.append(
            Stay(record_id, challenge.minutes[rows], challenge.variable[rows], challenge.values[rows], statics)
        )
    return tuple(stays)


def challenge_charts(stays: tuple[Stay, ...]) -> Iterator[Chart]:
    """The stays as an EHR would hold them."""
    for stay in stays:
        entries = stay_bundle(stay, ADMITTED)["entry"]
        resources = tuple((entry["fullUrl"], entry["resource"]) for entry in entries)
        yield Chart(resources[0][1]["id"], resources)


def compare(stays: tuple[Stay, ...]) -> dict[str, Any]:
    """How far the answer through FHIR lies from the answer from the arrays that the model was trained on."""
    model = ReleasedModel.load("model_artifacts.icu_mortality")
    outcomes: Counter[str] = Counter()
    largest = 0.0
    for stay in stays:
        document = json.dumps(stay_bundle(stay, ADMITTED)).encode()
        record = build_record(PatientId(f"challenge-{stay.record_id}"), [document])
        assessment = model.assess(record, AS_OF).assessment
        if not isinstance(assessment, Prediction):
            outcomes.update(f"abstained: {reason.code}" for reason in assessment.reasons)
            continue
        statics = {name: None if value == UNKNOWN else value for name, value in stay.statics.items()}
        answer = model.run(stay_tensors(stay.times_h, stay.variable, stay.values, statics))
        largest = max(largest, abs(float(answer.probability[0]) - assessment.outputs["in_hospital_death"]))
        outcomes["answered"] += 1
    return {"stays": len(stays), "outcomes": dict(sorted(outcomes.items())), "largest_difference": largest}
