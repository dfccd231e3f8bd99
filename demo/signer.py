"""Shows the CDS service who calls: a signed JWT with each call (CDS Hooks 2.0.1, "Trusting CDS Clients").

ES384, a fresh `jti` and a life of two minutes for each token; the public key is served as a JWK Set, and tokens name its
address (`jku`). Knows no HTTP.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

LIFE_S = 120
KEY_SET_PATH = "/.well-known/jwks.json"


@dataclass(frozen=True, slots=True)
class Signer:
    """`issuer` is the EHR's origin, like `http://127.0.0.1:8090`."""

    issuer: str
    key: ECKey = field(repr=False)

    @property
    def key_id(self) -> str:
        return self.key.thumbprint()

    def token(self, audience: str) -> str:
        """A JWT for one call of `audience`, the URL called."""
        issued = int(time.time())
        header = {"alg": "ES384", "kid": self.key_id, "typ": "JWT", "jku": self.issuer + KEY_SET_PATH}
        claims = {"iss": self.issuer, "aud": audience, "iat": issued, "exp": issued + LIFE_S}
        return jwt.encode(header, claims | {"jti": secrets.token_urlsafe(24)}, self.key, ["ES384"])

    def key_set(self) -> dict[str, object]:
        """The public key as a JWK Set."""
        return {"keys": [{**self.key.as_dict(private=False), "kid": self.key_id, "use": "sig", "alg": "ES384"}]}


def load_key(path: Path | None) -> ECKey:
    """The private key in `path`, which is made there if need be, readable by its owner alone; none: a key for this run."""
    if path is not None and path.exists():
        return ECKey.import_key(path.read_bytes())
    key = ECKey.generate_key("P-384", private=True)
    if path is not None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.as_pem(private=True))
    return key
