"""The service's own look for drift: after a worker wrote counts, not more often than it writes by time.

Whatever it finds is in the log once, however many workers look, and in the operations log of the one that was first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from audit.log import AuditLog
from bedside.config import Config
from bedside.drift.alarms import judged_sketches, record_alarms
from bedside.drift.sketches import look_at, standing_selection
from bedside.drift.versions import Versions


class Watch:
    """Looks at one tenant's log each time it is called, if the last look is long enough ago."""

    def __init__(
        self,
        config: Config,
        logs: Mapping[str, AuditLog],
        clock: Callable[[], datetime],
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._logs, self._clock, self._elapsed_s = config, logs, clock, elapsed_s
        self._versions = Versions(config)
        self._looked_s: dict[str, float] = {}

    def __call__(self, tenant: str) -> None:
        """Looks, and records alarms that are new or over.

        Raises:
            AuditError: the log can't be read, or takes no alarm.
            ModelError: a version's reference was altered.
        """
        moment_s = self._elapsed_s()
        before = self._looked_s.get(tenant)
        if before is not None and moment_s - before < self._config.monitoring.every_s:
            return
        self._looked_s[tenant] = moment_s
        log = self._logs[tenant]
        for looked in look_at(log.storage, self._versions, standing_selection(self._config, self._clock())):
            record_alarms(log, judged_sketches(looked), self._clock)
