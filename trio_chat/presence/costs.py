"""What connections of the presence service cost its server, and who has to wait: one connection, one address, all.

A connection that must wait is not read, so TCP slows its client down. What is answered is decided in server.py.
"""

from collections.abc import Callable, Sequence
from functools import partial

import trio

from trio_chat.protocol.limits import Limits
from trio_chat.protocol.token_buckets import FairBudget, TokenBuckets

CONNECTION, REQUEST, FRIEND, NEWS, MARK = 5000, 1000, 40, 500, 10
"""What a connection, a request, a friend who is added, news for one watcher, and a quote or bracket cost the server, in
bytes of plain JSON that take as much work."""

PORTION = 50_000
"""The most that is paid at once."""

RETRY_AFTER = 0.1


def cost_of_bytes(data: bytes | bytearray) -> int:
    """What it costs to find the objects in this piece of a stream: all its bytes, and more for what is nested."""
    return len(data) + MARK * sum(map(data.count, (b'"', b"\\", b"[", b"]", b"{", b"}")))


class Costs:
    """The rates of one server."""

    def __init__(self, limits: Limits) -> None:
        self._per_connection = limits.presence_work_per_connection
        self._addresses = TokenBuckets(limits.presence_work_per_address)
        self._all = FairBudget(limits.presence_work, limits.presence_work_of_newcomers)

    def payer(self, origin: str) -> "Payer":
        """What a new connection from this address pays with."""
        own = TokenBuckets(self._per_connection, limit=1)
        return Payer(
            (partial(own.take, "own"), partial(own.pause, "own")),
            (partial(self._addresses.take, origin), partial(self._addresses.pause, origin)),
            (partial(self._all.take, origin), self._all.pause),
        )


Step = tuple[Callable[[float, float], bool], Callable[[float], float]]
"""A rate: how to take from it, at a time, and how long to wait for so much."""


class Payer:
    """Pays for the work that one connection causes, and waits until it can."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps

    async def pay(self, cost: float, *, for_others: float = 0.0) -> None:
        """Wait until this much may be done for the connection, and so much for others because of it."""
        await self._pay(cost, self._steps)
        # Not by the rate of the connection: somebody with many friends is not slower than others.
        await self._pay(for_others, self._steps[1:])

    async def _pay(self, cost: float, steps: Sequence[Step]) -> None:
        while cost > 0:
            portion = min(cost, PORTION)
            cost -= portion
            for take, pause in steps:
                while not take(trio.current_time(), portion):  # noqa: ASYNC110 - rates have no events
                    await trio.sleep(max(RETRY_AFTER, pause(portion)))
