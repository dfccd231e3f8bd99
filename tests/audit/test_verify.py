import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.errors import AuditError, ForkError, ProofError, RollbackError, SignatureError, VerificationError
from audit.keys import Ed25519Signer, parse_skey
from audit.log import AuditLog
from audit.merkle import LeafIndex, Sha256, TreeSize, leaf_hash
from audit.proof import format_proof
from audit.storage import StoredCheckpoint, StoredEntry
from audit.storage.sqlite_scan import SqliteScan
from audit.verify import LogReport, Trust, verify_log, verify_receipt

STORE = "log.sqlite3"
# Each run flips one byte in so many, from a random start; 1 flips them all, in minutes.
STRIDE = int(os.environ.get("AUDIT_FLIP_STRIDE", "13"))


def _verify(directory: Path, trust: Trust) -> LogReport:
    scan = SqliteScan(directory)
    try:
        return verify_log(scan, trust)
    finally:
        scan.close()


def _content(directory: Path) -> list[StoredEntry | StoredCheckpoint]:
    scan = SqliteScan(directory)
    try:
        return [*scan.entries(), *scan.checkpoints()]
    finally:
        scan.close()


@pytest.fixture
def filled(make_log, open_log, make_entry) -> Callable[..., tuple[Path, Trust, list[bytes]]]:
    """Makes a closed log: filled(entries, page_size) gives its directory, what to trust, and the entries."""

    def fill(count: int, page_size: int = 4096) -> tuple[Path, Trust, list[bytes]]:
        config, keys = make_log(page_size)
        log: AuditLog = open_log(config)
        items = [make_entry(log, b"payload" * 20 if number % 2 else None) for number in range(count)]
        for item in items[:-2]:
            log.append(*item)
        log.append_all(items[-2:])
        log.close()
        head = (config.directory / "head").read_bytes()
        return config.directory, Trust((keys.signer.verifier_key,), config.origin, (head,)), [item[0] for item in items]

    return fill


def _change(directory: Path, statement: str, *bindings: object) -> None:
    connection = sqlite3.connect(directory / STORE)
    with connection:
        assert connection.execute(statement, bindings).rowcount >= 1
    connection.close()


def test_verify_reports_a_log_that_holds(filled) -> None:
    directory, trust, entries = filled(9)
    report = _verify(directory, trust)
    assert (report.entries, report.checkpoints, report.payloads, report.heads) == (len(entries), 9, 4, 1)
    assert report.checkpoint.size == 9


def test_verify_holds_for_the_empty_log(make_log) -> None:
    config, keys = make_log()
    assert _verify(config.directory, Trust((keys.signer.verifier_key,))).entries == 0


@pytest.mark.parametrize(
    ("statement", "index", "part"),
    [
        ("UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), 'high', 'lows') AS BLOB) WHERE idx = 3", 3, "entry"),
        ("UPDATE facts SET time = '2026-03-01T08:00:01.000000Z' WHERE idx = 3", 3, "columns"),
        ("UPDATE facts SET service = 'other' WHERE idx = 0", 0, "columns"),
        ("UPDATE facts SET type = 'gap/v1' WHERE idx = 8", 8, "columns"),
        ("UPDATE facts SET entry_id = x'ff' WHERE idx = 2", 2, "columns"),
        ("DELETE FROM entries WHERE idx = 4", 4, "entry"),
        ("DELETE FROM entries WHERE idx = 8", 8, "entry"),
        ("UPDATE entries SET hashes = zeroblob(32) WHERE idx = 4", 4, "entry"),
        ("DELETE FROM facts WHERE idx = 4", 4, "columns"),
        ("UPDATE entries SET hashes = CAST(hashes || 'x' AS BLOB) WHERE idx = 5", 5, "nodes"),
        ("UPDATE entries SET hashes = substr(hashes, 1, 32) WHERE idx = 1", 1, "nodes"),
        ("UPDATE payloads SET sealed = zeroblob(length(sealed)) WHERE idx = 5", 5, "payload"),
        ("DELETE FROM payloads WHERE idx = 7", 7, "payload"),
        ("INSERT INTO payloads VALUES (4, 1, '', x'00')", 4, "payload"),
        ("INSERT INTO payloads VALUES (99, 1, '', x'00')", 99, "payloads and facts"),
        ("INSERT INTO facts VALUES (-1, x'00', '', '', '', '', '', '')", -1, "payloads and facts"),
        ("UPDATE payloads SET idx = 4 WHERE idx = 5", 4, "payload"),
        ("DELETE FROM checkpoints WHERE size = 9", 7, "entry"),
        ("DELETE FROM checkpoints", None, "checkpoints"),
        ("UPDATE checkpoints SET note = zeroblob(9) WHERE size = 5", 4, "checkpoint of size 5"),
        ("UPDATE checkpoints SET note = substr(note, 2) WHERE size = 2", 1, "checkpoint of size 2"),
        ("UPDATE checkpoints SET size = 8 WHERE size = 9", 7, "checkpoint of size 8"),
        ("PRAGMA user_version = 9", None, "store"),
    ],
)  # fmt: skip
def test_verify_names_what_was_changed_first(filled, statement, index, part) -> None:
    directory, trust, _ = filled(9)
    if statement.startswith("PRAGMA"):
        connection = sqlite3.connect(directory / STORE)
        connection.execute(statement)
        connection.close()
    else:
        _change(directory, statement)
    with pytest.raises(VerificationError) as caught:
        _verify(directory, trust)
    assert (caught.value.index, caught.value.part) == (index, part)


