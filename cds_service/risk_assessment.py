"""A prediction as a FHIR R4 RiskAssessment that the client files by itself, where that was agreed (`systemActions`).

https://hl7.org/fhir/R4/riskassessment.html. Probabilities are percentages there, 100 at most (invariant ras-2), with one
decimal as on the card; where the card gives no figure but a bound, so does the resource. The part that is the same for
every patient is validated by `fhir.resources` (R4B) once per model; what `fhir.resources` does not check (status) is a
constant here. Abstentions give no resource: there is nothing to file. Nor do quantities, which are no risk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fhir.resources.R4B.riskassessment import RiskAssessment

from cds_service.suggestions import Action
from model_artifacts.assessment import Prediction
from model_artifacts.finding import LEAST_SHOWN, capitalised, percent
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import ModelManifest, Output, displayed

MODEL_SYSTEM = "urn:bedside:model"
UCUM = "http://unitsofmeasure.org"
MOST_SHOWN = 0.9995  # from here on the card says "above 99.9 %"
# A reference within the same server: what is elsewhere, or not a reference at all, the client could not resolve.
_RELATIVE = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9._-]{1,64}")


def record_risk(
    prediction: Prediction, manifest: ModelManifest, patient_id: str, moment: datetime, encounter_id: str | None
) -> Action:
    """The action that files `prediction`, made at `moment` (aware UTC), about `Patient/{patient_id}`."""
    resource = {
        **_template(manifest.id, manifest.version, manifest.title),
        "subject": {"reference": f"Patient/{patient_id}"},
        "occurrenceDateTime": moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "prediction": [
            _prediction(output, prediction.outputs) for output in manifest.outputs if output.name in prediction.outputs
        ],
    }
    if encounter_id is not None:
        resource["encounter"] = {"reference": f"Encounter/{encounter_id}"}
    if basis := _basis(prediction.evidence):
        resource["basis"] = basis
    return Action(f"Record the estimate: {manifest.outputs[0].label}", resource)


@lru_cache(maxsize=256)
def _template(model_id: str, version: str, title: str) -> dict[str, Any]:
    coding = {"system": MODEL_SYSTEM, "version": version, "code": model_id, "display": title}
    template = RiskAssessment.model_validate(
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "method": {"coding": [coding], "text": f"{title}, model {model_id} version {version}"},
            "subject": {"reference": "Patient/template"},
            "note": [
                {
                    "text": "Calculated by a model from the data of the record at that moment; no clinician made or "
                    "checked this estimate."
                }
            ],
        }
    )
    fields: dict[str, Any] = template.model_dump(mode="json", exclude_none=True)
    return fields


def _prediction(output: Output, probabilities: Mapping[str, float]) -> dict[str, Any]:
    probability = probabilities[output.name]
    return {
        "outcome": {"text": capitalised(output.event)},
        **_probability(probability, output.floor),
        "rationale": f"A model's estimate: {output.label} {percent(probability, output.floor)}",
    }


def _probability(probability: float, floor: float) -> dict[str, Any]:
    """The member that says how likely: a figure, or the bound that the card gives instead (`finding.percent`)."""
    if probability < floor:
        return {"probabilityRange": {"low": _percentage(0.0), "high": _percentage(max(floor, 2 * LEAST_SHOWN))}}
    if probability >= MOST_SHOWN:
        return {"probabilityRange": {"low": _percentage(0.999), "high": _percentage(1.0)}}
    return {"probabilityDecimal": round(100 * displayed(probability), 1)}


def _percentage(share: float) -> dict[str, Any]:
    return {"value": round(100 * share, 2), "unit": "%", "system": UCUM, "code": "%"}


def _basis(evidence: tuple[Evidence, ...]) -> list[dict[str, str]]:
    """The resources that values were read from, each once, in the evidence's order."""
    used = (item.source for item in evidence if item.value is not None and item.source is not None)
    return [{"reference": source} for source in dict.fromkeys(used) if _RELATIVE.fullmatch(source)]
