from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.errors import BadRequestError
from cds_service.hooks import PARSERS
from cds_service.request import MAX_EXPIRES_IN_S, MAX_HOOK_INSTANCE_CHARS, parse_hook_request
from tests.cds_service import patients
from tests.conftest import NOW

FHIR = "https://fhir.example.org/r4"
NO_CALL = "request is not a CDS Hooks call"


def _parse(**changes: Any) -> Any:
    return parse_hook_request(patients.encoded(patients.call(None, **changes)))


def _without(member: str) -> bytes:
    request = patients.call(None)
    del request[member]
    return patients.encoded(request)


def test_request_gives_every_field() -> None:
    body = patients.encoded(patients.call({"patient": None, "labs": {"a": 1}}, **patients.fhir_access(FHIR)))
    request = parse_hook_request(body)
    assert (request.hook, request.hook_instance) == ("patient-view", patients.HOOK_INSTANCE)
    assert request.context.patient_id == patients.PATIENT_ID
    assert request.fhir_server == FHIR
    assert request.prefetch == {"patient": b"null", "labs": b'{"a": 1}'}
    assert request.fhir_authorization is not None
    assert request.fhir_authorization.access_token == patients.CANARY_TOKEN


@pytest.mark.parametrize("member", ["hook", "hookInstance", "context"])
def test_request_without_a_required_member_is_refused_by_name(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"missing required field `{member}`"):
        parse_hook_request(_without(member))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hook": 1}, "request is not a CDS Hooks call: expected `str`, got `int` - at `$.hook`"),
        ({"hook": None}, "request is not a CDS Hooks call: expected `str`, got `null` - at `$.hook`"),
        ({"hookInstance": []}, "request is not a CDS Hooks call: expected `str`, got `array` - at `$.hookInstance`"),
        ({"hookInstance": ""}, "hookInstance: expected a UUID string"),
        ({"hookInstance": "x" * (MAX_HOOK_INSTANCE_CHARS + 1)}, "hookInstance: expected a UUID string"),
        ({"context": []}, "request is not a CDS Hooks call: expected `object`, got `array` - at `$.context`"),
        ({"context": None}, "request is not a CDS Hooks call: expected `object`, got `null` - at `$.context`"),
        ({"prefetch": "x"}, "request is not a CDS Hooks call: expected `object | null`, got `str` - at `$.prefetch`"),
        ({"prefetch": []}, "request is not a CDS Hooks call: expected `object | null`, got `array` - at `$.prefetch`"),
        ({"fhirServer": 1}, "request is not a CDS Hooks call: expected `str | null`, got `int` - at `$.fhirServer`"),
        (
            {"fhirAuthorization": "x"},
            "request is not a CDS Hooks call: expected `object | null`, got `str` - at `$.fhirAuthorization`",
        ),
        (
            {"fhirServer": FHIR, "fhirAuthorization": {}},
            "request is not a CDS Hooks call: object missing required field `access_token` - at `$.fhirAuthorization`",
        ),
        (
            {"fhirServer": FHIR, "fhirAuthorization": {"access_token": 1}},
            "request is not a CDS Hooks call: expected `str`, got `int` - at `$.fhirAuthorization.access_token`",
        ),
        (
            patients.fhir_access(FHIR, token_type="MAC"),
            "fhirAuthorization.token_type: expected Bearer",
        ),
        (
            patients.fhir_access(FHIR, expires_in=-1),
            "fhirAuthorization.expires_in: expected seconds, got less than none",
        ),
        (
            patients.fhir_access(FHIR, expires_in=True),
            f"{NO_CALL}: expected `int | float | null`, got `bool` - at `$.fhirAuthorization.expires_in`",
        ),
        (
            patients.fhir_access(FHIR, expires_in="300"),
            f"{NO_CALL}: expected `int | float | null`, got `str` - at `$.fhirAuthorization.expires_in`",
        ),
        (
            patients.fhir_access(FHIR, expires_in=0.5),
            "fhirAuthorization.expires_in: expected whole seconds, got a fraction",
        ),
        (
            patients.fhir_access(FHIR, access_token="a\r\nHost: b"),
            "fhirAuthorization.access_token: expected a bearer token",
        ),
        ({"hook": "order-sign"}, "context.draftOrders is required"),
        ({"hook": "Patient-View"}, f"hook: expected one of {', '.join(sorted(PARSERS))}"),
    ],
)
def test_request_of_a_wrong_type_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        _parse(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("member", ["fhirServer", "fhirAuthorization", "prefetch", "extension"])
def test_request_takes_null_for_an_absent_optional(member: str) -> None:
    request = _parse(**{member: None})
    assert (request.fhir_server, request.fhir_authorization, request.prefetch) == (None, None, {})


@pytest.mark.parametrize("server", [None, ""])
def test_request_ignores_a_token_that_has_no_server(server: str | None) -> None:
    assert _parse(**patients.fhir_access(FHIR) | {"fhirServer": server}).fhir_authorization is None


@pytest.mark.parametrize(
    ("sent", "read"),
    [(300, 300), (300.0, 300), (0, 0), (None, None), (10**300, MAX_EXPIRES_IN_S), (1e300, MAX_EXPIRES_IN_S)],
)
def test_request_reads_how_long_the_token_lasts(sent: float | None, read: int | None) -> None:
    authorization = _parse(**patients.fhir_access(FHIR, expires_in=sent)).fhir_authorization
    assert authorization is not None
    assert (authorization.expires_in, type(authorization.expires_in)) == (read, type(read))


def test_request_accepts_unknown_members_anywhere() -> None:
    access = patients.fhir_access(FHIR, vendor={"deep": [1]})
    context = patients.call(None)["context"] | {"vendor": {"x": None}}
    request = _parse(**access, context=context, extension={"org.example": 1}, vendor=[{}])
    assert request.context.patient_id == patients.PATIENT_ID


@pytest.mark.parametrize("extension", [None, 1, "x", [], {}, {"org.example": [None]}])
def test_request_tolerates_any_extension(extension: object) -> None:
    assert _parse(extension=extension).hook == "patient-view"


def test_request_tolerates_a_typed_patient_id_in_context_and_token() -> None:
    context = {"userId": "Practitioner/1", "patientId": "Patient/123"}
    request = _parse(**patients.fhir_access(FHIR, patient="Patient/123"), context=context)
    assert request.context.patient_id == "123"
    assert request.fhir_authorization is not None
    assert request.fhir_authorization.patient == "123"


def test_request_shows_no_token_when_printed() -> None:
    assert patients.CANARY_TOKEN not in repr(_parse(**patients.fhir_access(FHIR)))


@pytest.mark.parametrize(
    "value",
    [b'"\xff"', b'"\\ud800"', b"1e999", b"9" * 5000, b"NaN", b"[" * 100_000 + b"]" * 100_000],
    ids=["not UTF-8", "lone surrogate", "too large", "too long", "NaN", "deep"],
)
@pytest.mark.parametrize("member", [b'"extra"', b'"encounterId"', b'"patientId"'])
def test_request_refuses_values_of_context_that_are_no_json(member: bytes, value: bytes) -> None:
    """Once a 500: what is inside context was decoded outside of the border."""
    body = b'{"hook":"patient-view","hookInstance":"x","context":{"userId":"Practitioner/1","patientId":"1",%s:%s}}'
    with pytest.raises(BadRequestError):
        parse_hook_request(body % (member, value))


@pytest.mark.parametrize("value", [b'"\xff"', b'"\\ud800"', b"1e999", b"9" * 5000, b"NaN", b"[" * 100_000])
def test_request_refuses_values_of_unknown_members_that_are_no_json(value: bytes) -> None:
    """Once a 500 for a number with more digits than Python converts."""
    body = b'{"hook":"patient-view","hookInstance":"x","context":{"userId":"Practitioner/1","patientId":"1"},"v":%s}'
    parse_hook_request(body % b"1")
    with pytest.raises(BadRequestError, match=r"^request body is not JSON in UTF-8, or nested too deeply: \d+ bytes$"):
        parse_hook_request(body % value)


@pytest.mark.parametrize("value", [b"1e999", b"9" * 5000, b'"\xff"'])
def test_request_refuses_such_values_inside_the_contexts_resources(value: bytes) -> None:
    call = patients.call(None, hook="order-sign")
    call["context"]["draftOrders"] = patients.bundle({"resourceType": "ServiceRequest", "priority": "canary"})
    body = patients.encoded(call)
    assert len(parse_hook_request(body).context.resources) == 1
    with pytest.raises(BadRequestError):
        parse_hook_request(body.replace(b'"canary"', value))


@given(st.binary(max_size=200))
def test_request_of_any_bytes_raises_only_its_own_error(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_hook_request(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = ("hook", "hookInstance", "context", "fhirServer", "fhirAuthorization", "prefetch")


@given(st.dictionaries(st.sampled_from(_MEMBERS), _JSON, max_size=3))
def test_request_of_any_json_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        request = parse_hook_request(json.dumps(patients.call(None) | changes).encode())
    except BadRequestError:
        return
    assert request.context.patient_id


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"hook": "patient-view"', b'"hook": "order-sign", "hook": "patient-view"'),
        (b'"patientId": "', b'"patientId": "somebody-else", "patientId": "'),
        (b'"prefetch": {', b'"prefetch": {"a": {"resourceType": "Bundle"}}, "prefetch": {'),
        (b'"conditions": ', b'"conditions": {"resourceType": "Bundle"}, "conditions": '),
    ],
    ids=["hook", "patientId", "prefetch", "prefetch key"],
)
def test_request_refuses_a_member_sent_twice(once: bytes, twice: bytes) -> None:
    """Once the last one won, whichever another reader on the way had taken."""
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    parse_hook_request(body)
    assert body.count(once) == 1
    with pytest.raises(BadRequestError) as caught:
        parse_hook_request(body.replace(once, twice))
    assert str(caught.value) == "request is not a CDS Hooks call: a member was sent twice"


def test_request_refuses_a_key_sent_twice_among_many_quickly() -> None:
    """Once each of the resources was looked for in all of the rest, where thousands begin alike."""
    alike = [b'{"resourceType":"Bundle","filler":"%s","id":"%d"}' % (b"x" * 64, n) for n in range(6000)]
    keys = [b'"k%d":%s' % (n, document) for n, document in enumerate(alike)]
    again = keys[0].replace(b'"id":"0"', b'"id":"again"')
    repeated = b",".join((*keys, again, b'"rest":[%s]' % b",".join(alike[1:]).replace(b'"id"', b'"ID"')))
    body = patients.encoded(patients.call({})).replace(b'"prefetch": {}', b'"prefetch": {%s}' % repeated)
    began = time.process_time()
    with pytest.raises(BadRequestError, match=r"a member was sent twice$"):
        parse_hook_request(body)
    assert time.process_time() - began < 2.0


def test_request_allows_one_resource_under_two_keys() -> None:
    shared = patients.bundle(patients.diabetes())
    request = parse_hook_request(patients.encoded(patients.call({"a": shared, "b": shared})))
    assert request.prefetch["a"] == request.prefetch["b"] == patients.encoded(shared)
