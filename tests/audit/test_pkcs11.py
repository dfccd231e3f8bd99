"""Keys in a real token: SoftHSM's, with its own files underneath."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit import pkcs11_session
from audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from audit.errors import KeyFileError, PayloadError, TokenError
from audit.keys import Ed25519Signer, init_keys, load_keys
from audit.merkle import EMPTY_ROOT, TreeSize
from audit.note import check_ed25519
from audit.pkcs11 import Pkcs11Signer, Pkcs11Wrapper, destroy_key, make_signing_key, make_wrapping_key
from audit.pkcs11_session import library, writable_session
from audit.pkcs11_uri import format_uri, parse_uri
from tests.softhsm import PIN, Token, make_token

ORIGIN = "hospital.example/cds-audit/north/1"
KEY = bytes(range(32))
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with make_token(tmp_path, uuid.uuid4().hex) as made:
        yield made


@pytest.fixture
def signer(token: Token) -> Pkcs11Signer:
    return Pkcs11Signer(make_signing_key(parse_uri(token.uri("signing")), os.urandom), ORIGIN)


@pytest.fixture
def wrapper(token: Token) -> Pkcs11Wrapper:
    return Pkcs11Wrapper(make_wrapping_key(parse_uri(token.uri("wrapping")), os.urandom), os.urandom)


def _import_signing_key(token: Token, seed: bytes, *, extractable: bool = False) -> None:
    names = library()
    point = Ed25519Signer(ORIGIN, seed).verifier_key.public_key
    both = {
        names.Attribute.KEY_TYPE: names.KeyType.EC_EDWARDS,
        names.Attribute.EC_PARAMS: bytes.fromhex("06032b6570"),
        names.Attribute.TOKEN: True,
        names.Attribute.LABEL: "imported",
    }
    private = {
        names.Attribute.CLASS: names.ObjectClass.PRIVATE_KEY,
        names.Attribute.VALUE: seed,
        names.Attribute.SIGN: True,
        names.Attribute.SENSITIVE: not extractable,
        names.Attribute.EXTRACTABLE: extractable,
    }
    public = {names.Attribute.CLASS: names.ObjectClass.PUBLIC_KEY, names.Attribute.EC_POINT: b"\x04\x20" + point}
    with writable_session(parse_uri(token.uri("imported"))) as session:
        session.create_object(both | private)
        session.create_object(both | public)


def test_pkcs11_signatures_verify_as_notes_do(signer: Pkcs11Signer) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, TreeSize(0), EMPTY_ROOT), [signer])
    assert open_checkpoint(note, [signer.verifier_key], origin=ORIGIN).size == 0


def test_pkcs11_signatures_are_those_of_rfc_8032(token: Token) -> None:
    # RFC 8032 §7.1, test 3
    seed = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    _import_signing_key(token, seed)
    signature = Pkcs11Signer(parse_uri(token.uri("imported")), ORIGIN).sign(bytes.fromhex("af82"))
    assert signature.hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


def test_pkcs11_wrapped_keys_open_again_in_their_own_place_only(wrapper: Pkcs11Wrapper) -> None:
    wrapped = wrapper.wrap(KEY, b"patient 1")
    assert wrapper.unwrap(wrapped, b"patient 1") == KEY
    assert KEY not in wrapped
    for context, data in [(b"patient 2", wrapped), (b"patient 1", wrapped[:-1] + bytes([wrapped[-1] ^ 1]))]:
        with pytest.raises(PayloadError, match="altered, of another owner"):
            wrapper.unwrap(data, context)
    assert wrapper.unwrap(wrapped, b"patient 1") == KEY


def test_pkcs11_wrapped_keys_have_the_bytes_of_a_file_wrapper(token: Token) -> None:
    names = library()
    with writable_session(parse_uri(token.uri("imported"))) as session:
        session.create_object(
            {
                names.Attribute.CLASS: names.ObjectClass.SECRET_KEY,
                names.Attribute.KEY_TYPE: names.KeyType.AES,
                names.Attribute.VALUE: bytes(32),
                names.Attribute.LABEL: "imported",
                names.Attribute.TOKEN: True,
                names.Attribute.ENCRYPT: True,
                names.Attribute.DECRYPT: True,
                names.Attribute.SENSITIVE: True,
                names.Attribute.EXTRACTABLE: False,
            }
        )
    wrapper = Pkcs11Wrapper(parse_uri(token.uri("imported")), lambda size: b"n" * size)
    expected = AESGCM(bytes(32)).encrypt(b"n" * 12, KEY, b"bedside wrapped key/v1\ncontext")
    assert wrapper.wrap(KEY, b"context") == b"\x01" + b"n" * 12 + expected


def test_pkcs11_wrapping_keys_are_told_apart_by_their_ids(token: Token, wrapper: Pkcs11Wrapper) -> None:
    uri = parse_uri(token.uri("wrapping"))
    other = Pkcs11Wrapper(make_wrapping_key(parse_uri(token.uri("other")), os.urandom), os.urandom)
    assert Pkcs11Wrapper(uri, os.urandom).key_id == wrapper.key_id != other.key_id
    with pytest.raises(PayloadError):
        other.unwrap(wrapper.wrap(KEY, b"c"), b"c")


@pytest.mark.parametrize("bad", [b"", b"\x01" + bytes(20), b"\x02" + bytes(60), b"\x01" + bytes(59)])
def test_pkcs11_refuses_what_was_never_wrapped(wrapper: Pkcs11Wrapper, bad: bytes) -> None:
    with pytest.raises(PayloadError):
        wrapper.unwrap(bad, b"c")


def test_pkcs11_keys_cannot_be_taken_out(token: Token, signer: Pkcs11Signer, wrapper: Pkcs11Wrapper) -> None:
    names = library()
    with writable_session(parse_uri(token.uri("x"))) as session:
        for found in session.get_objects({names.Attribute.PRIVATE: True}):
            assert not found[names.Attribute.EXTRACTABLE]
            with pytest.raises(names.AttributeSensitive):
                found[names.Attribute.VALUE]
        secret = session.get_key(object_class=names.ObjectClass.SECRET_KEY)
        assert not secret[names.Attribute.WRAP]
        assert not secret[names.Attribute.DERIVE]


def test_pkcs11_refuses_a_key_that_could_be_taken_out(token: Token) -> None:
    _import_signing_key(token, bytes(32), extractable=True)
    with pytest.raises(TokenError, match="expected sensitive and not extractable"):
        Pkcs11Signer(parse_uri(token.uri("imported")), ORIGIN)


def test_pkcs11_refuses_halves_that_do_not_belong_together(token: Token) -> None:
    _import_signing_key(token, bytes(32))
    names = library()
    with writable_session(parse_uri(token.uri("imported"))) as session:
        public = session.get_key(object_class=names.ObjectClass.PUBLIC_KEY)
        public.destroy()
        other = Ed25519Signer(ORIGIN, b"\x01" * 32).verifier_key.public_key
        session.create_object(
            {
                names.Attribute.CLASS: names.ObjectClass.PUBLIC_KEY,
                names.Attribute.KEY_TYPE: names.KeyType.EC_EDWARDS,
                names.Attribute.EC_PARAMS: bytes.fromhex("06032b6570"),
                names.Attribute.EC_POINT: b"\x04\x20" + other,
                names.Attribute.LABEL: "imported",
                names.Attribute.TOKEN: True,
            }
        )
    with pytest.raises(TokenError, match="isn't the public key's"):
        Pkcs11Signer(parse_uri(token.uri("imported")), ORIGIN)


def test_pkcs11_key_of_a_name_that_is_taken_is_not_made(token: Token, signer: Pkcs11Signer) -> None:
    with pytest.raises(TokenError, match="exists already"):
        make_signing_key(parse_uri(token.uri("signing")), os.urandom)
    with pytest.raises(TokenError, match="exists already"):
        make_wrapping_key(parse_uri(token.uri("signing")), os.urandom)


def test_pkcs11_key_that_is_not_there_is_named(token: Token) -> None:
    with pytest.raises(TokenError, match=r"object=absent: expected one private_key, got 0"):
        Pkcs11Signer(parse_uri(token.uri("absent")), ORIGIN)


def test_pkcs11_wrong_pin_is_refused_once_and_not_tried_again(token: Token, tmp_path: Path) -> None:
    # in a process of its own: this one is logged in
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("0000-wrong")
    script = f"""
