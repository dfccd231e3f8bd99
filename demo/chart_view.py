"""What a page shows of a chart: the patient banner, active problems, active medication, latest results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.bundles import Resource
from demo.instants import age_in_years, parse_span
from demo.store import Chart

MAX_RESULTS = 14
_SEX = {"female": "Female", "male": "Male", "other": "Other", "unknown": "Unknown"}
# LOINC codes shown first: pressure, heart rate, oxygen, BMI, cholesterol (total, HDL, LDL), HbA1c, creatinine (two codes),
# eGFR, urine albumin-creatinine ratio, smoking.
_SHOWN_FIRST = (
    *("85354-9", "55284-4", "8867-4", "59408-5", "39156-5", "2093-3", "2085-9", "18262-6"),
    *("4548-4", "2160-0", "38483-4", "33914-3", "14959-1", "72166-2"),
)
_SPOKEN_UNITS = {"mm[Hg]": "mmHg", "mL/min/{1.73_m2}": "mL/min/1.73 m²", "kg/m2": "kg/m²", "Cel": "°C"}
_PAIN_SCORE = "72514-3"  # Synthea gives everyone one; it says nothing at a glance


@dataclass(frozen=True, slots=True)
class Banner:
    """Who the chart is about, in words."""

    name: str
    sex: str
    age: str
    birth_date: str
    identifier: str
    place: str


@dataclass(frozen=True, slots=True)
class Result:
    """The newest value of one test."""

    label: str
    value: str
    date: str


@dataclass(frozen=True, slots=True)
class ChartView:
    """One patient's page, but for the cards."""

    patient_id: str
    banner: Banner
    note: str
    problems: tuple[str, ...]
    medication: tuple[str, ...]
    results: tuple[Result, ...]


def view_chart(chart: Chart, now: datetime) -> ChartView:
    of_type = {
        name: [resource for resource in chart.resources if resource["resourceType"] == name]
        for name in ("Condition", "MedicationRequest", "Observation")
    }
    active = [problem for problem in of_type["Condition"] if _first_code(problem.get("clinicalStatus")) == "active"]
    ordered = [order for order in of_type["MedicationRequest"] if order.get("status") == "active"]
    return ChartView(
        chart.patient_id,
        view_banner(chart, now),
        chart.note,
        _distinct(_concept_text(problem.get("code")) for problem in active),
        _distinct(_concept_text(order.get("medicationCodeableConcept")) for order in ordered),
        _latest_results(of_type["Observation"]),
    )


def view_banner(chart: Chart, now: datetime) -> Banner:
    patient = chart.patient
    birth_date = patient.get("birthDate")
    return Banner(
        name=_name(patient),
        sex=_SEX.get(patient.get("gender", "unknown"), "Unknown"),
        age="unknown age" if birth_date is None else f"{age_in_years(birth_date, now)} years",
        birth_date=birth_date or "unknown",
        identifier=chart.patient_id,
        place="Inpatient" if chart.current_encounter_id is not None else "Outpatient",
    )


def _name(patient: Resource) -> str:
    names = patient.get("name", [])
    chosen = next((name for name in names if name.get("use") == "official"), names[0] if names else {})
    parts = [*chosen.get("given", []), chosen.get("family", "")]
    return chosen.get("text") or " ".join(part for part in parts if part) or "Name not recorded"


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.removesuffix(" (disorder)").removesuffix(" (finding)") for text in texts if text))


def _concept_text(concept: Any) -> str:
    if not isinstance(concept, dict):
        return ""
    codings = concept.get("coding") or [{}]
    return str(concept.get("text") or codings[0].get("display") or codings[0].get("code") or "")


def _first_code(concept: Any) -> str:
    codings = (concept or {}).get("coding") or [{}]
    return str(codings[0].get("code", ""))


def _latest_results(observations: Iterable[Resource]) -> tuple[Result, ...]:
    """The newest value of each test, what matters most first, then what is newest."""
    dated = [(when, observation) for observation in observations if (when := _when(observation)) is not None]
    latest: dict[str, Result] = {}
    for when, observation in sorted(dated, key=lambda pair: parse_span(pair[0]).low, reverse=True):
        code = _first_code(observation.get("code"))
        value = _value(observation)
        if value and code != _PAIN_SCORE and code not in latest:
            latest[code] = Result(_concept_text(observation.get("code")), value, when[:10])
    ordered = sorted(latest, key=lambda code: _SHOWN_FIRST.index(code) if code in _SHOWN_FIRST else len(_SHOWN_FIRST))
    return tuple(latest[code] for code in ordered[:MAX_RESULTS])


def _when(observation: Resource) -> str | None:
    when = observation.get("effectiveDateTime")
    return when if isinstance(when, str) else None


def _value(observation: Resource) -> str:
    if components := observation.get("component"):
        return _joined(map(_quantity, sorted(components, key=_systolic_first)))
    number, unit = _quantity(observation)
    return f"{number} {unit}".strip() or _concept_text(observation.get("valueCodeableConcept")) or _string(observation)


def _joined(quantities: Iterable[tuple[str, str]]) -> str:
    """Numbers with a slash between, and their unit once: 151/98 mmHg."""
    present = [quantity for quantity in quantities if quantity[0]]
    units = dict.fromkeys(unit for _, unit in present)
    if len(units) == 1:
        return f"{'/'.join(number for number, _ in present)} {next(iter(units))}".strip()
    return ", ".join(f"{number} {unit}" for number, unit in present)


def _quantity(observation: Resource) -> tuple[str, str]:
    quantity = observation.get("valueQuantity") or {}
    unit = str(quantity.get("unit", ""))
    return _round(quantity.get("value")), _SPOKEN_UNITS.get(unit, unit)


def _string(observation: Resource) -> str:
    return str(observation.get("valueString", ""))


def _systolic_first(component: Resource) -> bool:
    return _first_code(component.get("code")) == "8462-4"  # diastolic pressure comes second, as clinicians write it


def _round(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}".removesuffix(".0")
