"""How an epoch ends: with an entry after which nobody appends.

    {"_t":"switch/v1",...,"name":"2","off":true,"reason":"key-compromise","scope":"log",...}     name: the epoch that follows

Being the last entry of the store itself, it stops every process on every host at its next commit. Pure.
"""

from audit.entry import parse_entry
from audit.entry_operations import SwitchEntry
from audit.errors import EpochEndedError

LOG_SCOPE = "log"
_PREFIX = b'{"_t":"switch/v1"'


def check_open(last_entry: bytes | None) -> None:
    """Returns if the log whose last entry this is may be appended to.

    Raises:
        EpochEndedError: it was closed.
    """
    if last_entry is None or not last_entry.startswith(_PREFIX):
        return
    entry = parse_entry(last_entry)
    if isinstance(entry, SwitchEntry) and entry.scope == LOG_SCOPE and entry.off:
        raise EpochEndedError(entry.name, entry.reason)
