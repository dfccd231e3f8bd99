"""The way of a hook call, from bytes to bytes: `answer` is the list of its steps and nothing else.

Knows neither Flask nor sockets. Nothing is sent before the log holds it: the response is made from the receipt. What is not
shown (a shadow run, a finding shown a moment ago, a service that is switched off) is recorded all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from audit.clock import ClockStatus
from audit.committer import LogReceipt
from audit.errors import AppendError, AuditError
from audit.vault import SubjectKey, patient_subject
from cds_service.card_ids import card_uuid
from cds_service.cards import Card, present, present_failure
from cds_service.decision import Decision, decision_entry, payload_bytes
from cds_service.desk import Access, Book, Caller, Desk
from cds_service.errors import BadRequestError, Came, MissingDataError, NotRecordedError, ServiceError
from cds_service.gather import Gathered, gather
from cds_service.observed import Observed
from cds_service.request import HookRequest, parse_hook_request
from cds_service.response import response_bytes
from cds_service.risk_assessment import record_risk
from cds_service.services import CdsService
from cds_service.suggestions import Action, proposed_changes, without_drafted
from cds_service.ward import fingerprint, may_be_quieted, quiet_key
from fhir_adapters.mappings.draft_order import read_drafts
from fhir_adapters.queries import Query
from model_artifacts.assessment import Abstention, Finding, Prediction
from model_artifacts.runtime import Assessed, ReleasedModel

log = logging.getLogger("bedside.pipeline")


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
class Call:
    """One hook call on its way.

    `entry_id` is the decision's, made before its cards, whose ids come from it; `key` is the patient's; `in_shadow`: a version
    that runs beside the one in force decides.
    """

    entry_id: str
    key: SubjectKey
    received_at: datetime
    clock: ClockStatus
    request: HookRequest
    service: CdsService
    caller: Caller
    book: Book
    access: Access
    watch: Stopwatch
    started: float
    in_shadow: bool = False

    @property
    def patient_id(self) -> str:
        return self.request.context.patient_id


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model made of the record; all None where it failed. `drafted` proposals are in the draft orders already."""

    assessed: Assessed | None
    finding: Finding | None
    drafted: tuple[tuple[str, str], ...] = ()

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


FAILED = Judged(None, None)
LATE = "late"


def answer(body: bytes, service: CdsService, caller: Caller, desk: Desk) -> bytes:
    """The 200 answer to the hook call in `body`.

    Raises:
        BadRequestError: `body` is not a call of this service's hook.
        MissingDataError: required data cannot be had; recorded before it is raised.
        NotRecordedError: the decision could not be recorded, so it is not shown; before it is made, where the vault fails.
        WardUnavailableError: whether the service is switched off cannot be known.
    """
    call = _accept(body, service, caller, desk)
    if _is_switched_off(call, desk):
        return _respond(call, desk, (), (), _record(call, desk, None, "switched-off"))
    gathered = _gather(call, desk)
    judged, cards, actions = _advise(call, gathered, desk)
    if _is_switched_off(call, desk):  # while this call was at work
        return _respond(call, desk, (), (), _record(call, desk, gathered, "switched-off"))
    shown_as = _shown_as(call, judged, cards, desk)
    hidden = _hidden(call, judged, shown_as, desk)
    actions = () if hidden == "shadow" else actions
    receipt = _record(call, desk, gathered, _status(judged, hidden), judged, cards, actions, hidden=hidden is not None)
    if hidden is None:
        _remember(call, shown_as, desk)
    response = _respond(call, desk, () if hidden else cards, actions, receipt)
    desk.candidates.run(call.service.model.manifest.id, partial(_decide_in_shadow, call, gathered, desk))
    return response


def _decide_in_shadow(call: Call, gathered: Gathered, desk: Desk, candidate: ReleasedModel) -> None:
    """Decides the same call with another version of its model: recorded as what it is, and shown to nobody.

    Raises:
        NotRecordedError: it could not be recorded.
    """
    service = replace(call.service, model=candidate)
    entry_id = call.book.log.new_entry_id()
    beside = replace(call, entry_id=entry_id, service=service, watch=Stopwatch(), in_shadow=True)
    judged, cards, _ = _advise(beside, gathered, desk)
    _record(beside, desk, gathered, judged.status, judged, cards, hidden=True)


