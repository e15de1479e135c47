"""Which rooms this client is in, as far as it knows, and whether an entry is for it. Nothing is asked here.

rooms.py asks the server and notes what it says, inbox.py reads it.
"""

from collections.abc import Iterable, Mapping

import attrs

from trio_chat.crypto.letters import TO_EVERYONE, SignedRoom
from trio_chat.protocol.records import EVERYONE, EVERYONE_NAME, Room, fold

MAX_HEARD = 1000
"""How many names of rooms are remembered, so that a server cannot fill our memory with them."""

MAX_LEFT = 1000
"""How many rooms are remembered that we have left, or were removed from; the latest."""


@attrs.define(eq=False)
class Memberships:
    """The rooms that a client is in besides that of everyone.

    `is_complete`: it is in no others. `beginnings`: how often it has forgotten what it knew, with each registration.
    """

    is_complete: bool = attrs.field(init=False, default=False)
    beginnings: int = attrs.field(init=False, default=0)
    _rooms: dict[str, Room] = attrs.field(init=False, factory=dict)
    _left: dict[str, str] = attrs.field(init=False, factory=dict)
    _heard: dict[str, str] = attrs.field(init=False, factory=dict)

    def forget(self) -> None:
        """Begin again: another program of the owner may have joined rooms or left some."""
        self.doubt()
        self._left.clear()

    def doubt(self) -> None:
        """The server says that we are not in a room in which we thought that we are. What we have left, we know."""
        self.beginnings += 1
        self.is_complete = False
        self._rooms.clear()

    def complete(self, rooms: Iterable[Room]) -> None:
        """These are all rooms that we are in."""
        self._rooms = {room.id: room for room in rooms if room.id != EVERYONE}
        self.is_complete = True

    def hear(self, *names: str) -> None:
        """There are rooms with these names."""
        self._heard |= {fold(name): name for name in names if fold(name) != EVERYONE_NAME}
        while len(self._heard) > MAX_HEARD:
            del self._heard[next(iter(self._heard))]

    def heard(self) -> list[str]:
        """The names of rooms that we have heard of, by name. We may be in them or not."""
        return [self._heard[name] for name in sorted(self._heard)]

    def join(self, room: Room) -> None:
        """We are in this room."""
        self.hear(room.name)
        if room.id != EVERYONE:
            self._rooms[room.id] = room

    def may_join(self, name: str) -> None:
        """We ask to join the room of this name: what comes from it is for us from now on, also if we had left it."""
        for id_ in [id_ for id_, left in self._left.items() if fold(left) == fold(name)]:
            del self._left[id_]

    def leave(self, id: str, name: str) -> None:
        """We are not in this room."""
        self._rooms.pop(id, None)
        self._left.pop(id, None)
        self._left[id] = name
        # Removals come from the server: it may remove us from one room after the other.
        if len(self._left) > MAX_LEFT:
            del self._left[next(iter(self._left))]

    def find(self, name: str) -> Room | None:
        """The room of this name, if we know that we are in it."""
        return next((room for room in self._rooms.values() if fold(room.name) == fold(name)), None)

    def names(self) -> list[str]:
        """The names of the rooms, in the order in which they were joined."""
        return [room.name for room in sorted(self._rooms.values(), key=lambda room: room.joined)]

    def is_for_us(self, id: str, seq: int) -> bool:
        """Whether what was sent to this room as entry `seq` of the log is for us. If we do not know, it is."""
        if room := self._rooms.get(id):
            return seq > room.joined
        return id == EVERYONE or not (self.is_complete or id in self._left)

    def invited(self, room: Room) -> None:
        """An owner has put us into this room, in which we were not."""
        self._left.pop(room.id, None)
        # A list of our rooms that is being asked for may have been made before that.
        self.beginnings += 1
        self.join(room)

    def signed_room(self, id: str, names: Mapping[str, str]) -> SignedRoom | None:
        """The room with this id, by its name. `names`: what the server has said now; None if it has not said it."""
        if id == EVERYONE:
            return TO_EVERYONE
        room = self._rooms.get(id)
        name = room.name if room else names.get(id)
        # No room but that of everyone has its name: it would look as if all had got what was sent there.
        return None if name is None or fold(name) == EVERYONE_NAME else SignedRoom(id, name)
