"""The ServerStore on SQLite: names, mailboxes, open group posts and answers, durable when a method returns.

Each method submits one function to the group commit. It takes effect as a whole or not at all.
"""

import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from trio_chat.protocol.records import RECEIPT_KINDS, Credentials, Letter, LetterKind, PublicKeys, Record, fold
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.group_commit import GroupCommit, Runner, in_thread
from trio_chat.storage.interface import (
    BATCH_LETTERS,
    MAILBOX_BYTES,
    MAILBOX_LETTERS,
    HandedOver,
    Kept,
    LetterKey,
    OpenPost,
    Status,
    oldest_batch,
)
from trio_chat.tasks import open_background

SERVER_SCHEMA = Schema(
    application_id=0x74434853,  # "tCHS"
    migrations=(
        """
        CREATE TABLE names (
            name TEXT PRIMARY KEY COLLATE NOCASE, host TEXT NOT NULL, port INTEGER NOT NULL, since REAL NOT NULL,
            letters INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
            missed INTEGER NOT NULL DEFAULT 0, missed_id BLOB
        ) WITHOUT ROWID;
        CREATE TABLE letters (
            recipient TEXT NOT NULL COLLATE NOCASE, number INTEGER NOT NULL,
            kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
            sent_at REAL NOT NULL, text TEXT NOT NULL,
            UNIQUE (recipient, number), UNIQUE (recipient, kind, sender, id)
        );
        CREATE TABLE posts (
            number INTEGER PRIMARY KEY, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
            sent_at REAL NOT NULL, text TEXT NOT NULL, recipients TEXT NOT NULL, UNIQUE (sender, id)
        );
        CREATE TABLE answers (
            kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
            status TEXT NOT NULL, sent_at REAL NOT NULL, PRIMARY KEY (kind, sender, id)
        ) WITHOUT ROWID;
        CREATE INDEX answers_by_age ON answers (sent_at);
        """,
        # New columns of type BLOB: a renamed column would keep its type, and would still turn numbers into text.
        """
        ALTER TABLE names ADD COLUMN signing BLOB;
        ALTER TABLE names ADD COLUMN link BLOB;
        ALTER TABLE names ADD COLUMN certificate BLOB
            CHECK ((signing IS NULL) + (link IS NULL) + (certificate IS NULL) IN (0, 3));
        ALTER TABLE letters ADD COLUMN body BLOB NOT NULL DEFAULT x'';
        UPDATE letters SET body = CAST(text AS BLOB);
        ALTER TABLE letters DROP COLUMN text;
        ALTER TABLE posts ADD COLUMN body BLOB NOT NULL DEFAULT x'';
        UPDATE posts SET body = CAST(text AS BLOB);
        ALTER TABLE posts DROP COLUMN text;
        ALTER TABLE answers ADD COLUMN receipt BLOB NOT NULL DEFAULT x'';
        """,
    ),
)


@asynccontextmanager
async def open_server_store(path: Path, run: Runner[object] | None = None) -> AsyncIterator["SqliteServerStore"]:
    """Open the store in a file, which is created if needed; close it when the block ends.

    `run` runs a transaction; None is a worker thread.

    Raises:
        StoreError: the file cannot be used.
        StoreFailed: something could not be made durable; the block has been cancelled.
    """
    with closing(open_database(path, SERVER_SCHEMA)) as connection:
        async with open_background() as nursery:
            commits = GroupCommit(connection, run or in_thread())
            nursery.start_soon(commits.write)
            yield SqliteServerStore(commits, connection)


