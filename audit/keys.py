"""Key files of one log, each 0600, in a directory only its owner can enter.

    keys/signing.key        PRIVATE+KEY+<origin>+<key id>+b64(01 || seed)   the form Go's note package writes
    keys/signing.next.key   the same, while a rotation runs: both sign
    keys/index.key          64 hex digits
    keys/wrapping.key       64 hex digits
    keys/wrapping.old.key   the same, while keys are wrapped anew: both unwrap
    log.vkey                <origin>+<key id>+b64(01 || public key), one a line    public: give it to everyone who verifies

In place of a signing or wrapping key a file may hold the RFC 7512 URI (`pkcs11:...`) of one that never leaves its token; its
name is then the origin in log.vkey. That file lists every key the log ever had, the first one first. How keys are replaced
is in `audit.rotation` and `audit.rewrapping`.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.commitments import INDEX_KEY_BYTES, IndexKey
from audit.encoding import format_base64, parse_base64
from audit.errors import FormatError, KeyFileError
from audit.note import ED25519, Signer, VerifierKey, format_vkey, parse_vkey
from audit.pkcs11 import Pkcs11Signer, Pkcs11Wrapper
from audit.pkcs11_uri import is_uri, parse_uri
from audit.private_files import read_private, replace_file, write_key_file
from audit.wrapping import WRAPPING_KEY_BYTES, FileWrapper, KeyWrapper, OverlappingWrapper

_Look: TypeAlias = tuple[tuple[int, int, int] | None, ...]

log = logging.getLogger("bedside.audit.keys")

KEY_DIRECTORY = "keys"
VKEY_FILE = "log.vkey"
SIGNING_FILE, NEXT_SIGNING_FILE = "signing.key", "signing.next.key"
INDEX_FILE = "index.key"
WRAPPING_FILE, OLD_WRAPPING_FILE = "wrapping.key", "wrapping.old.key"
# What `wrapping.old.key` says between the destruction of its key and the log entry about it.
DESTROYED = "destroyed "
_WATCHED = (SIGNING_FILE, NEXT_SIGNING_FILE, INDEX_FILE, WRAPPING_FILE, OLD_WRAPPING_FILE)
_SKEY_PREFIX = "PRIVATE+KEY+"
SEED_BYTES = 32
_READ_AGAIN_S = 1.0  # so that a token which is away isn't asked with each batch
_READ_TRIES = 5


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


def init_keys(
    directory: Path,
    origin: str,
    random_bytes: Callable[[int], bytes],
    *,
    signing_uri: str | None = None,
    wrapping_uri: str | None = None,
) -> KeyRing:
    """Makes the key files of a new log under `directory` and returns the keys; with a URI, that key is in its token already.

    Raises:
        KeyFileError: a key file is there already, or a token doesn't hold the key.
        FormatError: `origin` can't be a key name.
    """
    signing = signing_uri or format_skey(origin, random_bytes(SEED_BYTES))
    wrapping = wrapping_uri or random_bytes(WRAPPING_KEY_BYTES).hex()
    signer = make_signer(signing, origin)
    make_wrapper(wrapping, random_bytes)
    vkey = format_vkey(signer.verifier_key)
    parse_vkey(vkey)
    keys = directory / KEY_DIRECTORY
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_key_file(directory / VKEY_FILE, vkey, 0o644)
    write_key_file(keys / INDEX_FILE, random_bytes(INDEX_KEY_BYTES).hex(), 0o600)
    write_key_file(keys / WRAPPING_FILE, wrapping, 0o600)
    write_key_file(keys / SIGNING_FILE, signing, 0o600)
    return load_keys(directory, random_bytes)


def load_keys(directory: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> KeyRing:
    """The keys of the log in `directory`.

    Raises:
        KeyFileError: a file is missing, malformed, or open to group or others; or a token doesn't hold its key.
    """
    keys = directory / KEY_DIRECTORY
    signing = [keys / SIGNING_FILE, *(path for path in [keys / NEXT_SIGNING_FILE] if path.exists())]
    return KeyRing(
        tuple(load_signer(path, directory / VKEY_FILE) for path in signing),
        IndexKey(_parse_hex(keys / INDEX_FILE, INDEX_KEY_BYTES)),
        _load_wrappers(keys, random_bytes),
    )


class KeySource:
    """The keys of a log directory, read again when its key files changed: a key may be rotated while the log is written."""

    def __init__(self, directory: Path, random_bytes: Callable[[int], bytes]) -> None:
        """Reads the keys; raises KeyFileError."""
        self._directory = directory
        self._random_bytes = random_bytes
        self._not_before_s = 0.0
        self._watched = [str(directory / KEY_DIRECTORY / name) for name in _WATCHED]
        self._seen, self._keys = self._read()

    def keys(self) -> KeyRing:
        """The keys in force; those read before, as long as the files can't be read."""
        if self._look() != self._seen and time.monotonic() >= self._not_before_s:
            try:
                seen, self._keys = self._read()
                self._seen = seen
            except KeyFileError as exc:
                self._not_before_s = time.monotonic() + _READ_AGAIN_S
                log.error("keys can't be read again", extra={"why": str(exc)})
        return self._keys

    def _read(self) -> tuple[_Look, KeyRing]:
        """The keys as they stand together: read between two looks that show the same."""
        for _ in range(_READ_TRIES):
            before = self._look()
            keys = load_keys(self._directory, self._random_bytes)
            if self._look() == before:
                return before, keys
        raise KeyFileError("key files: they change while they are read")

    def _look(self) -> _Look:
        """Which key files are there, and in which state; a directory's time alone is too coarse to tell."""
        return tuple(_state(path) for path in self._watched)


