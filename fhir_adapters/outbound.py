"""The one way out: which addresses may be connected to, checked on the very address that is connected to.

An allow-list of URLs alone doesn't say where a name leads: whoever answers for the name decides, and may answer otherwise
the next moment (DNS rebinding). So a name is resolved once, its addresses are judged, and the socket is connected to a
judged address; TLS still asks for the name. Private networks, where hospitals' servers lie, are opened one by one by the
configuration; this machine itself only where the URL says so literally.

Knows urllib3, and neither requests nor FHIR; the connection classes that call `open_socket` are the watchdog's.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[..., Sequence[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
# What `is_global` lets through, in some versions of Python, and nobody's server has.
_NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # the host's agent, as a virtual machine in Azure sees it
    IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890; also a metadata service of Oracle's cloud
    IPv4Network("192.88.99.0/24"),  # 6to4 anycast, RFC 7526
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
    IPv6Network("fec0::/10"),  # site-local, RFC 3879
)
_CONNECT_AT_LEAST_S = 0.25  # of several addresses; less would give up on one that is merely far away


class AddressRefusedError(OSError):
    """Every address of the host is one that may not be contacted; none was."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses may be connected to, and those in `networks`; loopback where the URL's host is loopback itself."""

    networks: tuple[Network, ...] = ()
    resolve: Resolve = socket.getaddrinfo

    def permits(self, address: Address, host: str) -> bool:
        """Whether `address`, to which the URL's `host` resolved, may be connected to."""
        real = _unwrapped(address)
        is_loopback_host = host.lower().strip("[]") in LOOPBACK_HOSTS
        if real.is_loopback or is_loopback_host:  # also the other way: http is let through for such a host
            return real.is_loopback and is_loopback_host
        if any(real.version == network.version and real in network for network in self.networks):
            return not (real.is_multicast or real.is_unspecified)
        if any(real.version == network.version and real in network for network in _NOT_PUBLIC):
            return False
        return real.is_global and not (real.is_multicast or real.is_reserved or real.is_unspecified)

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A socket connected to an address of `host` that may be.

        Raises:
            AddressRefusedError: none may.
            OSError: none answers, or the name doesn't resolve.
        """
        if _is_odd_spelling(host):
            raise AddressRefusedError("address: expected a name or a plain address, got another spelling")
        deadline = time.monotonic() + timeout_s
        found = self._resolved(host, port, timeout_s)
        allowed = [one for one in found if self.permits(ipaddress.ip_address(one[4][0].partition("%")[0]), host)]
        if not allowed:
            raise AddressRefusedError("address: expected one that may be contacted, got none")
        failure: OSError = TimeoutError("no address answered in time")
        for place, (family, kind, protocol, _, address) in enumerate(allowed):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            share = left / (len(allowed) - place)  # so that a dead address leaves time for the next
            try:
                return _connected(family, kind, protocol, address, min(left, max(share, _CONNECT_AT_LEAST_S)))
            except OSError as exc:
                failure = exc
        raise failure

    def _resolved(self, host: str, port: int, timeout_s: float) -> Sequence[tuple[Any, ...]]:
        """The host's addresses; a resolver that hangs is left behind at the time limit."""
        answers: list[Sequence[tuple[Any, ...]] | OSError] = []

        def ask() -> None:
            try:
                answers.append(self.resolve(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as exc:
                answers.append(exc if isinstance(exc, OSError) else OSError("name can't be resolved"))

        if _is_address(host):  # nobody has to be asked
            ask()
        else:
            thread = threading.Thread(target=ask, name="resolve", daemon=True)
            thread.start()
            thread.join(timeout_s)
        if not answers:
            raise TimeoutError("name was not resolved in time")
        if isinstance(answers[0], OSError):
            raise answers[0]
        return answers[0]


def open_socket(connection: HTTPConnection, policy: AddressPolicy) -> socket.socket:
    """What urllib3's `_new_conn` gives, under `policy`; for connection classes to call.

    Raises:
        ConnectTimeoutError: none was connected to in time.
        NewConnectionError: no address of the host may be contacted, or none answers.
    """
    timeout_s = connection.timeout if isinstance(connection.timeout, int | float) else 60.0
    deadline = time.monotonic() + timeout_s
    try:
        opened = policy.connect(connection.host, int(connection.port), timeout_s)
    except TimeoutError as exc:
        raise ConnectTimeoutError(connection, "not connected in time") from exc
    except OSError as exc:
        raise NewConnectionError(connection, "not connected") from exc
    # What is left bounds the TLS handshake as a whole; for the exchange urllib3 sets its own.
    opened.settimeout(max(deadline - time.monotonic(), 0.001))
    for option in connection.socket_options or ():
        opened.setsockopt(*option)
    return opened


def was_refused(error: BaseException | None) -> bool:
    """Whether an `AddressRefusedError` is behind `error`."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, AddressRefusedError):
            return True
        seen.add(id(error))
        reason = getattr(error, "reason", None)
        inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = reason if isinstance(reason, BaseException) else (error.__cause__ or inner or error.__context__)
    return False


def _connected(family: int, kind: int, protocol: int, address: Any, timeout_s: float) -> socket.socket:
    opened = socket.socket(family, kind, protocol)
    try:
        opened.settimeout(timeout_s)
        opened.connect(address)
    except OSError:
        opened.close()
        raise
    return opened


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that leads to it: mapped, 6to4, NAT64 (RFC 6052).

    Not so for Teredo (RFC 4380), which leads to two, nor for local NAT64 (RFC 8215), where the site chooses which bits are the
    address: both stay what they are, not public.
    """
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_odd_spelling(host: str) -> bool:
    """Whether C libraries would read `host` as an address that Python's `ipaddress` doesn't: 127.1, 0x7f.1, 2130706433."""
    if _is_address(host):
        return "%" in host
    last = host.rstrip(".").rpartition(".")[2]
    return not host.isascii() or not last or last.isdecimal() or last.lower().startswith("0x")
