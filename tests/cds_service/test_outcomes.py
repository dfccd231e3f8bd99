from __future__ import annotations

from fhir.resources.R4B.operationoutcome import OperationOutcome

from cds_service.outcomes import operation_outcome


def test_outcomes_are_valid_fhir() -> None:
    outcome = operation_outcome("invalid", "hook: expected one of patient-view")
    OperationOutcome.model_validate(outcome)
    assert outcome["issue"] == [
        {"severity": "error", "code": "invalid", "diagnostics": "hook: expected one of patient-view"}
    ]
