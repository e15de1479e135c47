"""Small things that tasks need and trio does not have: a nursery behind a block of code, wake-up calls.

What the tasks do is not known here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends, and which raises a single error without a group.

    Several errors at once, which only a bug in a task can cause, are raised as a group.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The block may have been cancelled at the same moment: then the error is not alone in the group.
        _, errors = group.split(trio.Cancelled)
        failure = errors or group
        if len(failure.exceptions) == 1:
            failure = failure.exceptions[0]
    # Raised outside of the handler, or else Python would replace the error's own context by the group.
    if failure is not None:
        raise failure


class Change:
    """Something changes again and again, and any number of tasks may wait for the next time."""

    def __init__(self) -> None:
        self._next = trio.Event()

    @property
    def next(self) -> trio.Event:
        """The next change. Who looks at what it is about after this cannot miss one."""
        return self._next

    def set(self) -> None:
        """It has changed: all that wait go on."""
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """Wait for the next change. Look at what it is about first: there is no checkpoint before this waits."""
        await self._next.wait()


class WakeUp:
    """An event for a task that handles what has accumulated: it may be set again and again, and resets itself.

    `wait` returns at once if `set` was called since it last returned; many calls of `set` count as one. For one
    waiting task: with several, each call would wake only some of them.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Wake the task that waits, or the next one that does."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for a call of `set`."""
        await self._event.wait()
        # Before the caller looks at what there is to do: what comes while it works wakes it once more.
        self._event = trio.Event()
