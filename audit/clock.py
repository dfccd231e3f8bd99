"""What an entry says of the clock it was dated by. The order of entries is their index; a time is only what a clock said.

    synchronised     the kernel keeps the clock in step with a reference (NTP, PTP)
    unsynchronised   it doesn't, or the kernel can't be asked
    stepped-back     it shows an earlier time than an entry already in the log

The kernel is asked again every few seconds, for a reference may be lost, or found, at any time.
Stepping back raises an alarm in the operations log, once each time it begins.
"""

import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

log = logging.getLogger("bedside.audit.clock")

ClockStatus = Literal["synchronised", "unsynchronised", "stepped-back"]

# Hosts that share a log differ by this much at most where their clocks are kept in step at all.
TOLERANCE = timedelta(seconds=2)
# The kernel itself lets minutes pass before it says that its reference is lost.
ASK_AGAIN_S = 5.0
# adjtimex(2): STA_UNSYNC in timex.status, and TIME_ERROR as result.
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_STATUS_OFFSET = 4 * ctypes.sizeof(ctypes.c_long) + ctypes.sizeof(ctypes.c_long)
_TIMEX_BYTES = 512  # more than any kernel's struct timex


def kernel_synchronised() -> bool:
    """Whether the kernel says that its clock is kept in step; False where it can't be asked."""
    if not sys.platform.startswith("linux"):
        return False
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only ask
    result = ctypes.CDLL(None).adjtimex(buffer)
    status = ctypes.c_int.from_buffer(buffer, _STATUS_OFFSET).value
    return 0 <= result < _TIME_ERROR and not status & _STA_UNSYNC


class ClockGuard:
    """Tells a time's status; safe in many threads."""

    def __init__(
        self,
        latest: datetime | None,
        *,
        synchronised: Callable[[], bool] = kernel_synchronised,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts from the latest time of any entry, if there is one; `elapsed_s` says when `synchronised` is asked again."""
        self._latest = latest
        self._ask = synchronised
        self._elapsed_s = elapsed_s
        self._state = threading.Lock()  # guards what follows
        self._behind = False
        self._synchronised = synchronised()
        self._asked_s = elapsed_s()

    def status(self, now: datetime) -> ClockStatus:
        """The status of `now`, read from the clock a moment ago."""
        with self._state:
            latest = self._latest
            behind = latest is not None and now < latest - TOLERANCE
            if behind and not self._behind and latest is not None:
                behind_s = round((latest - now).total_seconds())
                log.error("clock stepped back", extra={"behind_s": behind_s, "newest_entry": latest.isoformat()})
            self._behind = behind
            self._latest = now if latest is None else max(latest, now)
            in_step = self._in_step()
        if behind:
            return "stepped-back"
        return "synchronised" if in_step else "unsynchronised"

    def _in_step(self) -> bool:
        moment_s = self._elapsed_s()
        if moment_s - self._asked_s >= ASK_AGAIN_S:
            self._synchronised, self._asked_s = self._ask(), moment_s
        return self._synchronised
