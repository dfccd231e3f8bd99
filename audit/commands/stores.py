"""Where `init` makes a log: in its directory, or in a PostgreSQL database that several hosts share.

    init --store postgresql --database-url-file F --schema S            the first host
    init --store postgresql --database-url-file F --schema S --attach   each further one

A further host gets `keys`, `log.vkey` and `head` copied from the first, and from then on keeps a head of its own: with the
first host's it can tell at once whether it was led to another log, or to an older one.
"""

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from audit.errors import AuditError, StorageError
from audit.log import AuditLog, LogConfig
from audit.storage.opening import STORE_FILE, PostgresqlPlace, check_free, grant_rights, write_place

POSTGRESQL = "postgresql"


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", choices=("sqlite", POSTGRESQL), default="sqlite", help="default: sqlite, one host")
    parser.add_argument(
        "--database-url-file", type=Path, metavar="FILE", help="file with the database's URL, mode 0600"
    )
    parser.add_argument("--schema", help="the database's schema for this log; made unless it is there and empty")
    parser.add_argument("--writer-role", help="database role that may add to the log and keep its vault")
    parser.add_argument("--reader-role", help="database role that may read the log")
    parser.add_argument(
        "--attach", action="store_true", help="join the log that another host made, with its copied keys"
    )


def given_place(arguments: argparse.Namespace) -> PostgresqlPlace | None:
    """The place in PostgreSQL that was asked for, None for SQLite.

    Raises:
        StorageError: the arguments don't fit together, or a log that is to be made can't be: before any key is.
    """
    named = (arguments.database_url_file, arguments.schema)
    if arguments.store != POSTGRESQL:
        if any((*named, arguments.writer_role, arguments.reader_role, arguments.attach)):
            raise StorageError(f"init: --database-url-file, --schema, roles and --attach need --store {POSTGRESQL}")
        return None
    if not all(named):
        raise StorageError(f"init: --store {POSTGRESQL} needs --database-url-file and --schema")
    place = PostgresqlPlace(arguments.database_url_file.absolute(), arguments.schema)
    if not arguments.attach:
        check_free(place)
    return place


def grant(arguments: argparse.Namespace, place: PostgresqlPlace) -> None:
    """Gives the roles that were named their rights; raises StorageError."""
    if arguments.writer_role or arguments.reader_role:
        grant_rights(place, writer_role=arguments.writer_role, reader_role=arguments.reader_role)


def attach(directory: Path, origin: str, place: PostgresqlPlace, clock: Callable[[], datetime]) -> AuditLog:
    """The log, opened from this host as it will be from now on: keys, head, store and vault fit together.

    Raises:
        AuditError: they don't; this host isn't attached.
    """
    write_place(directory, place)
    try:
        return AuditLog.open(LogConfig(directory, origin, tenant=""), clock=clock)
    except AuditError:
        (directory / STORE_FILE).unlink()
        raise
