"""`model.sig` is taken in one form, by a trusted key, and unaltered; `model-signing` says the same of the same bundles."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ArtifactError
from model_artifacts.signing import (
    RELEASE_KEY_FILE,
    Signed,
    open_signature,
    read_public_key,
    release_keys,
    trusted_keys,
)
from tests.model_artifacts.signer import Signer, statement_of

CONTENTS = {"manifest.toml": b"id", "model.onnx": b"graph", "lists/codes.toml": b"codes"}
STATEMENT = statement_of("tiny", CONTENTS)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def opened(signer: Signer) -> Callable[[bytes], Signed]:
    return lambda data: open_signature(data, (signer.trusted,), "tiny")


def test_signing_gives_the_models_name_and_each_files_digest(signer: Signer, opened: Callable[[bytes], Signed]) -> None:
    signed = opened(signer.bundle(STATEMENT))
    resources = STATEMENT["predicate"]["resources"]
    assert (signed.model, signed.key.name) == ("tiny", "test.pub")
    assert signed.digests == {item["name"]: item["digest"] for item in resources}


def test_signing_knows_a_key_by_the_hint_of_the_bundle(signer: Signer, tmp_path: Path) -> None:
    other = Signer(tmp_path, "other.pub")
    signed = open_signature(other.bundle(STATEMENT), (signer.trusted, other.trusted), "tiny")
    assert signed.key.name == "other.pub"


def test_signing_refuses_a_strangers_key_and_says_what_to_do(signer: Signer, tmp_path: Path) -> None:
    stranger = Signer(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"file model.sig of model tiny is by the key .*models.trusted_keys"
    ) as told:
        open_signature(stranger.bundle(STATEMENT), (signer.trusted,), "tiny")
    assert stranger.hint[:16] in str(told.value)
    assert told.value.model_id == "tiny"


def test_signing_refuses_a_strangers_signature_under_a_trusted_keys_hint(
    signer: Signer, opened: Callable[[bytes], Signed], tmp_path: Path
) -> None:
    forger = Signer(tmp_path)
    forger.hint = signer.hint
    with pytest.raises(ArtifactError, match=r"is altered: it is no signature by the key test.pub"):
        opened(forger.bundle(STATEMENT))


def test_signing_trusts_nobody_where_no_key_is_trusted(signer: Signer) -> None:
    with pytest.raises(ArtifactError, match="trusted: none"):
        open_signature(signer.bundle(STATEMENT), (), "tiny")


def _changed(path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(STATEMENT)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = changed
    for part in way:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("predicateType", "https://model_signing/Digests/v0.1"),
        ("subject", []),
        ("subject", [*STATEMENT["subject"], *STATEMENT["subject"]]),
        ("subject/0/digest/sha256", "0" * 64),
        ("predicate/serialization/method", "shards"),
        ("predicate/serialization/hash_type", "blake2b"),
        ("predicate/serialization/allow_symlinks", True),
        ("predicate/resources/0/algorithm", "sha512"),
        ("predicate/resources/0/digest", "ab"),
        ("predicate/resources", [*STATEMENT["predicate"]["resources"], STATEMENT["predicate"]["resources"][0]]),
        ("predicate/resources/0", None),
        ("predicate", None),
        ("more", "than there should be"),
    ],
)
def test_signing_refuses_a_statement_of_another_form(
    path: str, value: Any, signer: Signer, opened: Callable[[bytes], Signed]
) -> None:
    with pytest.raises(ArtifactError, match="signs something else than a model's files"):
        opened(signer.bundle(_changed(path, value)))


@pytest.mark.parametrize(
    "changes",
    [
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [{"sig": "AA==", "keyid": ""}, {"sig": "AA==", "keyid": ""}]},
        {"signatures": [{"sig": "AA==", "keyid": "a"}]},
        {"payload": "e30"},
        {"payload": "e31="},
        {"bundle": {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}},
        {"bundle": {"verificationMaterial": {"certificate": {"rawBytes": "AA=="}, "tlogEntries": []}}},
        {"bundle": {"verificationMaterial": {"publicKey": {"hint": "a" * 64}, "tlogEntries": [{}]}}},
        {"bundle": {"verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []}}},
        {"bundle": {"messageSignature": {}}},
    ],
)
def test_signing_refuses_a_bundle_of_another_form(
    changes: dict[str, Any], signer: Signer, opened: Callable[[bytes], Signed]
) -> None:
    with pytest.raises(ArtifactError, match="is no signature of the form taken here"):
        opened(signer.bundle(STATEMENT, **changes))


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_signing_refuses_any_flipped_bit(
    place: int, bit: int, signer: Signer, opened: Callable[[bytes], Signed]
) -> None:
    data = bytearray(signer.bundle(STATEMENT))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(ArtifactError, match=r"file model.sig of model tiny"):
        opened(bytes(data))


@given(
    data=st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_signing_raises_nothing_else_on_what_is_no_bundle(data: bytes, opened: Callable[[bytes], Signed]) -> None:
    with pytest.raises(ArtifactError):
        opened(data)


def test_signing_reads_keys_on_p256_alone(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"wide.pub: expected an elliptic-curve key on P-256"):
        read_public_key(Signer(tmp_path, "wide.pub", ec.SECP384R1()).public_file)
    (tmp_path / "text.pub").write_text("no key")
    with pytest.raises(ArtifactError, match=r"text.pub: expected a public key as PEM text"):
        read_public_key(tmp_path / "text.pub")
    with pytest.raises(ArtifactError, match=r"none.pub: No such file"):
        read_public_key(tmp_path / "none.pub")


def test_signing_trusts_the_release_key_and_those_that_are_added(signer: Signer) -> None:
    assert [key.name for key in trusted_keys([signer.public_file])] == [RELEASE_KEY_FILE, "test.pub"]
    assert [key.name for key in release_keys()] == [RELEASE_KEY_FILE]


@pytest.fixture
def verified_elsewhere() -> Callable[[Path, Path, Path], None]:
    """`model-signing`'s own verdict on a folder of nothing but signed files."""
    verifying = pytest.importorskip("model_signing.verifying", reason="model-signing is of the extra 'train'")

    def verify(folder: Path, signature: Path, key: Path) -> None:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)

    return verify


def test_signing_here_and_model_signing_agree_on_what_is_signed_here(
    signer: Signer, verified_elsewhere: Callable[[Path, Path, Path], None], tmp_path: Path
) -> None:
    folder, signature = tmp_path / "tiny", tmp_path / "model.sig"
    for name, data in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    signature.write_bytes(signer.bundle(STATEMENT))
    verified_elsewhere(folder, signature, signer.public_file)
    (folder / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*model.onnx"):
        verified_elsewhere(folder, signature, signer.public_file)
