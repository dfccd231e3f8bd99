"""The way out to witnesses, time-stamping authorities and collectors: what the log asks of the network, and nothing of how.

The function that does it is handed in by whoever wires the service, who alone knows which addresses may be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from audit.errors import AuditError


class OutsideError(AuditError):
    """An outsider couldn't be asked, or gave no usable answer; the message names it and nothing that was sent."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it came; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Ask(Protocol):
    """One HTTP request to an allowed address; follows no redirect, reads at most 1 MiB.

    Raises:
        OutsideError: the address isn't allowed, the host can't be reached, or it took longer than `timeout_s`.
    """

    def __call__(
        self, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] = {}, timeout_s: float = 5.0
    ) -> HttpAnswer: ...