import pytest
from audit.errors import TokenError
from audit.pkcs11 import Pkcs11Wrapper
from audit.pkcs11_uri import parse_uri
for expected in ["the PIN is refused .PinIncorrect.", "isn't tried again"]:
    with pytest.raises(TokenError, match=expected) as caught:
        Pkcs11Wrapper(parse_uri({token.uri("k", wrong)!r}), bytes)
    assert "0000-wrong" not in str(caught.value)
"""
    _run(script)


def test_pkcs11_pin_file_open_to_others_is_refused(token: Token) -> None:
    token.pin_file.chmod(0o644)
    with pytest.raises(KeyFileError, match="key file pin: expected mode 0600"):
        Pkcs11Signer(parse_uri(token.uri("signing")), ORIGIN)


def test_pkcs11_module_that_is_not_there_is_named(token: Token) -> None:
    uri = parse_uri(token.uri("signing").replace(token.module, "/nowhere/libmodule.so"))
    with pytest.raises(TokenError, match=r"module libmodule\.so: can't be loaded"):
        Pkcs11Signer(uri, ORIGIN)


def test_pkcs11_token_that_is_not_there_is_named(token: Token) -> None:
    with pytest.raises(TokenError, match="token=elsewhere;object=signing: NoSuchToken"):
        Pkcs11Signer(parse_uri(token.uri("signing").replace(token.label, "elsewhere")), ORIGIN)


def test_pkcs11_removed_token_fails_and_the_token_put_back_serves_again(
    token: Token, signer: Pkcs11Signer, wrapper: Pkcs11Wrapper, tmp_path: Path
) -> None:
    wrapped = wrapper.wrap(KEY, b"c")
    aside = tmp_path / "aside"
    shutil.move(token.store, aside)
    with pytest.raises(TokenError):
        signer.sign(b"text")
    with pytest.raises(TokenError):
        wrapper.unwrap(wrapped, b"c")
    shutil.move(aside, token.store)
    check_ed25519(signer.verifier_key.public_key, signer.sign(b"text"), b"text")
    assert wrapper.unwrap(wrapped, b"c") == KEY


def test_pkcs11_lost_session_is_opened_anew(token: Token, signer: Pkcs11Signer, wrapper: Pkcs11Wrapper) -> None:
    wrapped = wrapper.wrap(KEY, b"c")
    for _ in range(2):
        library().lib(token.module).reinitialize()  # as after the restart of a token: every handle is void
        check_ed25519(signer.verifier_key.public_key, signer.sign(b"text"), b"text")
        library().lib(token.module).reinitialize()
        assert wrapper.unwrap(wrapped, b"c") == KEY


def test_pkcs11_token_that_comes_back_with_another_key_does_not_sign(token: Token, signer: Pkcs11Signer) -> None:
    destroy_key(parse_uri(token.uri("signing")))
    make_signing_key(parse_uri(token.uri("signing")), os.urandom)
    by_label = parse_uri(token.uri("signing"))
    other = Pkcs11Signer(by_label, ORIGIN)
    destroy_key(by_label)
    make_signing_key(by_label, os.urandom)
    with pytest.raises(TokenError, match="isn't the public key's"):
        other.sign(b"text")


def test_pkcs11_destroyed_key_is_gone(token: Token, wrapper: Pkcs11Wrapper) -> None:
    wrapped = wrapper.wrap(KEY, b"c")
    destroy_key(parse_uri(token.uri("wrapping")))
    with pytest.raises(TokenError, match="expected one secret_key, got 0"):
        wrapper.unwrap(wrapped, b"c")


def test_pkcs11_serves_threads_side_by_side(signer: Pkcs11Signer, wrapper: Pkcs11Wrapper) -> None:
    wrapped = [wrapper.wrap(bytes([number]) * 32, b"%d" % number) for number in range(4)]

    def work(number: int) -> None:
        for _ in range(50):
            message = os.urandom(40)
            check_ed25519(signer.verifier_key.public_key, signer.sign(message), message)
            assert wrapper.unwrap(wrapped[number], b"%d" % number) == bytes([number]) * 32

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_pkcs11_signer_serves_after_a_fork(token: Token) -> None:
    # in a process without other threads, since a fork takes only its own along
    script = f"""
