"""Every entry kind as AuditEvents: valid R4, in BALP's shapes where they claim it, provable, and naming nobody."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from audit.export.errors import ExportError
from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_codes import BALP, BASE, LOG_EXTENSION, PATIENT_COMMITMENT, Code
from audit.export.fhir_validation import check_resource
from tests.audit.export import balp_rules
from tests.audit.export.examples import (
    ACCESS,
    DECISION,
    ERASURE,
    EXAMPLES,
    ORIGIN,
    UNKNOWN,
    changed,
    digest,
    example,
    record_of,
    with_proof,
)

Json = dict[str, Any]
ALL = {name: audit_events(example(name)) for name in EXAMPLES}


def _request(**changes: object) -> msgspec.Struct:
    return msgspec.structs.replace(DECISION.request, **changes)


def _claims(event: Json) -> list[str]:
    return [url for url in event.get("meta", {}).get("profile", []) if url.startswith(BALP)]


def _of(events: tuple[Json, ...], code: str) -> Json:
    (found,) = [event for event in events if any(subtype["code"] == code for subtype in event["subtype"])]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_is_valid_r4_and_is_read_back_as_written(name: str) -> None:
    for event in ALL[name]:
        read = json.loads(AuditEvent.model_validate_json(json.dumps(event)).model_dump_json())
        assert read | {"recorded": event["recorded"]} == event


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_claim_to_a_balp_profile_holds(name: str) -> None:
    for event in ALL[name]:
        for url in _claims(event):
            assert balp_rules.violations(event, balp_rules.PROFILES[url]) == []


def test_the_claims_are_the_ones_that_were_mapped() -> None:
    claimed = {
        (name, url.removeprefix(f"{BALP}."))
        for name, events in ALL.items()
        for event in events
        for url in _claims(event)
    }
    assert claimed == {
        ("decision", "PrivacyDisclosure.Recipient"),
        ("decision", "PatientRead"),
        ("decision", "PatientQuery"),
        ("decision", "OAUTHaccessTokenUse.Opaque"),
        ("erasure", "PatientDelete"),
        ("access", "Read"),
        ("search", "Query"),
    }


def test_a_decision_gives_one_event_for_each_thing_that_happened() -> None:
    assert [event["subtype"][-1]["code"] for event in ALL["decision"]] == [
        "disclosure",
        "fetch",
        "fetch",
        "fetch-failed",
        "decision",
    ]


def test_feedback_has_the_shape_of_an_update_without_claiming_to_be_one() -> None:
    (event,) = ALL["feedback"]
    assert balp_rules.violations(event, balp_rules.UPDATE) == []
    assert event["meta"]["profile"] == [f"{BASE}/StructureDefinition/feedback"]


def test_a_failed_fetch_has_the_shape_of_a_query_but_not_the_claim() -> None:
    event = _of(ALL["decision"], "fetch-failed")
    assert event["outcome"] == "4"
    assert balp_rules.violations(event, balp_rules.PROFILES[f"{BALP}.PatientQuery"]) == ["AuditEvent.outcome"]
    assert _claims(event) == [f"{BALP}.OAUTHaccessTokenUse.Opaque"]


def test_without_a_token_no_token_is_claimed() -> None:
    events = audit_events(changed(DECISION, request=_request(scopes=())))
    assert all("Opaque" not in url for event in events for url in _claims(event))
    assert "UserOauthAgent" not in json.dumps(events)
    for event in events:
        for url in _claims(event):
            assert balp_rules.violations(event, balp_rules.PROFILES[url]) == []


@pytest.mark.parametrize("practitioner", [None, digest("somebody")])
@pytest.mark.parametrize("scopes", [(), ("openid",)])
@pytest.mark.parametrize("subject", [None, "ehr-client"])
@pytest.mark.parametrize("issuer", [None, "north-ehr", "https://ehr.example.org"])
@pytest.mark.parametrize("origin", [None, "https://fhir.example.org"])
def test_claims_hold_whatever_is_known_of_the_caller(
    practitioner: str | None, scopes: tuple[str, ...], subject: str | None, issuer: str | None, origin: str | None
) -> None:
    requester = msgspec.structs.replace(
        DECISION.requester,
        practitioner=practitioner,
        role=practitioner and "Practitioner",
        subject=subject,
        issuer=issuer,
    )
    request = _request(scopes=scopes, fhir_origin=origin)
    for event in audit_events(changed(DECISION, requester=requester, request=request)):
        for url in _claims(event):
            assert balp_rules.violations(event, balp_rules.PROFILES[url]) == []
        assert sum(one["requestor"] for one in event["agent"]) >= 1


def test_where_nobody_was_asked_no_query_is_recorded() -> None:
    request = _request(prefetch_missing=(), prefetch_failed=("smoking",), fhir_origin=None)
    assert len(audit_events(changed(DECISION, request=request))) == 2


def test_an_entry_without_a_patient_claims_no_patient_profile() -> None:
    events = audit_events(changed(DECISION, patient=None))
    assert {url for event in events for url in _claims(event)} == {f"{BALP}.OAUTHaccessTokenUse.Opaque"}
    assert PATIENT_COMMITMENT not in json.dumps(events)


def test_the_token_and_the_search_are_said_to_be_masked() -> None:
    event = next(event for event in ALL["decision"] if f"{BALP}.PatientQuery" in _claims(event))
    (user,) = [agent for agent in event["agent"] if "_policy" in agent]
    assert user["_policy"][0]["extension"][0]["valueCode"] == "masked"
    (query,) = [entity for entity in event["entity"] if "_query" in entity]
    assert query["_query"]["extension"][0]["valueCode"] == "masked"
    assert query["description"] == "prefetch key active_medications"


@pytest.mark.parametrize(("profile", "code"), [("PatientRead", "110153"), ("PatientQuery", "110152")])
def test_the_fhir_server_has_the_role_that_dicom_gives_it(profile: str, code: str) -> None:
    event = next(event for event in ALL["decision"] if f"{BALP}.{profile}" in _claims(event))
    addresses = {
        agent["type"]["coding"][0]["code"]: agent["network"]["address"]
        for agent in event["agent"]
        if "network" in agent
    }
    assert addresses[code] == "https://fhir.example.org"
    assert sorted(addresses.values()) == ["hospital.example", "https://fhir.example.org"]


def test_the_patient_is_named_by_commitment_alone() -> None:
    for event in ALL["decision"]:
        (patient,) = [entity for entity in event["entity"] if entity["type"]["code"] == "1"]
        assert patient["what"] == {
            "type": "Patient",
            "identifier": {"system": PATIENT_COMMITMENT, "value": digest("patient")},
        }


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_event_carries_its_place_in_the_log(name: str) -> None:
    record = with_proof(example(name))
    for event in audit_events(record):
        (extension,) = event["extension"]
        assert extension["url"] == LOG_EXTENSION
        place = {
            part["url"]: next(value for key, value in part.items() if key != "url") for part in extension["extension"]
        }
        assert (place["origin"], place["index"], place["treeSize"]) == (ORIGIN, "0", "100")
        assert base64.b64decode(place["leafHash"]) == record.leaf
        assert base64.b64decode(place["proof"]) == record.proof
        assert event["source"]["observer"]["identifier"]["value"] == ORIGIN
        assert event["recorded"] == record.header.time


def test_no_two_events_share_an_identity() -> None:
    names = [
        event["entity"][-1]["what"]["identifier"]["value"]
        for index, entry in enumerate(EXAMPLES.values())
        for event in audit_events(record_of(entry, index))
    ]
    assert len(set(names)) == len(names) == sum(len(events) for events in ALL.values())


def test_the_same_record_gives_the_same_events() -> None:
    assert audit_events(example("decision")) == ALL["decision"]


def test_what_a_model_decided_is_marked_and_nothing_else() -> None:
    marked = [
        (name, event["subtype"][-1]["code"])
        for name, events in ALL.items()
        for event in events
        if "security" in event.get("meta", {})
    ]
    assert marked == [("decision", "decision")]
    assert _of(ALL["decision"], "decision")["meta"]["security"][0]["code"] == "AIAST"
    abstained = audit_events(changed(DECISION, output=None, status="abstained"))
    assert all("security" not in event.get("meta", {}) for event in abstained)


@pytest.mark.parametrize(("status", "outcome"), [("answered", "0"), ("failed", "8"), ("missing-data", "4")])
def test_a_decisions_outcome_is_its_status(status: str, outcome: str) -> None:
    event = _of(audit_events(changed(DECISION, status=status)), "decision")
    assert (event["outcome"], event["outcomeDesc"]) == (outcome, status)


def test_an_invalid_log_is_a_major_failure() -> None:
    (event,) = audit_events(changed(EXAMPLES["verification"], outcome="invalid", first_bad_index=3))
    assert (event["type"]["code"], event["outcome"]) == ("110101", "12")


def test_a_model_version_that_was_refused_is_a_failure() -> None:
    (event,) = audit_events(changed(EXAMPLES["model"], action="refuse"))
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "refused")
    AuditEvent.model_validate_json(json.dumps(event))
    (event,) = audit_events(changed(EXAMPLES["model"], action="promote"))
    assert event["outcome"] == "0"


def test_the_erasure_of_several_patients_claims_no_profile_for_one() -> None:
    (event,) = audit_events(changed(ERASURE, subjects=2))
    assert _claims(event) == []
    assert balp_rules.violations(event, balp_rules.PROFILES[f"{BALP}.PatientDelete"]) == []


@pytest.mark.parametrize("action", ["read", "decrypt", "replay", "prove", "search", "export", "report"])
def test_every_way_to_look_claims_what_holds(action: str) -> None:
    (event,) = audit_events(changed(ACCESS, action=action))
    (url,) = _claims(event)
    assert balp_rules.violations(event, balp_rules.PROFILES[url]) == []


def test_dicom_types_tell_operations_apart() -> None:
    types = {name: (events[0]["type"]["code"], events[0]["subtype"][0]["code"]) for name, events in ALL.items()}
    assert {name: types[name] for name in ("switch", "model", "config", "key-rotation", "epoch", "gap", "hold")} == {
        "switch": ("110113", "110131"),
        "model": ("110113", "110131"),
        "config": ("110100", "110120"),
        "key-rotation": ("110113", "110129"),
        "epoch": ("110113", "110134"),
        "gap": ("110113", "110133"),
        "hold": ("110113", "110135"),
    }


def test_an_entry_of_an_unknown_kind_is_exported_and_says_nothing_of_its_content() -> None:
    (event,) = audit_events(record_of(UNKNOWN))
    assert event["subtype"][0]["code"] == "other"
    assert "nobody knows" not in json.dumps(event)


def _drop(*path: str | int) -> Callable[[Json], None]:
    def change(event: Json) -> None:
        place: Any = event
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def _put(value: object, *path: str | int) -> Callable[[Json], None]:
    def change(event: Json) -> None:
        place: Any = event
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


BROKEN: list[tuple[str, Callable[[Json], None], str]] = [
    ("PrivacyDisclosure.Recipient", _put("R", "action"), "AuditEvent.action"),
    ("PrivacyDisclosure.Recipient", _put([], "modifierExtension"), "AuditEvent.modifierExtension"),
    ("PrivacyDisclosure.Recipient", _drop("outcome"), "AuditEvent.outcome"),
    ("PrivacyDisclosure.Recipient", _put("110106", "type", "code"), "AuditEvent.type"),
    ("PrivacyDisclosure.Recipient", _drop("subtype", 0), "AuditEvent.subtype:disclosure"),
    ("PrivacyDisclosure.Recipient", _drop("agent", 0, "network"), "AuditEvent.agent:source.network"),
    (
        "PrivacyDisclosure.Recipient",
        _put({"display": "x"}, "agent", 1, "who"),
        "AuditEvent.agent:recipient val-audit-source",
    ),
    ("PrivacyDisclosure.Recipient", _drop("entity", 0), "AuditEvent.entity:patient"),
    ("PrivacyDisclosure.Recipient", _drop("entity", 0, "role"), "AuditEvent.entity:patient.role"),
    ("PrivacyDisclosure.Recipient", _put("Group", "entity", 0, "what", "type"), "AuditEvent.entity:patient.what"),
    ("PatientQuery", _put("4", "outcome"), "AuditEvent.outcome"),
    ("PatientQuery", _put("read", "subtype", 0, "code"), "AuditEvent.subtype:anySearch"),
    ("PatientQuery", _drop("entity", 1, "_query"), "AuditEvent.entity:query.query"),
    ("PatientQuery", _put({"display": "x"}, "entity", 1, "what"), "AuditEvent.entity:query.what"),
    ("PatientQuery", _put("4", "entity", 1, "role", "code"), "AuditEvent.entity:query.role"),
    ("PatientQuery", _put({"address": "x"}, "agent", 2, "network"), "AuditEvent.agent:user.network"),
    ("PatientQuery", _put(False, "agent", 2, "requestor"), "AuditEvent.agent:user.requestor"),
    ("PatientQuery", _drop("agent", 1), "AuditEvent.agent:server"),
    ("PatientRead", _put("24", "entity", 1, "role", "code"), "AuditEvent.entity:data.role"),
    ("OAUTHaccessTokenUse.Opaque", _drop("agent", 2, "_policy"), "AuditEvent.agent:oUser.policy"),
    ("OAUTHaccessTokenUse.Opaque", _put(["a", "b"], "agent", 2, "policy"), "AuditEvent.agent:oUser.policy"),
    ("OAUTHaccessTokenUse.Opaque", _drop("agent", 2), "AuditEvent.agent:oUser"),
]


@pytest.mark.parametrize(("profile", "change", "named"), BROKEN)
def test_the_rules_name_what_is_broken(profile: str, change: Callable[[Json], None], named: str) -> None:
    url = f"{BALP}.{profile}"
    event = copy.deepcopy(next(event for event in ALL["decision"] if url in _claims(event)))
    assert balp_rules.violations(event, balp_rules.PROFILES[url]) == []
    change(event)
    assert named in balp_rules.violations(event, balp_rules.PROFILES[url])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_put("nonsense", "outcome"), "AuditEvent.outcome"),
        (_put("X", "action"), "AuditEvent.action"),
        (_put("9", "agent", 1, "network", "type"), "AuditEvent.agent.network.type"),
        (_put("another", "type", "display"), "AuditEvent.type"),
        (_put("110199", "type", "code"), "AuditEvent.type"),
        (_put({"reference": "Patient/1"}, "entity", 0, "what"), "AuditEvent.entity.what"),
        (_drop("entity", 0, "what", "identifier", "system"), "AuditEvent.entity.what"),
        (_put("yesterday", "recorded"), "recorded"),
        (_put("2026-19-39T29:59:59.000000Z", "recorded"), "recorded"),
        (_put("an id", "id"), "id"),
        (_put("", "outcomeDesc"), "outcomeDesc"),
        (_put(" ", "source", "site"), "site"),
        (_put("a b", "agent", 0, "who", "identifier", "system"), "system"),
        (_put("!!!!", "extension", 0, "extension", 2, "valueBase64Binary"), "valueBase64Binary"),
        (_put("AAA", "extension", 0, "extension", 2, "valueBase64Binary"), "valueBase64Binary"),
        (_put(7, "extension", 0, "extension", 1, "valueString"), "valueString"),
        (_put("new", "novelty"), "novelty"),
        (_drop("agent", 0, "requestor"), "agent"),
    ],
)
def test_the_writer_refuses_what_fhir_resources_lets_pass(change: Callable[[Json], None], named: str) -> None:
    event = copy.deepcopy(ALL["decision"][0])
    check_resource(event)
    change(event)
    with pytest.raises(ExportError, match=named) as raised:
        check_resource(event)
    assert "nonsense" not in str(raised.value)
    assert "yesterday" not in str(raised.value)


def test_a_code_that_is_not_listed_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="isn't listed"):
        Code("http://dicom.nema.org/resources/ontology/DCM", "110199")
