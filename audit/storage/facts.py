"""The row by which both stores find an entry: its facts, the id as its 16 bytes."""

from audit.storage import EntrySummary

FactsRow = tuple[int, bytes, str, str, str, str, str, str]


def facts_row(summary: EntrySummary) -> FactsRow:
    """The columns of the table `facts`, in their order."""
    return (
        summary.index,
        packed_id(summary.entry_id),
        summary.type,
        summary.time,
        summary.service,
        summary.model,
        summary.status,
        summary.actor,
    )


def packed_id(entry_id: str) -> bytes:
    """The 16 bytes behind 32 hex digits; b"" for what is no entry id, which no entry has."""
    try:
        return bytes.fromhex(entry_id)
    except ValueError:
        return b""
