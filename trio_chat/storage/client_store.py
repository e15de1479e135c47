"""The ClientStore on SQLite: the letters of one name at one server, the messages it has seen, and the keys of others.

Letters are durable when `keep` returns; all else is written a little later (WRITE_BEHIND), so that a direct message
needs no fsync before it is answered. The tables of the history are in history.py.
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
from trio_chat.storage.history import MIGRATION, Noted, drop_oldest_entries, find_entries, newest_entries, write_entry
from trio_chat.storage.interface import Entry, LetterKey, OpenedLetter
from trio_chat.tasks import WakeUp, open_background

WRITE_BEHIND = 0.1
"""Seconds for which changes (seen, shown, pinned, noted) are gathered before they are written together."""

CLIENT_SCHEMA = Schema(
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
    path: Path, run: Runner[object] | None = None, clock: Callable[[], float] = time.time, *, history: bool = True
) -> AsyncIterator["SqliteClientStore"]:
    """Open the store in a file, which is created if needed; write what is outstanding and close it at the end.

    `run` runs a transaction; None is a worker thread. `clock`: seconds since 1970, UTC. The history has the newest
    100,000 entries. With `history=False` none is added, what is in it stays there unread, and the text of a letter is
    deleted when it has been shown.

    Raises:
        StoreError: the file cannot be used.
        StoreFailed: something could not be made durable; the block has been cancelled.
    """
    with closing(open_database(path, CLIENT_SCHEMA)) as connection:
        commits = GroupCommit(connection, run or in_thread())
        store = SqliteClientStore(connection, commits, clock, history)
        try:
            async with open_background() as nursery:
                nursery.start_soon(commits.write)
                nursery.start_soon(store._write_behind)
                yield store
        finally:
            # Without a thread: a cancelled block cannot wait for one. If it fails, nothing was promised: letters come
            # again, and are shown twice. That is better than an error in place of the block's own.
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
        ((self._number,),) = connection.execute("SELECT coalesce(max(number), 0) FROM entries")
        self._unwritten: list[Callable[[sqlite3.Connection], object]] = []
        self._wake_up = WakeUp()

    def has(self, key: LetterKey) -> bool:
        return key in self._seen

    def saw(self, key: LetterKey) -> None:
        self._seen.add(key)
        at = self._clock()
        self._write_later(lambda database: _see(database, key, at))

    async def keep(self, letters: Iterable[OpenedLetter]) -> None:
        new: list[OpenedLetter] = []
        known: list[OpenedLetter] = []
        for letter in letters:
            (known if letter.key in self._seen else new).append(letter)
        # Before the commit: meanwhile the same message may come directly from its sender, and would be shown twice. If
        # the commit fails, the program ends, so nothing that is lost stays marked as seen.
        self._seen.update(letter.key for letter in new)
        at = self._clock()
        kept = await self._commits.submit(lambda database: _keep(database, new, known, at))
        self._unshown.update((letter.key, letter) for letter in kept)

    def unshown(self) -> list[OpenedLetter]:
        return list(self._unshown.values())

    def shown(self, letter: OpenedLetter) -> None:
        if self._unshown.pop(letter.key, None) and letter.entry:
            self._note(letter.entry, letter.key)
        self._write_later(lambda database: _mark_shown(database, letter.key, self._keeps_history))

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key
        self._write_later(lambda database: _pin(database, fold(name), key))

    def note(self, entry: Entry) -> None:
        self._note(entry)

    async def history(self, peer: str | None, count: int) -> list[Entry]:
        return await self._ask(lambda database: newest_entries(database, peer, count))

    async def search(self, words: str, count: int) -> list[Entry]:
        return await self._ask(lambda database: find_entries(database, words, count))

    async def _ask(self, request: Callable[[sqlite3.Connection], list[Entry]]) -> list[Entry]:
        if not self._keeps_history:
            raise NoHistory
        outstanding = self._outstanding()  # an answer must have what was noted a moment ago

        def ask(database: sqlite3.Connection) -> list[Entry]:
            outstanding(database)
            return request(database)

        return await self._commits.submit(ask)

    def _note(self, entry: Entry, letter: LetterKey | None = None) -> None:
        if self._keeps_history:
            self._number += 1
            noted = Noted(self._number, entry, letter)
            self._write_later(lambda database: write_entry(database, noted))

    def _write_later(self, write: Callable[[sqlite3.Connection], object]) -> None:
        # One list, in order: a message that was seen and its entry in the history go into the same transaction.
        self._unwritten.append(write)
        self._wake_up.set()

    async def _write_behind(self) -> None:
        while True:
            await self._wake_up.wait()
            await trio.sleep(WRITE_BEHIND)
            if count := len(self._unwritten):
                await self._commits.submit(self._outstanding())
                # Not before: if the store is closed meanwhile, nobody knows whether this is on the disk, and the end of
                # `open_client_store` writes it again. So each of these writes must have the same effect twice.
                del self._unwritten[:count]

    def _outstanding(self) -> Callable[[sqlite3.Connection], None]:
        writes = self._unwritten.copy()

        def write(database: sqlite3.Connection) -> None:
            for one in writes:
                one(database)
            if self._keeps_history:
                drop_oldest_entries(database)

        return write


# --- what a transaction does ---


def _keep(
    database: sqlite3.Connection, new: list[OpenedLetter], known: list[OpenedLetter], at: float
) -> list[OpenedLetter]:
    """Insert letters; return those that were not there."""
    # The server forgets a letter that is acknowledged. One that came directly, too, may still be in the write-behind:
    # that it was seen must be on the disk first.
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


def _mark_shown(database: sqlite3.Connection, key: LetterKey, keeps_text: bool) -> None:
    database.execute(
        "UPDATE letters SET shown = 1, text = CASE WHEN ? THEN text END WHERE kind = ? AND sender = ? AND id = ?",
        (keeps_text, *key),
    )


def _pin(database: sqlite3.Connection, name: str, key: bytes) -> None:
    database.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", (name, key))


def _see(database: sqlite3.Connection, key: LetterKey, at: float) -> None:
    database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (*key, at))
