"""The CDS clients' public keys (CDS Hooks 2.0.1, "Trusting CDS Clients"): `KeySets.key`.

A JWT may name its key set (`jku`) only from the client's own list; any other address is never contacted. Key sets are kept
for an hour. A key id that isn't in the set is looked for once more, as clients rotate their keys, and at most once a
minute, as anyone can invent key ids. Where a key server fails, the keys it gave last stay good for a day.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from cds_service.clients import CdsClient

PublicKey: TypeAlias = ECKey | OKPKey | RSAKey
FetchKeys: TypeAlias = Callable[[CdsClient, str], bytes]
"""The bytes of a key set at one of the client's addresses; raises any Exception when they can't be had."""

log = logging.getLogger("bedside.auth")

MAX_KEYS = 256
RETRY_S = 5.0  # after a failure; meanwhile its callers are refused at once instead of waiting one after the other
MIN_RSA_BITS = 2048
# RFC 7518 and 8037: which key an algorithm takes.
_KINDS: dict[str, tuple[str, str | None]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
_PUBLIC_MEMBERS = {"EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x"), "RSA": ("kty", "n", "e")}


class _WireKeys(msgspec.Struct):
    keys: tuple[dict[str, object], ...]


@dataclass(slots=True)
class _Source:
    """One key set as last seen; times in seconds of the monotonic clock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    keys: dict[str, tuple[dict[str, object], PublicKey]] = field(default_factory=dict)
    fetched_at: float | None = None
    ask_again_at: float | None = None
    mtime_ns: int | None = None


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
        if jku is not None:
            if jku not in client.allowed_jku:
                return None
            return _fitting(self._remote(client, jku, kid), alg)
        if client.jwks_url is not None:
            return _fitting(self._remote(client, client.jwks_url, kid), alg)
        return _fitting(self._local(client, kid), alg) if client.jwks_file is not None else None

    def _source(self, client: CdsClient, where: str) -> _Source:
        with self._lock:
            return self._sources.setdefault((client.id, where), _Source())

    def _remote(self, client: CdsClient, url: str, kid: str) -> tuple[dict[str, object], PublicKey] | None:
        source = self._source(client, url)
        with source.lock:  # one fetches, the others wait for what it brings
            now = self._clock()
            age = None if source.fetched_at is None else now - source.fetched_at
            if age is not None and age > self._keep_s:
                source.keys = {}
            if age is None or age > self._max_age_s or kid not in source.keys:
                self._refresh(client, url, source, now)
            return source.keys.get(kid)

    def _refresh(self, client: CdsClient, url: str, source: _Source, now: float) -> None:
        if source.ask_again_at is not None and now < source.ask_again_at:
            return
        try:
            source.keys = _parse(self._fetch(client, url))
        except Exception as exc:  # noqa: BLE001 - whatever went wrong over there, the keys known so far stay
            log.warning("key set not read", extra={"client": client.id, "error": type(exc).__name__})
            source.ask_again_at = now + min(RETRY_S, self._min_refetch_s)
            return
        source.fetched_at, source.ask_again_at = now, now + self._min_refetch_s

    def _local(self, client: CdsClient, kid: str) -> tuple[dict[str, object], PublicKey] | None:
        path = client.jwks_file
        if path is None:
            return None
        source = self._source(client, str(path))
        with source.lock:
            try:
                mtime_ns = path.stat().st_mtime_ns
                if mtime_ns != source.mtime_ns:
                    source.keys = _parse(path.read_bytes())
                    source.mtime_ns = mtime_ns
            except (OSError, ValueError):
                return source.keys.get(kid)  # a file half written is read again at the next call
            return source.keys.get(kid)


def parse_key_set(document: bytes) -> dict[str, PublicKey]:
    """The usable keys of a key set by id: public, for signatures, strong, and of an id no other key has.

    Raises:
        ValueError: not a key set.
    """
    return {kid: key for kid, (_, key) in _parse(document).items()}


def _parse(document: bytes) -> dict[str, tuple[dict[str, object], PublicKey]]:
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
        kid = jwk.get("kid")
        if isinstance(kid, str) and times[kid] == 1 and (key := _public_key(jwk)) is not None:
            found[kid] = (jwk, key)
    return found


def _public_key(jwk: dict[str, object]) -> PublicKey | None:
    """The key's public part, None for one that may not check signatures; private parts are left behind."""
    members = _PUBLIC_MEMBERS.get(str(jwk.get("kty")))
    operations = jwk.get("key_ops")
    if members is None or jwk.get("use", "sig") != "sig":
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    public: dict[str, str | list[str]] = {name: value for name in members if isinstance(value := jwk.get(name), str)}
    try:
        match public.get("kty"):
            case "EC":
                return ECKey.import_key(public)
            case "OKP":
                return OKPKey.import_key(public)
            case _:
                key = RSAKey.import_key(public)
                return key if key.public_key.key_size >= MIN_RSA_BITS else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _fitting(found: tuple[dict[str, object], PublicKey] | None, alg: str) -> PublicKey | None:
    """The key, if the algorithm takes keys of its kind and the key set doesn't say that it is for another."""
    if found is None:
        return None
    jwk, key = found
    kind, curve = _KINDS.get(alg, ("RSA", None))
    if jwk.get("alg", alg) != alg or key.key_type != kind or (curve is not None and jwk.get("crv") != curve):
        return None
    return key
