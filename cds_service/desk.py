"""What a call needs from outside, wired once: `Desk`; and who makes it: `Caller`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from audit.log import AuditLog
from cds_service.candidates import Candidates, NoCandidates
from cds_service.clients import CdsClient, Network
from cds_service.decision import Context
from cds_service.gather import Fetched
from cds_service.observed import Monitor, NoMonitor
from cds_service.request import FhirAuthorization
from cds_service.services import CdsService
from cds_service.ward import Ward


class Gate(Protocol):
    """Says who calls."""

    def admit(
        self, authorization: str | None, urls: tuple[str, ...], certificate_sha256: str | None = None
    ) -> CdsClient:
        """The client that the `Authorization` header shows; `urls` are what its JWT may be meant for.

        Raises:
            UnauthenticatedError: it shows none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and the ids by which other systems know it."""

    client: CdsClient
    request_id: str
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """For whom a FHIR server is asked, and until when, in seconds of the monotonic clock."""

    caller: Caller
    deadline: float


Fetch: TypeAlias = Callable[[Access, str, FhirAuthorization | None, Mapping[str, str]], Fetched]
"""As `gather.Fetch`, for one caller."""


@dataclass(frozen=True, slots=True)
class Book:
    """One tenant's log, and what is the same for every decision in it."""

    log: AuditLog
    context: Context


@dataclass(frozen=True, slots=True)
class Quiet:
    """How long the same finding is not shown again, None for no time; to whom: a patient's users together, or each."""

    window: timedelta | None
    per_user: bool


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything a call needs from outside.

    Attributes:
        books: by tenant.
        shadow_models: models that run for every client and show nothing.
        clock: the current time, aware UTC.
        model_page: model id to the absolute URL of its public page, or None.
        smart_launch_url: launch URL of the app behind a card's "reasons" link, or None.
        public_url: as the EHR sees it, without a trailing slash; JWTs are meant for the URLs below it.
        trusted_proxies: whose `Client-Cert` header is believed.
        reserve_s: of a call's deadline, what is kept for the model and the log.
        ready: names of what isn't ready; empty when all is.
        monitor: is told of each decision once it is durable.
        candidates: versions that run beside those in force.
    """

    services: tuple[CdsService, ...]
    clients: tuple[CdsClient, ...]
    gate: Gate
    fetch: Fetch
    books: Mapping[str, Book]
    ward: Ward
    quiet: Quiet
    shadow_models: frozenset[str]
    clock: Callable[[], datetime]
    new_uuid: Callable[[], str]
    model_page: Callable[[str], str | None]
    smart_launch_url: str | None
    public_url: str
    trusted_proxies: tuple[Network, ...]
    open_discovery: bool
    workers: int
    reserve_s: float
    ready: Callable[[], tuple[str, ...]]
    monitor: Monitor = field(default_factory=NoMonitor)
    candidates: Candidates = field(default_factory=NoCandidates)
