"""The ServerStore on SQLite: names with their positions, and the log, durable when a method returns.

Each method submits one function of a transaction to the group commit. It takes effect as a whole or not at all. The
tables are in server_schema.py, what is done with the log in server_log.py, what is asked for in server_requests.py,
what operators do in server_rules.py.
"""

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec

from trio_chat.protocol.limits import Limits
from trio_chat.protocol.log import Page, about_letter
from trio_chat.protocol.records import (
    Address,
    Count,
    Credentials,
    Entry,
    EntryKind,
    Record,
    Room,
    Seconds,
    fold,
)
from trio_chat.storage import server_rooms, server_rules
from trio_chat.storage.database import open_database
from trio_chat.storage.epoch_rows import RESTORE_NUMBERS, epoch_for
from trio_chat.storage.group_commit import GroupCommit, Runner, in_thread
from trio_chat.storage.interface import Acknowledged, Appended, KnownName, OnAppended, Position, RoomChange, StoredEpoch
from trio_chat.storage.online_names import names_online, note_online
from trio_chat.storage.past_owners import drop_past_owners, keep_past_owner, past_owners
from trio_chat.storage.rules import Ban, Invitation
from trio_chat.storage.server_log import COUNT_POSTS, LogTransaction
from trio_chat.storage.server_requests import append_requests, take_room_request
from trio_chat.storage.server_retention import date_log_forward, retain_log
from trio_chat.storage.server_schema import SERVER_SCHEMA
from trio_chat.tasks import open_background

log = logging.getLogger(__name__)

DAMAGED = "damaged"
"""For whom a name is reserved if its row does not say it any more."""

_T = TypeVar("_T")


@asynccontextmanager
async def open_server_store(path: Path, run: Runner[object] | None = None) -> AsyncIterator["SqliteServerStore"]:
    """Open the store in a file, which is created if needed; close it when the block ends.

    `run` runs a transaction; None is a worker thread. Damaged rows are logged, and set aside in the file.

    Raises:
        StoreError: the file cannot be used.
        StoreFailed: something could not be made durable; the block has been cancelled.
    """
    with closing(open_database(path, SERVER_SCHEMA)) as connection:
        # Damaged text may not be UTF-8. That would be an error of the connection, as from a broken disk.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        async with open_background() as nursery:
            commits = GroupCommit(connection, run or in_thread(), f"the store {path}")
            nursery.start_soon(commits.write)
            yield SqliteServerStore(commits.submit)


