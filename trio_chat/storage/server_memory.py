"""A server's store in memory. It may be used by one `serve_chat` after the other; the process keeps it.

No method has a checkpoint, so each is one transaction. A client's is in memory.py.
"""

import weakref
from collections.abc import Callable

from trio_chat.storage.database import open_in_memory
from trio_chat.storage.group_commit import StoreRequest, T
from trio_chat.storage.server_schema import SERVER_SCHEMA
from trio_chat.storage.server_store import SqliteServerStore


class MemoryServerStore(SqliteServerStore):
    """A ServerStore that forgets when the process ends: SQLite's, in memory."""

    def __init__(self) -> None:
        self._database = open_in_memory(SERVER_SCHEMA)
        super().__init__(self._commit_at_once)
        weakref.finalize(self, self._database.close)

    async def _commit_at_once(self, request: StoreRequest[T], on_commit: Callable[[T], object]) -> T:
        with self._database:
            self._database.execute("BEGIN")
            result = request(self._database)
        on_commit(result)
        return result
