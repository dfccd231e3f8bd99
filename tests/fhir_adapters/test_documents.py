import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.documents import read_documents
from fhir_adapters.reasons import Reason
from fhir_adapters.record import build_record
from fhir_adapters.resources import Condition, Observation, Patient, PatientId

Make = Callable[..., dict[str, Any]]


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def bundle(*entries: object) -> bytes:
    return encode({"resourceType": "Bundle", "type": "searchset", "entry": list(entries)})


@pytest.mark.parametrize(
    "document",
    [
        b"null",
        encode({"resourceType": "Bundle", "type": "searchset", "total": 0}),
        encode({"resourceType": "Bundle", "type": "searchset", "entry": None}),
        bundle({"resource": None}, {"fullUrl": "urn:uuid:1"}, {"search": {"mode": "match"}}),
        encode({"response": {"status": "200 OK"}, "resource": None}),
    ],
)
def test_documents_empty_answers_are_no_error(document: bytes) -> None:
    located, set_aside = read_documents([document])
    assert not located.by_type
    assert not set_aside


def test_documents_opens_nested_bundles(observation: Make) -> None:
    inner = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": observation()}]}
    located, _ = read_documents([bundle({"resource": inner})])
    assert len(located.of(Observation)) == 1


def test_documents_opens_the_envelope_of_early_clients(fixture_bytes: Callable[[str], bytes]) -> None:
    request = json.loads(fixture_bytes("cds-hooks-examples/request-HelloWorld.json"))
    located, set_aside = read_documents([encode(request["prefetch"]["item1"])])
    assert [patient.birth_date for patient, _ in located.of(Patient)] == ["1982-01-07"]
    assert not set_aside


def test_documents_outcome_entry_with_a_warning_is_no_failure() -> None:
    warning = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "processing"}]}
    assert read_documents([bundle({"resource": warning, "search": {"mode": "outcome"}})])[1] == []


def test_documents_outcome_error_is_set_aside_with_its_code() -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "forbidden", "diagnostics": "Jane"}],
    }
    (aside,) = read_documents([encode(outcome)])[1]
    assert (aside.reason, aside.detail) == (Reason.OPERATION_OUTCOME, "forbidden")


def test_documents_one_unreadable_entry_costs_only_itself(observation: Make) -> None:
    broken = observation(id="bad", valueQuantity={"value": "6.3"})
    located, set_aside = read_documents([bundle({"resource": broken}, {"resource": observation()}, 7)])
    assert [item.id for item, _ in located.of(Observation)] == ["o1"]
    assert [(a.resource_type, a.reference, a.reason) for a in set_aside] == [
        ("Observation", "Observation/bad", Reason.UNREADABLE),
        ("unknown", None, Reason.UNREADABLE),
    ]


def test_documents_unread_types_cost_nothing_even_when_odd() -> None:
    located, set_aside = read_documents([bundle({"resource": {"resourceType": "Procedure", "code": 7, "status": []}})])
    assert not located.of(Condition)
    assert not set_aside


def test_documents_type_of_another_fhir_version_is_set_aside() -> None:
    (aside,) = read_documents([encode({"resourceType": "MedicationOrder", "id": "1"})])[1]
    assert (aside.resource_type, aside.reference) == ("MedicationOrder", "MedicationOrder/1")


@pytest.mark.parametrize("document", [b"", b"{", b'{"resourceType":"Bundle","entry":[', b"\xff\xfe", b"<html>"])
def test_documents_truncated_or_foreign_text_is_set_aside(document: bytes) -> None:
    located, set_aside = read_documents([document])
    assert not located.by_type
    assert [a.reason for a in set_aside] == [Reason.NOT_JSON]


def test_documents_free_text_where_a_name_belongs_stays_out() -> None:
    (aside,) = read_documents([encode({"resourceType": "Jane Doe, born 1960", "id": "<b>"})])[1]
    assert (aside.resource_type, aside.reference) == ("unknown", None)


def test_documents_deep_nesting_is_set_aside() -> None:
    deep = b'{"resourceType":"Bundle","entry":[{"resource":' * 5000 + b"null" + b"}]}" * 5000
    assert read_documents([deep])[1]


MEMBERS = """
resourceType entry resource id status code coding system subject reference fullUrl component valueQuantity value
effectiveDateTime period class medicationReference contained
"""
KEYS = st.sampled_from(MEMBERS.split())
WORDS = st.sampled_from(
    ["Bundle", "Observation", "Patient", "Condition", "Encounter", "MedicationRequest", "Patient/p", "#m", "p"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(JSON)
def test_documents_arbitrary_json_never_raises(value: object) -> None:
    record = build_record(PatientId("p"), [encode(value)])
    record.read_observations(frozenset(key for key in record._index if key[1] is not None))  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_documents_arbitrary_bytes_never_raise(body: bytes) -> None:
    build_record(PatientId("p"), [body])
