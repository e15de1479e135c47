"""A world that a seed fixes: the order of tasks, the clock, the network, ids and keys, disks, and who does what when.

In it run the real server and real clients over real stores. What happened is noted in a ledger; whether that keeps the
promises is for books.py to say.
"""

import itertools
import random
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import trio
import trio._core._run as scheduler
import trio.testing

from tests.network import Conditions, MemoryNetwork, open_memory_network
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from tests.storage.backends import inline
from trio_chat.client.events import Event, TableChanged
from trio_chat.client.session import Chat, open_chat
from trio_chat.errors import ChatError, NotRegistered
from trio_chat.protocol.records import Record
from trio_chat.server.chat import serve_chat
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.server_store import open_server_store

NAMES = ("ann", "bob", "cid", "dee", "eve", "fay", "gus", "hal")
DAY = 1_700_000_000.0
"""What the clocks show at the beginning: seconds since 1970."""


@contextmanager
def fixed_by(seed: int) -> Iterator[random.Random]:
    """Everything that chance decides is decided by the seed: trio's order of tasks, and all random bytes."""
    dice = random.Random(seed)
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate(), secrets.token_bytes
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    secrets.token_bytes = random.Random(f"bytes {seed}").randbytes
    try:
        yield dice
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        scheduler._r.setstate(before[1])
        secrets.token_bytes = before[2]


def now() -> float:
    return DAY + trio.current_time()


