"""What is inside the sealed datagrams of a play: every session is overheard as it seals.

A test sees with it what nobody on the network can see. Handshakes carry nothing, and are None to it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from trio_chat.link.packets import DATA
from trio_chat.link.session import LinkSession
from trio_chat.protocol.messages import Message
from trio_chat.protocol.wire import decode_untrusted

MEMORY = 200_000


class Wiretap:
    """The plaintexts of the latest datagrams."""

    def __init__(self) -> None:
        self._plaintexts: OrderedDict[bytes, bytes] = OrderedDict()

    def hear(self, datagram: bytes, plaintext: bytes) -> None:
        self._plaintexts[datagram] = plaintext
        if len(self._plaintexts) > MEMORY:
            self._plaintexts.popitem(last=False)

    def message(self, datagram: bytes) -> Message | None:
        """The message in a datagram; None for handshakes, path challenges and empty ones."""
        plaintext = self._plaintexts.get(datagram)
        return decode_untrusted(plaintext) if plaintext else None


@contextmanager
def open_wiretap() -> Iterator[Wiretap]:
    """Overhear all sessions until the block ends."""
    tap, seal = Wiretap(), LinkSession.seal

    def overheard(self: LinkSession, plaintext: bytes, kind: int = DATA) -> bytes:
        datagram = seal(self, plaintext, kind)
        if kind == DATA:
            tap.hear(datagram, plaintext)
        return datagram

    LinkSession.seal = overheard
    try:
        yield tap
    finally:
        LinkSession.seal = seal
