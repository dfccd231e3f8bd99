"""The way of a hook call, from bytes to bytes: `answer` is the list of its steps and nothing else.

Knows neither Flask nor sockets. Nothing is sent before the log holds it: the response is made from the receipt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from audit.committer import LogReceipt
from audit.errors import AuditError
from audit.log import AuditLog
from cds_service.cards import Card, present, present_failure
from cds_service.decision import Context, Decision, decision_entry, payload_bytes
from cds_service.errors import BadRequestError, MissingDataError, NotRecordedError
from cds_service.gather import Fetch, Gathered, gather
from cds_service.request import HookRequest, parse_hook_request
from cds_service.response import response_bytes
from cds_service.services import CdsService
from model_artifacts.assessment import Abstention, Finding
from model_artifacts.runtime import Assessed, ReleasedModel

log = logging.getLogger("bedside.pipeline")


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything a call needs from outside, wired once.

    Attributes:
        clock: the current time, aware UTC.
        model_page: model id to the absolute URL of its public page, or None.
        smart_launch_url: launch URL of the app behind a card's "reasons" link, or None.
    """

    services: tuple[CdsService, ...]
    fetch: Fetch
    log: AuditLog
    context: Context
    clock: Callable[[], datetime]
    new_uuid: Callable[[], str]
    model_page: Callable[[str], str | None]
    smart_launch_url: str | None


@dataclass(slots=True)
class Stopwatch:
    """Microseconds spent by stage; the only mutable thing on the way."""

    started_ns: int = field(default_factory=time.perf_counter_ns)
    stages: dict[str, int] = field(default_factory=dict)

    def lap(self, stage: str) -> None:
        """Ends `stage` and begins the next."""
        now = time.perf_counter_ns()
        self.stages[stage] = (now - self.started_ns) // 1000
        self.started_ns = now


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model made of the record; all None where it failed."""

    assessed: Assessed | None
    finding: Finding | None

    @property
    def status(self) -> str:
        """The decision's status for the log."""
        if self.assessed is None:
            return "failed"
        return "abstained" if isinstance(self.assessed.assessment, Abstention) else "answered"

    @property
    def is_silent(self) -> bool:
        """Whether the model has nothing to say about this patient; the decision is recorded all the same."""
        assessment = self.assessed and self.assessed.assessment
        return isinstance(assessment, Abstention) and assessment.silent


def answer(body: bytes, service: CdsService, desk: Desk) -> bytes:
    """The 200 answer to the hook call in `body`.

    Raises:
        BadRequestError: `body` is not a call of this service's hook.
        MissingDataError: required data cannot be had; recorded before it is raised.
        NotRecordedError: the decision could not be recorded, so it is not shown.
    """
    watch, received_at = Stopwatch(), desk.clock()
    request = parse_hook_request(body)
    _check_hook(request, service)
    watch.lap("parse")
    gathered = _gather(request, service, desk, received_at, watch)
    watch.lap("gather")
    judged, cards = _advise(service, gathered, request, desk, received_at, watch)
    receipt = _record(request, service, desk, received_at, watch, gathered, judged, cards)
    return response_bytes(cards, receipt, desk.smart_launch_url)


def _advise(
    service: CdsService, gathered: Gathered, request: HookRequest, desk: Desk, as_of: datetime, watch: Stopwatch
) -> tuple[Judged, tuple[Card, ...]]:
    """The model's judgement and its card, none where it has nothing to say here.

    A model that fails gives a card that says so, never an exception.
    """
    manifest = service.model.manifest
    try:
        judged, finding = _judge(service.model, gathered, as_of)
        watch.lap("assess")
        page, patient_id = desk.model_page(manifest.id), request.context.patient_id
        cards: tuple[Card, ...] = ()
        if not judged.is_silent:
            cards = (present(finding, manifest, patient_id, page, desk.new_uuid, gathered.gaps),)
    except Exception as exc:  # noqa: BLE001 - the border around a model: its failure is a recorded decision, not an outage
        log.error("model failed", extra={"model": manifest.id, "error": type(exc).__name__})
        judged, cards = Judged(None, None), (present_failure(manifest, desk.new_uuid),)
    watch.lap("present")
    return judged, cards


def _judge(model: ReleasedModel, gathered: Gathered, as_of: datetime) -> tuple[Judged, Finding]:
    assessed = model.assess(gathered.record, as_of, gathered.unsure)
    finding = model.interpret(assessed.assessment, model.manifest)
    return Judged(assessed, finding), finding


def _check_hook(request: HookRequest, service: CdsService) -> None:
    if request.hook != service.hook:
        raise BadRequestError(f"hook: expected {service.hook} for service {service.id}")


def _gather(request: HookRequest, service: CdsService, desk: Desk, received_at: datetime, watch: Stopwatch) -> Gathered:
    try:
        return gather(request, service.queries, desk.fetch, received_at)
    except MissingDataError as missing:
        watch.lap("gather")
        _record(request, service, desk, received_at, watch, missing, None, ())
        raise
    except Exception:
        watch.lap("gather")
        _record(request, service, desk, received_at, watch, None, Judged(None, None), ())
        raise


def _record(
    request: HookRequest,
    service: CdsService,
    desk: Desk,
    received_at: datetime,
    watch: Stopwatch,
    gathered: Gathered | MissingDataError | None,
    judged: Judged | None,
    cards: tuple[Card, ...],
) -> LogReceipt:
    decision = Decision(
        entry_id=desk.log.new_entry_id(),
        received_at=received_at,
        status="missing-data" if judged is None else judged.status,
        service=service,
        request=request,
        prefetch=_prefetch_states(gathered),
        fhir_origin=gathered.fhir_origin if isinstance(gathered, Gathered) else None,
        gaps=gathered.gaps if isinstance(gathered, Gathered) else (),
        assessed=None if judged is None else judged.assessed,
        finding=None if judged is None else judged.finding,
        cards=cards,
        latency_us=watch.stages,
    )
    return record_decision(decision, desk)


def record_decision(decision: Decision, desk: Desk) -> LogReceipt:
    """The receipt for `decision`, durable when this returns.

    Raises:
        NotRecordedError: the log did not acknowledge it in time, or could not write it.
    """
    payload = payload_bytes(decision, desk.model_page(decision.service.model.manifest.id))
    try:
        sealed = None if payload is None else desk.log.seal(decision.entry_id, "decision/v1", payload)
        entry = decision_entry(decision, desk.context, None if sealed is None else sealed.reference)
        return desk.log.record(entry, sealed)
    except AuditError as exc:
        log.error("decision not recorded", extra={"error": type(exc).__name__, "entry": decision.entry_id})
        raise NotRecordedError("the decision could not be recorded, so no advice is shown") from exc


def _prefetch_states(
    gathered: Gathered | MissingDataError | None,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    if gathered is None:
        return (), (), ()
    if isinstance(gathered, MissingDataError):
        return (), (), gathered.keys
    return gathered.prefetched, gathered.fetched, gathered.failed
