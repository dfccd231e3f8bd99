"""The pocket EHR's FHIR R4 answers: read, search with paging, capabilities, and the check of the access token.

Spec: https://hl7.org/fhir/R4/http.html. Knows no HTTP framework: `fhir_views` puts it on the wire, and the CDS client
resolves its prefetch templates by `resolve`, so both see the same charts. Searches are strict (`search`); besides the
parameters there it takes `_count`, `_sort` and `_format`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from urllib.parse import parse_qsl, quote, urlencode

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.search import PARAMETERS, matching, ordered
from demo.store import ChartStore

DEFAULT_COUNT = 50
MAX_COUNT = 5000  # a whole stay in intensive care fits into one answer
# Pages that were announced and not yet asked for; the oldest is forgotten first.
MAX_OPEN_PAGES = 1024
_JSON_FORMATS = ("json", "application/json", "application/fhir+json")


@dataclass(frozen=True, slots=True)
class _OpenPage:
    resource_type: str
    found: tuple[Resource, ...]
    offset: int
    count: int


@dataclass(slots=True)
class FhirServer:
    """`base_url` without a slash at its end, for example `http://127.0.0.1:8090/fhir`."""

    store: ChartStore
    base_url: str
    token: str = field(repr=False)
    started: datetime
    _pages: OrderedDict[str, _OpenPage] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def authorize(self, header: str | None) -> None:
        """Raises FhirRequestError (401) unless `header` is the Authorization of this server's token."""
        scheme, _, presented = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(presented.strip().encode(), self.token.encode()):
            raise FhirRequestError("authorization: expected the bearer token of this server", status=401, code="login")

    def resolve(self, relative_url: str) -> Resource:
        """What GET of `relative_url` ("Patient/1", "Observation?patient=1") answers, but unpaged where no `_count` asks
        for pages: who has only this answer should have it whole. Raises FhirRequestError.
        """
        path, _, query = relative_url.partition("?")
        resource_type, _, resource_id = path.partition("/")
        if resource_id:
            return self.read(resource_type, resource_id)
        return self.search(resource_type, parse_qsl(query, keep_blank_values=True), default_count=MAX_COUNT)

    def read(self, resource_type: str, resource_id: str) -> Resource:
        _check_type(resource_type)
        resource = self.store.read(resource_type, resource_id)
        if resource is None:
            raise FhirRequestError(f"{resource_type}: no resource with this id", status=404, code="not-found")
        return resource

    def search(
        self, resource_type: str, query: Sequence[tuple[str, str]], default_count: int = DEFAULT_COUNT
    ) -> Resource:
        """A searchset Bundle: the first page of what matches, `total`, and a `next` link where there is more."""
        _check_type(resource_type)
        if len(query) == 1 and query[0][0] == "_page":
            return self._next_page(resource_type, query[0][1])
        controls = _controls(query)
        criteria = [(name, value) for name, value in query if name not in ("_count", "_sort", "_format")]
        found = matching(resource_type, self.store.all_of(resource_type), criteria)
        everything = tuple(ordered(resource_type, found, controls.get("_sort")))
        page = _OpenPage(resource_type, everything, 0, _count(controls.get("_count"), default_count))
        return self._bundle(page, self_link=f"{resource_type}?{urlencode(query)}")

    def _next_page(self, resource_type: str, page_id: str) -> Resource:
        with self._lock:
            page = self._pages.get(page_id)
        if page is None or page.resource_type != resource_type:
            raise FhirRequestError("search page: unknown or forgotten", status=410, code="not-found")
        return self._bundle(page, self_link=f"{resource_type}?_page={page_id}")

    def _bundle(self, page: _OpenPage, self_link: str) -> Resource:
        shown = page.found[page.offset : page.offset + page.count]
        links = [{"relation": "self", "url": f"{self.base_url}/{self_link}"}]
        following = page.offset + page.count
        if page.count and following < len(page.found):
            page_id = self._announce(_OpenPage(page.resource_type, page.found, following, page.count))
            links.append({"relation": "next", "url": f"{self.base_url}/{page.resource_type}?_page={page_id}"})
        bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "total": len(page.found), "link": links}
        if shown:
            bundle["entry"] = [self._entry(resource) for resource in shown]
        return bundle

    def _announce(self, page: _OpenPage) -> str:
        page_id = secrets.token_urlsafe(12)
        with self._lock:
            self._pages[page_id] = page
            while len(self._pages) > MAX_OPEN_PAGES:
                self._pages.popitem(last=False)
        return page_id

    def _entry(self, resource: Resource) -> Resource:
        full_url = f"{self.base_url}/{resource['resourceType']}/{quote(resource['id'])}"
        return {"fullUrl": full_url, "resource": resource, "search": {"mode": "match"}}

    def capabilities(self) -> Resource:
        """The CapabilityStatement of `/metadata`."""
        security = {"description": "Bearer token made at start, handed to the CDS service with each hook call."}
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": self.started.isoformat(timespec="seconds"),
            "kind": "instance",
            "software": {"name": "Bedside pocket EHR"},
            "implementation": {
                "description": "Synthetic and de-identified demonstration charts, not for care",
                "url": self.base_url,
            },
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json"],
            "rest": [{"mode": "server", "security": security, "resource": [_capability(name) for name in PARAMETERS]}],
        }


def operation_outcome(error: FhirRequestError) -> Resource:
    issue = {"severity": "error", "code": error.code, "diagnostics": str(error)}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _capability(resource_type: str) -> Resource:
    parameters = [{"name": name, "type": known.kind} for name, known in PARAMETERS[resource_type].items()]
    return {
        "type": resource_type,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": parameters,
    }


def _check_type(resource_type: str) -> None:
    if resource_type not in PARAMETERS:
        raise FhirRequestError("resource type: not supported by this server", status=404, code="not-supported")


def _controls(query: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    controls = {name: value for name, value in query if name in ("_count", "_sort", "_format")}
    if controls.get("_format", "json") not in _JSON_FORMATS:
        raise FhirRequestError("_format: expected json", status=406, code="not-supported")
    return controls


def _count(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise FhirRequestError("_count: expected a number")
    return min(int(text), MAX_COUNT)
