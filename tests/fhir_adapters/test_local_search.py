"""Resources that lie here answer queries as a server would."""

from datetime import UTC, datetime, timedelta

import msgspec

from fhir_adapters.codes import LOINC, RXNORM, Code
from fhir_adapters.local_search import LocalSearch
from fhir_adapters.queries import Query
from fhir_adapters.resources import BundleEntry

AS_OF = datetime(2026, 3, 5, 12, tzinfo=UTC)
CREATININE = Code(LOINC, "2160-0")
_DECODER = msgspec.json.Decoder(BundleEntry)


def _entry(kind: str, name: str, **members: object) -> BundleEntry:
    return _DECODER.decode(msgspec.json.encode({"resource": {"resourceType": kind, "id": name, **members}}))


def _value(name: str, days: float, code: str = "2160-0", system: str = LOINC) -> BundleEntry:
    when = (AS_OF - timedelta(days=days)).isoformat()
    return _entry("Observation", name, effectiveDateTime=when, code={"coding": [{"system": system, "code": code}]})


def _found(query: Query, *entries: BundleEntry) -> list[str]:
    return [entry.resource.id for entry in LocalSearch([query]).found(entries, AS_OF)]  # type: ignore[union-attr, misc]


def test_local_search_finds_by_code_whatever_the_systems_spelling() -> None:
    query = Query("creatinine", "Observation", (CREATININE,))
    oid = "urn:oid:2.16.840.1.113883.6.1"
    entries = _value("a", 1), _value("b", 1, "718-7"), _value("c", 1, system=oid), _value("d", 1, system="local")
    assert _found(query, *entries) == ["a", "c"]
    assert LocalSearch([query]).observation_codes == {(LOINC, "2160-0")}
    assert LocalSearch([query, Query("all", "Observation")]).observation_codes is None


def test_local_search_looks_as_far_back_as_the_url_says() -> None:
    """The window of `search_url` begins with the day before: 2026-02-22, at midnight."""
    query = Query("creatinine", "Observation", (CREATININE,), lookback=timedelta(days=10))
    undated = _entry("Observation", "u", code={"coding": [{"system": LOINC, "code": "2160-0"}]})
    assert _found(query, _value("a", 11.5), _value("b", 11.51), _value("c", 0), undated) == ["a", "c"]


def test_local_search_gives_the_newest_of_a_count() -> None:
    query = Query("creatinine", "Observation", (CREATININE,), count=2)
    assert _found(query, _value("old", 9), _value("new", 1), _value("older", 10), _value("newer", 0.5)) == [
        "new",
        "newer",
    ]


def test_local_search_finds_by_status() -> None:
    query = Query("stays", "Encounter", status=("in-progress",))
    stays = _entry("Encounter", "a", status="in-progress"), _entry("Encounter", "b", status="finished")
    assert _found(query, *stays) == ["a"]
    active = Query("conditions", "Condition", status=("active",))
    past = {"coding": [{"code": "resolved"}]}
    assert _found(active, _entry("Condition", "a"), _entry("Condition", "b", clinicalStatus=past)) == ["a"]


def test_local_search_finds_an_order_by_the_drug_it_refers_to() -> None:
    query = Query("warfarin", "MedicationRequest", (Code(RXNORM, "11289"),))
    drug = _entry("Medication", "m", code={"coding": [{"system": RXNORM, "code": "11289"}]})
    by_reference = _entry("MedicationRequest", "a", medicationReference={"reference": "Medication/m"})
    other = _entry("MedicationRequest", "b", medicationReference={"reference": "Medication/n"})
    assert _found(query, by_reference, other, drug) == ["a", "m"]


def test_local_search_finds_nothing_that_nobody_asks_for() -> None:
    assert _found(Query("patient", "Patient"), _entry("Patient", "p"), _value("a", 1)) == ["p"]
