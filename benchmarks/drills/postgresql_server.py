"""A real PostgreSQL of one's own, for a drill or the tests: made in a temporary folder, and gone when it is closed.

It listens on a Unix socket and on a free port of 127.0.0.1, asks every client for its password (SCRAM), speaks TLS where a
certificate is given, and syncs every commit, as a site's server does. PostgreSQL doesn't run as root: started by root, it
runs as the user that Debian's package made, or as nobody.

    with running_postgresql() as server:
        create_log(…, server.url())
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from benchmarks.drills import DrillSkippedError

# Debian keeps the server's programs out of PATH.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_USERS = ("postgres", "nobody")
_OWNER = "log_owner"
_DATABASE = "logs"
# What `audit.storage.postgresql_scrub` needs of a role that owns its schema.
_SCRUB_RIGHTS = (
    f"GRANT pg_checkpoint, pg_monitor TO {_OWNER}",
    f"GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {_OWNER}",
)
_START_DEADLINE_S = 30.0
_STOP_DEADLINE_S = 20.0


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs; raises DrillSkippedError where it isn't installed."""
    path = os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        message = f"{name} is not installed"
        raise DrillSkippedError(message)
    return found


@dataclass
class PostgresqlServer:
    """A server that runs; its files are under `folder`, its cluster in `data`."""

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    certificate: Path | None = None  # to be trusted by whoever connects with TLS

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, *, unix: bool = False, user: str = _OWNER, password: str | None = None) -> str:
        """The URL of the database: by loopback, or by the Unix socket."""
        login = f"{user}:{quote(self.password if password is None else password, safe='')}"
        if unix:
            return f"postgresql://{login}@/{_DATABASE}?host={quote(str(self.folder), safe='')}&port={self.port}"
        tls = (
            "disable"
            if self.certificate is None
            else f"verify-full&sslrootcert={quote(str(self.certificate), safe='')}"
        )
        return f"postgresql://{login}@127.0.0.1:{self.port}/{_DATABASE}?sslmode={tls}"

    def write_url(self, path: Path, *, unix: bool = False) -> Path:
        """Leaves the URL in a file that its owner alone can read."""
        path.touch(mode=0o600)
        path.write_text(self.url(unix=unix) + "\n", "utf-8")
        return path

    def run(self, name: str, *arguments: str, given: bytes = b"") -> bytes:
        """What a client program of PostgreSQL prints, run on the database as its owner, who is no superuser."""
        return self._run_as(_OWNER, name, *arguments, given=given)

    def administer(self, *statements: str) -> str:
        """What psql prints for these statements, each in a transaction of its own, run as the superuser."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self._run_as("postgres", "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *commands).decode().strip()

    def break_in(self) -> None:
        """Leaves the server as one that has been in use: the next 80 MiB of its write-ahead log lie ready to be written over.

        A new one makes each 16 MiB of it in the middle of some commit, which then takes a hundred times as long.
        """
        self.administer("SELECT pg_logical_emit_message(false, '', repeat('x', 100000000)) IS NOT NULL", "CHECKPOINT")

    def start(self) -> None:
        """Starts the server on the cluster, after a crash too; returns when it takes connections."""
        settings = self.settings | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as sink:
            command = [program("postgres"), "-D", str(self.data), *options]
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=self.folder, **_identity())
        until = time.monotonic() + _START_DEADLINE_S
        while "ready" not in (self._state() or ""):
            if time.monotonic() > until or self.process.poll() is not None:
                message = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(message)
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends the server: SIGINT is its fast shutdown; SIGKILL ends every process of it, as a power cut would."""
        if self.process is None:
            return
        if how is signal.SIGKILL:
            self.process.send_signal(signal.SIGSTOP)  # so that it starts no further one
            for pid in self.backends():
                with _ended():
                    os.kill(pid, signal.SIGKILL)
        with _ended():
            self.process.send_signal(how)
        self.process.wait(_STOP_DEADLINE_S)
        self.process = None
        if how is signal.SIGKILL:
            self._forget()

    def pause(self) -> None:
        """Holds every process of the server still: connections stay open and nothing answers."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            with _ended():
                os.kill(pid, signal.SIGCONT)

    def backends(self) -> list[int]:
        """The server's processes but the first, by their ids."""
        if self.process is None:
            return []
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def _pids(self) -> list[int]:
        return [self.process.pid, *self.backends()] if self.process is not None else []

    def _state(self) -> str | None:
        """The last line of postmaster.pid, which says `ready` once connections are taken."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        own = self.process is not None and lines[:1] == [str(self.process.pid)]
        return lines[7] if own and len(lines) > 7 else None

    def _forget(self) -> None:
        """Takes away what a killed server leaves behind, so that no other process's id is taken for it."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _run_as(self, user: str, name: str, *arguments: str, given: bytes = b"") -> bytes:
        environment = {"PGPASSWORD": self.password, "PATH": os.environ.get("PATH", os.defpath)}
        where = ["-h", str(self.folder), "-p", str(self.port), "-U", user, "-d", _DATABASE]
        command = [program(name), *where, *arguments]
        done = subprocess.run(command, input=given, env=environment, capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stderr.decode("utf-8", "replace"))
        return done.stdout


