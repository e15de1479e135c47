"""Rooms: what `Chat` asks the server about them, and messages to them.

What comes from rooms is in inbox.py. Where we are is remembered in memberships.py.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.events import HistoryEntry
from trio_chat.client.letter_sender import refusal
from trio_chat.client.memberships import Memberships
from trio_chat.client.registration import Registration
from trio_chat.crypto.letters import TO_EVERYONE, SignedRoom, sign_post
from trio_chat.protocol.messages import (
    Accepted,
    Answer,
    GroupPost,
    Refused,
)
from trio_chat.protocol.records import (
    EVERYONE,
    EVERYONE_NAME,
    Reason,
    Room,
    check_name,
    check_text,
    fold,
    room_id,
)
from trio_chat.protocol.room_messages import (
    MAX_MEMBERS_LISTED,
    MAX_ROOMS_LISTED,
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    MemberList,
    RoomChanged,
    RoomList,
)
from trio_chat.transport.endpoint import new_id

MAX_LISTED = 10_000
"""How many rooms, or members, are asked for. A server that goes on and on is asked no more."""

MAX_PAUSES = 3
MAX_PAUSE = 1.0
"""How often a part of a long list is asked for again after TooFast, and the longest pause before that, in seconds."""

_REFUSALS: dict[Reason, Callable[[str], errors.ChatError]] = {
    Reason.EXISTS: errors.RoomExists,
    Reason.NO_SUCH_ROOM: errors.NoSuchRoom,
    Reason.NOT_A_MEMBER: errors.NotAMember,
    Reason.ROOM_FULL: errors.RoomFull,
}


@attrs.frozen
class RoomInfo:
    """A room in a list. `members`: how many are in it; None for `everyone`. `joined`: whether we are."""

    name: str
    members: int | None
    joined: bool


def just_before(name: str) -> str:
    """What the server must be asked for names after, so that this name, if there is one, is the first to come."""
    folded = fold(name)
    # \x7f sorts after all characters of names; after 32 characters no name goes on.
    return f"{folded[:-1]}{chr(ord(folded[-1]) - 1)}\x7f"[:32]


@attrs.define(eq=False)
class Rooms:
    """What one person does with rooms. Each method raises what that of `Chat` raises."""

    _context: ClientContext
    _registration: Registration
    # One request at a time that asks where we are or changes it: answers are noted in the order of the requests.
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    @property
    def _own(self) -> Memberships:
        return self._context.memberships

    # --- joining and leaving ---

    async def create(self, name: str) -> str:
        """Create a room."""
        check_name(name)
        request = CreateRoom(new_id(), name)
        async with self._lock:
            room = await self._change(request, name)
            if room.id != room_id(self._context.identity.public.signing, request.id):
                raise errors.ServerNotResponding  # the answer is wrong: it is another room
            self._own.join(room)
        return room.name

    async def join(self, name: str) -> str:
        """Join a room."""
        check_name(name)
        async with self._lock:
            self._own.may_join(name)
            room = await self._change(JoinRoom(new_id(), name), name)
            self._own.join(room)
        return room.name

    async def leave(self, name: str) -> None:
        """Leave a room."""
        check_name(name)
        async with self._lock:
            room = await self._find(name)
            try:
                await self._change(LeaveRoom(new_id(), room.id), name)
            except (errors.NotAMember, errors.NoSuchRoom):
                self._own.leave(room)
                raise
            self._own.leave(room)

    async def _change(self, request: CreateRoom | JoinRoom | LeaveRoom, name: str) -> Room:
        own = self._own
        # What comes from a room may arrive before the answer that we are in it. If no answer comes, nobody knows.
        beginnings, was_complete, own.is_complete = own.beginnings, own.is_complete, False
        answer = await self._registration.ask(request)
        own.is_complete = was_complete and own.beginnings == beginnings
        match answer:
            case RoomChanged(room=room) if _is_called(room, name):
                return room
        raise _refusal(answer, name)

    async def joined(self) -> list[str]:
        """The names of the rooms that we are in, in the order of joining."""
        own = self._own
        async with self._lock:
            while not own.is_complete:
                beginnings = own.beginnings
                rooms = await self._list_rooms(own=True)
                if own.beginnings == beginnings:
                    own.complete(rooms)
        return own.names()

    # --- messages ---

    async def post(self, name: str, text: str) -> None:
        """Send a message to a room."""
        check_name(name)
        check_text(text)
        room, id_ = await self._room_to_post_to(name), new_id()
        context = self._context
        body = sign_post(context.identity, id=id_, sender=context.name, sent_at=context.clock(), text=text, room=room)
        match await self._registration.ask(GroupPost(id_, body, room.id)):
            case Accepted():
                context.store.note(HistoryEntry(context.clock(), "", text, sent=True, group=True, room=room.name))
            case answer:
                error = _refusal(answer, name)
                if isinstance(error, errors.NotAMember):
                    # We may have joined while this post was under way: then what comes from the room is for us.
                    self._own.forget()
                raise error

    async def _room_to_post_to(self, name: str) -> SignedRoom:
        if fold(name) == EVERYONE_NAME:
            return TO_EVERYONE
        room = self._own.find(name)
        if room is None:
            async with self._lock:
                room = await self._find(name)
        return SignedRoom(room.id, room.name)

    # --- lists ---

    async def all(self) -> list[RoomInfo]:
        """All rooms, by name."""
        return [
            RoomInfo(room.name, None, True)
            if room.id == EVERYONE
            else RoomInfo(room.name, room.members, room.joined > 0)
            for room in await self._list_rooms(own=False)
        ]

    async def members(self, name: str) -> list[str]:
        """The names of those in a room."""
        check_name(name)
        room = EVERYONE
        if fold(name) != EVERYONE_NAME:
            async with self._lock:
                room = (await self._find(name)).id
        members: list[str] = []
        after: str | None = ""
        while after is not None and len(members) < MAX_LISTED:
            match await self._ask_for_part(ListMembers(new_id(), room, after)):
                case MemberList(names=names):
                    members += names
                    after = _end_of_part(after, names, MAX_MEMBERS_LISTED)
                case answer:
                    raise _refusal(answer, name)
        return members

    async def _find(self, name: str) -> Room:
        """The room of this name, whether or not we are in it. The lock is held."""
        if known := self._own.find(name):
            return known
        match await self._ask_for_part(ListRooms(new_id(), just_before(name))):
            case RoomList(rooms=rooms):
                if not rooms or not _is_called(rooms[0], name):
                    raise errors.NoSuchRoom(name)
                if rooms[0].joined:
                    self._own.join(rooms[0])
                return rooms[0]
            case answer:
                raise _refusal(answer, name)

    async def _list_rooms(self, *, own: bool) -> list[Room]:
        rooms: list[Room] = []
        after: str | None = ""
        while after is not None and len(rooms) < MAX_LISTED:
            match await self._ask_for_part(ListRooms(new_id(), after, own)):
                case RoomList(rooms=part):
                    rooms += part
                    after = _end_of_part(after, [room.name for room in part], MAX_ROOMS_LISTED)
                case answer:
                    raise _refusal(answer, "")
        self._own.hear(*(room.name for room in rooms))
        return [room for room in rooms if _is_called(room, room.name)]

    async def _ask_for_part(self, request: ListRooms | ListMembers) -> Answer:
        """Ask for a part of a list. If it is only a moment too early for that, wait."""
        pauses = MAX_PAUSES
        while True:
            answer = await self._registration.ask(request)
            match answer:
                case Refused(reason=Reason.TOO_FAST, after=after) if after <= MAX_PAUSE and pauses:
                    pauses -= 1
                    await trio.sleep(after)
                case _:
                    return answer


def _is_called(room: Room, name: str) -> bool:
    """Whether a room has this name, and is not another one under the name of everyone."""
    return fold(room.name) == fold(name) and (room.id == EVERYONE) == (fold(name) == EVERYONE_NAME)


def _end_of_part(after: str, names: Sequence[str], size: int) -> str | None:
    """What the next part of a list comes after. None: this was the last one."""
    # A list must go on with each part: else a server could keep us asking for the same ones.
    is_in_order = all(one < other for one, other in pairwise(map(fold, (after, *names))))
    return names[-1] if len(names) == size and is_in_order else None


def _refusal(answer: Answer, name: str) -> errors.ChatError:
    match answer:
        case Refused(reason=Reason.TOO_MANY_ROOMS):
            return errors.TooManyRooms()
        case Refused(reason=Reason.NO_MORE_ROOMS):
            return errors.NoMoreRooms()
        case Refused(reason=reason) if reason in _REFUSALS:
            return _REFUSALS[reason](name)
    return refusal(answer)
