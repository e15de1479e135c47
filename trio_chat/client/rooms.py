"""Rooms: what `Chat` asks the server about them, and messages to them.

What comes from rooms is in inbox.py. Where we are is remembered in memberships.py. What only private rooms have is in
private_rooms.py.
"""

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.memberships import Memberships
from trio_chat.client.private_rooms import PrivateRooms
from trio_chat.client.registration import Registration
from trio_chat.client.room_requests import ask_for_members, ask_for_rooms, find_room, is_called, room_refusal
from trio_chat.crypto.letters import TO_EVERYONE, SignedRoom, sign_post
from trio_chat.protocol.messages import Accepted, Answer, GroupPost
from trio_chat.protocol.records import (
    EVERYONE,
    EVERYONE_NAME,
    check_name,
    check_text,
    fold,
    is_private,
    room_id,
)
from trio_chat.protocol.room_messages import BeginEpoch, CreateRoom, JoinRoom, LeaveRoom, RoomChanged
from trio_chat.transport.ids import new_id


@attrs.frozen
class RoomInfo:
    """A room in a list. `members`: how many are in it; None for `everyone`. `joined`: whether we are.

    `private`: only those whom an owner invites are in it, and the server cannot read what is posted.
    """

    name: str
    members: int | None
    joined: bool
    private: bool = False


