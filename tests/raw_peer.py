"""A peer that a test controls by hand: real links, but it sends any message that the test wants.

Answers come only from the `answer` function of the test.
"""

import secrets
from contextlib import suppress

import trio

from tests.network import MemoryNetwork
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.events import Received, Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.frames import unpack_untrusted
from trio_chat.protocol.messages import Message, Register
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.transport.ids import new_id


class RawPeer:
    """One socket, one identity. `received`: all messages so far; `answer` returns the answer to a message, or None."""

    def __init__(self, network: MemoryNetwork, address: Address, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.new(secrets.token_bytes)
        self.socket = network.bind(*address)
        self.links = Links(self.identity.link, secrets.token_bytes)
        self.received: list[tuple[Peer, Message]] = []
        self.answer = lambda message: None

    @property
    def peer(self) -> Peer:
        """The address and key that others use for this peer."""
        return Peer(self.socket.address, self.identity.public.link)

    def register(self, name: str, server_key: bytes, **changes) -> Register:
        """A valid Register, with these changes."""
        own = credentials(self.identity, name=name, server_key=server_key)
        return Register(**({"id": new_id(), "name": name, "credentials": own, "program": new_id()} | changes))

    def send(self, peer: Peer, message: Message | bytes) -> None:
        """Send a message, or other bytes, sealed."""
        data = message if isinstance(message, bytes) else encode(message)
        self._do(self.links.send(peer, data, trio.current_time()))

    def of(self, kind: type) -> list[Message]:
        """The messages of this class that were received."""
        return [message for _, message in self.received if isinstance(message, kind)]

    async def listen(self) -> None:
        """Receive and answer until cancelled."""
        while True:
            for data, source in await self.socket.receive_batch():
                with suppress(WireError):
                    self._do(self.links.receive_untrusted(data, source, trio.current_time()))

    def _do(self, steps) -> None:
        for step in steps:
            match step:
                case Transmit(data, address):
                    self.socket.send(data, address)
                case Received(peer, plaintext):
                    for message in map(decode_untrusted, unpack_untrusted(plaintext)):
                        self.received.append((peer, message))
                        if answer := self.answer(message):
                            self.send(peer, answer)
