"""An estimate as a FHIR R4 RiskAssessment, for clients with which it was agreed that they file it (`systemActions`).

https://hl7.org/fhir/R4/riskassessment.html. Built from a template that `fhir.resources` validated once per model; what changes
from call to call is references, times and figures. The code that `fhir.resources` does not check (status) is a constant here.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

from fhir.resources.R4B.riskassessment import RiskAssessment

from cds_service.suggestions import Action
from model_artifacts.assessment import Prediction
from model_artifacts.manifest import ModelManifest

DECIMALS = 4  # a hundredth of a percentage point: more than the card says, and no more than a float32 holds
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9._-]{1,64}")
NOTE = (
    "Estimate of a statistical model, not a diagnosis; see the card and its model's page for what it was measured on."
)


def record_risk(
    prediction: Prediction, manifest: ModelManifest, patient_id: str, moment: datetime, encounter_id: str | None
) -> Action:
    """The action that creates the RiskAssessment of `prediction` about `Patient/{patient_id}`."""
    resource = {
        **_template(manifest.id, manifest.version, manifest.title),
        "subject": {"reference": f"Patient/{patient_id}"},
        "occurrenceDateTime": moment.isoformat(timespec="seconds"),
        "prediction": [
            {"outcome": {"text": output.event}, "probabilityDecimal": round(float(probability), DECIMALS)}
            for output in manifest.outputs
            if (probability := prediction.outputs.get(output.name)) is not None
        ],
    }
    if encounter_id is not None:
        resource["encounter"] = {"reference": f"Encounter/{encounter_id}"}
    sources = dict.fromkeys(item.source for item in prediction.evidence if item.source is not None)
    basis = [{"reference": source} for source in sources if _REFERENCE.fullmatch(source)]
    if basis:
        resource["basis"] = basis
    return Action(f"File the estimate: {manifest.title}", resource)


@lru_cache(maxsize=64)
def _template(model_id: str, version: str, title: str) -> dict[str, Any]:
    template = RiskAssessment.model_validate(
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "method": {"text": f"{title}, model {model_id} version {version}"},
            "subject": {"reference": "Patient/template"},
            "note": [{"text": NOTE}],
        }
    )
    fields: dict[str, Any] = template.model_dump(mode="json", exclude_none=True)
    return fields
