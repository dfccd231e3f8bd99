"""The bundled challenge stays, as arrays and as FHIR records."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fhir_adapters.record import build_record
from model_artifacts.icu_mortality.challenge import parse_stay
from model_artifacts.icu_mortality.challenge_fhir import stay_bundle
from model_artifacts.icu_mortality.events import stay_tensors

FIXTURES = Path(__file__).parents[2] / "fixtures" / "challenge-2012"
PATHS = sorted(FIXTURES.glob("*.txt"))
STAYS = {path.stem: parse_stay(path.read_text(encoding="utf-8")) for path in PATHS}
ADMITTED = datetime(2026, 3, 1, 17, 43, tzinfo=UTC)
AS_OF = ADMITTED + timedelta(hours=50)


def arrays_of(stay, elapsed_h=48.0):
    return stay_tensors(stay.times_h, stay.variable, stay.values, stay.statics, elapsed_h)


def bundle_of(stay):
    return stay_bundle(stay, ADMITTED)


def record_of(stay, change=None):
    bundle = bundle_of(stay)
    if change is not None:
        change(bundle)
    return build_record(f"challenge-{stay.record_id}", [json.dumps(bundle).encode()])
