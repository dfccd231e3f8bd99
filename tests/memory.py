"""A folder in memory for what tests write: on a busy disk they would wait most of their time for it to sync.

What they prove is the same there: what a process leaves that is killed, which bytes are refused, and which calls to sync the
kernel gets. None of them cuts the power.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_PLACE = Path("/dev/shm")
_ROOM_BYTES = 2 << 30  # several times what a run has there at once
_UNFIT = os.ST_NOEXEC | os.ST_RDONLY  # some tests run programs that they built


def memory_folder() -> Path | None:
    """The folder, None where there is none with room enough that programs may be run from."""
    if not (_PLACE.is_dir() and os.access(_PLACE, os.W_OK)) or os.statvfs(_PLACE).f_flag & _UNFIT:
        return None
    return _PLACE if shutil.disk_usage(_PLACE).free > _ROOM_BYTES else None
