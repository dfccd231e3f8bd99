"""A time limit on a whole HTTP exchange, which socket timeouts alone don't give: each byte that drips in renews them.

`Watchdog` runs a timer beside the exchange and shuts its socket; the pools tell it which socket that is. Knows urllib3, not
requests, and nothing of FHIR.
"""

import socket
import threading

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from fhir_adapters.outbound import AddressPolicy, open_socket


class Watchdog:
    """Shuts the socket of the request its thread is making when the time is up; `expired` tells that it did."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> "Watchdog":
        _watched.dog = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _watched.dog = None

    def watch(self, opened: socket.socket | None) -> None:
        self.socket = opened
        if self.expired:  # the time was up while connecting
            self._expire()

    def _expire(self) -> None:
        self.expired = True
        if self.socket is not None:
            try:
                # Not SSLSocket's own shutdown, which drops the TLS state under the reading thread.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
            except OSError:
                return  # it had ended by itself


class _Watched(threading.local):
    dog: Watchdog | None = None

    def note(self, connection: HTTPConnection) -> None:
        if self.dog is not None:
            self.dog.watch(connection.sock)


_watched = _Watched()


class _HTTPConnection(HTTPConnection):
    policy = AddressPolicy()

    def _new_conn(self) -> socket.socket:
        return open_socket(self, self.policy)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        _watched.note(self)
        return super().getresponse()


class _HTTPSConnection(HTTPSConnection):
    policy = AddressPolicy()

    def _new_conn(self) -> socket.socket:
        return open_socket(self, self.policy)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        _watched.note(self)
        return super().getresponse()


def pool_classes(policy: AddressPolicy) -> dict[str, type[HTTPConnectionPool]]:
    """Pools by scheme whose connections go only where `policy` lets them, and report their socket to the watchdog."""

    class WatchedHTTPPool(HTTPConnectionPool):
        ConnectionCls = type("Connection", (_HTTPConnection,), {"policy": policy})

    class WatchedHTTPSPool(HTTPSConnectionPool):
        ConnectionCls = type("Connection", (_HTTPSConnection,), {"policy": policy})

    return {"http": WatchedHTTPPool, "https": WatchedHTTPSPool}
