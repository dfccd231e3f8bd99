"""The errors of `fhir_adapters`, split by whose fault they are.

Data are attributes; messages carry no patient values, no addresses, no tokens and no bodies, so they may be logged.
"""


class FhirAdapterError(Exception):
    """The base of every error this package raises on purpose."""


class UnitError(FhirAdapterError):
    """A quantity cannot be expressed in the unit asked for.

    `kind` is "missing" (no unit sent), "unknown" (not in the table) or "incommensurable" (a different quantity).
    """

    def __init__(self, kind: str, expected: str, got: str | None = None) -> None:
        self.kind = kind
        self.expected = expected
        self.got = got
        # An unknown unit is free text of the sender, so it stays out of the message.
        super().__init__(f"unit {kind}: expected {expected}, got {got or 'none that is known'}")


class InstantError(FhirAdapterError):
    """A text is no FHIR date, dateTime or instant that denotes a known time."""


class QueryError(FhirAdapterError):
    """Two models ask under one name for different things, or for a resource without search parameters here."""


class ExportError(FhirAdapterError):
    """A folder of FHIR files cannot be read as a whole; the message names the file, never what stands in it."""


class FhirUpstreamError(FhirAdapterError):
    """The EHR's FHIR server did not give what was asked; one leaf per way of failing."""


class UpstreamTimeoutError(FhirUpstreamError):
    """Connecting, reading or the whole exchange took longer than allowed."""


class UpstreamConnectionError(FhirUpstreamError):
    """The server could not be reached, or the connection broke."""


class UpstreamStatusError(FhirUpstreamError):
    """The server answered with a status other than 200; redirects are among them, for they are never followed."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"fhir server status: expected 200, got {status}")


class UpstreamNotJsonError(FhirUpstreamError):
    """The server answered 200 with something that is not a JSON object."""


class UpstreamTooLargeError(FhirUpstreamError):
    """The answer is larger or has more pages than allowed; `documents` holds the pages read before."""

    def __init__(self, message: str, documents: tuple[bytes, ...] = ()) -> None:
        self.documents = documents
        super().__init__(message)


class OriginNotAllowedError(FhirUpstreamError):
    """A request would have left the allowed FHIR server, or used http beyond loopback; it was not sent."""


class AddressNotAllowedError(FhirUpstreamError):
    """The server's name leads only to addresses that may not be contacted; none was."""
