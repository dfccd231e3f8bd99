"""What can go wrong with a call, split by whose fault it is; `views` turns each into a status in one table.

Messages go to the EHR and to the operations log. They name the thing, what was expected and what came, and never carry
a patient's data, a token or a body.
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceError(Exception):
    """Base of every error this package raises.

    Attributes:
        issue: FHIR issue-type code for the OperationOutcome (http://hl7.org/fhir/issue-type).
    """

    issue = "exception"


class BadRequestError(ServiceError):
    """The client sent something that is not a valid hook call (400)."""

    issue = "invalid"


class MediaTypeError(ServiceError):
    """The client sent something that does not say it is JSON (415)."""

    issue = "not-supported"


class UnauthenticatedError(ServiceError):
    """The call does not show who makes it (401). The answer never says why; `why` is a code for the operations log.

    Attributes:
        why: a fixed word, such as "expired", never a part of the token.
        issuer: the registered issuer the token named, None if it named no registered one.
    """

    issue = "login"

    def __init__(self, why: str, issuer: str | None = None) -> None:
        super().__init__("authentication required")
        self.why = why
        self.issuer = issuer


class ForbiddenError(ServiceError):
    """The client is known and may not do this (403)."""

    issue = "forbidden"


class TooManyCallsError(ServiceError):
    """The client calls more often than was agreed (429).

    Attributes:
        retry_after_s: whole seconds until a call is accepted again.
    """

    issue = "throttled"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnknownServiceError(ServiceError):
    """No service has this id (404)."""

    issue = "not-found"


@dataclass(frozen=True, slots=True)
class Came:
    """Where a call's data came from, by prefetch key, for the log.

    Attributes:
        failed: keys that could be had neither way.
        fhir_origin: the FHIR server that was asked, None if none was.
    """

    prefetched: tuple[str, ...] = ()
    fetched: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    fhir_origin: str | None = None


class MissingDataError(ServiceError):
    """Required data was neither prefetched nor to be had from a FHIR server (412).

    Attributes:
        keys: the required prefetch keys that are lacking.
        came: what became of every key.
    """

    issue = "incomplete"

    def __init__(self, message: str, keys: tuple[str, ...], came: Came) -> None:
        super().__init__(message)
        self.keys = keys
        self.came = came


class NotRecordedError(ServiceError):
    """The decision could not be written to the log, so it must not be shown (503)."""

    issue = "transient"