def test_verify_names_the_batch_when_entry_and_hashes_were_changed_together(filled) -> None:
    directory, trust, entries = filled(9)
    forged = entries[8].replace(b"high", b"lows")
    _change(directory, "UPDATE entries SET entry = ? WHERE idx = 8", forged)
    _change(directory, "UPDATE entries SET hashes = ? WHERE idx = 8", leaf_hash(forged))
    with pytest.raises(VerificationError, match="entries 7 to 8 don't lead to the root") as caught:
        _verify(directory, trust)
    assert caught.value.index == 7


def test_verify_refuses_an_altered_schema(filled) -> None:
    directory, trust, _ = filled(4)
    connection = sqlite3.connect(directory / STORE)
    connection.execute("CREATE TABLE more (x)")
    connection.close()
    with pytest.raises(VerificationError, match="schema"):
        _verify(directory, trust)


def test_verify_finds_every_flipped_byte_of_entries_and_payloads_by_index(filled) -> None:
    """With large pages an entry lies in one piece, so the index that a flip must name is known."""
    directory, trust, entries = filled(5, page_size=65536)
    connection = sqlite3.connect(directory / STORE)
    pieces = dict(enumerate(entries))
    sealed = dict(connection.execute("SELECT idx, sealed FROM payloads"))
    connection.close()
    path = directory / STORE
    original = path.read_bytes()
    for index, piece in [*pieces.items(), *sealed.items()]:
        start = original.index(piece)
        for offset in range(start + random.randrange(STRIDE), start + len(piece), STRIDE):
            _flip(path, original, offset, 1 << offset % 8)
            with pytest.raises(VerificationError) as caught:
                _verify(directory, trust)
            assert caught.value.index == index
            _flip(path, original, offset, 0)


def test_verify_finds_every_flipped_byte_of_a_closed_store(filled) -> None:
    directory, trust, _ = filled(3, page_size=512)
    path = directory / STORE
    original = path.read_bytes()
    for offset in range(random.randrange(STRIDE), len(original), STRIDE):
        _flip(path, original, offset, random.randrange(1, 256))
        with pytest.raises(AuditError):
            _verify(directory, trust)
        _flip(path, original, offset, 0)
    assert _verify(directory, trust).entries == 3


def test_verify_finds_a_flipped_byte_without_seal_or_the_content_is_the_same(filled) -> None:
    directory, trust, _ = filled(3, page_size=512)
    path = directory / STORE
    (directory / f"{STORE}.seal").unlink()
    original, content = path.read_bytes(), _content(directory)
    for offset in range(random.randrange(STRIDE), len(original), STRIDE):
        _flip(path, original, offset, random.randrange(1, 256))
        try:
            _verify(directory, trust)
        except AuditError:
            pass
        else:
            assert _content(directory) == content
        _flip(path, original, offset, 0)


