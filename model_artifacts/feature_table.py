"""Inputs without code: a table `features.toml` in the model's folder says what is read, by which codes, in which unit.

    [[feature]]
    name = "urea_nitrogen"         # how the manifest and the training name it
    label = "blood urea nitrogen"  # how the card calls it
    loinc = ["3094-0", "6299-2"]
    unit = "mg/dL"                 # UCUM; other units are converted, by the analyte where amount and mass meet
    analyte = "urea_nitrogen"      # optional: fhir_adapters/analytes.py
    low = 1                        # optional: what lies outside is set aside as implausible
    high = 300
    oldest_h = 24                  # an older result doesn't count; of a statistic it is the window
    statistic = "max"              # optional: latest (default), first, mean, min, max, count
    search = "kidney_function"     # features of one search are asked for together
    results = 20                   # optional: how many results the search asks for

    person = ["age", "male"]       # optional, at the top: read from the Patient resource, after the features
    resources = ["Encounter"]      # optional, at the top: what the population's criteria look at

A model's `inputs.py` is then one line: `INPUTS = read_feature_table(Path(__file__).with_name("features.toml"))`. The file must
stand among the manifest's `[files]`. What a table can't say (a diagnosis, a value computed from others) is `inputs.py` of
one's own: see `inputs.py` here. To add a column: a member of `_Row` and what it means above.
"""

from __future__ import annotations

import tomllib
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.errors import FhirAdapterError
from fhir_adapters.features import FeatureSpec, Statistic
from fhir_adapters.queries import Query
from fhir_adapters.record import PatientRecord
from model_artifacts.errors import ManifestError
from model_artifacts.inputs import Evidence, FeatureVectorInputs

Person = Literal["age", "male"]

_RESOURCES = {
    "Encounter": Query("current_encounters", "Encounter", status=("in-progress",), required=True),
    "Condition": Query("conditions", "Condition", required=True),
    "MedicationRequest": Query("active_medications", "MedicationRequest", status=("active",), required=True),
}
"""What criteria look at; without it they can't be decided, so it is required."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    label: str
    loinc: tuple[str, ...]
    unit: str
    oldest_h: float
    search: str
    analyte: str | None = None
    low: float | None = None
    high: float | None = None
    statistic: Statistic = "latest"
    results: int = 5

    @property
    def oldest(self) -> timedelta:
        return timedelta(hours=self.oldest_h)

    def spec(self) -> FeatureSpec:
        codes = tuple(Code(LOINC, code) for code in self.loinc)
        return FeatureSpec(
            *(self.name, self.label, codes, self.unit, self.analyte, self.low, self.high, self.oldest, self.statistic)
        )


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    feature: tuple[_Row, ...]
    person: tuple[Person, ...] = ()
    resources: tuple[Literal["Encounter", "Condition", "MedicationRequest"], ...] = ()


def read_feature_table(path: Path) -> FeatureVectorInputs:
    """The inputs that the table in `path` describes: one tensor `features` (1, features and person) float32.

    Raises:
        ManifestError: no such file, not TOML, an unknown member, or a unit, analyte or search that doesn't exist.
    """
    try:
        table = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Table)
        specs, queries = tuple(row.spec() for row in table.feature), _queries(table)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError, FhirAdapterError) as exc:
        raise ManifestError(f"feature table {path.name} of {path.parent.name}: {exc}") from exc
    names = [spec.name for spec in specs] + list(table.person)
    if len(set(names)) != len(names):
        raise ManifestError(f"feature table {path.name} of {path.parent.name}: names must differ")
    return FeatureVectorInputs(specs, queries, derive=lambda record, as_of: _person(table.person, record, as_of))


def _queries(table: _Table) -> tuple[Query, ...]:
    """The patient, what the criteria look at, and a search for each group of features, wide enough for all of them."""
    rows = sorted(table.feature, key=lambda row: row.search)
    searches = []
    for name, group in groupby(rows, key=lambda row: row.search):
        members = list(group)
        codes = tuple(dict.fromkeys(code for row in members for code in row.spec().codes))
        oldest, results = max(row.oldest for row in members), sum(row.results for row in members)
        searches.append(Query(name, "Observation", codes, lookback=oldest, count=results))
    return (Query("patient", "Patient", required=True), *(_RESOURCES[name] for name in table.resources), *searches)


def _person(wanted: tuple[Person, ...], record: PatientRecord, as_of: datetime) -> tuple[Evidence, ...]:
    person = record.patient
    source = None if person is None else f"Patient/{record.patient_id}"
    age, sex = (None, None) if person is None else (person.age(as_of), person.sex)
    male = None if sex is None else float(sex == "male")
    known = {
        "age": Evidence("age", "age", age, "a", None, source, "missing" if age is None else None),
        "male": Evidence("male", "sex", male, "", None, source, "missing" if sex is None else None, display=sex),
    }
    return tuple(known[name] for name in wanted)