import os
from audit.note import check_ed25519
from audit.pkcs11 import Pkcs11Signer, make_signing_key
from audit.pkcs11_uri import parse_uri
signer = Pkcs11Signer(make_signing_key(parse_uri({token.uri("forked")!r}), os.urandom), "log.example/1")
children = []
for _ in range(2):
    if not (child := os.fork()):
        for _ in range(20):
            check_ed25519(signer.verifier_key.public_key, signer.sign(b"child"), b"child")
        os._exit(0)
    children.append(child)
for _ in range(20):
    check_ed25519(signer.verifier_key.public_key, signer.sign(b"parent"), b"parent")
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""
    _run(script)


def test_pkcs11_module_is_started_anew_after_a_fork(token: Token, signer: Pkcs11Signer, tmp_path: Path) -> None:
    # a module reads its configuration when it is started: the child's names an empty directory
    (tmp_path / "empty").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/empty")
    script = f"""
import os
import pytest
from audit.errors import TokenError
from audit.pkcs11 import Pkcs11Signer
from audit.pkcs11_uri import parse_uri
signer = Pkcs11Signer(parse_uri({token.uri("signing")!r}), "log.example/1")
if not (child := os.fork()):
    try:
        os.environ["SOFTHSM2_CONF"] = {str(tmp_path / "softhsm2.conf")!r}
        with pytest.raises(TokenError, match="NoSuchToken"):
            signer.sign(b"child")
        os._exit(0)
    finally:
        os._exit(1)
signer.sign(b"parent")
assert os.waitpid(child, 0)[1] == 0
"""
    _run(script)