def _accept(body: bytes, service: CdsService, caller: Caller, desk: Desk) -> Call:
    watch, received_at, started = Stopwatch(), desk.clock(), time.monotonic()
    request = parse_hook_request(body)
    if request.hook not in service.hooks:
        raise BadRequestError(f"hook: expected {' or '.join(service.hooks)} for service {service.id}")
    book = desk.books[caller.client.tenant]
    deadline_s = caller.client.deadline_s
    # The model and the log need their time too: a fetch that used up the deadline would leave none.
    fetch_until = started + max(deadline_s - desk.reserve_s, deadline_s / 2)
    watch.lap("parse")
    access = Access(caller, fetch_until)
    entry_id, clock = book.log.new_entry_id(), book.log.clock_status(received_at)
    key = _patient_key(book, request.context.patient_id, entry_id)
    watch.lap("key")
    return Call(entry_id, key, received_at, clock, request, service, caller, book, access, watch, started)


def _patient_key(book: Book, patient_id: str, entry_id: str) -> SubjectKey:
    """The key that all this decision says of the patient goes under; made with the patient's first decision."""
    try:
        return book.log.vault.key_for(patient_subject(patient_id))
    except AuditError as exc:
        raise _not_recorded(exc, entry_id, book) from exc


def _is_switched_off(call: Call, desk: Desk) -> bool:
    tenant, model_id = call.caller.client.tenant, call.service.model.manifest.id
    return desk.ward.switched_off(tenant, call.service.id, model_id) is not None


def _advise(call: Call, gathered: Gathered, desk: Desk) -> tuple[Judged, tuple[Card, ...], tuple[Action, ...]]:
    """The model's judgement, its card, none where it has nothing to say here, and what is filed for the client.

    A model that fails gives a card that says so, never an exception.
    """
    manifest, uuids = call.service.model.manifest, _uuids(call, desk)
    try:
        judged, finding = _judge(call, gathered)
        call.watch.lap("assess")
        page = desk.model_page(manifest.id)
        cards: tuple[Card, ...] = ()
        if not judged.is_silent:
            drafts = proposed_changes(finding, call.request.context.resources)
            cards = (present(finding, manifest, call.patient_id, page, lambda: next(uuids), gathered.gaps, drafts),)
        actions = _system_actions(call, judged)
    except Exception as exc:  # noqa: BLE001 - the border around a model: its failure is a recorded decision, not an outage
        log.error("model failed", extra={"model": manifest.id, "error": type(exc).__name__})
        judged, actions = FAILED, ()
        cards = (present_failure(manifest, lambda: card_uuid(call.entry_id, 0)),)
    call.watch.lap("present")
    return judged, cards, actions


def _uuids(call: Call, desk: Desk) -> Iterator[str]:
    """The card's id, by which its decision is found again, and then as many as its suggestions need."""
    yield card_uuid(call.entry_id, 0)
    while True:
        yield desk.new_uuid()


def _judge(call: Call, gathered: Gathered) -> tuple[Judged, Finding]:
    model = call.service.model
    assessed = model.assess(gathered.record, call.received_at, gathered.unsure)
    finding = model.interpret(assessed.assessment, model.manifest)
    offered = without_drafted(finding.proposals, call.request.context.resources)
    drafted = tuple((item.code.system, item.code.code) for item in finding.proposals if item not in offered)
    finding = replace(finding, proposals=offered)
    return Judged(assessed, finding, drafted), finding


def _shown_as(call: Call, judged: Judged, cards: tuple[Card, ...], desk: Desk) -> str | None:
    """What tells this answer from another, None where repetitions are of no concern."""
    if desk.quiet.window is None:
        return None
    if judged.finding is None or not cards:
        return judged.status
    return fingerprint(call.key, cards[0])


def _hidden(call: Call, judged: Judged, shown_as: str | None, desk: Desk) -> str | None:
    """Why nothing is shown though there is something: a shadow run, or the same finding shown a moment ago."""
    if _is_shadow(call, desk):
        return "shadow"
    if shown_as is None or desk.quiet.window is None or judged.finding is None or judged.is_silent:
        return None
    if not may_be_quieted(judged.finding):
        return None
    try:
        shown = desk.ward.shown_at(_quiet_key(call, desk), shown_as, call.received_at - desk.quiet.window)
    except ServiceError as exc:  # on doubt it is shown
        log.error("shown findings unknown", extra={"error": type(exc).__name__})
        return None
    return None if shown is None else "quieted"


def _is_shadow(call: Call, desk: Desk) -> bool:
    model_id = call.service.model.manifest.id
    return call.in_shadow or model_id in desk.shadow_models or model_id in call.caller.client.shadow_models


def _status(judged: Judged, hidden: str | None) -> str:
    return "quieted" if hidden == "quieted" else judged.status


