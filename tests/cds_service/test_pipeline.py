from __future__ import annotations

import fcntl
import json
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.storage.vault_store import Rewrapped
from audit.verify import Trust, verify_receipt
from cds_service.cards import present_failure
from cds_service.desk import Quiet
from cds_service.errors import BadRequestError, MissingDataError, NotRecordedError
from cds_service.pipeline import Desk, answer
from cds_service.response import RECEIPT_KEY
from fhir_adapters.queries import Query
from fhir_adapters.record import PatientRecord
from model_artifacts.inputs import InputSpec, ModelInputs
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, MakeDesk


@dataclass(frozen=True, slots=True)
class FailingInputs:
    """Asks as the real one does and then fails, with a patient's name in the error's text."""

    real: InputSpec

    def queries(self) -> tuple[Query, ...]:
        return self.real.queries()

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        raise ZeroDivisionError(patients.CANARY_NAME)


@dataclass(frozen=True, slots=True)
class InfiniteInputs:
    """The real tensors with infinity in them: the graph runs, and its answer must not be shown."""

    real: InputSpec

    def queries(self) -> tuple[Query, ...]:
        return self.real.queries()

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        inputs = self.real.extract(record, as_of)
        return replace(inputs, arrays={name: np.full_like(array, np.inf) for name, array in inputs.arrays.items()})


def _body(**changes: Any) -> bytes:
    return patients.encoded(patients.call(patients.prefetch(NOW) | changes))


def _answer(desk: Desk, body: bytes | None = None) -> dict[str, Any]:
    answered: dict[str, Any] = json.loads(answer(_body() if body is None else body, desk.services[0], CALLER, desk))
    return answered


def _entry(log: AuditLog, index: int = 0) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(log.entry(LeafIndex(index)))
    return entry


