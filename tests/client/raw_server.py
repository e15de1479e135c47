"""A server that a test controls by hand, and a client of it. The test decides what is handed over, and when.

The links are real, and so is the client. Virtual time over the network in memory.
"""

import secrets
from contextlib import asynccontextmanager

import trio

from tests.network import MemoryNetwork
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_IDENTITY, SERVER_KEY, identity_of
from trio_chat.client.events import TableChanged
from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import credentials, sign_link_key
from trio_chat.link.hellos import ServerKeys
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Batch, Busy, Deregister, GroupPost, Heartbeat, Register, TableChange, Taken
from trio_chat.protocol.records import Record, Version
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

EPOCH = b"epoch..1"
HOST = "10.0.1.1"


def credentials_of(name, identity=None):
    """What shows that a name belongs to this identity, by default to that of the name."""
    return credentials(identity or identity_of(name), name=name, server_key=SERVER_KEY)


class RawServer(RawPeer):
    """Registers everybody, sends a table in which the people in `rows` are offline, and answers nothing else by itself.

    `head`: the end of the log that it names at registrations.
    """

    def __init__(self, network: MemoryNetwork, *, rows: tuple[str, ...] = (), head: int = 0) -> None:
        super().__init__(network, SERVER, SERVER_IDENTITY)
        shown = ServerKeys(SERVER_IDENTITY.public, sign_link_key(SERVER_IDENTITY))
        self.links = Links(SERVER_IDENTITY.link, secrets.token_bytes, shown)
        self.answer = self._answer
        self.head = head
        self.private_rooms = 0
        self._rows = tuple(
            Record(name, "10.0.0.9", 6000, online=False, since=1.0, credentials=credentials_of(name)) for name in rows
        )

    def _answer(self, request):
        match request:
            case Register():
                self.client, self.name = self.received[-1][0], request.name
                version = Version(EPOCH, 1)
                self.send(self.client, request.registered(version, 1.0, 0, self.head, self.private_rooms))
                return TableChange(new_id(), Version(EPOCH, 0), version, self._rows)
            case Deregister():
                return request.deregistered()
            case GroupPost():
                return request.accepted()
            case Heartbeat():
                return request.ack()
        return None

    async def hand_over(self, *entries, senders=(), rooms=()) -> Taken | Busy | None:
        """Send a batch to the client. Returns its answer, if there is one within a second."""
        batch = Batch(new_id(), self.name, entries, tuple(senders), tuple(rooms))
        self.send(self.client, batch)
        await trio.sleep(1)
        answers = [answer for answer in [*self.of(Taken), *self.of(Busy)] if answer.id == batch.id]
        return answers[-1] if answers else None


class Client:
    """A person's chat with that server, and the events that it has shown, without changes of the table."""

    def __init__(self, chat, store) -> None:
        self.chat = chat
        self.store = store
        self.peer = Peer((HOST, 6000), identity_of(chat.name).public.link)
        self.shown = []

    async def show_events(self) -> None:
        """Read the events until cancelled."""
        async for event in self.chat.events:
            if not isinstance(event, TableChanged):
                self.shown.append(event)


@asynccontextmanager
async def open_client(network, name, *, store=None, clock=trio.current_time, listening=True, **options):
    """A client of the server at SERVER. At the end its program is killed."""
    store = store or MemoryClientStore()
    own = {"identity": identity_of(name), "store": store, "network": network, "clock": clock}
    with trio.CancelScope() as scope:
        async with (
            open_chat(name, SERVER, host=HOST, port=6000, **own, **options) as chat,
            trio.open_nursery() as nursery,
        ):
            client = Client(chat, store)
            if listening:
                nursery.start_soon(client.show_events)
            yield client
            scope.cancel()
