from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from audit.errors import KeyFileError
from audit.outside import OutsideError
from audit.timestamps import (
    TimestampAuthority,
    TimestampError,
    ask_timestamp,
    check_timestamp,
    load_roots,
    read_time,
)
from tests.audit.outsiders import Answer, answering, asking
from tests.audit.time_authority import TimeAuthority

NOTE = (
    b"hospital.example/cds-audit/north/1\n7\nWqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=\n\n\xe2\x80\x94 x AAAAAAA=\n"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def stamped(authority: TimeAuthority) -> bytes:
    return authority.reply(_query())


def _query(data: bytes = NOTE, algorithm: HashAlgorithm = HashAlgorithm.SHA256) -> bytes:
    return TimestampRequestBuilder().data(data).hash_algorithm(algorithm).build().as_bytes()


def _ask(authority: TimeAuthority, url: str, policy: str | None = None) -> bytes:
    known = TimestampAuthority(
        "stamps", url, load_roots(authority.roots), None if policy is None else ObjectIdentifier(policy)
    )
    return ask_timestamp(NOTE, known, asking(url))


def test_timestamp_of_a_real_authority_holds_offline_and_for_openssl(authority: TimeAuthority) -> None:
    before = datetime.now(UTC)
    with authority.running() as server:
        response = _ask(authority, server.url, "1.2.3.4.1")
    ((method, _, _),) = server.asked
    assert method == "POST"
    time = check_timestamp(response, NOTE, load_roots(authority.roots))
    assert time == read_time(response)
    assert before - timedelta(seconds=2) <= time <= datetime.now(UTC) + timedelta(seconds=2)
    assert time.tzinfo is UTC
    assert authority.verifies(response, NOTE)
    assert not authority.verifies(response, NOTE + b"x")


def test_timestamp_of_another_checkpoint_is_refused(authority: TimeAuthority) -> None:
    other = authority.reply(_query(NOTE + b"x"))
    with answering(lambda _: (200, {}, other)) as server, pytest.raises(TimestampError, match="authority stamps: "):
        _ask(authority, server.url)


def test_timestamp_given_before_is_refused_for_its_nonce(authority: TimeAuthority, stamped: bytes) -> None:
    check_timestamp(stamped, NOTE, load_roots(authority.roots))
    with answering(lambda _: (200, {}, stamped)) as server, pytest.raises(TimestampError, match="Nonce mismatch"):
        _ask(authority, server.url)


def test_timestamp_of_an_untrusted_root_is_refused(authority: TimeAuthority, tmp_path: Path) -> None:
    stranger = TimeAuthority(tmp_path / "stranger")
    with stranger.running() as server, pytest.raises(TimestampError, match="certificate"):
        _ask(authority, server.url)


@pytest.mark.parametrize("signer", ["expired", "web"])
def test_timestamp_of_a_certificate_that_may_not_stamp_is_refused(authority: TimeAuthority, signer: str) -> None:
    with authority.running(signer) as server, pytest.raises(TimestampError):
        _ask(authority, server.url)


def test_timestamp_by_an_expired_certificate_is_one_that_openssl_made(authority: TimeAuthority) -> None:
    """That it is refused is not because there is none."""
    response = authority.reply(_query(), "expired")
    assert read_time(response) > datetime.now(UTC) - timedelta(minutes=5)
    with pytest.raises(TimestampError, match="certificate"):
        check_timestamp(response, NOTE, load_roots(authority.roots))
    assert not authority.verifies(response, NOTE)


def test_timestamp_of_another_policy_is_refused(authority: TimeAuthority) -> None:
    with authority.running() as server, pytest.raises(TimestampError, match="Policy ID mismatch"):
        _ask(authority, server.url, "1.2.3.4.5")


def test_timestamp_over_another_hash_is_refused(authority: TimeAuthority) -> None:
    response = authority.reply(_query(algorithm=HashAlgorithm.SHA512))
    with pytest.raises(TimestampError, match="expected one over SHA-256"):
        check_timestamp(response, NOTE, load_roots(authority.roots))


@pytest.mark.parametrize(
    "answer",
    [(200, {}, b""), (200, {}, b"<html>no</html>"), (200, {}, secrets.token_bytes(900))],
    ids=["empty", "html", "noise"],
)
def test_timestamp_that_is_none_is_refused(authority: TimeAuthority, answer: Answer) -> None:
    with answering(lambda _: answer) as server, pytest.raises(TimestampError, match="expected a granted RFC 3161"):
        _ask(authority, server.url)


def test_timestamp_refused_by_the_authority_is_none(authority: TimeAuthority) -> None:
    rejected = authority.reply(b"0\x00")
    assert rejected
    with answering(lambda _: (200, {}, rejected)) as server, pytest.raises(TimestampError, match="granted"):
        _ask(authority, server.url)


def test_timestamp_with_another_status_is_no_answer(authority: TimeAuthority) -> None:
    with answering(lambda _: (503, {}, b"")) as server, pytest.raises(OutsideError, match="stamps: it answered 503"):
        _ask(authority, server.url)


@given(st.data())
@settings(max_examples=150)
def test_timestamp_damaged_is_refused_or_says_the_same(
    authority: TimeAuthority, stamped: bytes, data: st.DataObject
) -> None:
    """Version numbers and algorithm names beside the signature aren't signed; all that is said is."""
    damaged = bytearray(stamped)
    damaged[data.draw(st.integers(0, len(stamped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        time = check_timestamp(bytes(damaged), NOTE, load_roots(authority.roots))
    except TimestampError:
        return
    assert time == read_time(stamped)


@given(st.integers(0, 938))
@settings(max_examples=60)
def test_timestamp_cut_short_is_refused(authority: TimeAuthority, stamped: bytes, end: int) -> None:
    with pytest.raises(TimestampError):
        check_timestamp(stamped[: min(end, len(stamped) - 1)], NOTE, load_roots(authority.roots))


def test_timestamp_without_a_root_to_trust_proves_nothing(stamped: bytes) -> None:
    with pytest.raises(TimestampError, match="at least one root"):
        check_timestamp(stamped, NOTE, ())


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_timestamp_roots_must_be_certificates(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "roots.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match=r"roots roots\.pem: expected certificates"):
        load_roots(tmp_path / "roots.pem")
