"""Populations on a chart made by code: no data folder needed."""

from pathlib import Path

from benchmarks.charts import call_body
from benchmarks.desks import opened_desk
from benchmarks.populations import Clock, Tally, prefetched_charts, run_charts, send
from benchmarks.sources import Chart


def test_populations_counts_what_the_log_holds(tmp_path: Path) -> None:
    clock = Clock()
    with opened_desk(tmp_path / "log", clock) as desk:
        service = next(service for service in desk.services if service.id == "prevent-cvd")
        body = call_body(service, 50, clock.now)
        tally = run_charts(prefetched_charts([("made", body)]), desk, clock)[service.id]
    assert tally.outcomes == {"answered": 1}
    assert sum(tally.bands.values()) == 1


def test_populations_refuses_a_call_without_data_and_asks_no_host(tmp_path: Path) -> None:
    clock = Clock()
    with opened_desk(tmp_path / "log", clock) as desk:
        service = desk.services[0]
        body = (
            b'{"hook":"patient-view","hookInstance":"a","fhirServer":"https://ehr.example.org",'
            b'"context":{"userId":"Practitioner/1","patientId":"1"}}'
        )
        tally = Tally()
        send(body, service, desk, tally)
    assert tally.outcomes == {"refused: MissingDataError": 1}


def test_populations_without_a_patient_resource_calls_nobody_deceased(tmp_path: Path) -> None:
    clock = Clock()
    with opened_desk(tmp_path / "log", clock) as desk:
        service = next(service for service in desk.services if service.id == "prevent-cvd")
        charts = [Chart("1", ((None, {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}),))]
        tally = run_charts(charts, desk, clock)[service.id]
    assert tally.reasons == {"outside-population:patient-unknown": 1}
