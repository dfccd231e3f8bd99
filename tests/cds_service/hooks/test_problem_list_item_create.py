from __future__ import annotations

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import problem_list_item_create
from tests.cds_service.hooks.contexts import example, members


@pytest.mark.parametrize(
    ("number", "reference"),
    [(0, "Condition/3a14127f"), (1, "Condition/3a14127f"), (2, "Condition/smart-Condition-548")],
)
def test_problem_list_item_create_reads_the_specifications_examples(number: int, reference: str) -> None:
    """Their `category` is a string or an object, where FHIR wants an array."""
    context = problem_list_item_create.parse(members(example(f"problem-list-item-create_{number}")))
    (problem,) = context.resources
    assert (problem.reference, problem.resource_type, problem.selected) == (reference, "Condition", True)


@pytest.mark.parametrize("member", ["userId", "patientId", "conditions"])
def test_problem_list_item_create_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        problem_list_item_create.parse(members({**example("problem-list-item-create_0"), member: None}))
