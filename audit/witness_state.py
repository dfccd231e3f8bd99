"""What a witness must never forget: for each log, the newest checkpoint that it cosigned.

    STATE/witness.key                               PRIVATE+KEY+<name>+<key id>+b64(04 || seed)
    STATE/witness.vkey                              for the log's configuration and for every verifier
    STATE/logs/<hex sha256(origin)>/checkpoint      the newest cosigned note: size, root, and both signatures in one
    STATE/logs/<hex sha256(origin)>/fork-<n>.note   checkpoints that the log signed and that contradict one another
    STATE/logs/<hex sha256(origin)>/lock

A file a log, replaced whole, rather than a database: all there is to keep of a log is one note of some hundred bytes, and
renaming a synced file is a transaction that any tool can look into and no version can fail to open. The note is also what
the monitoring endpoint gives out, so nothing said there can differ from what is kept. An flock on a file of its own, opened
for each request, holds against other threads and other processes alike, and ends with its process.

A witness put back to an older state would cosign a fork. Never restore STATE from a backup: a witness that lost it gets a
new key, which is why the key lies beside what it must not forget.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from audit.cosignature import Cosigner
from audit.durable_files import DurableWriter
from audit.errors import StorageError
from audit.keys import format_skey, parse_skey
from audit.note import ED25519_COSIGNATURE, VerifierKey, format_vkey, parse_vkey
from audit.private_files import read_private, sync_directory, write_key_file

KEY_FILE, VKEY_FILE = "witness.key", "witness.vkey"
LOGS = "logs"
CHECKPOINT_FILE, LOCK_FILE = "checkpoint", "lock"
# One is proof enough; a log that goes on forking must not fill the disk.
MAX_FORKS = 16
_SEED_BYTES = 32


def init_witness(directory: Path, name: str, random_bytes: Callable[[int], bytes]) -> VerifierKey:
    """Makes the state of a new witness and returns its verifier key.

    Raises:
        KeyFileError: there is one already.
        FormatError: `name` can't be a key name.
    """
    seed = random_bytes(_SEED_BYTES)
    key = Cosigner(name, seed).verifier_key
    parse_vkey(format_vkey(key))
    (directory / LOGS).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_key_file(directory / KEY_FILE, format_skey(name, seed, ED25519_COSIGNATURE), 0o600)
    write_key_file(directory / VKEY_FILE, format_vkey(key), 0o644)
    return key


def load_cosigner(directory: Path) -> Cosigner:
    """The witness's key; raises KeyFileError."""
    return Cosigner(*parse_skey(read_private(directory / KEY_FILE), ED25519_COSIGNATURE))


def origin_hash(origin: str) -> str:
    """Hex SHA-256 of the origin, under which its checkpoint is kept and given out."""
    return sha256(origin.encode()).hexdigest()


class WitnessState:
    """The newest cosigned checkpoint of each log; safe in many threads, and beside other processes."""

    def __init__(self, directory: Path) -> None:
        self._logs = directory / LOGS

    @contextmanager
    def locked(self, origin: str) -> Iterator["LogState"]:
        """The state of one log, which nobody else can read or change until the block ends; raises StorageError."""
        folder = self._logs / origin_hash(origin)
        try:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
                sync_directory(self._logs)
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            message = f"witness state: {exc.strerror}"
            raise StorageError(message) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield LogState(folder)
        finally:
            os.close(descriptor)

    def newest(self, origin: str) -> bytes | None:
        """The newest cosigned checkpoint, without waiting for whoever makes a newer one; raises StorageError."""
        return LogState(self._logs / origin_hash(origin)).newest()


class LogState:
    """The state of one log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> bytes | None:
        """The newest cosigned checkpoint, None before the first; raises StorageError."""
        try:
            return (self._folder / CHECKPOINT_FILE).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            message = f"witness state: {exc.strerror}"
            raise StorageError(message) from exc

    def keep(self, note: bytes) -> None:
        """Replaces the newest cosigned checkpoint, and returns when it is durable; raises StorageError."""
        try:
            _replace(self._folder / CHECKPOINT_FILE, note)
        except OSError as exc:
            message = f"witness state: {exc.strerror}"
            raise StorageError(message) from exc

    def keep_fork(self, note: bytes) -> None:
        """Keeps a checkpoint that contradicts the newest one, as long as there is room; raises StorageError."""
        try:
            for place in range(MAX_FORKS):
                path = self._folder / f"fork-{place}.note"
                if not path.exists():
                    _replace(path, note)
                    return
                if path.read_bytes() == note:
                    return
        except OSError as exc:
            message = f"witness state: {exc.strerror}"
            raise StorageError(message) from exc


def _replace(path: Path, data: bytes) -> None:
    writer = DurableWriter()  # one at a time: the log's lock is held
    writer.write(path, data)
    writer.sync_folders()