def _remember(call: Call, shown_as: str | None, desk: Desk) -> None:
    if shown_as is None:
        return
    # Perhaps nobody waits any more for an answer that comes too late: after it, whatever comes next is news.
    is_late = time.monotonic() - call.started > call.caller.client.deadline_s
    try:
        desk.ward.remember(_quiet_key(call, desk), LATE if is_late else shown_as, call.received_at)
    except ServiceError as exc:  # it will be shown once more, which is the safe side
        log.error("shown finding not remembered", extra={"error": type(exc).__name__})


def _quiet_key(call: Call, desk: Desk) -> str:
    user = call.request.context.user if desk.quiet.per_user else None
    who = None if user is None else f"{user.resource_type}/{user.id}"
    return quiet_key(call.key, call.caller.client.id, call.service.id, who)


def _system_actions(call: Call, judged: Judged) -> tuple[Action, ...]:
    """The estimate as a RiskAssessment, for clients with which that was agreed."""
    assessment = judged.assessed and judged.assessed.assessment
    manifest, encounter_id = call.service.model.manifest, call.request.context.encounter_id
    if not call.caller.client.takes_system_actions or not isinstance(assessment, Prediction):
        return ()
    if not manifest.gives_probabilities:
        return ()
    return (record_risk(assessment, manifest, call.patient_id, call.received_at, encounter_id),)


def _gather(call: Call, desk: Desk) -> Gathered:
    try:
        gathered = gather(call.request, _wanted(call), partial(desk.fetch, call.access), call.received_at)
    except MissingDataError as missing:
        call.watch.lap("gather")
        _record(call, desk, missing, "missing-data")
        raise
    except Exception:
        call.watch.lap("gather")
        _record(call, desk, None, FAILED.status)
        raise
    call.watch.lap("gather")
    return gathered


def _wanted(call: Call) -> Sequence[Query]:
    """What has to be gathered: nothing of the patient, where the drafts are no business of the model's."""
    drafts = read_drafts((resource.document, resource.selected) for resource in call.request.context.resources)
    return call.service.queries if call.service.model.concerned_by(drafts) else ()


def _record(
    call: Call,
    desk: Desk,
    gathered: Gathered | MissingDataError | None,
    status: str,
    judged: Judged = FAILED,
    cards: tuple[Card, ...] = (),
    actions: tuple[Action, ...] = (),
    *,
    hidden: bool = False,
) -> LogReceipt:
    decision = Decision(
        entry_id=call.entry_id,
        received_at=call.received_at,
        clock=call.clock,
        status=status,
        key=call.key,
        client=call.caller.client,
        service=call.service,
        request=call.request,
        came=Came() if gathered is None else gathered.came,
        gaps=gathered.gaps if isinstance(gathered, Gathered) else (),
        assessed=judged.assessed,
        finding=judged.finding,
        drafted=judged.drafted,
        cards=cards,
        shown=not hidden,
        shadow=_is_shadow(call, desk),
        system_actions=actions,
        latency_us=call.watch.stages,
    )
    receipt = record_decision(decision, call.book, desk.model_page(call.service.model.manifest.id))
    desk.monitor.note(_observed(decision, call))
    return receipt


def _observed(decision: Decision, call: Call) -> Observed:
    assessment = None if decision.assessed is None else decision.assessed.assessment
    return Observed(
        call.caller.client.tenant,
        call.service.model,
        decision.shadow,
        decision.status,
        assessment,
        call.key.ref,
        tuple(card.indicator for card in decision.cards if decision.shown),
        call.received_at,
    )


def record_decision(decision: Decision, book: Book, model_page: str | None) -> LogReceipt:
    """The receipt for `decision`, durable when this returns.

    Raises:
        NotRecordedError: the log did not acknowledge it in time, or could not write it.
    """
    payload = payload_bytes(decision, model_page)
    try:
        sealed = book.log.seal(decision.entry_id, "decision/v1", payload, decision.key)
        entry = decision_entry(decision, book.context, sealed.reference)
        return book.log.record(entry, sealed)
    except AuditError as exc:
        raise _not_recorded(exc, decision.entry_id, book) from exc


def _not_recorded(error: AuditError, entry_id: str, book: Book) -> NotRecordedError:
    if not isinstance(error, AppendError):  # those the log has counted itself
        book.log.note_unrecorded("not-made")
    log.error("decision not recorded", extra={"error": type(error).__name__, "entry": entry_id})
    return NotRecordedError("the decision could not be recorded, so no advice is shown")


def _respond(
    call: Call, desk: Desk, cards: tuple[Card, ...], actions: tuple[Action, ...], receipt: LogReceipt
) -> bytes:
    quirks = call.caller.client.quirks
    return response_bytes(cards, receipt, desk.smart_launch_url, quirks=quirks, system_actions=actions)
