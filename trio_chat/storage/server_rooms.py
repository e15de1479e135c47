"""Rooms in the server's store: which there are, who is in them, and what creating, joining and leaving changes.

A room is a row with the counts of its posts, a member a row with the entry of the log at which they joined. The posts
are in the log: see server_log.py. How private rooms change is in server_epochs.py. The tables are in server_schema.py.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from trio_chat.protocol.limits import Limits, is_fair
from trio_chat.protocol.records import (
    EVERYONE,
    EVERYONE_NAME,
    Count,
    Entry,
    EntryKind,
    Key,
    Room,
    RoomId,
    fold,
    is_private,
    is_room,
    room_id,
)
from trio_chat.storage.interface import RoomChange, Status
from trio_chat.storage.server_log import COUNT_POSTS, LogTransaction

_FIELDS = ("id", "name", "owner", "members", "joined")
# The last column is for setting a damaged row aside: its id may be anything. Whose row in `members` is damaged is not
# in the room, and the room is as it was.
_ROOMS = """
    SELECT id, rooms.name, owner, members, coalesce(joined, 0), rooms.rowid FROM rooms
    LEFT JOIN members
    ON room = id AND members.name = ?1 AND key = ?2 AND typeof(joined) = 'integer' AND joined > 0"""

COUNT_MEMBERS = "UPDATE rooms SET members = (SELECT count(*) FROM members WHERE room = id)"


def change_room(
    transaction: LogTransaction,
    entry: Entry,
    room: Room | None,
    request: tuple[int, bytes],
    limits: Limits,
    origin: str,
) -> RoomChange:
    """Create, join or leave a room. `request`: its number and hash. `origin`: the address that it counts for."""
    status = _status(transaction, entry, room, limits, origin)
    if room is not None and status in (Status.KNOWN, Status.NOT_A_MEMBER):
        # Noted for them alone, so that a late copy of it changes nothing either.
        transaction.note(entry, fold(entry.sender), request)
    if status is not Status.NEW:
        return RoomChange(status, room)
    id_ = room.id if room else room_id(entry.key, entry.id)
    seq = transaction.note(entry, id_, request)
    match entry.kind:
        case EntryKind.CREATED:
            add_room(transaction, id_, entry.body.decode(), entry.key, origin)
            add_member(transaction, id_, fold(entry.sender), entry.key, seq)
        case EntryKind.JOINED:
            add_member(transaction, id_, fold(entry.sender), entry.key, seq)
        case EntryKind.LEFT:
            transaction.database.execute("DELETE FROM members WHERE room = ? AND name = ?", (id_, fold(entry.sender)))
    count_members(transaction, id_, entry.taken_at)
    return RoomChange(Status.NEW, room_by_id(transaction, id_, entry), seq)


def room_of_request(transaction: LogTransaction, entry: Entry) -> Room | None:
    """The room that a request is about, as its sender sees it: its recipient is the id, or its body the name."""
    if entry.kind in (EntryKind.LEFT, EntryKind.EPOCH):
        return room_by_id(transaction, entry.recipient, entry)
    return _first(transaction, f"{_ROOMS} WHERE rooms.name = ?3", entry, entry.body.decode())


def room_by_id(transaction: LogTransaction, id: str, entry: Entry) -> Room | None:
    """The room with this id, as the sender of the entry sees it."""
    return _first(transaction, f"{_ROOMS} WHERE id = ?3", entry, id)


def _first(transaction: LogTransaction, query: str, entry: Entry, value: str) -> Room | None:
    row = transaction.database.execute(query, (entry.sender, entry.key, value)).fetchone()
    return row and _checked(transaction, row)


def _checked(transaction: LogTransaction, row: Sequence[Any]) -> Room | None:
    """The room in a row. None if the row is damaged: then it has been set aside, and nobody is in the room."""
    *fields, rowid = row
    try:
        return msgspec.convert(dict(zip(_FIELDS, fields, strict=True)), Room, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        transaction.damaged.append(f"room {row[0]!r}: {error}")
        transaction.database.execute("INSERT INTO damaged_rooms SELECT * FROM rooms WHERE rowid = ?", (rowid,))
        transaction.database.execute("DELETE FROM rooms WHERE rowid = ?", (rowid,))
        # All whose room is gone: it may be the id that is damaged.
        transaction.database.execute("DELETE FROM members WHERE NOT EXISTS (SELECT * FROM rooms WHERE id = room)")
        transaction.database.execute("DELETE FROM epochs WHERE NOT EXISTS (SELECT * FROM rooms WHERE id = room)")
        return None


def _status(transaction: LogTransaction, entry: Entry, room: Room | None, limits: Limits, origin: str) -> Status:
    """Whether a change is made (NEW), or why it is not."""
    is_member = room is not None and (room.joined > 0 or room.id == EVERYONE)
    match entry.kind, room:
        case EntryKind.CREATED, Room():
            return Status.EXISTS
        # The first request with its id is no longer remembered, but what it has created is still there.
        case EntryKind.CREATED, None if room_by_id(transaction, room_id(entry.key, entry.id), entry):
            return Status.CONFLICT
        case EntryKind.CREATED, None:
            if not may_create(transaction, entry.key, origin, limits):
                return Status.NO_MORE_ROOMS
        case _, None:
            return Status.UNKNOWN
        case EntryKind.LEFT, _:
            return Status.NEW if is_member and room and room.id != EVERYONE else Status.NOT_A_MEMBER
        case _, _ if is_member:
            return Status.KNOWN
        case _, Room(id=id_) if is_private(id_):
            return Status.PRIVATE
        case _, Room(members=members) if members >= limits.members_per_room:
            return Status.FULL
    (joined,) = transaction.database.execute("SELECT count(*) FROM members WHERE key = ?", (entry.key,)).fetchone()
    return Status.NEW if joined < limits.rooms_per_key else Status.TOO_MANY_ROOMS


def may_create(transaction: LogTransaction, key: bytes, origin: str, limits: Limits) -> bool:
    """Whether there may be one more room, of this key at this address."""
    # A rate alone would not do: a room stays for a month after its last member has left it, and for ever if somebody
    # stays in it. So what was created counts, whoever is in it now.
    (rooms,) = transaction.database.execute("SELECT count(*) FROM rooms").fetchone()
    (of_key,) = transaction.database.execute("SELECT count(*) FROM rooms WHERE owner = ?", (key,)).fetchone()
    (of_origin,) = transaction.database.execute(
        "SELECT count(*) FROM rooms WHERE origin = ? AND origin <> ''", (origin,)
    ).fetchone()
    used, free = max(of_key, of_origin), limits.rooms - rooms
    # Who has none gets the last one.
    return is_fair(used, 1, free) if used else free > 0


def is_name_of_room(transaction: LogTransaction, name: str) -> bool:
    """Whether a room has this name."""
    return transaction.database.execute("SELECT 1 FROM rooms WHERE name = ?", (name,)).fetchone() is not None


def add_room(transaction: LogTransaction, id: str, name: str, owner: bytes, origin: str) -> None:
    """There is a room in which nobody is yet."""
    transaction.database.execute(
        "INSERT INTO rooms (id, name, owner, members, posts, bytes, latest, trimmed, unused_since, origin)"
        " VALUES (?, ?, ?, 0, 0, 0, 0, 0, NULL, ?)",
        (id, name, owner, origin),
    )


def add_member(transaction: LogTransaction, room: str, name: str, key: bytes, joined: int) -> None:
    """This name (in lower case) of this key is in a room. Its members have to be counted then."""
    # In place of the last owner of the name, if there is one left.
    transaction.database.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)", (room, name, key, joined))


def count_members(transaction: LogTransaction, id: str, at: float) -> None:
    """Count the members of a room again. `at`: now."""
    transaction.database.execute(f"{COUNT_MEMBERS} WHERE id = ?", (id,))
    transaction.database.execute("UPDATE rooms SET unused_since = iif(members, NULL, ?) WHERE id = ?", (at, id))


# --- names ---


def members_among(transaction: LogTransaction, entries: Sequence[Entry]) -> dict[tuple[str, str, bytes], int]:
    """The senders of these posts who are in the rooms to which they post, and the epochs of these rooms.

    By room, name in lower case and key.
    """
    pairs = {(one.recipient, fold(one.sender)) for one in entries if is_room(one.recipient) and one.recipient}
    if not pairs:
        return {}
    rows = transaction.database.execute(
        "SELECT room, lower(members.name), members.key, epoch FROM json_each(?) AS pair CROSS JOIN members"
        " ON room = json_extract(pair.value, '$[0]') AND members.name = json_extract(pair.value, '$[1]')"
        " CROSS JOIN rooms ON rooms.id = room",
        (json.dumps(list(pairs)),),
    )
    return {(room, name, key): epoch for room, name, key, epoch in rows}


def rooms_of(transaction: LogTransaction, name: str, at: float) -> dict[str, int]:
    """The rooms that a name (in lower case) is in, and with which entry it joined each."""
    rows = transaction.database.execute(
        "SELECT CAST(room AS BLOB), room, key, joined FROM members WHERE name = ?", (name,)
    ).fetchall()
    rooms = {}
    for stored, *row in rows:
        try:
            room, _, joined = msgspec.convert(row, tuple[RoomId, Key, Count], builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            transaction.damaged.append(f"member {name} of {row[0]!r}: {error}")
            transaction.database.execute(
                "DELETE FROM members WHERE name = ? AND CAST(room AS BLOB) IS ?", (name, stored)
            )
            count_members(transaction, row[0], at)
        else:
            rooms[room] = joined
    return rooms


def leave_all(transaction: LogTransaction, name: str, at: float) -> None:
    """A name (in lower case) belongs to its owner no longer: it is in no room any more."""
    rooms = transaction.database.execute("SELECT room FROM members WHERE name = ?", (name,)).fetchall()
    transaction.database.execute("DELETE FROM members WHERE name = ?", (name,))
    for (room,) in rooms:
        count_members(transaction, room, at)


# --- lists ---


def all_rooms(transaction: LogTransaction) -> list[tuple[str, str]]:
    """The ids and names of all rooms. That of everyone is made anew if it is missing, or damaged."""
    rows = transaction.database.execute(_ROOMS, ("", b"")).fetchall()
    rooms = [(room.id, room.name) for row in rows if (room := _checked(transaction, row))]
    if (EVERYONE, EVERYONE_NAME) not in rooms:
        transaction.database.execute(
            "INSERT OR REPLACE INTO rooms VALUES ('', ?, zeroblob(32), 0, 0, 0, 0, 0, NULL, '', 0)", (EVERYONE_NAME,)
        )
        transaction.database.execute(f"{COUNT_POSTS} WHERE id = ''")
        return all_rooms(transaction)
    return rooms


def list_rooms(transaction: LogTransaction, name: str, key: bytes, after: str, own: bool, count: int) -> list[Room]:
    """The next rooms by name; `own`: only those that this name of this key is in, as always of private ones."""
    rows = transaction.database.execute(
        f"{_ROOMS} WHERE rooms.name > ?3 COLLATE NOCASE AND (joined > 0 OR NOT ?4 AND id NOT GLOB '!*')"
        " ORDER BY rooms.name LIMIT ?5",
        (name, key, after, own, count),
    ).fetchall()
    return [room for row in rows if (room := _checked(transaction, row))]


def is_member(transaction: LogTransaction, room: str, name: str, key: bytes) -> bool:
    """Whether this name of this key is in a room that is not that of everyone."""
    query = "SELECT 1 FROM members WHERE room = ? AND name = ? AND key = ?"
    return transaction.database.execute(query, (room, name, key)).fetchone() is not None


def list_members(transaction: LogTransaction, room: str, after: str, count: int) -> list[str]:
    """The next names of those in a room; in that of everyone, of all names."""
    # Ordered as the index is: sorted by the other `name`, all of a room would be read for each page.
    query = (
        "SELECT names.name FROM members JOIN names USING (name)"
        " WHERE room = ?1 AND members.name > ?2 ORDER BY members.name LIMIT ?3"
    )
    if room == EVERYONE:
        query = "SELECT name FROM names WHERE ?1 = '' AND name > ?2 ORDER BY name LIMIT ?3"
    rows = transaction.database.execute(query, (room, after, count)).fetchall()
    return [name for (name,) in rows if isinstance(name, str)]


# --- what is too old ---


def drop_unused(transaction: LogTransaction, before: float, now: float) -> None:
    """Remove the rooms in which nobody has been since before this time."""
    # Later than now: the clock was wrong then, or the row is damaged.
    transaction.database.execute(
        "UPDATE rooms SET unused_since = ?1 WHERE unused_since > ?1 OR (unused_since IS NULL AND members = 0)", (now,)
    )
    gone = transaction.database.execute(
        "DELETE FROM rooms WHERE members = 0 AND id <> '' AND unused_since < ? RETURNING id", (before,)
    ).fetchall()
    transaction.database.executemany("DELETE FROM epochs WHERE room = ?", gone)


def date_unused_forward(transaction: LogTransaction, before: float, now: float) -> None:
    """The clock was set forward: where nobody has been since before this time, nobody has been since now."""
    transaction.database.execute("UPDATE rooms SET unused_since = ? WHERE unused_since < ?", (now, before))
