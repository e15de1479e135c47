"""What makes a world the same each time: one seed for the order of tasks, for the random bytes and for the clock."""

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio._core._run as scheduler

from trio_chat.transport import ids

DAY = 1_700_000_000.0
"""What the clocks show at the start, in seconds since 1970."""


@contextmanager
def fixed_by(seed: int) -> Iterator[random.Random]:
    """The seed decides everything that is random: trio's order of tasks, and all random bytes."""
    dice = random.Random(seed)
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate(), secrets.token_bytes
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    secrets.token_bytes = random.Random(f"bytes {seed}").randbytes
    ids._ids.clear()
    try:
        yield dice
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        scheduler._r.setstate(before[1])
        secrets.token_bytes = before[2]
        ids._ids.clear()


def now() -> float:
    """The clock of every program, in seconds since 1970."""
    return DAY + trio.current_time()
