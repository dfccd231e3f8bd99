from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.commitments import keyed_digest
from audit.entry import format_time
from audit.errors import ErasedError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.vault import patient_subject
from cds_service.decision import ReplayPayload, StoredArray, UnansweredPayload
from cds_service.errors import MissingDataError
from cds_service.pipeline import Desk, answer
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, caller
from tests.conftest import NOW, TENANT, MakeDesk

CANARIES = (
    patients.PATIENT_ID,
    "canary",
    "Zyxwvut",
    patients.CANARY_TEXT,
    patients.CANARY_TOKEN,
    "Practitioner/",
    "151",
    "201",
    "secret-path",
    "Observation/o1",
)


def _leaf(make_desk: MakeDesk, log: AuditLog, **changes: Any) -> dict[str, Any]:
    desk = make_desk()
    answer(patients.encoded(patients.call(patients.prefetch(NOW), **changes)), desk.services[0], CALLER, desk)
    leaf: dict[str, Any] = json.loads(log.entry(LeafIndex(0)))
    return leaf


def test_decision_leaf_holds_nothing_of_the_patient(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    access = patients.fhir_access("https://fhir.example.org/secret-path", scope="patient/Canary.rs launch/canary")
    leaf = _leaf(make_desk, audit_log, hookInstance="canary words", **access)
    text = json.dumps({key: value for key, value in leaf.items() if key not in ("latency_us", "time")})
    # A digest or an id may hold any three digits by chance.
    random_removed = " ".join(part for part in text.replace('"', " ").split() if len(part) < 32)
    for canary in CANARIES:
        assert canary not in random_removed


def test_decision_leaf_names_the_model_by_its_digests(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    model = _leaf(make_desk, audit_log)["model"]
    identity = desk.services[0].model.identity
    assert (model["id"], model["version"]) == (identity.id, identity.version)
    assert (model["artefact"], model["manifest"]) == (identity.artifact_sha256, identity.manifest_sha256)


def test_decision_counts_what_was_there_and_what_was_not(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    leaf = _leaf(make_desk, audit_log)
    assert (leaf["inputs"]["present"], leaf["inputs"]["missing"], leaf["inputs"]["stale"]) == (11, 2, 0)
    assert leaf["output"] == {"band": "from-7.5", "decision": "total_cvd_10y:from-7.5"}
    assert leaf["explanation"]["method"] == "integrated-gradients"
    assert leaf["requester"]["role"] == "Practitioner"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (patients.HOOK_INSTANCE, patients.HOOK_INSTANCE),
        (patients.HOOK_INSTANCE.upper(), patients.HOOK_INSTANCE),
        ("{" + patients.HOOK_INSTANCE + "}", patients.HOOK_INSTANCE),
        ("canary", None),
    ],
)
def test_decision_keeps_a_hook_instance_only_if_it_is_a_uuid(
    sent: str, kept: str | None, make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    found = _leaf(make_desk, audit_log, hookInstance=sent)["request"]["hook_instance"]
    if kept is None:
        assert found.startswith("hmac:")
        assert len(found) == 5 + 64
    else:
        assert uuid.UUID(found) == uuid.UUID(kept)


@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        ("", []),
        ("patient/Patient.rs openid", ["patient/Patient.rs", "openid"]),
        ("patient/*.read user/Observation.cruds", ["patient/*.read", "user/Observation.cruds"]),
        ("patient/Patient.rs patient/Patient.rs", ["patient/Patient.rs"]),
        ("patient/JohnSmith.rs", ["other:1"]),
        ("launch/johnsmith patient/Patient.rs?name=smith launch/patient", ["launch/patient", "other:2"]),
        ("Observation.Read (Labs) (R4)", ["other:3"]),
        (" ".join(f"x{n}" for n in range(5000)), ["other:5000"]),
    ],
)
def test_decision_keeps_of_scopes_what_cannot_be_free_text(
    scope: str, kept: list[str], make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    access = patients.fhir_access("https://fhir.example.org", scope=scope)
    assert _leaf(make_desk, audit_log, **access)["request"]["scopes"] == kept


def test_decision_commitments_of_one_patient_differ_from_entry_to_entry(
    make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    for _ in range(2):
        answer(body, desk.services[0], CALLER, desk)
    first, second = (json.loads(audit_log.entry(LeafIndex(index))) for index in range(2))
    assert first["patient"] != second["patient"]
    assert first["inputs"]["commitment"] != second["inputs"]["commitment"]


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every single value of a leaf by its path."""
    if isinstance(value, dict):
        return {at: one for key, part in value.items() for at, one in _leaves(part, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {at: one for number, part in enumerate(value) for at, one in _leaves(part, f"{path}/{number}").items()}
    return {path: value}


def _decide(desk: Desk, patient_id: str, hook_instance: str) -> None:
    """One decision for a client that takes system actions; all patients have the same data."""
    context = {"userId": "Practitioner/canary-user", "patientId": patient_id}
    body = patients.encoded(
        patients.call(patients.prefetch(NOW, patient_id), hookInstance=hook_instance, context=context)
    )
    answer(body, desk.services[0], caller(takes_system_actions=True), desk)


def test_decision_leaves_of_one_patient_cannot_be_linked(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    """What two leaves of one patient have in common, a leaf of another patient with the same data has too."""
    desk = make_desk(new_uuid=lambda: str(uuid.uuid4()))
    _decide(desk, "p1", "free text")
    _decide(desk, "p1", "free text")
    _decide(desk, "p2", "free text")
    first, second, other = (_leaves(json.loads(audit_log.entry(LeafIndex(index)))) for index in range(3))
    for path in (
        "/patient",
        "/request/body",
        "/request/hook_instance",
        "/inputs/commitment",
        "/explanation/commitment",
        "/cards/0/text",
        "/cards/0/uuid",
        "/system_actions/0",
        "/payload/sha256",
    ):
        assert len({leaf[path] for leaf in (first, second, other)}) == 3, path
    timings = {path for path in first if path.startswith("/latency_us")}
    shared = {path for path in first if first[path] == second.get(path)} - timings
    assert shared == {path for path in first if first[path] == other.get(path)} - timings
    mine = {str(value) for path, value in first.items() if path not in shared | timings}
    theirs = {str(value) for path, value in second.items() if path not in shared | timings}
    assert not mine & theirs


def test_decision_leaf_is_under_the_patients_key(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    leaf = _leaf(make_desk, audit_log, hookInstance="canary words")
    key = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert key is not None
    assert leaf["patient"] == key.commitment(leaf["id"])
    assert leaf["request"]["hook_instance"] == "hmac:" + key.commit(leaf["id"], "hook-instance", b"canary words")
    (card,) = msgspec.msgpack.decode(audit_log.payload(LeafIndex(0)), type=ReplayPayload).cards
    text = f"{card['summary']}\n{card['detail']}".encode()
    assert leaf["cards"][0]["text"] == key.commit(leaf["id"], "card", text)
    stored = audit_log.storage.payload(LeafIndex(0))
    assert stored is not None
    assert stored.key_ref == key.ref
    assert leaf["payload"]["key_id"] == desk.books[TENANT].log.keys.wrapper.key_id


@pytest.mark.parametrize("user", [f"Patient/{patients.PATIENT_ID}", "RelatedPerson/canary-mother"])
def test_decision_asked_for_by_the_patient_or_a_relative_is_under_the_patients_key(
    user: str, make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    """Once a digest under the index key: the same in all of the patient's entries, and guessable after an erasure."""
    context = {"userId": user, "patientId": patients.PATIENT_ID}
    body = patients.encoded(patients.call(patients.prefetch(NOW), context=context))
    desk = make_desk()
    for _ in range(2):
        answer(body, desk.services[0], CALLER, desk)
    leaves = [json.loads(audit_log.entry(LeafIndex(index))) for index in range(2)]
    first, second = (leaf["requester"]["practitioner"] for leaf in leaves)
    assert first != second
    assert first != keyed_digest(audit_log.keys.index_key, "practitioner", user.encode())
    key = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert key is not None
    assert first == key.commit(leaves[0]["id"], "user", user.encode())
    assert leaves[0]["requester"]["role"] == user.partition("/")[0]


@pytest.mark.parametrize("user", ["Practitioner/p1", "PractitionerRole/p1"])
def test_decision_asked_for_by_staff_has_the_same_digest_for_every_patient(
    user: str, make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    leaf = _leaf(make_desk, audit_log, context={"userId": user, "patientId": patients.PATIENT_ID})
    expected = keyed_digest(audit_log.keys.index_key, "practitioner", user.encode())
    assert leaf["requester"]["practitioner"] == expected


def test_decision_after_an_erasure_is_of_nobody_known(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk(new_uuid=lambda: str(uuid.uuid4()))
    _decide(desk, "p1", patients.HOOK_INSTANCE)
    before = audit_log.vault.find(patient_subject("p1"))
    assert before is not None
    audit_log.vault.store.destroy_keys([before.ref], format_time(NOW))
    _decide(desk, "p1", patients.HOOK_INSTANCE)
    second = json.loads(audit_log.entry(LeafIndex(1)))
    after = audit_log.vault.find(patient_subject("p1"))
    assert after is not None
    assert after.ref != before.ref
    assert second["patient"] == after.commitment(second["id"]) != before.commitment(second["id"])
    assert msgspec.msgpack.decode(audit_log.payload(LeafIndex(1)), type=ReplayPayload).patient_id == "p1"
    with pytest.raises(ErasedError):
        audit_log.payload(LeafIndex(0))


def test_decision_payload_holds_what_replay_needs(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    (card,) = json.loads(answer(body, desk.services[0], CALLER, desk))["cards"]
    payload = msgspec.msgpack.decode(audit_log.payload(LeafIndex(0)), type=ReplayPayload)
    assert (payload.schema, payload.patient_id, payload.as_of) == ("bedside-replay/1", patients.PATIENT_ID, NOW)
    assert payload.cards == (card,)
    assert payload.answer is not None
    assert len(payload.evidence) == len(payload.slots) == 13


def test_decision_payload_without_answer_keeps_the_reasons(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW) | {"cholesterol": None}))
    answer(body, desk.services[0], CALLER, desk)
    payload = msgspec.msgpack.decode(audit_log.payload(LeafIndex(0)), type=ReplayPayload)
    assert payload.answer is None
    assert [reason.evidence for reason in payload.abstention] == ["total_cholesterol", "hdl_cholesterol"]


def test_decision_without_an_answer_is_found_with_its_patient_all_the_same(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    """A model that failed, and data that could not be had: whose decision it was is in the payload, under the patient's key."""

    def failing(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    desk = make_desk(models={"prevent_cvd": replace(prevent, interpret=failing)})
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    cards = tuple(json.loads(answer(body, desk.services[0], CALLER, desk))["cards"])
    with pytest.raises(MissingDataError):
        answer(patients.encoded(patients.call({})), desk.services[0], CALLER, desk)
    for index, shown in enumerate((cards, ())):
        payload = msgspec.msgpack.decode(audit_log.payload(LeafIndex(index)), type=UnansweredPayload)
        assert payload == UnansweredPayload(as_of=NOW, patient_id=patients.PATIENT_ID, cards=shown, shown=True)
    key = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert key is not None
    assert audit_log.storage.payloads_under(key.ref) == [0, 1]


@given(
    st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|u1"]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 2**32 - 1),
)
def test_decision_stored_array_packs_and_unpacks_bit_for_bit(dtype: str, shape: tuple[int, ...], seed: int) -> None:
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    array = np.frombuffer(np.random.default_rng(seed).bytes(size), dtype=dtype).reshape(shape)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(StoredArray.pack(array)), type=StoredArray).unpack()
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())
