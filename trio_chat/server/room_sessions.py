"""The rooms that there are, and which sessions are in them: who gets what is posted to a room (pure).

Who is in a room while they are away is known to the store alone.
"""

from collections.abc import Collection, Iterable, Mapping

from trio_chat.protocol.log import room_of
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, fold
from trio_chat.protocol.room_messages import JoinRoom, LeaveRoom, RoomRequest
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
            case LeaveRoom(room=room):
                return self.sessions(room)
        return ()

    def enter(self, session: Session, rooms: Mapping[str, int]) -> None:
        """A session begins in these rooms, unless it has left one in the moment since the store was asked."""
        for room, joined in rooms.items():
            if room not in session.left:
                session.rooms.setdefault(room, joined)
                self._sessions.setdefault(room, {})[session] = None

    def changed(self, entry: Entry, session: Session | None) -> RoomEvent | None:
        """Somebody has created, joined or left a room. `session`: theirs, if they are online."""
        kind, id_ = EntryKind(entry.kind), entry.recipient
        if kind == EntryKind.CREATED:
            self.add([(id_, entry.body.decode())])
        # The name may have got a new owner meanwhile.
        if session is not None and session.key == entry.key:
            if kind == EntryKind.LEFT:
                session.left.add(id_)
                self._leave(session, id_)
            else:
                session.left.discard(id_)
                session.rooms[id_] = entry.seq
                self._sessions.setdefault(id_, {})[session] = None
        return RoomEvent(kind, self.names[id_], entry.sender) if id_ in self.names else None

    def leave_all(self, session: Session) -> None:
        """A session has ended."""
        for room in list(session.rooms):
            self._leave(session, room)

    def _leave(self, session: Session, room: str) -> None:
        session.rooms.pop(room, None)
        sessions = self._sessions.get(room, {})
        sessions.pop(session, None)
        if not sessions:
            self._sessions.pop(room, None)
