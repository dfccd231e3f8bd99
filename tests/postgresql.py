"""A real PostgreSQL for the whole session of tests, a schema of its own for each log."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from audit.log import LogConfig
from audit.storage.opening import PostgresqlPlace
from audit.storage.postgresql_session import Limits, Session
from audit.storage.postgresql_url import parse_database_url
from benchmarks.drills.postgresql_server import PostgresqlServer, running_postgresql
from tests.memory import memory_folder
from tests.programs import need

_names = itertools.count()
# A test that holds a lock may be held up itself.
PATIENT = Limits(statement_ms=60_000, socket_s=60, idle_ms=0)


@pytest.fixture(scope="session", name="postgresql")
def postgresql_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    """The server, with a certificate for 127.0.0.1 that it signed itself."""
    need("initdb")
    certificate, key = write_certificate(tmp_path_factory.mktemp("postgresql"))
    with running_postgresql(
        memory_folder(), certificate=certificate, key=key, segment_mib=1, min_wal_size="5MB", autovacuum="off"
    ) as server:
        yield server


@pytest.fixture
def postgresql_place(postgresql: PostgresqlServer, tmp_path: Path) -> Callable[[], PostgresqlPlace]:
    """Gives a schema that isn't there yet, and the file with the URL."""

    def give() -> PostgresqlPlace:
        path = tmp_path / "database-url"
        return PostgresqlPlace(path if path.exists() else postgresql.write_url(path), f"log_{next(_names)}")

    return give


@pytest.fixture
def owner_session(postgresql: PostgresqlServer) -> Iterator[Callable[[str], Session]]:
    """Opens a session of the schema's owner: owner_session(schema)."""
    opened: list[Session] = []

    def open_one(schema: str) -> Session:
        opened.append(
            Session(parse_database_url(postgresql.url()), schema, Limits(statement_ms=60_000, socket_s=60, idle_ms=0))
        )
        return opened[-1]

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture
def second_host(tmp_path: Path) -> Callable[[LogConfig], LogConfig]:
    """A host that writes the same log, with a directory, keys and head file of its own."""

    def make(config: LogConfig) -> LogConfig:
        directory = tmp_path / "second-host"
        shutil.copytree(config.directory, directory)
        return replace(config, directory=directory)

    return make


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(secret)
    return paths
