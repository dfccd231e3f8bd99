"""What a model needs from the EHR, and the FHIR R4 search that asks for it.

Owns `Query` and the search parameters per resource (https://hl7.org/fhir/R4/search.html). Only what CDS Hooks recommends for
prefetch is used: reference and token equality, date prefixes, `_count`, `_sort` ("Prefetch query restrictions", 2.0 and 3.0).
Knows no CDS Hooks: the service turns `search_parameters` into templates, `search_url` serves the FHIR fallback.

To ask for one more resource: a line in `_SEARCHES`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

from fhir_adapters.codes import Code
from fhir_adapters.errors import QueryError
from fhir_adapters.resources import PatientId


class _Search(NamedTuple):
    """The names of a resource's search parameters; an empty name means that R4 has none."""

    code: str
    date: str
    status: str
    sort: str


_SEARCHES: dict[str, _Search] = {
    "Observation": _Search("code", "date", "status", "-date"),
    # A diagnosis has no one date: a window would lose what was recorded without any.
    "Condition": _Search("code", "", "clinical-status", ""),
    "Encounter": _Search("type", "date", "status", "-date"),
    "MedicationRequest": _Search("code", "authoredon", "status", "-authoredon"),
    "MedicationStatement": _Search("code", "effective", "status", "-effective"),
    "MedicationAdministration": _Search("code", "effective-time", "status", "-effective-time"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A need for data: a resource type, codes, how far back, how many, and what it means if it can't be had.

    `required`: the model can't do without, and the call fails. `widens`: the model answers, and its estimate is less certain
    than one made with it; that is told in words, its interval stays as it is. Neither: the model answers as where there is
    nothing.

    Raises: QueryError for a resource without known search parameters, a window on one that has no date parameter, or both
    meanings at once.
    """

    name: str
    resource: str
    codes: tuple[Code, ...] = ()
    lookback: timedelta | None = None
    status: tuple[str, ...] = ()
    count: int | None = None
    required: bool = False
    widens: bool = False

    def __post_init__(self) -> None:
        if self.required and self.widens:
            raise QueryError(f"query {self.name}: expected it to be required or to widen, got both")
        if self.resource != "Patient" and self.resource not in _SEARCHES:
            raise QueryError(f"query resource: expected Patient or one of {sorted(_SEARCHES)}, got {self.resource}")
        if self.lookback is not None and not (self.resource in _SEARCHES and _SEARCHES[self.resource].date):
            raise QueryError(f"query lookback: expected none for {self.resource}, got one")


def search_parameters(query: Query, patient: str, since: str | None) -> tuple[tuple[str, str], ...]:
    """The search parameters, not yet escaped; `patient` and `since` may be values or a template's tokens."""
    search = _SEARCHES[query.resource]
    parameters = [("patient", patient)]
    if query.codes:
        parameters.append((search.code, ",".join(f"{_token(c.system)}|{_token(c.code)}" for c in query.codes)))
    if query.status:
        parameters.append((search.status, ",".join(map(_token, query.status))))
    if since is not None:
        parameters.append((search.date, f"ge{since}"))
    if search.sort:
        parameters.append(("_sort", search.sort))
    if query.count is not None:
        parameters.append(("_count", str(query.count)))
    return tuple(parameters)


def search_url(query: Query, patient_id: PatientId, as_of: datetime) -> str:
    """The relative URL: `Observation?patient=1&code=…&date=ge2026-01-01&_sort=-date`, or `Patient/1`.

    The window starts on the whole UTC day before `as_of - lookback`, so that no time zone loses a value.
    """
    if query.resource == "Patient":
        return f"Patient/{quote(patient_id, safe='')}"
    since = None
    if query.lookback is not None:
        since = (as_of - query.lookback - timedelta(days=1)).astimezone(UTC).date().isoformat()
    parameters = search_parameters(query, patient_id, since)
    return f"{query.resource}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)


def merge_queries(queries: Iterable[Query]) -> tuple[Query, ...]:
    """One query per name, wide enough for all: codes united, the longest window, the larger count, required if any is.

    Raises: QueryError if one name asks for two resource types.
    """
    merged: dict[str, Query] = {}
    for query in queries:
        known = merged.get(query.name)
        merged[query.name] = query if known is None else _unite(known, query)
    return tuple(merged.values())


def _unite(a: Query, b: Query) -> Query:
    if a.resource != b.resource:
        raise QueryError(f"query {a.name}: expected one resource, got {a.resource} and {b.resource}")
    return replace(
        a,
        # No codes, no window, no status and no count each mean "all", and all includes the other's share.
        codes=tuple(dict.fromkeys(a.codes + b.codes)) if a.codes and b.codes else (),
        status=tuple(dict.fromkeys(a.status + b.status)) if a.status and b.status else (),
        lookback=max(a.lookback, b.lookback) if a.lookback is not None and b.lookback is not None else None,
        count=max(a.count, b.count) if a.count is not None and b.count is not None else None,
        required=a.required or b.required,
        widens=(a.widens or b.widens) and not (a.required or b.required),
    )


def _token(text: str) -> str:
    r"""A value with the search separators escaped (`\,`, `\|`, `\$`), https://hl7.org/fhir/R4/search.html#escaping."""
    for mark in ("\\", ",", "|", "$"):
        text = text.replace(mark, "\\" + mark)
    return text
