"""FHIR OperationOutcome bodies for answers that are not 200 (CDS Hooks 3.0, "HTTP Status Codes": SHOULD)."""

from __future__ import annotations

from typing import Any


def operation_outcome(issue: str, diagnostics: str) -> dict[str, Any]:
    """An OperationOutcome with one error; `issue` is a code of http://hl7.org/fhir/issue-type."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": issue, "diagnostics": diagnostics}],
    }
