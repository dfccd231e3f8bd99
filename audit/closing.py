"""How an epoch ends: with an entry after which nobody appends.

    {"_t":"switch/v1",...,"name":"2","off":true,"reason":"key-compromise","scope":"log",...}     name: the epoch that follows

Being in the store itself, it stops every process on every host at its next commit, also where whoever stole the key wrote
more after it (`head_guard`). The log's directory gets a mark besides, for those that start later. Pure.
"""

from audit.entry import parse_entry
from audit.entry_operations import SwitchEntry
from audit.errors import EpochEndedError

LOG_SCOPE = "log"
SWITCH_TYPE = "switch/v1"
_PREFIX = f'{{"_t":"{SWITCH_TYPE}"'.encode()


def check_open(entry: bytes | None) -> None:
    """Returns if this entry doesn't close the log it is in.

    Raises:
        EpochEndedError: it does.
    """
    if entry is None or not entry.startswith(_PREFIX):
        return
    switch = parse_entry(entry)
    if isinstance(switch, SwitchEntry) and switch.scope == LOG_SCOPE and switch.off:
        raise EpochEndedError(switch.name, switch.reason)
