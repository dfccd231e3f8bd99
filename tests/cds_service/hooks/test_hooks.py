"""What holds for every hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service import hooks
from cds_service.errors import BadRequestError
from cds_service.hooks import HOOK_VERSIONS, PARSERS
from cds_service.hooks.context import HookContext, Members
from tests.cds_service.hooks.contexts import PATIENT_ID, members, order

# https://cds-hooks.hl7.org/hooks/, the "hookVersion" of each page
PUBLISHED = {
    "patient-view": "1.0",
    "order-select": "1.0",
    "order-sign": "1.0",
    "encounter-start": "1.0",
    "encounter-discharge": "1.0",
    "appointment-book": "1.0",
    "order-dispatch": "1.1",
    "allergyintolerance-create": "0.1.0",
    "problem-list-item-create": "0.1.0",
    "medication-refill": "0.1.0",
    "medication-verify": "0.1.0",
}


def test_hooks_have_their_published_versions() -> None:
    assert HOOK_VERSIONS == PUBLISHED


@pytest.mark.parametrize("hook", PUBLISHED)
def test_hooks_are_read_by_the_module_of_their_name(hook: str) -> None:
    module = getattr(hooks, hook.replace("-", "_"))
    assert PARSERS[hook] is module.parse
    assert f"`{hook}` hook, version {PUBLISHED[hook]}:" in module.__doc__


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_REFERENCES = st.sampled_from(
    [PATIENT_ID, f"Patient/{PATIENT_ID}", "Patient/2", "Practitioner/1", "ServiceRequest/a", ""]
)
_NAMES = st.sampled_from(["resourceType", "id", "entry", "resource", "subject", "patient", "for", "reference"])
_JSON = st.recursive(
    _LEAVES | st.text(max_size=8) | _REFERENCES | st.sampled_from(["Bundle", "Task"]) | st.just(order("a")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
_MEMBERS = [
    "userId",
    "patientId",
    "encounterId",
    "selections",
    "draftOrders",
    "appointments",
    "dispatchedOrders",
    "dispatched-orders",
    "order",
    "performer",
    "fulfillmentTasks",
    "fulfillment-tasks",
    "task",
    "allergyIntolerance",
    "allergyIntolerances",
    "conditions",
    "medications",
    "medication",
]


def _read(parse: Callable[[Members], HookContext], context: dict[str, Any]) -> None:
    try:
        read = parse(members(context))
    except BadRequestError:
        return
    assert isinstance(read, HookContext)


@pytest.mark.parametrize("hook", PARSERS)
@given(context=st.dictionaries(st.sampled_from(_MEMBERS) | st.text(max_size=4), _JSON, max_size=6))
def test_hooks_read_or_refuse_any_context(hook: str, context: dict[str, Any]) -> None:
    _read(PARSERS[hook], context)


@pytest.mark.parametrize("hook", PARSERS)
@given(
    context=st.fixed_dictionaries(
        {}, optional={name: _JSON for name in _MEMBERS if name not in ("userId", "patientId")}
    )
)
def test_hooks_read_or_refuse_whatever_stands_beside_patient_and_user(hook: str, context: dict[str, Any]) -> None:
    _read(PARSERS[hook], {"userId": "Practitioner/1", "patientId": PATIENT_ID, **context})


@pytest.mark.parametrize("hook", PARSERS)
def test_hooks_refuse_a_context_without_a_patient_first(hook: str) -> None:
    with pytest.raises(BadRequestError, match=r"^context\.patientId is required$"):
        PARSERS[hook]({})
