"""What a FHIR server would answer to queries, of resources that are already here.

A model asks the EHR for some codes, some statuses and some years. Where the whole record lies here instead, it must read no
more than that. This is the same search in memory, with the meaning of `queries.search_parameters`
(https://hl7.org/fhir/R4/search.html): code and status by token, the window from a whole day before it begins, the newest
`count` by date. A search for codes of drugs also finds an order that refers to a Medication with such a code.

Pure; one object serves many patients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from operator import itemgetter
from typing import Any

from fhir_adapters.bulk import code_key
from fhir_adapters.codes import CodeKey
from fhir_adapters.instants import Interval, parse_instants
from fhir_adapters.mappings.elements import read_interval, read_period
from fhir_adapters.queries import Query
from fhir_adapters.resources import (
    AnyMedicationUse,
    BundleEntry,
    Condition,
    Encounter,
    Location,
    Medication,
    Observation,
)

_OPEN_CONDITION = "active"
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class LocalSearch:
    """Answers these queries of one patient's resources after another."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self.queries = tuple(queries)
        self.kinds = frozenset(query.resource for query in queries)
        self._by_code: dict[str, dict[CodeKey, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._uncoded: dict[str, list[int]] = defaultdict(list)
        for place, query in enumerate(self.queries):
            if not query.codes:
                self._uncoded[query.resource].append(place)
            for code in query.codes:
                self._by_code[query.resource][code_key(code.system, code.code)].append(place)

    @property
    def observation_codes(self) -> frozenset[CodeKey] | None:
        """The codes of Observations that are asked for, None where all are."""
        return None if self._uncoded.get("Observation") else frozenset(self._by_code["Observation"])

    def found(self, entries: Iterable[BundleEntry], as_of: datetime) -> tuple[BundleEntry, ...]:
        """The entries that at least one query finds, and the places and drugs, in their order. O(n log n)."""
        entries = tuple(entries)
        drugs = _drug_codes(entries)
        dates = _dates(entries)
        matches: dict[int, list[tuple[datetime, int]]] = {place: [] for place in range(len(self.queries))}
        kept: set[int] = set()
        starts = [self._start(query, as_of) for query in self.queries]
        for position, (entry, when) in enumerate(zip(entries, dates, strict=True)):
            resource = entry.resource
            if isinstance(resource, Location | Medication):
                kept.add(position)
                continue
            for place in self._asked(resource, drugs):
                status, since = self.queries[place].status, starts[place]
                if status and _status(resource) not in status:
                    continue
                if since is None or (when is not None and when.end >= since):
                    matches[place].append((_ALWAYS if when is None else when.start, position))
        for place, found in matches.items():
            count = self.queries[place].count
            if count is not None and len(found) > count:
                found = nlargest(count, found, key=itemgetter(0))
            kept.update(position for _, position in found)
        return tuple(entries[position] for position in sorted(kept))

    def _start(self, query: Query, as_of: datetime) -> datetime | None:
        """The first moment of the window, None without one."""
        if query.lookback is None:
            return None
        since = (as_of - query.lookback - timedelta(days=1)).astimezone(UTC)
        return since.replace(hour=0, minute=0, second=0, microsecond=0)

    def _asked(self, resource: Any, drugs: Mapping[str, Iterable[CodeKey]]) -> Iterable[int]:
        """Positions of the queries for this kind and one of its codes."""
        kind = type(resource).__name__
        uncoded, by_code = self._uncoded.get(kind, ()), self._by_code.get(kind)
        if not by_code:
            return uncoded
        asked = [place for key in _codes(resource, drugs) for place in by_code.get(key, ())]
        return dict.fromkeys((*uncoded, *asked)) if uncoded or len(asked) > 1 else asked


def _dates(entries: Sequence[BundleEntry]) -> list[Interval | None]:
    """What `_sort` and the window go by; the exact times of Observations are read together, at an eighth of the cost."""
    texts = [
        entry.resource.effective_date_time
        for entry in entries
        if type(entry.resource) is Observation and entry.resource.effective_date_time is not None
    ]
    moments = parse_instants(texts)
    exact = {} if moments is None else dict(zip(texts, moments, strict=True))
    intervals = {text: Interval(moment, moment) for text, moment in exact.items()}
    return [
        intervals.get(getattr(entry.resource, "effective_date_time", None) or "") or _date(entry.resource)
        for entry in entries
    ]


def _codes(resource: Any, drugs: Mapping[str, Iterable[CodeKey]]) -> list[CodeKey]:
    if isinstance(resource, Encounter):
        concepts = resource.type or ()
    elif isinstance(resource, AnyMedicationUse):
        concept = resource.medication_codeable_concept
        if concept is None and resource.medication_reference is not None:
            return list(drugs.get(resource.medication_reference.reference or "", ()))
        concepts = () if concept is None else (concept,)
    else:
        concepts = () if resource.code is None else (resource.code,)
    return [code_key(one.system, one.code) for concept in concepts for one in concept.coding or ()]


def _drug_codes(entries: Iterable[BundleEntry]) -> dict[str, list[CodeKey]]:
    found: dict[str, list[CodeKey]] = {}
    for entry in entries:
        if isinstance(entry.resource, Medication) and entry.resource.code is not None:
            keys = [code_key(one.system, one.code) for one in entry.resource.code.coding or ()]
            found |= {name: keys for name in (entry.full_url, f"Medication/{entry.resource.id}") if name}
    return found


def _status(resource: Any) -> str | None:
    if isinstance(resource, Condition):
        status = resource.clinical_status
        if status is None or isinstance(status, str):
            return status or _OPEN_CONDITION
        return next((one.code for one in status.coding or () if one.code), _OPEN_CONDITION)
    found: str | None = getattr(resource, "status", None)
    return found


def _date(resource: Any) -> Interval | None:
    """What `_sort` and the window go by."""
    if isinstance(resource, Observation):
        text = resource.effective_date_time or resource.effective_instant
        return read_interval(text) if text else read_period(resource.effective_period)
    if isinstance(resource, Encounter):
        return read_period(resource.period)
    text = getattr(resource, "authored_on", None) or getattr(resource, "effective_date_time", None)
    return read_interval(text) if text else read_period(getattr(resource, "effective_period", None))
