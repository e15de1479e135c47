"""For tests of the presence service: a listener in memory, a client that is driven by hand, and the ancestor's client.

They use only what a client sees. They are as deterministic as the clock of the test.
"""

import errno
import json
from contextlib import suppress
from functools import partial

import attrs
import trio
from trio.testing import lockstep_stream_one_way_pair, memory_stream_one_way_pair

from trio_chat.tasks import Change

DAY = 24 * 3600.0
MUCH = 2**20
LITTLE = 10


class Pipe:
    """The bytes from a server to a client that has not read them yet, at most so many."""

    def __init__(self, room):
        self._room = room
        self._bytes = bytearray()
        self._changed = Change()
        self._has_ended = self._has_reader_gone = self._is_waited_for = False

    def write(self, data):
        """Takes as many bytes as there is room for, and returns how many."""
        if self._has_reader_gone or self._has_ended:
            raise trio.BrokenResourceError
        taken = data[: self._room - len(self._bytes)]
        self._bytes += taken
        self._changed.set()
        return len(taken)

    async def wait_writable(self):
        if self._is_waited_for:
            raise trio.BusyResourceError("another task waits for the same socket")
        self._is_waited_for = True
        try:
            while len(self._bytes) == self._room and not self._has_reader_gone:
                if self._has_ended:
                    raise trio.ClosedResourceError
                await self._changed.wait()
            await trio.lowlevel.checkpoint()
        finally:
            self._is_waited_for = False

    async def read(self, most):
        while not self._bytes and not self._has_ended:
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        taken = bytes(self._bytes[:most])
        del self._bytes[: len(taken)]
        self._changed.set()
        return taken

    def end(self):
        """The writer has ended. What is in the pipe can be read."""
        self._has_ended = True
        self._changed.set()

    def close(self):
        """The reader has gone."""
        self._has_reader_gone = True
        self._changed.set()


class ServerEnd:
    """The server's end of a connection in memory."""

    def __init__(self, received, pipe, origin):
        self.origin = origin
        self._received = received
        self._pipe = pipe
        self.send_now = pipe.write
        self.send_eof = pipe.end
        self.wait_writable = pipe.wait_writable

    async def receive_some(self, max_bytes=4096):
        return await self._received.receive_some(max_bytes)

    def close(self):
        self._received.close()
        self._pipe.end()


class ClientEnd(trio.abc.Stream):
    """The client's end of a connection in memory."""

    def __init__(self, sent, pipe):
        self._sent = sent
        self._pipe = pipe
        self.send_all = sent.send_all

    async def send_all(self, data):
        raise AssertionError("the sent stream's, see above")

    async def wait_send_all_might_not_block(self):
        raise AssertionError("nobody calls it")

    async def receive_some(self, max_bytes=None):
        return await self._pipe.read(max_bytes or MUCH)

    async def send_eof(self):
        """Send nothing more, but go on reading."""
        await self._sent.aclose()

    async def aclose(self):
        self._pipe.close()
        await self._sent.aclose()


class MemoryListener:
    """Each connection is a pair of streams in memory: one end for the client, one for the server.

    With `is_narrow`, ten bytes for the client are taken at a time, and each send of the client waits until it is read.
    """

    def __init__(self, *, is_narrow=False):
        self._is_narrow = is_narrow
        self._connections = 0
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

    def close(self):
        self._waiting.close()

    async def connect(self, *address, host=None):
        """A new connection, by an address of its own, or by that which the test names."""
        self._connections += 1
        sent, received = (lockstep_stream_one_way_pair if self._is_narrow else memory_stream_one_way_pair)()
        pipe = Pipe(LITTLE if self._is_narrow else MUCH)
        await self._waiting_in.send(ServerEnd(received, pipe, host or f"host {self._connections}"))
        return ClientEnd(sent, pipe)


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
            while True:
                with suppress(json.JSONDecodeError):
                    received, end = json.JSONDecoder().raw_decode(self._received.lstrip())
                    self._received = self._received.lstrip()[end:]
                    return received
                data = await self.stream.receive_some()
                if not data:
                    assert not self._received.strip(), "the last object is not whole"
                    return None
                self._received += data.decode()

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
