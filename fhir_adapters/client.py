"""Reads from the EHR's FHIR server: bounded in time, pages and bytes, and never beyond the server it was given.

The only module that may import requests. A client serves one hook request: its token is the caller's, its deadline the
request's. What it guards against (CDS Hooks 2.0 "Security", SMART App Launch 2.2.0 "app-launch", and plain SSRF):

1. the base must be allowed by configuration, and be no more than a base: no query, no fragment; http is for loopback only;
2. every URL must lie under the base, and a next link on its origin (servers page at paths of their own), so the token goes
   nowhere else; dot segments are refused, encoded ones too, as a server may resolve them; redirects are refused;
3. no proxies, netrc or certificates from the environment;
4. a total deadline holds even for a server that drips a byte per second: a watchdog shuts the socket, and `fetch_all` stops
   waiting whatever happens;
5. compressed answers are not asked for, so the byte limit counts what arrives and no small answer unpacks into a large one;
6. a name that leads to a private address or to this machine is not followed there: see `outbound`.

Errors name no URL, token or body: they are raised `from None`, as the causes' texts hold all three.
"""

import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urljoin, urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as SocketTimeoutError

from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.errors import (
    AddressNotAllowedError,
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamConnectionError,
    UpstreamNotJsonError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from fhir_adapters.outbound import LOOPBACK_HOSTS, AddressPolicy, was_refused
from fhir_adapters.resources import BundleLink
from fhir_adapters.watchdog import Watchdog, pool_classes

_PORTS = {"http": 80, "https": 443}
ANYWHERE_PUBLIC = AddressPolicy()
_CHUNK = 65_536
# More threads than a server likes to see from one client help nobody.
_MAX_PARALLEL = 8


class FhirClient:
    """Reads JSON from one FHIR server with one token until one deadline.

    `allowed_servers` are base URLs, to one of which the base must be equal save for a last slash, a default port and the
    host's case. `timeout_s` bounds connecting and each read; `deadline` is a moment of `clock` (monotonic seconds) that bounds
    everything; `max_bytes` bounds the sum of all pages of one `read`. `ca_file` is a PEM file where the hospital has a
    certification authority of its own. `policy` says which addresses may be contacted; `headers` go with every request, save
    those the client itself sets. Safe to use from several threads.

    Raises:
        OriginNotAllowedError: the base is not allowed.
        ValueError: a header has a character other than printable ASCII.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None,
        *,
        allowed_servers: Iterable[str],
        policy: AddressPolicy = ANYWHERE_PUBLIC,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
        deadline: float,
        max_pages: int = 10,
        max_bytes: int = 16 * 2**20,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        parts = _split(self._base)
        self._origin = _origin(parts)
        if "?" in base_url or "#" in base_url:  # (1)
            raise OriginNotAllowedError("fhir server: expected no query or fragment, got one")
        if _server(parts) not in {_server(_split(server)) for server in allowed_servers}:
            raise OriginNotAllowedError("fhir server: expected an allowed one, got another")
        _check_scheme(parts)
        self._base_path = parts.path
        self._timeout_s = timeout_s
        self._deadline = deadline
        self._max_pages = max_pages
        self._max_bytes = max_bytes
        self._clock = clock
        self._session = _session(token, ca_file, policy, headers or {}, "application/fhir+json")

    def __enter__(self) -> "FhirClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    @property
    def deadline(self) -> float:
        return self._deadline

    def remaining_s(self, deadline: float | None = None) -> float:
        """Seconds until the deadline, or until an earlier one; negative when it has passed."""
        return min(self._deadline, self._deadline if deadline is None else deadline) - self._clock()

    def read(self, url: str) -> list[bytes]:
        """The document at a URL relative to the base, and its following pages in order.

        Where the URL asks for so many (`_count`, newest first) no page is asked for once they have come.

        Raises: a leaf of FhirUpstreamError; UpstreamTooLargeError carries the pages read before the limit.
        """
        documents: list[bytes] = []
        left, wanted = self._max_bytes, _wanted_entries(url)
        following: str | None = self._resolve(url, self._base_path)
        while following is not None:
            if len(documents) == self._max_pages:
                raise UpstreamTooLargeError(
                    f"fhir pages: expected at most {self._max_pages}, got more", tuple(documents)
                )
            body = self._get(following, left, tuple(documents))
            left -= len(body)
            documents.append(body)
            page = _read_page(body)
            wanted -= page.size
            link = page.next_url
            following = None if link is None or wanted <= 0 else self._resolve(link, "/")
        return documents

    def _resolve(self, url: str, path: str) -> str:
        """The absolute URL; it must lie on the base's origin and under `path` (2)."""
        absolute = urljoin(self._base, url)
        parts = _split(absolute)
        if _origin(parts) != self._origin or not parts.path.startswith(path):
            raise OriginNotAllowedError("fhir url: expected one on the fhir server, got another place")
        if any(segment.partition(";")[0] in (".", "..") for segment in re.split(r"[/\\]", unquote(parts.path))):
            raise OriginNotAllowedError("fhir url: expected no dot segment, got one")
        return absolute

    def _get(self, url: str, max_bytes: int, before: tuple[bytes, ...]) -> bytes:
        limits = _Limits(self._timeout_s, self._max_bytes, max_bytes, before)
        return _get(self._session, url, limits, self.remaining_s)


def fetch_document(
    url: str,
    *,
    policy: AddressPolicy,
    timeout_s: float,
    deadline: float = math.inf,
    max_bytes: int,
    ca_file: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """The document at `url`, which the caller has found on its list; read whole within `timeout_s` and before `deadline`.

    Raises: a leaf of FhirUpstreamError, also for http beyond loopback.
    """
    _check_scheme(_split(url))
    until = min(deadline, clock() + timeout_s)
    with _session(None, ca_file, policy, {}, "application/json") as session:
        return _get(session, url, _Limits(timeout_s, max_bytes, max_bytes, ()), lambda: until - clock())


class Answer(NamedTuple):
    """An answer as it came, whatever its status; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str],
    policy: AddressPolicy,
    timeout_s: float,
    max_bytes: int,
    ca_file: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """The answer to one request to a `url` that the caller has found on its list, whole within `timeout_s`.

    For servers of any kind: the status is the caller's to judge, redirects among them.

    Raises: a leaf of FhirUpstreamError, also for http beyond loopback, save UpstreamStatusError; ValueError as FhirClient.
    """
    _check_scheme(_split(url))
    until = clock() + timeout_s
    with _session(None, ca_file, policy, headers, headers.get("Accept", "*/*")) as session:
        limits = _Limits(timeout_s, max_bytes, max_bytes, ())
        return _exchange(session, requests.Request(method, url, data=body or None), limits, lambda: until - clock())


class _Limits(NamedTuple):
    """Of one exchange: seconds for connecting and each read; the bytes allowed in all, and those left; pages before."""

    timeout_s: float
    max_bytes: int
    left_bytes: int
    before: tuple[bytes, ...]


def _get(session: requests.Session, url: str, limits: _Limits, remaining_s: Callable[[], float]) -> bytes:
    return _exchange(session, requests.Request("GET", url), limits, remaining_s, _require_ok).body


def _require_ok(response: requests.Response) -> None:
    if response.status_code != 200:
        raise UpstreamStatusError(response.status_code)


def _exchange(
    session: requests.Session,
    request: requests.Request,
    limits: _Limits,
    remaining_s: Callable[[], float],
    check: Callable[[requests.Response], None] = lambda _: None,
) -> Answer:
    """The answer; `check` raises where its body isn't worth reading."""
    remaining = remaining_s()
    if remaining <= 0:
        raise UpstreamTimeoutError("fhir deadline: expected time left, got none")
    timeout = min(limits.timeout_s, remaining)
    with Watchdog(remaining) as watchdog:  # (4)
        try:
            prepared = session.prepare_request(request)
            with session.send(prepared, timeout=timeout, allow_redirects=False, stream=True) as response:
                check(response)
                if response.headers.get("Content-Encoding", "identity") != "identity":  # (5)
                    raise UpstreamNotJsonError("fhir answer: expected no content encoding, got one")
                body = _body(response, limits, remaining_s)
        except (requests.Timeout, SocketTimeoutError):
            raise UpstreamTimeoutError(f"fhir server: expected an answer in {timeout:.1f} s, got none") from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            if was_refused(exc):  # (6)
                raise AddressNotAllowedError("fhir server: expected an address that may be contacted") from None
            if watchdog.expired or remaining_s() <= 0:
                raise UpstreamTimeoutError("fhir deadline: expected an answer before it, got a part") from None
            raise UpstreamConnectionError("fhir server: expected an answer, got a broken connection") from None
    if watchdog.expired:  # a shut socket can look like the regular end of an answer without a length
        raise UpstreamTimeoutError("fhir deadline: expected an answer before it, got a part")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)


def _body(response: requests.Response, limits: _Limits, remaining_s: Callable[[], float]) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK):
        body += chunk
        if len(body) > limits.left_bytes:
            message = f"fhir answer: expected at most {limits.max_bytes} bytes, got more"
            raise UpstreamTooLargeError(message, limits.before)
        if remaining_s() <= 0:
            raise UpstreamTimeoutError("fhir deadline: expected an answer before it, got a part")
    return bytes(body)


