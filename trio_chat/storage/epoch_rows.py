"""The rows of the table `epochs` in the server's store: what is read of them, and what is too old or too much.

Rows are checked when they are read, and damaged ones set aside. What an epoch changes in its room: server_epochs.py.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import Any

import attrs
import msgspec

from trio_chat.crypto.room_keys import SignedEpoch, signed_epoch
from trio_chat.protocol.log import EPOCHS_BYTES
from trio_chat.protocol.records import Entry, EntryKind, fold
from trio_chat.protocol.wire import WireError

READ_EPOCHS = 16
"""How many numbers of the epochs of a room are read at once. The epochs themselves are read when it is their turn."""

RESTORE_NUMBERS = """
    UPDATE rooms SET epoch = coalesce((SELECT max(n) FROM epochs WHERE room = rooms.id AND typeof(n) = 'integer'), 0)
    WHERE typeof(epoch) <> 'integer' OR epoch < 0"""
"""For rooms whose present number is damaged."""

_FIELDS = ("kind", "seq", "recipient", "sender", "key", "id", "taken_at", "body")
_ROWS = """
    SELECT epochs.seq, epochs.room, epochs.sender, epochs.key, epochs.id, epochs.taken_at, epochs.body, epochs.n
    FROM epochs"""


@attrs.frozen
class EpochRow:
    """The entry of an epoch, and the epoch in it."""

    entry: Entry
    signed: SignedEpoch


def add_epoch(database: sqlite3.Connection, entry: Entry, n: int) -> None:
    """Keep the epoch in this entry, which has its number in the log."""
    database.execute(
        "INSERT INTO epochs (seq, room, n, sender, key, id, taken_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.seq, entry.recipient, n, entry.sender, entry.key, entry.id, entry.taken_at, entry.body),
    )


def present_epoch(database: sqlite3.Connection, damaged: list[str], room: str) -> EpochRow | None:
    """The present epoch of a room; None if it is damaged."""
    query = f"{_ROWS} JOIN rooms ON rooms.id = epochs.room AND rooms.epoch = epochs.n WHERE rooms.id = ?"
    return _first(database, damaged, query, (room,))


def epoch_for(
    database: sqlite3.Connection, damaged: list[str], room: str, n: int, name: str, key: bytes
) -> EpochRow | None:
    """Epoch `n` of a room, or for n = 0 the present one, if this name (in lower case) of this key is listed in it."""
    if n:
        row = _first(database, damaged, f"{_ROWS} WHERE room = ? AND n = ?", (room, n))
    else:
        row = present_epoch(database, damaged, room)
    listed = row.signed.epoch.member(key) if row else None
    return row if listed and fold(listed.name) == name else None


def epochs_after(database: sqlite3.Connection, damaged: list[str], rooms: Iterable[tuple[str, int]]) -> Iterator[Entry]:
    """The epochs of these rooms after an entry of the log each, in order, as entries."""
    for seq in merge(*(_seqs(database, room, after) for room, after in rooms)):
        if row := _first(database, damaged, f"{_ROWS} WHERE seq = ?", (seq,)):
            yield row.entry


def _seqs(database: sqlite3.Connection, room: str, after: int) -> Iterator[int]:
    query = "SELECT seq FROM epochs WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?"
    while found := database.execute(query, (room, after, READ_EPOCHS)).fetchall():
        yield from (seq for (seq,) in found)
        (after,) = found[-1]


def _first(database: sqlite3.Connection, damaged: list[str], query: str, values: Sequence[Any]) -> EpochRow | None:
    row = database.execute(query, values).fetchone()
    if row is None:
        return None
    *fields, n = row
    try:
        named = dict(zip(_FIELDS, (EntryKind.EPOCH, *fields), strict=True))
        entry = msgspec.convert(named, Entry, builtin_types=(bytes,))
        signed = signed_epoch(entry.body)
    except (msgspec.ValidationError, WireError) as error:
        _set_aside(database, damaged, row[0], str(error))
        return None
    if (signed.epoch.room, signed.epoch.n) != (entry.recipient, n):
        _set_aside(database, damaged, entry.seq, "it is another epoch")
        return None
    return EpochRow(entry, signed)


def _set_aside(database: sqlite3.Connection, damaged: list[str], seq: int, why: str) -> None:
    database.execute("INSERT INTO damaged_epochs SELECT * FROM epochs WHERE seq = ?", (seq,))
    database.execute("DELETE FROM epochs WHERE seq = ?", (seq,))
    damaged.append(f"epoch {seq}: {why}")


# --- what is too much, or too old ---


def drop_too_many(database: sqlite3.Connection, room: str) -> int:
    """Drop the oldest epochs of a room, so that EPOCHS_BYTES are left. Returns the first one that is left if any goes.

    The last one stays, however long it is.
    """
    rows = database.execute("SELECT seq, length(body) FROM epochs WHERE room = ? ORDER BY seq DESC", (room,)).fetchall()
    first = size = 0
    for seq, length in rows:
        size += length or 0  # it may be damaged
        if first and size > EPOCHS_BYTES:
            database.execute("DELETE FROM epochs WHERE room = ? AND seq <= ?", (room, seq))
            return int(first)
        first = seq
    return 0


def drop_old_epochs(database: sqlite3.Connection, before: float, most: int) -> bool:
    """Drop epochs after which another one has begun before this time. True if there may be more of them."""
    dropped = database.execute(
        "DELETE FROM epochs WHERE seq IN (SELECT old.seq FROM epochs AS next CROSS JOIN epochs AS old"
        " ON old.room = next.room AND old.seq < next.seq WHERE next.taken_at < ? LIMIT ?)",
        (before, most),
    ).rowcount
    return dropped > 0
