import ast
import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.errors import AuditError, SignatureError
from audit.key_history import KeyPeriod, format_periods, parse_periods
from audit.keys import Ed25519Signer
from audit.merkle import LeafIndex, Sha256, TreeSize, leaf_hash, prove_inclusion
from audit.note import VerifierKey, check_ed25519, format_vkey, open_note, parse_note, parse_vkey
from audit.proof import LogProof, format_proof, parse_proof
from audit.publish import Publisher
from audit.storage import Anchor
from tests.audit.export.bundles import (
    KEY,
    POLICY,
    WITNESSES,
    Ran,
    bundle,
    cosign,
    cosigned_tree,
    rotation_entry,
    run_verifier,
    switch_entry,
)
from tests.audit.memory_tree import ORIGIN, SIGNER, MemoryTree
from tests.audit.time_authority import TimeAuthority
from tests.programs import need

VECTORS = Path(__file__).parents[2] / "vectors" / "audit"
CCTV = json.loads((VECTORS / "cctv_ed25519vectors.json").read_text())
NOTES = json.loads((VECTORS / "notes.json").read_text())
VERIFIER = Path(__file__).parents[3] / "audit" / "export" / "verifier.py"


@pytest.fixture(scope="module")
def verifier() -> ModuleType:
    """The verifier as a module, from its one file."""
    spec = importlib.util.spec_from_file_location("verify", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tree() -> MemoryTree:
    """A log of 600 entries with checkpoints at 100 and 520 too; two witnesses at 520."""
    grown = cosigned_tree(100)
    grown.grow(switch_entry(number) for number in range(100, 520))
    cosign(grown, *WITNESSES[:2])
    grown.grow(switch_entry(number) for number in range(520, 600))
    return grown


@pytest.fixture(scope="module")
def good(tree: MemoryTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bundles") / "good"
    bundle(folder, tree)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(good, tmp_path / "copy"))


@pytest.fixture
def check(verifier: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the verifier in this process, for what is run hundreds of times."""

    def run(*arguments: object) -> Ran:
        status = verifier.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return run


# Signatures


def test_verifier_accepts_exactly_the_ed25519_edge_cases_that_openssl_and_go_accept(verifier: ModuleType) -> None:
    accepted = []
    for case in CCTV:
        values = bytes.fromhex(case["key"]), bytes.fromhex(case["sig"]), case["msg"].encode()
        ours = verifier.is_signed(*values)
        with contextlib.suppress(AuditError):
            check_ed25519(*values)
            accepted.append(case["number"])
        assert ours == (case["number"] in accepted)
    assert len(accepted) == 208


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_verifier_checks_signatures_as_cryptography_makes_them(verifier, seed: bytes, message: bytes, bit: int) -> None:
    signer = Ed25519Signer("example.com/x", seed)
    public, signature = signer.verifier_key.public_key, signer.sign(message)
    assert verifier.is_signed(public, signature, message)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verifier.is_signed(public, bytes(flipped), message)
    assert not verifier.is_signed(public, signature, message + b"x")


def test_verifier_refuses_a_second_signature_made_from_a_good_one(verifier: ModuleType) -> None:
    """S and S + L satisfy the same equation; only the smaller one counts (RFC 8032 section 5.1.7)."""
    public, signature = SIGNER.verifier_key.public_key, SIGNER.sign(b"x")
    larger = int.from_bytes(signature[32:], "little") + verifier.L
    second = signature[:32] + larger.to_bytes(32, "little")
    assert not verifier.is_signed(public, second, b"x")
    with pytest.raises(SignatureError):
        check_ed25519(public, second, b"x")


def test_verifier_refuses_signatures_and_keys_of_another_length(verifier: ModuleType) -> None:
    public, signature = SIGNER.verifier_key.public_key, SIGNER.sign(b"x")
    assert verifier.is_signed(public, signature, b"x")
    for key, signed in [
        (public[:31], signature),
        (public + b"\0", signature),
        (public, signature[:63]),
        (public, signature + b"\0"),
    ]:
        assert not verifier.is_signed(key, signed, b"x")


# Notes, keys and policies: one verdict with the log's own readers


@pytest.mark.parametrize(
    "case", [case for case in NOTES if "note" in case and "vkeys" in case], ids=lambda case: case["name"]
)
def test_verifier_reads_foreign_notes_as_the_log_does(verifier: ModuleType, case: dict) -> None:
    data = case["note"].encode()
    try:
        keys = [verifier.parse_key(vkey, "key") for vkey in case["vkeys"]]
        ours = sorted(name for name, _ in verifier.open_checkpoint(data, keys, [], "note").signed.values())
    except verifier.Invalid:
        ours = None
    with contextlib.suppress(AuditError):
        opened = open_note(data, [parse_vkey(vkey) for vkey in case["vkeys"]])
        if ours is not None:
            assert ours == sorted({key.name for key in opened.signed_by})
        return
    assert ours is None


@given(st.binary(max_size=300))
def test_verifier_note_reader_accepts_what_the_logs_accepts(verifier: ModuleType, data: bytes) -> None:
    _same_verdict(verifier, data)


def test_verifier_note_reader_agrees_on_flipped_notes(verifier: ModuleType, tree: MemoryTree) -> None:
    note = tree.newest_checkpoint().note
    chance = random.Random(5)
    for _ in range(400):
        data = bytearray(note)
        for _ in range(chance.randrange(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(b"\n\r\t +A=\xe2\x80\x94\x00\xff")
        _same_verdict(verifier, bytes(data))


def _same_verdict(verifier: ModuleType, data: bytes) -> None:
    try:
        ours = verifier.parse_note(data, "note")
    except verifier.Invalid:
        ours = None
    try:
        note = parse_note(data)
        theirs = (note.text, [(line.name, line.key_id, line.value) for line in note.signatures])
    except AuditError:
        theirs = None
    assert ours == theirs


@given(
    st.text(max_size=100)
    | st.sampled_from([KEY, KEY[:-1], KEY + "=", KEY.replace("+", " "), "a+b", "+", "a+00000000+"])
)
def test_verifier_key_reader_accepts_what_the_logs_accepts(verifier: ModuleType, text: str) -> None:
    try:
        ours = verifier.parse_key(text, "key").public
    except verifier.Invalid:
        ours = None
    try:
        theirs = parse_vkey(text).public_key
    except AuditError:
        theirs = None
    assert ours == theirs


W = [format_vkey(one.verifier_key) for one in WITNESSES]


@pytest.mark.parametrize(
    ("policy", "signers", "met"),
    [
        ("quorum none\n", [], True),
        (f"log {KEY} https://log.example\nquorum none\n", [], True),
        (f"witness a {W[0]}\nquorum a\n", [], False),
        (f"witness a {W[0]}\nquorum a\n", [0], True),
        (f"witness a {W[0]} https://w.example/\nquorum a\n", [1], False),
        (f"witness a {W[0]}\nwitness b {W[1]}\ngroup g any a b\nquorum g\n", [1], True),
        (f"witness a {W[0]}\nwitness b {W[1]}\ngroup g all a b\nquorum g\n", [1], False),
        (f"witness a {W[0]}\nwitness b {W[1]}\ngroup g all a b\nquorum g\n", [0, 1], True),
        (f"witness a {W[0]}\nwitness b {W[1]}\nwitness c {W[2]}\ngroup g 2 a b c\nquorum g\n", [0, 2], True),
        (
            f"witness a {W[0]}\nwitness b {W[1]}\nwitness c {W[2]}\ngroup g 2 a b\ngroup h any g c\nquorum h\n",
            [0],
            False,
        ),
        (
            f"witness a {W[0]}\nwitness b {W[1]}\nwitness c {W[2]}\ngroup g 2 a b\ngroup h any g c\nquorum h\n",
            [2],
            True,
        ),
        (f"# comment\n\n \t witness \t a {W[0]} \n\tquorum a\t\n", [0], True),
    ],
)
def test_verifier_policy_asks_for_its_quorum(verifier: ModuleType, policy: str, signers: list[int], met: bool) -> None:
    signed = {WITNESSES[number].verifier_key.public_key: ("", 0) for number in signers}
    assert verifier.parse_policy(policy.encode(), "policy").is_met(signed) is met


@pytest.mark.parametrize(
    "policy",
    [
        "", "quorum none", "\n", "quorum a\n", "quorum none\nquorum none\n", "quorum none more\n", "strange\nquorum none\n",
        f"log {W[0]}\nquorum none\n", f"witness a {KEY}\nquorum none\n", f"witness none {W[0]}\nquorum none\n",
        f"witness a {W[0]}\nwitness a {W[1]}\nquorum a\n", f"witness a {W[0]}\nwitness b {W[0]}\nquorum a\n",
        f"log {KEY}\nlog {KEY}\nquorum none\n", f"quorum a\nwitness a {W[0]}\n",
        f"witness a {W[0]}\ngroup g 2 a\nquorum g\n", f"witness a {W[0]}\ngroup g 0 a\nquorum g\n",
        f"witness a {W[0]}\ngroup g all\nquorum g\n", f"witness a {W[0]}\ngroup g any a a\nquorum g\n",
        f"witness a {W[0]}\ngroup g any none\nquorum g\n", f"witness a {W[0]}\ngroup g any g\nquorum g\n",
        f"witness a {W[0]}\ngroup a any a\nquorum a\n", f"group g any a\nwitness a {W[0]}\nquorum g\n",
        f"witness a {W[0]}\ngroup g any a\ngroup h any a\nquorum h\n", f"witness a {W[0]}\ngroup none any a\nquorum none\n",
        f"witness a {W[0]}\ngroup g 01 a\nquorum g\n", f"witness a {W[0][:-1]}\nquorum a\n", "quorum none\r\n",
    ],
)  # fmt: skip
def test_verifier_policy_out_of_form_is_refused(verifier: ModuleType, policy: str) -> None:
    with pytest.raises(verifier.Invalid):
        verifier.parse_policy(policy.encode(), "policy")


# The file itself


def test_verifier_is_python_3_8_and_imports_the_standard_library_alone() -> None:
    tree = ast.parse(VERIFIER.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {
        "__future__", "argparse", "base64", "binascii", "collections.abc", "hashlib", "json", "os", "re", "sys", "time",
        "typing",
    }  # fmt: skip
    newer = {
        "removeprefix",
        "removesuffix",
        "file_digest",
        "bit_count",
        "is_relative_to",
        "pairwise",
        "batched",
        "cache",
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not newer & used
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "strict"]


# A whole bundle, as an auditor runs it


def test_verifier_prints_size_root_and_head_of_a_bundle_that_holds(good: Path, tree: MemoryTree) -> None:
    ran = run_verifier("--key", KEY, script=good / "verify.py")
    assert (ran.status, ran.err) == (0, "")
    assert "valid: 600 entries from 0 on, the hashes of 600, 1 heads\n" in ran.out
    assert f"size 600\nroot {tree.newest_checkpoint().note.decode().splitlines()[2]}\nhead:\n" in ran.out
    assert tree.newest_checkpoint().note.decode() in ran.out
    assert "witness witness.example/w0: size 520 at 2026-03-01T08:00:00Z\n" in ran.out
    assert "quorum two: met at size 520 of 600\n" in ran.out
    assert not (good / "__pycache__").exists()


def test_verifier_says_where_the_key_is_from(good: Path) -> None:
    assert "log.vkey here: compare it with one from elsewhere" in run_verifier(script=good / "verify.py").out
    assert "from --key" in run_verifier("--key", KEY, script=good / "verify.py").out


def test_verifier_refuses_another_key(good: Path, tmp_path: Path) -> None:
    stranger = format_vkey(Ed25519Signer(ORIGIN, bytes(32)).verifier_key)
    (tmp_path / "their.vkey").write_text(stranger + "\n")
    for key in (stranger, tmp_path / "their.vkey"):
        ran = run_verifier("--key", key, script=good / "verify.py")
        assert (ran.status, ran.err) == (1, "invalid: checkpoint: no signature of a trusted key\n")


def test_verifier_ends_with_2_when_it_is_asked_wrongly(good: Path, tmp_path: Path) -> None:
    assert run_verifier("--strange", script=good / "verify.py").status == 2
    assert run_verifier("--head", tmp_path / "absent", script=good / "verify.py").status == 2


def _removed(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _copied(path: Path) -> None:
    path.with_name("added").write_bytes(path.read_bytes())


DAMAGES = (_removed, _emptied, _halved, _lengthened, _copied)


def test_verifier_finds_every_damage_to_every_file(folder: Path, check: Callable[..., Ran]) -> None:
    """Each file has each damage; one of them is shown to the verifier run by itself, the others in this process."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(paths) == 15
    for number, path in enumerate(paths):
        kept = path.read_bytes()
        for damage in DAMAGES:
            damage(path)
            ran = check(folder, "--key", KEY)
            assert (ran.status, ran.err.startswith("invalid: ")) == (1, True), (path, damage)
            if damage is DAMAGES[number % len(DAMAGES)]:
                assert run_verifier(folder, "--key", KEY, script=VERIFIER) == ran
            path.with_name("added").unlink(missing_ok=True)
            path.write_bytes(kept)
    assert run_verifier(folder, "--key", KEY, script=VERIFIER).status == 0


def test_verifier_finds_a_flipped_byte_anywhere(folder: Path, check: Callable[..., Ran]) -> None:
    chance = random.Random(8)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        kept = path.read_bytes()
        for offset in {0, len(kept) - 1, *(chance.randrange(len(kept)) for _ in range(4))}:
            path.write_bytes(kept[:offset] + bytes([kept[offset] ^ 1 << chance.randrange(8)]) + kept[offset + 1 :])
            ran = check(folder, "--key", KEY)
            assert (ran.status, ran.err.startswith("invalid: ")) == (1, True), (path.name, offset)
        path.write_bytes(kept)


def test_verifier_finds_every_flipped_byte_of_a_checkpoint(folder: Path, check: Callable[..., Ran]) -> None:
    kept = (folder / "checkpoint").read_bytes()
    for offset in range(len(kept)):
        (folder / "checkpoint").write_bytes(kept[:offset] + bytes([kept[offset] ^ 1]) + kept[offset + 1 :])
        assert check(folder, "--key", KEY).status == 1


def test_verifier_names_the_first_bad_index(folder: Path, check: Callable[..., Ran]) -> None:
    path = folder / "tile/entries/001"
    data = bytearray(path.read_bytes())
    for number in (300, 411):
        data[data.index(switch_entry(number)) + 40] ^= 1
    path.write_bytes(data)
    assert "first bad index 300, entry: the bytes don't hash" in check(folder, "--key", KEY).err
    hashes = bytearray((folder / "tile/0/001").read_bytes())
    hashes[32 * 30] ^= 1
    (folder / "tile/0/001").write_bytes(hashes)
    assert "first bad index 286, entry" in check(folder, "--key", KEY).err
    (folder / "tile/0/001").write_bytes(hashes[: 32 * 20 + 3])
    assert "first bad index 276, tile/0/001: expected 256 hashes" in check(folder, "--key", KEY).err


def test_verifier_finds_swapped_tiles(folder: Path, check: Callable[..., Ran]) -> None:
    for kind in ("0", "entries"):
        (folder / f"tile/{kind}/000").rename(folder / "kept")
        (folder / f"tile/{kind}/001").rename(folder / f"tile/{kind}/000")
        (folder / "kept").rename(folder / f"tile/{kind}/001")
        assert check(folder, "--key", KEY).status == 1
    # Entries and hashes swapped together no longer hash to the tile above.
    assert "first bad index 0, tile/1/000.p/2: not the hashes of the tiles below" in check(folder, "--key", KEY).err


def _rewritten(tmp_path: Path) -> Path:
    """History from entry 7 on as whoever holds the log's key, and no witness's, would have it."""
    tree = MemoryTree()
    tree.grow(switch_entry(number if number != 7 else 10_000) for number in range(600))
    bundle(tmp_path / "rewritten", tree, policy=None)
    return tmp_path / "rewritten"


def test_verifier_tells_rewritten_history_from_an_older_head(tree: MemoryTree, tmp_path: Path) -> None:
    rewritten = _rewritten(tmp_path)
    head = tmp_path / "head"
    for size, status in ((0, 0), (100, 3), (520, 3)):
        note = tree.checkpoint(TreeSize(size))
        assert note is not None
        head.write_bytes(note)
        ran = run_verifier("--key", KEY, "--head", head, script=rewritten / "verify.py")
        assert ran.status == status
        if status:
            assert f"the log forked\nknown head:\n{note.decode()}" in ran.err
    assert run_verifier("--key", KEY, script=rewritten / "verify.py").status == 0


def test_verifier_tells_rewritten_history_by_the_witnesses_it_asks_for(tmp_path: Path) -> None:
    rewritten = _rewritten(tmp_path)
    (tmp_path / "mine").write_bytes(POLICY)
    ran = run_verifier("--policy", tmp_path / "mine", script=rewritten / "verify.py")
    assert ran == Ran(1, ran.out, "invalid: policy: no checkpoint has the cosignatures that the quorum two asks for\n")


def test_verifier_tells_a_rollback_from_a_newer_head(tree: MemoryTree, tmp_path: Path) -> None:
    bundle(tmp_path / "short", cosigned_tree(100, 300))
    (tmp_path / "head").write_bytes(tree.newest_checkpoint().note)
    ran = run_verifier("--key", KEY, "--head", tmp_path / "head", script=tmp_path / "short" / "verify.py")
    assert (ran.status, "the log was rolled back" in ran.err) == (3, True)


def test_verifier_refuses_a_head_of_another_key_or_log(folder: Path, check: Callable[..., Ran], tmp_path: Path) -> None:
    stranger = Ed25519Signer(ORIGIN, bytes(32))
    for signer, origin in ((stranger, ORIGIN), (SIGNER, "other.example/log")):
        note = sign_checkpoint(Checkpoint(origin, TreeSize(2), Sha256(bytes(32))), [signer])
        (tmp_path / "head").write_bytes(note)
        assert check(folder, "--key", KEY, "--head", tmp_path / "head").status == 1


def test_verifier_tells_entries_and_hashes_changed_together_by_the_last_good_head(
    good: Path, tree: MemoryTree, check: Callable[..., Ran], tmp_path: Path
) -> None:
    forged = MemoryTree()
    forged.grow(switch_entry(number if number != 300 else 10_000) for number in range(600))
    bundle(tmp_path / "forged", forged)
    (tmp_path / "head").write_bytes(tree.checkpoint(TreeSize(100)) or b"")
    (tmp_path / "forged" / "checkpoint").write_bytes((good / "checkpoint").read_bytes())
    assert "first bad index 0, entry: entries 0 to 599 don't lead" in check(tmp_path / "forged", "--key", KEY).err
    ran = check(tmp_path / "forged", "--key", KEY, "--head", tmp_path / "head")
    assert "first bad index 100, entry: entries 100 to 599 don't lead" in ran.err


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513])
def test_verifier_takes_bundles_of_any_size(check: Callable[..., Ran], tmp_path: Path, size: int) -> None:
    tree = MemoryTree()
    tree.grow(switch_entry(number) for number in range(size))
    bundle(tmp_path / "b", tree, policy=None)
    assert f"valid: {size} entries from 0 on, the hashes of {size}, 0 heads" in check(tmp_path / "b", "--key", KEY).out


