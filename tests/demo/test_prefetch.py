from __future__ import annotations

import pytest

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.prefetch import fill_template, resolve_prefetch

TOKENS = {"context.patientId": "p 1&x", "userPractitionerId": "dana"}


def test_prefetch_fills_tokens_percent_encoded() -> None:
    assert fill_template("Patient/{{context.patientId}}", TOKENS) == "Patient/p%201%26x"
    assert fill_template("Practitioner/{{ userPractitionerId }}", TOKENS) == "Practitioner/dana"
    assert fill_template("Observation?code=a", TOKENS) == "Observation?code=a"


@pytest.mark.parametrize(
    "template",
    [
        "Encounter/{{context.encounterId}}",
        "A?date=ge{{today() - 90 days}}",
        "A/{{%patient.id}}",
        "A/{{context.patientId",
    ],
)
def test_prefetch_template_without_a_value_is_dropped(template: str) -> None:
    assert fill_template(template, TOKENS) is None


def test_prefetch_keeps_what_resolves_and_names_what_does_not() -> None:
    asked: list[str] = []

    def fetch(url: str) -> Resource:
        asked.append(url)
        return {"resourceType": "Patient"}

    prefetch = resolve_prefetch({"a": "Patient/{{userPractitionerId}}", "b": "Patient/{{x}}"}, TOKENS, fetch)
    assert (list(prefetch.data), prefetch.dropped, asked) == (["a"], ("b",), ["Patient/dana"])


def test_prefetch_error_of_the_charts_goes_out_as_operation_outcome() -> None:
    def refuse(url: str) -> Resource:
        raise FhirRequestError("no", status=404, code="not-found")

    prefetch = resolve_prefetch({"a": "Patient/1"}, TOKENS, refuse)
    assert prefetch.data["a"]["resourceType"] == "OperationOutcome"
