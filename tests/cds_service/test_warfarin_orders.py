"""From a hook's draft order to a suggestion that changes it, and back through the log: with the released model, in-process."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.medicationrequest import MedicationRequest

from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.decision import ReplayPayload
from cds_service.errors import MissingDataError
from cds_service.pipeline import answer
from cds_service.replay import read_recorded, replay
from cds_service.services import find_service
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, caller
from tests.conftest import MakeDesk
from tests.model_artifacts.warfarin_dose.people import bundle

Models = dict[str, ReleasedModel]
KEYS = ("conditions", "active_medications", "body_height", "body_weight", "smoking_status", "genotypes")


def _body(case: str, hook: str = "order-sign", *, selected: bool = True, **draft_changes: Any) -> bytes:
    """A call whose prefetch is an example's record, and whose draft order is the example's."""
    resources = [entry["resource"] for entry in bundle(case)["entry"]]
    drafts = [item | draft_changes for item in resources if item.get("status") == "draft"]
    others = [item for item in resources if item.get("status") != "draft"]
    context = {
        "userId": "Practitioner/canary-user",
        "patientId": "p",
        "draftOrders": patients.bundle(*drafts),
        "selections": [f"MedicationRequest/{item['id']}" for item in drafts]
        if selected
        else ["MedicationRequest/other"],
    }
    person = next(item for item in others if item["resourceType"] == "Patient")
    prefetch = {"patient": person} | {key: patients.bundle(*_of(key, others)) for key in KEYS}
    return patients.encoded(patients.call(prefetch, hook=hook, context=context))


def _of(key: str, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kind = {"conditions": "Condition", "active_medications": "MedicationRequest"}.get(key, "Observation")
    return [item for item in resources if item["resourceType"] == kind]


def _answer(make_desk: MakeDesk, body: bytes, **client: Any) -> dict[str, Any]:
    desk = make_desk()
    service = find_service(desk.services, "warfarin-dose")
    answered: dict[str, Any] = json.loads(answer(body, service, caller(**client) if client else CALLER, desk))
    return answered


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
def test_warfarin_orders_outside_the_interval_can_be_changed_by_accepting(hook: str, make_desk: MakeDesk) -> None:
    (card,) = _answer(make_desk, _body("draft-too-high", hook))["cards"]
    (suggestion,) = card["suggestions"]
    (action,) = suggestion["actions"]
    sent = next(e["resource"] for e in bundle("draft-too-high")["entry"] if e["resource"].get("status") == "draft")
    (dosage,) = action["resource"].pop("dosageInstruction")
    assert card["indicator"] == "warning"
    assert action["type"] == "update"
    assert action["resource"] == {name: value for name, value in sent.items() if name != "dosageInstruction"}
    assert dosage["timing"] == {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}
    assert 0 < dosage["doseAndRate"][0]["doseQuantity"]["value"] < 7.5
    MedicationRequest.model_validate(action["resource"] | {"dosageInstruction": [dosage]})


def test_warfarin_orders_within_the_interval_are_left_alone(make_desk: MakeDesk) -> None:
    (card,) = _answer(make_desk, _body("genotypes-known"))["cards"]
    assert card["indicator"] == "info"
    assert "suggestions" not in card


def test_warfarin_orders_that_make_no_valid_order_are_not_changed(make_desk: MakeDesk) -> None:
    (card,) = _answer(make_desk, _body("draft-too-high", intent=None))["cards"]
    assert card["indicator"] == "warning"
    assert "suggestions" not in card


@pytest.mark.parametrize(
    "body",
    [_body("not-warfarin"), _body("draft-too-high", "order-select", selected=False)],
    ids=["other drug", "not selected"],
)
def test_warfarin_orders_are_all_that_it_speaks_of(body: bytes, make_desk: MakeDesk, audit_log: AuditLog) -> None:
    assert _answer(make_desk, body)["cards"] == []
    entry = json.loads(audit_log.entry(LeafIndex(0)))
    assert (entry["status"], entry["abstention"]) == ("abstained", ["outside-population:drafted-drug"])


def test_warfarin_orders_of_another_drug_need_nothing_of_the_patient(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    call = json.loads(_body("not-warfarin"))
    del call["prefetch"]
    assert _answer(make_desk, json.dumps(call).encode())["cards"] == []
    entry = json.loads(audit_log.entry(LeafIndex(0)))
    assert (entry["abstention"], entry["request"]["prefetch_missing"]) == (["outside-population:drafted-drug"], [])


def test_warfarin_orders_need_what_the_dose_needs(make_desk: MakeDesk) -> None:
    call = json.loads(_body("genotypes-known"))
    del call["prefetch"]["conditions"]
    with pytest.raises(MissingDataError, match="conditions"):
        _answer(make_desk, json.dumps(call).encode())


def test_warfarin_orders_card_says_milligrams_and_no_percentage_points(make_desk: MakeDesk) -> None:
    (card,) = _answer(make_desk, _body("genotypes-known"))["cards"]
    assert "mg/week" in card["summary"]
    assert "percentage points" not in card["detail"]
    assert " it by " in card["detail"]


def test_warfarin_orders_file_no_risk_assessment(make_desk: MakeDesk) -> None:
    assert "systemActions" not in _answer(make_desk, _body("genotypes-known"), takes_system_actions=True)


@pytest.mark.parametrize(
    "case", ["genotypes-known", "draft-too-high", "no-genotypes", "dose-in-words", "weight-missing"]
)
def test_warfarin_orders_decisions_are_reproduced_from_the_log(
    case: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    _answer(make_desk, _body(case))
    recorded = read_recorded(audit_log, LeafIndex(0))
    assert recorded is not None
    report = replay(recorded, models)
    assert (report.outcome, report.differs) == ("reproduced", ())
    stored = msgspec.msgpack.decode(recorded.payload, type=ReplayPayload)
    assert list(stored.drafts) == (["MedicationRequest/draft-1"] if case == "draft-too-high" else [])
