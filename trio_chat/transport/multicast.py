"""Sockets for searches: what one sends, all receive that listen on the same local network.

What is searched for, and how that is answered, is in client/search.py and server/searches.py.
"""

import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Protocol

import trio

from trio_chat.errors import AddressError
from trio_chat.protocol.records import Address

SEARCH_HOST, SEARCH_PORT = "239.255.84.67", 25084
"""Where servers listen for searches: a multicast group that stays within an organization (RFC 2365, section 6.1)."""

HOPS = 255
"""The time to live of a search. Each router on the way lowers it: with this one, it comes from the same network."""

LONGEST = 2048
"""Bytes of the longest datagram that is read. All that can be understood are much shorter."""

_RECEIVE_HOPS = {"linux": 12, "darwin": 24}
"""IP_RECVTTL, which Python has no name for."""


class SearchSocket(Protocol):
    """Sends searches and receives what answers them; or receives searches."""

    async def receive(self) -> tuple[bytes, Address]:
        """Wait for a datagram, and return it with its source. A search that comes from elsewhere is left out."""
        ...

    async def send(self, data: bytes) -> None:
        """Send a search through each interface. What cannot be sent is lost."""
        ...

    def close(self) -> None:
        """Release the port."""
        ...


class MulticastSocket:
    """A real one, over IPv4. `listens`: it receives searches. Raises AddressError if it cannot."""

    def __init__(self, *, listens: bool) -> None:
        self._listens = listens
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            try:
                opened.setblocking(False)
                if listens:
                    _join(opened)
                else:
                    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
            except OSError as error:
                raise AddressError(f"cannot listen on {SEARCH_HOST}:{SEARCH_PORT}: {error.strerror}") from error
            self._socket = trio.socket.from_stdlib_socket(opened.dup())

    async def receive(self) -> tuple[bytes, Address]:
        while True:
            try:
                data, hops, source = await (self._search() if self._listens else self._answer())
            except OSError as error:
                if self._socket.fileno() < 0:
                    raise trio.ClosedResourceError("this socket is closed") from error
                continue  # as in UdpSocket: somebody could not be reached by what was sent before
            if hops == HOPS:
                return data, source

    async def _answer(self) -> tuple[bytes, int, Address]:
        data, source = await self._socket.recvfrom(LONGEST)
        return data, HOPS, source

    async def _search(self) -> tuple[bytes, int, Address]:
        received: tuple[Any, ...] = await self._socket.recvmsg(LONGEST, socket.CMSG_SPACE(4))
        data, about, _, source = received
        return data, int.from_bytes(about[0][2], sys.byteorder) if about else 0, source

    async def send(self, data: bytes) -> None:
        for interface in _interfaces():
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
                await self._socket.sendto(data, (SEARCH_HOST, SEARCH_PORT))

    def close(self) -> None:
        self._socket.close()


def _join(opened: socket.socket) -> None:
    if sys.platform not in _RECEIVE_HOPS:
        raise AddressError("on this system a server does not find out whether a search comes from its own network")
    opened.setsockopt(socket.IPPROTO_IP, _RECEIVE_HOPS[sys.platform], 1)
    # Several servers on one machine all get each search.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "darwin":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Not to every address: what is sent to this port of the machine alone is no search.
    opened.bind((SEARCH_HOST, SEARCH_PORT))
    joined = 0
    for interface in _interfaces():
        with suppress(OSError):  # it may be down, or carry no multicast
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)
            joined += 1
    if not joined:
        raise AddressError("no interface of this machine takes part in multicast")


def _interfaces() -> list[bytes]:
    """Each interface, as the struct ip_mreqn that the options for multicast take."""
    group, any_address = socket.inet_aton(SEARCH_HOST), bytes(4)
    return [struct.pack("=4s4si", group, any_address, index) for index, _ in socket.if_nameindex()]
