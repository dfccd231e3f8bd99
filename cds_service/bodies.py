"""The body of a request: read within a limit, and decompressed within the same limit (RFC 9110, section 8.4; RFC 1952).

Nothing grows beyond the limit: not what is read, not what comes out of it. Knows no Flask: `read_body` takes the WSGI stream.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from cds_service.errors import BadRequestError, MediaTypeError, ServiceError

_GZIP = zlib.MAX_WBITS | 16  # the gzip format and no other
_PIECE = 64 * 1024


class BodyTooLargeError(ServiceError):
    """The body is larger than this server takes, as sent or decompressed (413)."""

    issue = "too-long"


class ContentCodingError(MediaTypeError):
    """The body is compressed in a way that isn't understood here (415, with what is)."""


class Stream(Protocol):
    """What `wsgi.input` is."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


def read_body(stream: Stream, declared: int | None, coding: str, limit: int) -> bytes:
    """The decoded body; `declared` is its length as sent, None where the stream itself ends it.

    Raises:
        ContentCodingError: `coding` (the Content-Encoding) isn't gzip or nothing.
        BodyTooLargeError: more than `limit` bytes, as sent or decompressed.
        BadRequestError: it ends early, or isn't what its coding says.
    """
    name = coding.strip().lower()
    if name not in ("", "identity", "gzip", "x-gzip"):
        raise ContentCodingError("content-encoding: expected gzip or none")
    if declared is not None and declared > limit:
        raise BodyTooLargeError(f"request body: expected at most {limit} bytes")
    body = _to_the_end(stream, limit) if declared is None else _exactly(stream, declared)
    return gunzip(body, limit) if name.endswith("gzip") else body


def gunzip(compressed: bytes, limit: int) -> bytes:
    """What `compressed`, one gzip member and nothing after it, holds.

    Raises:
        BodyTooLargeError: it holds more than `limit` bytes; no more than those are made.
        BadRequestError: it isn't gzip, is damaged, ends early or goes on after its end.
    """
    decoder = zlib.decompressobj(_GZIP)
    try:
        body = decoder.decompress(compressed, limit + 1)
    except zlib.error:
        raise BadRequestError("request body: expected gzip, got something else") from None
    if len(body) > limit:
        raise BodyTooLargeError(f"request body: expected at most {limit} bytes decompressed")
    if not decoder.eof:
        raise BadRequestError("request body: gzip data ends early")
    if decoder.unused_data:
        # A second member would be allowed; nobody sends one, and a body of empty ones would take hours.
        raise BadRequestError("request body: expected one gzip member, got something after it")
    return body


def _exactly(stream: Stream, length: int) -> bytes:
    """The body in one read where it has come: collecting it in small pieces costs more than decoding it does."""
    body = stream.read(length)
    while 0 < len(body) < length and (more := stream.read(length - len(body))):
        body += more
    if len(body) != length:
        raise BadRequestError(f"request body: expected {length} bytes, got {len(body)}")
    return body


def _to_the_end(stream: Stream, limit: int) -> bytes:
    body = bytearray()
    while len(body) <= limit and (piece := stream.read(min(_PIECE, limit + 1 - len(body)))):
        body += piece
    if len(body) > limit:
        raise BodyTooLargeError(f"request body: expected at most {limit} bytes")
    return bytes(body)