class SqliteServerStore:
    """A ServerStore in a file; see `open_server_store`. `commit` is GroupCommit.submit, or does the same."""

    def __init__(self, commit: Callable[..., Awaitable[Any]]) -> None:
        self._commit = commit
        self._on_appended: OnAppended = lambda entries: None
        self.damaged = 0
        """How many damaged rows have been set aside since the store was opened."""

    async def load(self, on_appended: OnAppended) -> tuple[list[KnownName], int]:
        return await self._submit(_load, on_appended)

    async def past_owners(self) -> list[tuple[str, Credentials]]:
        return await self._submit(past_owners)

    async def save_name(self, record: Record, invitation: bytes = b"") -> Position:
        return await self._submit(lambda transaction: _save_name(transaction, record, invitation))

    async def online(self) -> list[tuple[str, Address]]:
        return await self._submit(names_online)

    async def note_online(self, changes: Mapping[str, Address | float]) -> None:
        folded = {fold(name): address for name, address in changes.items()}
        await self._submit(lambda transaction: note_online(transaction, folded))

    async def forget(self, name: str, only_for: str = "") -> bool:
        return await self._submit(lambda transaction: server_rules.forget_name(transaction, name, only_for))

    async def delete(self, name: str, at: float) -> bool:
        return await self._submit(lambda transaction: server_rules.delete_name(transaction, fold(name), at))

    async def unused(self, online: Iterable[str], before: float, now: float) -> list[str]:
        names = json.dumps(list(online))
        return await self._submit(lambda transaction: server_rules.unused(transaction, names, before, now))

    async def rules(self) -> tuple[list[Ban], list[Invitation]]:
        return await self._submit(server_rules.rules)

    async def ban(self, bans: Iterable[Ban]) -> None:
        rows = [(str(one.kind), one.value, one.name) for one in bans]
        await self._submit(lambda transaction: server_rules.add_bans(transaction, rows))

    async def unban(self, bans: Iterable[Ban]) -> None:
        rows = [(str(one.kind), one.value) for one in bans]
        await self._submit(lambda transaction: server_rules.remove_bans(transaction, rows))

    async def invite(self, invitation: Invitation, now: float) -> None:
        await self._submit(lambda transaction: server_rules.add_invitation(transaction, invitation, now))

    async def append(self, entries: Sequence[Entry]) -> list[Appended]:
        return await self._submit(lambda transaction: append_requests(transaction, entries))

    async def change_room(self, entry: Entry, limits: Limits, origin: str = "") -> RoomChange:
        return await self._submit(lambda transaction: take_room_request(transaction, entry, limits, origin))

    async def epoch(self, room: str, n: int, name: str, key: bytes) -> StoredEpoch | None:
        return await self._submit(lambda transaction: _epoch(transaction, room, n, fold(name), key))

    async def rooms(self) -> list[tuple[str, str]]:
        return await self._submit(server_rooms.all_rooms)

    async def list_rooms(self, name: str, key: bytes, after: str, own: bool, count: int) -> list[Room]:
        return await self._submit(
            lambda transaction: server_rooms.list_rooms(transaction, fold(name), key, after, own, count)
        )

    async def is_member(self, room: str, name: str, key: bytes) -> bool:
        return await self._submit(lambda transaction: server_rooms.is_member(transaction, room, name, key))

    async def list_members(self, room: str, after: str, count: int) -> list[str]:
        return await self._submit(lambda transaction: server_rooms.list_members(transaction, room, after, count))

    async def read(self, name: str, after: int) -> Page:
        return await self._submit(lambda transaction: transaction.read(fold(name), after))

    async def acknowledge(self, acknowledged: Sequence[Acknowledged], at: float) -> None:
        await self._submit(lambda transaction: _acknowledge(transaction, acknowledged, at))

    async def advance(self, positions: Mapping[str, int]) -> None:
        await self._submit(lambda transaction: _advance(transaction, positions))

    async def retain(self, before: float, now: float) -> bool:
        return await self._submit(lambda transaction: _retain(transaction, before, now))

    async def date_forward(self, before: float, now: float) -> None:
        def work(transaction: LogTransaction) -> None:
            date_log_forward(transaction, before, now)
            server_rules.date_forward(transaction, before, now)
            server_rooms.date_unused_forward(transaction, before, now)

        await self._submit(work)

    async def _submit(self, work: Callable[[LogTransaction], _T], on_appended: OnAppended | None = None) -> _T:
        def request(database: sqlite3.Connection) -> tuple[_T, LogTransaction]:
            transaction = LogTransaction(database)
            return work(transaction), transaction

        def committed(done: tuple[_T, LogTransaction]) -> None:
            _, transaction = done
            # Not at the call: what earlier transactions append until then is part of what this one has read.
            self._on_appended = on_appended or self._on_appended
            for damage in transaction.damaged:
                log.error("damaged, set aside: %s", damage)
            self.damaged += len(transaction.damaged)
            if transaction.appended:
                self._on_appended(transaction.appended)

        result: tuple[_T, LogTransaction] = await self._commit(request, committed)
        return result[0]


# --- names ---


def _load(transaction: LogTransaction) -> tuple[list[KnownName], int]:
    rows = transaction.database.execute(
        "SELECT number, name, host, port, since, signing, link, certificate, freed, reserved,"
        " position, letters, bytes FROM names LEFT JOIN mailboxes USING (name) ORDER BY number"
    ).fetchall()
    names = [known for row in rows if (known := _known_name(transaction, row))]
    _check_counts(transaction.database)
    server_rooms.all_rooms(transaction)  # sets damaged rows aside: a post to everyone needs their row
    return names, transaction.head


def _known_name(transaction: LogTransaction, row: Sequence[Any]) -> KnownName | None:
    """The name in a row. None if the row is damaged: then it has been set aside, and nobody has the name."""
    number, name, host, port, since, signing, link, certificate, freed, reserved, *counts = row
    is_owned = (signing, link, certificate) != (None, None, None)
    credentials = {"keys": {"signing": signing, "link": link}, "certificate": certificate} if is_owned else None
    fields = {"name": name, "host": host, "port": port, "online": False, "since": since, "credentials": credentials}
    try:
        record = msgspec.convert(fields, Record, builtin_types=(bytes,))
        msgspec.convert(counts, tuple[Count, Count, Count])
    except msgspec.ValidationError as error:
        transaction.database.execute(
            "INSERT INTO damaged_names"
            " (number, name, host, port, since, signing, link, certificate, freed, reserved, seen,"
            " position, letters, bytes)"
            " SELECT names.*, position, letters, bytes FROM names LEFT JOIN mailboxes USING (name) WHERE number = ?",
            (number,),
        )
        transaction.database.execute("DELETE FROM mailboxes WHERE name = ?", (name,))
        transaction.database.execute("DELETE FROM names WHERE number = ?", (number,))
        transaction.damaged.append(f"name {number}: {error}")
        return None
    if freed:
        # Not a fingerprint: nobody may take it until the operator says so again.
        only_for = reserved if isinstance(reserved, str | None) else DAMAGED
        return KnownName(attrs.evolve(record, credentials=None), record.credentials, only_for or "")
    return KnownName(record, record.credentials)


