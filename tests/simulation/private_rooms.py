"""What is left of private rooms at the end of a world: on the server's disk, and in what the clients know."""

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import attrs

from tests.simulation.disk import Disk
from tests.simulation.trace import PRIVATELY
from trio_chat.crypto.room_keys import SignedEpoch, signed_epoch

if TYPE_CHECKING:
    from tests.simulation.programs import Person


@attrs.frozen
class Post:
    """A post to a private room, as the server has it."""

    seq: int
    id: bytes
    sender: str
    room: str
    body: bytes


@attrs.frozen
class RoomsKept:
    """What a server has on its disk of private rooms.

    `epochs`: all of each room by their numbers, and the entries with which they have begun. `members`: the names (in
    lower case) in each room. `has_words`: whether a text to a private room can be read there.
    """

    epochs: dict[str, dict[int, tuple[int, SignedEpoch]]]
    members: dict[str, set[str]]
    posts: list[Post]
    has_words: bool

    def present(self, room: str) -> SignedEpoch:
        """The present epoch of a room."""
        return self.epochs[room][max(self.epochs[room])][1]

    def begin(self, room: str) -> int:
        """The entry with which that has begun."""
        return self.epochs[room][max(self.epochs[room])][0]


def read_rooms(disk: Disk) -> RoomsKept:
    """Read a copy of the server's disk as it is now."""
    disk.cut_power()  # the running program goes on with the file before
    epochs: dict[str, dict[int, tuple[int, SignedEpoch]]] = {}
    members: dict[str, set[str]] = {}
    with closing(sqlite3.connect(disk.path)) as database:
        for room, n, seq, body in database.execute("SELECT room, n, seq, body FROM epochs ORDER BY seq"):
            epochs.setdefault(room, {})[n] = seq, signed_epoch(body)
        for room, name in database.execute("SELECT room, name FROM members WHERE room GLOB '!*'"):
            members.setdefault(room, set()).add(name.lower())
        query = "SELECT seq, id, sender, recipient, body FROM entries WHERE kind = 'group' AND recipient GLOB '!*'"
        posts = [Post(*row) for row in database.execute(f"{query} ORDER BY seq")]
    has_words = any(PRIVATELY.encode() in path.read_bytes() for path in disk.files())
    return RoomsKept(epochs, members, posts, has_words)


def epochs_known(person: "Person", rooms: RoomsKept) -> dict[str, SignedEpoch]:
    """The present epoch of each room that a person is in, as far as they know."""
    if person.chat is None:
        return {}
    known = {room: person.chat._context.epochs.present(room) for room in rooms.epochs}
    return {room: epoch for room, epoch in known.items() if epoch is not None}
