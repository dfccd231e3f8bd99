"""What reading FHIR costs: parse and index a searchset, then extract features, beside json.loads on the same bytes.

Run: `python -m benchmarks.parse_fhir`. Machines differ, so the ratio to json.loads in the same run is the figure to compare.
"""

import gc
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fhir_adapters.codes import LOINC, UCUM, Code
from fhir_adapters.features import EventSpec, FeatureSpec, extract, extract_events
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

PATIENT = PatientId("f3a0a1de-0d7e-4b53-9d2c-3a1a7c0d7f11")
START = datetime(2026, 1, 1, tzinfo=UTC)
ANALYSES = (
    ("8867-4", "Heart rate", "/min", 80.0),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 128.0),
    ("8310-5", "Body temperature", "Cel", 37.1),
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 101.0),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 1.1),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 4.2),
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 8.7),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 13.1),
    ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 190.0),
    ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 50.0),
)


def searchset(count: int) -> bytes:
    """A searchset of `count` laboratory and vital-sign Observations, about 0.8 kB each, as an EHR sends them."""
    entries = [
        {
            "fullUrl": f"https://ehr.example.org/fhir/R4/Observation/o{i}",
            "resource": _observation(i),
            "search": {"mode": "match"},
        }
        for i in range(count)
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": count, "entry": entries}
    return json.dumps(bundle, separators=(",", ":")).encode()


def _observation(i: int) -> dict[str, object]:
    code, display, unit, value = ANALYSES[i % len(ANALYSES)]
    at = (START + timedelta(minutes=3 * i)).isoformat()
    return {
        "resourceType": "Observation",
        "id": f"o{i}",
        "meta": {
            "versionId": "1",
            "lastUpdated": at,
            "profile": ["http://hl7.org/fhir/StructureDefinition/vitalsigns"],
        },
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
        ],
        "code": {"coding": [{"system": LOINC, "code": code, "display": display}], "text": display},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "encounter": {"reference": "Encounter/7d1b3a52"},
        "effectiveDateTime": at,
        "issued": at,
        "valueQuantity": {"value": round(value * (1 + (i % 7) / 100), 2), "unit": unit, "system": UCUM, "code": unit},
    }


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The fastest of `repeats` runs: what the work costs when nothing else runs; the collector frozen as in the service."""
    gc.collect()
    gc.freeze()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def main() -> None:
    features = [FeatureSpec(c, d, (Code(LOINC, c),), u, max_age=timedelta(days=3650)) for c, d, u, _ in ANALYSES]
    events = [EventSpec(c, d, (Code(LOINC, c),), u) for c, d, u, _ in ANALYSES]
    end = START + timedelta(days=30)
    print("observations      kB   json.loads   record  ratio   10 latest   all events   (ms, fastest)")
    for count in (50, 1000, 5000):
        body = searchset(count)
        repeats = 20_000 // count
        plain = milliseconds(lambda body=body: json.loads(body), repeats)  # type: ignore[misc]
        parse = milliseconds(lambda body=body: build_record(PATIENT, [body]), repeats)  # type: ignore[misc]
        record = build_record(PATIENT, [body])
        latest = milliseconds(lambda record=record: extract(record, features, end), repeats)  # type: ignore[misc]
        every = milliseconds(lambda record=record: extract_events(record, events, START, end), repeats)  # type: ignore[misc]
        print(
            f"{count:12d} {len(body) / 1e3:7.0f} {plain:12.3f} {parse:8.3f} {parse / plain:6.2f} {latest:11.3f} {every:12.3f}"
        )


if __name__ == "__main__":
    main()
