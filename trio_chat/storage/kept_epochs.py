"""What a client keeps of the epochs of its private rooms: their keys and, of the present one of each room, all of it.

Which epochs are believed is decided in client/epochs.py. The tables of a client are in client_store.py.
"""

import sqlite3
from collections.abc import Iterable
from typing import Protocol

import attrs

from trio_chat.crypto.room_keys import RoomKey

KEYS_OF_ROOM = 64
ROOM_KEYS_KEPT = 5000
"""How many epochs of one room, and how many keys of past epochs in all, are kept: the newest, for posts that come again
after a crash. One batch has no more than that."""

ENDED_KEPT = 500
"""Of how many rooms that we were removed from the last epoch is kept, the newest."""

EPOCHS_MIGRATION = """
    CREATE TABLE epochs (
        room TEXT NOT NULL, n INTEGER NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
        key BLOB NOT NULL, body BLOB, is_handed INTEGER NOT NULL, is_ended INTEGER NOT NULL, PRIMARY KEY (room, n)
    );
    CREATE INDEX epochs_by_age ON epochs (seq) WHERE body IS NULL;
    """


@attrs.frozen
class KeptEpoch:
    """The key of an epoch, and the entry with which it has begun. `body`: the signed epoch; empty if it is past.

    `is_handed`: that entry was handed over; else we have asked for the epoch. `is_ended`: we were removed from the room
    since, and a later epoch has to follow from this one.
    """

    key: RoomKey
    seq: int
    body: bytes = attrs.field(default=b"", repr=False)
    is_handed: bool = True
    is_ended: bool = False


class KeptEpochs:
    """What a store keeps, in memory."""

    def __init__(self, kept: Iterable[KeptEpoch] = ()) -> None:
        self._kept = {(one.key.room, one.key.n): one for one in kept}

    def all(self) -> list[KeptEpoch]:
        """All, in the order in which they have begun."""
        return sorted(self._kept.values(), key=lambda one: one.seq)

    def keep(self, epochs: Iterable[KeptEpoch]) -> None:
        """Add these; drop what is no longer needed of others."""
        for one in epochs:
            room, n = one.key.room, one.key.n
            self._kept[room, n] = one
            for place, other in self._kept.items():
                if other.key.room == room and other.key.n < n:
                    self._kept[place] = attrs.evolve(other, body=b"")
        self._drop_old()

    def end(self, room: str, *, forget: bool) -> None:
        """We are no longer in a room: only its keys stay and, unless it is forgotten, its last epoch."""
        for place, one in self._kept.items():
            if one.key.room == room:
                self._kept[place] = attrs.evolve(one, body=b"" if forget else one.body, is_ended=True)
        self._drop_old()

    def _drop_old(self) -> None:
        newest = dict(sorted(self._kept))
        old = [place for place in self._kept if place[1] <= newest[place[0]] - KEYS_OF_ROOM]
        past = [one for one in self.all() if not one.body][:-ROOM_KEYS_KEPT]
        ended = [one for one in self.all() if one.body and one.is_ended][:-ENDED_KEPT]
        for place in {*old, *((one.key.room, one.key.n) for one in past + ended)}:
            del self._kept[place]


class EpochStore(Protocol):
    """A part of a ClientStore."""

    def epochs(self) -> list[KeptEpoch]:
        """All that are kept, in the order in which they have begun."""

    async def keep_epochs(self, epochs: Iterable[KeptEpoch]) -> None:
        """Make these durable. Of earlier epochs of the same rooms only the keys stay, of KEYS_OF_ROOM."""

    async def end_room(self, room: str, *, forget: bool) -> None:
        """We are no longer in this room: only keys stay and, unless it is forgotten, its last epoch."""


def read_epochs(database: sqlite3.Connection) -> list[KeptEpoch]:
    """All that are in the file."""
    rows = database.execute(
        "SELECT room, name, n, hash, key, seq, coalesce(body, x''), is_handed, is_ended FROM epochs ORDER BY seq"
    )
    return [
        KeptEpoch(RoomKey(*key), seq, body, bool(is_handed), bool(is_ended))
        for *key, seq, body, is_handed, is_ended in rows
    ]


def write_epochs(database: sqlite3.Connection, epochs: Iterable[KeptEpoch]) -> None:
    """Add these; drop what is no longer needed of others."""
    for one in epochs:
        key = one.key
        values = (one.seq, key.hash, key.key, one.body or None, one.is_handed, one.is_ended)
        database.execute(
            "INSERT OR REPLACE INTO epochs (room, n, name, seq, hash, key, body, is_handed, is_ended)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key.room, key.n, key.name, *values),
        )
        database.execute("UPDATE epochs SET body = NULL WHERE room = ? AND n < ?", (key.room, key.n))
        database.execute("DELETE FROM epochs WHERE room = ? AND n <= ?", (key.room, key.n - KEYS_OF_ROOM))
    _drop_old(database)


def end_epochs(database: sqlite3.Connection, room: str, *, forget: bool) -> None:
    """Keep only the keys of a room and, unless it is forgotten, its last epoch."""
    database.execute(
        "UPDATE epochs SET is_ended = 1, body = iif(?, NULL, body) WHERE room = ?",
        (forget, room),
    )
    _drop_old(database)


def _drop_old(database: sqlite3.Connection) -> None:
    for which, most in (("body IS NULL", ROOM_KEYS_KEPT), ("body IS NOT NULL AND is_ended", ENDED_KEPT)):
        database.execute(
            f"DELETE FROM epochs WHERE {which} AND rowid NOT IN"  # noqa: S608
            f" (SELECT rowid FROM epochs WHERE {which} ORDER BY seq DESC LIMIT ?)",
            (most,),
        )
