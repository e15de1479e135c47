"""Sockets for searches: what one sends, all receive that listen on the same local network.

What is searched for, and how that is answered, is in client/search.py and server/searches.py.
"""

import socket
import sys
from contextlib import suppress
from typing import Any, Protocol

import trio

from trio_chat.errors import AddressError
from trio_chat.protocol.records import Address

SEARCH_HOST, SEARCH_PORT = "239.255.84.67", 25084
"""Where servers listen for searches: a multicast group of the local scope (RFC 2365, section 6.1)."""

HOPS = 255
"""The time to live of a search. Each router on the way lowers it: with this one, it comes from the same network."""

JOIN_EVERY = 30.0
"""Seconds after which a socket that listens joins the group again, on networks that have come since."""

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
        """Send a search to each network of this machine. What cannot be sent is lost."""
        ...

    def close(self) -> None:
        """Release the port."""
        ...


class MulticastSocket:
    """A real one, over IPv4. `listens`: it receives searches. Raises AddressError if it cannot."""

    def __init__(self, *, listens: bool) -> None:
        self._listens = listens
        if listens and sys.platform not in _RECEIVE_HOPS:
            raise AddressError("on this system a server does not find out whether a search comes from its own network")
        try:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise AddressError(f"this machine has no IPv4: {error.strerror}") from error
        try:
            opened.setblocking(False)
            if listens:
                _listen(opened)
            else:
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
                opened.bind(("", 0))
        except OSError as error:
            opened.close()
            raise AddressError(f"cannot listen on {SEARCH_HOST}:{SEARCH_PORT}: {error.strerror}") from error
        self._socket = trio.socket.from_stdlib_socket(opened)
        self._join_at = float("inf")
        if listens:
            self._join()

    async def receive(self) -> tuple[bytes, Address]:
        while True:
            if trio.current_time() >= self._join_at:
                self._join()
            with trio.move_on_at(self._join_at):
                try:
                    data, hops, source = await (self._search() if self._listens else self._answer())
                except OSError as error:
                    if self._socket.fileno() < 0:
                        raise trio.ClosedResourceError("this socket is closed") from error
                    continue  # as in UdpSocket: somebody could not be reached by what was sent before
                if hops == HOPS:
                    return data, source

    def _join(self) -> None:
        self._join_at = trio.current_time() + JOIN_EVERY
        group = socket.inet_aton(SEARCH_HOST)
        for own in _own_addresses():
            # It may have joined there before, or the network carries no multicast.
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + own)

    async def _answer(self) -> tuple[bytes, int, Address]:
        data, source = await self._socket.recvfrom(LONGEST)
        return data, HOPS, source

    async def _search(self) -> tuple[bytes, int, Address]:
        received: tuple[Any, ...] = await self._socket.recvmsg(LONGEST, socket.CMSG_SPACE(4))
        data, about, _, source = received
        return data, int.from_bytes(about[0][2], sys.byteorder) if about else 0, source

    async def send(self, data: bytes) -> None:
        for own in _own_addresses():
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
                await self._socket.sendto(data, (SEARCH_HOST, SEARCH_PORT))

    def close(self) -> None:
        self._socket.close()


def _listen(opened: socket.socket) -> None:
    opened.setsockopt(socket.IPPROTO_IP, _RECEIVE_HOPS[sys.platform], 1)
    # Several servers on one machine all get each search.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "darwin":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Not to every address: what is sent to this port of the machine alone is no search.
    opened.bind((SEARCH_HOST, SEARCH_PORT))


def _own_addresses() -> list[bytes]:
    """An IPv4 address of this machine on each of its networks, as the options for multicast take it."""
    # Only here, as most programs never search. By addresses, not by interfaces: these options of macOS and Windows know
    # no others, and Linux lets a socket join on 20 interfaces only, of which a machine with containers has more.
    import ifaddr

    try:
        own = [[str(one.ip) for one in adapter.ips if one.is_IPv4] for adapter in ifaddr.get_adapters()]
    except OSError:
        return []
    return [socket.inet_aton(addresses[0]) for addresses in own if addresses]