def load_signer(path: Path, vkey_file: Path) -> Signer:
    """The signer behind a key file; where its key is in a token, under the name in `vkey_file`. Raises KeyFileError."""
    text = read_private(path)
    return make_signer(text, load_vkeys(vkey_file)[0].name if is_uri(text) else "")


def make_signer(text: str, origin: str) -> Signer:
    """The signer behind a key file's text, which names the key itself (then `origin` isn't used) or a URI.

    Raises:
        KeyFileError: malformed, or the token doesn't hold the key.
    """
    return Pkcs11Signer(parse_uri(text), origin) if is_uri(text) else Ed25519Signer(*parse_skey(text))


def make_wrapper(text: str, random_bytes: Callable[[int], bytes]) -> KeyWrapper:
    """The wrapper behind a key file's text; raises KeyFileError."""
    if is_uri(text):
        return Pkcs11Wrapper(parse_uri(text), random_bytes)
    return FileWrapper(_parse_digits(text, WRAPPING_FILE, WRAPPING_KEY_BYTES), random_bytes)


def _load_wrappers(keys: Path, random_bytes: Callable[[int], bytes]) -> KeyWrapper:
    wrapper = make_wrapper(read_private(keys / WRAPPING_FILE), random_bytes)
    old = keys / OLD_WRAPPING_FILE
    text = read_private(old) if old.exists() else DESTROYED
    return wrapper if text.startswith(DESTROYED) else OverlappingWrapper(wrapper, make_wrapper(text, random_bytes))


def list_vkey(path: Path, key: VerifierKey) -> None:
    """Adds a key to the file of verifier keys, unless it is there."""
    listed = load_vkeys(path)
    if key not in listed:
        replace_file(path, "\n".join(format_vkey(one) for one in (*listed, key)), 0o644)


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
    if not text.startswith(_SKEY_PREFIX) or len(parts) != 3 or len(typed) != 1 + SEED_BYTES or typed[0] != key_type:
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
    return _parse_digits(read_private(path), path.name, size)


def _parse_digits(text: str, name: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        message = f"key file {name}: expected {2 * size} hex digits"
        raise KeyFileError(message)
    return value


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # several times for each entry: a Path would double the time
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
