"""Links that seal nothing, for tests of what is above them: who sends from an address has the key of that address."""

from trio_chat.link.links import LinkEvent, Received, Transmit
from trio_chat.link.session import Peer
from trio_chat.protocol.records import Address


def plain_peer(address: Address) -> Peer:
    """Whoever is at this address."""
    return Peer(address, repr(address).encode())


class PlainLinks:
    """Takes the place of `Links`."""

    def hello(self, address: Address) -> list[Transmit]:
        raise NotImplementedError("nobody has keys here")

    def send(self, peer: Peer, plaintext: bytes, now: float) -> list[Transmit]:
        return [Transmit(plaintext, peer.address)]

    def receive_untrusted(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        return [Received(plain_peer(address), datagram)]

    def sweep(self, now: float) -> None:
        pass
