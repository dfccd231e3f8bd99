"""How often a client may call: a bucket of tokens for each client, in each worker process.

A process knows only its own calls, so each gets its share of what was agreed, rounded up. A client may use a minute's share
at once; after that it comes back evenly.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from cds_service.clients import CdsClient
from cds_service.errors import TooManyCallsError

_ALMOST = 1 - 1e-9  # what came back in exact seconds must count as a whole token, whatever the floats say


class RateLimit:
    """The clients' buckets; safe in many threads."""

    def __init__(self, workers: int, monotonic: Callable[[], float]) -> None:
        """Shares what was agreed among `workers`; `monotonic` gives seconds."""
        self._workers = workers
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: CdsClient) -> None:
        """Returns if the client may call now, which uses up one token.

        Raises:
            TooManyCallsError: it has none left.
        """
        if not client.calls_per_minute:
            return
        share = -(-client.calls_per_minute // self._workers)
        per_second = share / 60
        with self._lock:
            now = self._monotonic()
            tokens, since = self._buckets.get(client.id, (float(share), now))
            tokens = min(float(share), tokens + max(0.0, now - since) * per_second)
            taken = tokens >= _ALMOST
            self._buckets[client.id] = (tokens - 1 if taken else tokens, now)
        if not taken:
            wait_s = max(1, math.ceil((_ALMOST - tokens) / per_second))
            raise TooManyCallsError(f"calls: expected at most {client.calls_per_minute} a minute", wait_s)
