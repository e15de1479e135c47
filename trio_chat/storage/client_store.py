"""The ClientStore on SQLite: the letters of one name at one server, which messages it has seen, whose key is whose,
and what was written (history.py).

Letters are durable when `keep` returns; what was seen, shown, pinned or noted is written behind, within WRITE_BEHIND.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import trio

from trio_chat.errors import NoHistory
from trio_chat.protocol.records import RETENTION, LetterKind, fold
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.group_commit import GroupCommit, Runner, in_thread
from trio_chat.storage.history import MIGRATION, Noted, find_entries, newest_entries, write_entries
from trio_chat.storage.interface import Entry, LetterKey, OpenedLetter
from trio_chat.tasks import open_background

__all__ = ["SCHEMA", "SqliteClientStore", "open_client_store"]

WRITE_BEHIND = 0.1
"""Seconds after which what was seen, shown, pinned and noted is on its way to the disk."""

SCHEMA = Schema(
    application_id=0x74434843,  # "tCHC"
    migrations=(
        """
        CREATE TABLE letters (
            number INTEGER PRIMARY KEY, kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
            sent_at REAL NOT NULL, text TEXT NOT NULL, count INTEGER NOT NULL, shown INTEGER NOT NULL DEFAULT 0,
            UNIQUE (kind, sender, id)
        );
        CREATE INDEX letters_unshown ON letters (number) WHERE NOT shown;
        CREATE TABLE seen (
            kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (kind, sender, id)
        ) WITHOUT ROWID;
        """,
        # A text may be missing now, and SQLite drops a NOT NULL with its column only.
        """
        ALTER TABLE letters ADD COLUMN opened TEXT;
        UPDATE letters SET opened = text;
        ALTER TABLE letters DROP COLUMN text;
        ALTER TABLE letters RENAME COLUMN opened TO text;
        CREATE TABLE pins (name TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
        """,
        MIGRATION,
    ),
)


@asynccontextmanager
async def open_client_store(
    path: Path,
    run: Runner[object] | None = None,
    clock: Callable[[], float] = time.time,
    *,
    history: bool = True,
) -> AsyncIterator["SqliteClientStore"]:
    """Open the store in a file, made if it is not there; write what is outstanding and close it at the end.

    `run` runs a transaction; None is a worker thread. `clock` tells seconds since 1970, UTC. The history has the newest
    100,000 entries; with `history=False` none is added, what is in it stays there unread, and of letters the texts are
    forgotten when they have been shown.

    Raises:
        StoreError: the file cannot be used.
        StoreFailed: something could not be made durable; the block has been cancelled.
    """
    with closing(open_database(path, SCHEMA)) as connection:
        commits = GroupCommit(connection, run or in_thread())
        store = SqliteClientStore(connection, commits, clock, history)
        try:
            async with open_background() as nursery:
                nursery.start_soon(commits.write)
                nursery.start_soon(store._write_behind)
                yield store
        finally:
            # Here and now: a cancelled block could not wait for the writer any more. Nobody was promised this write.
            with suppress(sqlite3.Error), connection:
                connection.execute("BEGIN IMMEDIATE")
                store._outstanding()(connection)


class SqliteClientStore:
    """A ClientStore in a file; see `open_client_store`."""

    def __init__(
        self, connection: sqlite3.Connection, commits: GroupCommit, clock: Callable[[], float], history: bool
    ) -> None:
        self._commits = commits
        self._clock = clock
        self._keeps_history = history
        connection.execute("DELETE FROM seen WHERE at < ?", (clock() - RETENTION,))
        seen = connection.execute("SELECT kind, lower(sender), id FROM seen")
        self._seen: set[LetterKey] = {(LetterKind(kind), sender, id_) for kind, sender, id_ in seen}
        unshown = connection.execute(
            "SELECT kind, id, sender, sent_at, text, count FROM letters WHERE NOT shown ORDER BY number"
        )
        kept = [OpenedLetter(LetterKind(kind), *row) for kind, *row in unshown]
        self._unshown = {letter.key: letter for letter in kept}
        self._pins: dict[str, bytes] = dict(connection.execute("SELECT name, key FROM pins"))
        self._to_see: list[LetterKey] = []
        self._to_show: list[LetterKey] = []
        self._to_pin: list[tuple[str, bytes]] = []
        ((self._number,),) = connection.execute("SELECT coalesce(max(number), 0) FROM entries")
        self._to_note: list[Noted] = []
        self._behind = trio.Event()

    def has(self, key: LetterKey) -> bool:
        return key in self._seen

    def saw(self, key: LetterKey) -> None:
        self._seen.add(key)
        self._to_see.append(key)
        self._behind.set()

    async def keep(self, letters: Iterable[OpenedLetter]) -> None:
        new: list[OpenedLetter] = []
        known: list[OpenedLetter] = []
        for letter in letters:
            (known if letter.key in self._seen else new).append(letter)
        # From now on, not from the commit on: meanwhile the same message may come straight from its sender.
        self._seen.update(letter.key for letter in new)
        at = self._clock()
        kept = await self._commits.submit(lambda database: _keep(database, new, known, at))
        self._unshown.update((letter.key, letter) for letter in kept)

    def unshown(self) -> list[OpenedLetter]:
        return list(self._unshown.values())

    def shown(self, letter: OpenedLetter) -> None:
        if self._unshown.pop(letter.key, None) and letter.entry:
            self._note(letter.entry, letter.key)
        self._to_show.append(letter.key)
        self._behind.set()

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key
        self._to_pin.append((fold(name), key))
        self._behind.set()

    def note(self, entry: Entry) -> None:
        self._note(entry)

    async def history(self, peer: str | None, count: int) -> list[Entry]:
        return await self._ask(lambda database: newest_entries(database, peer, count))

    async def search(self, words: str, count: int) -> list[Entry]:
        return await self._ask(lambda database: find_entries(database, words, count))

    async def _ask(self, request: Callable[[sqlite3.Connection], list[Entry]]) -> list[Entry]:
        if not self._keeps_history:
            raise NoHistory
        outstanding = self._outstanding()

        def ask(database: sqlite3.Connection) -> list[Entry]:
            outstanding(database)
            return request(database)

        return await self._commits.submit(ask)

    def _note(self, entry: Entry, letter: LetterKey | None = None) -> None:
        if self._keeps_history:
            self._number += 1
            self._to_note.append(Noted(self._number, entry, letter))
            self._behind.set()

    async def _write_behind(self) -> None:
        while True:
            await self._behind.wait()
            await trio.sleep(WRITE_BEHIND)
            self._behind = trio.Event()
            seen, shown, pinned = len(self._to_see), len(self._to_show), len(self._to_pin)
            noted = len(self._to_note)
            await self._commits.submit(self._outstanding())
            # Not before: a store that is closed meanwhile writes once more what may not have been written.
            del self._to_see[:seen], self._to_show[:shown], self._to_pin[:pinned], self._to_note[:noted]

    def _outstanding(self) -> Callable[[sqlite3.Connection], None]:
        seen, shown, pins, at = self._to_see.copy(), self._to_show.copy(), self._to_pin.copy(), self._clock()
        noted, keeps_history = self._to_note.copy(), self._keeps_history

        def write(database: sqlite3.Connection) -> None:
            _remember(database, seen, shown, pins, at)
            if keeps_history:
                write_entries(database, noted)
            else:
                _forget_texts(database, shown)

        return write


# --- the requests, each as a whole or not at all ---


def _keep(
    database: sqlite3.Connection, new: list[OpenedLetter], known: list[OpenedLetter], at: float
) -> list[OpenedLetter]:
    """Insert letters; return those that were not there. Of those known the id may not have been written yet."""
    for letter in known:
        _see(database, letter.key, at)
    kept = []
    for letter in new:
        inserted = database.execute(
            "INSERT OR IGNORE INTO letters (kind, id, sender, sent_at, text, count) VALUES (?, ?, ?, ?, ?, ?)",
            (letter.kind, letter.id, letter.sender, letter.sent_at, letter.text, letter.count),
        )
        _see(database, letter.key, at)
        if inserted.rowcount:
            kept.append(letter)
    return kept


def _remember(
    database: sqlite3.Connection,
    seen: Iterable[LetterKey],
    shown: Iterable[LetterKey],
    pins: Iterable[tuple[str, bytes]],
    at: float,
) -> None:
    for key in seen:
        _see(database, key, at)
    database.executemany("UPDATE letters SET shown = 1 WHERE kind = ? AND sender = ? AND id = ?", shown)
    database.executemany("INSERT OR REPLACE INTO pins VALUES (?, ?)", pins)


def _forget_texts(database: sqlite3.Connection, letters: Iterable[LetterKey]) -> None:
    database.executemany("UPDATE letters SET text = NULL WHERE kind = ? AND sender = ? AND id = ?", letters)


def _see(database: sqlite3.Connection, key: LetterKey, at: float) -> None:
    database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (*key, at))
