from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.decision import ReplayPayload, StoredArray
from cds_service.pipeline import answer
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, MakeDesk

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
    digests_removed = " ".join(part for part in text.replace('"', " ").split() if len(part) < 40)
    for canary in CANARIES:
        assert canary not in digests_removed


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
