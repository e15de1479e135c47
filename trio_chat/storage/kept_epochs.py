"""What a client keeps of the epochs of its private rooms: their keys and, of the present one of each room, all of it.

Which epochs are believed is decided in client/epochs.py. The tables of a client are in client_store.py.
"""

import math
import sqlite3
from collections.abc import Iterable
from typing import Protocol

import attrs

from trio_chat.crypto.room_keys import RoomKey

ROOM_KEYS_KEPT = 5000
"""How many keys of past epochs are kept, for posts that come again after a crash; the newest."""

EPOCHS_MIGRATION = """
    CREATE TABLE epochs (
        room TEXT NOT NULL, n INTEGER NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
        key BLOB NOT NULL, body BLOB, PRIMARY KEY (room, n)
    );
    CREATE INDEX epochs_by_age ON epochs (seq) WHERE body IS NULL;
    """


@attrs.frozen
class KeptEpoch:
    """The key of an epoch, and the entry with which it has begun. `body`: the signed epoch; empty if it is past."""

    key: RoomKey
    seq: int
    body: bytes = attrs.field(default=b"", repr=False)


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
            self._kept[one.key.room, one.key.n] = one
            self._drop_bodies(one.key.room, one.key.n)
        self._drop_old_keys()

    def end(self, room: str) -> None:
        """Keep only the keys of a room."""
        self._drop_bodies(room)
        self._drop_old_keys()

    def _drop_bodies(self, room: str, before: float = math.inf) -> None:
        for place, one in self._kept.items():
            if one.key.room == room and one.key.n < before:
                self._kept[place] = attrs.evolve(one, body=b"")

    def _drop_old_keys(self) -> None:
        past = [one.key for one in self.all() if not one.body]
        for key in past[:-ROOM_KEYS_KEPT]:
            del self._kept[key.room, key.n]


class EpochStore(Protocol):
    """A part of a ClientStore."""

    def epochs(self) -> list[KeptEpoch]:
        """All that are kept, in the order in which they have begun."""

    async def keep_epochs(self, epochs: Iterable[KeptEpoch]) -> None:
        """Make these durable. Of earlier epochs of the same rooms only the keys stay, of ROOM_KEYS_KEPT."""

    async def end_room(self, room: str) -> None:
        """We are no longer in this room: only keys stay."""


def read_epochs(database: sqlite3.Connection) -> list[KeptEpoch]:
    """All that are in the file."""
    rows = database.execute("SELECT room, name, n, hash, key, seq, coalesce(body, x'') FROM epochs ORDER BY seq")
    return [KeptEpoch(RoomKey(*key), seq, body) for *key, seq, body in rows]


def write_epochs(database: sqlite3.Connection, epochs: Iterable[KeptEpoch]) -> None:
    """Add these; drop what is no longer needed of others."""
    for one in epochs:
        key = one.key
        database.execute(
            "INSERT OR REPLACE INTO epochs (room, n, name, seq, hash, key, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key.room, key.n, key.name, one.seq, key.hash, key.key, one.body or None),
        )
        database.execute("UPDATE epochs SET body = NULL WHERE room = ? AND n < ?", (key.room, key.n))
    _drop_old_keys(database)


def end_epochs(database: sqlite3.Connection, room: str) -> None:
    """Keep only the keys of a room."""
    database.execute("UPDATE epochs SET body = NULL WHERE room = ?", (room,))
    _drop_old_keys(database)


def _drop_old_keys(database: sqlite3.Connection) -> None:
    database.execute(
        "DELETE FROM epochs WHERE body IS NULL AND rowid NOT IN"
        " (SELECT rowid FROM epochs WHERE body IS NULL ORDER BY seq DESC LIMIT ?)",
        (ROOM_KEYS_KEPT,),
    )
