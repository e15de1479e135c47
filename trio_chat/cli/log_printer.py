"""Log lines of a server, printed so that they never make it wait for their reader.

They may be caused by anybody who connects. What the server prints of its table is in cli/table_printer.py.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from trio_chat.tasks import WakeUp

MAX_WAITING = 100
"""The most log lines that wait for the reader; of more, the newest are kept."""
LAST_LINES = 0.5
"""Seconds by which the last lines may delay the end of the server."""


class LogPrinter(logging.Handler):
    """Prints what is logged in trio's thread by `write`, which may wait for the reader as long as it likes."""

    def __init__(self, write: Callable[[str], Awaitable[object]]) -> None:
        super().__init__()
        self._write = write
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        self._wake_up = WakeUp()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; it is printed later."""
        self._waiting.append(f"{self.format(record)}\n")
        self._wake_up.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Print log lines until cancelled, in place of Python's own handler."""
        logging.getLogger().addHandler(self)
        try:
            task_status.started()
            while True:
                await self._wake_up.wait()
                await self._print_waiting()
        finally:
            logging.getLogger().removeHandler(self)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_LINES):
                await self._print_waiting()

    async def _print_waiting(self) -> None:
        # Between here and the thread nothing is cancelled, so what is taken is written.
        await trio.lowlevel.checkpoint_if_cancelled()
        text = "".join(self._waiting)
        self._waiting.clear()
        with suppress(OSError):  # there is nobody left to tell
            await self._write(text)
