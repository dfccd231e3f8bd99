"""The CDS clients' public keys (CDS Hooks 2.0.1, "Trusting CDS Clients"): `KeySets.key`.

A JWT may name its key set (`jku`) only from the client's own list; any other address is never contacted. Key sets are kept
for an hour. A key id that isn't in the set is looked for once more, as clients rotate their keys, and such a search is made
at most once a minute, as anyone can invent key ids. Where a key server fails, the keys it gave last stay good for a day; a
file is held to the same. While one call fetches, others go on with the keys that are known, and only a call whose key isn't
waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from cds_service.clients import CdsClient

PublicKey: TypeAlias = ECKey | OKPKey | RSAKey
FetchKeys: TypeAlias = Callable[[CdsClient, str], bytes]
"""The bytes of a key set at one of the client's addresses; raises any Exception when they can't be had."""

log = logging.getLogger("bedside.auth")

MAX_KEYS = 256
MAX_KEY_SET_BYTES = 262_144
# Where a source has given nothing yet, nobody can call: it is asked again soon, but not by every call in turn.
RETRY_S = 5.0
# NIST SP 800-57 allows no less; more than 8,192 bits only costs time.
RSA_BITS = range(2_048, 8_193)
# RFC 7518, 8037 and 9864: which key an algorithm takes.
_KINDS: Mapping[str, tuple[type[PublicKey], str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), (RSAKey, None)),
    "ES256": (ECKey, "P-256"),
    "ES384": (ECKey, "P-384"),
    "ES512": (ECKey, "P-521"),
    "EdDSA": (OKPKey, "Ed25519"),
    "Ed25519": (OKPKey, "Ed25519"),
}
_PUBLIC_MEMBERS = {"EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x"), "RSA": ("kty", "n", "e")}


class _WireKeys(msgspec.Struct):
    keys: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the one algorithm it is for, None if its key set says none."""

    key: PublicKey
    alg: str | None

    def fits(self, alg: str) -> bool:
        """Whether the algorithm takes keys of this kind, and the key set doesn't say that it is for another."""
        if alg not in _KINDS or self.alg not in (None, alg):
            return False
        kind, curve = _KINDS[alg]
        return isinstance(self.key, kind) and (isinstance(self.key, RSAKey) or self.key.curve_name == curve)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A key set as last seen, and when, in seconds of the clock."""

    keys: Mapping[str, VerificationKey]
    at: float


@dataclass(slots=True)
class _Source:
    """One place that a client's keys come from."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: _Seen | None = None
    ask_again_at: float = float("-inf")
    stamp: tuple[int, ...] | None = None