@contextmanager
def running_postgresql(
    folder: Path | None = None,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    segment_mib: int = 16,
    **settings: str,
) -> Iterator[PostgresqlServer]:
    """A server with an empty database, its owner no superuser, but one who may scrub; `settings` as in
    postgresql.conf, `segment_mib` of its write-ahead log.

    It lies in a new folder under `folder` (default: the temporary folder), which the server's user must be able to reach.

    Raises:
        DrillSkippedError: PostgreSQL isn't installed, or there is no user to run it as.
    """
    program("initdb")
    place = Path(tempfile.mkdtemp(prefix="bedside-postgresql-", dir=folder))
    server = PostgresqlServer(
        place, _free_port(), secrets.token_urlsafe(12), settings={"log_checkpoints": "off"} | settings
    )
    try:
        _make_cluster(server, certificate, key, segment_mib)
        server.start()
        _first(server, f"CREATE ROLE {_OWNER} LOGIN PASSWORD '{server.password}'")
        _first(server, f"CREATE DATABASE {_DATABASE} OWNER {_OWNER}")
        server.administer(*_SCRUB_RIGHTS)
        yield server
    finally:
        server.resume()
        server.stop(signal.SIGQUIT)  # at once: nothing of it is kept
        shutil.rmtree(place, ignore_errors=True)


def _make_cluster(server: PostgresqlServer, certificate: Path | None, key: Path | None, segment_mib: int) -> None:
    secret = server.folder / "password"
    secret.write_text(server.password)
    if certificate is not None and key is not None:
        shutil.copyfile(certificate, server.folder / "server.pem")
        shutil.copyfile(key, server.folder / "server.key")
        (server.folder / "server.key").chmod(0o600)
        files = {"ssl_cert_file": str(server.folder / "server.pem"), "ssl_key_file": str(server.folder / "server.key")}
        server.settings |= {"ssl": "on", **files}
        server.certificate = certificate
    if os.geteuid() == 0:
        for path in (server.folder, *server.folder.iterdir()):
            shutil.chown(path, _user().pw_uid, _user().pw_gid)
    command = [program("initdb"), "-D", str(server.data), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]
    # Not synced only while it is made: nothing is lost by it that anyone was told of.
    command += ["--locale=C", "--no-sync", "--no-instructions", f"--pwfile={secret}", f"--wal-segsize={segment_mib}"]
    subprocess.run(command, check=True, capture_output=True, cwd=server.folder, timeout=60, **_identity())
    # syncfs: after a crash one sync of the volume, and not one of each of a thousand files.
    base = {"listen_addresses": "127.0.0.1", "shared_buffers": "64MB", "recovery_init_sync_method": "syncfs"}
    server.settings = base | server.settings


def _first(server: PostgresqlServer, statement: str) -> None:
    """Runs a statement where the database isn't there yet."""
    environment = {"PGPASSWORD": server.password, "PATH": os.environ.get("PATH", os.defpath)}
    where = ["-h", str(server.folder), "-p", str(server.port), "-U", "postgres", "-d", "postgres"]
    command = [program("psql"), *where, "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)


def _user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _USERS:
        if name in known:
            return known[name]
    message = f"PostgreSQL doesn't run as root, and there is no user {' or '.join(_USERS)}"
    raise DrillSkippedError(message)


def _identity() -> dict[str, int | list[int]]:
    """Whom the server runs as, for subprocess."""
    if os.geteuid() != 0:
        return {}
    return {"user": _user().pw_uid, "group": _user().pw_gid, "extra_groups": []}


def _ended() -> suppress:
    """A process that is gone already was to end anyway."""
    return suppress(ProcessLookupError)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
