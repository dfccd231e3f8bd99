"""Mutual TLS behind a proxy: the certificate it names is asked for beside the JWT, and believed from that proxy alone."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.cds_service import tokens
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port, run_bedside


def _certificate(name: str) -> bytes:
    """A client certificate in DER."""
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return dated.sign(key, SHA256()).public_bytes(Encoding.DER)


AGREED, OTHER = _certificate("ehr"), _certificate("other")


def _header(certificate: bytes) -> str:
    return f":{base64.b64encode(certificate).decode()}:"


@contextmanager
def _running(folder: Path, proxies: list[str]) -> Iterator[str]:
    """The base URL of a service whose one client has agreed on a certificate."""
    port = free_port()
    (folder / "jwks.json").write_bytes(tokens.jwks(tokens.ES384))
    (folder / "bedside.toml").write_text(
        f'[server]\nport = {port}\n[access]\ntrusted_proxies = {json.dumps(proxies)}\n[models]\nenabled = ["prevent_cvd"]\n'
        f'[audit]\ndirectory = "{folder / "audit"}"\norigin = "{ORIGIN}"\n[state]\ndirectory = "{folder / "state"}"\n'
        f'[[clients]]\nid = "ehr"\nissuer = "{tokens.ISSUER}"\njwks_file = "{folder / "jwks.json"}"\n'
        f'certificates_sha256 = ["{sha256(AGREED).hexdigest()}"]\n'
    )
    environment = clean_environment(BEDSIDE_CONFIG=str(folder / "bedside.toml"))
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=environment).returncode == 0
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "bedside", "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        await_answer(process, f"{url}/health")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _discover(url: str, certificate: str | None) -> int:
    headers = {"Authorization": f"Bearer {tokens.make_token(f'{url}/cds-services')}"}
    if certificate is not None:
        headers["Client-Cert"] = certificate
    return requests.get(f"{url}/cds-services", headers=headers, timeout=20).status_code


def test_client_certificate_is_asked_for_beside_the_jwt(tmp_path: Path) -> None:
    with _running(tmp_path, ["127.0.0.1/32"]) as url:
        assert _discover(url, _header(AGREED)) == 200
        for certificate in (None, "", _header(OTHER), _header(b"no certificate"), AGREED.hex()):
            assert _discover(url, certificate) == 401, certificate
        without = requests.get(f"{url}/cds-services", headers={"Client-Cert": _header(AGREED)}, timeout=20)
        assert without.status_code == 401


@pytest.mark.parametrize("proxies", [[], ["10.0.0.0/8"]])
def test_client_certificate_is_not_believed_from_anyone_else(proxies: list[str], tmp_path: Path) -> None:
    with _running(tmp_path, proxies) as url:
        assert _discover(url, _header(AGREED)) == 401