class KeySets:
    """All clients' keys, fetched when needed; safe in many threads."""

    def __init__(
        self,
        fetch: FetchKeys,
        clock: Callable[[], float] = time.monotonic,
        *,
        min_refetch_s: float = 60.0,
        max_age_s: float = 3_600.0,
        keep_s: float = 86_400.0,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._min_refetch_s = min_refetch_s
        self._max_age_s = max_age_s
        self._keep_s = keep_s
        self._sources: dict[tuple[str, str], _Source] = {}
        self._lock = threading.Lock()

    def key(self, client: CdsClient, jku: str | None, kid: str, alg: str) -> PublicKey | None:
        """The client's key of this id for this algorithm, None if there is none.

        `jku` is what the JWT names; one that isn't on the client's list gives None, and nothing is contacted.
        """
        if jku is not None and jku not in client.allowed_jku:
            return None
        url = client.jwks_url if jku is None else jku
        if url is not None:
            found = self._fetched(client, url, kid)
        elif client.jwks_file is not None:
            found = self._from_file(client, client.jwks_file, kid)
        else:
            found = None
        return found.key if found is not None and found.fits(alg) else None

    def _fetched(self, client: CdsClient, url: str, kid: str) -> VerificationKey | None:
        source = self._source(client, url)
        found = self._known(source, kid)
        if not self._is_due(source, found):
            return found
        if not source.lock.acquire(blocking=found is None):
            return found  # another call fetches
        try:
            if self._is_due(source, self._known(source, kid)):
                self._refresh(client, url, source)
            return self._known(source, kid)
        finally:
            source.lock.release()

    def _source(self, client: CdsClient, where: str) -> _Source:
        with self._lock:
            return self._sources.setdefault((client.id, where), _Source())

    def _known(self, source: _Source, kid: str) -> VerificationKey | None:
        seen = source.seen
        return None if seen is None or self._clock() - seen.at > self._keep_s else seen.keys.get(kid)

    def _is_due(self, source: _Source, found: VerificationKey | None) -> bool:
        now, seen = self._clock(), source.seen
        if now < source.ask_again_at:
            return False
        return found is None or seen is None or now - seen.at > self._max_age_s

    def _refresh(self, client: CdsClient, url: str, source: _Source) -> None:
        now, before = self._clock(), source.seen
        try:
            source.seen = _Seen(parse_key_set(self._fetch(client, url)), now)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong over there, the keys known so far stay
            _warn(client, exc)
        else:
            if before is None or now - before.at > self._max_age_s:
                return  # not for the sake of an unknown id: a key that is new since then is looked for at once
        wait_s = self._min_refetch_s if source.seen is not None else min(RETRY_S, self._min_refetch_s)
        source.ask_again_at = now + wait_s

    def _from_file(self, client: CdsClient, path: Path, kid: str) -> VerificationKey | None:
        source = self._source(client, str(path))
        with source.lock:
            try:
                self._read_if_changed(path, source)
            except (OSError, ValueError) as exc:  # gone, or half written: tried again at the next call
                if self._clock() >= source.ask_again_at:
                    source.ask_again_at = self._clock() + self._min_refetch_s
                    _warn(client, exc)
            return self._known(source, kid)

    def _read_if_changed(self, path: Path, source: _Source) -> None:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if source.seen is not None and stamp == source.stamp:
            source.seen = _Seen(source.seen.keys, self._clock())
            return
        with path.open("rb") as file:
            source.seen = _Seen(parse_key_set(file.read(MAX_KEY_SET_BYTES + 1)), self._clock())
        source.stamp = stamp


def parse_key_set(document: bytes) -> dict[str, VerificationKey]:
    """The usable keys of a JWK Set by id: public, for signatures, strong, and of an id no other key has.

    Raises:
        ValueError: not a key set, or larger than any we take.
    """
    if len(document) > MAX_KEY_SET_BYTES:
        message = f"key set: expected at most {MAX_KEY_SET_BYTES} bytes, got more"
        raise ValueError(message)
    try:
        wire = msgspec.json.decode(document, type=_WireKeys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError("key set: expected an object with an array of keys") from exc
    if len(wire.keys) > MAX_KEYS:
        message = f"key set: expected at most {MAX_KEYS} keys, got {len(wire.keys)}"
        raise ValueError(message)
    times = Counter(kid for jwk in wire.keys if isinstance(kid := jwk.get("kid"), str))
    found = {}
    for jwk in wire.keys:
        kid, alg = jwk.get("kid"), jwk.get("alg")
        if not isinstance(kid, str) or times[kid] > 1 or not isinstance(alg, str | None):
            continue
        if _is_for_signatures(jwk) and (key := _public_key(jwk)) is not None:
            found[kid] = VerificationKey(key, alg)
    return found


def _is_for_signatures(jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _public_key(jwk: Mapping[str, object]) -> PublicKey | None:
    """The key's public part, None for a symmetric, weak or broken one; private members are left behind."""
    members = _PUBLIC_MEMBERS.get(str(jwk.get("kty")), ())
    public: dict[str, str | list[str]] = {name: value for name in members if isinstance(value := jwk.get(name), str)}
    try:
        match public.get("kty"):
            case "EC":
                return ECKey.import_key(public)
            case "OKP":
                return OKPKey.import_key(public)
            case "RSA" if base64_to_int(str(public["n"])).bit_length() in RSA_BITS:
                return RSAKey.import_key(public)
            case _:
                return None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _warn(client: CdsClient, exc: Exception) -> None:
    log.warning("key set not read", extra={"client": client.id, "error": type(exc).__name__})