class SqliteServerStore:
    """A ServerStore in a file; see `open_server_store`."""

    def __init__(self, commits: GroupCommit, connection: sqlite3.Connection) -> None:
        self._commits = commits
        row = connection.execute(
            "SELECT max(coalesce((SELECT max(number) FROM letters), 0), coalesce((SELECT max(number) FROM posts), 0))"
        ).fetchone()
        self._number: int = row[0]

    async def load(self) -> tuple[list[Record], list[str], list[OpenPost]]:
        return await self._commits.submit(_load)

    async def save_name(self, record: Record) -> int:
        return await self._commits.submit(lambda database: _save_name(database, record))

    async def forget(self, name: str) -> bool:
        return await self._commits.submit(lambda database: _forget(database, name))

    async def save(self, recipient: str, letter: Letter) -> Kept:
        number = self._next()
        return await self._commits.submit(lambda database: _save(database, recipient, number, letter))

    async def post(self, letter: Letter, recipients: Collection[str]) -> Kept:
        number, names = self._next(), " ".join(sorted(map(fold, recipients)))
        return await self._commits.submit(lambda database: _post(database, number, letter, names))

    async def finish_post(self, letter: Letter, left: Collection[str]) -> None:
        names = list(left)
        await self._commits.submit(lambda database: _finish_post(database, letter, names))

    async def waiting(self, name: str) -> Sequence[Letter]:
        return await self._commits.submit(lambda database: _waiting(database, name))

    async def acknowledge(self, name: str, handed: Iterable[HandedOver], relayed: Collection[LetterKey]) -> list[str]:
        numbered = [(self._next(), one) for one in handed]
        at_once = frozenset(relayed)
        return await self._commits.submit(lambda database: _acknowledge(database, name, numbered, at_once))

    async def forget_answers(self, before: float) -> None:
        await self._commits.submit(
            lambda database: database.execute("DELETE FROM answers WHERE sent_at < ?", (before,))
        )

    def _next(self) -> int:
        self._number += 1
        return self._number


# --- what a transaction does ---


def _load(database: sqlite3.Connection) -> tuple[list[Record], list[str], list[OpenPost]]:
    names = database.execute("SELECT name, host, port, since, signing, link, certificate FROM names ORDER BY since")
    waiting = database.execute("SELECT DISTINCT recipient FROM letters UNION SELECT name FROM names WHERE missed > 0")
    posts = database.execute("SELECT sender, id, sent_at, body, recipients FROM posts ORDER BY number")
    return (
        [Record(name, host, port, False, since, _credentials(*keys)) for name, host, port, since, *keys in names],
        [fold(name) for (name,) in waiting],
        [
            OpenPost(Letter(LetterKind.GROUP, id_, sender, sent_at, body), frozenset(recipients.split()))
            for sender, id_, sent_at, body, recipients in posts
        ],
    )


def _credentials(signing: bytes | None, link: bytes | None, certificate: bytes | None) -> Credentials | None:
    if signing is None or link is None or certificate is None:
        return None
    return Credentials(PublicKeys(signing, link), certificate)


def _save_name(database: sqlite3.Connection, record: Record) -> int:
    own = record.credentials
    keys = (own.keys.signing, own.keys.link, own.certificate) if own else (None, None, None)
    database.execute(
        "INSERT INTO names (name, host, port, since, signing, link, certificate) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name, host = excluded.host, port = excluded.port,"
        " since = excluded.since, signing = excluded.signing, link = excluded.link, certificate = excluded.certificate",
        (record.name, record.host, record.port, record.since, *keys),
    )
    (letters,) = database.execute("SELECT letters FROM names WHERE name = ?", (record.name,)).fetchone()
    posts = database.execute("SELECT recipients FROM posts").fetchall()
    coming: int = letters + sum(fold(record.name) in recipients.split() for (recipients,) in posts)
    return coming


def _forget(database: sqlite3.Connection, name: str) -> bool:
    updated = database.execute(
        "UPDATE names SET signing = NULL, link = NULL, certificate = NULL WHERE name = ?", (name,)
    )
    return updated.rowcount == 1


def _save(database: sqlite3.Connection, recipient: str, number: int, letter: Letter) -> Kept:
    if before := _answer(database, letter):
        return before
    if not _put(database, recipient, number, letter):
        return Kept(Status.FULL, letter.sent_at)
    _remember(database, letter, Status.SAVED)
    return Kept(Status.NEW, letter.sent_at)


def _post(database: sqlite3.Connection, number: int, letter: Letter, recipients: str) -> Kept:
    if before := _answer(database, letter):
        return before
    database.execute(
        "INSERT INTO posts (number, sender, id, sent_at, body, recipients) VALUES (?, ?, ?, ?, ?, ?)",
        (number, letter.sender, letter.id, letter.sent_at, letter.body, recipients),
    )
    _remember(database, letter, Status.SAVED)
    return Kept(Status.NEW, letter.sent_at)


