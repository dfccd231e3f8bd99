"""Reads from the EHR's FHIR server: bounded in time, pages and bytes, and never beyond the server it was given.

The only module that may import requests. A client serves one hook request: its token is the caller's, its deadline the
request's. What it guards against (CDS Hooks 2.0 "Security", SMART App Launch 2.2.0 "app-launch", and plain SSRF):

1. the base's origin must be allowed by configuration; http is for loopback only;
2. every URL, next links included, must have the base's origin, so the token goes nowhere else; redirects are refused;
3. no proxies, netrc or certificates from the environment;
4. a total deadline holds even for a server that drips a byte per second: a watchdog shuts the socket, and `fetch_all` stops
   waiting whatever happens;
5. compressed answers are not asked for, so the byte limit counts what arrives and no small answer unpacks into a large one.

Errors name no URL, token or body: they are raised `from None`, as the causes' texts hold all three.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, TimeoutError as SocketTimeoutError

from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.errors import (
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamConnectionError,
    UpstreamNotJsonError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from fhir_adapters.resources import BundleLink

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}
_CHUNK = 65_536
# More threads than a server likes to see from one client help nobody.
_MAX_PARALLEL = 8
