"""Decisions and feedback as AuditEvents.

One decision gives several events, for several things happened (IHE BALP 1.1.4):

    the hook call came           PrivacyDisclosure.Recipient: the EHR sent data about a patient to us
    we asked the EHR ourselves   PatientQuery for each search, PatientRead for the Patient; OAUTHaccessTokenUse.Opaque besides
                                 where a token came with the call
    the EHR had no answer        the same shape, without the claim, as BALP profiles success alone
    we decided and answered      a profile of our own, as BALP has none

The log keeps neither the searches, whose text names the patient, nor any part of a token: both are said to be masked. Pure.
"""

from audit.entry import CardShown, DecisionEntry, FeedbackEntry, Requester
from audit.export.fhir_codes import (
    BALP,
    CARD,
    DCM,
    EVENT_TYPE,
    HOOK_INSTANCE,
    INPUTS,
    INTERACTION,
    LIFECYCLE,
    LOG_RECORD,
    MINOR_FAILURE,
    PATIENT_COMMITMENT,
    PROFILE,
    SERIOUS_FAILURE,
    SUCCESS,
    SYSTEM_ACTION,
    URI,
    Code,
)
from audit.export.fhir_parts import (
    APPLICATION,
    AUTHOR,
    DESTINATION,
    DOMAIN_RESOURCE,
    JOB,
    QUERY,
    RECIPIENT,
    REPORT,
    SOURCE,
    THING,
    TOKEN_USER,
    Event,
    Json,
    absent,
    agent,
    client_agent,
    entity,
    event_code,
    host_network,
    model_device,
    model_entity,
    named,
    observer,
    patient_entity,
    person_agent,
    service_agent,
    without_token,
    words,
)

# The prefetch key under which every service asks for the Patient itself: the one read among the searches.
PATIENT_KEY = "patient"
REST = Code(EVENT_TYPE, "rest")
OUTCOMES = {"failed": SERIOUS_FAILURE, "missing-data": MINOR_FAILURE}


def decision_events(origin: str, index: int, entry: DecisionEntry) -> tuple[Event, ...]:
    """The events of one decision, in the order in which they happened."""
    request = entry.request
    fetched = [_fetch(origin, entry, key, failed=False) for key in request.prefetch_missing]
    # Without a FHIR origin nobody was asked: what is missing then, the decision's own event says.
    asked = request.fhir_origin is not None
    failed = [_fetch(origin, entry, key, failed=True) for key in request.prefetch_failed if asked]
    return (_disclosure(origin, entry), *fetched, *failed, _decision(origin, index, entry))


def feedback_events(origin: str, entry: FeedbackEntry) -> tuple[Event, ...]:
    """Feedback, in the shape of an update: what became of a card."""
    details = {
        "decision": entry.decision,
        "outcome": entry.outcome,
        "acceptedSuggestions": words(entry.accepted_suggestions),
        "overrideReason": entry.override_reason,
        "outcomeTime": entry.outcome_time,
        "service": f"{entry.service.id}@{entry.service.version}",
    }
    return (
        Event(
            part="feedback",
            type=REST,
            subtypes=(Code(INTERACTION, "update"), event_code("feedback")),
            action="U",
            agents=(
                client_agent(SOURCE, entry.requester, requestor=entry.requester.practitioner is None),
                service_agent(DESTINATION, origin),
                *_user(entry.requester, AUTHOR),
            ),
            entities=(entity(THING, REPORT, named(CARD, entry.card), details),),
            profiles=(f"{PROFILE}/feedback",),
        ),
    )


def _disclosure(origin: str, entry: DecisionEntry) -> Event:
    request, requester = entry.request, entry.requester
    details = {
        "hook": request.hook,
        "bodyDigest": request.body,
        "prefetchPresent": words(request.prefetch_present),
        "prefetchMissing": words(request.prefetch_missing),
        "prefetchFailed": words(request.prefetch_failed),
        "scopes": words(request.scopes),
    }
    return Event(
        part="disclosure",
        type=Code(DCM, "110107"),
        subtypes=(Code(LIFECYCLE, "disclose"), event_code("disclosure")),
        action="C",
        agents=(
            client_agent(SOURCE, requester, requestor=requester.practitioner is None),
            service_agent(DESTINATION, origin),
            *_user(requester, AUTHOR),
        ),
        entities=(
            *_patient(entry),
            entity(THING, DOMAIN_RESOURCE, named(HOOK_INSTANCE, request.hook_instance), details),
        ),
        profiles=() if entry.patient is None else (f"{BALP}.PrivacyDisclosure.Recipient",),
    )


def _fetch(origin: str, entry: DecisionEntry, key: str, *, failed: bool) -> Event:
    reads = key == PATIENT_KEY
    kind = "read" if reads else "search"
    profiles = [f"{BALP}.PatientRead" if reads else f"{BALP}.PatientQuery"] if entry.patient and not failed else []
    if entry.request.scopes:
        profiles.append(f"{BALP}.OAUTHaccessTokenUse.Opaque")
    return Event(
        part=f"fetch-{key}",
        type=REST,
        subtypes=(Code(INTERACTION, kind), event_code("fetch-failed" if failed else "fetch")),
        action="R" if reads else "E",
        agents=_fetch_agents(origin, entry, reads=reads),
        entities=(*_patient(entry), _read_patient(entry) if reads else _searched(key)),
        outcome=MINOR_FAILURE if failed else SUCCESS,
        outcome_text="not to be had from the EHR" if failed else None,
        profiles=tuple(profiles),
    )


