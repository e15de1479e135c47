"""The rows of a client's store: what its transactions do with what was received, with letters, and with pinned keys.

The tables, and when this is done, are in client_store.py.
"""

import sqlite3
from collections.abc import Sequence

import attrs

from trio_chat.protocol.records import fold
from trio_chat.storage.client_interface import SEEN_LIMIT, EntryKey, OpenedEntry
from trio_chat.storage.history import Noted, write_entry
from trio_chat.storage.sent_letters import SentLetter
from trio_chat.storage.shares import fair_share


def keep_rows(database: sqlite3.Connection, new: Sequence[OpenedEntry]) -> None:
    """Add entries that are not shown yet."""
    for one in new:
        # OR IGNORE: this may run twice.
        database.execute(
            "INSERT OR IGNORE INTO received (seq, kind, id, sender, sent_at, text, hash, signed_at, room)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (one.seq, one.kind, one.id, one.sender, one.at, one.text, one.hash, one.signed_at, one.room),
        )


@attrs.define(eq=False)
class Arrival:
    """A message that came directly and is not written yet. Most are shown before that, and are written once.

    `noted`: its entry in the history, if it has one. `keeps_text`: whether the text stays when it has been shown.
    """

    entry: OpenedEntry
    keeps_text: bool
    is_shown: bool = False
    noted: Noted | None = None

    def write(self, database: sqlite3.Connection) -> None:
        """Add its row, and its entry. May run twice, but the same each time: nothing changes after the first."""
        one = self.entry
        text = one.text if self.keeps_text or not self.is_shown else None
        inserted = database.execute(
            "INSERT OR IGNORE INTO received (seq, kind, id, sender, sent_at, text, hash, signed_at, room, shown)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (one.seq, one.kind, one.id, one.sender, one.at, text, one.hash, one.signed_at, one.room, self.is_shown),
        )
        is_new = inserted.rowcount > 0
        if self.is_shown and not is_new:
            mark_row_shown(database, one.key, self.keeps_text)
        if self.noted:
            write_entry(database, self.noted, inserted.lastrowid if is_new else None)


def see_row(database: sqlite3.Connection, key: EntryKey, hash_: bytes) -> None:
    """Note that something was seen."""
    database.execute(
        "INSERT OR IGNORE INTO received (kind, sender, id, hash, sent_at, shown) VALUES (?, ?, ?, ?, 0, 1)",
        (*key, hash_),
    )


def mark_row_shown(database: sqlite3.Connection, key: EntryKey, keeps_text: bool) -> None:
    """Note that something was shown; keep its text, or not."""
    database.execute(
        "UPDATE received SET shown = 1, text = CASE WHEN ? THEN text END WHERE kind = ? AND sender = ? AND id = ?",
        (keeps_text, *key),
    )


def forget_oldest_rows(database: sqlite3.Connection) -> list[EntryKey]:
    """Forget all but SEEN_LIMIT, what is unshown, and what is in the history; return what is forgotten.

    Those who have sent most are forgotten first, the oldest of each. Else somebody who sends 100,000 messages could
    make a server show us those of others again.
    """
    # By their order, not by a time: a clock that is wrong once would make a server show a client old messages again.
    kept = "shown AND number NOT IN (SELECT letter FROM entries WHERE letter IS NOT NULL)"
    counts = database.execute(f"SELECT count(*) FROM received WHERE {kept} GROUP BY sender").fetchall()  # noqa: S608
    share = fair_share((count for (count,) in counts), SEEN_LIMIT)
    # A share of 0: there are more senders than that.
    sender, limit = ("lower(sender)", share) if share else ("''", SEEN_LIMIT)
    return database.execute(
        "DELETE FROM received WHERE number IN (SELECT number FROM ("  # noqa: S608
        f" SELECT number, row_number() OVER (PARTITION BY {sender} ORDER BY number DESC) AS place"
        f" FROM received WHERE {kept}) WHERE place > ?) RETURNING kind, lower(sender), id",
        (limit,),
    ).fetchall()


def remember_sent(database: sqlite3.Connection, letter: SentLetter, forgotten: Sequence[bytes]) -> None:
    """Add a letter; forget these."""
    database.execute(
        "INSERT OR REPLACE INTO sent (id, recipient, key, hash, at, saved_at) VALUES (?, ?, ?, ?, ?, ?)",
        attrs.astuple(letter),
    )
    forget_sent(database, forgotten)


def mark_row_saved(database: sqlite3.Connection, id_: bytes, at: float) -> None:
    """Note that the server keeps a letter since then."""
    database.execute("UPDATE sent SET saved_at = ? WHERE id = ?", (at, id_))


def mark_rows_passed(database: sqlite3.Connection, recipient: str) -> None:
    """Note that the server keeps no letters to this name any more."""
    database.execute("UPDATE sent SET saved_at = NULL WHERE lower(recipient) = ?", (fold(recipient),))


def forget_sent(database: sqlite3.Connection, ids: Sequence[bytes]) -> None:
    """Forget letters."""
    database.executemany("DELETE FROM sent WHERE id = ?", [(id_,) for id_ in ids])


def pin_key(database: sqlite3.Connection, name: str, key: bytes) -> None:
    """Pin a key for a name."""
    database.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", (name, key))
