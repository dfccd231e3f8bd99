from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks.context import ContextResource, Members, PatientId
from cds_service.hooks.resources import optional_resources, require_bundle, require_resource
from tests.cds_service.hooks.contexts import PATIENT_ID, bundle, members, order

OWN = PatientId(PATIENT_ID)
FHIR = "https://ehr.example/r4"


def _bundle(value: object) -> tuple[ContextResource, ...]:
    return require_bundle(members({"draftOrders": value}), "draftOrders", OWN)


def _refusal(value: object) -> str:
    with pytest.raises(BadRequestError) as caught:
        _bundle(value)
    return str(caught.value)


def test_resources_keep_the_clients_bytes() -> None:
    document = b'{ "resourceType" : "ServiceRequest",\n"id":"a", "x": 1.50 }'
    raw = msgspec.Raw(b'{"entry": [ {"resource": %s } ] }' % document)
    assert require_bundle({"draftOrders": raw}, "draftOrders", OWN) == (
        ContextResource("ServiceRequest/a", "ServiceRequest", document),
    )


@pytest.mark.parametrize(
    "sent",
    [
        {**bundle(order("a")), "type": "collection"},
        bundle(order("a")),
        {"entry": [{"resource": order("a")}]},
        {"resourceType": None, "entry": [{"resource": order("a"), "fullUrl": 1, "extension": 2}]},
        {"entry": [None, {"resource": order("a")}, {}, {"resource": None}, {"fullUrl": "x"}]},
        bundle(order("a", status=1, intent=[], category={"text": "x"}, code="x")),
        bundle(order("a", contained=[{"resourceType": "Medication", "id": "m"}])),
    ],
)
def test_resources_of_a_bundle_that_lacks_much_are_read(sent: dict[str, Any]) -> None:
    assert [item.reference for item in _bundle(sent)] == ["ServiceRequest/a"]


@pytest.mark.parametrize("sent", [{}, {"entry": None}, {"entry": []}, {"resourceType": "Bundle"}])
def test_resources_of_an_empty_bundle_are_none(sent: dict[str, Any]) -> None:
    assert _bundle(sent) == ()


def test_resources_in_the_bundle_beside_the_orders_are_there_too() -> None:
    found = _bundle(bundle({"resourceType": "Medication", "id": "m"}, order("a")))
    assert [item.reference for item in found] == ["Medication/m", "ServiceRequest/a"]


@pytest.mark.parametrize("identifier", [None, 1, "", "a b", "..", "x" * 65])
def test_resources_without_a_usable_id_have_no_reference(identifier: object) -> None:
    (found,) = _bundle(bundle({**order("a"), "id": identifier}))
    assert (found.reference, found.resource_type) == (None, "ServiceRequest")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (None, "context.draftOrders is required"),
        ([], "context.draftOrders: expected an object, got an array"),
        ("x", "context.draftOrders: expected an object, got a string"),
        (order("a"), "context.draftOrders: expected a Bundle, got another resource"),
        ({"resourceType": 1}, "context.draftOrders: expected a Bundle, got another resource"),
        ({"entry": {}}, "context.draftOrders: expected `array | null`, got `object` - at `$.entry`"),
        ({"entry": [1]}, "context.draftOrders: expected `object | null`, got `int` - at `$.entry[0]`"),
        ({"entry": [{}, []]}, "context.draftOrders: expected `object | null`, got `array` - at `$.entry[1]`"),
        (bundle("x"), "context.draftOrders: expected `object`, got `str`"),
        (bundle([]), "context.draftOrders: expected `object`, got `array`"),
        (bundle({"id": "a"}), "context.draftOrders: expected resources with a resourceType"),
        (bundle({"resourceType": "../a"}), "context.draftOrders: expected resources with a resourceType"),
        (bundle({"resourceType": ["A"]}), "context.draftOrders: expected resources with a resourceType"),
    ],
)
def test_resources_of_another_form_are_refused_by_name(sent: object, message: str) -> None:
    assert _refusal(sent) == message


ANOTHERS = "context.draftOrders: expected resources of the patient of context.patientId, got another's"


@pytest.mark.parametrize("member", ["subject", "patient", "for"])
@pytest.mark.parametrize(
    "reference", ["Patient/2", f"{FHIR}/Patient/2", "Patient/2/_history/1", f"Patient/{PATIENT_ID}0", "Patient/12"]
)
def test_resources_of_another_patient_are_refused(member: str, reference: str) -> None:
    about = {"subject": None, member: {"reference": reference}}
    assert _refusal(bundle(order("a"), order("b", **about))) == ANOTHERS


@pytest.mark.parametrize("member", ["subject", "patient", "for"])
@pytest.mark.parametrize(
    "subject",
    [
        None,
        {},
        {"reference": f"Patient/{PATIENT_ID}"},
        {"reference": f"{FHIR}/Patient/{PATIENT_ID}"},
        {"reference": f"Patient/{PATIENT_ID}/_history/3"},
        {"reference": "#p"},
        {"reference": "urn:uuid:7e3f"},
        {"reference": "Group/2"},
        {"reference": "Patient/"},
        {"reference": None},
        {"reference": 1},
        {"identifier": {"value": "another"}},
        {"display": "Somebody"},
        "Patient/2",
        [],
    ],
)
def test_resources_that_name_no_other_patient_pass(member: str, subject: object) -> None:
    assert len(_bundle(bundle(order("a", **{"subject": None, member: subject})))) == 1


@pytest.mark.parametrize("sent", [order("a"), {"resource": order("a")}, {"resourceType": None, "resource": order("a")}])
def test_resources_come_bare_or_wrapped(sent: dict[str, Any]) -> None:
    context = members({"medication": sent, "tasks": [sent, None, sent]})
    assert require_resource(context, "medication", OWN).reference == "ServiceRequest/a"
    assert len(optional_resources(context, "tasks", OWN)) == 2


def test_resources_that_are_wrapped_are_another_patients_too() -> None:
    sent = {"resource": order("a", subject={"reference": "Patient/2"})}
    with pytest.raises(BadRequestError, match=r"got another's$"):
        require_resource(members({"medication": sent}), "medication", OWN)


@pytest.mark.parametrize(
    "value",
    [b'{"resourceType":"A","id":"\xff"}', b'{"resourceType":"A","subject":%s}' % (b"[" * 9000 + b"]" * 9000)],
    ids=["not UTF-8", "deep"],
)
def test_resources_that_are_no_json_are_refused(value: bytes) -> None:
    context: Members = {"medication": msgspec.Raw(value)}
    with pytest.raises(BadRequestError, match=r"^context\.medication: expected JSON in UTF-8 that isn't nested"):
        require_resource(context, "medication", OWN)


def test_resources_of_big_bundles_take_time_by_their_number() -> None:
    few, many = (msgspec.Raw(json.dumps(bundle(*map(order, map(str, range(n))))).encode()) for n in (500, 8000))

    def seconds(raw: msgspec.Raw) -> float:
        began = time.perf_counter()
        require_bundle({"draftOrders": raw}, "draftOrders", OWN)
        return time.perf_counter() - began

    assert min(seconds(many) for _ in range(3)) < 80 * max(seconds(few) for _ in range(3))
