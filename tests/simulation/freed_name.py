"""A name that changes hands: its owner is in rooms, the operator frees or deletes it, somebody else registers it.

The new owner must not be in these rooms. Both are raw peers: their programs hold the table and show nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio

from tests.raw_peer import RawPeer
from tests.simulation.hostile import NAME, SERVER_PEER
from tests.simulation.seed import now
from tests.simulation.trace import PRIVATE_ROOMS
from tests.stage import SERVER_IDENTITY, identity_of
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.room_keys import NUMBER
from trio_chat.errors import ChatError
from trio_chat.protocol.messages import (
    Answer,
    Batch,
    GroupPost,
    Heartbeat,
    Message,
    Refused,
    Registered,
    TableChange,
)
from trio_chat.protocol.records import EVERYONE, is_private, is_room
from trio_chat.protocol.room_messages import GetEpoch, JoinRoom, ListMembers, ListRooms, RoomChanged, RoomList
from trio_chat.storage.server_store import open_server_store
from trio_chat.transport.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

FREED = f"{NAME}-freed"
"""The name that changes hands. Nothing is promised to its owners but what `got` is for."""

PATIENCE = 3.0
"""Seconds in which an owner is answered if nothing is in the way."""

T = TypeVar("T")


class FreedName:
    """The name, and who has it. `got`: what a new owner got of rooms that they have never joined."""

    def __init__(self, world: World, seed: int) -> None:
        self.got: list[Message] = []
        self.identities: list[Identity] = [identity_of(f"{FREED} 1")]
        """Of all owners so far, the latest one last."""
        self._world = world
        self._dice = random.Random(f"freed name {seed}")
        self._hosts = itertools.count(1)

    async def change_hands(self, rooms: tuple[str, ...]) -> None:
        """The owner joins these rooms and is invited into the private ones. Then somebody else gets the name."""
        world = self._world
        world.set_conditions(0.0, 0.02)
        async with trio.open_nursery() as nursery:
            owner = self._open(nursery, lambda message: None)
            is_theirs = await self._register(owner)
            if is_theirs:
                for room in rooms:
                    owner.send(SERVER_PEER, JoinRoom(new_id(), room))
                await self._is_invited()
            nursery.cancel_scope.cancel()
        if is_theirs and world.server.is_running:
            ids = {message.room.id for message in owner.of(RoomChanged)}
            ids |= {signed.epoch.room for signed in world.trace.epochs.values()}
            await self._free()
            await self._somebody_else_comes(sorted(ids))

    async def _is_invited(self) -> None:
        world = self._world
        for room in PRIVATE_ROOMS:
            if owners := world.private.online(room, is_owner=True):
                person = self._dice.choice(owners)
                with suppress(ChatError):
                    await person.chat.trust(FREED)  # they know that it is somebody else now
                world.nursery.start_soon(person.change_room, "invite", room, FREED)
        await trio.sleep(self._dice.uniform(0.5, PATIENCE))

    async def _free(self) -> None:
        """The operator does it while no server runs."""
        server = self._world.server
        await server.kill()
        frees = self._dice.random() < 0.7
        async with open_server_store(server.disk.path, _at_once) as store:
            await (store.forget(FREED) if frees else store.delete(FREED, now()))
        self._world.trace.note("server", f"{'frees' if frees else 'deletes'} {FREED}", for_all=True)
        server.start()

    async def _somebody_else_comes(self, rooms: list[str]) -> None:
        self.identities.append(identity_of(f"{FREED} {len(self.identities) + 1}"))
        asked: set[bytes] = set()

        def check(message: Message) -> None:
            match message:
                case Batch(entries=entries) if any(_is_of_room(one.recipient) for one in entries):
                    self.got.append(message)
                case RoomList(rooms=listed) if any(_is_of_room(one.id) for one in listed):
                    self.got.append(message)
                case Refused() | RoomList():
                    pass
                case _ if message.id in asked:
                    self.got.append(message)

        async with trio.open_nursery() as nursery:
            peer = self._open(nursery, check)
            if await self._register(peer):
                self._world.trace.note(FREED, "has a new owner", for_all=True)
                for request in (ListRooms(new_id(), own=True), *_requests(rooms)):
                    asked.add(request.id)
                    peer.send(SERVER_PEER, request)
                await trio.sleep(self._dice.uniform(1.0, 10.0))  # others post meanwhile
            nursery.cancel_scope.cancel()

    def _open(self, nursery: trio.Nursery, check: Callable[[Message], None]) -> RawPeer:
        host = f"10.0.8.{next(self._hosts)}"
        peer = RawPeer(self._world.network, (host, 6000), self.identities[-1])
        self._world.trace.hosts[host] = FREED

        def answer(message: Message) -> Answer | None:
            check(message)
            match message:
                case Heartbeat():
                    return message.ack()
                case TableChange(after=after):
                    return message.held(after)
                case Batch():
                    return message.busy()
            return None

        peer.answer = answer
        nursery.start_soon(peer.listen)
        return peer

    async def _register(self, peer: RawPeer) -> bool:
        """Register the name. False: the server has no room for it, or does not answer."""
        for _ in range(3):
            peer.send(SERVER_PEER, peer.register(FREED, SERVER_IDENTITY.public.signing))
            await trio.sleep(PATIENCE / 3)
            if peer.of(Registered):
                return True
        return False


def _requests(rooms: list[str]) -> Iterator[Message]:
    """What only members are answered."""
    for room in rooms:
        yield GroupPost(new_id(), (1).to_bytes(NUMBER, "big") + b"x" * 40, room)
        if is_private(room):
            yield from (ListMembers(new_id(), room), GetEpoch(new_id(), room))


def _is_of_room(room: str) -> bool:
    return is_room(room) and room != EVERYONE


async def _at_once(work: Callable[[], T]) -> T:
    return work()