def _finish_post(database: sqlite3.Connection, letter: Letter, left: Sequence[str]) -> None:
    (number,) = database.execute(
        "DELETE FROM posts WHERE sender = ? AND id = ? RETURNING number", (letter.sender, letter.id)
    ).fetchone()
    for name in left:
        if not _put(database, name, number, letter):
            database.execute("UPDATE names SET missed = missed + 1, missed_id = ? WHERE name = ?", (letter.id, name))


def _waiting(database: sqlite3.Connection, name: str) -> list[Letter]:
    rows = database.execute(
        "SELECT kind, id, sender, sent_at, body FROM letters WHERE recipient = ? ORDER BY number LIMIT ?",
        (name, BATCH_LETTERS),
    ).fetchall()
    batch = oldest_batch(Letter(LetterKind(kind), *row) for kind, *row in rows)
    if len(batch) == len(rows) < BATCH_LETTERS:
        own_name, missed, missed_id = database.execute(
            "SELECT name, missed, missed_id FROM names WHERE name = ?", (name,)
        ).fetchone()
        if missed:
            batch.append(Letter(LetterKind.MISSED, missed_id, own_name, 0.0, count=missed))
    return batch


def _acknowledge(
    database: sqlite3.Connection, name: str, numbered: Sequence[tuple[int, HandedOver]], relayed: Collection[LetterKey]
) -> list[str]:
    receipted = []
    for number, one in numbered:
        letter = one.letter
        if letter.kind is LetterKind.MISSED:
            database.execute("UPDATE names SET missed = max(0, missed - ?) WHERE name = ?", (letter.count, name))
        elif _take(database, name, letter) and letter.kind is LetterKind.DIRECT:
            if letter.key in relayed:
                _remember(database, letter, Status.DELIVERED if one.opened else Status.UNREADABLE, one.receipt)
            else:
                (reader,) = database.execute("SELECT name FROM names WHERE name = ?", (name,)).fetchone()
                kind = LetterKind.RECEIPT if one.opened else LetterKind.UNREADABLE
                receipt = Letter(kind, letter.id, reader, letter.sent_at, one.receipt)
                _insert(database, letter.sender, number, receipt)
                receipted.append(letter.sender)
    return receipted


# --- parts of a transaction ---


def _answer(database: sqlite3.Connection, letter: Letter) -> Kept | None:
    row = database.execute(
        "SELECT status, sent_at, receipt FROM answers WHERE kind = ? AND sender = ? AND id = ?",
        (letter.kind, letter.sender, letter.id),
    ).fetchone()
    return row and Kept(Status[row[0]], *row[1:])


def _remember(database: sqlite3.Connection, letter: Letter, status: Status, receipt: bytes = b"") -> None:
    database.execute(
        "INSERT OR REPLACE INTO answers (kind, sender, id, status, sent_at, receipt) VALUES (?, ?, ?, ?, ?, ?)",
        (letter.kind, letter.sender, letter.id, status.name, letter.sent_at, receipt),
    )


def _put(database: sqlite3.Connection, recipient: str, number: int, letter: Letter) -> bool:
    """Put a letter into a mailbox, if there is room."""
    size = len(letter.body)
    letters, held = database.execute("SELECT letters, bytes FROM names WHERE name = ?", (recipient,)).fetchone()
    if letters >= MAILBOX_LETTERS or held + size > MAILBOX_BYTES:
        return False
    if _insert(database, recipient, number, letter):
        _count(database, recipient, 1, size)
    return True


def _insert(database: sqlite3.Connection, recipient: str, number: int, letter: Letter) -> bool:
    inserted = database.execute(
        "INSERT OR IGNORE INTO letters (recipient, number, kind, sender, id, sent_at, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (recipient, number, letter.kind, letter.sender, letter.id, letter.sent_at, letter.body),
    )
    return inserted.rowcount == 1


def _take(database: sqlite3.Connection, name: str, letter: Letter) -> bool:
    """Remove a letter from a mailbox, if it is there."""
    deleted = database.execute(
        "DELETE FROM letters WHERE recipient = ? AND kind = ? AND sender = ? AND id = ?",
        (name, letter.kind, letter.sender, letter.id),
    )
    if deleted.rowcount and letter.kind not in RECEIPT_KINDS:
        _count(database, name, -1, -len(letter.body))
    return deleted.rowcount == 1


def _count(database: sqlite3.Connection, name: str, letters: int, size: int) -> None:
    database.execute("UPDATE names SET letters = letters + ?, bytes = bytes + ? WHERE name = ?", (letters, size, name))
