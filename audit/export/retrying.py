"""Asking again where that may help: after 429, 502, 503, 504, and when nobody answered (OTLP 1.9, "Retryable responses").

`Retry-After` is heeded as far as patience reaches; else each pause is twice the one before. All other answers are final.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from audit.export.errors import DeliveryError
from audit.outside import Ask, HttpAnswer, OutsideError

RETRYABLE = frozenset((429, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a destination: `attempts` in all, no pause longer than `longest_pause_s`."""

    sleep: Callable[[float], None]
    now: Callable[[], datetime]
    attempts: int = 5
    pause_s: float = 0.5
    longest_pause_s: float = 60.0
    timeout_s: float = 10.0


def ask_patiently(
    ask: Ask, patience: Patience, method: str, url: str, body: bytes, headers: Mapping[str, str]
) -> HttpAnswer:
    """The first answer that is final.

    Raises:
        DeliveryError: none within `patience`.
    """
    failure = "no attempt"
    for attempt in range(patience.attempts):
        pause_s = patience.pause_s * 2**attempt
        try:
            answer = ask(method, url, body=body, headers=headers, timeout_s=patience.timeout_s)
        except OutsideError as exc:
            failure = str(exc)
        else:
            if answer.status not in RETRYABLE:
                return answer
            failure = f"status {answer.status}"
            pause_s = max(_asked_pause_s(answer, patience.now()) or 0.0, pause_s)
        if attempt + 1 < patience.attempts:
            patience.sleep(min(pause_s, patience.longest_pause_s))
    message = f"not delivered in {patience.attempts} attempts: {failure}"
    raise DeliveryError(message)


def _asked_pause_s(answer: HttpAnswer, now: datetime) -> float | None:
    """What `Retry-After` asks for (RFC 9110 §10.2.3): seconds or a date; None where it says nothing readable."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:6])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year that no integer of C holds
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max((moment - now).total_seconds(), 0.0)
