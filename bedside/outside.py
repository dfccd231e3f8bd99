"""The real way out for the log: witnesses, time-stamping authorities and collectors, at the configured addresses alone.

What `audit.outside.Ask` promises is kept by the same way out as the FHIR client's: names are resolved once and judged
(`fhir_adapters.outbound`), redirects aren't followed, https is asked for beyond loopback, and a deadline holds for the whole
exchange. A further kind of outsider is a place more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from audit.outside import HttpAnswer, OutsideError
from fhir_adapters.client import ANYWHERE_PUBLIC, exchange
from fhir_adapters.errors import (
    AddressNotAllowedError,
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from fhir_adapters.outbound import AddressPolicy

MAX_ANSWER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """An address that may be asked, and what lies under it.

    `policy` says which private networks its host may lie in; `ca_file` is a PEM file where it has a certification authority of
    its own.
    """

    url: str
    policy: AddressPolicy = ANYWHERE_PUBLIC
    ca_file: str | None = None


class Outside:
    """Asks at these places."""

    def __init__(self, places: Iterable[Place]) -> None:
        """A place without an address is none."""
        self._places = tuple(place for place in places if place.url)

    def __call__(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        timeout_s: float = 5.0,
    ) -> HttpAnswer:
        """The answer, whatever its status.

        Raises:
            OutsideError: the address isn't configured or may not be contacted, or there was no whole answer in time.
        """
        place = next((place for place in self._places if _lies_under(url, place.url)), None)
        if place is None:
            raise OutsideError("outside: expected a configured address, got another")
        host = urlsplit(url).hostname
        try:
            answer = exchange(
                method,
                url,
                body=body,
                headers=headers,
                policy=place.policy,
                timeout_s=timeout_s,
                max_bytes=MAX_ANSWER_BYTES,
                ca_file=place.ca_file,
            )
        except FhirUpstreamError as exc:
            raise OutsideError(f"{host}: {_reason(exc, timeout_s)}") from None
        except ValueError:
            raise OutsideError(f"{host}: expected headers of printable ascii, got another character") from None
        return HttpAnswer(answer.status, answer.headers, answer.body)


def _lies_under(url: str, base: str) -> bool:
    """Whether `url` is `base` or goes on after it; up to there both are the same text, so the host is too."""
    plain = base.rstrip("/")
    if url != base and not url.startswith(f"{plain}/"):
        return False
    rest = url[len(plain) :]
    return not any(segment.partition(";")[0] in (".", "..") for segment in re.split(r"[/\\]", unquote(rest)))


def _reason(error: FhirUpstreamError, timeout_s: float) -> str:
    match error:
        case UpstreamTimeoutError():
            return f"expected a whole answer within {timeout_s:g} s, got none"
        case UpstreamTooLargeError():
            return f"expected an answer of at most {MAX_ANSWER_BYTES} bytes, got more"
        case AddressNotAllowedError():
            return "expected an address that may be contacted, got none"
        case OriginNotAllowedError():
            return "expected a plain https url, or http on loopback"
        case _:
            return "expected an answer, got none that can be read"
