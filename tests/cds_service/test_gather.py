from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cds_service.errors import MissingDataError
from cds_service.gather import Fetched, Gathered, gather, key_state
from cds_service.request import FhirAuthorization, parse_hook_request
from fhir_adapters.codes import LOINC, Code
from fhir_adapters.errors import (
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamStatusError,
    UpstreamTooLargeError,
)
from fhir_adapters.queries import Query
from tests.cds_service import patients
from tests.conftest import NOW

FHIR = "https://fhir.example.org/r4"
CODE = Code(LOINC, "2093-3")
PERSON = Query("patient", "Patient", required=True)
DIAGNOSES = Query("conditions", "Condition", required=True)
LABS = Query("some_labs", "Observation", (CODE,), count=2)
QUERIES = (PERSON, DIAGNOSES, LABS)
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
FOUND: dict[str, Any] = {
    "patient": patients.patient(),
    "conditions": patients.bundle(patients.diabetes()),
    "some_labs": patients.bundle(patients.observation(1, "2093-3", 200.0, "mg/dL", NOW)),
}


class RecordingFetch:
    """A source of documents that remembers what it was asked for."""

    def __init__(self, **answers: Any) -> None:
        self.answers = FOUND | answers
        self.asked: list[Mapping[str, str]] = []
        self.tokens: list[FhirAuthorization | None] = []

    def __call__(self, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]) -> Fetched:
        assert server == FHIR
        self.asked.append(urls)
        self.tokens.append(token)
        return {key: self._answer(self.answers[key]) for key in urls}

    @staticmethod
    def _answer(answer: Any) -> Sequence[bytes] | FhirUpstreamError:
        return answer if isinstance(answer, FhirUpstreamError) else [patients.encoded(answer)]


def _gather(prefetched: dict[str, Any] | None, fetch: RecordingFetch | None = None, **access: Any) -> Gathered:
    server = {} if fetch is None else patients.fhir_access(FHIR, **access)
    request = parse_hook_request(patients.encoded(patients.call(prefetched, **server)))
    return gather(request, QUERIES, fetch or _nothing, NOW)


def _nothing(_server: str, _token: object, _urls: object) -> Fetched:
    pytest.fail("nothing was to be fetched")


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (None, "absent"),
        (b"null", "nothing found"),
        (b" null ", "nothing found"),
        (patients.encoded(FOUND["some_labs"]), "sent"),
        (patients.encoded(patients.bundle()), "sent"),
        (patients.encoded(patients.observation(1, "2093-3", 1.0, "mg/dL", NOW)), "sent"),
        (patients.encoded(OUTCOME), "error"),
        (b'{"resource": {"resourceType": "Bundle"}, "response": {}}', "sent"),
        (b'{"resource": {"resourceType": "OperationOutcome"}, "response": {}}', "error"),
        (b'{"resource": null, "response": {}}', "nothing found"),
        (b'"text"', "error"),
        (b"[]", "error"),
        (b"{}", "error"),
        (b'{"resourceType": 5}', "error"),
        (b'{"resourceType": "Patient"}', "error"),
    ],
)
def test_gather_key_state(document: bytes | None, state: str) -> None:
    assert key_state(document, LABS) == state


@pytest.mark.parametrize("size", [1, 400], ids=["small", "large"])
@pytest.mark.parametrize(
    ("query", "entries", "next_page", "state"),
    [
        (DIAGNOSES, 2, True, "part sent"),
        (DIAGNOSES, 2, False, "sent"),
        (LABS, 1, True, "part sent"),
        (LABS, 2, True, "sent"),
        (LABS, 1, False, "sent"),
    ],
)
def test_gather_a_page_with_another_behind_it_is_a_part_if_it_is_less_than_was_wanted(
    query: Query, entries: int, next_page: bool, state: str, size: int
) -> None:
    """Once the newest 100 results of a server with small pages passed for all of an intensive-care stay."""
    resource = patients.diabetes() | {"note": [{"text": "x" * 200}] * size}
    document = patients.encoded(patients.bundle(*[resource] * entries, next_page=next_page))
    assert key_state(document, query) == state


def test_gather_prefetch_alone_asks_nobody() -> None:
    gathered = _gather(FOUND)
    assert gathered.came.prefetched == ("patient", "conditions", "some_labs")
    assert (gathered.came.fetched, gathered.came.failed, gathered.came.fhir_origin, gathered.gaps) == ((), (), None, ())
    assert gathered.record.observation_count == 1
    assert len(gathered.record.conditions) == 1