def test_pipeline_answers_with_a_card_that_was_recorded_before(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    answered = _answer(make_desk())
    (card,) = answered["cards"]
    receipt = answered["extension"][RECEIPT_KEY]
    entry = _entry(audit_log, receipt["index"])
    assert card["summary"].startswith("10-year risk of cardiovascular disease: 1")
    assert patients.empty_members(answered) == []
    assert (entry["id"], entry["status"]) == (receipt["entryId"], "answered")
    assert [shown["uuid"] for shown in entry["cards"]] == [card["uuid"]]
    assert entry["latency_us"].keys() == {"parse", "key", "gather", "assess", "present"}


def test_pipeline_receipt_verifies_with_the_public_key_alone(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    proof = _answer(make_desk())["extension"][RECEIPT_KEY]["proof"]
    report = verify_receipt(proof.encode(), Trust((audit_log.keys.signer.verifier_key,)), audit_log.entry(LeafIndex(0)))
    assert report.index == 0


def test_pipeline_same_call_gives_the_same_card_and_fresh_uuids(make_desk: MakeDesk) -> None:
    desk = make_desk()
    (first,), (second,) = _answer(desk)["cards"], _answer(desk)["cards"]
    assert first["uuid"] != second["uuid"]
    assert {k: v for k, v in first.items() if k not in ("uuid", "suggestions")} == {
        k: v for k, v in second.items() if k not in ("uuid", "suggestions")
    }


def test_pipeline_an_abstention_is_a_card_with_its_reason(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    (card,) = _answer(make_desk(), _body(cholesterol=None))["cards"]
    assert "not calculated" in card["summary"]
    assert "Total cholesterol: not in the data received" in card["detail"]
    entry = _entry(audit_log)
    assert (entry["status"], entry["output"]["band"]) == ("abstained", None)
    assert set(entry["abstention"]) == {"input-missing"}


@pytest.mark.parametrize("inputs", [FailingInputs, InfiniteInputs])
def test_pipeline_a_model_that_fails_is_said_and_recorded(
    inputs: Any,
    make_desk: MakeDesk,
    prevent: ReleasedModel,
    audit_log: AuditLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = make_desk(models={"prevent_cvd": replace(prevent, inputs=inputs(prevent.inputs))})
    with caplog.at_level(logging.ERROR, "bedside.pipeline"):
        answered = _answer(desk)
    (card,) = answered["cards"]
    expected = present_failure(prevent.manifest, lambda: card["uuid"]).to_json()
    assert card == expected
    entry = _entry(audit_log)
    assert (entry["status"], entry["output"], entry["inputs"]) == ("failed", None, None)
    assert entry["model"]["artefact"] == prevent.identity.artifact_sha256
    assert [record.message for record in caplog.records] == ["model failed"]
    assert patients.CANARY_NAME not in caplog.text


def test_pipeline_a_finding_that_makes_no_card_is_said_and_recorded(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    """Once a 500 without a log entry: the card was made outside of the border around a model."""

    def unpresentable(*arguments: Any) -> Any:
        return replace(prevent.interpret(*arguments), proposals=("no proposal",))

    desk = make_desk(models={"prevent_cvd": replace(prevent, interpret=unpresentable)})
    (card,) = _answer(desk)["cards"]
    assert card["summary"].endswith("not available: the model failed")
    assert _entry(audit_log)["status"] == "failed"


def test_pipeline_one_failing_model_leaves_the_other_services_alone(
    make_desk: MakeDesk, prevent: ReleasedModel
) -> None:
    desk = make_desk(
        models={"a": replace(prevent, inputs=FailingInputs(prevent.inputs)), "b": prevent},
    )
    failed, fine = (json.loads(answer(_body(), service, CALLER, desk))["cards"][0] for service in desk.services)
    assert "the model failed" in failed["summary"]
    assert "%" in fine["summary"]


def test_pipeline_missing_data_is_recorded_before_it_is_refused(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    with pytest.raises(MissingDataError):
        answer(patients.encoded(patients.call({"hba1c": None})), desk.services[0], CALLER, desk)
    entry = _entry(audit_log)
    assert (entry["status"], entry["cards"], entry["output"]) == ("missing-data", [], None)
    keys = [query.name for query in desk.services[0].queries]
    assert entry["request"]["prefetch_present"] == ["hba1c"]
    assert entry["request"]["prefetch_failed"] == [key for key in keys if key != "hba1c"]


def test_pipeline_a_call_that_is_none_is_not_recorded(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    with pytest.raises(BadRequestError):
        answer(b"{}", desk.services[0], CALLER, desk)
    assert audit_log.checkpoint().splitlines()[1] == b"0"


def test_pipeline_refuses_another_hook_than_the_services(make_desk: MakeDesk) -> None:
    desk = make_desk()
    other = replace(desk.services[0], hooks=("order-sign", "order-select"))
    with pytest.raises(BadRequestError, match=r"^hook: expected order-sign or order-select for service prevent-cvd$"):
        answer(_body(), other, CALLER, desk)


def test_pipeline_shows_nothing_once_the_log_is_closed(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    audit_log.close()
    with pytest.raises(NotRecordedError, match=r"^the decision could not be recorded, so no advice is shown$"):
        _answer(desk)


def test_pipeline_shows_nothing_if_the_log_cannot_be_written(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    database = audit_log.config.directory / "log.sqlite3"
    database.write_bytes(b"\x00" * database.stat().st_size)  # a broken disk, for root too
    with pytest.raises(NotRecordedError):
        _answer(desk)


def test_pipeline_shows_nothing_if_the_log_is_not_durable_in_time(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    config = replace(audit_log.config, deadline_s=0.2)
    log = AuditLog.open(config, clock=lambda: NOW)
    with (config.directory / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process that holds the log and does not let go
        try:
            with pytest.raises(NotRecordedError):
                _answer(make_desk(log=log))
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            log.close()


def test_pipeline_shows_nothing_while_the_vault_cannot_be_read_and_says_so_afterwards(
    make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    desk, vault = make_desk(), audit_log.config.directory / "vault.sqlite3"
    aside = vault.with_name("aside")
    vault.rename(aside)
    for _ in range(2):
        with pytest.raises(NotRecordedError, match=r"^the decision could not be recorded, so no advice is shown$"):
            _answer(desk)
    aside.rename(vault)
    assert list(audit_log.entries()) == []
    _answer(desk)
    gap, decision = (_entry(audit_log, index) for index in range(2))
    assert (gap["_t"], gap["reason"], gap["unacknowledged"]) == ("gap/v1", "not-made", 2)
    assert decision["status"] == "answered"


def test_pipeline_shows_nothing_where_the_patients_key_was_altered(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    _answer(desk)
    (stored,) = audit_log.vault.store.keys_not_under("")
    altered = Rewrapped(stored.key_ref, stored.wrapped, stored.wrapped[:-1] + bytes([stored.wrapped[-1] ^ 1]))
    audit_log.vault.store.replace_wrapped([altered], stored.wrapping_key)
    with pytest.raises(NotRecordedError):
        _answer(desk)
    assert len(list(audit_log.entries())) == 1


def test_pipeline_asks_the_vault_once(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    """The key's life is the call's: the answer comes from what the vault said at its beginning, and it isn't kept after."""
    desk, asked = make_desk(quiet=Quiet(timedelta(hours=1), per_user=True)), []
    _answer(desk)
    connection = audit_log.vault.store._reader  # type: ignore[attr-defined]
    connection.set_profile(lambda statement, _nanoseconds: asked.append(statement))
    for _ in range(3):
        _answer(desk)
    assert len([statement for statement in asked if "patient_keys" in statement]) == 3


def test_pipeline_leaves_no_model_page_out_of_nothing(make_desk: MakeDesk) -> None:
    desk = replace(make_desk(), model_page=lambda _model_id: None)
    assert "links" not in _answer(desk)["cards"][0]


def test_pipeline_smart_link_only_where_an_app_is_configured(make_desk: MakeDesk) -> None:
    desk = make_desk(smart_launch_url="https://app.example.org/launch")
    answered = _answer(desk)
    smart = answered["cards"][0]["links"][0]
    assert smart["type"] == "smart"
    assert json.loads(smart["appContext"])["entryId"] == answered["extension"][RECEIPT_KEY]["entryId"]


def _infarction(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "mi",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "22298006"}]},
        "subject": {"reference": f"Patient/{patients.PATIENT_ID}"},
        **changes,
    }


ERROR = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}


@pytest.mark.parametrize("key", ["conditions", "active_medications"])
@pytest.mark.parametrize(
    ("prefetched", "refused"),
    [
        (patients.bundle(ERROR), True),
        (patients.bundle(patients.diabetes(), ERROR), True),
        ({"resourceType": "Bundle", "entry": "x"}, False),
        (patients.bundle(_infarction(subject=None)), False),
        (patients.bundle(_infarction(code={"coding": {"code": "22298006"}})), False),
        (patients.bundle(_infarction(subject={"reference": "Patient/somebody-else"})), False),
        ({"resourceType": "Bundle", "type": "searchset", "total": 14}, False),
        (patients.bundle(next_page=True), False),
    ],
    ids=[
        "error",
        "part and error",
        "no entries",
        "no subject",
        "unreadable",
        "another's",
        "total without entries",
        "page",
    ],
)
def test_pipeline_what_was_not_read_of_diagnoses_and_drugs_is_not_taken_for_none(
    key: str, prefetched: dict[str, Any], refused: bool, make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    """Each of these once gave a risk as if there were no diagnosis and no drug."""
    desk, body = make_desk(), _body(**{key: prefetched})
    if refused:
        with pytest.raises(MissingDataError) as raised:
            answer(body, desk.services[0], CALLER, desk)
        assert raised.value.keys == (key,)
        return
    (card,) = _answer(desk, body)["cards"]
    assert "not calculated" in card["summary"]
    assert f"{key.replace('_', ' ').capitalize()}: could not be received or read completely" in card["detail"]
    assert _entry(audit_log)["abstention"] == ["record-incomplete"]


def test_pipeline_diagnoses_without_a_code_are_looked_at_by_their_words_or_told(make_desk: MakeDesk) -> None:
    known = _infarction(code={"text": "Old myocardial infarction"})
    (card,) = _answer(make_desk(), _body(conditions=patients.bundle(known)))["cards"]
    assert card["summary"].endswith("not calculated: cardiovascular disease is already known")
    other = _infarction(code={"text": "something else"})
    (card,) = _answer(make_desk(), _body(conditions=patients.bundle(other)))["cards"]
    assert "- Diabetes: 1 of the diagnoses could not be looked up, as no code was sent" in card["detail"]


def test_pipeline_a_model_without_business_here_says_nothing_and_is_recorded(
    make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    stay = {
        "resourceType": "Encounter",
        "id": "e",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{patients.PATIENT_ID}"},
        "period": {"start": "2020-01-01T00:00:00Z"},
    }
    answered = _answer(make_desk(), _body(current_encounters=patients.bundle(stay)))
    assert answered["cards"] == []
    entry = _entry(audit_log, answered["extension"][RECEIPT_KEY]["index"])
    assert (entry["status"], entry["abstention"], entry["cards"]) == (
        "abstained",
        ["outside-population:no-hospital-stay"],
        [],
    )


def test_pipeline_a_fault_while_gathering_is_recorded(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    desk = replace(make_desk(), fetch=broken)
    body = patients.encoded(patients.call(None, **patients.fhir_access("https://fhir.example.org/r4")))
    with pytest.raises(ZeroDivisionError):
        answer(body, desk.services[0], CALLER, desk)
    assert _entry(audit_log)["status"] == "failed"
