from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import order_select
from tests.cds_service.hooks.contexts import bundle, example, members, order


def _selected(selections: object, *drafts: object) -> list[bool]:
    sent = {**example("order-select_0"), "selections": selections, "draftOrders": bundle(*drafts)}
    return [draft.selected for draft in order_select.parse(members(sent)).resources]


def test_order_select_reads_the_specifications_example() -> None:
    context = order_select.parse(members(example("order-select_0")))
    assert [(draft.reference, draft.selected) for draft in context.resources] == [
        ("NutritionOrder/pureeddiet-simple", True),
        ("MedicationRequest/smart-MedicationRequest-103", True),
    ]


def test_order_select_tells_the_selected_drafts_from_the_background() -> None:
    assert _selected(["ServiceRequest/b"], order("a"), order("b"), order("c")) == [False, True, False]


@pytest.mark.parametrize(
    "selection",
    ["ServiceRequest/a", "https://ehr.example/r4/ServiceRequest/a", "ServiceRequest/a/_history/2", "a"],
)
def test_order_select_takes_a_selection_in_any_spelling(selection: str) -> None:
    assert _selected([selection], order("a"), order("b")) == [True, False]


@pytest.mark.parametrize(
    "selections",
    [[], [None], [""], ["/"], ["ServiceRequest/x"], ["MedicationRequest/a"], ["ServiceRequest/a/b"], ["urn:uuid:a"]],
)
def test_order_select_ignores_selections_that_point_at_nothing(selections: list[object]) -> None:
    assert _selected(selections, order("a"), {**order("b"), "id": None}) == [False, False]


@pytest.mark.parametrize("member", ["userId", "patientId", "selections", "draftOrders"])
def test_order_select_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        order_select.parse(members({**example("order-select_0"), member: None}))


@pytest.mark.parametrize(
    ("selections", "message"),
    [
        ("ServiceRequest/a", "context.selections: expected an array, got a string"),
        ({}, "context.selections: expected an array, got an object"),
        ([1], "context.selections: expected a string, got a number"),
        ([["ServiceRequest/a"]], "context.selections: expected a string, got an array"),
    ],
)
def test_order_select_refuses_selections_of_another_type(selections: object, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        _selected(selections, order("a"))
    assert str(caught.value) == message