@pytest.mark.parametrize("size", [65_535, 65_537])
def test_verifier_takes_three_levels_of_hashes(check: Callable[..., Ran], tmp_path: Path, size: int) -> None:
    tree = MemoryTree()
    tree.grow(b"%d" % number for number in range(size))
    bundle(tmp_path / "b", tree, policy=None, first=LeafIndex(65_000), last=LeafIndex(65_001))
    assert f"valid: 256 entries from 64768 on, the hashes of {size}," in check(tmp_path / "b", "--key", KEY).out
    path = tmp_path / "b" / "tile/1/000.p/255"
    if size == 65_535:
        data = bytearray(path.read_bytes())
        data[32 * 9] ^= 1
        path.write_bytes(data)
        assert "first bad index 2304, tile/1/000.p/255" in check(tmp_path / "b", "--key", KEY).err


def test_verifier_takes_the_largest_entries(check: Callable[..., Ran], tmp_path: Path) -> None:
    tree = MemoryTree()
    tree.grow([bytes(65_535), b"", bytes(65_534)] * 90)
    bundle(tmp_path / "b", tree, policy=None)
    assert check(tmp_path / "b", "--key", KEY).status == 0


def test_verifier_checks_a_part_of_the_log(tree: MemoryTree, check: Callable[..., Ran], tmp_path: Path) -> None:
    bundle(tmp_path / "b", tree, first=LeafIndex(300), last=LeafIndex(310))
    assert not (tmp_path / "b/tile/entries/000").exists()
    assert "valid: 256 entries from 256 on, the hashes of 600" in check(tmp_path / "b", "--key", KEY).out
    range_file = tmp_path / "b" / "range"
    kept = range_file.read_bytes()
    for wrong in (b"", b"300\n", b"300\n600\n", b"310\n300\n", b"0\n310\n", b"300\n310\n\n", b"300\n310", b"x\ny\n"):
        range_file.write_bytes(wrong)
        assert check(tmp_path / "b", "--key", KEY).status == 1
    range_file.write_bytes(kept)
    shutil.copy(tmp_path / "b/tile/entries/001", tmp_path / "b/tile/entries/000")
    assert "outside of the entries" in check(tmp_path / "b", "--key", KEY).err


