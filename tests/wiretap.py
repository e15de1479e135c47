"""Records the plaintext of every datagram that a session seals, so that a test can read sealed datagrams.

Handshakes have no plaintext.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from trio_chat.link.packets import DATA
from trio_chat.link.session import LinkSession
from trio_chat.protocol.frames import unpack_untrusted
from trio_chat.protocol.messages import Message
from trio_chat.protocol.wire import decode_untrusted

MEMORY = 200_000


class Wiretap:
    """The plaintexts of the latest datagrams."""

    def __init__(self) -> None:
        self._plaintexts: OrderedDict[bytes, bytes] = OrderedDict()

    def record(self, datagram: bytes, plaintext: bytes) -> None:
        self._plaintexts[datagram] = plaintext
        if len(self._plaintexts) > MEMORY:
            self._plaintexts.popitem(last=False)

    def messages(self, datagram: bytes) -> list[Message]:
        """The messages in a datagram; none in handshakes, path challenges and empty ones."""
        plaintext = self._plaintexts.get(datagram)
        return [decode_untrusted(data) for data in unpack_untrusted(plaintext)] if plaintext else []

    def carries(self, datagram: bytes, kind: type) -> bool:
        """Whether a message of this class is in a datagram."""
        return any(isinstance(message, kind) for message in self.messages(datagram))


@contextmanager
def open_wiretap() -> Iterator[Wiretap]:
    """Record the plaintexts of all sessions until the block ends."""
    tap, seal = Wiretap(), LinkSession.seal

    def recorded(self: LinkSession, plaintext: bytes, kind: int = DATA) -> bytes:
        datagram = seal(self, plaintext, kind)
        if kind == DATA:
            tap.record(datagram, plaintext)
        return datagram

    LinkSession.seal = recorded
    try:
        yield tap
    finally:
        LinkSession.seal = seal
