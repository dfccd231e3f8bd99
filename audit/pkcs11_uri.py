"""Names of keys that never leave their token: RFC 7512 `pkcs11:` URIs, as far as a log's keys need them.

    pkcs11:token=bedside;object=signing;id=%01%a2?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/bedside/pin

Of the path, `token`, `serial`, `object` and `id` are read; of the query, `module-path`, `pin-source` (a file) and
`pin-value`. Any other attribute is refused: one that narrows the choice must not be overlooked. A PIN is never written back,
nor shown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from audit.errors import KeyFileError

SCHEME = "pkcs11:"
_PATH = ("token", "serial", "object", "id")
_QUERY = ("module-path", "pin-source", "pin-value")
# RFC 7512 §2.3: pk11-res-avail, and what paths and queries allow beside it, less what would part attributes here.
_SAFE = ":[]@!$'()*+,=~"
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&/?|-]|%[0-9A-Fa-f]{2})*\Z")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """Where a key lies: which module speaks to which token, and the key's label or id in it.

    Attributes:
        pin_file: holds the PIN; None with no `pin` either: the token asks for it itself (a PIN pad).
        pin: only where the URI held it; not part of the name, and never shown.
    """

    module_path: str
    token: str | None = None
    serial: str | None = None
    object: str | None = None
    id: bytes | None = None
    pin_file: str | None = None
    pin: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """The path part: enough to tell keys apart, and nothing of how to log in."""
        return format_uri(self).partition("?")[0]


def is_uri(text: str) -> bool:
    """Whether `text` claims to be such a URI."""
    return text.startswith(SCHEME)


def parse_uri(text: str) -> Pkcs11Uri:
    """The URI in `text`.

    Raises:
        KeyFileError: out of form, or without what finding the key takes. The message holds no attribute's value.
    """
    if not is_uri(text):
        raise KeyFileError("pkcs11 uri: expected pkcs11:...")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found = _attributes(path, ";", _PATH)
    options = _attributes(query, "&", _QUERY)
    module = _text(options, "module-path")
    if module is None or not module.startswith("/"):
        raise KeyFileError("pkcs11 uri: expected module-path, absolute")
    uri = Pkcs11Uri(
        module,
        _text(found, "token"),
        _text(found, "serial"),
        _text(found, "object"),
        found.get("id"),
        _pin_file(_text(options, "pin-source")),
        _text(options, "pin-value"),
    )
    if uri.token is None and uri.serial is None:
        raise KeyFileError("pkcs11 uri: expected token or serial")
    if uri.object is None and uri.id is None:
        raise KeyFileError("pkcs11 uri: expected object or id")
    if uri.pin is not None and uri.pin_file is not None:
        raise KeyFileError("pkcs11 uri: expected pin-source or pin-value, got both")
    return uri


def format_uri(uri: Pkcs11Uri) -> str:
    """The URI of `uri`, without a PIN."""
    path = {"token": uri.token, "serial": uri.serial, "object": uri.object}
    parts = [f"{name}={quote(value, safe=_SAFE)}" for name, value in path.items() if value is not None]
    if uri.id is not None:
        parts.append("id=" + "".join(f"%{byte:02x}" for byte in uri.id))
    options = [f"module-path={quote(uri.module_path, safe=_SAFE + '/')}"]
    if uri.pin_file is not None:
        options.append(f"pin-source=file:{quote(uri.pin_file, safe=_SAFE + '/')}")
    return f"{SCHEME}{';'.join(parts)}?{'&'.join(options)}"


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    attributes: dict[str, bytes] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if name not in known:
            message = f"pkcs11 uri: expected attributes {', '.join(known)}"
            raise KeyFileError(message)
        if name in attributes or not equals or not value or not _ENCODED.match(value):
            message = f"pkcs11 uri: attribute {name} is given twice, empty or not percent-encoded"
            raise KeyFileError(message)
        attributes[name] = unquote_to_bytes(value)
    return attributes


def _text(attributes: Mapping[str, bytes], name: str) -> str | None:
    try:
        value = attributes[name].decode("utf-8")
    except KeyError:
        return None
    except UnicodeDecodeError:
        message = f"pkcs11 uri: attribute {name} isn't UTF-8"
        raise KeyFileError(message) from None
    if any(character < " " for character in value):
        message = f"pkcs11 uri: attribute {name} holds a control character"
        raise KeyFileError(message)
    return value


def _pin_file(source: str | None) -> str | None:
    """The path behind `file:/path`, `file:///path` or `/path`; RFC 7512 §2.4's `|program` isn't run."""
    if source is None:
        return None
    path = source
    if source.startswith("file:"):
        path = source.removeprefix("file://") if source.startswith("file://") else source.removeprefix("file:")
    if not path.startswith("/"):
        raise KeyFileError("pkcs11 uri: expected pin-source=file:/absolute/path")
    return path
