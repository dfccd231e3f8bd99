from datetime import UTC, datetime, timedelta

import pytest

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.errors import QueryError
from fhir_adapters.queries import Query, merge_queries, search_parameters, search_url
from fhir_adapters.resources import PatientId

AS_OF = datetime(2026, 11, 24, 3, tzinfo=UTC)
A, B = Code(LOINC, "2093-3"), Code(LOINC, "2085-9")


def test_queries_url_of_a_patient() -> None:
    assert search_url(Query("patient", "Patient"), PatientId("a/b"), AS_OF) == "Patient/a%2Fb"


def test_queries_url_with_codes_window_and_count() -> None:
    query = Query("labs", "Observation", (A, B), lookback=timedelta(days=10), status=("final",), count=50)
    assert search_url(query, PatientId("1"), AS_OF) == (
        "Observation?patient=1&code=http%3A%2F%2Floinc.org%7C2093-3%2Chttp%3A%2F%2Floinc.org%7C2085-9"
        "&status=final&date=ge2026-11-13&_sort=-date&_count=50"
    )


def test_queries_parameters_take_a_templates_tokens() -> None:
    query = Query("labs", "Observation", (A,), lookback=timedelta(days=1))
    parameters = dict(search_parameters(query, "{{context.patientId}}", "{{today() - 1 days}}"))
    assert parameters["patient"] == "{{context.patientId}}"
    assert parameters["date"] == "ge{{today() - 1 days}}"


def test_queries_separators_in_codes_are_escaped() -> None:
    parameters = dict(search_parameters(Query("x", "Observation", (Code("urn:x", "a,b|c$d\\"),)), "1", None))
    assert parameters["code"] == "urn:x|a\\,b\\|c\\$d\\\\"


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("Condition", "Condition?patient=1&clinical-status=active"),
        ("MedicationRequest", "MedicationRequest?patient=1&status=active&_sort=-authoredon"),
        ("Encounter", "Encounter?patient=1&status=active&_sort=-date"),
    ],
)
def test_queries_status_parameter_differs_by_resource(resource: str, expected: str) -> None:
    assert search_url(Query("x", resource, status=("active",)), PatientId("1"), AS_OF) == expected


def test_queries_merge_unites_one_name() -> None:
    wide = Query("labs", "Observation", (A,), timedelta(days=5), count=10)
    narrow = Query("labs", "Observation", (B, A), timedelta(days=9), count=20, required=True)
    assert merge_queries([wide, narrow, wide]) == (
        Query("labs", "Observation", (A, B), timedelta(days=9), (), 20, True),
    )


def test_queries_merge_all_includes_some() -> None:
    every = Query("labs", "Observation")
    some = Query("labs", "Observation", (A,), timedelta(days=9), ("final",), 5)
    assert merge_queries([some, every]) == (every,)


def test_queries_merge_keeps_names_apart() -> None:
    assert len(merge_queries([Query("a", "Condition"), Query("b", "Condition")])) == 2


def test_queries_refuses_what_it_cannot_ask() -> None:
    with pytest.raises(QueryError):
        merge_queries([Query("a", "Condition"), Query("a", "Encounter")])
    with pytest.raises(QueryError):
        Query("a", "Nonsense")
    with pytest.raises(QueryError):
        Query("a", "Condition", lookback=timedelta(days=1))


def test_queries_required_and_widening_exclude_each_other() -> None:
    with pytest.raises(QueryError, match="expected it to be required or to widen, got both"):
        Query("hba1c", "Observation", required=True, widens=True)


def test_queries_merge_required_wins_over_widening() -> None:
    (merged,) = merge_queries(
        [Query("hba1c", "Observation", widens=True), Query("hba1c", "Observation", required=True)]
    )
    assert (merged.required, merged.widens) == (True, False)
