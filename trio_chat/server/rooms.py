"""What clients ask about rooms: each request is done in the store and answered, in the order in which they came.

Who is in which room is known to the store. Which sessions get a post is in service.py, messages to rooms are appended
in server.py.
"""

import trio

from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import read_epoch_untrusted
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Answer
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, Reason, fold, is_private
from trio_chat.protocol.room_messages import (
    MAX_MEMBERS_LISTED,
    MAX_ROOMS_LISTED,
    BeginEpoch,
    CreateRoom,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
)
from trio_chat.server.sessions import AskRoom
from trio_chat.server.throttle import Throttle
from trio_chat.storage.interface import ServerStore, Status
from trio_chat.tasks import WakeUp
from trio_chat.transport.endpoint import Endpoint

_REASONS = {
    Status.UNKNOWN: Reason.NO_SUCH_ROOM,
    Status.EXISTS: Reason.EXISTS,
    Status.NOT_A_MEMBER: Reason.NOT_A_MEMBER,
    Status.TOO_MANY_ROOMS: Reason.TOO_MANY_ROOMS,
    Status.NO_MORE_ROOMS: Reason.NO_MORE_ROOMS,
    Status.FULL: Reason.ROOM_FULL,
    Status.CONFLICT: Reason.CONFLICT,
    Status.PRIVATE: Reason.PRIVATE,
    Status.NOT_AN_OWNER: Reason.NOT_AN_OWNER,
    Status.WRONG_EPOCH: Reason.WRONG_EPOCH,
    Status.UNKNOWN_MEMBER: Reason.UNKNOWN,
    Status.THEY_ARE_IN_TOO_MANY: Reason.THEY_ARE_IN_TOO_MANY,
}


class RoomRequests:
    """The requests about rooms that wait. Run `loop` as a task."""

    def __init__(self, endpoint: Endpoint, store: ServerStore, throttle: Throttle) -> None:
        self._endpoint = endpoint
        self._store = store
        self._throttle = throttle
        self._waiting: list[tuple[Peer, AskRoom]] = []
        self._wake_up = WakeUp()

    def take(self, peer: Peer, asked: AskRoom) -> None:
        """Do this when all that came before it is done. It has a place of the messages in progress until then."""
        self._waiting.append((peer, asked))
        self._wake_up.set()

    async def loop(self) -> None:
        """Do and answer what waits, until cancelled."""
        while True:
            await self._wake_up.wait()
            waiting, self._waiting = self._waiting, []
            for peer, asked in waiting:
                answer = await self._answer(asked)
                self._throttle.end("messages_in_progress", peer.key)
                self._endpoint.answer(peer, asked.request, answer)
            await trio.lowlevel.checkpoint()

    async def _answer(self, asked: AskRoom) -> Answer:
        name, key = asked.name, asked.key
        match asked.request:
            # The store knows it: a session that is just being registered does not have its rooms yet (seed 10003).
            case ListMembers(room=room) as request if is_private(room) and not await self._store.is_member(
                room, name, key
            ):
                return request.refused(Reason.NOT_A_MEMBER)
            case ListRooms(after=after, own=own) as request:
                return request.listed(tuple(await self._store.list_rooms(name, key, after, own, MAX_ROOMS_LISTED)))
            case ListMembers(room=room, after=after) as request:
                return request.listed(tuple(await self._store.list_members(room, after, MAX_MEMBERS_LISTED)))
            case GetEpoch(room=room, n=n) as request:
                if found := await self._store.epoch(room, n, name, key):
                    return request.part(found.seq, found.n, found.body)
                is_member = await self._store.is_member(room, name, key)
                return request.refused(Reason.NO_SUCH_ROOM if is_member else Reason.NOT_A_MEMBER)
            case BeginEpoch() as request if not _is_signed(request, asked):
                return request.refused(Reason.WRONG_EPOCH)
            case BeginEpoch(id=id_, room=room, epoch=epoch) as request:
                entry = Entry(0, EntryKind.EPOCH, id_, name, key, room, asked.at, epoch)
            case CreateRoom(id=id_, name=room) as request:
                entry = Entry(0, EntryKind.CREATED, id_, name, key, EVERYONE, asked.at, room.encode())
            case JoinRoom(id=id_, name=room) as request:
                entry = Entry(0, EntryKind.JOINED, id_, name, key, EVERYONE, asked.at, room.encode())
            case LeaveRoom(id=id_, room=room) as request:
                entry = Entry(0, EntryKind.LEFT, id_, name, key, room, asked.at)
        change = await self._store.change_room(entry, self._throttle.limits, asked.origin)
        if change.status in _REASONS or change.room is None:
            return request.refused(_REASONS[change.status])
        return request.changed(change.room, change.seq)


def _is_signed(request: BeginEpoch, asked: AskRoom) -> bool:
    """Whether the epoch is what the request says, and signed by who asks, who is in it."""
    try:
        epoch = read_epoch_untrusted(request.epoch).epoch
    except Unreadable:
        return False
    member = epoch.member(asked.key)
    is_in_it = member is not None and fold(member.name) == fold(asked.name)
    return (epoch.room, epoch.n, epoch.owner) == (request.room, request.n, asked.key) and is_in_it
