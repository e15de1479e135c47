"""What a client keeps of messages that it has accepted from its user and that are not yet sent.

When they are sent is decided in client/outbox.py. The other tables of a client are in client_store.py.
"""

import sqlite3
from collections.abc import Callable
from typing import Protocol

import attrs

OUTBOX_MIGRATION = """
    CREATE TABLE outgoing (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, recipient TEXT NOT NULL, room TEXT NOT NULL,
        text TEXT NOT NULL, at REAL NOT NULL, attempted_at REAL, is_received INTEGER NOT NULL DEFAULT 0,
        room_id TEXT NOT NULL
    );
    ALTER TABLE sent ADD COLUMN saved_at REAL;
    UPDATE sent SET saved_at = at;
    """


@attrs.frozen
class Outgoing:
    """A message that waits. `number`: how its user calls it; 0 before the store has given it one.

    `recipient`: a person, or empty; then `room` is the name of a room. `at`: when it was accepted, `attempted_at`: when
    it was first tried to send it, None if it was not; by our clock, seconds since 1970, UTC. `is_received`: the program
    of the recipient has it, and has not said yet that it is on its disk. `room_id`: of a private room; else empty.
    """

    number: int
    id: bytes
    recipient: str
    room: str
    text: str
    at: float
    attempted_at: float | None = None
    is_received: bool = attrs.field(default=False, converter=bool)
    room_id: str = ""


class OutboxStore(Protocol):
    """A part of a ClientStore."""

    def outgoing(self) -> list[Outgoing]:
        """All messages that wait, in the order in which they were accepted."""

    def outgoing_size(self) -> tuple[int, int]:
        """How many messages wait, and how many bytes of text these are."""

    async def put_outgoing(self, message: Outgoing, on_stored: Callable[[Outgoing], object] | None = None) -> Outgoing:
        """Make a message durable; return it with its number, which no other one gets.

        `on_stored` is called with it when it is durable, also if this was cancelled before. It must not raise.
        """

    async def attempt_outgoing(self, message: Outgoing, at: float) -> Outgoing:
        """Note, before it is sent for the first time, that it may arrive from now on; return it with this time."""

    def outgoing_received(self, message: Outgoing) -> Outgoing:
        """Note that it is received; return it so. May become durable a little later (100 ms), with a `note` of then."""

    def outgoing_done(self, message: Outgoing) -> None:
        """It does not wait any more. May become durable a little later (100 ms), with a `note` of that moment."""

    async def cancel_outgoing(self, message: Outgoing) -> None:
        """It does not wait any more."""


class OutgoingMessages:
    """The messages that wait, in memory, by their numbers. Both client stores have them in this form."""

    def __init__(self, *messages: Outgoing) -> None:
        self._messages: dict[int, Outgoing] = {}
        self._bytes = 0
        for message in messages:
            self.put(message)

    def all(self) -> list[Outgoing]:
        """All of them, in the order of their numbers."""
        return sorted(self._messages.values(), key=lambda message: message.number)

    def size(self) -> tuple[int, int]:
        """How many there are, and the bytes of their texts."""
        return len(self._messages), self._bytes

    def put(self, message: Outgoing) -> None:
        """Add a message."""
        self._messages[message.number] = message
        self._bytes += len(message.text.encode())

    def replace(self, message: Outgoing) -> Outgoing:
        """Put this message in the place of the one with its number, if that still waits; return it."""
        # It may have been cancelled meanwhile.
        if message.number in self._messages:
            self._messages[message.number] = message
        return message

    def remove(self, number: int) -> None:
        """Remove a message, unless that was done."""
        if message := self._messages.pop(number, None):
            self._bytes -= len(message.text.encode())


def read_outgoing(database: sqlite3.Connection) -> OutgoingMessages:
    """The messages that wait in a file."""
    rows = database.execute(
        "SELECT number, id, recipient, room, text, at, attempted_at, is_received, room_id FROM outgoing ORDER BY number"
    )
    return OutgoingMessages(*(Outgoing(*row) for row in rows))


def write_outgoing(database: sqlite3.Connection, message: Outgoing) -> int:
    """Add a message; return its number."""
    values = (message.id, message.recipient, message.room, message.text, message.at, message.attempted_at)
    # OR REPLACE: this may run twice.
    cursor = database.execute(
        "INSERT OR REPLACE INTO outgoing (id, recipient, room, text, at, attempted_at, room_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*values, message.room_id),
    )
    return int(cursor.lastrowid or 0)


def write_attempt(database: sqlite3.Connection, number: int, at: float) -> None:
    """Note when it was first tried to send a message."""
    database.execute("UPDATE outgoing SET attempted_at = ? WHERE number = ?", (at, number))


def write_received(database: sqlite3.Connection, number: int) -> None:
    """Note that the program of its recipient has a message."""
    database.execute("UPDATE outgoing SET is_received = 1 WHERE number = ?", (number,))


def delete_outgoing(database: sqlite3.Connection, number: int) -> None:
    """Remove a message."""
    database.execute("DELETE FROM outgoing WHERE number = ?", (number,))
