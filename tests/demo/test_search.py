from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.search import matching, ordered

LOINC = "http://loinc.org"


@pytest.fixture
def observations(raw_chart: Callable[[], dict[str, Any]]) -> list[Resource]:
    resources = [entry["resource"] for entry in raw_chart()["entry"]]
    return [resource for resource in resources if resource["resourceType"] == "Observation"]


def _count(observations: list[Resource], *criteria: tuple[str, str]) -> int:
    return len(matching("Observation", observations, criteria))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("2093-3", 25),
        (f"{LOINC}|2093-3", 25),
        (f"{LOINC}|2093-3,{LOINC}|2085-9", 26),
        (f"{LOINC}|", 26),
        ("|2093-3", 0),
        ("http://snomed.info/sct|2093-3", 0),
        ("2093", 0),
        ("2093-3,nothing", 25),
    ],
)
def test_search_by_code_matches_tokens_exactly(observations: list[Resource], code: str, expected: int) -> None:
    assert _count(observations, ("code", code)) == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2020-01-04", 1),
        ("eq2020-01-04", 1),
        ("eq2020-01", 25),
        ("eq2020-01-04T08:00:00Z", 1),
        ("eq2020-01-04T08:00:01Z", 0),
        ("lt2020-01-04", 3),
        ("le2020-01-04", 4),
        ("lt2020-01-04T08:00:00Z", 3),
        ("le2020-01-04T08:00:00Z", 4),
        ("gt2020-01-04", 21),
        ("ge2020-01-04", 22),
        ("gt2020-01-04T08:00:00Z", 21),
        ("ge2020-01-04T08:00:00Z", 22),
        ("ge2020-01-04T09:00:00+01:00", 22),
        ("ge2020-01-04T09:00:00 01:00", 22),
        ("ge2020", 25),
        ("gt2020", 0),
        ("ne2020-01-04", 24),
        ("sa2020-01-04", 21),
        ("eb2020-01-04", 3),
    ],
)
def test_search_by_date_knows_the_prefixes(observations: list[Resource], date: str, expected: int) -> None:
    assert _count(observations, ("code", "2093-3"), ("date", date)) == expected


def test_search_repeated_parameters_are_and(observations: list[Resource]) -> None:
    assert _count(observations, ("code", "2093-3"), ("date", "ge2020-01-04"), ("date", "lt2020-01-06")) == 2


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("patient", "p1", 26),
        ("patient", "Patient/p1", 26),
        ("subject", "Patient/p1", 26),
        ("subject", "http://127.0.0.1:1/fhir/Patient/p1", 26),
        ("subject", "Group/p1", 0),
        ("patient", "p", 0),
        ("encounter", "e1", 26),
        ("category", "laboratory", 26),
        ("category", "vital-signs", 0),
        ("status", "amended", 13),
        ("status", "final,amended", 26),
        ("_id", "o3-2093-3", 1),
    ],
)
def test_search_by_reference_category_status_and_id(
    observations: list[Resource], name: str, value: str, expected: int
) -> None:
    assert _count(observations, (name, value)) == expected


def test_search_of_an_open_period_reaches_into_the_future() -> None:
    stay = {
        "resourceType": "Encounter",
        "id": "1",
        "period": {"start": "2020-01-01T00:00:00Z"},
        "class": {"code": "IMP"},
    }
    assert matching("Encounter", [stay], [("date", "ge2030"), ("class", "IMP")]) == [stay]
    assert matching("Encounter", [stay], [("date", "lt2020")]) == []


@pytest.mark.parametrize(
    "criterion",
    [("colour", "red"), ("code:in", "x"), ("patient.name", "x"), ("date", "ap2020"), ("date", "soon"), ("code", "")],
)
def test_search_refuses_what_it_does_not_know(observations: list[Resource], criterion: tuple[str, str]) -> None:
    with pytest.raises(FhirRequestError) as caught:
        matching("Observation", observations, [criterion])
    assert caught.value.status == 400


def test_search_sorts_both_ways_and_puts_the_undated_last(observations: list[Resource]) -> None:
    undated = {key: value for key, value in observations[0].items() if key != "effectiveDateTime"} | {"id": "undated"}
    for sort, reverse in (("date", False), ("-date", True)):
        found = ordered("Observation", [undated, *observations], sort)
        dates = [resource["effectiveDateTime"] for resource in found[:-1]]
        assert dates == sorted(dates, reverse=reverse)
        assert found[-1]["id"] == "undated"


def test_search_sorts_by_several_keys(observations: list[Resource]) -> None:
    found = ordered("Observation", observations, "code,-date")
    assert found[0]["id"] == "o3-2085-9"
    assert found[1]["id"] == "o24-2093-3"


def test_search_order_does_not_depend_on_the_order_of_storage(observations: list[Resource]) -> None:
    assert ordered("Observation", observations, "-date") == ordered("Observation", observations[::-1], "-date")