@attrs.define(eq=False)
class Rooms:
    """What one person does with rooms. Each method raises what that of `Chat` raises."""

    _context: ClientContext
    _registration: Registration
    _private: PrivateRooms
    # One request at a time that asks where we are or changes it: answers are noted in the order of the requests.
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    @property
    def _own(self) -> Memberships:
        return self._context.memberships

    # --- joining and leaving ---

    async def create(self, name: str, *, private: bool) -> str:
        """Create a room."""
        check_name(name)
        # The server may know it no longer, if our name was deleted meanwhile. It is ours until we leave it.
        if own := self._context.epochs.named(name):
            raise errors.RoomExists(own.name)
        key, epoch = self._context.identity.public.signing, None
        request: CreateRoom | BeginEpoch = CreateRoom(new_id(), name)
        if private:
            epoch = self._private.first_epoch(request.id, name)
            request = BeginEpoch(request.id, epoch.epoch.room, 1, epoch.body)
        async with self._lock:
            room = (await self._change(request, name)).room
            if room.id != room_id(key, request.id, private=private):
                raise errors.ServerNotResponding  # the answer is wrong: it is another room
            self._own.join(room)
        if epoch is not None:
            await self._private.created(epoch, room)
        return room.name

    async def join(self, name: str) -> str:
        """Join a room."""
        check_name(name)
        async with self._lock:
            self._own.may_join(name)
            room = (await self._change(JoinRoom(new_id(), name), name)).room
            self._own.join(room)
        return room.name

    async def leave(self, name: str, *, anyway: bool) -> None:
        """Leave a room. `anyway`: also as the last owner of a private one."""
        check_name(name)
        async with self._lock:
            id_ = (await self._find(name)).id
            if is_private(id_) and not anyway:
                await self._private.check_leaving(id_, name)
            try:
                changed = await self._change(LeaveRoom(new_id(), id_), name)
            except (errors.NotAMember, errors.NoSuchRoom):
                await self._left(id_, name, 0)
                raise
            await self._left(id_, name, changed.seq)

    async def _left(self, id: str, name: str, seq: int) -> None:
        self._own.leave(id, name)
        if is_private(id):
            self._context.epochs.left(id, seq)
            await self._context.epochs.keep()

    async def _change(self, request: CreateRoom | BeginEpoch | JoinRoom | LeaveRoom, name: str) -> RoomChanged:
        own = self._own
        # What comes from a room may arrive before the answer that we are in it. If no answer comes, nobody knows.
        beginnings, was_complete, own.is_complete = own.beginnings, own.is_complete, False
        answer = await self._registration.ask(request)
        own.is_complete = was_complete and own.beginnings == beginnings
        private = self._context.epochs.named(name)
        match answer:
            case RoomChanged(room=room) as changed if is_called(room, name):
                # Whatever the server says, a private room that we are in does not become another one under its name.
                if private is not None and private.room != room.id:
                    raise errors.MembersNotTrusted(name)
                return changed
        raise room_refusal(answer, name)

    async def joined(self) -> list[str]:
        """The names of the rooms that we are in, in the order of joining."""
        own = self._own
        async with self._lock:
            while not own.is_complete:
                beginnings = own.beginnings
                rooms = await ask_for_rooms(self._registration, own=True)
                own.hear(*(room.name for room in rooms))
                if own.beginnings == beginnings:
                    own.complete(rooms)
        return own.names()

    # --- messages ---

    async def post(self, name: str, text: str, id: bytes, at: float, *, only: str = "") -> SignedRoom:
        """Send a message, which was written at that time, to a room; return the room.

        `only`: the id that the room must have, if it is known. Raises NotAMember if another one has its name.
        """
        check_name(name)
        check_text(text)
        room = await self._room_to_post_to(name)
        if only and room.id != only:
            raise errors.NotAMember(name)
        if is_private(room.id):
            answer = await self._private.post(room.id, name, text, id, at)
        else:
            answer = await self._post_signed(room, text, id, at)
        match answer:
            case Accepted():
                return room
            case answer:
                error = room_refusal(answer, name)
                if isinstance(error, errors.NotAMember):
                    # We may have joined while this post was under way: then what comes from the room is for us. But not
                    # if we have left it: what is still on its way could not be opened any more (seed 70012).
                    self._own.doubt()
                raise error

    async def _post_signed(self, room: SignedRoom, text: str, id: bytes, at: float) -> Answer:
        context = self._context
        body = sign_post(context.identity, id=id, sender=context.name, sent_at=at, text=text, room=room)
        return await self._registration.ask(GroupPost(id, body, room.id))

    async def _room_to_post_to(self, name: str) -> SignedRoom:
        if fold(name) == EVERYONE_NAME:
            return TO_EVERYONE
        was_silent = self._registration.silent_since is not None
        async with self._lock:
            # Those who had their turn before us got no answer.
            if self._registration.silent_since is not None and not was_silent:
                raise errors.ServerNotResponding
            return await self._find(name)

    # --- lists ---

    async def all(self) -> list[RoomInfo]:
        """All rooms, by name."""
        rooms = await ask_for_rooms(self._registration, own=False)
        self._own.hear(*(room.name for room in rooms))
        return [
            RoomInfo(room.name, None, True)
            if room.id == EVERYONE
            else RoomInfo(room.name, room.members, room.joined > 0, is_private(room.id))
            for room in rooms
        ]

    async def members(self, name: str) -> list[str]:
        """The names of those in a room."""
        check_name(name)
        if fold(name) == EVERYONE_NAME:
            return await ask_for_members(self._registration, EVERYONE, name)
        async with self._lock:
            id_ = (await self._find(name)).id
        if is_private(id_):
            return await self._private.members(id_, name)
        return await ask_for_members(self._registration, id_, name)

    async def gone(self, name: str) -> list[str]:
        """Those of the members who are not in a room any more. See `Chat.gone_members`."""
        try:
            return await self._private.gone(await self.private(name), name)
        except errors.RoomIsOpen:
            return []

    async def private(self, name: str) -> str:
        """The id of the private room of this name. Raises RoomIsOpen if it is an open one."""
        check_name(name)
        if fold(name) != EVERYONE_NAME:
            async with self._lock:
                id_ = (await self._find(name)).id
            if is_private(id_):
                return id_
        raise errors.RoomIsOpen(name)

    async def _find(self, name: str) -> SignedRoom:
        """The room of this name, whether or not we are in it. The lock is held."""
        # First: a server that gives the name of a private room to an open one would get to read what is posted to it.
        if private := self._context.epochs.named(name):
            return SignedRoom(private.room, private.name)
        if (room := self._own.find(name)) is None:
            try:
                room = await find_room(self._registration, name)
            except errors.NoSuchRoom as error:
                # Nobody is told of a private room that they are not in.
                raise (errors.RoomIsPrivate(name) if self._context.epochs.knows(name) else error) from None
            self._own.hear(room.name)
            if room.joined:
                self._own.join(room)
        return SignedRoom(room.id, room.name)
