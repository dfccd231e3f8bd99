import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.add_checkpoint import (
    AddCheckpoint,
    format_add_checkpoint,
    format_size,
    parse_add_checkpoint,
    parse_size,
)
from audit.errors import FormatError
from audit.merkle import Sha256, TreeSize

requests = st.builds(
    AddCheckpoint,
    st.integers(0, 2**63 - 1).map(TreeSize),
    st.lists(st.binary(min_size=32, max_size=32).map(Sha256), max_size=63).map(tuple),
    st.binary(max_size=80),
)
HASH = b"A" * 43 + b"=\n"


@given(requests)
def test_add_checkpoint_round_trips(request: AddCheckpoint) -> None:
    assert parse_add_checkpoint(format_add_checkpoint(request)) == request


@given(st.binary(max_size=200))
def test_add_checkpoint_from_strangers_raises_format_errors_alone(data: bytes) -> None:
    try:
        parsed = parse_add_checkpoint(data)
    except FormatError:
        return
    assert format_add_checkpoint(parsed) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 1",
        b"old 1\nnote",
        b"\nold 1\n\nnote",
        b"old 01\n\nnote",
        b"old -1\n\nnote",
        b"old 9223372036854775808\n\nnote",
        b"old  1\n\nnote",
        b"OLD 1\n\nnote",
        b"old 1\r\n\r\nnote",
        b"old 1\nAAAA\n\nnote",
        b"old 1\n" + b"A" * 42 + b"B=\n\nnote",
        b"old 1\n" + HASH * 64 + b"\nnote",
        "old 1\n\u2014\n\nnote".encode(),
    ],
)
def test_add_checkpoint_out_of_form_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_add_checkpoint(data)


def test_add_checkpoint_takes_up_to_63_hashes() -> None:
    assert len(parse_add_checkpoint(b"old 1\n" + HASH * 63 + b"\nnote").proof) == 63


@given(st.integers(0, 2**63 - 1))
def test_size_round_trips(size: int) -> None:
    assert parse_size(format_size(TreeSize(size))) == size


@pytest.mark.parametrize(
    "data", [b"", b"3", b"3\n\n", b" 3\n", b"03\n", b"three\n", b"\xff\n", b"9223372036854775808\n"]
)
def test_size_out_of_form_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_size(data)
