"""CDS clients' keys, and JWTs that they sign (CDS Hooks 2.0.1, "Trusting CDS Clients")."""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

Json = dict[str, Any]


def base64url(content: bytes) -> str:
    """Base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(slots=True)
class Signer:
    """One client's key and the claims its tokens have."""

    issuer: str
    kid: str
    alg: str = "ES384"
    claims: Json = field(default_factory=dict)
    header: Json = field(default_factory=dict)
    key: ECKey | RSAKey = field(init=False)

    def __post_init__(self) -> None:
        self.rotate()

    def rotate(self) -> None:
        """Makes a new key; its id stays what `kid` says."""
        if self.alg.startswith("ES"):
            self.key = ECKey.generate_key("P-384", private=True)
        else:
            self.key = RSAKey.generate_key(2048, private=True)

    def jwk(self) -> Json:
        """The public key as a member of a key set."""
        return {**self.key.as_dict(private=False), "kid": self.kid, "alg": self.alg, "use": "sig"}

    def claims_for(self, url: str, **changes: Any) -> Json:
        """Fresh claims for a call of `url`; what is None in `changes` is left out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
        merged = claims | self.claims | changes
        return {name: value for name, value in merged.items() if value is not None}

    def token(self, url: str, header: Json | None = None, **changes: Any) -> str:
        """A token for a call of `url`, signed."""
        return self.sign(self.claims_for(url, **changes), header)

    def sign(self, claims: Json, header: Json | None = None) -> str:
        """These very claims, signed."""
        full = {"alg": self.alg, "typ": "JWT", "kid": self.kid} | self.header | (header or {})
        kept = {name: value for name, value in full.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[self.alg], strict_check_header=False)
        return jws.serialize_compact(kept, json.dumps(claims).encode(), self.key, registry=registry)
