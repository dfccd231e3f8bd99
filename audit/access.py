"""Every look at the log is an entry of the log: who read, searched, exported or decrypted what, and why.

The entry is durable before anything is shown, as a decision is before its card. What was asked is digested under the index
key. A query that names a patient must not be: that digest would link all looks at the patient, and stay guessable after the
erasure. Whoever records such a look commits to the query under the patient's key, or says nothing of it.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from audit.commitments import Digest, keyed_digest
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
    """What they do: `action` as in `AccessEntry`, one entry's index or what was asked, and how many entries are given.

    Attributes:
        asked: a query that names no patient.
        commitment: of one that does, `SubjectKey.commit` in the entry that is to be written; instead of `asked`.
    """

    action: str
    results: int
    index: int | None = None
    asked: object = None
    commitment: Digest | None = None


def record_access(
    log: AuditLog, visitor: Visitor, look: Look, moment: datetime, entry_id: str | None = None
) -> LogReceipt:
    """The receipt of the look, which may go on now; `entry_id` where a commitment was made in it.

    Raises:
        AppendError: not recorded; show nothing.
        EntryError: the role or the reason is no code.
    """
    index_key = log.keys.index_key
    asked = None if look.asked is None else keyed_digest(index_key, "query", query_bytes(look.asked))
    entry = AccessEntry(
        id=entry_id or log.new_entry_id(),
        time=format_time(moment),
        clock=log.clock_status(moment),
        tenant=log.config.tenant,
        actor=operator_digest(index_key, visitor.name),
        role=visitor.role,
        action=look.action,
        index=look.index,
        filter=look.commitment or asked,
        results=look.results,
        reason=visitor.reason,
    )
    return log.record(entry)


def query_bytes(asked: object) -> bytes:
    """What is digested, or committed to, of a query."""
    return msgspec.json.encode(asked, order="sorted")
