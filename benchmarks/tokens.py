"""The measured client's JWTs: its key set as a file, and tokens signed before a load begins, as each is good for one call."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from joserfc import jwt
from joserfc.jwk import ECKey

ISSUER = "https://ehr.benchmarks.example"
AUDIENCE = "bedside-benchmarks"
LIFE_S = 900


@dataclass(frozen=True, slots=True)
class BenchmarkClient:
    """One client with an ES384 key, the slower of the two algorithms that CDS Hooks recommends."""

    key: ECKey

    @classmethod
    def new(cls) -> Self:
        """A client with a key that is gone with it."""
        return cls(ECKey.generate_key("P-384", private=True))

    def write_config(self, folder: Path) -> Path:
        """A configuration that knows the client, in `folder`."""
        keys = folder / "jwks.json"
        public = {**self.key.as_dict(private=False), "kid": self.key.thumbprint(), "use": "sig"}
        keys.write_text(json.dumps({"keys": [public]}), encoding="utf-8")
        config = folder / "bedside.toml"
        config.write_text(
            f'[[clients]]\nid = "benchmarks"\nissuer = "{ISSUER}"\naudiences = ["{AUDIENCE}"]\n'
            f"jwks_file = {json.dumps(str(keys))}\n[access]\nopen_discovery = true\n",
            encoding="utf-8",
        )
        return config

    def tokens(self, count: int) -> list[str]:
        """So many tokens, each for one call."""
        issued = int(time.time())
        header = {"alg": "ES384", "kid": self.key.thumbprint(), "typ": "JWT"}
        claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": issued, "exp": issued + LIFE_S}
        return [
            jwt.encode(header, {**claims, "jti": secrets.token_urlsafe(16)}, self.key, ["ES384"]) for _ in range(count)
        ]
