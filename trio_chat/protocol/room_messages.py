"""The messages about rooms: requests of clients, and the answers of the server.

Posts to rooms are in messages.py, and so are the unions of all messages.
"""

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from trio_chat.protocol.message_base import Answerable, OfRequest
from trio_chat.protocol.records import MAX_EPOCH, Count, EpochBody, Name, Room, RoomId

MAX_ROOMS_LISTED = 7
MAX_MEMBERS_LISTED = 32
EPOCH_PART = 1000
"""How many rooms, how many of their members, and bytes of an epoch, are in one answer: it must fit into one datagram.
"""


@attrs.frozen
class RoomChanged(OfRequest):
    """The room is created, joined or left. `room`: as it is now. `seq`: the entry that has changed it; 0: none has."""

    kind: ClassVar[int] = 15
    room: Room
    seq: Count = 0


@attrs.frozen
class RoomList(OfRequest):
    """The next rooms by their names. Fewer than MAX_ROOMS_LISTED: there are no more."""

    kind: ClassVar[int] = 16
    rooms: Annotated[tuple[Room, ...], Meta(max_length=MAX_ROOMS_LISTED)]


@attrs.frozen
class MemberList(OfRequest):
    """The next names of those in a room. Fewer than MAX_MEMBERS_LISTED: there are no more."""

    kind: ClassVar[int] = 17
    names: Annotated[tuple[Name, ...], Meta(max_length=MAX_MEMBERS_LISTED)]


@attrs.frozen
class EpochPart(OfRequest):
    """A part of an epoch, which is `size` bytes long. `seq`: the entry with which it has begun."""

    kind: ClassVar[int] = 18
    seq: Count
    n: Count
    size: Annotated[int, Meta(ge=1, le=MAX_EPOCH)]
    part: Annotated[bytes, Meta(max_length=EPOCH_PART)]


RoomAnswer = RoomChanged | RoomList | MemberList | EpochPart


@attrs.frozen
class _RoomRequest(Answerable):
    def changed(self, room: Room, seq: int = 0) -> RoomChanged:
        return RoomChanged(self.kind, self.id, room, seq)


@attrs.frozen
class CreateRoom(_RoomRequest):
    """Client to server: create a room with this name, and be in it."""

    kind: ClassVar[int] = 42
    name: Name


@attrs.frozen
class JoinRoom(_RoomRequest):
    """Client to server: what is posted to the room of this name is for me, too, from now on."""

    kind: ClassVar[int] = 43
    name: Name


@attrs.frozen
class LeaveRoom(_RoomRequest):
    """Client to server: what is posted to this room is not for me any more."""

    kind: ClassVar[int] = 44
    room: RoomId


@attrs.frozen
class ListRooms(Answerable):
    """Client to server: the rooms whose names come after `after`. `own`: only those that I am in."""

    kind: ClassVar[int] = 45
    after: Annotated[str, Meta(max_length=32)] = ""
    own: bool = False

    def listed(self, rooms: tuple[Room, ...]) -> RoomList:
        return RoomList(self.kind, self.id, rooms)


@attrs.frozen
class ListMembers(Answerable):
    """Client to server: who is in this room, the names that come after `after`."""

    kind: ClassVar[int] = 46
    room: RoomId
    after: Annotated[str, Meta(max_length=32)] = ""

    def listed(self, names: tuple[str, ...]) -> MemberList:
        return MemberList(self.kind, self.id, names)


@attrs.frozen
class BeginEpoch(_RoomRequest):
    """Client to server: begin epoch `n` of a private room. The first one creates the room.

    Which members come and go is in the epoch: see epochs.py.
    """

    kind: ClassVar[int] = 47
    room: RoomId
    n: Annotated[int, Meta(ge=1, le=2**53)]
    epoch: EpochBody


@attrs.frozen
class GetEpoch(Answerable):
    """Client to server: epoch `n` of a private room, in which I am listed, from byte `start` on.

    n = 0: the present one, of a room that I am in.
    """

    kind: ClassVar[int] = 48
    room: RoomId
    n: Count = 0
    start: Annotated[int, Meta(ge=0, lt=MAX_EPOCH)] = 0

    def part(self, seq: int, n: int, epoch: bytes) -> EpochPart:
        return EpochPart(self.kind, self.id, seq, n, len(epoch), epoch[self.start : self.start + EPOCH_PART])


RoomRequest = CreateRoom | JoinRoom | LeaveRoom | ListRooms | ListMembers | BeginEpoch | GetEpoch
