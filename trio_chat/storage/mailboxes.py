"""How much room there is in the mailboxes of a server's store, and how much of it each sender has.

The counts of a mailbox are in the table `mailboxes`. What waits in it is in the log: see server_log.py.
"""

import json
import sqlite3
from collections.abc import Sequence

import attrs

from trio_chat.protocol.limits import is_fair
from trio_chat.protocol.records import Entry
from trio_chat.storage.interface import MAILBOX_BYTES, MAILBOX_LETTERS


@attrs.define
class Mailbox:
    """The letters that wait for one name, and the bytes of their bodies, with those that are being appended.

    `added`: what is being appended, and `found`: what the database has, of some senders' keys.
    """

    letters: int
    size: int
    added: dict[bytes, tuple[int, int]] = attrs.Factory(dict)
    found: dict[bytes, tuple[int, int]] = attrs.Factory(dict)

    def take(self, database: sqlite3.Connection, letter: Entry) -> bool:
        """Count one more letter. False: there is no room, or its sender has a fair share of it already."""
        key, size = letter.key, len(letter.body)
        if self.letters >= MAILBOX_LETTERS or self.size + size > MAILBOX_BYTES:
            return False
        letters, bytes_ = self.added.get(key, (0, 0))
        # Mostly there is so little that nobody's share of it can be too large.
        if not self._is_fair(self.letters, self.size, size):
            if key not in self.found:
                self.found[key] = _letters_of(database, letter)
            if not self._is_fair(self.found[key][0] + letters, self.found[key][1] + bytes_, size):
                return False
        self.added[key] = (letters + 1, bytes_ + size)
        self.letters, self.size = self.letters + 1, self.size + size
        return True

    def _is_fair(self, letters: int, bytes_: int, size: int) -> bool:
        return is_fair(letters, 1, MAILBOX_LETTERS - self.letters) and is_fair(bytes_, size, MAILBOX_BYTES - self.size)


def _letters_of(database: sqlite3.Connection, letter: Entry) -> tuple[int, int]:
    """How many letters with the key of this one wait for its recipient, and how many bytes."""
    row: tuple[int, int] = database.execute(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM entries"
        " WHERE kept = 1 AND recipient = lower(?) AND recipient > '$' AND kind = 'direct' AND key = ?",
        (letter.recipient, letter.key),
    ).fetchone()
    return row


def mailboxes_of(database: sqlite3.Connection, entries: Sequence[Entry]) -> dict[str, Mailbox]:
    """What waits for the recipients of these entries."""
    rows = database.execute(
        "SELECT name, letters, bytes FROM mailboxes WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(list({entry.recipient for entry in entries})),),
    )
    return {name: Mailbox(letters, size) for name, letters, size in rows}
