"""Key files of one log, each 0600, in a directory only its owner can enter.

    keys/signing.key        PRIVATE+KEY+<origin>+<key id>+b64(01 || seed)   the form Go's note package writes
    keys/signing.next.key   the same, while a rotation runs: both sign
    keys/index.key          64 hex digits
    keys/wrapping.key       64 hex digits
    log.vkey                <origin>+<key id>+b64(01 || public key), one a line    public: give it to everyone who verifies

In place of a signing or wrapping key a file may hold the RFC 7512 URI (`pkcs11:...`) of one that never leaves its token.
"""

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.commitments import INDEX_KEY_BYTES, IndexKey
from audit.encoding import format_base64, parse_base64
from audit.errors import FormatError, KeyFileError
from audit.note import ED25519, Signer, VerifierKey, format_vkey, parse_vkey
from audit.wrapping import WRAPPING_KEY_BYTES, FileWrapper, KeyWrapper

log = logging.getLogger("bedside.audit.keys")

KEY_DIRECTORY = "keys"
VKEY_FILE = "log.vkey"
SIGNING_FILE, NEXT_SIGNING_FILE = "signing.key", "signing.next.key"
INDEX_FILE, WRAPPING_FILE = "index.key", "wrapping.key"
_SKEY_PREFIX = "PRIVATE+KEY+"
_SEED_BYTES = 32


class Ed25519Signer:
    """Signs with a seed held in memory."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._verifier_key = VerifierKey(name, ED25519, self._key.public_key().public_bytes_raw())

    @property
    def verifier_key(self) -> VerifierKey:
        return self._verifier_key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that a writer of the log holds; every checkpoint is signed by each of `signers`, two while one is rotated."""

    signers: tuple[Signer, ...]
    index_key: IndexKey
    wrapper: KeyWrapper

    @property
    def signer(self) -> Signer:
        return self.signers[0]

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        return tuple(signer.verifier_key for signer in self.signers)

    def __repr__(self) -> str:
        return f"KeyRing({self.signer.verifier_key.name})"


def init_keys(directory: Path, origin: str, random_bytes: Callable[[int], bytes]) -> KeyRing:
    """Makes the key files of a new log under `directory` and returns the keys.

    Raises:
        KeyFileError: a key file is there already.
        FormatError: `origin` can't be a key name.
    """
    seed, index_key, wrapping_key = (random_bytes(size) for size in (_SEED_BYTES, INDEX_KEY_BYTES, WRAPPING_KEY_BYTES))
    signer = Ed25519Signer(origin, seed)
    vkey = format_vkey(signer.verifier_key)
    parse_vkey(vkey)
    keys = directory / KEY_DIRECTORY
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_key_file(keys / SIGNING_FILE, format_skey(origin, seed), 0o600)
    write_key_file(keys / INDEX_FILE, index_key.hex(), 0o600)
    write_key_file(keys / WRAPPING_FILE, wrapping_key.hex(), 0o600)
    write_key_file(directory / VKEY_FILE, vkey, 0o644)
    return KeyRing((signer,), IndexKey(index_key), FileWrapper(wrapping_key, random_bytes))