def test_gather_fhir_alone_asks_everything_once_with_the_token() -> None:
    fetch = RecordingFetch()
    gathered = _gather(None, fetch)
    assert fetch.asked == [
        {
            "patient": f"Patient/{patients.PATIENT_ID}",
            "conditions": f"Condition?patient={patients.PATIENT_ID}",
            "some_labs": f"Observation?patient={patients.PATIENT_ID}&code=http%3A%2F%2Floinc.org%7C2093-3"
            "&_sort=-date&_count=2",
        }
    ]
    assert [token and token.access_token for token in fetch.tokens] == [patients.CANARY_TOKEN]
    assert gathered.came.fetched == ("patient", "conditions", "some_labs")
    assert gathered.came.fhir_origin == "https://fhir.example.org"


def test_gather_partial_prefetch_fetches_only_what_is_missing() -> None:
    fetch = RecordingFetch()
    gathered = _gather({key: FOUND[key] for key in ("patient", "some_labs")}, fetch)
    assert [list(urls) for urls in fetch.asked] == [["conditions"]]
    assert (gathered.came.prefetched, gathered.came.fetched) == (("patient", "some_labs"), ("conditions",))


@pytest.mark.parametrize("outcome", [OUTCOME, {"resourceType": "Bundle", "entry": [{"resource": OUTCOME}]}, "canary"])
def test_gather_an_error_as_the_servers_answer_is_a_failure(outcome: Any) -> None:
    """Status 200 and an OperationOutcome: once counted as fetched, and missing diagnoses were told as an abstention."""
    sent = {key: FOUND[key] for key in ("patient", "conditions")}
    gathered = _gather(sent, RecordingFetch(some_labs=outcome))
    assert (gathered.came.fetched, gathered.came.failed) == ((), ("some_labs",))
    with pytest.raises(MissingDataError) as caught:
        _gather({"patient": FOUND["patient"], "some_labs": None}, RecordingFetch(conditions=outcome))
    assert caught.value.keys == ("conditions",)
    assert str(caught.value).endswith("fhir answer: expected the resources asked for, got an error or something else")


def test_gather_null_is_an_answer_and_is_never_asked_again() -> None:
    fetch = RecordingFetch()
    gathered = _gather({"patient": FOUND["patient"], "conditions": None, "some_labs": None}, fetch)
    assert fetch.asked == []
    assert (gathered.came.failed, gathered.gaps) == ((), ())


def test_gather_null_for_the_patient_is_no_error() -> None:
    gathered = _gather({**FOUND, "patient": None})
    assert gathered.record.patient is None


@pytest.mark.parametrize("unusable", [OUTCOME, "text", 5, {"resourceType": "Patient"}, {}, []])
def test_gather_what_cannot_answer_is_fetched(unusable: Any) -> None:
    fetch = RecordingFetch()
    gathered = _gather({**FOUND, "conditions": unusable}, fetch)
    assert [list(urls) for urls in fetch.asked] == [["conditions"]]
    assert len(gathered.record.conditions) == 1


@pytest.mark.parametrize("unusable", [OUTCOME, "text", 5, {}, []])
def test_gather_required_data_that_cannot_be_had_is_named(unusable: Any) -> None:
    with pytest.raises(MissingDataError) as caught:
        _gather({**FOUND, "conditions": unusable})
    assert caught.value.keys == ("conditions",)
    assert str(caught.value) == ("required data missing: prefetch conditions not usable, and no fhirServer was given")


def test_gather_lists_every_key_that_lacks() -> None:
    with pytest.raises(MissingDataError) as caught:
        _gather({})
    assert caught.value.keys == ("patient", "conditions")


def test_gather_says_why_the_fhir_server_gave_nothing() -> None:
    fetch = RecordingFetch(patient=UpstreamStatusError(403), conditions=UpstreamStatusError(403))
    with pytest.raises(MissingDataError, match=r"and fhir server status: expected 200, got 403$"):
        _gather(None, fetch)


def test_gather_never_asks_with_a_token_for_another_patient() -> None:
    fetch = RecordingFetch()
    with pytest.raises(MissingDataError, match=r"and fhirAuthorization is for another patient$"):
        _gather({"patient": FOUND["patient"]}, fetch, patient="somebody-else")
    assert fetch.asked == []


def test_gather_optional_data_that_cannot_be_had_is_a_gap_and_not_an_absence() -> None:
    gathered = _gather(None, RecordingFetch(some_labs=UpstreamStatusError(500)))
    assert gathered.came.failed == ("some_labs",)
    assert gathered.gaps == ("some labs: not received, so what the record holds of it is unknown",)


def test_gather_a_failure_that_widens_is_told_as_that() -> None:
    """The three meanings of a failed key: the call fails, the estimate is less certain, or there is a gap and no more."""
    queries = (PERSON, DIAGNOSES, replace(LABS, widens=True))
    request = parse_hook_request(patients.encoded(patients.call({k: FOUND[k] for k in ("patient", "conditions")})))
    gathered = gather(request, queries, _nothing, NOW)
    assert gathered.came.failed == ("some_labs",)
    assert gathered.gaps == (
        "some labs: could not be had; an estimate without it is less certain than its figures show",
    )


