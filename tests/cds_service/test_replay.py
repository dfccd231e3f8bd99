from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.decision import ReplayPayload
from cds_service.pipeline import answer
from cds_service.replay import replay
from model_artifacts.archive import find_kept, keep_model
from model_artifacts.manifest import Sha256
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, MakeDesk

Models = dict[str, ReleasedModel]

CASES: dict[str, dict[str, Any]] = {
    "estimate": {},
    "too few inputs": {"cholesterol": None},
    "gaps": {"hba1c": patients.bundle(patients.observation(9, "4548-4", 6.0, "%", NOW, "somebody-else"))},
    "incomplete diagnoses": {"conditions": patients.bundle(patients.diabetes("somebody-else"))},
    "outside the population": {"patient": patients.patient() | {"birthDate": "2010"}},
}


def _recorded(make_desk: MakeDesk, log: AuditLog, case: str = "estimate") -> bytes:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW) | CASES[case]))
    answer(body, desk.services[0], CALLER, desk)
    return log.payload(LeafIndex(0))


def _changed(payload: bytes, **changes: Any) -> bytes:
    stored = msgspec.msgpack.decode(payload, type=ReplayPayload)
    return msgspec.msgpack.encode(msgspec.structs.replace(stored, **changes))


@pytest.mark.parametrize("case", CASES)
def test_replay_reproduces(case: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    report = replay(_recorded(make_desk, audit_log, case), models)
    assert report.outcome == "reproduced"
    assert report.recorded_answer == report.repeated_answer
    assert (report.recorded_answer is None) == (case not in ("estimate", "gaps"))


@pytest.mark.parametrize("member", ["summary", "detail", "indicator"])
def test_replay_tells_a_card_that_was_changed(
    member: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    payload = _recorded(make_desk, audit_log)
    (card,) = msgspec.msgpack.decode(payload, type=ReplayPayload).cards
    report = replay(_changed(payload, cards=({**card, member: card[member] + "x"},)), models)
    assert report.outcome == "card-differs"


def test_replay_tells_a_gap_that_was_taken_off(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    payload = _recorded(make_desk, audit_log, "gaps")
    assert replay(_changed(payload, gaps=()), models).outcome == "card-differs"


def test_replay_tells_a_tensor_that_was_changed(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    payload = _recorded(make_desk, audit_log)
    (name, array), *_ = msgspec.msgpack.decode(payload, type=ReplayPayload).arrays.items()
    one_bit = bytes([array.data[0], array.data[1] ^ 0x40, *array.data[2:]])
    report = replay(_changed(payload, arrays={name: msgspec.structs.replace(array, data=one_bit)}), models)
    assert report.outcome == "answer-differs"
    assert report.repeated_answer != report.recorded_answer


@pytest.mark.parametrize("digest", ["artifact_sha256", "manifest_sha256"])
def test_replay_says_that_the_model_changed(
    digest: str, make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel
) -> None:
    payload = _recorded(make_desk, audit_log)
    other = replace(prevent, identity=replace(prevent.identity, **{digest: "0" * 64}))
    assert replay(payload, {"prevent_cvd": other}).outcome == "model-changed"


def test_replay_repeats_the_answer_of_a_version_that_was_kept(
    make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    payload = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    newer = replace(prevent, identity=replace(prevent.identity, manifest_sha256=Sha256("0" * 64)))
    for models in ({"prevent_cvd": newer}, {}):
        report = replay(payload, models, partial(find_kept, tmp_path))
        assert report.outcome == "answer-reproduced"
        assert report.repeated_answer == report.recorded_answer is not None


def test_replay_by_a_kept_version_tells_a_tensor_that_was_changed(
    make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    payload = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    (name, array), *_ = msgspec.msgpack.decode(payload, type=ReplayPayload).arrays.items()
    one_bit = bytes([array.data[0], array.data[1] ^ 0x40, *array.data[2:]])
    changed = _changed(payload, arrays={name: msgspec.structs.replace(array, data=one_bit)})
    assert replay(changed, {}, partial(find_kept, tmp_path)).outcome == "answer-differs"


def test_replay_says_that_the_model_is_unknown(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    assert replay(_recorded(make_desk, audit_log), {}).outcome == "model-unknown"


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xc1", b'{"schema": 1}'])
def test_replay_refuses_what_is_no_payload(payload: bytes, models: Models) -> None:
    with pytest.raises(msgspec.DecodeError):
        replay(payload, models)
