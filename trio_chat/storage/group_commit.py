"""Group commit: requests that arrive while a transaction runs go into the next one together, with one fsync for all.

A request is a function of the connection. It is answered when its transaction is durable, and never before.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import trio
from outcome import Error, Outcome, Value, capture

from trio_chat.errors import StoreFailed
from trio_chat.storage.database import OpenFiles, code_of
from trio_chat.storage.private_files import CHECK_DISK, MAKE_ROOM
from trio_chat.tasks import WakeUp

GROUP = 256
"""The most requests in one transaction."""

T = TypeVar("T")
StoreRequest = Callable[[sqlite3.Connection], T]
Runner = Callable[[Callable[[], T]], Awaitable[T]]


def in_thread() -> "Runner[Any]":
    """Run transactions in a worker thread, one at a time."""
    # Its own limiter: trio's default one may be used up by other threads, such as those that wait for terminal input.
    return partial(trio.to_thread.run_sync, limiter=trio.CapacityLimiter(1))


@attrs.define(eq=False)
class _Waiting:
    request: StoreRequest[Any]
    on_commit: Callable[[Any], object] | None = None
    answered: trio.Event = attrs.Factory(trio.Event)
    outcome: Outcome[Any] | None = None


class GroupCommit:
    """The only user of a connection. Run `write` as a task for as long as requests are submitted.

    `name`: what is reported to have failed.
    """

    def __init__(self, connection: sqlite3.Connection, run: "Runner[Any]", name: str = "the store") -> None:
        self._connection = connection
        self._run = run
        self._name = name
        self._files = OpenFiles(connection)
        self._waiting: list[_Waiting] = []
        self._wake_up = WakeUp()

    async def submit(self, request: StoreRequest[T], on_commit: Callable[[T], object] | None = None) -> T:
        """Run a request in the next transaction; return what it returned, once that is durable.

        `on_commit` is then called with it, in the order of the requests, before any caller of this transaction or a
        later one goes on. It must neither wait nor raise.

        Raises what it raised; then nothing of it is in the database. A request may run twice (the first transaction was
        rolled back), so it must change nothing but the database. Requests take effect in the order of the calls. A
        caller that is cancelled does not take its request back, nor its `on_commit`.
        """
        waiting = _Waiting(request, on_commit)
        self._waiting.append(waiting)
        self._wake_up.set()
        await waiting.answered.wait()
        assert waiting.outcome is not None  # noqa: S101 - set before the event
        result: T = waiting.outcome.unwrap()
        return result

    async def write(self) -> None:
        """Commit and answer until cancelled.

        Raises:
            StoreFailed: a transaction could not be made durable. Nobody in it is answered, because nobody knows what
                is on the disk. Trying again would not help: after a failed fsync the system may drop the pages, and
                the next fsync reports success without them. Or a file of the store was removed: SQLite would go on
                writing to it, and nobody would find it later.
        """
        while True:
            await self._wake_up.wait()
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
                await self._commit(group)

    def failure(self, error: sqlite3.Error) -> StoreFailed:
        """What a person reads if a transaction failed."""
        advice = MAKE_ROOM if code_of(error) == sqlite3.SQLITE_FULL else CHECK_DISK
        return StoreFailed(f"{self._name} failed: {error}; {advice}, then start again")

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            # A thread that has begun is not abandoned when this task is cancelled: it uses the connection.
            outcomes = await self._run(partial(self._transact, [waiting.request for waiting in group]))
        except sqlite3.Error as error:
            raise self.failure(error) from error
        if problem := self._files.find_missing():
            raise StoreFailed(f"{self._name} failed: {problem}")
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.outcome = outcome
            if waiting.on_commit is not None and isinstance(outcome, Value):
                waiting.on_commit(outcome.value)
            # Whoever is woken by this goes on when this task waits next: after the whole group has been through.
            waiting.answered.set()

    def _transact(self, requests: Sequence[StoreRequest[Any]]) -> list[Outcome[Any]]:
        """Run one transaction. If a request fails, run them all again, each in a savepoint of its own."""
        self._connection.execute("BEGIN IMMEDIATE")
        outcomes = [capture(request, self._connection) for request in requests]
        # Only a bug makes a request fail. So savepoints, two more statements for each, are used in this case alone: the
        # failed request is undone, and those of other people keep their effect.
        if any(isinstance(outcome, Error) for outcome in outcomes):
            self._roll_back("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._run_in_savepoint(request) for request in requests]
        self._connection.execute("COMMIT")
        return outcomes

    def _run_in_savepoint(self, request: StoreRequest[Any]) -> Outcome[Any]:
        self._connection.execute("SAVEPOINT request")
        outcome: Outcome[Any] = capture(request, self._connection)
        if isinstance(outcome, Error):
            # A full or broken disk is everybody's failure: the requester would take it for a refusal and go on.
            if _is_disk_failure(outcome.error):
                raise outcome.error
            self._roll_back("ROLLBACK TO request")
        self._connection.execute("RELEASE request")
        return outcome

    def _roll_back(self, statement: str) -> None:
        if self._connection.in_transaction:  # SQLite rolls back by itself after SQLITE_FULL, SQLITE_IOERR and others
            self._connection.execute(statement)


def _is_disk_failure(error: BaseException) -> bool:
    """Whether the store has failed (disk full, I/O), and not the request."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError | sqlite3.NotSupportedError
    )
