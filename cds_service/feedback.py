"""Feedback as entries of the log, each linked to the decision that showed the card (CDS Hooks 2.0.1, "Feedback").

Only what the log itself knows is taken: the card has to be one that this service showed to this client, in this tenant's
log, and its outcome has to have come about after the card and before now, as far as clocks agree. The same feedback is
recorded once however often it comes, to whichever process: its entry id is a digest of what it says, under the key of the
decision's patient.

The leaf holds codes alone: a reason that was offered with the card by its code, any other as `other`. What a client writes
freely is in the encrypted payload, under the same key. Where the patient was erased only the codes are kept, and what a
client then writes freely is dropped. A decision without a payload, as other writers of a log may leave one, doesn't say whose
it is: what is said about it goes under a key of its own, `decision:<entry id>`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from audit.entry import CardShown, FeedbackEntry, Requester, format_entry, format_time
from audit.errors import AuditError, EntryConflictError, ErasedError, NoSuchEntryError, PayloadError
from audit.log import AuditLog
from audit.payloads import SealedPayload
from audit.vault import SubjectKey, decision_subject
from cds_service.card_ids import FoundCard, card_uuid, find_decision
from cds_service.clients import CdsClient
from cds_service.decision import Context
from cds_service.errors import NotRecordedError
from cds_service.feedback_request import Coding, Feedback, Refusal, parse_feedback
from cds_service.quirks import Quirk

EXTENSION_KEY = "org.bedside.feedback"
ENTRY_TYPE = "feedback/v1"
OTHER_REASON = "other"
CLOCKS_DIFFER = timedelta(minutes=5)  # the time is a workstation's, which keeps it less well than a server

operations = logging.getLogger("bedside.feedback")


class FeedbackPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wrote freely; always encrypted at rest. `extension` is JSON, empty if there was none."""

    schema: str = "bedside-feedback/1"
    comment: str
    reasons: tuple[Coding, ...]
    extension: str


