"""Many requests, one fsync: what gathers while a transaction runs goes into the next one together.

A request is a function of the connection. It is answered when its transaction is durable, and never before.
"""

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import trio
from outcome import Error, Outcome, capture

from trio_chat.errors import StoreFailed

__all__ = ["GROUP", "GroupCommit", "in_thread"]

log = logging.getLogger(__name__)

GROUP = 256
"""The most requests in one transaction; as many more may wait."""

T = TypeVar("T")
Request = Callable[[sqlite3.Connection], T]
Runner = Callable[[Callable[[], T]], Awaitable[T]]


def in_thread() -> "Runner[Any]":
    """Run transactions in a worker thread, one at a time, that no other use of threads can hold up."""
    limiter = trio.CapacityLimiter(1)

    async def run(work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run


@attrs.define(eq=False)
class _Waiting:
    request: Request[Any]
    answered: trio.Event = attrs.Factory(trio.Event)
    outcome: Outcome[Any] | None = None


class GroupCommit:
    """The one user of a connection. Run `write` as a task for as long as requests are submitted."""

    def __init__(self, connection: sqlite3.Connection, run: "Runner[Any]") -> None:
        self._connection = connection
        self._run = run
        self._to_writer, self._requests = trio.open_memory_channel[_Waiting](GROUP)

    async def submit(self, request: Request[T]) -> T:
        """Run a request in the next transaction; return what it returned, once that is durable.

        Raises what it raised; then nothing of it is in the database. It may be run twice, but takes effect once.
        Requests take effect in the order in which they are submitted.
        """
        waiting = _Waiting(request)
        await self._to_writer.send(waiting)
        await waiting.answered.wait()
        assert waiting.outcome is not None  # noqa: S101 - set before the event
        result: T = waiting.outcome.unwrap()
        return result

    async def write(self) -> None:
        """Commit and answer until cancelled.

        Raises:
            StoreFailed: a transaction could not be made durable. Nobody in it is answered: whether it is on the
                disk is not known, and what a later fsync would say of it is worth nothing.
        """
        async for first in self._requests:
            group = [first]
            while len(group) < GROUP and self._requests.statistics().current_buffer_used:
                group.append(self._requests.receive_nowait())
            try:
                outcomes = await self._run(partial(self._transact, [waiting.request for waiting in group]))
            except sqlite3.Error as error:
                log.critical("the store failed: %s", error)
                raise StoreFailed(f"the store failed: {error}") from error
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.outcome = outcome
                waiting.answered.set()

    def _transact(self, requests: Sequence[Request[Any]]) -> list[Outcome[Any]]:
        """One transaction. If a request fails, it is begun anew with a savepoint around each."""
        self._connection.execute("BEGIN IMMEDIATE")
        outcomes = [capture(request, self._connection) for request in requests]
        if any(isinstance(outcome, Error) for outcome in outcomes):
            self._roll_back("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._apart(request) for request in requests]
        self._connection.execute("COMMIT")
        return outcomes

    def _apart(self, request: Request[Any]) -> Outcome[Any]:
        self._connection.execute("SAVEPOINT apart")
        outcome: Outcome[Any] = capture(request, self._connection)
        if isinstance(outcome, Error):
            if _is_the_store(outcome.error):
                raise outcome.error
            self._roll_back("ROLLBACK TO apart")
        self._connection.execute("RELEASE apart")
        return outcome

    def _roll_back(self, statement: str) -> None:
        if self._connection.in_transaction:  # some failures have ended it already
            self._connection.execute(statement)


def _is_the_store(error: BaseException) -> bool:
    """Is it the store that failed (disk full, I/O), rather than the request that was wrong?"""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError | sqlite3.NotSupportedError
    )
