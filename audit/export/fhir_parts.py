"""The parts AuditEvents are made of: who took part, what it was about, and what is known to be missing.

People, patients and inputs are named by the keyed digests and commitments that stand in the log, never by an identifier of
theirs. What a profile asks for and the log doesn't hold is said to be absent, with the reason, by the extension FHIR has for
it: `masked` where we hold it back on purpose, `unknown` where we never had it. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.entry import ModelUse, Requester
from audit.export.fhir_codes import (
    ABSENT,
    CLIENT,
    DCM,
    ENTITY_TYPE,
    EVENTS,
    LOG_ORIGIN,
    MACHINE_NAME,
    MODEL,
    OBJECT_ROLE,
    PARTICIPATION,
    PATIENT_COMMITMENT,
    PERSON_DIGEST,
    ROLE,
    SUCCESS,
    URI,
    USER_AGENT,
    Code,
)

Json = dict[str, Any]

APPLICATION = Code(DCM, "110150")
SOURCE = Code(DCM, "110153")
DESTINATION = Code(DCM, "110152")
RECIPIENT = Code(PARTICIPATION, "IRCP")
AUTHOR = Code(PARTICIPATION, "AUT")
APPROVER = Code(PARTICIPATION, "LA")
TOKEN_USER = Code(USER_AGENT, "UserOauthAgent")
PERSON = Code(ENTITY_TYPE, "1")
THING = Code(ENTITY_TYPE, "2")
PATIENT_ROLE = Code(OBJECT_ROLE, "1")
REPORT = Code(OBJECT_ROLE, "3")
DOMAIN_RESOURCE = Code(OBJECT_ROLE, "4")
SECURITY_RESOURCE = Code(OBJECT_ROLE, "13")
JOB = Code(OBJECT_ROLE, "20")
QUERY = Code(OBJECT_ROLE, "24")
PROCESSING = Code(OBJECT_ROLE, "26")


@dataclass(frozen=True, slots=True)
class Event:
    """What is particular to one AuditEvent; the place in the log and the observer are added to all alike.

    Attributes:
        part: tells the events of one entry apart; for good, as it is part of their identity.
        profiles: the canonical URLs it is sure to conform to.
        asserted_by_ai: whether what it records was decided by a model.
    """

    part: str
    type: Code
    subtypes: tuple[Code, ...]
    action: str
    agents: tuple[Json, ...]
    entities: tuple[Json, ...] = ()
    outcome: str = SUCCESS
    outcome_text: str | None = None
    reason: str | None = None
    profiles: tuple[str, ...] = ()
    asserted_by_ai: bool = False


def event_code(code: str) -> Code:
    """Our own code for a kind of event."""
    return Code(EVENTS, code)


def absent(reason: str) -> Json:
    """What stands in place of a value that isn't there: `masked` or `unknown`."""
    return {"extension": [{"url": ABSENT, "valueCode": reason}]}


def named(system: str, value: str, resource: str | None = None, display: str | None = None) -> Json:
    """A reference by identifier: what it names needn't be stored anywhere as a resource."""
    reference: Json = {"identifier": {"system": system, "value": value}}
    if resource is not None:
        reference["type"] = resource
    if display is not None:
        reference["display"] = display
    return reference


def observer(origin: str) -> Json:
    """The service that keeps the log `origin`, as a Device."""
    return named(LOG_ORIGIN, origin, "Device", "Bedside")


def host_network(origin: str) -> Json:
    """The host that a log's origin begins with."""
    return {"address": host_of(origin), "type": MACHINE_NAME}


def host_of(origin: str) -> str:
    return origin.partition("/")[0]


def agent(types: Iterable[Code], who: Json | None, *, requestor: bool, network: Json | None = None) -> Json:
    """One who took part."""
    part: Json = {"type": {"coding": [code.coding() for code in types]}}
    if who is not None:
        part["who"] = who
    part["requestor"] = requestor
    if network is not None:
        part["network"] = network
    return part


def service_agent(role: Code, origin: str) -> Json:
    """Bedside itself, in this role."""
    return agent([role], observer(origin), requestor=False, network=host_network(origin))


def client_agent(role: Code, requester: Requester, *, requestor: bool) -> Json:
    """The CDS client that called: by issuer and subject, as it authenticated itself."""
    return agent([role], client(requester), requestor=requestor, network=client_network(requester))


def client(requester: Requester) -> Json:
    if requester.subject is None:
        return {"display": "a caller that didn't authenticate itself"}
    return named(requester.issuer or CLIENT, requester.subject, "Device")


def client_network(requester: Requester) -> Json:
    """The issuer as network address, for the log holds no address of a connection."""
    if requester.issuer is not None and requester.issuer.startswith(("https://", "http://")):
        return {"address": requester.issuer, "type": URI}
    return absent("unknown")


def person_agent(types: Iterable[Code], digest: str, role: str | None = None, *, requestor: bool = True) -> Json:
    """A person by keyed digest, with the role the client or the log gave them."""
    part = agent(types, named(PERSON_DIGEST, digest), requestor=requestor)
    if role is not None:
        part["role"] = [{"coding": [{"system": ROLE, "code": role}]}]
    return part


def without_token(part: Json) -> Json:
    """The agent as one who came with an access token of which nothing was kept."""
    return part | {"_policy": [absent("masked")]}


def entity(
    type_: Code, role: Code | None, what: Json | None, details: Mapping[str, object] | None = None, **more: object
) -> Json:
    """What an event was about; details with no value are left out."""
    part: Json = {}
    if what is not None:
        part["what"] = what
    part["type"] = type_.coding()
    if role is not None:
        part["role"] = role.coding()
    part |= more
    if details:
        kept = {name: str(value) for name, value in details.items() if value is not None and value != ""}
        if kept:
            part["detail"] = [{"type": name, "valueString": value} for name, value in kept.items()]
    return part


def patient_entity(commitment: str, system: str = PATIENT_COMMITMENT) -> Json:
    """The patient, by the commitment of this entry: the key holder alone can tell who it is."""
    return entity(PERSON, PATIENT_ROLE, named(system, commitment, "Patient"))


def model_name(model: ModelUse) -> str:
    """`id@version`."""
    return f"{model.id}@{model.version}"


def model_device(model: ModelUse) -> Json:
    """The model version as a Device."""
    return named(MODEL, model_name(model), "Device")


def model_entity(model: ModelUse) -> Json:
    """The model version that decided, with the digests that fix it."""
    details = {
        "artefact": model.artefact,
        "manifest": model.manifest,
        "thresholds": model.thresholds,
        "card": model.card,
        "status": model.status,
    }
    return entity(THING, PROCESSING, named(MODEL, model_name(model)), details)


def words(codes: Iterable[str]) -> str | None:
    """Codes in one line, None where there are none."""
    return " ".join(codes) or None
