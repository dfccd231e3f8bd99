"""What a model reads, found out from its input spec instead of being written down: inputs, searches, and sensitive variables.

Whether sex or date of birth is an input is tested, not asked: the spec extracts from two records that differ in nothing
else, and if any tensor or evidence differs, it is used. The other variables of the list arrive as Observations, so the
codes that the spec asks for decide.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fhir_adapters.codes import LOINC
from fhir_adapters.features import EventSpec, FeatureSpec
from fhir_adapters.queries import Query
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.inputs import Evidence, InputSpec, ModelInputs

_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_PATIENT = {"resourceType": "Patient", "id": "card", "gender": "female", "birthDate": "1965-05-05"}
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"

_PROBES: Mapping[str, Mapping[str, Any]] = {
    "race": {"extension": [{"url": f"{_US_CORE}race", "extension": [{"url": "text", "valueString": "x"}]}]},
    "ethnicity": {"extension": [{"url": f"{_US_CORE}ethnicity", "extension": [{"url": "text", "valueString": "x"}]}]},
    "language": {"communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}}]},
    "gender identity": {"extension": [{"url": f"{_US_CORE}genderIdentity", "valueCodeableConcept": {"text": "x"}}]},
    "sex": {"gender": "male"},
    "date of birth": {"birthDate": "1950-05-05"},
}
"""Variable to the change of the Patient resource that tells whether it is read (US Core 6.1 extensions)."""

# LOINC, as US Core and USCDI v3 name these elements; health status assessments are USCDI's: functional, disability and mental
# status, pregnancy and smoking. The Glasgow coma scale counts as mental status here: better one "yes" too many.
_CODES: Mapping[str, frozenset[str]] = {
    "race": frozenset({"32624-9", "72826-1", "103708-4"}),
    "ethnicity": frozenset({"69490-1", "42784-9"}),
    "language": frozenset({"54899-0", "54588-9"}),
    "sexual orientation": frozenset({"76690-7"}),
    "gender identity": frozenset({"76691-5"}),
    "social determinants of health": frozenset(
        {"93025-5", "96777-8", "88121-9", "71802-3", "76513-1", "82589-3", "67875-5"}
    ),
    "health status assessments": frozenset(
        {"72166-2", "11367-0", "82810-3", "82809-5", "44249-1", "69737-5", "9269-2", "9267-6", "9268-4", "9270-0"}
    ),
}

SENSITIVE_VARIABLES = (
    "race",
    "ethnicity",
    "language",
    "sexual orientation",
    "gender identity",
    "sex",
    "date of birth",
    "social determinants of health",
    "health status assessments",
)
"""45 CFR 170.315(b)(11)(iv)(A)(5) to (13), in the regulation's order."""


@dataclass(frozen=True, slots=True)
class InputDescription:
    """One input as the card's table shows it; `codes` and `plausible` are "" where the spec doesn't say."""

    name: str
    label: str
    unit: str
    codes: str
    plausible: str
    oldest: timedelta | None


def describe_inputs(spec: InputSpec) -> tuple[InputDescription, ...]:
    """Every input in the order of the evidence; codes, range and age limit come from the spec's FeatureSpecs or EventSpecs.

    They are looked for as `spec.specs`, else as `SPECS` in the spec's module.
    """
    known = {_spec_name(item): item for item in _specs(spec)}
    return tuple(_describe(item, known.get(item.name)) for item in _extract(spec, {}).evidence)


def sensitive_inputs(spec: InputSpec) -> dict[str, bool]:
    """For each of `SENSITIVE_VARIABLES`, whether the model reads it."""
    codes = {code.code for query in spec.queries() for code in query.codes if code.system == LOINC}
    return {name: bool(codes & _CODES.get(name, frozenset())) or _is_read(spec, name) for name in SENSITIVE_VARIABLES}


def describe_query(query: Query) -> str:
    """One search in words: its name, resource, how many codes, how far back, and whether the model can do without."""
    parts = [f"{query.name.replace('_', ' ')}: {query.resource}"]
    if query.codes:
        parts.append(f"{len(query.codes)} code{'s' if len(query.codes) > 1 else ''}")
    if query.status:
        parts.append(f"status {' or '.join(query.status)}")
    if query.lookback is not None:
        parts.append(f"of the last {age_words(query.lookback)}")
    return ", ".join(parts) + (" (required)" if query.required else "")


def age_words(age: timedelta) -> str:
    """A length of time in the largest unit that reads well: "2 years", "72 hours"."""
    days = age / timedelta(days=1)
    if days >= 365:
        return _counted(round(days / 365.25, 1), "year")
    return _counted(days, "day") if days > 7 else _counted(24 * days, "hour")


def _counted(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _specs(spec: InputSpec) -> Iterator[FeatureSpec | EventSpec]:
    own: Any = getattr(spec, "specs", None) or getattr(sys.modules[type(spec).__module__], "SPECS", ())
    yield from own.values() if isinstance(own, Mapping) else own


def _spec_name(spec: FeatureSpec | EventSpec) -> str:
    return spec.name if isinstance(spec, FeatureSpec) else spec.variable


def _describe(item: Evidence, spec: FeatureSpec | EventSpec | None) -> InputDescription:
    if spec is None:
        return InputDescription(item.name, item.label, item.unit, "", "", None)
    plausible = "" if spec.low is None or spec.high is None else f"{spec.low:g} to {spec.high:g}"
    oldest = spec.max_age if isinstance(spec, FeatureSpec) else None
    codes = ", ".join(code.code for code in spec.codes)
    return InputDescription(item.name, item.label, item.unit, codes, plausible, oldest)


def _record(changes: Mapping[str, Any]) -> PatientRecord:
    return build_record(PatientId("card"), [json.dumps({**_PATIENT, **changes}).encode()])


def _extract(spec: InputSpec, changes: Mapping[str, Any]) -> ModelInputs:
    return spec.extract(_record(changes), _AS_OF)


def _is_read(spec: InputSpec, name: str) -> bool:
    probe = _PROBES.get(name)
    if probe is None:
        return False
    plain, changed = _extract(spec, {}), _extract(spec, probe)
    same = plain.evidence == changed.evidence and all(
        np.array_equal(plain.arrays[key], changed.arrays[key], equal_nan=True) for key in plain.arrays
    )
    return not same
