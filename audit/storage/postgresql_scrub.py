"""Leaving no copy of what was erased in the files of a PostgreSQL server.

PostgreSQL never overwrites a row: an UPDATE or DELETE leaves the old one in its page, and the write-ahead log holds the page
and the row besides. So:

(1) VACUUM FULL writes the tables anew, with what lives, and frees the old files; the tables are locked meanwhile;
(2) pg_switch_wal ends the segment that holds the old rows, and a CHECKPOINT takes away every segment before it, and the old
    tables' files.

What the site must see to, since no client can:
    wal_recycle = off           else old segments are renamed and keep their bytes until written over; it is required here
    wal_keep_size, replication  segments are kept until the standby has them; for a slot that nobody reads, for ever
    archive and backups         keep what was erased until they expire: their retention is part of the promise to the
                                patient. A restored backup brings destroyed keys back: erase again what has an erasure/v1 entry
    log_statement and the like  log_parameter_max_length = 0, or a statement that is logged takes its values along
    the volume                  freed blocks hold the bytes until they are used again, as after any deletion of a file

The role needs what only a table's owner may (VACUUM FULL), pg_checkpoint (or be superuser), and EXECUTE on pg_switch_wal().
Statistics hold no samples of these columns: `postgresql_schema`.
"""

from collections.abc import Sequence

from audit.errors import StorageError
from audit.storage.postgresql_session import Session


def scrub_tables(session: Session, tables: Sequence[str]) -> None:
    """Leaves of these tables only what lives; any other copy that the server is known to keep is an error.

    Raises:
        StorageError: the role may not do it, or the server keeps old segments of its write-ahead log.
    """
    session.warnings()
    for table in tables:
        session.script(f"VACUUM (FULL) {table}")
        if session.warnings():
            message = f"store: scrub: no right to rewrite {table}; expected its owner"
            raise StorageError(message)
    # The commit of VACUUM FULL may end in this segment, and the checkpoint's own record comes after the switch.
    session.script("SELECT pg_switch_wal()")
    session.script("CHECKPOINT")
    row = session.row(
        "SELECT current_setting('wal_recycle'), current_setting('wal_keep_size'),"
        " (SELECT count(*) FROM pg_replication_slots)::int, current_setting('archive_mode')"
    )
    kept = [] if row is None else _kept(*row)
    if kept:
        message = f"store: scrubbed, but the write-ahead log may keep copies: {', '.join(kept)}"
        raise StorageError(message)


def _kept(recycle: str, keep_size: str, slots: int, archive: str) -> list[str]:
    """Why old segments may still be there, or elsewhere."""
    reasons = []
    if recycle != "off":
        reasons.append(f"wal_recycle={recycle}, expected off")
    if keep_size not in ("0", "0MB"):
        reasons.append(f"wal_keep_size={keep_size}")
    if slots:
        reasons.append(f"{slots} replication slots")
    return reasons