def load_keys(directory: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> KeyRing:
    """The keys of the log in `directory`.

    Raises:
        KeyFileError: a file is missing, malformed, or open to group or others.
    """
    keys = directory / KEY_DIRECTORY
    signing = [keys / SIGNING_FILE, *(path for path in [keys / NEXT_SIGNING_FILE] if path.exists())]
    return KeyRing(
        tuple(load_signer(path) for path in signing),
        IndexKey(_parse_hex(keys / INDEX_FILE, INDEX_KEY_BYTES)),
        load_wrapper(keys / WRAPPING_FILE, random_bytes),
    )


class KeySource:
    """The keys of a log directory, read again when its key files changed: a key may be rotated while the log is written."""

    def __init__(self, directory: Path, random_bytes: Callable[[int], bytes]) -> None:
        """Reads the keys; raises KeyFileError."""
        self._directory = directory
        self._random_bytes = random_bytes
        self._seen_ns = self._changed_ns()
        self._keys = load_keys(directory, random_bytes)

    def keys(self) -> KeyRing:
        """The keys in force; those read before, as long as the files can't be read."""
        changed_ns = self._changed_ns()
        if changed_ns != self._seen_ns:
            try:
                self._keys = load_keys(self._directory, self._random_bytes)
                self._seen_ns = changed_ns
            except KeyFileError as exc:
                log.error("keys can't be read again", extra={"why": str(exc)})
        return self._keys

    def _changed_ns(self) -> int:
        """When a file was last made, renamed or removed among the keys."""
        try:
            return os.stat(self._directory / KEY_DIRECTORY).st_mtime_ns
        except OSError:
            return 0


def load_signer(path: Path) -> Signer:
    """The signer behind a key file; raises KeyFileError."""
    return Ed25519Signer(*parse_skey(read_private(path)))


def load_wrapper(path: Path, random_bytes: Callable[[int], bytes]) -> KeyWrapper:
    """The wrapper behind a key file; raises KeyFileError."""
    return FileWrapper(_parse_hex(path, WRAPPING_KEY_BYTES), random_bytes)


def load_vkeys(path: Path) -> tuple[VerifierKey, ...]:
    """The verifier keys in a file, one a line; two while a key is being rotated.

    Raises:
        KeyFileError: unreadable, malformed, or empty.
    """
    try:
        lines = path.read_text("utf-8").split()
        vkeys = tuple(parse_vkey(line) for line in lines)
    except (OSError, UnicodeDecodeError, FormatError) as exc:
        message = f"verifier keys {path.name}: {exc}"
        raise KeyFileError(message) from exc
    if not vkeys:
        message = f"verifier keys {path.name}: empty"
        raise KeyFileError(message)
    return vkeys


def parse_skey(text: str, key_type: int = ED25519) -> tuple[str, bytes]:
    """Name and seed behind `PRIVATE+KEY+name+hex8(key id)+b64(type || seed)`; a log's key is of type 01, a witness's of 04.

    Raises:
        KeyFileError: any other form or type, or a key id that isn't the key's. The message holds nothing of the key.
    """
    parts = text.removeprefix(_SKEY_PREFIX).split("+", 2)
    try:
        typed = parse_base64(parts[-1], "signing key")
    except FormatError:
        raise KeyFileError("signing key: expected PRIVATE+KEY+name+id+key") from None
    if not text.startswith(_SKEY_PREFIX) or len(parts) != 3 or len(typed) != 1 + _SEED_BYTES or typed[0] != key_type:
        raise KeyFileError("signing key: expected PRIVATE+KEY+name+id+key")
    name, key_id, seed = parts[0], parts[1], typed[1:]
    if _verifier_key(name, key_type, seed).key_id.hex() != key_id:
        raise KeyFileError("signing key: the key id isn't the key's")
    return name, seed


def format_skey(name: str, seed: bytes, key_type: int = ED25519) -> str:
    """`PRIVATE+KEY+name+hex8(key id)+b64(type || seed)`."""
    key_id = _verifier_key(name, key_type, seed).key_id
    return f"{_SKEY_PREFIX}{name}+{key_id.hex()}+{format_base64(bytes([key_type]) + seed)}"


def _verifier_key(name: str, key_type: int, seed: bytes) -> VerifierKey:
    return VerifierKey(name, key_type, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def _parse_hex(path: Path, size: int) -> bytes:
    try:
        value = bytes.fromhex(read_private(path))
    except ValueError:
        value = b""
    if len(value) != size:
        message = f"key file {path.name}: expected {2 * size} hex digits"
        raise KeyFileError(message)
    return value


def read_private(path: Path) -> str:
    """The text of a key file; its owner and mode are looked at through the open file, so nothing can be swapped."""
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as exc:
        message = f"key file {path.name}: unreadable"
        raise KeyFileError(message) from exc
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        message = f"key file {path.name}: expected mode 0600 and our own, got {stat.S_IMODE(status.st_mode):04o}"
        raise KeyFileError(message)
    return text.strip()


def write_key_file(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as exc:
        message = f"key file {path.name}: exists already"
        raise KeyFileError(message) from exc
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
