"""Links without encryption, for tests of the endpoint: the key of a peer follows from its address."""

from trio_chat.link.events import LinkEvent, Received, Transmit
from trio_chat.link.session import Peer
from trio_chat.protocol.records import Address


def plain_peer(address: Address) -> Peer:
    """The peer at this address."""
    return Peer(address, repr(address).encode())


class PlainLinks:
    """Replaces `Links`."""

    def hello(self, address: Address) -> list[Transmit]:
        raise NotImplementedError("there are no keys here")

    def send(self, peer: Peer, plaintext: bytes, now: float) -> list[Transmit]:
        return [Transmit(plaintext, peer.address)]

    def receive_untrusted(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        return [Received(plain_peer(address), datagram)]

    def session(self, peer: Peer) -> bytes:
        return b"as if there was one"

    def round_trip(self, peer: Peer) -> float:
        return 0.0

    def progressed_at(self, peer: Peer, now: float) -> float:
        return float("-inf")

    def sweep(self, now: float) -> None:
        pass
