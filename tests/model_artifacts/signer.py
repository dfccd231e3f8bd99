"""Signs model folders for tests, with keys of their own: the same form as `model-signing` writes, made independently of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from model_artifacts.folder import SIGNATURE_FILE, read_folder
from model_artifacts.signing import UNSIGNED, TrustedKey, read_public_key

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Signer:
    """A P-256 key, and what it signs."""

    def __init__(self, folder: Path, name: str = "test.pub", curve: ec.EllipticCurve | None = None) -> None:
        self.private = ec.generate_private_key(curve or ec.SECP256R1())
        public = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.public_file = folder / name
        self.public_file.write_bytes(public)
        self.private_file = folder / "private.pem"
        plain = serialization.NoEncryption()
        self.private_file.write_bytes(
            self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        self.hint = hashlib.sha256(public).hexdigest()

    @property
    def trusted(self) -> TrustedKey:
        return read_public_key(self.public_file)

    def sign(self, folder: Path) -> Path:
        """Signs the folder as it lies; gives the path of its `model.sig`."""
        model = read_folder(folder, UNSIGNED)
        (folder / SIGNATURE_FILE).write_bytes(self.bundle(statement_of(model.manifest.id, model.contents)))
        return folder / SIGNATURE_FILE

    def bundle(self, statement: Mapping[str, Any], **changes: Any) -> bytes:
        """The bundle over a statement; `changes` replace members of the envelope or, by `bundle`, of the bundle."""
        payload = json.dumps(statement).encode()
        encoded = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        signature = self.private.sign(encoded, ec.ECDSA(hashes.SHA256()))
        envelope: dict[str, Any] = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        }
        whole = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": {**envelope, **{k: v for k, v in changes.items() if k != "bundle"}},
        }
        return json.dumps({**whole, **changes.get("bundle", {})}, separators=(",", ":")).encode()


def statement_of(name: str, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The in-toto statement about these files."""
    digests = {file: hashlib.sha256(data) for file, data in sorted(contents.items())}
    root = hashlib.sha256(b"".join(digest.digest() for digest in digests.values())).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [
                {"name": file, "algorithm": "sha256", "digest": digest.hexdigest()} for file, digest in digests.items()
            ],
        },
    }
