from __future__ import annotations

from datetime import UTC, datetime

from demo.chart_view import view_chart
from demo.store import PATIENTS_FOLDER, load_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_chart_view_shows_the_newest_of_each_test() -> None:
    charts = {chart.patient["name"][0].get("family"): chart for chart in load_store(PATIENTS_FOLDER, NOW).charts}
    view = view_chart(charts["Daugherty"], NOW)
    results = {result.label: result.value for result in view.results}
    assert view.banner.name == "Estrella Daugherty"
    assert view.banner.age == "50 years"
    assert "Diabetes" in view.problems
    assert any("Metformin" in drug for drug in view.medication)
    assert results["Blood Pressure"] == "151/98 mmHg"
    assert len(view.results) == len(results)
