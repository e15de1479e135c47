"""A nursery for tasks that serve a block of code, as `open_chat` and the stores have them.

It differs from a plain one in what comes out of it; what the tasks do is not its business.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["open_background"]


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends, and out of which one error comes as it is.

    So it does when the block is cancelled at the same moment. Several errors at once, which only a fault in a task can
    cause, come out as a group.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Raised anew below, outside of this handler, it keeps its own cause and context.
        _, errors = group.split(trio.Cancelled)
        failure = errors or group
        if len(failure.exceptions) == 1:
            failure = failure.exceptions[0]
    if failure is not None:
        raise failure
