import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import FormatError, KeyFileError, PayloadError
from audit.keys import (
    Ed25519Signer,
    KeySource,
    format_skey,
    init_keys,
    list_vkey,
    load_keys,
    load_vkeys,
    parse_skey,
)
from audit.note import check_ed25519
from audit.private_files import write_key_file

ORIGIN = "hospital.example/cds-audit/north/1"


def test_keys_made_are_loaded(tmp_path: Path) -> None:
    made = init_keys(tmp_path, ORIGIN, os.urandom)
    loaded = load_keys(tmp_path)
    assert loaded.signer.verifier_key == made.signer.verifier_key
    assert (loaded.index_key, loaded.wrapper.key_id) == (made.index_key, made.wrapper.key_id)
    assert load_vkeys(tmp_path / "log.vkey") == (made.signer.verifier_key,)
    check_ed25519(made.signer.verifier_key.public_key, loaded.signer.sign(b"text"), b"text")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["signing.key", "index.key", "wrapping.key"])
def test_keys_open_to_others_are_refused(tmp_path: Path, name: str) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    (tmp_path / "keys" / name).chmod(0o640)
    with pytest.raises(KeyFileError, match=f"{name}: expected mode 0600"):
        load_keys(tmp_path)


@pytest.mark.parametrize("name", ["signing.key", "index.key", "wrapping.key"])
@pytest.mark.parametrize("content", [b"", b"zz", b"PRIVATE+KEY+a+b+c", b"\xff"])
def test_keys_malformed_are_refused_without_being_shown(tmp_path: Path, name: str, content: bytes) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    (tmp_path / "keys" / name).write_bytes(content)
    with pytest.raises(KeyFileError):
        load_keys(tmp_path)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    with pytest.raises(KeyFileError, match="exists already"):
        init_keys(tmp_path, ORIGIN, os.urandom)


def test_keys_need_an_origin_that_can_be_a_key_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        init_keys(tmp_path, "two words", os.urandom)


def test_keys_show_nothing_when_printed(tmp_path: Path) -> None:
    keys = init_keys(tmp_path, ORIGIN, os.urandom)
    assert repr(keys) == f"KeyRing({ORIGIN})"


@given(st.binary(min_size=32, max_size=32))
def test_keys_signing_key_round_trips(seed: bytes) -> None:
    assert parse_skey(format_skey("example.com/log", seed)) == ("example.com/log", seed)


def test_keys_signing_key_reads_the_form_of_go() -> None:
    # golang.org/x/mod/sumdb/note: published test key of PeterNeumann
    skey = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    name, seed = parse_skey(skey)
    assert Ed25519Signer(name, seed).verifier_key.key_id.hex() == "c74f20a3"
    assert format_skey(name, seed) == skey


def test_keys_are_read_again_when_a_key_file_comes(tmp_path: Path) -> None:
    made = init_keys(tmp_path, ORIGIN, os.urandom)
    source = KeySource(tmp_path, os.urandom)
    assert source.keys().verifier_keys == made.verifier_keys
    following = Ed25519Signer(ORIGIN, bytes(32))
    write_key_file(tmp_path / "keys" / "signing.next.key", format_skey(ORIGIN, bytes(32)), 0o600)
    assert source.keys().verifier_keys == (*made.verifier_keys, following.verifier_key)
    (tmp_path / "keys" / "signing.next.key").rename(tmp_path / "keys" / "signing.key")
    assert source.keys().verifier_keys == (following.verifier_key,)


def test_keys_read_before_stay_in_force_while_the_files_are_unreadable(tmp_path: Path, caplog) -> None:
    made = init_keys(tmp_path, ORIGIN, os.urandom)
    source = KeySource(tmp_path, os.urandom)
    (tmp_path / "keys" / "signing.next.key").write_text("half a ke")
    assert source.keys().verifier_keys == made.verifier_keys
    assert "keys can't be read again" in caplog.text
    (tmp_path / "keys" / "signing.next.key").unlink()
    assert source.keys().verifier_keys == made.verifier_keys


def test_keys_are_read_again_though_a_change_falls_in_the_same_tick(tmp_path: Path) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    keys = tmp_path / "keys"
    source = KeySource(tmp_path, os.urandom)
    before = keys.stat()
    write_key_file(keys / "signing.next.key", format_skey(ORIGIN, bytes(32)), 0o600)
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(source.keys().signers) == 2


def test_keys_unwrap_under_the_old_wrapping_key_while_it_is_there(tmp_path: Path) -> None:
    made = init_keys(tmp_path, ORIGIN, os.urandom)
    source = KeySource(tmp_path, os.urandom)
    wrapped = made.wrapper.wrap(bytes(32), b"c")
    keys = tmp_path / "keys"
    (keys / "wrapping.key").rename(keys / "wrapping.old.key")
    write_key_file(keys / "wrapping.key", "5a" * 32, 0o600)
    both = source.keys().wrapper
    assert both.unwrap(wrapped, b"c") == bytes(32)
    assert both.unwrap(both.wrap(b"\x01" * 32, b"c"), b"c") == b"\x01" * 32
    (keys / "wrapping.old.key").unlink()
    alone = source.keys().wrapper
    assert alone.key_id == both.key_id != made.wrapper.key_id
    assert alone.unwrap(both.wrap(bytes(32), b"c"), b"c") == bytes(32)
    with pytest.raises(PayloadError):
        alone.unwrap(wrapped, b"c")


def test_keys_list_every_verifier_key_once_and_the_first_one_first(tmp_path: Path) -> None:
    made = init_keys(tmp_path, ORIGIN, os.urandom)
    following = Ed25519Signer(ORIGIN, bytes(32)).verifier_key
    for _ in range(2):
        list_vkey(tmp_path / "log.vkey", following)
    assert load_vkeys(tmp_path / "log.vkey") == (made.signer.verifier_key, following)
    assert (tmp_path / "log.vkey").stat().st_mode & 0o777 == 0o644


def test_keys_are_never_read_from_two_states_of_the_files(tmp_path: Path) -> None:
    init_keys(tmp_path, ORIGIN, os.urandom)
    signing, following = (tmp_path / "keys" / name for name in ("signing.key", "signing.next.key"))
    source = KeySource(tmp_path, os.urandom)
    signing.unlink()
    os.mkfifo(
        signing, 0o600
    )  # holds the reader up where it has seen that there is no next key, and hasn't read the old one
    new = Ed25519Signer(ORIGIN, b"\x01" * 32).verifier_key
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(lambda: source.keys().verifier_keys)
        with signing.open("w") as pipe:
            write_key_file(following, format_skey(ORIGIN, b"\x01" * 32), 0o600)
            following.replace(signing)
            pipe.write(format_skey(ORIGIN, bytes(32)))
        assert read.result(10) == (new,)
