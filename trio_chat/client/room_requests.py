"""Asking the server about rooms: lists and epochs, which come in parts, and what its refusals are for the user.

What is asked, and when, is decided in rooms.py and private_rooms.py.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import trio

from trio_chat import errors
from trio_chat.client.letter_sender import refusal
from trio_chat.client.registration import Registration
from trio_chat.protocol.messages import Answer, Refused
from trio_chat.protocol.records import EVERYONE, EVERYONE_NAME, MAX_EPOCH, Reason, Room, fold
from trio_chat.protocol.room_messages import (
    EPOCH_PART,
    MAX_MEMBERS_LISTED,
    MAX_ROOMS_LISTED,
    EpochPart,
    GetEpoch,
    ListMembers,
    ListRooms,
    MemberList,
    RoomList,
)
from trio_chat.transport.ids import new_id

MAX_LISTED = 10_000
"""How many rooms, or members, are asked for. A server that goes on after them is asked no more: ListTooLong."""

MAX_OWN_LISTED = 1000
"""How many rooms that we are in are asked for: these are remembered. A server lets a key be in a tenth of that."""

MAX_PARTS_ASKED = 2 * MAX_EPOCH // EPOCH_PART
"""In how many parts an epoch may come. A server that goes on and on is asked no more."""

MAX_PAUSES = 3
MAX_PAUSE = 1.0
"""How often a part of a long list is asked for again after TooFast, and the longest pause before that, in seconds."""

_REFUSALS: dict[Reason, Callable[[str], errors.ChatError]] = {
    Reason.EXISTS: errors.RoomExists,
    Reason.NO_SUCH_ROOM: errors.NoSuchRoom,
    Reason.NOT_A_MEMBER: errors.NotAMember,
    Reason.ROOM_FULL: errors.RoomFull,
    Reason.PRIVATE: errors.RoomIsPrivate,
    Reason.NOT_AN_OWNER: errors.NotAnOwner,
}


def room_refusal(answer: Answer, name: str) -> errors.ChatError:
    """The error for a request about the room of this name that the server has refused."""
    match answer:
        case Refused(reason=Reason.TOO_MANY_ROOMS):
            return errors.TooManyRooms()
        case Refused(reason=Reason.NO_MORE_ROOMS):
            return errors.NoMoreRooms()
        case Refused(reason=reason) if reason in _REFUSALS:
            return _REFUSALS[reason](name)
    return refusal(answer)


def just_before(name: str) -> str:
    """What the server must be asked for names after, so that this name, if there is one, is the first to come."""
    folded = fold(name)
    # \x7f sorts after all characters of names; after 32 characters no name goes on.
    return f"{folded[:-1]}{chr(ord(folded[-1]) - 1)}\x7f"[:32]


def is_called(room: Room, name: str) -> bool:
    """Whether a room has this name, and is not another one under the name of everyone."""
    return fold(room.name) == fold(name) and (room.id == EVERYONE) == (fold(name) == EVERYONE_NAME)


async def ask_for_part(registration: Registration, request: ListRooms | ListMembers | GetEpoch) -> Answer:
    """Ask for a part of something. If it is only a moment too early for that, wait."""
    pauses = MAX_PAUSES
    while True:
        answer = await registration.ask(request)
        match answer:
            case Refused(reason=Reason.TOO_FAST, after=after) if after <= MAX_PAUSE and pauses:
                pauses -= 1
                await trio.sleep(after)
            case _:
                return answer


async def ask_for_epoch(registration: Registration, room: str, n: int, name: str) -> tuple[bytes, int, int]:
    """The bytes of an epoch, the entry with which it has begun, and its number. 0 asks for the present one."""
    body = b""
    for _ in range(MAX_PARTS_ASKED):
        match await ask_for_part(registration, GetEpoch(new_id(), room, n, len(body))):
            case EpochPart(part=part, size=size) as found if part and n in (0, found.n):
                # The present epoch may change between two parts: the number stays the one that has come first.
                body, n = body + part, found.n
                if len(body) >= size:
                    return body, found.seq, n
            case EpochPart():
                break
            case answer:
                raise room_refusal(answer, name)
    raise errors.ServerNotResponding


async def ask_for_rooms(registration: Registration, *, own: bool) -> list[Room]:
    """The rooms that there are, or our own, by name. Raises ListTooLong."""
    rooms: list[Room] = []
    after: str | None = ""
    while after is not None:
        if len(rooms) >= (MAX_OWN_LISTED if own else MAX_LISTED):
            raise errors.ListTooLong
        match await ask_for_part(registration, ListRooms(new_id(), after, own)):
            case RoomList(rooms=part):
                rooms += part
                after = _end_of_part(after, [room.name for room in part], MAX_ROOMS_LISTED)
            case answer:
                raise room_refusal(answer, "")
    return [room for room in rooms if is_called(room, room.name)]


async def find_room(registration: Registration, name: str) -> Room:
    """The room of this name. Raises NoSuchRoom."""
    match await ask_for_part(registration, ListRooms(new_id(), just_before(name))):
        case RoomList(rooms=(room, *_)) if is_called(room, name):
            return room
        case RoomList():
            raise errors.NoSuchRoom(name)
        case answer:
            raise room_refusal(answer, name)


async def ask_for_members(registration: Registration, room: str, name: str) -> list[str]:
    """The names of those who are in a room, as the server says. Raises ListTooLong."""
    members: list[str] = []
    after: str | None = ""
    while after is not None:
        # Not cut: who is missing counts as having left.
        if len(members) >= MAX_LISTED:
            raise errors.ListTooLong
        match await ask_for_part(registration, ListMembers(new_id(), room, after)):
            case MemberList(names=names):
                members += names
                after = _end_of_part(after, names, MAX_MEMBERS_LISTED)
            case answer:
                raise room_refusal(answer, name)
    return members


def _end_of_part(after: str, names: Sequence[str], size: int) -> str | None:
    """What the next part of a list comes after. None: this was the last one."""
    # A list must go on with each part: else a server could keep us asking for the same ones.
    is_in_order = all(one < other for one, other in pairwise(map(fold, (after, *names))))
    return names[-1] if len(names) == size and is_in_order else None