def test_pkcs11_token_is_found_by_processes_that_start_together(token: Token, signer: Pkcs11Signer) -> None:
    # SoftHSM 2.6.1 hides a token for moments while another process logs in
    script = f"""
import os
from audit.pkcs11 import Pkcs11Signer
from audit.pkcs11_uri import parse_uri
for _ in range(4):
    children = []
    for _ in range(6):
        if not (child := os.fork()):
            try:
                Pkcs11Signer(parse_uri({token.uri("signing")!r}), "log.example/1").sign(b"text")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
"""
    _run(script)


def test_pkcs11_without_the_extra_says_which(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.setattr(pkcs11_session, "_modules", {})
    with pytest.raises(TokenError, match=r"needs the extra hsm: pip install 'bedside\[hsm\]'"):
        Pkcs11Signer(parse_uri(token.uri("signing")), ORIGIN)


def test_pkcs11_keys_are_loaded_from_key_files_that_name_them(token: Token, tmp_path: Path) -> None:
    signing = format_uri(make_signing_key(parse_uri(token.uri("signing")), os.urandom))
    wrapping = format_uri(make_wrapping_key(parse_uri(token.uri("wrapping")), os.urandom))
    made = init_keys(tmp_path, ORIGIN, os.urandom, signing_uri=signing, wrapping_uri=wrapping)
    loaded = load_keys(tmp_path)
    assert loaded.signer.verifier_key == made.signer.verifier_key
    assert loaded.signer.verifier_key.name == ORIGIN
    assert loaded.wrapper.unwrap(made.wrapper.wrap(KEY, b"c"), b"c") == KEY
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path != token.pin_file]
    assert not any(PIN in text for text in texts)


def _run(script: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
