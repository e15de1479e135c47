"""The tables of a client's history, and functions of a connection that write, drop, list and search its entries.

The client store calls them in its transactions. The text of a message received is not stored twice: its entry points
to the row of the message, and the full-text index covers both.
"""

import sqlite3

import attrs

from trio_chat.storage.client_interface import EntryKey, HistoryEntry
from trio_chat.storage.search_query import asked_room, fts5_query, without_surrogates
from trio_chat.storage.shares import fair_share

KEPT = 100_000
"""How many entries are kept. When there are more, the oldest ones of the longest conversations go: see `fair_share`."""

# The history begins with the letters that have been shown before there was one. (`letters` has another name since.)
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

# The lengths of conversations: to count them at each write would take as long as all else.
COUNTS_MIGRATION = """
    CREATE TABLE conversations (peer TEXT PRIMARY KEY COLLATE NOCASE, length INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO conversations SELECT peer, count(*) FROM entries GROUP BY peer;
    CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO conversations VALUES (new.peer, 1) ON CONFLICT (peer) DO UPDATE SET length = length + 1;
    END;
    CREATE TRIGGER entry_dropped AFTER DELETE ON entries BEGIN
        UPDATE conversations SET length = length - 1 WHERE peer = old.peer;
        DELETE FROM conversations WHERE peer = old.peer AND length = 0;
    END;
    """

ROOMS_MIGRATION = """
    ALTER TABLE entries ADD COLUMN room TEXT NOT NULL DEFAULT '' COLLATE NOCASE;
    CREATE INDEX entries_by_room ON entries (room) WHERE to_all;
    DROP VIEW history;
    CREATE VIEW history AS
        SELECT entries.number, at, peer, coalesce(entries.text, received.text) AS text, sent, to_all, entries.room
        FROM entries LEFT JOIN received ON received.number = entries.letter;
    """


@attrs.frozen
class Noted:
    """An entry, its number, and the key of the message that it is about, if it was received."""

    number: int
    entry: HistoryEntry
    key: EntryKey | None = None


def write_entry(database: sqlite3.Connection, noted: Noted, row: int | None = None) -> None:
    """Add an entry, unless it is there: the store may write it twice. Call `index_new_entries` after the last one.

    `row`: that of its message, with the text; None if it was sent, or is not known.
    """
    entry, has_text = noted.entry, row is not None
    if row is None and noted.key:
        row = _row_of(database, noted.key)
    # Numbers only rise, so what has no higher one than the index was written before. It may have been dropped since.
    inserted = database.execute(
        "INSERT OR IGNORE INTO entries (number, at, peer, sent, to_all, room, text, letter)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE ?1 > (SELECT coalesce(max(id), 0) FROM history_index_docsize)",
        (noted.number, entry.at, entry.peer, entry.sent, entry.group, entry.room, None if row else entry.text, row),
    )
    if inserted.rowcount and row and not has_text:
        # The row has its text, unless it has been dropped from the history and is written once more.
        database.execute("UPDATE received SET text = ? WHERE number = ? AND text IS NULL", (entry.text, row))


def index_new_entries(database: sqlite3.Connection) -> None:
    """Add the entries that are not in the full-text index yet: they have the highest numbers.

    Once for all that a transaction writes. The trigger of `entries` begins a savepoint, at which FTS5 writes out what
    it has gathered: one row in the index after each entry took four times as long as all else.
    """
    # The index has no table of its own (external content): rows enter and leave it by hand, once each.
    database.execute(
        "INSERT INTO history_index (rowid, text) SELECT number, text FROM history"
        " WHERE number > (SELECT coalesce(max(id), 0) FROM history_index_docsize)"
    )


def _row_of(database: sqlite3.Connection, key: EntryKey) -> int | None:
    query = "SELECT number FROM received WHERE kind = ? AND sender = ? AND id = ?"
    row: tuple[int] | None = database.execute(query, key).fetchone()
    return row[0] if row else None


def drop_oldest_entries(database: sqlite3.Connection) -> None:
    """If there are more than KEPT entries, drop a hundredth of them, and the texts of their messages.

    They are the oldest ones of the longest conversations. Somebody who sends 100,000 messages pushes out their own.
    """
    ((count,),) = database.execute("SELECT coalesce(sum(length), 0) FROM conversations")
    if count <= KEPT:
        return
    left = KEPT - KEPT // 100
    lengths = database.execute("SELECT peer, length FROM conversations").fetchall()
    share = fair_share((length for _, length in lengths), left)
    too_long = [(peer, length - share) for peer, length in lengths if length > share]
    # A share of 0: there are more conversations than entries can be kept, and no long one among them.
    oldest = "SELECT number FROM entries WHERE peer = ?1 ORDER BY number LIMIT ?2"
    if not share:
        oldest, too_long = "SELECT number FROM entries ORDER BY number LIMIT ?2 + length(?1)", [("", count - left)]
    dropped = [number for values in too_long for number in database.execute(oldest, values).fetchall()]
    # From the index first, which needs the text that it holds for each.
    database.executemany(
        "INSERT INTO history_index (history_index, rowid, text)"
        " SELECT 'delete', number, text FROM history WHERE number = ?",
        dropped,
    )
    database.executemany(
        "UPDATE received SET text = NULL WHERE number = (SELECT letter FROM entries WHERE number = ?)", dropped
    )
    database.executemany("DELETE FROM entries WHERE number = ?", dropped)


def newest_entries(database: sqlite3.Connection, peer: str | None, count: int) -> list[HistoryEntry]:
    """The newest entries, oldest first: all, or those of one peer."""
    condition, values = _is_of(peer)
    return _entries(database, f"WHERE {condition}", values, count)


def find_entries(database: sqlite3.Connection, words: str, count: int, peer: str | None = None) -> list[HistoryEntry]:
    """The newest entries with all these words, oldest first: of all, or of one peer. See search_query.py."""
    query = fts5_query(words)
    if not query:
        return []
    condition, values = _is_of(peer)
    inside = f"AND rowid IN (SELECT number FROM entries WHERE {condition})" if values else ""  # noqa: S608
    # The limit is inside, too: a word that is in every entry must not build a list of all of them.
    found = f"SELECT rowid FROM history_index WHERE history_index MATCH ? {inside} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
    return _entries(database, f"WHERE number IN ({found})", (query, *values, _within(count)), count)


def _is_of(peer: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition for the entries of one peer, or a room, and its values."""
    if peer is None:
        return "TRUE", ()
    room = asked_room(peer)
    if room is not None:
        return "to_all AND room = ?", (without_surrogates(room),)
    return "peer = ?", (without_surrogates(peer),)


def _entries(
    database: sqlite3.Connection, condition: str, values: tuple[str | int, ...], count: int
) -> list[HistoryEntry]:
    rows = database.execute(
        f"SELECT at, peer, text, sent, to_all, room FROM history {condition} ORDER BY number DESC LIMIT ?",  # noqa: S608
        (*values, _within(count)),
    ).fetchall()
    return [
        HistoryEntry(at, peer, text, bool(sent), bool(to_all), room)
        for at, peer, text, sent, to_all, room in reversed(rows)
    ]


def _within(count: int) -> int:
    """A limit for SQLite, to which a negative one would mean no limit."""
    return max(0, min(count, KEPT))
