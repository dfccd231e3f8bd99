"""Who vouches for a model folder: `model.sig`, checked before any other byte of the folder is trusted.

`model.sig` is an OpenSSF Model Signing v1.0 bundle made with an elliptic-curve key (P-256): a Sigstore bundle v0.3 whose DSSE
envelope (v1.0.0) holds an in-toto statement v1 with the SHA-256 of each signed file. The package `model-signing` makes it
(`model_artifacts.training.sign`); serving checks it with this module, which takes nothing but that one form:

 (1) a bundle of that media type, with nothing in it that the form doesn't have, and base64 that is the only spelling;
 (2) the hint names a trusted key, as the SHA-256 of its PEM text;
 (3) one signature, over the payload's pre-authentication encoding, by that key;
 (4) the payload is an in-toto statement of a model signature, about one model;
 (5) its files: digests of whole files, each name once, and the subject's digest made of theirs.

What the folder's files must be is `model_artifacts.folder`'s. To take another form, add it beside this one: nothing is guessed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Meta

from model_artifacts.errors import ArtifactError
from model_artifacts.manifest import Sha256

SIGNATURE_FILE = "model.sig"
RELEASE_KEY_FILE = "release.pub"
MAX_SIGNATURE_BYTES = 1_000_000
"""Thousands of files; a longer one is none of ours."""

_PAYLOAD_TYPE = "application/vnd.in-toto+json"

Hex64: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Unsigned:
    """Takes a folder as it lies: for those who are making the model, and for versions that the log vouches for."""


UNSIGNED: Final = Unsigned()


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that may vouch for models; `hint` is the SHA-256 of its PEM text, by which a bundle names it."""

    name: str
    hint: str
    key: ec.EllipticCurvePublicKey


Trust: TypeAlias = tuple[TrustedKey, ...] | Unsigned
"""The keys that may vouch for a folder; none is "nobody may"."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a trusted key vouches for: a model's name and its files' digests."""

    model: str
    digests: Mapping[str, Sha256]
    key: TrustedKey


def read_public_key(path: Path) -> TrustedKey:
    """The public key in a PEM file.

    Raises:
        ArtifactError: unreadable, or no P-256 public key.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise ArtifactError(f"model key {path}: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ArtifactError(f"model key {path}: expected a public key as PEM text") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ArtifactError(f"model key {path}: expected an elliptic-curve key on P-256, got another kind of key")
    return TrustedKey(path.name, key_hint(key), key)


def key_hint(key: ec.EllipticCurvePublicKey) -> str:
    """How a bundle names `key`: SHA-256 of its PEM text, in hexadecimal."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


@cache
def release_keys() -> tuple[TrustedKey, ...]:
    """The key of Bedside's own releases, which comes with the package."""
    return (read_public_key(Path(str(files("model_artifacts"))) / RELEASE_KEY_FILE),)


def trusted_keys(paths: Iterable[Path]) -> tuple[TrustedKey, ...]:
    """Bedside's own key and those that the site added.

    Raises:
        ArtifactError: as `read_public_key`.
    """
    return (*release_keys(), *(read_public_key(path) for path in paths))


class _PublicKeyHint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hint: Hex64


class _VerificationMaterial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    public_key: _PublicKeyHint
    tlog_entries: Annotated[tuple[Any, ...], Meta(max_length=0)]


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sig: str
    keyid: Literal[""] = ""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=1)]


class _Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """https://docs.sigstore.dev/about/bundle/, as far as a signature with a key has it."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _VerificationMaterial
    dsse_envelope: _Envelope


class _Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: Hex64


class _Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    digest: _Digest


class _Serialization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: bool
    ignore_paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.allow_symlinks:
            raise ValueError("allow_symlinks must be false")


class _Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    algorithm: Literal["sha256"]
    digest: Hex64


class _Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """https://in-toto.io/Statement/v1 with the predicate https://model_signing/signature/v1.0."""

    type_: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[tuple[_Subject, ...], Meta(min_length=1, max_length=1)]
    predicate_type: Literal["https://model_signing/signature/v1.0"] = msgspec.field(name="predicateType")
    predicate: _Predicate


def open_signature(data: bytes, keys: tuple[TrustedKey, ...], model: str) -> Signed:
    """What `data`, the bytes of a `model.sig`, vouches for; `model` is the folder's name, for the message.

    Raises:
        ArtifactError: not a bundle of our form, no trusted key's, or altered.
    """
    try:
        bundle = msgspec.json.decode(data, type=_Bundle)  # (1)
        payload, signature = _bytes(bundle.dsse_envelope.payload), _bytes(bundle.dsse_envelope.signatures[0].sig)
    except (msgspec.DecodeError, ValueError) as exc:
        raise _refusal(model, f"is no signature of the form taken here: {exc}") from exc
    key = _named_key(bundle.verification_material.public_key.hint, keys, model)  # (2)
    try:
        key.key.verify(signature, _encoded(payload), ec.ECDSA(hashes.SHA256()))  # (3)
    except InvalidSignature as exc:
        raise _refusal(model, f"is altered: it is no signature by the key {key.name}") from exc
    try:
        statement = msgspec.json.decode(payload, type=_Statement)  # (4)
        digests = _file_digests(statement)  # (5)
    except (msgspec.DecodeError, ValueError) as exc:
        raise _refusal(model, f"signs something else than a model's files: {exc}") from exc
    return Signed(statement.subject[0].name, digests, key)


def _named_key(hint: str, keys: tuple[TrustedKey, ...], model: str) -> TrustedKey:
    for key in keys:
        if key.hint == hint:
            return key
    known = ", ".join(f"{key.name} {key.hint[:16]}" for key in keys) or "none"
    raise _refusal(
        model,
        f"is by the key {hint[:16]}, which isn't trusted here (trusted: {known}); whoever trusts its maker puts the "
        "maker's public key file into models.trusted_keys",
    )


def _file_digests(statement: _Statement) -> dict[str, Sha256]:
    resources = statement.predicate.resources
    digests = {item.name: Sha256(item.digest) for item in resources}
    if len(digests) != len(resources):
        raise ValueError("a file stands there twice")
    root = hashlib.sha256(b"".join(bytes.fromhex(item.digest) for item in resources)).hexdigest()
    if root != statement.subject[0].digest.sha256:
        raise ValueError("the model's digest isn't made of its files'")
    return digests


def _bytes(text: str) -> bytes:
    """What base64 `text` stands for; two spellings of the same bytes would be two files of one signature."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 with bits to spare")
    return data


def _encoded(payload: bytes) -> bytes:
    """The pre-authentication encoding that is signed: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)


def _refusal(model: str, why: str) -> ArtifactError:
    return ArtifactError(f"file {SIGNATURE_FILE} of model {model} {why}", model_id=model)
