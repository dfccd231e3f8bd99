"""Time stamps of checkpoints by authorities outside (RFC 3161), over the SHA-256 of the checkpoint's signed note.

A cosignature says that the tree grew; a time stamp says by when, in the word of an authority that courts and auditors know.
The whole response is kept as it came, DER, so that `openssl ts -verify -data CHECKPOINT -in RESPONSE -CAfile ROOTS` checks it
without us. Certificates are judged at the stamped time: a stamp outlives the certificate it was made with.

The nonce comes from the library's own random source: it writes the request, which is no place for code of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography.x509 import Certificate, ObjectIdentifier, load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerifierBuilder,
    decode_timestamp_response,
)
from rfc3161_client import VerificationError as ResponseError

from audit.errors import KeyFileError, SignatureError
from audit.outside import Ask, OutsideError

TIMEOUT_S = 10.0
_SHA256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"


class TimestampError(SignatureError):
    """A time stamp that proves nothing about the checkpoint: of another one, of nobody trusted, or damaged."""


@dataclass(frozen=True, slots=True)
class TimestampAuthority:
    """An authority that is asked, and the roots its certificates must lead to; `policy` where it must be that one."""

    name: str
    url: str
    roots: tuple[Certificate, ...]
    policy: ObjectIdentifier | None = None


def load_roots(path: Path) -> tuple[Certificate, ...]:
    """The certificates in a PEM file.

    Raises:
        KeyFileError: unreadable, malformed, or none.
    """
    try:
        return tuple(load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as exc:
        message = f"roots {path.name}: expected certificates in PEM"
        raise KeyFileError(message) from exc


def ask_timestamp(note: bytes, authority: TimestampAuthority, ask: Ask, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """The authority's whole response over `note`, DER, checked.

    Raises:
        TimestampError: it isn't a time stamp of this note by this authority, or answers another request than ours.
        OutsideError: the authority can't be asked, or answers with another HTTP status.
    """
    request = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
    headers = {"Content-Type": _QUERY, "Accept": _REPLY}
    answer = ask("POST", authority.url, body=request.as_bytes(), headers=headers, timeout_s=timeout_s)
    if answer.status != 200:
        message = f"time-stamping authority {authority.name}: it answered {answer.status}"
        raise OutsideError(message)
    try:
        check_timestamp(answer.body, note, authority.roots, nonce=request.nonce, policy=authority.policy)
    except TimestampError as exc:
        message = f"time-stamping authority {authority.name}: {exc}"
        raise TimestampError(message) from exc
    return answer.body


def check_timestamp(
    response: bytes,
    note: bytes,
    roots: Sequence[Certificate],
    *,
    nonce: int | None = None,
    policy: ObjectIdentifier | None = None,
) -> datetime:
    """When `note` was stamped, as the DER `response` says; aware UTC.

    (1) it was granted, and is over the SHA-256 of the note;
    (2) a certificate for time stamping, valid at that time and leading to one of the roots, signed it;
    (3) nonce and policy are those asked for, where any were.

    Raises:
        TimestampError: a step fails.
    """
    decoded = _decode(response)
    if decoded.tst_info.message_imprint.hash_algorithm != _SHA256:  # (1)
        raise TimestampError("time stamp: expected one over SHA-256")
    try:
        verifier = VerifierBuilder(policy_id=policy, roots=list(roots), nonce=nonce).build()
        verifier.verify(decoded, sha256(note).digest())  # (1) (2) (3)
    except (ResponseError, ValueError) as exc:
        message = f"time stamp: {exc}"
        raise TimestampError(message) from exc
    return read_time(response)


def read_time(response: bytes) -> datetime:
    """The time in a DER response, which isn't checked; raises TimestampError where there is none."""
    return _decode(response).tst_info.gen_time.astimezone(UTC)


def _decode(response: bytes) -> TimeStampResponse:
    try:
        decoded = decode_timestamp_response(response)
        _ = decoded.tst_info.gen_time  # a refusal has none
    except ValueError as exc:
        raise TimestampError("time stamp: expected a granted RFC 3161 response") from exc
    return decoded