def test_verifier_takes_a_published_folder(tree: MemoryTree, check: Callable[..., Ran], tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "p", [SIGNER.verifier_key])
    grown = MemoryTree()
    for size in (200, 300, 310, 600):
        grown.grow(switch_entry(number) for number in range(grown.size, size))
        publisher.publish(grown)
    assert check(tmp_path / "p", "--key", KEY).status == 0
    (tmp_path / "p" / "more").write_text("x")
    assert "more: not a file of this log" in check(tmp_path / "p", "--key", KEY).err


def test_verifier_follows_no_link(folder: Path, check: Callable[..., Ran], tmp_path: Path) -> None:
    for name in ("tile/0/000", "tile/1", "README.txt"):
        shutil.move(folder / name, tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        assert check(folder, "--key", KEY).err == f"invalid: {name}: expected a plain file\n"
        (folder / name).unlink()
        shutil.move(tmp_path / "elsewhere", folder / name)


@pytest.mark.parametrize("name", ["tile/0/002.p/3", "tile/0/001", "checkpoint", "log.vkey", "heads/1", "README.txt"])
def test_verifier_does_not_wait_for_a_pipe(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    ran = run_verifier(folder, "--key", KEY, script=VERIFIER)
    assert (ran.status, f"{name}: expected a plain file" in ran.err) == (1, True)


def test_verifier_compares_partial_tiles_of_older_sizes(check: Callable[..., Ran], tmp_path: Path) -> None:
    publisher, tree = Publisher(tmp_path, [SIGNER.verifier_key]), MemoryTree()
    for size in (256, 300, 310):
        tree.grow(switch_entry(number) for number in range(tree.size, size))
        publisher.publish(tree)
    assert check(tmp_path, "--key", KEY).status == 0
    for name in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        kept = (tmp_path / name).read_bytes()
        for wrong in (kept[:-1], kept + b"x", b"?" + kept[1:]):
            (tmp_path / name).write_bytes(wrong)
            assert f"{name}: not the beginning" in check(tmp_path, "--key", KEY).err
        (tmp_path / name).write_bytes(kept)


def test_verifier_accepts_the_foreign_log(check: Callable[..., Ran], tmp_path: Path) -> None:
    shutil.copytree(VECTORS / "tessera_log" / "tile", tmp_path / "tile")
    shutil.copy(VECTORS / "tessera_log" / "checkpoint", tmp_path / "checkpoint")
    key = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
    assert "valid: 15 entries" in check(tmp_path, "--key", key).out


# Witnesses, time stamps, rotated keys


def test_verifier_finds_a_wrong_cosignature_though_the_list_of_digests_was_made_to_fit(
    folder: Path, check: Callable[..., Ran]
) -> None:
    head = folder / "heads" / "520"
    lines = head.read_text().splitlines(keepends=True)
    lines[5] = lines[5][:40] + ("A" if lines[5][40] != "A" else "B") + lines[5][41:]
    head.write_text("".join(lines))
    assert "heads/520: " in check(folder, "--key", KEY).err
    _fit_digest(folder, "heads/520")
    assert "the signature of witness.example/w0 doesn't verify" in check(folder, "--key", KEY).err


def _fit_digest(folder: Path, name: str) -> None:
    """Has the list of digests name the file as it is now."""
    sums = (folder / "SHA256SUMS").read_text()
    old = next(line for line in sums.splitlines() if line.endswith(f"  {name}"))
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(sums.replace(old, f"{digest}  {name}"))


def test_verifier_counts_a_witness_once(check: Callable[..., Ran], tmp_path: Path) -> None:
    tree = MemoryTree()
    tree.grow(switch_entry(number) for number in range(5))
    cosign(tree, WITNESSES[0], time_s=1)
    cosign(tree, WITNESSES[0], time_s=2)
    bundle(tmp_path / "one", tree)
    assert check(tmp_path / "one", "--key", KEY).status == 1
    cosign(tree, WITNESSES[2])
    bundle(tmp_path / "two", tree)
    assert "quorum two: met at size 5 of 5" in check(tmp_path / "two", "--key", KEY).out


def test_verifier_sees_whether_a_time_stamp_is_over_its_checkpoint_and_openssl_agrees(
    check: Callable[..., Ran], tmp_path: Path
) -> None:
    authority, tree = TimeAuthority(tmp_path / "tsa"), MemoryTree()
    note = tree.grow(switch_entry(number) for number in range(5))
    (tmp_path / "note").write_bytes(note)
    query = [
        need("openssl"),
        "ts",
        "-query",
        "-data",
        str(tmp_path / "note"),
        "-sha256",
        "-cert",
        "-out",
        str(tmp_path / "q"),
    ]
    subprocess.run(query, check=True, capture_output=True, timeout=60)
    response = authority.reply((tmp_path / "q").read_bytes())
    tree.kept.append(Anchor(tree.size, "rfc3161", "tsa.example", response, ""))
    assert bundle(tmp_path / "b", tree, policy=None).time_stamps == 1
    assert "time stamp timestamps/5.1.tsr: over its checkpoint" in check(tmp_path / "b", "--key", KEY).out
    stamp, over = (tmp_path / "b/timestamps" / name for name in ("5.1.tsr", "5.checkpoint"))
    assert authority.verifies(stamp.read_bytes(), over.read_bytes())
    over.write_bytes(tree.checkpoint(TreeSize(0)) or b"")
    _fit_digest(tmp_path / "b", "timestamps/5.checkpoint")
    assert "not over the checkpoint beside it" in check(tmp_path / "b", "--key", KEY).err


def test_verifier_follows_rotated_keys(check: Callable[..., Ran], tmp_path: Path) -> None:
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    keys = [SIGNER.verifier_key, fresh.verifier_key]
    (tmp_path / "keys").write_text("".join(f"{format_vkey(key)}\n" for key in keys))
    tree = MemoryTree(SIGNER, fresh)
    tree.grow(switch_entry(number) for number in range(5))
    bundle(tmp_path / "b", tree, keys, policy=None)
    for key in (tmp_path / "keys", *map(format_vkey, keys)):
        assert check(tmp_path / "b", "--key", key).status == 0
    assert check(tmp_path / "b").out.count("key ") >= 2


@pytest.mark.parametrize(
    ("size", "signers", "good"),
    [
        (1, "a", True),
        (2, "ab", True),
        (3, "a", True),
        (3, "b", True),
        (4, "a", False),
        (5, "a", False),
        (5, "ab", True),
    ],
)
def test_verifier_holds_keys_to_the_sizes_at_which_the_log_has_them_in_force(
    check: Callable[..., Ran], tmp_path: Path, size: int, signers: str, good: bool
) -> None:
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    entries = [switch_entry(0), rotation_entry(1, "introduce", fresh.verifier_key), switch_entry(2)]
    entries += [rotation_entry(3, "retire", SIGNER.verifier_key), switch_entry(4)]
    tree = MemoryTree(*({"a": SIGNER, "b": fresh}[name] for name in signers))
    tree.grow(entries[:size])
    bundle(tmp_path / "b", tree, [SIGNER.verifier_key, fresh.verifier_key], policy=None)
    ran = check(tmp_path / "b")
    assert (ran.status, "in force" in ran.err) == (0 if good else 1, not good)


def test_verifier_refuses_a_key_rotation_it_cannot_read(check: Callable[..., Ran], tmp_path: Path) -> None:
    for number, entry in enumerate([b'{"_t":"keyrotate/v1",', b'{"_t":"keyrotate/v1","purpose":"signing","vkey":"x"}']):
        tree = MemoryTree()
        tree.grow([entry])
        bundle(tmp_path / str(number), tree, policy=None)
        assert check(tmp_path / str(number)).status == 1


# Receipts


@pytest.fixture(scope="module")
def receipts(tree: MemoryTree) -> list[bytes]:
    """Receipts of some entries: that carry the entry, the leaf hash, nothing."""
    made = []
    for index in (0, 255, 256, 599):
        entry = tree.entries(LeafIndex(index), 1)[0]
        path = prove_inclusion(LeafIndex(index), tree.size, tree.node)
        made += [format_proof(LogProof(LeafIndex(index), path, tree.newest_checkpoint().note, extra)) for extra in
                 (entry, leaf_hash(entry), None)]  # fmt: skip
    return made


def test_verifier_checks_receipts_alone(receipts: list[bytes], check, tmp_path: Path, tree: MemoryTree) -> None:
    path, entry = tmp_path / "r.tlog-proof", tmp_path / "entry"
    shutil.copy(VERIFIER, tmp_path / "verify.py")
    for number, data in enumerate(receipts):
        index = (0, 255, 256, 599)[number // 3]
        path.write_bytes(data)
        entry.write_bytes(tree.entries(LeafIndex(index), 1)[0])
        ran = check("--key", KEY, "--receipt", path)
        assert ran.status == (1 if number % 3 == 2 else 0)
        if number < 3:
            assert run_verifier("--key", KEY, "--receipt", path, script=tmp_path / "verify.py") == ran
        ran = check("--key", KEY, "--receipt", path, "--entry", entry)
        assert f"proves entry {index} of 600 in {ORIGIN}" in ran.out


def test_verifier_refuses_a_receipt_whose_extra_data_is_of_another_entry(
    receipts: list[bytes], tree: MemoryTree, check: Callable[..., Ran], tmp_path: Path
) -> None:
    proof = parse_proof(receipts[0])
    (tmp_path / "entry").write_bytes(tree.entries(LeafIndex(0), 1)[0])
    (tmp_path / "r").write_bytes(format_proof(replace(proof, extra=switch_entry(5))))
    ran = check("--key", KEY, "--receipt", tmp_path / "r", "--entry", tmp_path / "entry")
    assert (ran.status, "it is about another entry" in ran.err) == (1, True)


def test_verifier_checks_receipts_beside_the_log(good: Path, receipts: list[bytes], check, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(receipts[0])
    ran = check(good, "--key", KEY, "--receipt", tmp_path / "r")
    assert (ran.status, "proves entry 0" in ran.out, "valid: 600 entries" in ran.out) == (0, True, True)


def test_verifier_accepts_no_damaged_receipt(receipts: list[bytes], check: Callable[..., Ran], tmp_path: Path) -> None:
    chance, path = random.Random(3), tmp_path / "r"
    for _ in range(150):
        data = bytearray(chance.choice(receipts[:2] + receipts[3:5]))
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        assert check("--key", KEY, "--receipt", path).status == 1


@pytest.mark.parametrize("name", ["merkle_inclusion.jsonl"])
def test_verifier_agrees_with_the_foreign_inclusion_proofs(verifier: ModuleType, name: str) -> None:
    verdicts = []
    for line in (VECTORS / name).read_text().splitlines():
        case = json.loads(line)
        proof = [base64.b64decode(value) for value in case["proof"] or []]
        leaf, root = (base64.b64decode(case[key] or "") for key in ("leafHash", "root"))
        try:
            held = verifier.inclusion_root(leaf, case["leafIdx"], case["treeSize"], proof, "proof") == root
        except verifier.Invalid:
            held = False
        assert held == (not case["wantErr"]), case["_src"]
        verdicts.append(held)
    assert verdicts.count(True) == 6


def _receipt(tree: MemoryTree, index: int) -> bytes:
    path = prove_inclusion(LeafIndex(index), tree.size, tree.node)
    entry = tree.entries(LeafIndex(index), 1)[0]
    return format_proof(LogProof(LeafIndex(index), path, tree.newest_checkpoint().note, entry))


@pytest.mark.parametrize("size", [300, 600, 700])
def test_verifier_tells_that_a_receipt_is_of_another_history_than_the_bundle(
    check: Callable[..., Ran], tmp_path: Path, size: int
) -> None:
    tree = MemoryTree()
    tree.grow(switch_entry(number) for number in range(size))
    (tmp_path / "r").write_bytes(_receipt(tree, 250))
    ran = check(_rewritten(tmp_path), "--key", KEY, "--receipt", tmp_path / "r")
    assert (ran.status, "valid" in ran.out) == (3, False)
    assert ran.err.startswith("the log was rolled back" if size > 600 else "the log forked")
    assert check("--key", KEY, "--receipt", tmp_path / "r").status == 0


def _rotated(tmp_path: Path) -> tuple[Path, list[VerifierKey], MemoryTree]:
    """A bundle of a log that retired its first key at index 3; and another history of it, signed with that key since."""
    fresh, forged = Ed25519Signer(ORIGIN, bytes([9] * 32)), MemoryTree(SIGNER)
    keys = [SIGNER.verifier_key, fresh.verifier_key]
    entries = [switch_entry(0), rotation_entry(1, "introduce", keys[1]), switch_entry(2)]
    entries += [rotation_entry(3, "retire", keys[0]), switch_entry(4), switch_entry(5)]
    tree = MemoryTree(fresh)
    tree.grow(entries)
    forged.grow(entries[:5])
    bundle(tmp_path / "b", tree, keys, policy=None)
    return tmp_path / "b", keys, forged


def test_verifier_refuses_a_receipt_signed_with_a_retired_key_where_the_bundle_holds_the_retirement(
    check: Callable[..., Ran], tmp_path: Path
) -> None:
    folder, _, forged = _rotated(tmp_path)
    (tmp_path / "r").write_bytes(_receipt(forged, 4))
    ran = check(folder, "--receipt", tmp_path / "r")
    assert (ran.status, ran.err) == (
        1,
        f"invalid: {tmp_path / 'r'}: signed only by keys that the log says aren't in force at size 5\n",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_verifier_refuses_a_retired_or_later_key_whatever_the_order_of_the_keys_given(
    check: Callable[..., Ran], tmp_path: Path, order: int
) -> None:
    folder, keys, forged = _rotated(tmp_path)
    early = MemoryTree(Ed25519Signer(ORIGIN, bytes([9] * 32)))
    (tmp_path / "keys").write_text("".join(f"{format_vkey(key)}\n" for key in keys[::order]))
    for head, status in ((None, 0), (forged, 1), (early, 1)):
        (tmp_path / "head").write_bytes((head or cosigned_tree(0)).newest_checkpoint().note)
        assert check(folder, "--key", tmp_path / "keys", "--head", tmp_path / "head").status == status


FUTURE = VerifierKey(ORIGIN, 6, bytes(48))  # of a kind that is to come


def test_verifier_passes_over_a_key_of_a_kind_to_come(check: Callable[..., Ran], tmp_path: Path) -> None:
    tree = MemoryTree()
    tree.grow([switch_entry(0), rotation_entry(1, "introduce", FUTURE), rotation_entry(2, "retire", FUTURE)])
    bundle(tmp_path / "b", tree, [SIGNER.verifier_key, FUTURE], policy=None)
    assert format_vkey(FUTURE) in (tmp_path / "b" / "log.vkey").read_text()
    for key in ([], ["--key", KEY], ["--key", tmp_path / "b" / "log.vkey"]):
        assert check(tmp_path / "b", *key).status == 0
    assert check(tmp_path / "b", "--key", format_vkey(FUTURE)).status == 1


def test_verifier_takes_the_keys_with_their_sizes_as_the_log_lists_them(
    check: Callable[..., Ran], tmp_path: Path
) -> None:
    """A receipt alone: without a list nothing says that the key was retired."""
    folder, keys, forged = _rotated(tmp_path)
    later = LeafIndex(3)
    periods = (KeyPeriod(keys[0], 0, later), KeyPeriod(keys[1], 2, None))
    listed, receipt = tmp_path / "keys+list", tmp_path / "r"
    listed.write_text(f"{format_periods(periods)}# wrapping key wrap:00000000\n")
    assert parse_periods(listed.read_text()) == periods
    assert check(folder, "--key", listed).status == 0
    receipt.write_bytes(_receipt(forged, 4))
    assert check("--receipt", receipt, "--key", KEY).status == 0
    ran = check("--receipt", receipt, "--key", listed)
    assert (ran.status, "aren't in force at size 5" in ran.err) == (1, True)
    for size, status in ((1, 0), (3, 0)):
        early = MemoryTree()
        early.grow(switch_entry(number) for number in range(size))
        receipt.write_bytes(_receipt(early, 0))
        assert check("--receipt", receipt, "--key", listed).status == status


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", f"{KEY} 0\n", f"{KEY} 0 x\n", f"{KEY} - 3\n", f"{KEY} 0 - 1\n", f"{KEY}\n" * 2]
)
def test_verifier_refuses_a_list_of_keys_out_of_form(
    folder: Path, check: Callable[..., Ran], tmp_path: Path, text: str
) -> None:
    (tmp_path / "list").write_text(text)
    assert check(folder, "--key", tmp_path / "list").status == 1
