"""For tests of the presence service: a listener in memory, a client that is driven by hand, and the ancestor's client.

They use only what a client sees. They are as deterministic as the clock of the test.
"""

import errno
import json
from functools import partial

import attrs
import trio
from trio.testing import memory_stream_pair

DAY = 24 * 3600.0


class MemoryListener(trio.abc.Listener):
    """Each connection is a pair of streams in memory: one end for the client, one for the server."""

    def __init__(self, pair=memory_stream_pair):
        self.hosts = {}
        """The address of each connection, by the server's end: its own, unless the test names one."""
        self.pair = pair
        self.full = False
        """Whether the limit of open files is reached."""
        self.attempts = 0
        self._next = None
        self._waiting_in, self._waiting = trio.open_memory_channel(1000)

    async def accept(self):
        self.attempts += 1
        self._next = self._next or await self._waiting.receive()
        if self.full:
            raise OSError(errno.EMFILE, "text of the system")
        stream, self._next = self._next, None
        return stream

    async def aclose(self):
        self._waiting.close()

    async def connect(self, *address, host=None):
        ours, theirs = self.pair()
        self.hosts[theirs] = host or f"host {len(self.hosts)}"
        await self._waiting_in.send(theirs)
        return ours


class Visitor:
    """The client's end of a connection, driven by hand."""

    def __init__(self, stream):
        self.stream = stream
        self._received = ""

    async def send(self, data):
        """Sends bytes as they are, anything else as JSON without a line end."""
        await self.stream.send_all(data if isinstance(data, bytes) else json.dumps(data).encode())

    async def request(self, user_id, *friends, **more):
        """One request and its answer."""
        await self.send({"user_id": user_id, "friends": friends} | more)
        return await self.receive()

    async def receive(self):
        """The next object, which must come within a day; None when there will be none."""
        with trio.fail_after(DAY):
            while not self._received.lstrip():
                data = await self.stream.receive_some()
                if not data:
                    return None
                self._received = data.decode()
        received, end = json.JSONDecoder().raw_decode(self._received.lstrip())
        self._received = self._received.lstrip()[end:]
        return received

    async def receive_all(self, seconds):
        """Everything that arrives within some time."""
        received = []
        with trio.move_on_after(seconds):
            while (one := await self.receive()) is not None:
                received.append(one)
        return received

    async def close(self):
        await self.stream.aclose()


def came(friend):
    return {"online": True, "user_id": friend}


def went(friend):
    return {"online": False, "user_id": friend}


STILL_THERE = {"msg": "are you still there?", "error": 0}


@attrs.define
class Count:
    """How many changes an ancestor's client has received."""

    comings: int = 0
    goings: int = 0
    error: int = 0


async def ancestor(connect, user_id, friends, *, after=0.0, seconds):
    """The ancestor's client: no line ends, 256 bytes are one object, one request a second. Returns what it counted."""
    count = Count()
    await trio.sleep(after)
    async with await connect() as stream:
        with trio.move_on_after(seconds):
            while not count.error:
                await stream.send_all(json.dumps({"user_id": user_id, "friends": friends}).encode())
                match json.loads(await stream.receive_some(256)):
                    case {"online": True}:
                        count.comings += 1
                    case {"online": False}:
                        count.goings += 1
                    case {"error": error}:
                        count.error = error
                await trio.sleep(1)
    return count


async def run_demonstration(connect):
    """The ancestors' demonstration of five seconds: what each client counted, by user."""
    counts = {}

    async def run(user_id, friends, **times):
        counts[user_id] = await ancestor(connect, user_id, friends, **times)

    async with trio.open_nursery() as nursery:
        for user_id, friends, after, seconds in (
            (1, [2, 3, 4], 0.0, 5.0),
            (2, [1, 3, 4], 0.3, 1.0),
            (3, [1, 4], 1.3, 2.0),
            (5, [2, 3, 4, 5], 0.0, 5.0),
        ):
            nursery.start_soon(partial(run, user_id, friends, after=after, seconds=seconds))
    return counts


WHAT_THEY_COUNT = {
    1: Count(comings=2, goings=2),
    2: Count(comings=1),
    3: Count(comings=1),
    5: Count(error=6),
}