def _fetch_agents(origin: str, entry: DecisionEntry, *, reads: bool) -> tuple[Json, ...]:
    """Us, the EHR's FHIR server, and for whom; DICOM names the roles of a query the other way round than of a read."""
    ours, theirs = (DESTINATION, SOURCE) if reads else (SOURCE, DESTINATION)
    server = entry.request.fhir_origin
    practitioner = entry.requester.practitioner
    has_token = bool(entry.request.scopes)
    return (
        agent([ours], observer(origin), requestor=practitioner is None and not has_token, network=host_network(origin)),
        agent(
            [theirs],
            {"display": "FHIR server of the EHR"} if server is None else {"display": server},
            requestor=False,
            network=absent("unknown") if server is None else {"address": server, "type": URI},
        ),
        *_token_holder(entry.requester, has_token=has_token),
    )


def _token_holder(requester: Requester, *, has_token: bool) -> tuple[Json, ...]:
    if not has_token:
        return _user(requester, RECIPIENT)
    if requester.practitioner is None:
        return (without_token(agent([TOKEN_USER], None, requestor=True)),)
    user = person_agent([RECIPIENT, TOKEN_USER], requester.practitioner, requester.role)
    return (without_token(user),)


def _searched(key: str) -> Json:
    return entity(THING, QUERY, None, description=f"prefetch key {key}", _query=absent("masked"))


def _read_patient(entry: DecisionEntry) -> Json:
    what = absent("unknown") if entry.patient is None else named(PATIENT_COMMITMENT, entry.patient, "Patient")
    return entity(THING, DOMAIN_RESOURCE, what, {"prefetchKey": PATIENT_KEY})


def _decision(origin: str, index: int, entry: DecisionEntry) -> Event:
    model = entry.model
    model_agents = () if model is None else (agent([APPLICATION], model_device(model), requestor=False),)
    return Event(
        part="decision",
        type=REST,
        subtypes=(Code(INTERACTION, "operation"), event_code("decision")),
        action="E",
        agents=(
            client_agent(SOURCE, entry.requester, requestor=entry.requester.practitioner is None),
            service_agent(DESTINATION, origin),
            *_user(entry.requester, RECIPIENT),
            *model_agents,
        ),
        entities=(
            *_patient(entry),
            _answer(entry),
            *(() if model is None else (model_entity(model),)),
            *_inputs(entry),
            *(_card(card) for card in entry.cards),
            *(entity(THING, REPORT, named(SYSTEM_ACTION, action)) for action in entry.system_actions),
            *_provenance(origin, index, entry),
        ),
        outcome=OUTCOMES.get(entry.status, SUCCESS),
        outcome_text=entry.status,
        profiles=(f"{PROFILE}/decision",),
        asserted_by_ai=entry.output is not None,
    )


def _answer(entry: DecisionEntry) -> Json:
    """The call that was answered, and how."""
    output, explanation = entry.output, entry.explanation
    details = {
        "hook": entry.request.hook,
        "service": f"{entry.service.id}@{entry.service.version}",
        "status": entry.status,
        "decision": None if output is None else output.decision,
        "band": None if output is None else output.band,
        "abstention": words(entry.abstention),
        "explanation": None if explanation is None else explanation.method,
        "software": entry.software,
        "config": entry.config,
        "latencyMicroseconds": words(f"{stage}:{took}" for stage, took in entry.latency_us.items()),
    }
    return entity(THING, JOB, named(HOOK_INSTANCE, entry.request.hook_instance), details)


def _inputs(entry: DecisionEntry) -> tuple[Json, ...]:
    inputs = entry.inputs
    if inputs is None:
        return ()
    details = {"present": inputs.present, "missing": inputs.missing, "stale": inputs.stale}
    return (entity(THING, DOMAIN_RESOURCE, named(INPUTS, inputs.commitment), details),)


def _card(card: CardShown) -> Json:
    details = {"indicator": card.indicator, "textDigest": card.text, "suggestions": words(card.suggestions)}
    return entity(THING, REPORT, named(CARD, card.uuid), details)


def _provenance(origin: str, index: int, entry: DecisionEntry) -> tuple[Json, ...]:
    if entry.model is None or not (entry.cards or entry.system_actions):
        return ()
    return (entity(THING, DOMAIN_RESOURCE, named(LOG_RECORD, f"{origin}#{index}.provenance", "Provenance")),)


def _patient(entry: DecisionEntry) -> tuple[Json, ...]:
    return () if entry.patient is None else (patient_entity(entry.patient),)


def _user(requester: Requester, role: Code) -> tuple[Json, ...]:
    if requester.practitioner is None:
        return ()
    return (person_agent([role], requester.practitioner, requester.role),)