def test_gather_a_server_that_may_not_be_asked_is_not_named() -> None:
    refused = OriginNotAllowedError("fhir server: expected an allowed one, got another")
    fetch = RecordingFetch(some_labs=refused)
    gathered = _gather({key: FOUND[key] for key in ("patient", "conditions")}, fetch)
    assert gathered.came.fhir_origin is None


def test_gather_a_first_page_is_replaced_by_the_whole() -> None:
    fetch = RecordingFetch()
    gathered = _gather({**FOUND, "conditions": patients.bundle(next_page=True)}, fetch)
    assert [list(urls) for urls in fetch.asked] == [["conditions"]]
    assert len(gathered.record.conditions) == 1
    assert gathered.gaps == ()


def test_gather_a_first_page_alone_is_used_and_said() -> None:
    gathered = _gather({**FOUND, "conditions": patients.bundle(patients.diabetes(), next_page=True)})
    assert len(gathered.record.conditions) == 1
    assert gathered.gaps == ("conditions: only a first page was sent, so more may be in the record",)


def test_gather_of_a_query_with_a_count_the_first_pages_are_enough() -> None:
    """Once a gap: a server with small pages and years of results made the newest ones unavailable."""
    page = patients.encoded(FOUND["some_labs"])
    gathered = _gather(None, RecordingFetch(some_labs=UpstreamTooLargeError("fhir pages", (page, page))))
    assert gathered.record.observation_count == 1
    assert (gathered.came.failed, gathered.gaps) == ((), ())


def test_gather_of_a_query_with_a_count_fewer_than_it_are_used_and_said() -> None:
    page = patients.encoded(FOUND["some_labs"])
    gathered = _gather(None, RecordingFetch(some_labs=UpstreamTooLargeError("fhir pages", (page,))))
    assert gathered.record.observation_count == 1
    assert gathered.came.failed == ()
    assert gathered.gaps == ("some labs: only the newest were received, so older ones may be in the record",)


def test_gather_of_a_query_without_a_count_the_first_pages_are_not() -> None:
    page = patients.encoded(FOUND["conditions"])
    with pytest.raises(MissingDataError):
        _gather(None, RecordingFetch(conditions=UpstreamTooLargeError("fhir pages", (page,))))


def test_gather_documents_of_another_patient_are_set_aside_and_said() -> None:
    other = patients.bundle(patients.diabetes("somebody-else"))
    gathered = _gather({**FOUND, "conditions": other})
    assert gathered.record.conditions == ()
    assert gathered.gaps == ("Condition: the resource belongs to another patient",)


@pytest.mark.parametrize("person", [patients.patient("somebody-else"), {"resourceType": "Patient", "id": 5}])
def test_gather_without_the_patients_own_resource_nothing_is_said(person: Any) -> None:
    """Once a card that called the patient deceased."""
    with pytest.raises(MissingDataError) as caught:
        _gather({**FOUND, "patient": person})
    assert caught.value.keys == ("patient",)


@pytest.mark.parametrize(
    "server",
    ["https://user:secret@fhir.example.org/r4", "https://fhir.example.org/Patient/7", "https://fhir.example.org"],
)
def test_gather_names_of_the_server_its_origin_only(server: str) -> None:
    fetch: Callable[..., Fetched] = lambda _server, _token, urls: {  # noqa: E731
        key: [patients.encoded(FOUND[key])] for key in urls
    }
    request = parse_hook_request(patients.encoded(patients.call(None, fhirServer=server)))
    assert gather(request, QUERIES, fetch, NOW).came.fhir_origin == "https://fhir.example.org"


def test_gather_hands_the_drafts_over_apart_from_the_record() -> None:
    drafts = [
        {"resourceType": "MedicationRequest", "id": name, "medicationCodeableConcept": {"text": name}} for name in "ab"
    ]
    context = {
        "userId": "Practitioner/canary-user",
        "patientId": patients.PATIENT_ID,
        "selections": ["MedicationRequest/b"],
        "draftOrders": patients.bundle(*drafts),
    }
    request = parse_hook_request(patients.encoded(patients.call(FOUND, hook="order-select", context=context)))
    record = gather(request, QUERIES, _nothing, NOW).record
    assert [(draft.text, draft.selected) for draft in record.drafts] == [("a", False), ("b", True)]
    assert record.medications == ()


def test_gather_the_record_knows_the_encounter_that_the_hook_names() -> None:
    call = patients.call(FOUND)
    call["context"]["encounterId"] = "stay-1"
    named = gather(parse_hook_request(patients.encoded(call)), QUERIES, _nothing, NOW)
    assert named.record.encounter_id == "stay-1"
