"""Leaving no copy of what was erased in the files of a PostgreSQL server.

PostgreSQL never overwrites a row: an UPDATE or DELETE leaves the old one in its page, and the write-ahead log holds the row and
often the page besides. So:

(1) VACUUM FULL writes the tables anew, with what lives, and frees the old files; the tables are locked meanwhile, so a large
    one is best scrubbed at night: appends fail closed for as long;
(2) the segment of the write-ahead log is ended, and a checkpoint takes away every segment before it, and the old files;
(3) what it took away are, as PostgreSQL comes (`wal_recycle = on`), the next segments' files, old bytes and all. So each is
    begun and ended in turn, which fills it with zeros; some 16 MB each are written for it;
(4) no segment that was written before (2) is there any more.

What the site must see to, since no client can:
    wal_recycle = off       makes (3) short
    replication slots,      keep segments until a standby or the archive has them; then (4) is an error that says so, and a slot
    wal_keep_size, archive  that nobody reads keeps them for ever
    standbys                have the same segments to lose; the bytes go as they follow, if they too have wal_recycle = off
    archive and backups     keep what was erased until they expire: their retention is part of the promise to the patient. A
                            restored backup brings destroyed keys back: erase again what has an erasure/v1 entry
    log_statement and such  log_parameter_max_length = 0, or a statement that is logged takes its values along
    the volume              freed blocks hold the bytes until they are used again, as after any deletion of a file

Rights it takes: of the tables' owner (VACUUM FULL); pg_checkpoint, pg_monitor and EXECUTE on pg_switch_wal(), or a superuser's.
Statistics hold no samples of these columns: `postgresql_schema`.
"""

import time
from collections.abc import Sequence

from audit.errors import StorageError
from audit.storage.postgresql_session import Session

# 16 GB of old segments; a server that keeps more has something else to be looked at first.
_MAX_SEGMENTS = 1_024
# An archive or a standby that keeps up has a segment within a second or two.
_TRIES, _PAUSE_S = 10, 0.3
_SEGMENT = "name ~ '^[0-9A-F]{24}$'"


def scrub_tables(session: Session, tables: Sequence[str]) -> None:
    """Leaves only what lives of these tables, in the server's files.

    Raises:
        StorageError: the role may not do it, or the server keeps old segments of its write-ahead log.
    """
    session.warnings()
    for table in tables:  # (1)
        session.script(f"VACUUM (FULL) {table}")
        if session.warnings():
            message = f"store: scrub: no right to rewrite {table}; expected its owner"
            raise StorageError(message)
    last = _end_segment(session)  # (2)
    session.script("CHECKPOINT")
    count = int(session.script(f"SELECT count(*)::int FROM pg_ls_waldir() WHERE {_SEGMENT}")[0][0])  # noqa: S608 - fixed text
    for _ in range(min(count, _MAX_SEGMENTS)):  # (3)
        _end_segment(session)
    for _ in range(_TRIES):  # (4)
        session.script("CHECKPOINT")
        kept = session.row(f"SELECT count(*)::int FROM pg_ls_waldir() WHERE {_SEGMENT} AND name <= $1", last)  # noqa: S608
        if kept == [0]:
            return
        time.sleep(_PAUSE_S)
    message = (
        "store: scrubbed, but a replication slot, wal_keep_size or the archive keeps old write-ahead log; scrub again"
    )
    raise StorageError(message)


def _end_segment(session: Session) -> str:
    """The segment that was ended: all of it is written, zeros to its end. One without a record wouldn't be."""
    session.script("SELECT pg_logical_emit_message(false, 'bedside', '')")
    return str(session.script("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
