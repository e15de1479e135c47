"""The programs of a world, each through all its lives: real clients, and the real server, over real stores."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from tests.simulation.disk import Disk
from tests.simulation.ledger import Message
from tests.simulation.seed import now
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from trio_chat.client.chat import Chat, open_chat
from trio_chat.client.events import TableChanged
from trio_chat.errors import ChatError, StoreFailed
from trio_chat.protocol.records import Address, Record
from trio_chat.server.server import serve_chat
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.server_store import open_server_store

if TYPE_CHECKING:
    from tests.simulation.world import World

PAUSES = (0.0, 0.3, 3.0)
"""Seconds until a program is started again that its disk has ended."""


class Program:
    """One program on its machine, with its disk. `_run` is a life of it."""

    def __init__(self, world: World, name: str, address: Address, seed: str) -> None:
        self.name = name
        self.address = address
        self.seen_at = address
        """Where it is for the others: a router may stand before it."""
        self.disk = Disk(world.folder, name, random.Random(f"disk {seed} {name}"))
        self.life = 0
        self._world = world
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._doing: list[trio.CancelScope] = []

    async def _run(self) -> None:
        raise NotImplementedError

    @property
    def lives(self) -> bool:
        """Is the program running?"""
        return not self._ended.is_set()

    def start(self) -> None:
        """Start the program, unless it runs; it comes on line as soon as it can."""
        if self.lives:
            return
        self.life += 1
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self.disk.start()
        self._world.ledger.note(self.name, f"starts life {self.life} at {self.address[0]}:{self.address[1]}", fate=True)
        self._world.nursery.start_soon(self._live)

    async def kill(self) -> None:
        """Power cut, if it runs."""
        if not self.lives:
            return
        self._end("is killed")
        self.disk.cut_power()
        self._scope.cancel()
        await self._ended.wait()

    async def _live(self) -> None:
        with self._scope:
            try:
                await self._run()
            except StoreFailed:
                self._end("ends: its disk has failed")
                self._world.nursery.start_soon(self._come_back, self._world.dice.choice(PAUSES))
        for scope in self._doing:
            scope.cancel()
        self._ended.set()

    async def _come_back(self, pause: float) -> None:
        await trio.sleep(pause)
        self.start()

    def _end(self, how: str) -> None:
        self._world.ledger.note(self.name, how, fate=True)
        self._world.ledger.ends.append((trio.current_time(), self.name))


class Server(Program):
    """The server; each row that it changes is noted."""

    async def _run(self) -> None:
        to_rows, rows = trio.open_memory_channel[Record](10_000)
        self._world.nursery.start_soon(self._note, rows)
        async with to_rows, open_server_store(self.disk.path, self.disk.run) as store:
            await serve_chat(
                SERVER[1],
                host=SERVER[0],
                identity=SERVER_IDENTITY,
                store=store,
                events=to_rows,
                network=self._world.network,
                clock=now,
            )

    async def _note(self, rows: trio.MemoryReceiveChannel[Record]) -> None:
        async for record in rows:
            self._world.ledger.note("server", f"holds {record.name} for {'here' if record.online else 'gone'}")
            person = self._world.person(record.name)
            if record.online:
                person.taken_in = person.life
            elif self._world.is_calm and person.lives and person.taken_in == person.life:
                self._world.ledger.wrongly_gone.append((trio.current_time(), record.name))


class Person(Program):
    """One name: who bears it says things, and what is shown to him is noted."""

    chat: Chat | None = None
    taken_in: int = 0
    """The latest life in which the server registered him."""

    @property
    def is_there(self) -> bool:
        """Is he on line, as far as his own program knows?"""
        return self.chat is not None and self.chat.online

    async def _run(self) -> None:
        world = self._world
        try:
            async with (
                open_client_store(self.disk.path, self.disk.run, now) as store,
                open_chat(
                    self.name,
                    SERVER,
                    host=self.address[0],
                    port=self.address[1],
                    identity=identity_of(self.name),
                    store=store,
                    reconnect=True,
                    network=world.network,
                    clock=now,
                ) as chat,
            ):
                self.chat = chat
                world.ledger.registered.setdefault(self.name, trio.current_time())
                world.ledger.note(self.name, "is on line")
                async for event in chat.events:
                    if not isinstance(event, TableChanged):
                        world.ledger.note(self.name, f"is shown {event}")
                        world.ledger.shown[self.name].append((trio.current_time(), self.life, event))
        finally:
            self.chat = None

    async def say(self, recipient: str | None, text: str) -> None:
        """Send a message, and note what became of it."""
        ledger, chat = self._world.ledger, self.chat
        known = frozenset(ledger.registered)
        message = ledger.messages[text] = Message(text, self.name, recipient, trio.current_time(), known)
        ledger.note(self.name, f"says {text!r} to {recipient or 'everyone'}")
        with self.in_this_life():
            try:
                if recipient is None:
                    await chat.send_all(text)
                    message.how = "posted"
                else:
                    delivery = await chat.send(recipient, text)
                    message.how, message.sent_at = delivery.how, delivery.sent_at
            except ChatError as error:
                message.error = error
                ledger.note(self.name, f"cannot say {text!r}: {error!r}")
            message.ended = trio.current_time()
            ledger.note(self.name, f"knows of {text!r}: {message.how}")

    @contextmanager
    def in_this_life(self) -> Iterator[None]:
        """What a program does ends with it."""
        with trio.CancelScope() as scope:
            self._doing.append(scope)
            yield
        self._doing.remove(scope)
