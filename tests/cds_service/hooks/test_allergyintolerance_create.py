from __future__ import annotations

import json

import pytest

from cds_service.errors import BadRequestError
from cds_service.hooks import allergyintolerance_create
from tests.cds_service.hooks.contexts import example, members

EXAMPLE = example("allergyintolerance-create_0")


@pytest.mark.parametrize("number", [0, 1])
def test_allergyintolerance_create_reads_the_specifications_examples(number: int) -> None:
    """Wrapped in `resource`, and in a Bundle under another name."""
    (allergy,) = allergyintolerance_create.parse(members(example(f"allergyintolerance-create_{number}"))).resources
    assert (allergy.reference, allergy.selected) == ("AllergyIntolerance/RES163672", True)


def test_allergyintolerance_create_reads_the_bare_resource_of_the_table() -> None:
    bare = EXAMPLE["allergyIntolerance"]["resource"]
    (allergy,) = allergyintolerance_create.parse(members({**EXAMPLE, "allergyIntolerance": bare})).resources
    assert json.loads(allergy.document) == bare


@pytest.mark.parametrize("member", ["userId", "patientId", "allergyIntolerance"])
def test_allergyintolerance_create_requires(member: str) -> None:
    with pytest.raises(BadRequestError, match=f"^context.{member} is required$"):
        allergyintolerance_create.parse(members({**EXAMPLE, member: None}))
