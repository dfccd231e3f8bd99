import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.codes import RXNORM
from fhir_adapters.mappings.draft_order import DraftOrder, read_draft, read_drafts
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

WARFARIN = {"coding": [{"system": RXNORM, "code": "11289", "display": "warfarin"}], "text": "Warfarin 5 mg"}


def _draft(**members: Any) -> DraftOrder | None:
    document = {"resourceType": "MedicationRequest", "id": "d1", "status": "draft", **members}
    return read_draft(json.dumps(document).encode(), selected=True)


def test_draft_order_gives_the_drug_and_its_dosages() -> None:
    draft = _draft(medicationCodeableConcept=WARFARIN, dosageInstruction=[{"text": "5 mg daily"}])
    assert draft is not None
    assert (draft.reference, draft.text, draft.remarks) == ("MedicationRequest/d1", "Warfarin 5 mg", ("5 mg daily",))
    assert [code.code for code in draft.codes] == ["11289"]
    assert draft.dosages is not None
    assert len(draft.dosages) == 1


def test_draft_order_finds_the_drug_in_a_contained_medication() -> None:
    draft = _draft(
        contained=[{"resourceType": "Medication", "id": "m", "code": WARFARIN}], medicationReference={"reference": "#m"}
    )
    assert draft is not None
    assert draft.text == "Warfarin 5 mg"


def test_draft_order_whose_dosage_cannot_be_read_keeps_its_drug() -> None:
    draft = _draft(medicationCodeableConcept=WARFARIN, dosageInstruction="once a day")
    assert draft is not None
    assert (draft.text, draft.dosages) == ("Warfarin 5 mg", None)


@pytest.mark.parametrize(
    "members",
    [{"status": "cancelled"}, {"status": "entered-in-error"}, {"doNotPerform": True}, {"resourceType": "Task"}],
)
def test_draft_order_that_orders_no_drug_is_none(members: dict[str, Any]) -> None:
    assert _draft(medicationCodeableConcept=WARFARIN, **members) is None


@given(st.binary(max_size=200))
def test_draft_order_reader_never_raises(document: bytes) -> None:
    assert read_draft(document, selected=False) is None or document.startswith(b"{")


@pytest.mark.parametrize(("second", "dosages"), [("5 mg", 1), ("10 mg", None)])
def test_draft_order_sent_twice_counts_once_or_is_unclear(second: str, dosages: int | None) -> None:
    copies = [
        json.dumps({"resourceType": "MedicationRequest", "id": "d", "dosageInstruction": [{"text": text}]}).encode()
        for text in ("5 mg", second)
    ]
    (draft,) = read_drafts((copy, True) for copy in copies)
    assert (None if draft.dosages is None else len(draft.dosages)) == dosages


def test_draft_orders_are_no_drugs_that_the_patient_takes() -> None:
    document = json.dumps(
        {"resourceType": "MedicationRequest", "status": "active", "medicationCodeableConcept": WARFARIN}
    )
    record = build_record(PatientId("p"), [], drafts=[(document.encode(), False)])
    assert record.medications == ()
    assert [(draft.text, draft.selected) for draft in record.drafts] == [("Warfarin 5 mg", False)]
