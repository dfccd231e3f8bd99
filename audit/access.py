"""Every look at the log is an entry of the log: who read, searched, exported or decrypted what, and why.

The entry is durable before anything is shown, as a decision is before its card. What was asked is digested under the index
key, since a query may name a person.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from audit.commitments import keyed_digest
from audit.committer import LogReceipt
from audit.entry import format_time
from audit.entry_custody import AccessEntry
from audit.log import AuditLog
from audit.operators import operator_digest


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: the name of an account, the role they look in, and the code of their reason."""

    name: str
    role: str
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """What they do: `action` as in `AccessEntry`, one entry's index or what was asked, and how many entries are given."""

    action: str
    results: int
    index: int | None = None
    asked: object = None


def record_access(log: AuditLog, visitor: Visitor, look: Look, moment: datetime) -> LogReceipt:
    """The receipt of the look, which may go on now.

    Raises:
        AppendError: not recorded; show nothing.
        EntryError: the role or the reason is no code.
    """
    index_key = log.keys.index_key
    asked = None if look.asked is None else msgspec.json.encode(look.asked, order="sorted")
    entry = AccessEntry(
        id=log.new_entry_id(),
        time=format_time(moment),
        clock=log.clock_status(moment),
        tenant=log.config.tenant,
        actor=operator_digest(index_key, visitor.name),
        role=visitor.role,
        action=look.action,
        index=look.index,
        filter=None if asked is None else keyed_digest(index_key, "query", asked),
        results=look.results,
        reason=visitor.reason,
    )
    return log.record(entry)
