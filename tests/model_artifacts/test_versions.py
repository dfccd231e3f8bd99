"""The store keeps whole signed versions, says which stands, and loads none that was altered or doesn't fit."""

import os
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_artifacts.errors import ArtifactError, ModelError
from model_artifacts.folder import ModelFolder, read_folder
from model_artifacts.manifest import ModelManifest
from model_artifacts.runtime import identity_of
from model_artifacts.signing import release_keys
from model_artifacts.versions import (
    LOCK_FILE,
    STANDING_FILE,
    Standing,
    StoreError,
    UnfitError,
    Version,
    VersionStore,
    check_fit,
    check_follows,
    load_version,
)
from tests.model_artifacts.candidates import make_candidate
from tests.model_artifacts.signer import Signer

PACKAGE = "model_artifacts.prevent_cvd"
INSTALLED = read_folder(Path(str(files(PACKAGE))), release_keys())
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
VERSIONS = st.builds(Version, st.from_regex(r"[0-9]\.[0-9]", fullmatch=True), DIGESTS, DIGESTS, DIGESTS)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "keys")


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


@pytest.fixture
def candidate(tmp_path: Path, signer: Signer) -> ModelFolder:
    return read_folder(make_candidate(tmp_path / "candidate", signer), (signer.trusted,))


def test_versions_of_a_model_nobody_changed_are_the_installed_one(store: VersionStore) -> None:
    assert store.standing("prevent_cvd") == Standing()
    assert not store.directory.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(in_force=st.none() | VERSIONS, before=st.lists(VERSIONS, max_size=3), shadow=st.none() | VERSIONS)
def test_versions_standing_is_read_as_it_was_written(
    in_force: Version | None, before: list[Version], shadow: Version | None, store: VersionStore
) -> None:
    standing = Standing(in_force=in_force, before=tuple(before), shadow=shadow)
    with store.changing("prevent_cvd"):
        store.stand("prevent_cvd", standing)
    assert store.standing("prevent_cvd") == standing
    assert sorted(path.name for path in (store.directory / "prevent_cvd").iterdir()) == [LOCK_FILE, STANDING_FILE]


@pytest.mark.parametrize("data", [b"", b'{"schema": "bedside-versions/2"}', b'{"in_force": "../../etc"}'])
def test_versions_of_a_standing_that_is_none_are_not_guessed(data: bytes, store: VersionStore) -> None:
    (store.directory / "prevent_cvd").mkdir(parents=True)
    (store.directory / "prevent_cvd" / STANDING_FILE).write_bytes(data)
    with pytest.raises(StoreError, match=STANDING_FILE):
        store.standing("prevent_cvd")


def test_versions_are_changed_by_one_at_a_time(store: VersionStore) -> None:
    with (
        store.changing("prevent_cvd"),
        pytest.raises(StoreError, match="somebody else is changing its version"),
        store.changing("prevent_cvd"),
    ):
        pytest.fail("two held the lock")
    with store.changing("prevent_cvd"), store.changing("warfarin_dose"):
        pass


def test_versions_kept_are_loaded_with_their_own_signature(
    store: VersionStore, candidate: ModelFolder, signer: Signer
) -> None:
    folder = store.keep(candidate)
    assert store.keep(candidate) == folder == store.folder("prevent_cvd", candidate.manifest_sha256)
    trust = (*release_keys(), signer.trusted)
    model = load_version(PACKAGE, folder, trust, candidate.manifest_sha256)
    assert (model.manifest.version, model.folder) == ("9.1.0", folder)
    assert model.code == Path(str(files(PACKAGE)))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    with pytest.raises(ArtifactError, match=r"models\.trusted_keys"):
        load_version(PACKAGE, folder, release_keys())


@pytest.mark.parametrize("name", [*INSTALLED.contents])
def test_versions_altered_in_the_store_are_refused(
    name: str, store: VersionStore, candidate: ModelFolder, signer: Signer
) -> None:
    path = store.keep(candidate) / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match=name):
        load_version(PACKAGE, path.parent, (*release_keys(), signer.trusted), candidate.manifest_sha256)


def test_versions_in_the_place_of_another_are_refused(
    store: VersionStore, candidate: ModelFolder, signer: Signer
) -> None:
    with pytest.raises(ArtifactError, match="expected the manifest 0000"):
        load_version(PACKAGE, store.keep(candidate), (*release_keys(), signer.trusted), "0" * 64)


