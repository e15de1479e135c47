"""The ClientStore on SQLite: what one name received and sent at one server, and the keys of others.

Entries are durable when `keep` returns, letters when `will_send` does; all else is written a little later
(WRITE_BEHIND), so that a direct message needs no fsync before it is answered. The tables of the history are in
history.py.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from types import MappingProxyType

import attrs
import trio

from trio_chat.errors import NoHistory, StoreFailed
from trio_chat.protocol.records import RETENTION, fold
from trio_chat.storage.client_interface import SEEN_LIMIT, EntryKey, HistoryEntry, OpenedEntry
from trio_chat.storage.client_rows import (
    Arrival,
    forget_oldest_rows,
    forget_sent,
    keep_rows,
    mark_row_saved,
    mark_row_shown,
    mark_rows_passed,
    pin_key,
    remember_sent,
    see_row,
)
from trio_chat.storage.client_schema import CLIENT_SCHEMA, finish_migration
from trio_chat.storage.database import cannot_use, open_database
from trio_chat.storage.group_commit import GroupCommit, Runner, in_thread
from trio_chat.storage.history import (
    Noted,
    drop_oldest_entries,
    find_entries,
    index_new_entries,
    newest_entries,
    write_entry,
)
from trio_chat.storage.kept_epochs import (
    KeptEpoch,
    KeptEpochs,
    end_epochs,
    read_epochs,
    write_epochs,
)
from trio_chat.storage.outgoing import (
    Outgoing,
    delete_outgoing,
    read_outgoing,
    write_attempt,
    write_outgoing,
    write_received,
)
from trio_chat.storage.runs import begin_run, end_run, has_wal
from trio_chat.storage.sent_letters import SentLetter, SentLetters
from trio_chat.tasks import WakeUp, open_background

WRITE_BEHIND = 0.1
"""Seconds for which changes (seen, shown, pinned, noted) are gathered before they are written together."""


@asynccontextmanager
async def open_client_store(
    path: Path, run: Runner[object] | None = None, clock: Callable[[], float] = time.time, *, history: bool = True
) -> AsyncIterator["SqliteClientStore"]:
    """Open the store in a file, which is created if needed; write what is outstanding and close it at the end.

    `run` runs a transaction; None is a worker thread. `clock`: seconds since 1970, UTC. The history has up to
    100,000 entries; the longest conversations give way. With `history=False` none is added, what is in it stays there
    unread, and the text of an entry is deleted when it has been shown. `lost_since` of the store says whether a file of
    it has been deleted.

    Raises:
        StoreError: the file cannot be used.
        StoreFailed: something could not be made durable; the block has been cancelled, or has just ended.
    """
    is_complete = has_wal(path)  # SQLite makes the file when it opens the store
    with closing(open_database(path, CLIENT_SCHEMA)) as connection:
        commits = GroupCommit(connection, run or in_thread(), f"the store {path}")
        try:
            store = SqliteClientStore(connection, commits, clock, history)
            killed_since = begin_run(connection, clock())
        except sqlite3.Error as error:
            raise cannot_use(path, error) from error
        store.lost_since = None if is_complete else killed_since
        try:
            async with open_background() as nursery:
                nursery.start_soon(commits.write)
                nursery.start_soon(store._write_behind)
                yield store
        except BaseException:
            with suppress(StoreFailed):  # it would hide the block's own error; letters come again, and are shown twice
                store._write_last(connection)
            raise
        store._write_last(connection)


class SqliteClientStore:
    """A ClientStore in a file; see `open_client_store`.

    `lost_since`: when the last program began to use it, if that was killed and the file `-wal` is gone. What it stored
    may be missing. None: nothing is.
    """

    lost_since: float | None = None

    def __init__(
        self, connection: sqlite3.Connection, commits: GroupCommit, clock: Callable[[], float], history: bool
    ) -> None:
        self._commits = commits
        self._clock = clock
        self._keeps_history = history
        self._migrated_at = finish_migration(connection, clock())
        forget_oldest_rows(connection)
        seen = connection.execute("SELECT kind, lower(sender), id, hash FROM received")
        self._seen: dict[EntryKey, bytes] = {(kind, sender, id_): hash_ for kind, sender, id_, hash_ in seen}
        self._seen_limit = _limit_after(len(self._seen))
        unshown = connection.execute(
            "SELECT seq, kind, id, sender, sent_at, text, hash, signed_at, room FROM received"
            " WHERE NOT shown ORDER BY number"
        )
        self._unshown = {entry.key: entry for entry in (OpenedEntry(*row) for row in unshown)}
        sent = connection.execute("SELECT id, recipient, key, hash, at, saved_at FROM sent ORDER BY number")
        self._sent = SentLetters(SentLetter(*row) for row in sent.fetchall())
        self._outgoing = read_outgoing(connection)
        self._pins: dict[str, bytes] = dict(connection.execute("SELECT name, key FROM pins"))
        self._blocked: dict[bytes, str] = dict(connection.execute("SELECT key, name FROM blocked ORDER BY number"))
        ((self._number,),) = connection.execute("SELECT coalesce(max(number), 0) FROM entries")
        self._epochs = KeptEpochs(read_epochs(connection))
        self._unwritten: list[Callable[[sqlite3.Connection], object]] = []
        self._arrivals: dict[EntryKey, Arrival] = {}
        self._written = 0
        self._some_written = trio.Event()
        self._keeping = 0
        self._wake_up = WakeUp()

    def seen(self, key: EntryKey) -> bytes | None:
        return self._seen.get(key)

    def saw(self, key: EntryKey, hash: bytes) -> None:
        self._seen[key] = hash
        self._write_later(lambda database: see_row(database, key, hash))

    async def keep(self, entries: Iterable[OpenedEntry]) -> None:
        new: list[OpenedEntry] = []
        some_known = False
        for entry in entries:
            if entry.key in self._seen:
                some_known = True
            else:
                # Before the commit: meanwhile the same message may come directly from its sender, and would be shown
                # twice. If the commit fails, the program ends, so nothing that is lost stays marked as seen.
                self._seen[entry.key] = entry.hash
                new.append(entry)
        # The server forgets an entry that is acknowledged. One that came directly, too, may still be in the
        # write-behind: it must be on the disk first, as unshown as it is.
        outstanding = self._outstanding() if some_known else None

        def write(database: sqlite3.Connection) -> None:
            if outstanding is not None:
                outstanding(database)
            keep_rows(database, new)

        self._keeping += 1
        try:
            await self._commits.submit(write)
        finally:
            self._keeping -= 1
        self._unshown.update((entry.key, entry) for entry in new)

    def keep_soon(self, entry: OpenedEntry) -> None:
        if entry.key not in self._seen:
            self._seen[entry.key] = entry.hash
            self._unshown[entry.key] = entry
            arrival = self._arrivals[entry.key] = Arrival(entry, self._keeps_history)
            self._write_later(arrival.write)

    async def flush(self) -> None:
        upto = self._written + len(self._unwritten)
        while self._written < upto:
            await self._some_written.wait()
        # What was seen may be an entry that `keep` writes at this moment. Requests are committed in their order.
        if self._keeping:
            await self._commits.submit(lambda database: None)

    def unshown(self) -> list[OpenedEntry]:
        return list(self._unshown.values())

    def shown(self, entry: OpenedEntry) -> None:
        key = entry.key
        history = entry.history if self._unshown.pop(key, None) else None
        noted = self._noted(history, key) if history else None
        if arrival := self._arrivals.pop(key, None):
            arrival.is_shown, arrival.noted = True, noted
            return
        if noted:
            self._write_later(lambda database: write_entry(database, noted))
        self._write_later(lambda database: mark_row_shown(database, key, self._keeps_history))

    async def will_send(self, letter: SentLetter) -> None:
        forgotten = self._sent.add(letter)
        await self._commits.submit(lambda database: remember_sent(database, letter, forgotten))

    def sent(self, id: bytes) -> SentLetter | None:
        return self._sent.get(id)

    def saved(self, id: bytes, at: float) -> None:
        if self._sent.saved(id, at):
            self._write_later(lambda database: mark_row_saved(database, id, at))

    def passed(self, recipient: str) -> None:
        if self._sent.passed(recipient):
            self._write_later(lambda database: mark_rows_passed(database, recipient))

    def newest_at_server(self, recipient: str) -> SentLetter | None:
        return self._sent.newest_at_server(recipient)

    def is_at_server(self, recipient: str, since: float) -> bool:
        return self._sent.is_at_server(recipient, since)

    def settled(self, id: bytes) -> None:
        if self._sent.remove(id):
            self._write_later(lambda database: forget_sent(database, [id]))

    def knows_all_sent(self) -> bool:
        return self._migrated_at is None or self._clock() - self._migrated_at > RETENTION

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key
        self._write_later(lambda database: pin_key(database, fold(name), key))

    def pin_count(self) -> int:
        return len(self._pins)

    def blocked(self) -> Mapping[bytes, str]:
        return MappingProxyType(self._blocked)

    async def block(self, key: bytes, name: str) -> None:
        self._blocked.setdefault(key, name)
        await self._commits.submit(
            lambda database: database.execute("INSERT OR IGNORE INTO blocked (key, name) VALUES (?, ?)", (key, name))
        )

    async def unblock(self, key: bytes) -> None:
        self._blocked.pop(key, None)
        await self._commits.submit(lambda database: database.execute("DELETE FROM blocked WHERE key = ?", (key,)))

    def outgoing(self) -> list[Outgoing]:
        return self._outgoing.all()

    def outgoing_size(self) -> tuple[int, int]:
        return self._outgoing.size()

    async def put_outgoing(self, message: Outgoing, on_stored: Callable[[Outgoing], object] | None = None) -> Outgoing:
        def note(number: int) -> None:
            stored = attrs.evolve(message, number=number)
            self._outgoing.put(stored)
            if on_stored is not None:
                on_stored(stored)

        number: int = await self._commits.submit(lambda database: write_outgoing(database, message), note)
        return attrs.evolve(message, number=number)

    async def attempt_outgoing(self, message: Outgoing, at: float) -> Outgoing:
        await self._commits.submit(lambda database: write_attempt(database, message.number, at))
        return self._outgoing.replace(attrs.evolve(message, attempted_at=at))

    def outgoing_received(self, message: Outgoing) -> Outgoing:
        self._write_later(lambda database: write_received(database, message.number))
        return self._outgoing.replace(attrs.evolve(message, is_received=True))

    def outgoing_done(self, message: Outgoing) -> None:
        self._outgoing.remove(message.number)
        self._write_later(lambda database: delete_outgoing(database, message.number))

    async def cancel_outgoing(self, message: Outgoing) -> None:
        self._outgoing.remove(message.number)
        await self._commits.submit(lambda database: delete_outgoing(database, message.number))

    def epochs(self) -> list[KeptEpoch]:
        return self._epochs.all()

    async def keep_epochs(self, epochs: Iterable[KeptEpoch]) -> None:
        new = list(epochs)
        await self._commits.submit(lambda database: write_epochs(database, new))
        self._epochs.keep(new)

    async def end_room(self, room: str, *, forget: bool) -> None:
        await self._commits.submit(lambda database: end_epochs(database, room, forget=forget))
        self._epochs.end(room, forget=forget)

    def note(self, entry: HistoryEntry) -> None:
        if noted := self._noted(entry):
            self._write_later(lambda database: write_entry(database, noted))

    def _noted(self, entry: HistoryEntry, key: EntryKey | None = None) -> Noted | None:
        if not self._keeps_history:
            return None
        self._number += 1
        return Noted(self._number, entry, key)

    async def history(self, peer: str | None, count: int) -> list[HistoryEntry]:
        return await self._ask(lambda database: newest_entries(database, peer, count))

    async def search(self, words: str, count: int, peer: str | None = None) -> list[HistoryEntry]:
        return await self._ask(lambda database: find_entries(database, words, count, peer))

    async def _ask(self, request: Callable[[sqlite3.Connection], list[HistoryEntry]]) -> list[HistoryEntry]:
        if not self._keeps_history:
            raise NoHistory
        outstanding = self._outstanding()  # an answer must have what was noted a moment ago

        def ask(database: sqlite3.Connection) -> list[HistoryEntry]:
            outstanding(database)
            return request(database)

        return await self._commits.submit(ask)

    def _write_last(self, connection: sqlite3.Connection) -> None:
        # Without a thread: a cancelled block cannot wait for one.
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self._outstanding()(connection)
                end_run(connection)
            # SQLite does this at its end, but only if it can remove the -wal file.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._commits.failure(error) from error

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
                self._written += count
                self._some_written.set()
                self._some_written = trio.Event()
            if len(self._seen) > self._seen_limit:
                for key in await self._commits.submit(forget_oldest_rows):
                    self._seen.pop(key, None)
                self._seen_limit = _limit_after(len(self._seen))

    def _outstanding(self) -> Callable[[sqlite3.Connection], None]:
        writes = self._unwritten.copy()
        # They may be written from now on, in another thread, and then once more: what is shown now is another write.
        self._arrivals.clear()

        def write(database: sqlite3.Connection) -> None:
            for one in writes:
                one(database)
            if self._keeps_history:
                index_new_entries(database)
                drop_oldest_entries(database)

        return write


def _limit_after(count: int) -> int:
    """How many may be seen before the oldest are forgotten again. That reads the whole table, so it is done rarely."""
    return max(count, SEEN_LIMIT) + SEEN_LIMIT // 10
