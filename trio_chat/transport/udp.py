"""The socket of a party, and the interfaces for which tests have a network of their own.

Bytes and addresses only: what they mean is known in endpoint.py.
"""

import errno
import re
import socket
import sys
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Protocol

import trio

from trio_chat.errors import AddressError
from trio_chat.protocol.records import Address
from trio_chat.transport.multicast import MulticastSocket, SearchSocket

BATCH = 256
BUFFER = 4 * 1024 * 1024
_MAPPED = "::ffff:"
_MAY_BE_CUT = (10, 0)
"""IP_MTU_DISCOVER and IP_PMTUDISC_DONT of Linux, which Python has no names for. Other systems do not need it."""
_LINK_LOCAL = re.compile("fe[89ab].:", re.IGNORECASE)


class DatagramSocket(Protocol):
    """One party's datagrams."""

    @property
    def address(self) -> Address:
        """Where this socket is bound."""
        ...

    async def receive_batch(self) -> list[tuple[bytes, Address]]:
        """Wait for a datagram; return all that have arrived, at most 256. Raises ClosedResourceError after `close`."""
        ...

    def send(self, data: bytes, address: Address) -> None:
        """Send without waiting. What cannot be sent now is lost, as any datagram may be."""
        ...

    def own_address(self, towards: Address) -> Address | None:
        """The address from which what is sent to that address goes; None if there is no way to it."""
        ...

    def close(self) -> None:
        """Release the port."""
        ...


class Network(Protocol):
    """Makes sockets and finds addresses."""

    def bind(self, host: str | None, port: int) -> DatagramSocket:
        """Bind to `host` (numeric; None is every interface) and `port` (0: any that is free). Raises AddressError."""
        ...

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The numeric addresses of a host, the preferred one first. Raises AddressError if there is none.

        `host` is a name or a numeric address; IPv6 may be in brackets.
        """
        ...

    def open_search(self, *, listens: bool) -> SearchSocket:
        """Open a socket that sends searches, or, if it `listens`, one that receives them. Raises AddressError."""
        ...


class UdpSocket:
    """A real UDP socket. Bound to every interface it is dual-stack, where the machine has IPv6.

    Raises AddressError when it cannot be bound.
    """

    def __init__(self, host: str | None, port: int) -> None:
        self.lost = 0
        """Datagrams that the operating system did not accept, and errors that it returned instead of one."""
        _check_port(port)
        try:
            self._socket = _open_bound(host, port)
        except OSError as error:
            raise AddressError(f"cannot listen on {host or '*'}:{port}: {_reason(error)}") from error
        self._family = self._socket.family  # the attribute makes a new enum member each time
        self.address: Address = _from_system(self._socket.getsockname())

    async def receive_batch(self) -> list[tuple[bytes, Address]]:
        batch: list[tuple[bytes, Address]] = []
        while not batch:
            if self._socket.fileno() < 0:
                raise trio.ClosedResourceError("this socket is closed")
            await trio.lowlevel.wait_readable(self._socket)
            # Drained in a batch, as each wait costs a turn of the scheduler. Bounded, so that a flood does not keep the
            # other tasks from running.
            try:
                for _ in range(BATCH):
                    data, source = self._socket.recvfrom(65536)
                    batch.append((data, _from_system(source)))
            except BlockingIOError:
                pass
            except OSError:
                # Some systems report here that the peer of an earlier send is unreachable. The request that was sent
                # to it finds that out by itself, as it gets no answer.
                self.lost += 1
        return batch

    def send(self, data: bytes, address: Address) -> None:
        try:
            self._socket.sendto(data, (_to_system(address[0], self._family), address[1]))
        except (OSError, OverflowError):
            self.lost += 1

    def own_address(self, towards: Address) -> Address | None:
        host, port = self.address
        if not ip_address(host.partition("%")[0]).is_unspecified:
            return self.address
        # Connecting a UDP socket only looks up the route: nothing is sent.
        with suppress(OSError, OverflowError), socket.socket(self._family, socket.SOCK_DGRAM) as probe:
            probe.connect((_to_system(towards[0], self._family), towards[1]))
            return (_from_system(probe.getsockname())[0], port)
        return None

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            # First: a task that waits in `receive_batch` is woken, and does not wait for another socket that gets the
            # same file number.
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class UdpNetwork:
    """The network of this machine."""

    def bind(self, host: str | None, port: int) -> UdpSocket:
        return UdpSocket(host, port)

    def open_search(self, *, listens: bool) -> MulticastSocket:
        return MulticastSocket(listens=listens)

    async def resolve(self, host: str, port: int) -> list[Address]:
        _check_port(port)
        family = socket.AF_UNSPEC if socket.has_dualstack_ipv6() else socket.AF_INET
        # `[::1]`, as IPv6 is written in URLs (RFC 3986, section 3.2.2). No host name has a colon.
        bare = host[1:-1] if ":" in host and host.startswith("[") and host.endswith("]") else host
        try:
            found = await trio.socket.getaddrinfo(bare, None, family=family, type=socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:
            raise AddressError(f"cannot find the host {host!r}: {_reason(error)}") from error
        hosts = dict.fromkeys(_from_system(sockaddr)[0] for *_, sockaddr in found)
        # A link-local address is of no use without the name of an interface, which the client table does not carry.
        usable = [(numeric, port) for numeric in hosts if not _LINK_LOCAL.match(numeric)]
        if not usable:
            raise AddressError(f"cannot use the host {host!r}: it has link-local addresses only")
        return usable


UDP = UdpNetwork()


def own_addresses() -> list[str]:
    """The addresses from which this machine reaches others, IPv4 first; at most one of each kind. Nothing is sent."""
    found: list[str] = []
    # Connecting a UDP socket only looks up the route. The addresses are for documentation (RFC 5737, RFC 3849).
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            host = str(probe.getsockname()[0])
            if not (ip_address(host).is_loopback or ip_address(host).is_unspecified or _LINK_LOCAL.match(host)):
                found.append(host)
    return found


def _check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise AddressError(f"not a port: {port}")


def _open_bound(host: str | None, port: int) -> socket.socket:
    six = ":" in host if host else socket.has_dualstack_ipv6()
    opened = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if sys.platform == "linux":
            # Otherwise a router that carries less than our longest datagrams drops them, and where it may not say so
            # (ICMP is often filtered) they never arrive. It cuts them in pieces if it may. With IPv6 each network
            # carries 1,280 bytes, which is enough. A dual-stack socket takes the option, too.
            opened.setsockopt(socket.IPPROTO_IP, *_MAY_BE_CUT)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with suppress(OSError):  # some systems refuse a size that they do not allow; the default works too
                opened.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        if six:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if sys.platform == "win32":  # otherwise another program could bind the same port and take the datagrams
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        anywhere = "::" if six else "0.0.0.0"  # noqa: S104 - a chat for a network listens to all of it
        opened.bind((_to_system(host or anywhere, opened.family), port))
    except OSError:
        opened.close()
        raise
    return opened


@lru_cache(maxsize=4096)
def _to_system(host: str, family: int) -> str:
    """The host in the form that a socket of this family takes. Raises OSError for names: sendto() would look them up,
    and block all tasks until then."""
    if family == socket.AF_INET6 and ":" not in host:
        host = _MAPPED + host
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError) as error:
        raise OSError(errno.EINVAL, "not a numeric address") from error
    return host


def _from_system(address: tuple[Any, ...]) -> Address:
    host, port = address[:2]
    return (host.removeprefix(_MAPPED) if "." in host else host, port)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "the port is in use"
    if isinstance(error, UnicodeError):
        return "not a host name"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
