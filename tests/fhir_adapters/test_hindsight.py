"""Nothing later than the moment passes, and what was there then is as it was then."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.hindsight import Unknown, known_at
from fhir_adapters.resources import BundleEntry

AS_OF = datetime(2026, 3, 5, 12, tzinfo=UTC)
BEFORE, SAME_DAY, AFTER = "2026-03-05T11:59:59Z", "2026-03-05", "2026-03-05T13:00:01+01:00"
_DECODER = msgspec.json.Decoder(BundleEntry)


def _entry(kind: str, **members: object) -> BundleEntry:
    return _DECODER.decode(msgspec.json.encode({"resource": {"resourceType": kind, "id": "x", **members}}))


def _known(*entries: BundleEntry) -> list[Any]:
    return [entry.resource for entry in known_at(entries, AS_OF).entries]


def _why(*entries: BundleEntry) -> Unknown | None:
    unknown = known_at(entries, AS_OF).unknown
    return next((why for _, why in unknown), None)


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("Observation", "effectiveDateTime"),
        ("Observation", "effectiveInstant"),
        ("Observation", "issued"),
        ("Condition", "recordedDate"),
        ("Condition", "onsetDateTime"),
        ("MedicationRequest", "authoredOn"),
        ("MedicationStatement", "dateAsserted"),
        ("MedicationStatement", "effectiveDateTime"),
        ("MedicationAdministration", "effectiveDateTime"),
    ],
)
def test_hindsight_knows_a_resource_from_its_date_on(kind: str, member: str) -> None:
    assert _why(_entry(kind, **{member: BEFORE})) is None
    assert _why(_entry(kind, **{member: AFTER})) is Unknown.LATER
    assert _why(_entry(kind, **{member: SAME_DAY})) is Unknown.COARSE
    assert _why(_entry(kind)) is Unknown.UNDATED


def test_hindsight_waits_for_a_result_to_be_issued() -> None:
    assert _why(_entry("Observation", effectiveDateTime=BEFORE, issued=AFTER)) is Unknown.LATER


def test_hindsight_takes_a_period_for_known_when_it_is_over() -> None:
    assert _why(_entry("Observation", effectivePeriod={"start": BEFORE, "end": AFTER})) is Unknown.LATER
    assert _why(_entry("Observation", effectivePeriod={"start": BEFORE})) is None


def test_hindsight_dates_a_diagnosis_by_its_encounters_end() -> None:
    diagnosis = _entry("Condition", encounter={"reference": "Encounter/x"})
    ended = _entry("Encounter", status="finished", period={"start": "2026-03-01T00:00:00Z", "end": BEFORE})
    going_on = _entry("Encounter", status="finished", period={"start": "2026-03-01T00:00:00Z", "end": AFTER})
    assert len(_known(diagnosis, ended)) == 2
    assert _why(diagnosis, going_on) is Unknown.LATER
    assert _why(diagnosis) is Unknown.UNDATED


def test_hindsight_lets_the_dead_of_later_live() -> None:
    for when in (AFTER, SAME_DAY):
        [known] = _known(_entry("Patient", deceasedDateTime=when))
        assert known.deceased_date_time is None
    [known] = _known(_entry("Patient", deceasedDateTime=BEFORE))
    assert known.deceased_date_time == BEFORE


def test_hindsight_opens_an_encounter_that_ended_later_and_forgets_how_it_ended() -> None:
    hospital = {"admitSource": {"text": "emergency"}, "dischargeDisposition": {"text": "died"}}
    period = {"start": BEFORE, "end": AFTER}
    [known] = _known(
        _entry("Encounter", status="finished", period=period, hospitalization=hospital, diagnosis=[{"rank": 1}])
    )
    assert (known.status, known.period.start, known.period.end) == ("in-progress", BEFORE, None)
    assert known.diagnosis is None
    assert known.hospitalization.discharge_disposition is None
    assert known.hospitalization.admit_source.text == "emergency"


def test_hindsight_knows_the_disposition_at_the_moment_of_discharge() -> None:
    period, hospital = {"start": BEFORE, "end": AS_OF.isoformat()}, {"dischargeDisposition": {"text": "home"}}
    [known] = _known(_entry("Encounter", status="finished", period=period, hospitalization=hospital))
    assert known.status == "in-progress"
    assert known.hospitalization.discharge_disposition.text == "home"


def test_hindsight_knows_the_places_a_patient_had_been_to() -> None:
    stays = [
        {"location": {"display": "ward"}, "period": {"start": "2026-03-01T00:00:00Z", "end": BEFORE}},
        {"location": {"display": "MICU"}, "period": {"start": BEFORE, "end": AFTER}},
        {"location": {"display": "home"}, "period": {"start": AFTER}},
    ]
    [known] = _known(_entry("Encounter", period={"start": "2026-03-01T00:00:00Z"}, location=stays))
    assert [(place.location.display, place.period.end) for place in known.location] == [
        ("ward", BEFORE),
        ("MICU", None),
    ]


def test_hindsight_has_a_condition_active_that_abated_later() -> None:
    status = {"coding": [{"code": "resolved"}]}
    [known] = _known(_entry("Condition", onsetDateTime=BEFORE, abatementDateTime=AFTER, clinicalStatus=status))
    assert (known.abatement_date_time, known.clinical_status) == (None, None)
    [known] = _known(_entry("Condition", onsetDateTime=BEFORE, abatementDateTime=BEFORE, clinicalStatus=status))
    assert known.clinical_status is not None


def test_hindsight_ends_no_treatment_that_went_on() -> None:
    period = {"start": BEFORE, "end": AFTER}
    [known] = _known(_entry("MedicationStatement", effectivePeriod=period, dateAsserted=BEFORE))
    assert known.effective_period.end is None


def test_hindsight_keeps_a_draft_without_a_date() -> None:
    assert _why(_entry("MedicationRequest", status="draft")) is None
    assert _why(_entry("MedicationRequest", status="draft", authoredOn=AFTER)) is Unknown.LATER


@given(st.lists(st.integers(-200, 200), max_size=30), st.booleans(), st.booleans())
def test_hindsight_passes_exactly_the_observations_of_before(minutes: list[int], zulu: bool, one_undated: bool) -> None:
    moments = [AS_OF + timedelta(minutes=offset) for offset in minutes]
    texts = [moment.isoformat().replace("+00:00", "Z") if zulu else moment.isoformat() for moment in moments]
    entries = [_entry("Observation", effectiveDateTime=text) for text in texts]
    if one_undated:  # then they can't be read together
        entries.append(_entry("Observation", effectiveDateTime="2026-03-99T00:00:00Z"))
    known = known_at(entries, AS_OF)
    assert [entry.resource.effective_date_time for entry in known.entries] == [  # type: ignore[union-attr]
        text for text, offset in zip(texts, minutes, strict=True) if offset <= 0
    ]
    assert sum(known.unknown.values()) == len(entries) - len(known.entries)
