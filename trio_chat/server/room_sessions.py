"""The rooms that there are, and which sessions are in them: who gets what is posted to a room (pure).

Who is in a room while they are away is known to the store alone.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from trio_chat.crypto.room_keys import signed_epoch
from trio_chat.protocol.log import room_of
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, fold
from trio_chat.protocol.room_messages import BeginEpoch, JoinRoom, LeaveRoom, RoomRequest
from trio_chat.server.sessions import RoomEvent, Session


class RoomSessions:
    """All rooms, and the sessions in each of them but that of everyone. `names`: by the ids of the rooms."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._sessions: dict[str, dict[Session, None]] = {}

    def add(self, rooms: Iterable[tuple[str, str]]) -> None:
        """There are rooms with these ids and names."""
        for id_, name in rooms:
            self.names[id_], self._ids[fold(name)] = name, id_

    def remove(self, ids: Iterable[str]) -> None:
        """These rooms are no more."""
        for id_ in ids:
            del self._ids[fold(self.names.pop(id_))]

    def names_in(self, entries: Iterable[Entry]) -> tuple[tuple[str, str], ...]:
        """The ids and names of the rooms that these entries are about."""
        ids = {room_of(entry) for entry in entries}
        return tuple((id_, self.names[id_]) for id_ in sorted(ids - {EVERYONE}) if id_ in self.names)

    def sessions(self, room: str) -> Collection[Session]:
        """The sessions in a room."""
        return self._sessions.get(room, {})

    def told_of(self, request: RoomRequest) -> Collection[Session]:
        """The sessions that are told of what this request changes."""
        match request:
            case JoinRoom(name=name):
                return self.sessions(self._ids.get(fold(name), ""))
            case LeaveRoom(room=room) | BeginEpoch(room=room):
                return self.sessions(room)
        return ()

    def enter(self, session: Session, rooms: Mapping[str, int]) -> None:
        """A session begins in these rooms, unless it has left one in the moment since the store was asked.

        If it has come back since, that is known here.
        """
        for room, joined in rooms.items():
            if room not in session.left:
                self._enter(session, room, joined)

    def changed(self, entry: Entry, session_of: Callable[[str], Session | None]) -> RoomEvent | None:
        """Somebody has created, joined or left a room, or begun an epoch of it. `session_of` a name that is online."""
        kind, id_ = EntryKind(entry.kind), entry.recipient
        session = session_of(entry.sender)
        match kind:
            case EntryKind.EPOCH:
                return self._began(entry, session_of)
            case EntryKind.CREATED:
                self.add([(id_, entry.body.decode())])
        # The name may have got a new owner meanwhile.
        if session is not None and session.key == entry.key:
            if kind == EntryKind.LEFT:
                self._leave(session, id_)
            else:
                self._enter(session, id_, entry.seq)
        return RoomEvent(kind, self.names[id_], entry.sender) if id_ in self.names else None

    def _began(self, entry: Entry, session_of: Callable[[str], Session | None]) -> RoomEvent | None:
        """New members enter with the epoch. Those who are no longer in it get an entry of their own, which ends it."""
        epoch = signed_epoch(entry.body).epoch
        for name, key in epoch.names.items():
            session = session_of(name)
            if session is not None and session.key == key and entry.recipient not in session.rooms:
                # Of a session that has just begun it is not known yet since when it is in the room: see `enter`.
                self._enter(session, entry.recipient, entry.seq - 1)
        # The first one has created the room: an entry before it says so.
        return RoomEvent(EntryKind.EPOCH, epoch.name, entry.sender) if epoch.n > 1 else None

    def removed(self, entry: Entry, session: Session) -> None:
        """This session's name has been removed from a private room."""
        self._leave(session, room_of(entry))

    def leave_all(self, session: Session) -> None:
        """A session has ended."""
        for room in list(session.rooms):
            self._leave(session, room)

    def _enter(self, session: Session, room: str, joined: int) -> None:
        session.rooms[room] = joined
        self._sessions.setdefault(room, {})[session] = None

    def _leave(self, session: Session, room: str) -> None:
        session.left.add(room)
        session.rooms.pop(room, None)
        sessions = self._sessions.get(room, {})
        sessions.pop(session, None)
        if not sessions:
            self._sessions.pop(room, None)
