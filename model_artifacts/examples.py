"""A model folder's examples as records: what stands in a Bundle, and the drafts among it as the hook's context gives them.

`examples/<case>/record.json` is a Bundle. A MedicationRequest in it whose status is "draft" stands for a draft order that the
clinician has selected.
"""

from __future__ import annotations

import json
from typing import Any

from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId


def example_record(patient: str, bundle: dict[str, Any]) -> PatientRecord:
    """The record that a call with these resources and these draft orders would give."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    drafts = [
        (json.dumps(item).encode(), True)
        for item in resources
        if item["resourceType"] == "MedicationRequest" and item.get("status") == "draft"
    ]
    return build_record(PatientId(patient), [json.dumps(bundle).encode()], drafts=drafts)
