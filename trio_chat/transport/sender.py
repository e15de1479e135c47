"""Sends to peers: what is ready for one of them in the same turn of the scheduler goes in one datagram, if it fits.

So sealing, system calls and task switches are paid for once. Nothing waits for a timer. When a message is sent at all
is decided in endpoint.py.
"""

from collections.abc import Iterable

import trio

from trio_chat.link.events import Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.frames import pack
from trio_chat.tasks import WakeUp
from trio_chat.transport.udp import DatagramSocket


class PeerSender:
    """Seals messages and sends them from this socket. Run `flush_loop` as a task."""

    def __init__(self, socket: DatagramSocket, links: Links) -> None:
        self.is_held = False
        """Set while many datagrams are read: the reader calls `flush` itself, and no task has to be woken."""
        self._socket = socket
        self._links = links
        # As keys: somebody who sends one request 64 times in a datagram gets one answer, not 64 datagrams.
        self._gathered: dict[Peer, dict[bytes, None]] = {}
        self._flush_due = WakeUp()

    def gather(self, peer: Peer, message: bytes) -> None:
        """Send this encoded message, with others for this peer, at the end of this turn; once, if it comes again."""
        self._gathered.setdefault(peer, {})[message] = None
        if not self.is_held:
            self._flush_due.set()

    def send(self, peer: Peer, message: bytes) -> None:
        """Send this encoded message now. What was gathered for this peer goes first: their order stays."""
        if peer in self._gathered:
            self._gathered[peer][message] = None
            self._flush_to(peer)
        else:
            self.transmit(self._links.send(peer, message, trio.current_time()))

    def flush(self) -> None:
        """Send what was gathered."""
        for peer in [*self._gathered]:
            self._flush_to(peer)

    async def flush_loop(self) -> None:
        """Send what is gathered, at the end of each turn, until cancelled."""
        while True:
            await self._flush_due.wait()
            self.flush()

    def moved(self, before: Peer, now: Peer) -> None:
        """A peer is at another address: what was gathered for it goes there."""
        if gathered := self._gathered.pop(before, None):
            self._gathered.setdefault(now, {}).update(gathered)

    def transmit(self, datagrams: Iterable[Transmit]) -> None:
        """Send these datagrams of the links."""
        for datagram in datagrams:
            self._socket.send(datagram.data, datagram.address)

    def _flush_to(self, peer: Peer) -> None:
        messages, now = self._gathered.pop(peer), trio.current_time()
        # Without a session the links keep each message until there is one, and a copy of it once: in a bundle they
        # would not know it again.
        for plaintext in pack(messages) if len(messages) > 1 and self._links.session(peer) else messages:
            self.transmit(self._links.send(peer, plaintext, now))
