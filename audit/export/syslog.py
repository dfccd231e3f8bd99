"""Syslog messages, and their way to a collector over TLS.

A message is RFC 5424, a frame RFC 5425: `<length in octets> <message>`. Facility 13, "log audit"; the severity follows CEF's.

Syslog acknowledges nothing. So each batch goes over a connection of its own, which ends by TLS's own orderly end: we say that
we are done (close_notify) and wait for the collector to say the same. It says so after it has read everything before it
(RFC 5425 §4.4 asks it to), and only then does the batch count as delivered. A collector that drops the connection, sends an
alert or ends of its own accord leaves the batch undelivered; it comes again, and duplicates are told by their log index.
Some collectors never answer a close_notify (rsyslog's GnuTLS driver; its OpenSSL driver does): for these the end of the TCP
connection can be taken for an answer, which is weaker.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.export.cef import cef_line
from audit.export.errors import DeliveryError, ExportError
from audit.export.facts import facts
from audit.export.fhir_parts import host_of
from audit.export.records import LogRecord
from audit.export.tls_session import TlsSession

PORT = 6514  # RFC 5425 §4.1
FACILITY = 13
_VERSION = 1
_NIL = "-"
MAX_HOSTNAME, MAX_MSGID = 255, 32  # RFC 5424 §6

Connect = Callable[[tuple[str, int], float], socket.socket]


def syslog_message(record: LogRecord) -> bytes:
    """The RFC 5424 message that carries the entry's CEF line."""
    priority = FACILITY * 8 + _severity(facts(record).severity)
    header = (
        f"<{priority}>{_VERSION}",
        record.header.time,
        host_of(record.origin)[:MAX_HOSTNAME] or _NIL,
        "bedside",
        _NIL,
        record.header.type[:MAX_MSGID],
        _NIL,
        cef_line(record),
    )
    return " ".join(header).encode()


def frame(message: bytes) -> bytes:
    """RFC 5425 §4.3: the message with its length in octets before it."""
    return b"%d %s" % (len(message), message)


def _severity(cef: int) -> int:
    """Syslog's severity: alert, error, warning, notice or informational."""
    return next(level for floor, level in ((10, 1), (8, 3), (6, 4), (4, 5), (0, 6)) if cef >= floor)


def tls_context(
    ca_file: Path | None, certificate_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that takes TLS 1.2 or newer, from a collector whose certificate names its host and leads to `ca_file`.

    Without `ca_file` the system's authorities are trusted. A certificate of our own is shown where one is given.

    Raises:
        ExportError: a file can't be read as what it should be.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=None if ca_file is None else str(ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file is not None:
            context.load_cert_chain(certificate_file, key_file)
    except (ssl.SSLError, OSError) as exc:
        message = f"TLS: {ca_file if certificate_file is None else certificate_file} can't be read as certificates"
        raise ExportError(message) from exc
    return context


@dataclass(frozen=True, slots=True)
class SyslogCollector:
    """A collector of syslog over TLS; a batch is delivered when `send` returns.

    Attributes:
        attempts: how often a batch is tried over a fresh connection before it counts as undelivered.
        pause_s: before the second attempt; twice as long before each one after.
        accept_fin: whether the end of the TCP connection counts as acknowledgement.
    """

    host: str
    port: int
    context: ssl.SSLContext
    sleep: Callable[[float], None]
    connect: Connect = socket.create_connection
    timeout_s: float = 10.0
    attempts: int = 3
    pause_s: float = 0.5
    accept_fin: bool = False

    def send(self, records: Sequence[LogRecord]) -> None:
        """Sends the records' messages in order.

        Raises:
            DeliveryError: no attempt was acknowledged, or the collector can't be trusted.
        """
        data = b"".join(frame(syslog_message(record)) for record in records)
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                self._send(data)
            except ssl.SSLCertVerificationError as exc:  # trying again won't make it trustworthy
                raise DeliveryError(self._named(f"certificate not trusted: {exc.verify_message}")) from exc
            except OSError as exc:
                failure = exc
            else:
                return
        raise DeliveryError(self._named(f"not acknowledged ({type(failure).__name__})")) from failure

    def _send(self, data: bytes) -> None:
        with self.connect((self.host, self.port), self.timeout_s) as plain:
            plain.settimeout(self.timeout_s)
            session = TlsSession(plain, self.context, self.host)
            session.send(data)
            session.end(accept_fin=self.accept_fin)

    def _named(self, what: str) -> str:
        return f"syslog collector {self.host}:{self.port}: {what}"
