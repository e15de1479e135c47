"""A client of the chat that costs little: a socket, a link, and the answers that keep it online. It shows nothing."""

import os
import secrets
import socket
import time
from contextlib import suppress

from shared.processes import HOST

from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.events import Received, Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.frames import unpack_untrusted
from trio_chat.protocol.messages import Batch, Heartbeat, Part, Register, Registered, TableChange, TableHeld
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.wire import WireError, decode_untrusted, encode


class Client:
    """One session: answers whatever the server sends, and counts nothing twice."""

    def __init__(self, address, server_keys):
        self._identity = Identity.new(secrets.token_bytes)
        self._server = Peer(address, server_keys.link)
        self._server_key = server_keys.signing
        self._links = Links(self._identity.link, secrets.token_bytes)
        self._assembly = Assembly()
        self._table = b""
        self._position = 0
        self.registered = None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((HOST, 0))
        self.socket.connect(address)

    @property
    def peer(self):
        """What the server knows this client by."""
        return Peer(self.socket.getsockname(), self._identity.public.link)

    def register(self, name):
        """The request that registers a name."""
        own = credentials(self._identity, name=name, server_key=self._server_key)
        return Register(os.urandom(16), name, own, program=bytes(16))

    def send(self, message):
        """Seal and send a message."""
        self._do(self._links.send(self._server, encode(message), time.monotonic()))

    def receive(self):
        """Read one datagram. Returns the answers in it, and the entries that have not come before."""
        with suppress(BlockingIOError, WireError):
            datagram = self.socket.recv(2048)
            return self._do(self._links.receive_untrusted(datagram, self._server.address, time.monotonic()))
        return ()

    def _do(self, steps):
        taken = []
        for step in steps:
            match step:
                case Transmit(data):
                    self.socket.send(data)
                case Received(_, plaintext):
                    taken += [one for data in unpack_untrusted(plaintext) for one in self._take(decode_untrusted(data))]
        return taken

    def _take(self, message):
        match message:
            case Batch():
                self.send(message.taken(len(message.entries), ()))
                new = [entry for entry in message.entries if entry.seq > self._position]
                self._position = max(self._position, message.entries[-1].seq)
                return new
            case Part(of=TableChange.kind, id=id_) if self._table in (b"", id_):
                # The table is not measured: to its first page the client answers at once that it has all of it.
                self._table = id_
                self.send(TableHeld(TableChange.kind, id_, self.registered.version))
            case TableChange():
                self.send(message.held(message.after))
            case Part():
                part_ack, whole = self._assembly.add(message.id, message)
                self.send(part_ack)
                if whole:
                    self._assembly.drop(message.id)
                    return self._take(decode_untrusted(whole))
            case Heartbeat():
                self.send(message.ack())
            case Registered():
                self.registered = message
            case _:
                return (message,)
        return ()
