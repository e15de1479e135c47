"""The programs of a world, each through all its runs: the real server and real clients with real stores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.simulation.disk import Disk
from tests.simulation.hostile import NAME, WORLD_LIMITS
from tests.simulation.seed import now
from tests.simulation.trace import PRIVATE_ROOMS, Message, Queued, RoomChange
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from trio_chat.client.chat import Chat
from trio_chat.client.events import OutgoingChanged, TableChanged
from trio_chat.client.opening import open_chat
from trio_chat.crypto.room_keys import signed_epoch
from trio_chat.errors import (
    ChatError,
    LastOwner,
    NoSuchRoom,
    NotAMember,
    NotAnOwner,
    NotInRoom,
    NotWaiting,
    RoomExists,
    RoomIsPrivate,
    StoreFailed,
)
from trio_chat.protocol.messages import DirectMessage
from trio_chat.protocol.records import EVERYONE_NAME, Address, Entry, Record
from trio_chat.server.server import serve_chat
from trio_chat.server.sessions import RoomEvent
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.interface import Acknowledged, KnownName, OnAppended, Position
from trio_chat.storage.server_store import SqliteServerStore, open_server_store
from trio_chat.transport.ids import new_id

if TYPE_CHECKING:
    from tests.simulation.world import World

PLACES = "SELECT id, seq FROM entries WHERE kind IN ('direct', 'group')"

PAST_OUTBOX = 0.2
"""How many messages somebody who has an outbox sends without it."""

PAUSES = (0.0, 0.3, 3.0)
"""Seconds until a program that has ended because its disk failed is started again."""


class Program:
    """One program on its machine, with its disk. `_run` runs it once."""

    def __init__(self, world: World, name: str, address: Address, seed: str) -> None:
        self.name = name
        self.address = address
        self.seen_at = address
        """Its address for the others. If that is of a router, the port may be another one."""
        self.disk = Disk(world.folder, name, random.Random(f"disk {seed} {name}"))
        self.runs = 0
        self.clock_error = 0.0
        """Seconds by which its clock is wrong."""
        self.is_gone = False
        """Whether it never starts again."""
        self._world = world
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._in_progress: list[trio.CancelScope] = []

    async def _run(self) -> None:
        raise NotImplementedError

    def clock(self) -> float:
        """What its clock shows."""
        return max(0.0, now() + self.clock_error)

    @property
    def is_running(self) -> bool:
        """Whether the program is running."""
        return not self._ended.is_set()

    def start(self) -> None:
        """Start the program, unless it is running. A client registers as soon as it can."""
        if self.is_running or self.is_gone:
            return
        self.runs += 1
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self.disk.start()
        host, port = self.address
        self._world.trace.note(self.name, f"starts run {self.runs} at {host}:{port}", for_all=True)
        self._world.nursery.start_soon(self._run_to_the_end)

    async def kill(self) -> None:
        """Cut the power, if it is running."""
        if not self.is_running:
            return
        self._end("is killed")
        self.disk.cut_power()
        self._scope.cancel()
        await self._ended.wait()

    async def _run_to_the_end(self) -> None:
        with self._scope:
            try:
                await self._run()
            except StoreFailed:
                self._end("ends: its disk has failed")
                self._world.nursery.start_soon(self._restart, self._world.dice.choice(PAUSES))
        for scope in self._in_progress:
            scope.cancel()
        self._ended.set()

    async def _restart(self, pause: float) -> None:
        await trio.sleep(pause)
        self.start()

    def _end(self, how: str) -> None:
        self._world.trace.note(self.name, how, for_all=True)
        self._world.trace.ends.append((trio.current_time(), self.name))


class Server(Program):
    """The server. Each change of its table is noted."""

    async def _run(self) -> None:
        to_rows, rows = trio.open_memory_channel[Record | RoomEvent](10_000)
        self._world.nursery.start_soon(self._note, rows)
        async with to_rows, open_server_store(self.disk.path, self.disk.run) as store:
            self._watch(store)
            await serve_chat(
                SERVER[1],
                host=SERVER[0],
                identity=SERVER_IDENTITY,
                store=store,
                events=to_rows,
                network=self._world.network,
                clock=self.clock,
                limits=WORLD_LIMITS,
            )

    def _watch(self, store: SqliteServerStore) -> None:
        """Note which number each entry gets, and from where each registration goes on."""
        load, save_name, acknowledge = store.load, store.save_name, store.acknowledge
        advance, trace = store.advance, self._world.trace

        async def watched_load(on_appended: OnAppended) -> tuple[list[KnownName], int]:
            def both(entries: Sequence[Entry]) -> None:
                trace.places.update((one.id, one.seq) for one in entries if one.kind in ("direct", "group"))
                epochs = [signed_epoch(one.body) for one in entries if one.kind == "epoch"]
                trace.epochs.update((signed.epoch.name, signed) for signed in epochs)
                on_appended(entries)

            loaded = await load(both)
            # Also those that a run had on its disk when it ended, and told nobody of (seeds 200114, 204101).
            trace.places.update(await store._submit(lambda transaction: dict(transaction.database.execute(PLACES))))
            return loaded

        async def watched_save_name(record: Record, invitation: bytes = b"") -> Position:
            before = trace.positions.get(record.name, 0)
            position = await save_name(record, invitation)
            if position.seq < before:
                trace.moved_back.append((record.name, before, position.seq))
            return position

        async def watched_acknowledge(acknowledged: Sequence[Acknowledged], at: float) -> None:
            await acknowledge(acknowledged, at)
            for one in acknowledged:
                trace.positions[one.name] = max(one.upto, trace.positions.get(one.name, 0))

        async def watched_advance(positions: Mapping[str, int]) -> None:
            await advance(positions)
            for name, upto in positions.items():
                trace.positions[name] = max(upto, trace.positions.get(name, 0))

        store.load, store.save_name = watched_load, watched_save_name
        store.acknowledge, store.advance = watched_acknowledge, watched_advance

    async def _note(self, rows: trio.MemoryReceiveChannel[Record | RoomEvent]) -> None:
        async for record in rows:
            if isinstance(record, RoomEvent):
                self._world.trace.note("server", f"notes that {record.name} has {record.kind} {record.room}")
                continue
            self._world.trace.note("server", f"marks {record.name} {'online' if record.online else 'offline'}")
            if record.name.startswith(NAME):
                continue
            person = self._world.person(record.name)
            if record.online:
                person.registered_run, person.registered_at = person.runs, self.runs
            elif self._world.is_calm and person.is_running and person.registered_run == person.runs:
                self._world.trace.wrongly_offline.append((trio.current_time(), record.name))


class Person(Program):
    """One person and their client. What they send and what they are shown is noted."""

    chat: Chat | None = None
    registered_run: int = 0
    """The latest run that the server registered."""
    registered_at: int = 0
    """The run of the server in which it did so."""
    keeps: bool = False
    """Whether they send by their outbox, which needs no server at that moment."""
    slowness: float = 0.0
    """Seconds until they are shown something, at most: a program that is killed meanwhile has not shown it."""

    def __init__(self, world: World, name: str, address: Address, seed: str) -> None:
        super().__init__(world, name, address, seed)
        self._dice = random.Random(f"reader {seed} {name}")
        self._past_outbox = random.Random(f"past outbox {seed} {name}")

    @property
    def is_online(self) -> bool:
        """Whether they are registered, as far as their own program knows."""
        return self.chat is not None and self.chat.online

    @property
    def may_send(self) -> bool:
        """Whether they can say something now."""
        return self.is_online or (self.keeps and self.chat is not None)

    async def _run(self) -> None:
        world = self._world
        try:
            async with (
                open_client_store(self.disk.path, self.disk.run, self.clock) as store,
                open_chat(
                    self.name,
                    SERVER,
                    host=self.address[0],
                    port=self.address[1],
                    identity=identity_of(self.name),
                    store=store,
                    reconnect=True,
                    network=world.network,
                    clock=self.clock,
                ) as chat,
            ):
                self.chat = chat
                world.trace.registered.setdefault(self.name, trio.current_time())
                world.trace.note(self.name, "is online")
                # Also those of which nobody knows whether they were accepted: the program was killed meanwhile.
                for one in chat.outbox.waiting():
                    world.trace.accept(world.trace.messages[one.text], one.number)
                async for event in chat.events:
                    if not isinstance(event, TableChanged):
                        await trio.sleep(self.slowness * self._dice.random())
                    if isinstance(event, OutgoingChanged):
                        world.trace.tell(self.name, event)
                    elif not isinstance(event, TableChanged):
                        world.trace.note(self.name, f"is shown {event}")
                        if getattr(event, "sender", "").startswith(NAME):
                            continue  # nothing is promised to somebody who attacks
                        world.trace.shown[self.name].append((trio.current_time(), self.runs, event))
        finally:
            self.chat = None

    async def change_room(self, kind: str, room: str, about: str = "") -> None:
        """Create, join or leave a room, or change who is in a private one, and note the result."""
        trace, chat = self._world.trace, self.chat
        if chat is None:
            return  # their program has ended since this task was started (seed 240614)
        change = RoomChange(self.name, room, kind, trio.current_time(), about=about)
        trace.room_changes.append(change)
        trace.note(self.name, f"tries to {kind} {room} {about}")
        ask = {
            "create": partial(chat.create_room, room, private=room in PRIVATE_ROOMS),
            "join": partial(chat.join, room),
            "leave": partial(_leave, chat, room),
            "invite": partial(chat.invite, room, about),
            "remove": partial(chat.remove, room, about),
            "own": partial(chat.add_owner, room, about),
            "list": chat.joined_rooms,
        }[kind]
        with self.in_this_run():
            try:
                await ask()
                change.is_done = True
            except (NoSuchRoom, NotAMember, NotAnOwner, NotInRoom, RoomExists, RoomIsPrivate) as error:
                # The request may have been done: another owner has removed them before they were answered.
                change.is_done, change.error = None if about else False, error
            except ChatError as error:
                change.error = error
                trace.note(self.name, f"cannot {kind} {room} {about}: {error!r}")
                return
            change.ended = trio.current_time()
            trace.note(self.name, f"did {kind} {room} {about}: {change.is_done}")

    async def send(self, recipient: str | None, text: str, room: str = "") -> None:
        """Send a message, and note the result."""
        trace, chat = self._world.trace, self.chat
        if chat is None:
            return
        known = frozenset(trace.registered)
        message = trace.add(Message(text, self.name, recipient, trio.current_time(), known, room=room))
        trace.note(self.name, f"sends {text!r} to {recipient or room or 'everyone'}")
        # Those who keep their messages send some to people past their outbox, at the same time.
        if self.keeps and not (recipient and self._past_outbox.random() < PAST_OUTBOX):
            await self._put(message)
            return
        with self.in_this_run():
            try:
                if room:
                    await chat.post(room, text)
                    message.how = "posted"
                elif recipient is None:
                    await chat.send_all(text)
                    message.how = "posted"
                else:
                    delivery = await chat.send(recipient, text)
                    message.how, message.sent_at = delivery.how, delivery.sent_at
            except ChatError as error:
                message.error = error
                trace.note(self.name, f"cannot send {text!r}: {error!r}")
            message.ended = trio.current_time()
            trace.note(self.name, f"is told of {text!r}: {message.how}")

    async def _put(self, message: Message) -> None:
        """Send a message by the outbox. What becomes of it is noted when they are shown it."""
        trace, chat, room = self._world.trace, self.chat, message.room or EVERYONE_NAME
        message.queued = Queued(next(trace.order))
        with self.in_this_run():
            try:
                if message.recipient is None:
                    outgoing = await chat.outbox.put_in_room(room, message.text)
                else:
                    outgoing = await chat.outbox.put(message.recipient, message.text)
            except StoreFailed:
                return
            # A commit that has begun cannot be cancelled, and `put` returns. After a power cut there is nobody to know.
            if self._scope.cancel_called:
                return
            message.ids.add(outgoing.id)
            trace.accept(message, outgoing.number)
            trace.note(self.name, f"has {message.text!r} in the outbox as number {outgoing.number}")

    async def cancel(self, number: int) -> None:
        """Withdraw a message from the outbox."""
        trace, chat = self._world.trace, self.chat
        message = trace.outgoing[self.name, number]
        message.queued.is_cancelled = True
        trace.note(self.name, f"cancels {message.text!r}")
        with self.in_this_run():
            try:
                await chat.outbox.cancel(number)
            except (NotWaiting, StoreFailed) as error:
                trace.note(self.name, f"cannot cancel {message.text!r}: {error!r}")

    async def deceive(self, recipient: str, first: str, second: str) -> None:
        """Send a message, directly if that is possible, and then another text under its id, as a letter."""
        id_, chat = new_id(), self.chat
        for text in (first, second):
            record = chat.table.get(recipient)
            if self.chat is not chat or record is None:
                return
            await self._send_with_id(id_, record, text, directly=text == first)

    async def _send_with_id(self, id_: bytes, record: Record, text: str, *, directly: bool) -> None:
        trace, chat, to = self._world.trace, self.chat, record.name
        known = frozenset(trace.registered)
        message = trace.add(Message(text, self.name, to, trio.current_time(), known, ids={id_}, is_honest=False))
        trace.note(self.name, f"sends {text!r} to {to} with the id {id_[:2].hex()}")
        with self.in_this_run():
            try:
                direct, keys = DirectMessage(id_, self.name, to, text), record.credentials.keys
                if directly and await chat._direct.send(direct, record, keys) is None:
                    message.how = "direct"
                else:
                    delivery = await chat._letters.send(direct, keys)
                    message.how, message.sent_at = delivery.how, delivery.sent_at
            except ChatError as error:
                message.error = error
            message.ended = trio.current_time()
            trace.note(self.name, f"is told of {text!r}: {message.how} {message.error!r}")

    @contextmanager
    def in_this_run(self) -> Iterator[None]:
        """The block is cancelled when the program ends."""
        with trio.CancelScope() as scope:
            self._in_progress.append(scope)
            yield
        self._in_progress.remove(scope)


async def _leave(chat: Chat, room: str) -> None:
    """Leave a room, also as its last owner: that happens now and then."""
    try:
        await chat.leave(room)
    except LastOwner:
        await chat.leave(room, anyway=True)
