import hashlib
import subprocess
from pathlib import Path

import pytest

from audit.checkpoint import open_checkpoint
from audit.errors import FormatError, SignatureError, StorageError
from audit.export import verifier
from audit.export.bundle import write_bundle
from audit.keys import Ed25519Signer, load_vkeys
from audit.merkle import LeafIndex, TreeSize
from audit.note import format_vkey
from audit.publish import PublishError
from audit.storage import Anchor
from tests.audit.export.bundles import KEY, POLICY, WITNESSES, bundle, cosign, cosigned_tree, switch_entry
from tests.audit.memory_tree import ORIGIN, SIGNER, MemoryTree
from tests.programs import need

KEYS = (SIGNER.verifier_key,)


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_bundle_holds_the_log_its_heads_keys_policy_and_verifier(tmp_path: Path) -> None:
    tree = cosigned_tree(100, 300)
    made = bundle(tmp_path / "b", tree)
    tiles = {"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"}
    beside = {"checkpoint", "log.vkey", "policy", "witness.vkey", "heads/100", "verify.py", "README.txt", "SHA256SUMS"}
    assert _names(tmp_path / "b") == tiles | beside
    assert (made.first, made.last, made.heads, made.time_stamps, made.files) == (0, 299, 1, 0, 13)
    assert (tmp_path / "b" / "verify.py").read_bytes() == Path(verifier.__file__).read_bytes()
    assert len(load_vkeys(tmp_path / "b" / "witness.vkey")) == 3
    cosigned = (tmp_path / "b" / "heads" / "100").read_bytes()
    keys = [one.verifier_key for one in WITNESSES]
    assert open_checkpoint(cosigned, KEYS, witness_keys=keys, quorum=2).size == 100


def test_bundle_list_is_what_sha256sum_checks(tmp_path: Path) -> None:
    bundle(tmp_path / "b", cosigned_tree(100, 300))
    command = [need("sha256sum"), "--check", "--strict", "SHA256SUMS"]
    subprocess.run(command, cwd=tmp_path / "b", check=True, capture_output=True, timeout=60)
    listed = [line.split("  ") for line in (tmp_path / "b" / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in listed} == {n for n in _names(tmp_path / "b") if not n.startswith("tile/")} - {
        "SHA256SUMS"
    }
    assert all(digest == hashlib.sha256((tmp_path / "b" / name).read_bytes()).hexdigest() for digest, name in listed)


def test_bundle_readme_gives_the_key_and_what_to_do(tmp_path: Path) -> None:
    tree = cosigned_tree(3)
    bundle(tmp_path / "b", tree)
    text = (tmp_path / "b" / "README.txt").read_text()
    assert f"python3 -I -S verify.py --key '{KEY}'" in text
    assert f"origin  {ORIGIN}\nsize    3 entries\n" in text
    assert "Time stamps" not in text
    tree.kept.append(Anchor(tree.size, "rfc3161", "tsa.example", b"evidence", ""))
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32)).verifier_key
    bundle(tmp_path / "two", tree, [*KEYS, fresh])
    text = (tmp_path / "two" / "README.txt").read_text()
    assert "openssl ts -verify" in text
    assert f"compare\n\n    {KEY}\n\n    {format_vkey(fresh)}\n\n with what" in text


def test_bundle_of_a_part_has_its_entries_and_every_hash(tmp_path: Path) -> None:
    tree = cosigned_tree(600)
    made = bundle(tmp_path / "b", tree, first=LeafIndex(256), last=LeafIndex(256))
    assert (made.first, made.last) == (256, 256)
    assert {n for n in _names(tmp_path / "b") if "entries" in n} == {"tile/entries/001"}
    assert {"tile/0/000", "tile/0/001", "tile/0/002.p/88"} <= _names(tmp_path / "b")
    assert (tmp_path / "b" / "range").read_text() == "256\n256\n"


@pytest.mark.parametrize(("first", "last"), [(600, None), (0, 600), (3, 2), (-1, 2)])
def test_bundle_of_entries_the_log_does_not_have_is_refused(tmp_path: Path, first: int, last: int | None) -> None:
    with pytest.raises(PublishError, match="the log has 600"):
        bundle(tmp_path, cosigned_tree(600), first=LeafIndex(first), last=None if last is None else LeafIndex(last))
    assert _names(tmp_path) == set()


def test_bundle_goes_into_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(PublishError, match="expected an empty folder"):
        bundle(tmp_path, cosigned_tree(1))


def test_bundle_is_not_written_under_another_key_or_an_unreadable_policy(tmp_path: Path) -> None:
    stranger = Ed25519Signer(ORIGIN, bytes(32)).verifier_key
    with pytest.raises(SignatureError):
        bundle(tmp_path, cosigned_tree(1), [stranger])
    with pytest.raises(FormatError, match="quorum"):
        bundle(tmp_path, cosigned_tree(1), policy=POLICY.replace(b"quorum two\n", b""))
    assert _names(tmp_path) == set()


def test_bundle_has_every_time_stamp_beside_its_checkpoint(tmp_path: Path) -> None:
    tree = cosigned_tree(5, 9)
    tree.kept += [Anchor(TreeSize(5), "rfc3161", name, name.encode(), "") for name in ("a.example", "b.example")]
    assert bundle(tmp_path / "b", tree).time_stamps == 2
    assert (tmp_path / "b/timestamps/5.checkpoint").read_bytes() == tree.checkpoint(TreeSize(5))
    assert [(tmp_path / f"b/timestamps/5.{number}.tsr").read_bytes() for number in (1, 2)] == [
        b"a.example",
        b"b.example",
    ]
    tree.kept.append(Anchor(TreeSize(4), "rfc3161", "a.example", b"", ""))
    with pytest.raises(StorageError, match="time stamp for size 4"):
        bundle(tmp_path / "c", tree)


def test_bundle_keeps_heads_at_even_distances_where_there_are_very_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.export.bundle.MAX_HEADS", 10)
    tree = MemoryTree()
    for number in range(15):
        tree.grow([switch_entry(number)])
        cosign(tree, WITNESSES[0])
    assert write_bundle(tmp_path, tree, KEYS).heads == 8
    assert (tmp_path / "heads" / "15").exists()
