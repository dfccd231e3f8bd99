"""Strict readers of the two scalar encodings that the C2SP formats share.

Each value has one spelling only. A lenient reader would let a changed byte pass: base64 with stray trailing bits, or
"007" for 7, would decode to what was signed. Pure.
"""

import base64
import binascii
import re

from audit.errors import FormatError

# C2SP tlog-checkpoint: tree sizes fit in 63 bits.
MAX_DECIMAL = 2**63 - 1
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)


def format_base64(data: bytes) -> str:
    """RFC 4648 §4 text of `data`, with padding."""
    return base64.b64encode(data).decode("ascii")


def parse_base64(text: str, what: str) -> bytes:
    """The bytes behind `text`.

    Raises:
        FormatError: not the one canonical RFC 4648 §4 spelling; `what` names the field.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        message = f"{what}: expected base64"
        raise FormatError(message) from exc
    if format_base64(data) != text:
        message = f"{what}: expected canonical base64"
        raise FormatError(message)
    return data


def parse_decimal(text: str, what: str) -> int:
    """The number behind `text`: ASCII digits, no sign, no leading zero, at most 2^63-1.

    Raises:
        FormatError: any other spelling; `what` names the field.
    """
    if not _DECIMAL.match(text) or (value := int(text)) > MAX_DECIMAL:
        message = f"{what}: expected a decimal number below 2^63 without sign or leading zero"
        raise FormatError(message)
    return value