@pytest.mark.parametrize("content", [b"", b"sha256 \n", b"\xff"])
def test_verify_finds_a_damaged_seal(filled, content) -> None:
    directory, trust, _ = filled(3)
    (directory / f"{STORE}.seal").write_bytes(content)
    with pytest.raises(VerificationError, match="outside of every entry"):
        _verify(directory, trust)


def _flip(path: Path, original: bytes, offset: int, mask: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([original[offset] ^ mask]))


def test_verify_finds_every_truncation(filled) -> None:
    directory, trust, _ = filled(3, page_size=512)
    path = directory / STORE
    original = path.read_bytes()
    for size in range(0, len(original), 97):
        path.write_bytes(original[:size])
        with pytest.raises(AuditError):
            _verify(directory, trust)


def test_verify_finds_a_damaged_write_ahead_log(make_log, open_log, make_entry, tmp_path) -> None:
    """SQLite drops the frames after a damaged one without a word: the log looks shorter, and the head file tells."""
    config, keys = make_log()
    log = open_log(config)
    for _ in range(3):
        log.append(*make_entry(log))
    trust = Trust((keys.signer.verifier_key,), config.origin, ((config.directory / "head").read_bytes(),))
    copy = tmp_path / "copy"
    copy.mkdir()
    for offset in range(0, (config.directory / f"{STORE}-wal").stat().st_size, 4001):
        for name in (STORE, f"{STORE}-wal"):
            (copy / name).write_bytes((config.directory / name).read_bytes())
        _flip(copy / f"{STORE}-wal", (copy / f"{STORE}-wal").read_bytes(), offset, 1)
        with pytest.raises(AuditError):
            _verify(copy, trust)
        for path in copy.iterdir():
            path.unlink()


def test_verify_tells_rollback_and_fork_from_heads_kept_elsewhere(filled, make_entry) -> None:
    directory, trust, _ = filled(5)
    report = _verify(directory, trust)
    signer = _signer(directory)
    longer = sign_checkpoint(Checkpoint(report.checkpoint.origin, TreeSize(6), Sha256(bytes(32))), [signer])
    other = sign_checkpoint(Checkpoint(report.checkpoint.origin, TreeSize(2), Sha256(bytes(32))), [signer])
    with pytest.raises(RollbackError):
        _verify(directory, Trust(trust.log_keys, trust.origin, (longer,)))
    with pytest.raises(ForkError):
        _verify(directory, Trust(trust.log_keys, trust.origin, (other,)))
    with pytest.raises(VerificationError, match="head"):
        _verify(directory, Trust(trust.log_keys, trust.origin, (b"garbage",)))


def _signer(directory: Path) -> Ed25519Signer:
    return Ed25519Signer(*parse_skey((directory / "keys" / "signing.key").read_text().strip()))


def test_verify_under_another_key_fails(filled) -> None:
    directory, trust, _ = filled(3)
    stranger = Ed25519Signer(trust.log_keys[0].name, bytes(32)).verifier_key
    with pytest.raises(VerificationError, match="no signature of a trusted key"):
        _verify(directory, Trust((stranger,)))


def test_verify_runs_beside_a_writer(log, make_entry) -> None:
    for _ in range(3):
        log.append(*make_entry(log))
        head = log.checkpoint()
        assert _verify(log.config.directory, Trust((log.keys.signer.verifier_key,), heads=(head,))).heads == 1


def test_verify_receipt_holds_for_its_entry_only(log, make_entry) -> None:
    entry, other = make_entry(log)[0], make_entry(log)[0]
    data = log.append(entry).proof_text.encode()
    trust = Trust((log.keys.signer.verifier_key,), log.config.origin)
    assert verify_receipt(data, trust).entry is None
    assert verify_receipt(data, trust, entry).index == 0
    with pytest.raises(ProofError):
        verify_receipt(data, trust, other)
    with pytest.raises(SignatureError):
        verify_receipt(data, Trust(trust.log_keys, "another.example/origin"))
    assert verify_receipt(format_proof(log.prove(LeafIndex(0))), trust).entry == entry
