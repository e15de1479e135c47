"""A real server and real clients on a network in memory, in virtual time.

Each client is an `open_chat` in its own task, which records the events. No test waits in real time: with
`autojump_clock` the clock jumps whenever all tasks wait. So everything happens in the same order in each run.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path

import trio

from tests.network import MemoryNetwork
from tests.wiretap import Wiretap, open_wiretap
from trio_chat.client.chat import Chat
from trio_chat.client.events import Event, TableChanged
from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import Identity
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.messages import Ack, Message
from trio_chat.protocol.records import Address, Record, fold
from trio_chat.server.moderation import RegistrationMode
from trio_chat.server.server import serve_chat
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.server_memory import MemoryServerStore

SERVER = ("10.0.0.1", 5000)
SERVER_IDENTITY = Identity(b"s" * 32, b"S" * 32)
SERVER_KEY = SERVER_IDENTITY.public.signing
SERVER_PEER = Peer(SERVER, SERVER_IDENTITY.public.link)


@cache
def identity_of(name: str) -> Identity:
    """The keys of a person, the same in each test."""
    secret = fold(name).encode().ljust(32, b".")
    return Identity(secret, secret[::-1])


IDENTITIES: dict[str, Identity] = {}
"""The keys of those who have others than by `identity_of`."""


class Person:
    """One person: their chat, the events that they were shown, and a way to kill their program."""

    def __init__(self, chat: Chat, host: str, store: MemoryClientStore, scope: trio.CancelScope) -> None:
        self.chat = chat
        self.host = host
        self.store = store
        self.received: list[Event] = []
        self.table_changes = 0
        self.dead = trio.Event()
        self._scope = scope

    async def kill(self) -> None:
        """End the program as a power cut would: the server gets no message."""
        self._scope.cancel()
        await self.dead.wait()

    def texts(self) -> list[str]:
        """The texts that were shown, in order."""
        return [event.text for event in self.received if hasattr(event, "text")]


def acknowledges(message: Message, kind: type) -> bool:
    """Whether this is the Ack of a request of this kind."""
    return isinstance(message, Ack) and message.of == kind.kind


class Stage:
    """The server and the network of one test. Only `pass_time` lets time pass."""

    def __init__(self, network: MemoryNetwork, nursery: trio.Nursery, tap: Wiretap) -> None:
        self.network = network
        self.tap = tap
        self.identity = SERVER_IDENTITY
        self.identities = dict(IDENTITIES)
        self.host = SERVER[0]
        self.limits = LIMITS
        self.registration = RegistrationMode.OPEN
        self.control: Callable[[int], Path] | None = None
        self.server_store = MemoryServerStore()
        self.changes: list[Record] = []
        self._nursery = nursery
        self._server_scope = trio.CancelScope()
        self._server_dead = trio.Event()
        self._hosts = itertools.count()

    async def start_server(self, store: MemoryServerStore | None = None) -> None:
        """Start the server, or start it again."""
        if store is not None:
            self.server_store = store
        await self._nursery.start(self._serve)

    async def kill_server(self) -> None:
        """End the server as a power cut would."""
        self._server_scope.cancel()
        await self._server_dead.wait()

    async def enter(
        self,
        name: str,
        *,
        host: str | None = None,
        port: int = 6000,
        store: MemoryClientStore | None = None,
        identity: Identity | None = None,
        invitation: str = "",
        listening: bool = True,
        reconnect: bool = False,
    ) -> Person:
        """Open a chat for a person, by default at a host of their own and with the keys of that name.

        `listening`: read the events and record them.
        """
        if host is None:
            number = next(self._hosts)
            host = f"10.0.{1 + number // 200}.{1 + number % 200}"
        identity, store = identity or self.identities.get(name) or identity_of(name), store or MemoryClientStore()
        return await self._nursery.start(
            partial(self._run_client, name, host, port, identity, store, invitation, listening, reconnect)
        )

    async def pass_time(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        await trio.sleep(seconds)

    def lose(self, fits: Callable[[Message, Address, Address], bool], *, times: int = 1_000_000) -> None:
        """Lose the next datagrams for which `fits(message, source, destination)`, at most `times` of them."""
        left = [times]

        def passes(data: bytes, source: Address, destination: Address) -> bool:
            is_lost = left[0] > 0 and any(fits(one, source, destination) for one in self.tap.messages(data))
            left[0] -= is_lost
            return not is_lost

        self.network.filters.append(passes)

    def sent(self, kind: type, *, source: str | None = None, destination: str | None = None) -> list[Message]:
        """The messages of this kind that were sent over the network so far, from and to these hosts."""
        return [
            message
            for line in self.network.log
            if source in (None, line.source[0]) and destination in (None, line.destination[0])
            for message in self.tap.messages(line.data)
            if isinstance(message, kind)
        ]

    async def _serve(self, task_status: trio.TaskStatus[Address]) -> None:
        send, receive = trio.open_memory_channel[Record](10_000)
        self._server_dead = trio.Event()
        with trio.CancelScope() as self._server_scope:
            async with trio.open_nursery() as nursery:
                address = await nursery.start(
                    partial(
                        serve_chat,
                        SERVER[1],
                        host=self.host,
                        identity=self.identity,
                        store=self.server_store,
                        network=self.network,
                        events=send,
                        clock=trio.current_time,
                        limits=self.limits,
                        registration=self.registration,
                        control=self.control,
                    )
                )
                task_status.started(address)
                async for record in receive:
                    self.changes.append(record)
        self._server_dead.set()

    async def _run_client(
        self,
        name: str,
        host: str,
        port: int,
        identity: Identity,
        store: MemoryClientStore,
        invitation: str,
        listening: bool,
        reconnect: bool = False,
        *,
        task_status: trio.TaskStatus[Person],
    ) -> None:
        with trio.CancelScope() as scope:
            async with open_chat(
                name,
                SERVER,
                host=host,
                port=port,
                identity=identity,
                store=store,
                invitation=invitation,
                reconnect=reconnect,
                network=self.network,
                clock=trio.current_time,
            ) as chat:
                person = Person(chat, host, store, scope)
                task_status.started(person)
                if not listening:
                    await trio.sleep_forever()
                async for event in chat.events:
                    if isinstance(event, TableChanged):
                        person.table_changes += 1
                    else:
                        person.received.append(event)
        person.dead.set()


@asynccontextmanager
async def open_stage(network: MemoryNetwork) -> AsyncIterator[Stage]:
    """A stage with a running server."""
    with open_wiretap() as tap:
        async with trio.open_nursery() as nursery:
            stage = Stage(network, nursery, tap)
            await stage.start_server()
            yield stage
            nursery.cancel_scope.cancel()
