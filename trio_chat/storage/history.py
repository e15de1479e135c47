"""What was written, by whom and to whom: the tables of a client's history, and how they are filled and asked.

Functions of a connection, for the client store's transactions; when these run is its business. The text of a letter
stays where letters are kept, and is not stored twice: an entry names its letter, and the index is over both.
"""

import sqlite3
from collections.abc import Iterable

import attrs

from trio_chat.storage.interface import Entry, LetterKey
from trio_chat.storage.search_query import fts5_query, without_surrogates

__all__ = ["KEPT", "MIGRATION", "Noted", "find_entries", "newest_entries", "write_entries"]

KEPT = 100_000
"""Entries that are kept, the newest ones."""

# Letters that have been shown already are the beginning of the history.
MIGRATION = """
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY, at REAL NOT NULL, peer TEXT NOT NULL COLLATE NOCASE, sent INTEGER NOT NULL,
        to_all INTEGER NOT NULL, text TEXT, letter INTEGER REFERENCES letters (number),
        CHECK ((text IS NULL) <> (letter IS NULL))
    );
    CREATE INDEX entries_by_peer ON entries (peer);
    CREATE VIEW history AS
        SELECT entries.number, at, peer, coalesce(entries.text, letters.text) AS text, sent, to_all
        FROM entries LEFT JOIN letters ON letters.number = entries.letter;
    CREATE VIRTUAL TABLE history_index USING fts5 (
        text, content = 'history', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO entries (at, peer, sent, to_all, letter)
        SELECT sent_at, sender, 0, kind = 'group', number FROM letters
        WHERE shown AND kind IN ('direct', 'group') AND text IS NOT NULL ORDER BY number;
    INSERT INTO history_index (history_index) VALUES ('rebuild');
    """


@attrs.frozen
class Noted:
    """An entry and its number, and the key of the letter that it came as, if it did."""

    number: int
    entry: Entry
    letter: LetterKey | None = None


def write_entries(database: sqlite3.Connection, noted: Iterable[Noted]) -> None:
    """Add entries, those left out that are there, and drop those that are too many."""
    for one in noted:
        entry, letter = one.entry, one.letter
        inserted = database.execute(
            "INSERT OR IGNORE INTO entries (number, at, peer, sent, to_all, text, letter) VALUES (?, ?, ?, ?, ?, ?,"
            " (SELECT number FROM letters WHERE kind = ? AND sender = ? AND id = ?))",
            (one.number, entry.at, entry.peer, entry.sent, entry.group, None if letter else entry.text)
            + (letter or (None, None, None)),
        )
        if inserted.rowcount:
            database.execute("INSERT INTO history_index (rowid, text) VALUES (?, ?)", (one.number, entry.text))
    _drop(database)


def _drop(database: sqlite3.Connection) -> None:
    """Drop the oldest entries, beyond KEPT, and the texts of their letters."""
    ((last,),) = database.execute("SELECT max(number) - ? FROM entries", (KEPT,))
    if last is None or last <= 0:
        return
    database.execute(
        "INSERT INTO history_index (history_index, rowid, text)"
        " SELECT 'delete', number, text FROM history WHERE number <= ?",
        (last,),
    )
    database.execute(
        "UPDATE letters SET text = NULL WHERE number IN (SELECT letter FROM entries WHERE number <= ?)", (last,)
    )
    database.execute("DELETE FROM entries WHERE number <= ?", (last,))


def newest_entries(database: sqlite3.Connection, peer: str | None, count: int) -> list[Entry]:
    """The newest entries, oldest first: all, or those of one peer."""
    condition, values = ("", ()) if peer is None else ("WHERE peer = ?", (without_surrogates(peer),))
    return _entries(database, condition, values, count)


def find_entries(database: sqlite3.Connection, words: str, count: int) -> list[Entry]:
    """The newest entries with all these words, oldest first; see words.py."""
    query = fts5_query(words)
    if not query:
        return []
    # The limit in here, too, for a word that is everywhere.
    found = "SELECT rowid FROM history_index WHERE history_index MATCH ? ORDER BY rowid DESC LIMIT ?"
    return _entries(database, f"WHERE number IN ({found})", (query, _within(count)), count)


def _entries(database: sqlite3.Connection, condition: str, values: tuple[str | int, ...], count: int) -> list[Entry]:
    rows = database.execute(
        f"SELECT at, peer, text, sent, to_all FROM history {condition} ORDER BY number DESC LIMIT ?",  # noqa: S608
        (*values, _within(count)),
    ).fetchall()
    return [Entry(at, peer, text, bool(sent), bool(to_all)) for at, peer, text, sent, to_all in reversed(rows)]


def _within(count: int) -> int:
    """A limit that SQLite understands: negative ones would be none."""
    return max(0, min(count, KEPT))
