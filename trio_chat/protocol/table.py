"""The client table: the server's, which numbers its changes, and the copy of it that each client keeps.

The rows are ordered by their latest change. So what changed after any version is the end of the table, and a page of
it is itself a change to a version. How changes are sent and acknowledged is not here: see server/ and client/.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import takewhile
from operator import itemgetter

import attrs

from trio_chat.errors import TooManyPeople
from trio_chat.protocol.messages import TableChange
from trio_chat.protocol.records import Record, Version, fold

TABLE_PAGE = 64

MAX_ROWS = 20_000
"""How many names a client takes: twice as many as a server knows. A server that lies cannot fill its memory."""

DELETIONS_LISTED = 64
"""Deleted names that the server lists at least. It lists at most as many as there are names, if those are more."""
NumberedRow = tuple[int, Record]
"""A row, and the number of its latest change."""

_NOTHING: Mapping[str, NumberedRow] = {}


# --- table versions: how two versions of the client table are compared, other than for being the same ---


def _has_reached(held: Version | None, wanted: Version) -> bool:
    """Whether a copy at version `held` has everything up to `wanted`."""
    # Numbers of different epochs say nothing about each other: each server starts to count at 0 again.
    return held is not None and held.epoch == wanted.epoch and held.n >= wanted.n


def _begins_again(held: Version, floor: int, latest_floor: int) -> bool:
    """Whether a copy may have rows whose deletion is not listed any longer. `floor`: that of its first page."""
    return held.n < latest_floor and floor < latest_floor


def _applies_to(held: Version | None, floor: int, change: TableChange, epoch: bytes) -> bool:
    """Whether a copy at version `held`, of a client that registered in `epoch`, may take this change."""
    # Another epoch: the page of a previous server may arrive after a restart, and would undo the present table. The
    # page of the next server may arrive before the registration there.
    if change.before.epoch != epoch or change.after.epoch != epoch:
        return False
    # First page: it begins at the empty table, so it replaces a table of another epoch. Within the epoch it must not,
    # unless it has to: a copy of the first page that arrives late would remove the pages after it.
    if held is None or held.epoch != epoch or _begins_again(held, floor, change.floor):
        return change.before.n == 0
    # Stale or early change: applied to any other version, it would leave out rows or undo newer ones.
    return change.before == held


def _version_to_send_from(held: Version | None, latest: Version) -> Version:
    """Where the changes begin for a client that says it holds `held`: at the empty table if that makes no sense."""
    # A client can claim anything, also a number that this server has not reached yet.
    if held is None or held.epoch != latest.epoch or held.n > latest.n:
        return Version(latest.epoch, 0)
    return held


# --- the two tables ---


class ClientTable(Mapping[str, Record]):
    """A client's copy of the table: records by name. Look-ups ignore case; iteration gives names as registered."""

    def __init__(self) -> None:
        self.version: Version | None = None
        self._floor = 0
        self._records: dict[str, Record] = {}

    def __getitem__(self, name: str) -> Record:
        return self._records[fold(name)]

    def __iter__(self) -> Iterator[str]:
        return (record.name for record in self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def holds(self, version: Version) -> bool:
        """Whether this copy is at that version or a later one of the same epoch."""
        return _has_reached(self.version, version)

    def add(self, record: Record, version: Version) -> None:
        """Add a row that this version of the table has, if the copy is not newer: it might bring back a deleted name.

        Does nothing if there would be more than MAX_ROWS.
        """
        is_new_enough = self.version is not None and _has_reached(version, self.version)
        if is_new_enough and (record.name in self or len(self._records) < MAX_ROWS):
            self._records[fold(record.name)] = record

    def apply(self, change: TableChange, epoch: bytes) -> tuple[Record, ...]:
        """Apply a change if it fits; return the rows that changed. `epoch`: the one named at the registration.

        Raises TooManyPeople, and applies nothing, if there would be more than MAX_ROWS.
        """
        if not _applies_to(self.version, self._floor, change, epoch):
            return ()
        kept = self._records if change.before.n else {}
        new = {fold(record.name) for record in change.records if not record.deleted} - kept.keys()
        if len(kept) + len(new) > MAX_ROWS:
            raise TooManyPeople
        if change.before.n == 0:
            self._records.clear()
            self._floor = change.floor
        for record in change.records:
            if record.deleted:
                self._records.pop(fold(record.name), None)
            else:
                self._records[fold(record.name)] = record
        self.version = change.after
        return change.records


class ServerTable(Mapping[str, Record]):
    """The server's table: records by name. `epoch`: 8 random bytes, new at each start.

    Deleted names are no part of it, but the newest of them are in the changes, so that clients drop their rows.
    `floor`: the number of the newest deletion that is not listed any longer; see `TableChange.floor`.
    """

    def __init__(self, epoch: bytes) -> None:
        self.version = Version(epoch, 0)
        self.floor = 0
        self._rows: dict[str, NumberedRow] = {}
        self._names_of: Counter[bytes] = Counter()
        self._deleted: dict[str, None] = {}
        self._sorted: list[str] | None = None

    def __len__(self) -> int:
        return len(self._rows) - len(self._deleted)

    def __iter__(self) -> Iterator[str]:
        return (record.name for _, record in self._rows.values() if not record.deleted)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and fold(name) in self._rows and fold(name) not in self._deleted

    def __getitem__(self, name: str) -> Record:
        _, record = self._rows[fold(name)]
        if record.deleted:
            raise KeyError(name)
        return record

    def row(self, name: str) -> NumberedRow | None:
        """The row of a name, if there is one."""
        return self._rows.get(fold(name))

    def is_held(self, name: str, version: Version | None) -> bool:
        """Whether each copy of this version has the row of this name as it is now."""
        n, record = self._rows.get(fold(name), (0, None))
        # Those who are away may have been left out of its first pages.
        is_online = record is not None and record.online
        return is_online and version is not None and version.epoch == self.version.epoch and n <= version.n

    def names_after(self, name: str, count: int) -> list[str]:
        """The next names in the order of names; all in lower case."""
        if self._sorted is None:
            self._sorted = sorted(self._rows.keys() - self._deleted.keys())
        first = bisect_right(self._sorted, name)
        return self._sorted[first : first + count]

    def names_of(self, key: bytes) -> int:
        """How many names belong to this Ed25519 key."""
        return self._names_of[key]

    def put(self, record: Record) -> None:
        """Add or change a row. Each call is one change and takes the next number."""
        self.version = Version(self.version.epoch, self.version.n + 1)
        # Removed first: a dict keeps the place of a key that is assigned again, and the row must move to the end.
        _, before = self._rows.pop(fold(record.name), (0, None))
        if before is None or before.deleted or record.deleted:
            self._sorted = None
        self._deleted.pop(fold(record.name), None)
        self._rows[fold(record.name)] = (self.version.n, record)
        self._count(before, -1)
        self._count(record, 1)

    def _count(self, record: Record | None, change: int) -> None:
        if record is None or record.credentials is None:
            return
        key = record.credentials.keys.signing
        self._names_of[key] += change
        if not self._names_of[key]:
            del self._names_of[key]

    def delete(self, name: str) -> Record:
        """Delete a row; return the last state of it, which says so."""
        deleted = attrs.evolve(self[name], online=False, credentials=None, deleted=True)
        self.put(deleted)
        self._deleted[fold(name)] = None
        # Somebody who registers and deletes names again and again must not fill the memory, nor what newcomers get.
        while len(self._deleted) > max(len(self), DELETIONS_LISTED):
            oldest = next(iter(self._deleted))
            self.floor, _ = self._rows.pop(oldest)
            del self._deleted[oldest]
        return deleted

    def change_since(
        self,
        held: Version | None,
        id: bytes,
        floor: int = 0,
        instead: Mapping[str, NumberedRow] = _NOTHING,
        left_out: int = 0,
    ) -> TableChange | None:
        """The next page for a client that holds this version; None if that is the latest.

        `floor`: that of the first page of the client's copy, as far as the server knows.
        `instead`: what this client gets in place of the rows of these names (folded). The page may be empty then.
        `left_out`: those who are away since this change or an earlier one are left out, as on the first page. It is the
        version of the table when that page was made: whoever is on it and goes after that has a later change.
        """
        if held == self.version or not self._rows:
            return None
        start = _version_to_send_from(held, self.version)
        if _begins_again(start, floor, self.floor):
            start = Version(self.version.epoch, 0)
        if start.n == 0:
            left_out = self.version.n
        rows = self._rows_after(start.n)
        if start.n < left_out:
            rows = [row for row in rows if row[1].online or row[0] > left_out]
        if instead:
            rows = [row for row in rows if fold(row[1].name) not in instead]
            rows += [row for row in instead.values() if row[0] > max(start.n, left_out)]  # they are all away
            rows.sort(key=itemgetter(0))
        page = rows[:TABLE_PAGE]
        n = page[-1][0] if len(rows) > TABLE_PAGE else self.version.n
        return TableChange(id, start, Version(start.epoch, n), tuple(record for _, record in page), self.floor)

    def _rows_after(self, n: int) -> list[NumberedRow]:
        if n == 0:
            return list(self._rows.values())
        rows = list(takewhile(lambda row: row[0] > n, reversed(self._rows.values())))
        rows.reverse()
        return rows
