"""How values go to PostgreSQL: bytes in its binary format, the rest as text.

pg8000 sends every value as text, bytes as hex digits. For a batch of entries the server then takes most of its time with
reading those digits: of 55 µs an entry 45. So its Bind message is replaced here by one that knows both formats
(https://www.postgresql.org/docs/current/protocol-message-formats.html), and a session's statements go out without a request to
flush after each, since their answers are awaited together.

    bytea[] in binary: 1 (dimension), 0 (flags), 17 (bytea), n, 1 (lower bound), then for each a length, -1 for NULL, and bytes;
    all numbers are 32 bits, big-endian
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TypeAlias

from pg8000.core import BIND, EXECUTE_MSG
from pg8000.native import Connection

Value: TypeAlias = str | int | bytes | None

_BYTEA = 17
_INT16 = Struct("!H").pack
_INT32 = Struct("!i").pack
_ARRAY = Struct("!iiiii").pack
_NULL = _INT32(-1)
_TEXT, _BINARY = _INT16(0), _INT16(1)


class WireConnection(Connection):  # type: ignore[misc] # pg8000 has no types
    """A connection of pg8000 whose bound values may be bytes."""

    def send_BIND(self, statement_name_bin: bytes, params: Sequence[str | bytes | None]) -> None:  # noqa: N802 - theirs
        """Binds a prepared statement, its results as text; as pg8000's, without its Flush."""
        count = _INT16(len(params))
        message = [b"\x00", statement_name_bin, count]
        message += [_BINARY if isinstance(value, bytes) else _TEXT for value in params]
        message.append(count)
        for value in params:
            if value is None:
                message.append(_NULL)
                continue
            data = value if isinstance(value, bytes) else value.encode()
            message += (_INT32(len(data)), data)
        message.append(b"\x00\x00")
        self._send_message(BIND, b"".join(message))

    def send_EXECUTE(self) -> None:  # noqa: N802 - theirs
        """Runs what was bound; as pg8000's, without its Flush."""
        self._sock.write(EXECUTE_MSG)


def bound(values: Iterable[Value]) -> list[str | bytes | None]:
    """Values as `send_BIND` takes them."""
    return [str(value) if isinstance(value, int) else value for value in values]


def array(values: Iterable[Value]) -> str | bytes:
    """An array as `send_BIND` takes it, of integers, of texts, or of bytes; any may be NULL."""
    elements = list(values)
    if any(isinstance(value, bytes) for value in elements):
        return _bytes_array(elements)
    return "{" + ",".join(map(_element, elements)) + "}"


def _bytes_array(values: Sequence[Value]) -> bytes:
    parts = [_ARRAY(1, 1 if None in values else 0, _BYTEA, len(values), 1)]
    for value in values:
        if isinstance(value, bytes):
            parts += (_INT32(len(value)), value)
        else:
            parts.append(_NULL)
    return b"".join(parts)


def _element(value: Value) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
