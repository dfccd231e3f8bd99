"""A timeline reads late what `read_observations` reads at once: the two never differ."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapters.codes import LOINC, Code, keys
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

CODES = ("2345-7", "2339-0")
ASKED = keys(*(Code(LOINC, code) for code in CODES))
TIMES = ("2026-05-01T08:00:00Z", "2026-05-01T10:00:00+02:00", "2026-05-02", "2026-05-02T00:00:00Z", "nonsense", None)

observations = st.builds(
    lambda code, status, time, value, issued: {
        "resourceType": "Observation",
        "status": status,
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "valueQuantity": {"value": value, "unit": "mg/dL"},
        **({} if time is None else {"effectiveDateTime": time}),
        **({} if issued is None else {"issued": issued}),
    },
    st.sampled_from(CODES),
    st.sampled_from(("final", "preliminary", "corrected")),
    st.sampled_from(TIMES),
    st.integers(90, 92),
    st.sampled_from((None, "2026-05-01T09:00:00Z")),
)


@given(st.lists(observations, max_size=8))
@settings(max_examples=150, deadline=None)
def test_timeline_equals_the_reading(resources: list[dict[str, Any]]) -> None:
    entries = [{"resource": {**resource, "id": f"o{i}"}} for i, resource in enumerate(resources)]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    record = build_record(PatientId("p"), [json.dumps(bundle).encode()])
    reading, timeline = record.read_observations(ASKED), record.timeline(ASKED)
    assert tuple(timeline[i] for i in range(len(timeline.moments))) == reading.values
    assert timeline.moments == tuple(value.observed_at for value in reading.values)
    assert timeline.set_aside == reading.set_aside
