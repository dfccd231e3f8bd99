"""Errors of the pocket EHR: one base, a few leaves, each with what a caller needs as data."""

from __future__ import annotations


class DemoError(Exception):
    """Base of everything the demonstration raises on purpose."""


class BundleError(DemoError):
    """A patient bundle in the folder cannot be used."""


class FhirRequestError(DemoError):
    """A FHIR request that is answered with an OperationOutcome.

    `status` is the HTTP status; `code` is from http://hl7.org/fhir/issue-type.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "invalid") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class CdsServiceError(DemoError):
    """The CDS service could not be reached or answered something that is no CDS Hooks answer."""