def test_versions_of_one_manifest_and_two_cards_are_told_apart(
    store: VersionStore, candidate: ModelFolder, tmp_path: Path, signer: Signer
) -> None:
    store.keep(candidate)
    with (tmp_path / "candidate" / "MODEL_CARD.md").open("a") as card:
        card.write("more\n")
    signer.sign(tmp_path / "candidate")
    with pytest.raises(UnfitError, match=r"with another MODEL_CARD\.md") as refused:
        store.keep(read_folder(tmp_path / "candidate", (signer.trusted,)))
    assert refused.value.code == "version-reused"


def test_versions_that_came_to_nothing_are_removed_and_those_that_stand_are_not(
    store: VersionStore, candidate: ModelFolder
) -> None:
    folder = store.keep(candidate)
    store.stand("prevent_cvd", Standing(before=(Version.of(identity_of(candidate)),)))
    store.discard("prevent_cvd", candidate.manifest_sha256)
    assert folder.is_dir()
    store.stand("prevent_cvd", Standing())
    store.discard("prevent_cvd", candidate.manifest_sha256)
    assert not folder.exists()


def test_versions_that_cannot_be_written_leave_the_old_ones_standing(
    store: VersionStore, candidate: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store.keep(candidate)
    store.stand("prevent_cvd", standing := Standing(shadow=Version.of(identity_of(candidate))))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.stand("prevent_cvd", Standing())
    with pytest.raises(StoreError, match="No space left"):
        store.keep(INSTALLED)
    assert store.standing("prevent_cvd") == standing
    assert not store.folder("prevent_cvd", INSTALLED.manifest_sha256).exists()


def _changed(**members: object) -> ModelManifest:
    return msgspec.structs.replace(INSTALLED.manifest, version="9.1.0", **members)


def _files(**changes: str) -> dict[str, str]:
    return {**INSTALLED.manifest.files, **{name.replace("_toml", ".toml"): digest for name, digest in changes.items()}}


@pytest.mark.parametrize(
    ("version", "differs"),
    [
        (_changed(hooks=("order-sign",)), "other hooks;"),
        (_changed(outputs=INSTALLED.manifest.outputs[:1]), "other outputs;"),
        (_changed(artifact=msgspec.structs.replace(INSTALLED.manifest.artifact, inputs=())), "other graph inputs;"),
        (_changed(files=_files(codes_toml="0" * 64)), "other table codes.toml;"),
        (_changed(files=_files(more_toml="0" * 64)), "other table more.toml;"),
        (_changed(files={}), "other table codes.toml, table "),
    ],
)
def test_versions_that_the_installed_code_cannot_run_are_refused_with_what_differs(
    version: ModelManifest, differs: str
) -> None:
    with pytest.raises(UnfitError, match=differs) as refused:
        check_fit(version, INSTALLED.manifest)
    assert refused.value.code == "unfit"


def test_versions_may_change_what_the_code_does_not_rely_on() -> None:
    artifact = msgspec.structs.replace(INSTALLED.manifest.artifact, sha256="0" * 64)
    bands = (msgspec.structs.replace(INSTALLED.manifest.bands[0], label="another"), *INSTALLED.manifest.bands[1:])
    files = {**INSTALLED.manifest.files, "reference.json": "0" * 64}
    check_fit(_changed(artifact=artifact, bands=bands, files=files), INSTALLED.manifest)


@pytest.mark.parametrize(
    ("version", "code"),
    [("1.9.0", "downgrade"), ("1.10.0", "downgrade"), ("1.2", "downgrade"), ("2.0.0", "version-reused")],
)
def test_versions_follow_upwards_and_never_under_a_number_that_was_used(version: str, code: str) -> None:
    in_force = msgspec.structs.replace(INSTALLED.manifest, version="1.10.0")
    new = msgspec.structs.replace(INSTALLED.manifest, version=version)
    with pytest.raises(UnfitError) as refused:
        check_follows(new, in_force, {"2.0.0": "a" * 64}, "b" * 64)
    assert refused.value.code == code


@pytest.mark.parametrize("version", ["1.10.1", "1.11", "3.0.0", "2026-06 autumn"])
def test_versions_that_are_later_or_no_numbers_may_follow(version: str) -> None:
    in_force = msgspec.structs.replace(INSTALLED.manifest, version="1.10.0")
    known = {"2.0.0": "a" * 64, "3.0.0": "b" * 64}
    check_follows(msgspec.structs.replace(INSTALLED.manifest, version=version), in_force, known, "b" * 64)
