"""A model's proposals as CDS Hooks suggestions that carry valid FHIR R4 resources.

Resources are validated by `fhir.resources` (R4B), once per kind of order: the validated template is kept and only the
subject changes from call to call. A draft that is to be changed is the client's own resource: it's validated on each call,
and without a valid outcome nothing is suggested. The codes that `fhir.resources` does not check (status, intent) are
constants here. What the clinician has drafted already is not proposed again: `without_drafted`.

To add a kind of proposal: a type in `model_artifacts/assessment.py`, a template here, an example in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, assert_never

import msgspec
from fhir.resources.R4B.medicationrequest import MedicationRequest
from fhir.resources.R4B.servicerequest import ServiceRequest

from cds_service.hooks.context import ContextResource
from fhir_adapters.codes import UCUM
from model_artifacts.assessment import ChangeDose, Finding, OrderLab, Proposal

NO_DRAFTS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a suggestion (CDS Hooks 2.0.1, "Action"): create this resource, or put it in a draft's place."""

    description: str
    resource: dict[str, Any]
    type: Literal["create", "update"] = "create"

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {"type": self.type, "description": self.description, "resource": self.resource}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion with one action, as some clients take no more; the clinician accepts or leaves it."""

    uuid: str
    label: str
    action: Action

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {"uuid": self.uuid, "label": self.label, "actions": [self.action.to_json()]}


def suggest(
    proposal: Proposal, patient_id: str, uuid: str, drafts: Mapping[str, bytes] = NO_DRAFTS
) -> Suggestion | None:
    """The suggestion for one proposal, its resource about `Patient/{patient_id}`.

    None where a proposal would change a draft that isn't among `drafts`, or of which no valid order could be made.
    """
    match proposal:
        case OrderLab():
            resource = {**_service_request(proposal), "subject": {"reference": f"Patient/{patient_id}"}}
            return Suggestion(uuid, f"Order {proposal.label}", Action(f"Draft order: {proposal.label}", resource))
        case ChangeDose():
            changed = _with_dose(proposal, drafts.get(proposal.order, b"null"))
            if changed is None:
                return None
            return Suggestion(uuid, proposal.label, Action(f"Draft order: {proposal.instruction}", changed, "update"))
        case _:
            assert_never(proposal)


def proposed_changes(finding: Finding, resources: Iterable[ContextResource]) -> dict[str, bytes]:
    """The drafts that the finding's proposals would change, by reference, as they were sent."""
    wanted = {item.order for item in finding.proposals if isinstance(item, ChangeDose)}
    return {item.reference: item.document for item in resources if item.reference in wanted and item.reference}


def without_drafted(proposals: tuple[Proposal, ...], resources: Iterable[ContextResource]) -> tuple[Proposal, ...]:
    """The proposals whose order isn't among the draft orders yet, by exact code system and code: none is ordered twice.

    A draft that can't be read is no reason to withhold a proposal.
    """
    drafted = {
        coding for item in resources if item.resource_type == "ServiceRequest" for coding in _codings(item.document)
    }
    return tuple(item for item in proposals if (item.code.system, item.code.code) not in drafted)


class _WireCoding(msgspec.Struct):
    system: str | None = None
    code: str | None = None


class _WireConcept(msgspec.Struct):
    coding: tuple[_WireCoding, ...] | None = None


class _WireOrder(msgspec.Struct):
    status: str | None = None
    code: _WireConcept | None = None


_ORDERS = msgspec.json.Decoder(_WireOrder)
_WITHDRAWN = ("revoked", "entered-in-error")  # http://hl7.org/fhir/request-status: no longer an order


def _codings(document: bytes) -> tuple[tuple[str | None, str | None], ...]:
    try:
        order = _ORDERS.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    if order.code is None or order.status in _WITHDRAWN:
        return ()
    return tuple((coding.system, coding.code) for coding in order.code.coding or ())


def _with_dose(change: ChangeDose, draft: bytes) -> dict[str, Any] | None:
    """The draft with another dose and all else as it was sent, validated; https://hl7.org/fhir/R4/medicationrequest.html.

    One instruction takes the place of the drafted ones: amounts that are left beside it could be taken as well.
    """
    try:
        sent = msgspec.json.decode(draft, type=dict[str, Any])
        changed = {**sent, "dosageInstruction": [_daily(change)]}
        MedicationRequest.model_validate(changed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return changed


def _daily(change: ChangeDose) -> dict[str, Any]:
    dose = {"value": change.mg_per_day, "unit": "mg", "system": UCUM, "code": "mg"}
    return {
        "text": change.instruction,
        "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        "doseAndRate": [{"doseQuantity": dose}],
    }


@lru_cache(maxsize=256)
def _service_request(order: OrderLab) -> dict[str, Any]:
    """A draft laboratory order, validated; https://hl7.org/fhir/R4/servicerequest.html."""
    coding = {"system": order.code.system, "code": order.code.code, "display": order.code.display or order.label}
    template = ServiceRequest.model_validate(
        {
            "resourceType": "ServiceRequest",
            "status": "draft",
            "intent": "proposal",
            "category": [
                {
                    "coding": [
                        {"system": "http://snomed.info/sct", "code": "108252007", "display": "Laboratory procedure"}
                    ]
                }
            ],
            "code": {"coding": [coding], "text": order.label},
            "subject": {"reference": "Patient/template"},
            "reasonCode": [{"text": order.reason}],
        }
    )
    fields: dict[str, Any] = template.model_dump(mode="json", exclude_none=True)
    return fields