def fetch_all(
    client: FhirClient, urls: Iterable[str], deadline: float | None = None
) -> dict[str, list[bytes] | FhirUpstreamError]:
    """What `client.read` gives for each URL, or its error, read in parallel; returns at the deadline at the latest.

    A read that hangs is left to its own watchdog on a daemon thread, and its URL gets UpstreamTimeoutError.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, list[bytes] | FhirUpstreamError]] = queue.SimpleQueue()
    distinct = list(dict.fromkeys(urls))
    for url in distinct:
        waiting.put(url)

    def work() -> None:
        while True:
            try:
                url = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put((url, client.read(url)))
            except FhirUpstreamError as error:
                answers.put((url, error))

    for _ in range(min(_MAX_PARALLEL, len(distinct))):
        threading.Thread(target=work, name="fhir-read", daemon=True).start()
    results: dict[str, list[bytes] | FhirUpstreamError] = {}
    while len(results) < len(distinct):
        try:
            url, answer = answers.get(timeout=max(client.remaining_s(deadline), 0.0))
        except queue.Empty:
            break
        results[url] = answer
    late = UpstreamTimeoutError("fhir deadline: expected an answer before it, got none")
    return {url: results.get(url, late) for url in distinct}


def _split(url: str) -> SplitResult:
    # Parsers disagree about backslashes, blanks and user information: none belongs in a FHIR URL.
    if "\\" in url or any(ch <= " " or ch == "\x7f" for ch in url):
        raise OriginNotAllowedError("fhir url: expected no blank, control character or backslash, got one")
    try:
        parts = urlsplit(url)
        # Encoded or foreign characters in a host are read differently by each parser, and a zone names an own interface.
        is_plain = parts.netloc.isascii() and "@" not in parts.netloc and "%" not in parts.netloc
        if parts.scheme not in _PORTS or not parts.hostname or not is_plain:
            raise OriginNotAllowedError("fhir url: expected http(s)://host, got another form")
        _ = parts.port
    except ValueError:
        raise OriginNotAllowedError("fhir url: expected http(s)://host, got another form") from None
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]


def _server(parts: SplitResult) -> tuple[tuple[str, str, int], str]:
    return _origin(parts), parts.path.rstrip("/")


def _check_scheme(parts: SplitResult) -> None:
    """Raises: OriginNotAllowedError for http beyond loopback, where anyone could read the token and write the answer."""
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise OriginNotAllowedError("url: expected https beyond loopback, got http")


class _Page(msgspec.Struct, frozen=True):
    link: tuple[BundleLink, ...] | None = None
    entry: tuple[msgspec.Raw, ...] | None = None

    @property
    def size(self) -> int:
        return len(self.entry or ())

    @property
    def next_url(self) -> str | None:
        return next((link.url for link in self.link or () if link.relation == "next" and link.url), None)


_PAGES = msgspec.json.Decoder(_Page)


def _read_page(body: bytes) -> _Page:
    try:
        return _PAGES.decode(body)
    except DECODE_ERRORS:
        raise UpstreamNotJsonError("fhir answer: expected a json object, got something else") from None


def _wanted_entries(url: str) -> float:
    """The `_count` a URL asks for; without one, all there are."""
    counts = parse_qs(urlsplit(url).query).get("_count", [])
    return int(counts[0]) if counts and counts[0].isdecimal() else math.inf


class _Adapter(HTTPAdapter):
    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        super().__init__(pool_maxsize=_MAX_PARALLEL)

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = pool_classes(self._policy)


def _session(
    token: str | None, ca_file: str | None, policy: AddressPolicy, headers: Mapping[str, str], accept: str
) -> requests.Session:
    if not all(text.isascii() and text.isprintable() for header in headers.items() for text in header):
        raise ValueError("header: expected printable ascii, got another character")
    session = requests.Session()
    session.trust_env = False  # (3)
    session.verify = ca_file or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update(headers)
    session.headers.update({"Accept": accept, "Accept-Encoding": "identity"})  # (5)
    if token is not None:
        session.headers["Authorization"] = f"Bearer {token}"
    adapter = _Adapter(policy)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