class Disk:
    """One SQLite file through all lives. A power cut leaves what the latest commit left, and nothing written later."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._lives = itertools.count(1)
        self.path = folder / f"{name}-0.db"

    def cut_power(self) -> None:
        """From now on the disk is as it is now, whatever the dying program still writes."""
        after = self._folder / f"{self._name}-{next(self._lives)}.db"
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{self.path}{suffix}", f"{after}{suffix}")
        self.path = after


@attrs.define(eq=False)
class Message:
    """What somebody wanted to say: to one, or (None) to everyone; and what became of it, as far as he was told."""

    text: str
    sender: str
    recipient: str | None
    begun: float
    how: str = "unknown"
    sent_at: float | None = None
    ended: float | None = None
    known: frozenset[str] = frozenset()


@attrs.define(eq=False)
class Ledger:
    """All that happened, in order, as lines; what was said; and what each one was shown: (time, life, event)."""

    lines: list[str] = attrs.Factory(list)
    messages: dict[str, Message] = attrs.Factory(dict)
    shown: dict[str, list[tuple[float, int, Event]]] = attrs.Factory(dict)
    kills: list[tuple[float, str]] = attrs.Factory(list)
    registered: dict[str, float] = attrs.Factory(dict)

    def note(self, who: str, what: str) -> None:
        self.lines.append(f"{trio.current_time():10.4f} {who:>6} {what}")


class Person:
    """One name through all its lives: the running program, if there is one, and its disk."""

    def __init__(self, world: "World", name: str, number: int) -> None:
        self.name = name
        self.address = (f"10.0.1.{number}", 6000)
        self.disk = Disk(world.folder, name)
        self.life = 0
        self.chat: Chat | None = None
        self._world = world
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()

    @property
    def lives(self) -> bool:
        """Is the program running?"""
        return not self._ended.is_set()

    def start(self) -> None:
        """Start the program; it comes on line as soon as it can."""
        self.life += 1
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._world.ledger.note(self.name, f"starts life {self.life} at {self.address[0]}:{self.address[1]}")
        self._world.nursery.start_soon(self._live)

    async def kill(self) -> None:
        """Power cut."""
        self._world.ledger.note(self.name, "is killed")
        self._world.ledger.kills.append((trio.current_time(), self.name))
        self.disk.cut_power()
        self._scope.cancel()
        await self._ended.wait()

    async def _live(self) -> None:
        world = self._world
        with self._scope:
            async with (
                open_client_store(self.disk.path, inline, now) as store,
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
        self.chat = None
        self._ended.set()

    async def say(self, recipient: str | None, text: str) -> None:
        """Send a message, and note what became of it."""
        ledger = self._world.ledger
        message = ledger.messages[text] = Message(text, self.name, recipient, trio.current_time())
        message.known = frozenset(ledger.registered)
        ledger.note(self.name, f"says {text!r} to {recipient or 'everyone'}")
        with self._scope_of_this_life():
            try:
                if recipient is None:
                    await self.chat.send_all(text)
                    message.how = "posted"
                else:
                    delivery = await self.chat.send(recipient, text)
                    message.how, message.sent_at = delivery.how, delivery.sent_at
            except ChatError as error:
                message.how = "unknown" if not isinstance(error, NotRegistered) else "not sent"
                ledger.note(self.name, f"cannot: {error!r}")
            message.ended = trio.current_time()
            ledger.note(self.name, f"knows of {text!r}: {message.how}")

    @contextmanager
    def _scope_of_this_life(self) -> Iterator[None]:
        """What a program does ends with it."""
        with trio.CancelScope() as scope:
            self._world.nursery.start_soon(self._end_with, self._ended, scope)
            yield
            scope.cancel()

    async def _end_with(self, ended: trio.Event, scope: trio.CancelScope) -> None:
        await ended.wait()
        scope.cancel()


class World:
    """Who is in it, and what can happen to them."""

    def __init__(self, network: MemoryNetwork, nursery: trio.Nursery, dice: random.Random, folder: Path) -> None:
        self.network = network
        self.nursery = nursery
        self.dice = dice
        self.folder = folder
        self.ledger = Ledger()
        self.people = [Person(self, name, n) for n, name in enumerate(NAMES[: dice.randint(3, len(NAMES))], start=1)]
        self.ledger.shown = {person.name: [] for person in self.people}
        self.server_disk = Disk(folder, "server")
        self.missed_by: set[str] = set()
        """Who has noticed that somebody vanished."""
        self.tables: dict[str, dict[str, Record] | None] = {}
        self.online: dict[str, bool] = {}
        self._server_scope = trio.CancelScope()
        self._server_ended = trio.Event()
        self._texts = itertools.count(1)
        self._hosts = itertools.count(1)

    # --- the server ---

    async def start_server(self) -> None:
        self.ledger.note("server", "starts")
        self._server_ended = trio.Event()
        self._server_scope = trio.CancelScope()
        await self.nursery.start(self._serve)

    async def kill_server(self) -> None:
        self.ledger.note("server", "is killed")
        self.ledger.kills.append((trio.current_time(), "server"))
        self.server_disk.cut_power()
        self._server_scope.cancel()
        await self._server_ended.wait()

    async def _serve(self, task_status: trio.TaskStatus) -> None:
        with self._server_scope:
            async with open_server_store(self.server_disk.path, inline) as store:
                await serve_chat(
                    SERVER[1],
                    host=SERVER[0],
                    identity=SERVER_IDENTITY,
                    store=store,
                    network=self.network,
                    clock=now,
                    task_status=task_status,
                )
        self._server_ended.set()

    # --- what happens ---

    async def go_on(self) -> None:
        """One thing happens, to whom the dice fall."""
        match self.dice.choices(
            ("say", "post", "weather", "leave", "kill", "cut", "heal", "move", "stumble", "server"),
            (40, 12, 6, 8, 6, 5, 4, 3, 5, 3),
        )[0]:
            case "say":
                await self._someone_says(to_all=False)
            case "post":
                await self._someone_says(to_all=True)
            case "weather":
                self._weather()
            case "leave":
                self._someone_leaves()
            case "kill":
                await self._someone_dies()
            case "cut":
                a, b = self.dice.sample([SERVER[0], *(person.address[0] for person in self.people)], 2)
                both = self.dice.random() < 0.5
                self.ledger.note("wires", f"cut from {a} to {b}{' and back' if both else ''}")
                self.network.cut(a, b, both=both)
            case "heal":
                self.ledger.note("wires", "mended")
                self.network.heal()
            case "move":
                await self._someone_moves()
            case "stumble":
                await self._someone_stumbles()
            case "server":
                await self.kill_server()
                await trio.sleep(self.dice.choice((0.0, 0.3, 3.0)))
                await self.start_server()

    def _weather(self) -> None:
        loss, late = self.dice.choice((0.0, 0.05, 0.2, 0.5)), self.dice.choice((0.0, 0.01, 0.1, 0.4, 1.5))
        self.network.default = Conditions(loss, self.dice.choice((0.0, 0.1)), (0.0, late))
        self.ledger.note("wires", f"now lose {loss:.0%} and take up to {late} s")

    async def _someone_says(self, *, to_all: bool) -> None:
        there = [person for person in self.people if person.chat is not None and person.chat.online]
        known = list(self.ledger.registered)
        if there and len(known) > 1:
            speaker = self.dice.choice(there)
            recipient = None if to_all else self.dice.choice([name for name in known if name != speaker.name])
            text = f"{next(self._texts)} {speaker.name}" + self.dice.choice(("", "", "", " long" * 600))
            self.nursery.start_soon(speaker.say, recipient, text)

    def _someone_leaves(self) -> None:
        there = [person for person in self.people if person.chat is not None]
        if there:
            self.nursery.start_soon(self._leave_and_return, self.dice.choice(there))

    async def _leave_and_return(self, person: Person) -> None:
        chat, away = person.chat, self.dice.choice((0.0, 0.4, 2.0, 15.0))
        with person._scope_of_this_life(), suppress(ChatError):
            with suppress(NotRegistered):
                self.ledger.note(person.name, "leaves")
                await chat.deregister()
            await trio.sleep(away)
            self.ledger.note(person.name, "returns")
            await chat.register()

    async def _someone_dies(self) -> None:
        person = self.dice.choice(self.people)
        if person.lives:
            await person.kill()
        if self.dice.random() < 0.7:
            person.start()

    async def _someone_stumbles(self) -> None:
        """A program that is killed while it comes on line, or before it is missed, and started again."""
        person = self.dice.choice(self.people)
        self.network.default = Conditions(0.0, 0.1, (0.0, self.dice.choice((0.1, 1.5))))
        for _ in range(3):
            if person.lives:
                await person.kill()
                await trio.sleep(self.dice.choice((0.0, self.dice.uniform(2.0, 4.0))))
            person.start()
            await trio.sleep(self.dice.uniform(0.0, 1.2))

    async def _someone_moves(self) -> None:
        person = self.dice.choice(self.people)
        if person.lives:
            await person.kill()
        person.address = (f"10.0.2.{next(self._hosts)}", 6000)
        person.start()

    async def end(self) -> None:
        """The network heals, everyone returns, one vanishes for a while and is missed, and a while passes."""
        self.ledger.note("world", "heals")
        self.network.default = Conditions()
        self.network.heal()
        for person in self.people:
            if not person.lives:
                person.start()
        await trio.sleep(40)
        for person in self.people:
            if person.chat is not None and not person.chat.online:
                with suppress(ChatError):
                    await person.chat.register()
        await trio.sleep(20)
        vanished, others = self.people[0], self.people[1:]
        await vanished.kill()
        await trio.sleep(90)
        self.missed_by = {one.name for one in others if one.chat and not one.chat.table[vanished.name].online}
        vanished.start()
        await trio.sleep(30)


async def play(seed: int, dice: random.Random, folder: Path, steps: int = 120) -> World:
    """Play one seed to its end, and return the world with its ledger; everybody is still there, and gone after it."""
    async with open_memory_network(seed) as network, trio.open_nursery() as nursery:
        world = World(network, nursery, dice, folder)
        await world.start_server()
        for person in world.people:
            person.start()
        await trio.sleep(1)
        for _ in range(steps):
            await world.go_on()
            await trio.sleep(dice.choice((0.0, 0.01, 0.2, 0.6, 2.0)))
        await world.end()
        world.tables = {
            person.name: None if person.chat is None else dict(person.chat.table) for person in world.people
        }
        world.online = {person.name: person.chat is not None and person.chat.online for person in world.people}
        nursery.cancel_scope.cancel()
    return world


def run(seed: int, folder: Path, steps: int = 120) -> World:
    """Play one seed in a fresh world."""
    with fixed_by(seed) as dice:
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(partial(play, seed, dice, folder, steps), clock=clock)