@dataclass(frozen=True, slots=True)
class FeedbackOutcome:
    """What became of a batch.

    Attributes:
        repeated: entries that were recorded before.
        unknown: entries about a card that this service did not show to this client.
        unknown_suggestions: accepted suggestions that the card did not have.
    """

    recorded: int
    repeated: int
    unknown: int
    unknown_suggestions: int
    refused: tuple[Refusal, ...]

    def counts(self) -> dict[str, int]:
        """How many of each, for the operations log: what a client's feedback lost is seen nowhere else on our side."""
        return {
            "recorded": self.recorded,
            "repeated": self.repeated,
            "unknown": self.unknown,
            "unknown_suggestions": self.unknown_suggestions,
            "refused": len(self.refused),
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """A feedback whose card is known, and which of the accepted suggestions are the card's.

    Attributes:
        key: what the feedback goes under.
        keeps_text: not where the patient was erased.
    """

    feedback: Feedback
    found: FoundCard
    card: CardShown
    suggestions: tuple[str, ...]
    key: SubjectKey
    keeps_text: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An entry ready for the log."""

    id: str
    entry: bytes
    sealed: SealedPayload | None


class _Offered(msgspec.Struct, frozen=True):
    """Of a decision's payload, only its cards."""

    cards: tuple[Mapping[str, Any], ...] = ()


def record_feedback(
    body: bytes,
    service_id: str,
    client: CdsClient,
    log: AuditLog,
    context: Context,
    clock: Callable[[], datetime],
) -> FeedbackOutcome:
    """What became of the batch in `body`, durable when this returns; new entries go into one commit.

    `service_id` is the service's own id, as decisions name it.

    Raises:
        BadRequestError: no feedback, or not one entry of it can be read.
        NotRecordedError: the log failed; sending it all again is safe.
    """
    entries, refused = parse_feedback(body, plural=client.has(Quirk.PLURAL_OVERRIDE_REASONS))
    try:
        known, unknown = _look_up(entries, service_id, client, log)
        now = clock()
        whys = [_why_useless(one, now) for one in known]
        usable = [one for one, why in zip(known, whys, strict=True) if why is None]
        prepared = _prepare_all(usable, client, log, context, now)
        recorded = _append([one for one in prepared if log.index_of(one.id) is None], log)
    except AuditError as exc:
        operations.error("feedback not recorded", extra={"error": type(exc).__name__})
        raise NotRecordedError("the feedback could not be recorded; sending it again is safe") from exc
    return FeedbackOutcome(
        recorded=recorded,
        repeated=len(usable) - recorded,
        unknown=unknown,
        unknown_suggestions=sum(len(one.feedback.suggestions) - len(one.suggestions) for one in known),
        refused=tuple(sorted((*refused, *(why for why in whys if why is not None)), key=lambda one: one.index)),
    )


def feedback_response(outcome: FeedbackOutcome) -> dict[str, Any]:
    """`{"extension": {"org.bedside.feedback": {"recorded": 2, "repeated": 0, ...}}}`, without any null or empty member."""
    counts: dict[str, Any] = {
        "recorded": outcome.recorded,
        "repeated": outcome.repeated,
        "unknown": outcome.unknown,
        "unknownSuggestions": outcome.unknown_suggestions,
    }
    if outcome.refused:
        counts["refused"] = [{"index": one.index, "reason": one.reason} for one in outcome.refused]
    return {"extension": {EXTENSION_KEY: counts}}


def _look_up(
    entries: tuple[Feedback, ...], service_id: str, client: CdsClient, log: AuditLog
) -> tuple[list[_Known], int]:
    """The entries whose card this service showed to this client, and how many others there are."""
    known = []
    for feedback in entries:
        found = find_decision(log, feedback.card)
        if found is None or (found.entry.service.id, found.entry.requester.subject) != (service_id, client.id):
            continue
        uuid_shown = card_uuid(found.entry.id, found.number)
        card = next(one for one in found.entry.cards if one.uuid == uuid_shown)
        theirs = {suggestion.lower(): suggestion for suggestion in card.suggestions}
        chosen = tuple(sorted(theirs[one] for one in feedback.suggestions if one in theirs))
        key, is_erased = _find_key(found, log)
        said = _without_text(feedback) if is_erased else feedback
        known.append(_Known(said, found, card, chosen, key, keeps_text=not is_erased))
    return known, len(entries) - len(known)


def _why_useless(known: _Known, now: datetime) -> Refusal | None:
    """Why a feedback on a card of ours can't be true, None if it can."""
    feedback = known.feedback
    if feedback.outcome == "accepted" and not known.suggestions:
        return Refusal(feedback.index, "acceptedSuggestions: expected one of the card's")
    shown = datetime.fromisoformat(known.found.entry.time)
    if not shown - CLOCKS_DIFFER <= feedback.moment <= now + CLOCKS_DIFFER:
        return Refusal(
            feedback.index, "outcomeTimestamp: expected a time since the card was shown, and no later than now"
        )
    return None


def _find_key(found: FoundCard, log: AuditLog) -> tuple[SubjectKey, bool]:
    """The key of the decision's patient, else of the decision alone; and whether the patient was erased."""
    own = decision_subject(found.entry.id)
    try:
        return log.payload_key(found.index) or log.vault.key_for(own), False
    except ErasedError:
        return log.vault.key_for(own), True


def _without_text(feedback: Feedback) -> Feedback:
    return replace(feedback, comment="", extension=b"", reasons=tuple(Coding() for _ in feedback.reasons))


def _prepare_all(
    known: list[_Known], client: CdsClient, log: AuditLog, context: Context, now: datetime
) -> tuple[_Prepared, ...]:
    """The entries to record; of twins in one batch, the first."""
    prepared: dict[str, _Prepared] = {}
    for item in known:
        one = _prepare(item, client, log, context, now)
        prepared.setdefault(one.id, one)
    return tuple(prepared.values())


def _prepare(known: _Known, client: CdsClient, log: AuditLog, context: Context, now: datetime) -> _Prepared:
    feedback, decision = known.feedback, known.found.entry
    entry_id = _entry_id(known, context)
    offered = _offered_codes(known, log) if feedback.reasons else frozenset()
    foreign = tuple(reason for reason in feedback.reasons if not _is_offered(reason, offered))
    sealed = None
    if known.keeps_text and (feedback.comment or foreign or feedback.extension):
        payload = FeedbackPayload(comment=feedback.comment, reasons=foreign, extension=feedback.extension.decode())
        sealed = log.seal(entry_id, ENTRY_TYPE, msgspec.msgpack.encode(payload), known.key)
    entry = FeedbackEntry(
        id=entry_id,
        time=format_time(now),
        clock=log.clock_status(now),
        tenant=context.tenant,
        service=decision.service,
        requester=Requester(client.issuer, client.id, None, None),
        decision=decision.id,
        card=known.card.uuid,
        outcome=feedback.outcome,
        accepted_suggestions=known.suggestions,
        override_reason=_reason_code(feedback.reasons, offered),
        outcome_time=format_time(feedback.moment),
        payload=None if sealed is None else sealed.reference,
    )
    return _Prepared(entry_id, format_entry(entry), sealed)


def _entry_id(known: _Known, context: Context) -> str:
    """The same for the same feedback, and a UUID of version 4 in form, as every entry id."""
    feedback = known.feedback
    said = (
        context.tenant,
        known.found.entry.service.id,
        known.card.uuid,
        feedback.outcome,
        format_time(feedback.moment),
        known.suggestions,
        feedback.reasons,
        feedback.comment,
        feedback.extension,
    )
    digest = known.key.digest("feedback", msgspec.json.encode(said))
    return uuid.UUID(hex=digest[:32], version=4).hex


def _offered_codes(known: _Known, log: AuditLog) -> frozenset[tuple[str, str]]:
    """System and code of the reasons offered with the card, as the decision's payload has them; none if it can't be read."""
    try:
        payload = msgspec.msgpack.decode(log.payload(known.found.index), type=_Offered)
    except (NoSuchEntryError, PayloadError, msgspec.DecodeError):
        return frozenset()
    reasons = [
        reason
        for card in payload.cards
        if card["uuid"] == known.card.uuid
        for reason in card.get("overrideReasons", ())
    ]
    return frozenset((reason["system"], reason["code"]) for reason in reasons)


def _is_offered(reason: Coding, offered: frozenset[tuple[str, str]]) -> bool:
    if reason.system:
        return (reason.system, reason.code) in offered
    return reason.code in {code for _, code in offered}


def _reason_code(reasons: tuple[Coding, ...], offered: frozenset[tuple[str, str]]) -> str | None:
    """The first reason that was offered; `other` where there are only others."""
    return next((reason.code for reason in reasons if _is_offered(reason, offered)), OTHER_REASON if reasons else None)


def _append(fresh: list[_Prepared], log: AuditLog) -> int:
    """How many of the entries are recorded now; another process may have been faster with some of them."""
    if not fresh:
        return 0
    try:
        return len(log.append_all([(one.entry, one.sealed) for one in fresh]))
    except EntryConflictError:  # the commit went through, and each entry stands there: ours or the other's
        return sum(_is_ours(one, log) for one in fresh)


def _is_ours(prepared: _Prepared, log: AuditLog) -> bool:
    index = log.index_of(prepared.id)
    if index is None:
        raise NotRecordedError("the feedback could not be recorded; sending it again is safe")
    return log.entry(index) == prepared.entry
