"""The EHRs we know: who they are, what they may do, and in what they differ.

A `CdsClient` is what the configuration says of one installation of an EHR. Nothing in a call widens it: which servers may
be asked, which keys may sign and which services may be called stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeAlias

from cds_service.errors import ForbiddenError
from cds_service.quirks import Quirk

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class CdsClient:
    """One registered client.

    Attributes:
        id: its name in our registry; in the log, in reports and in switches.
        tenant: whose log its decisions go to.
        issuer: its JWTs' `iss`; None for the client that an open service serves.
        token_tenant: what its JWTs' `tenant` claim must say, where one issuer speaks for many; None: not looked at.
        audiences: `aud` values accepted besides the URL that was called.
        algorithms: JWS algorithms, asymmetric ones only.
        jwks_url, jwks_file: its key set where the JWT names none.
        allowed_jku: the key sets a JWT may name.
        subject: what `fhirAuthorization.subject` must say; None: not looked at.
        certificates: SHA-256 of the client certificates (DER), in hex; empty: none is asked for.
        fhir_servers: base URLs, without a trailing slash; only these are asked.
        networks: private networks its FHIR servers and key sets may lie in; public addresses need no entry.
        cors_origins: web origins that its browser pages may call from.
        services: ids of the services it may call; empty: all.
        shadow_models: models that run for it and are logged, and show nothing.
        takes_system_actions: whether it was agreed that it takes `systemActions`.
        deadline_s: within which a call of its is to be answered.
        calls_per_minute: more than so many get 429; 0: no limit.
    """

    id: str
    tenant: str
    issuer: str | None
    token_tenant: str | None
    audiences: frozenset[str]
    algorithms: frozenset[str]
    jwks_url: str | None
    jwks_file: Path | None
    allowed_jku: frozenset[str]
    subject: str | None
    certificates: frozenset[str]
    fhir_servers: frozenset[str]
    networks: tuple[Network, ...]
    cors_origins: frozenset[str]
    services: frozenset[str]
    shadow_models: frozenset[str]
    takes_system_actions: bool
    quirks: frozenset[Quirk]
    deadline_s: float
    calls_per_minute: int

    def has(self, quirk: Quirk) -> bool:
        """Whether the client differs in this way."""
        return quirk in self.quirks

    def may_call(self, service_id: str) -> bool:
        """Whether the service is among those it was given."""
        return not self.services or service_id in self.services

    def require_service(self, service_id: str) -> None:
        """Returns if the client may call the service.

        Raises:
            ForbiddenError: it was not given that one.
        """
        if not self.may_call(service_id):
            raise ForbiddenError(f"client {self.id} may not call this service")


def every_cors_origin(clients: Iterable[CdsClient]) -> frozenset[str]:
    """The web origins of all clients: a preflight says not yet whose it is."""
    return frozenset(origin for client in clients for origin in client.cors_origins)
