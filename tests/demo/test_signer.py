from __future__ import annotations

import stat
from pathlib import Path

import pytest
import requests
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from demo.ehr import PocketEhr
from demo.signer import KEY_SET_PATH, LIFE_S, Signer, load_key

URL = "http://127.0.0.1:9/cds-services/a"


def test_signer_tokens_are_good_by_the_key_set_that_is_served(ehr: PocketEhr) -> None:
    served = requests.get(ehr.origin + KEY_SET_PATH, timeout=5).json()
    assert not any("d" in key for key in served["keys"])
    token = jwt.decode(ehr.client.signer.token(URL), KeySet.import_key_set(served), ["ES384"])
    assert token.header["jku"] == ehr.origin + KEY_SET_PATH
    assert (token.claims["iss"], token.claims["aud"]) == (ehr.origin, URL)
    assert token.claims["exp"] - token.claims["iat"] == LIFE_S


def test_signer_uses_no_token_id_twice() -> None:
    signer = Signer("http://ehr", load_key(None))
    ids = {jwt.decode(signer.token(URL), signer.key, ["ES384"]).claims["jti"] for _ in range(20)}
    assert len(ids) == 20


def test_signer_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first, again = load_key(path), load_key(path)
    assert first.thumbprint() == again.thumbprint() != load_key(None).thumbprint()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_signer_token_of_another_key_is_refused() -> None:
    token = Signer("http://ehr", load_key(None)).token(URL)
    with pytest.raises(JoseError):
        jwt.decode(token, ECKey.generate_key("P-384", private=True), ["ES384"])
