"""The client table: the server's directory, which numbers its changes, and the client's copy of it.

Rows are kept in the order of their latest change, so what changed since any version is the tail.
A page of that tail is itself a change to a version: whoever has applied it holds all rows up to it.
"""

from collections.abc import Iterator, Mapping
from itertools import takewhile

from trio_chat.protocol.messages import TableChange
from trio_chat.protocol.records import Record, Version, fold

__all__ = ["ClientTable", "ServerTable"]

TABLE_PAGE = 64


class ClientTable(Mapping[str, Record]):
    """A client's copy of the directory: names to records. Look-ups ignore case; iteration gives names as registered."""

    def __init__(self) -> None:
        self.version: Version | None = None
        self._records: dict[str, Record] = {}

    def __getitem__(self, name: str) -> Record:
        return self._records[fold(name)]

    def __iter__(self) -> Iterator[str]:
        return (record.name for record in self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def holds(self, version: Version) -> bool:
        """Is this copy at that version, or beyond it?"""
        return self.version is not None and self.version.epoch == version.epoch and self.version.n >= version.n

    def apply(self, change: TableChange, epoch: bytes) -> tuple[Record, ...]:
        """Take a change if it fits the version held exactly; return the rows that it changed.

        A first page (n = 0) replaces the table of another epoch, and only if it is of `epoch`, the one that the
        server named at the registration: a page that a former server sent late must not undo the present table.
        """
        if change.before.epoch != epoch or change.after.epoch != epoch:
            return ()
        starts_anew = change.before.n == 0 and (self.version is None or self.version.epoch != epoch)
        if not starts_anew and change.before != self.version:
            return ()
        if starts_anew:
            self._records.clear()
        self._records.update((fold(record.name), record) for record in change.records)
        self.version = change.after
        return change.records


class ServerTable:
    """The server's table. `epoch`: 8 random bytes, new for each directory."""

    def __init__(self, epoch: bytes) -> None:
        self.version = Version(epoch, 0)
        self._rows: dict[str, tuple[int, Record]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return fold(name) in self._rows

    def __getitem__(self, name: str) -> Record:
        return self._rows[fold(name)][1]

    def put(self, record: Record) -> None:
        """Add or change a row: one change, one number."""
        self.version = Version(self.version.epoch, self.version.n + 1)
        self._rows.pop(fold(record.name), None)
        self._rows[fold(record.name)] = (self.version.n, record)

    def change_since(self, held: Version | None, id: bytes) -> TableChange | None:
        """The next page for someone who holds this version; None when that is the latest.

        Whoever holds a version of another epoch, or none, begins at the empty table.
        """
        if held == self.version or not self._rows:
            return None
        if held is None or held.epoch != self.version.epoch or held.n > self.version.n:
            held = Version(self.version.epoch, 0)
        since = held.n
        tail = list(takewhile(lambda row: row[0] > since, reversed(self._rows.values())))
        page = tail[: -TABLE_PAGE - 1 : -1]
        after = Version(held.epoch, page[-1][0])
        return TableChange(id, held, after, tuple(record for _, record in page))
