from __future__ import annotations

import gzip
import io
import resource
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.bodies import BodyTooLargeError, ContentCodingError, gunzip, read_body
from cds_service.errors import BadRequestError, ServiceError

LIMIT = 50_000


class Pieces(io.BytesIO):
    """A body as a socket gives it: what has arrived so far."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 1_000) if size is not None and size > 0 else size)


class Endless:
    """A body without an end; `given` counts what was taken of it."""

    given = 0

    def read(self, size: int, /) -> bytes:
        self.given += size
        return b"x" * size


@given(st.binary(max_size=5_000), st.booleans(), st.booleans())
def test_bodies_plain_and_gzip_are_read_whole(body: bytes, compressed: bool, declared: bool) -> None:
    sent = gzip.compress(body) if compressed else body
    coding = "gzip" if compressed else ""
    assert read_body(Pieces(sent), len(sent) if declared else None, coding, LIMIT) == body


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", " gzip "])
def test_bodies_gzip_has_several_spellings(coding: str) -> None:
    assert read_body(io.BytesIO(gzip.compress(b"{}")), None, coding, LIMIT) == b"{}"


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, identity", "gzi", "chunked"])
def test_bodies_another_coding_is_refused_unread(coding: str) -> None:
    stream = Endless()
    with pytest.raises(ContentCodingError):
        read_body(stream, None, coding, LIMIT)
    assert stream.given == 0


def test_bodies_declared_too_large_is_refused_unread() -> None:
    stream = Endless()
    with pytest.raises(BodyTooLargeError, match=f"^request body: expected at most {LIMIT} bytes$"):
        read_body(stream, LIMIT + 1, "", LIMIT)
    assert stream.given == 0


def test_bodies_without_a_length_are_read_no_further_than_the_limit() -> None:
    stream = Endless()
    with pytest.raises(BodyTooLargeError):
        read_body(stream, None, "", LIMIT)
    assert stream.given == LIMIT + 1


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False)])
def test_bodies_the_limit_itself_still_fits(size: int, fits: bool, coding: str) -> None:
    body = b"x" * size
    sent = gzip.compress(body) if coding else body
    if fits:
        assert read_body(io.BytesIO(sent), None, coding, LIMIT) == body
    else:
        with pytest.raises(BodyTooLargeError):
            read_body(io.BytesIO(sent), None, coding, LIMIT)


def test_bodies_shorter_than_declared_are_refused() -> None:
    with pytest.raises(BadRequestError, match=r"^request body: expected 10 bytes, got 4$"):
        read_body(Pieces(b"four"), 10, "", LIMIT)


def test_bodies_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 100_000_000, 9)
    assert len(bomb) < 100_000
    before_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError, match="decompressed"):
            gunzip(bomb, 1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before_s < 0.5


@pytest.mark.parametrize("cut", [1, 9, 10, 15, -8, -1])
def test_bodies_gzip_that_ends_early_is_refused(cut: int) -> None:
    with pytest.raises(BadRequestError, match="ends early"):
        gunzip(gzip.compress(b"a patient's data" * 20)[:cut], LIMIT)


@pytest.mark.parametrize("after", [b"\0", b"{}", gzip.compress(b"{}"), gzip.compress(b"") * 1_000])
def test_bodies_gzip_that_goes_on_is_refused(after: bytes) -> None:
    with pytest.raises(BadRequestError, match="something after it"):
        gunzip(gzip.compress(b"{}") + after, LIMIT)


@pytest.mark.parametrize("position", [0, 3, 12, -5, -1])
def test_bodies_damaged_gzip_is_refused_without_a_word_of_it(position: int) -> None:
    damaged = bytearray(gzip.compress(b"a patient's data" * 20))
    damaged[position] ^= 0xFF
    with pytest.raises(ServiceError) as caught:
        gunzip(bytes(damaged), LIMIT)
    assert "patient" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(
    st.binary(max_size=500),
    st.sampled_from(["", "gzip", "x-gzip", "identity"]),
    st.one_of(st.none(), st.integers(0, 600)),
)
def test_bodies_any_bytes_never_raise_a_foreign_error(sent: bytes, coding: str, declared: int | None) -> None:
    try:
        body = read_body(io.BytesIO(sent), declared, coding, 400)
    except ServiceError:
        return
    assert len(body) <= 400


@given(st.binary(max_size=2_000), st.data())
def test_bodies_any_damage_to_gzip_never_raises_a_foreign_error(body: bytes, data: st.DataObject) -> None:
    sent = bytearray(gzip.compress(body))
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = gunzip(bytes(sent), LIMIT)
    except ServiceError:
        return
    assert found == body  # the damage hit what gzip doesn't look at: time, system, level
