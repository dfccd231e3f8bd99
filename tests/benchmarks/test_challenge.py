from __future__ import annotations

from pathlib import Path

from benchmarks.challenge import challenge_charts, challenge_stays, compare
from model_artifacts.icu_mortality.challenge import parse_stay

FIXTURES = Path(__file__).parents[1] / "fixtures" / "challenge-2012"
STAYS = tuple(parse_stay(path.read_text()) for path in sorted(FIXTURES.glob("*.txt")))


def test_challenge_answers_through_fhir_are_those_from_the_arrays() -> None:
    compared = compare(STAYS)
    assert compared["stays"] == len(STAYS)
    assert compared["outcomes"]["answered"] >= 5
    assert compared["largest_difference"] <= 1e-5


def test_challenge_charts_are_of_the_stays_patients() -> None:
    assert [chart.patient_id for chart in challenge_charts(STAYS)] == [f"challenge-{stay.record_id}" for stay in STAYS]


def test_challenge_without_data_is_no_failure(tmp_path: Path) -> None:
    assert challenge_stays(tmp_path) == ()