def _check_counts(database: sqlite3.Connection) -> None:
    """If the counts of the log are damaged, count again. The head must not go back, whatever they say."""
    rows = database.execute("SELECT head, latest FROM log").fetchall()
    counts = database.execute("SELECT posts, bytes, latest, trimmed, members, epoch FROM rooms").fetchall()
    (last,) = database.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM entries), 0), coalesce((SELECT max(position) FROM mailboxes), 0))"
    ).fetchone()
    try:
        ((head, _),) = msgspec.convert(rows, tuple[tuple[Count, Seconds]])
        msgspec.convert(counts, list[tuple[Count, Count, Count, Count, Count, Count]])
        if head >= last:
            return
    except msgspec.ValidationError:
        pass
    log.error("the counts of the log are damaged: %r", rows)
    database.execute(server_rooms.COUNT_MEMBERS)
    database.execute(RESTORE_NUMBERS)
    database.execute("DELETE FROM log")
    database.execute(
        "INSERT INTO log SELECT ?, coalesce((SELECT max(taken_at) FROM entries WHERE typeof(taken_at) = 'real'), 0)",
        (last,),
    )
    database.execute(COUNT_POSTS)


def _save_name(transaction: LogTransaction, record: Record, invitation: bytes) -> Position:
    database, name, own = transaction.database, fold(record.name), record.credentials
    known = database.execute(
        "SELECT signing, position, letters FROM names LEFT JOIN mailboxes USING (name) WHERE name = ?", (name,)
    ).fetchone()
    reader = transaction.owner(name)
    unread: list[Entry] = []
    if known is not None and own is not None and known[0] == own.keys.signing:
        position, letters = known[1:]
    else:
        keep_past_owner(transaction, name)
        position, letters = transaction.head, 0
        # Of a new name, too: its row may have been damaged, and set aside.
        unread = transaction.take_all_letters(name, position)
        server_rooms.leave_all(transaction, name, record.since)
        database.execute("INSERT OR REPLACE INTO mailboxes VALUES (?, ?, 0, 0)", (name, position))
    keys = (own.keys.signing, own.keys.link, own.certificate) if own else (None, None, None)
    database.execute(
        "INSERT OR REPLACE INTO names (number, name, host, port, since, signing, link, certificate, freed)"
        " SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, 0 FROM names",
        (record.name, record.host, record.port, record.since, *keys),
    )
    if record.online:
        note_online(transaction, {name: record.address})
    if invitation:
        database.execute("DELETE FROM invitations WHERE hash = ?", (invitation,))
    # Now that the name has its new owner: the last one may have written to themselves.
    failed = [one for one in unread if transaction.has_its_sender(one)]
    transaction.append([about_letter(letter, EntryKind.FAILED, reader, record.since) for letter in failed])
    waiting = letters + transaction.waiting_posts(name, position)
    return Position(position, waiting, transaction.head, server_rooms.rooms_of(transaction, name, record.since))


def _retain(transaction: LogTransaction, before: float, now: float) -> bool:
    is_more = retain_log(transaction, before, now)
    drop_past_owners(transaction)
    server_rooms.drop_unused(transaction, before, now)
    return is_more


def _epoch(transaction: LogTransaction, room: str, n: int, name: str, key: bytes) -> StoredEpoch | None:
    # An epoch lists who was in the room when it began: with its number they get it also after they were removed, for a
    # post that was on its way to them then. Which one is the present one is told to those who are in it now.
    if not n and not server_rooms.is_member(transaction, room, name, key):
        return None
    row = epoch_for(transaction.database, transaction.damaged, room, n, name, key)
    return StoredEpoch(row.entry.seq, row.signed.epoch.n, row.entry.body) if row else None


# --- positions ---


def _acknowledge(transaction: LogTransaction, acknowledged: Sequence[Acknowledged], at: float) -> None:
    receipts = []
    for one in acknowledged:
        reader = transaction.owner(one.name)
        for letter in transaction.take(fold(one.name), one.upto, one.receipts):
            receipt = one.receipts.get(letter.seq)
            if receipt and transaction.has_its_sender(letter):
                receipts.append(about_letter(letter, EntryKind.RECEIPT, reader, at, receipt))
    transaction.append(receipts)


def _advance(transaction: LogTransaction, positions: Mapping[str, int]) -> None:
    # All who are online have a new position after a post: most of them the same.
    names_at: dict[int, list[str]] = defaultdict(list)
    # In their order in the index: 10,000 are found in two thirds of the time.
    for name in sorted(positions):
        names_at[positions[name]].append(fold(name))
    for upto, names in names_at.items():
        # A cross join, or SQLite would go through all notices for each name.
        transaction.database.execute(
            "DELETE FROM entries WHERE seq IN ("
            " SELECT seq FROM json_each(?) CROSS JOIN entries INDEXED BY notices"
            " ON kept = 1 AND request IS NULL AND recipient = value AND seq <= ?"
            " WHERE kind IN ('receipt', 'failed', 'missed', 'removed'))",
            (json.dumps(names), upto),
        )
        transaction.database.execute(
            "UPDATE mailboxes SET position = ?2 WHERE name IN (SELECT value FROM json_each(?1)) AND position < ?2",
            (json.dumps(names), upto),
        )
