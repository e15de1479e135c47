"""Somebody on the network whom a test plays by hand: real links, and whatever it likes to say in them."""

import secrets
from contextlib import suppress

import trio

from tests.network import MemoryNetwork
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.links import Links, Received, Transmit
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Message, Register
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.transport.endpoint import new_id


class RawPeer:
    """One socket, one identity. Everything that is heard is written down; `answer` says what is answered, if at all."""

    def __init__(self, network: MemoryNetwork, address: Address, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.new(secrets.token_bytes)
        self.socket = network.bind(*address)
        self.links = Links(self.identity.link, secrets.token_bytes)
        self.heard: list[tuple[Peer, Message]] = []
        self.answer = lambda message: None

    @property
    def peer(self) -> Peer:
        """What the others know him by."""
        return Peer(self.socket.address, self.identity.public.link)

    def register(self, name: str, server_key: bytes, **changes) -> Register:
        """A registration that is in order, but for the changes."""
        own = credentials(self.identity, name=name, server_key=server_key)
        return Register(**({"id": new_id(), "name": name, "credentials": own, "program": new_id()} | changes))

    def says(self, peer: Peer, message: Message | bytes) -> None:
        """Sends a message, or other bytes, sealed."""
        data = message if isinstance(message, bytes) else encode(message)
        self._do(self.links.send(peer, data, trio.current_time()))

    def sends(self, data: bytes, address: Address) -> None:
        """Sends a datagram as it is."""
        self.socket.send(data, address)

    def of(self, kind: type) -> list[Message]:
        """What was heard of this kind."""
        return [message for _, message in self.heard if isinstance(message, kind)]

    async def listen(self) -> None:
        """Run this as a task."""
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
                    message = decode_untrusted(plaintext)
                    self.heard.append((peer, message))
                    if answer := self.answer(message):
                        self.says(peer, answer)
