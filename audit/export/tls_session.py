"""A TLS connection whose end can be told: by the peer's close_notify, or in any other way.

The standard library's sockets hide that: `SSLSocket.unwrap` also returns when the answer to our close_notify was an alert, as
the one to a client certificate that is missing, which TLS 1.3 sends only after the handshake. So the TLS engine works on
buffers here (`ssl.MemoryBIO`), and the bytes are carried by us.
"""

import select
import socket
import ssl
from collections.abc import Callable

_CHUNK = 1 << 16


class TlsSession:
    """The client's side of one connection over a socket that has a timeout."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shakes hands with `host`.

        Raises:
            ssl.SSLCertVerificationError: the host can't be trusted.
            OSError: it failed otherwise.
        """
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._run(self._engine.do_handshake)

    def send(self, data: bytes) -> None:
        """Sends all of `data`; raises OSError."""
        self._engine.write(data)
        self._flush()

    def end(self, *, accept_fin: bool = False) -> None:
        """Returns when the peer, having read all that was sent, has answered our close_notify by its own.

        With `accept_fin` the end of the TCP connection is an answer too. It says less: that nothing was left unread, for then
        the connection would have been reset.

        Raises:
            OSError: it ended in any other way, or before we did.
        """
        self._refuse_early_end()
        try:
            self._engine.unwrap()
        except ssl.SSLWantReadError:  # written, and nothing of the answer is there to be read
            self._flush()
        else:
            raise ConnectionAbortedError("the peer ended first")
        try:
            self._run(lambda: self._engine.read(1))
        except ssl.SSLZeroReturnError:
            return
        except ssl.SSLEOFError:
            if accept_fin:
                return
            raise
        raise ConnectionAbortedError("the peer spoke where it should have ended")

    def _refuse_early_end(self) -> None:
        """Takes in what has come already: session tickets and the like, but neither data nor an end."""
        while select.select([self._plain], [], [], 0)[0]:
            self._receive()
            try:
                self._engine.read(1)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLZeroReturnError:
                pass
            raise ConnectionAbortedError("the peer spoke or ended first")

    def _run(self, operation: Callable[[], object]) -> None:
        """Does `operation`, with as much to and fro as it needs."""
        while True:
            try:
                operation()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())

    def _receive(self) -> None:
        if data := self._plain.recv(_CHUNK):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
