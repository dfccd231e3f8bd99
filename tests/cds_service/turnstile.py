"""A gate for tests of what comes after it: lets in whoever says a known name, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cds_service.clients import CdsClient
from cds_service.errors import UnauthenticatedError
from tests.cds_service.callers import CLIENT


@dataclass(slots=True)
class Turnstile:
    """Takes `Bearer <name>`; `why` is the reason for refusing anyone else."""

    clients: Mapping[str, CdsClient]
    why: str = "signature"
    asked: list[tuple[tuple[str, ...], str | None]] = field(default_factory=list)

    def admit(
        self, authorization: str | None, urls: tuple[str, ...], certificate_sha256: str | None = None
    ) -> CdsClient:
        self.asked.append((urls, certificate_sha256))
        client = self.clients.get((authorization or "").removeprefix("Bearer "))
        if client is None:
            raise UnauthenticatedError(self.why, CLIENT.issuer)
        return client
