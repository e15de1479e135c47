"""A flood from addresses that never show a cookie, on real sockets: a client still gets in.

Real processes. To the server, a sender that does not return its cookie is one that has forged its address.
"""

import os
import random
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

import pytest
import trio

from tests.end_to_end import patient_client
from tests.end_to_end.processes import open_programs
from trio_chat.link.packets import Cookie, Init, parse_untrusted

pytestmark = pytest.mark.xdist_group("presence")  # which measures time, and is not to be flooded

RATE = int(os.environ.get("FLOOD", "2000"))
"""INITs a second. 10,000 need a machine that has nothing else to do: `nox -s flood`."""
TICK = 0.01
LEAST = RATE * 3 // 2
"""How many there are at least: the flood goes on until the client has left, and longer on a busy machine."""
MOST_UNANSWERED = RATE // 25
"""How many may wait for the server. If it gets little of a busy machine, there are fewer than RATE a second: more would
fill the buffer of its socket, and the system would drop the client's datagrams before the server can see them."""
LOST = 0.5
"""Seconds without an answer after which the unanswered ones are taken for lost."""

SOURCES = 64


class Flood:
    """INITs with invented contents, `RATE` a second in all. `received`: the answers to each source."""

    def __init__(self, target, sources):
        self.sent = 0
        self.received = {source: [] for source in sources}
        self._target = target
        self._sources = sources
        self._over = threading.Event()

    def run(self):
        """In a thread, until `_over` is set."""
        dice = random.Random(1)
        began = progress = time.monotonic()
        unanswered = 0
        while not self._over.wait(TICK):
            now = time.monotonic()
            if answered := self.listen():
                progress = now
            unanswered = 0 if now - progress > LOST else max(0, unanswered - answered)
            while self.sent < RATE * (now - began) and unanswered < MOST_UNANSWERED:
                init = Init(dice.randbytes(4), dice.randbytes(112), dice.randbytes(16))
                self._sources[self.sent % SOURCES].sendto(init.encode(), self._target)
                self.sent += 1
                unanswered += 1

    def listen(self):
        """Takes the answers that have come; returns how many."""
        count = 0
        for source, received in self.received.items():
            with suppress(BlockingIOError):
                while True:
                    received.append(source.recv(65536))
                    count += 1
        return count

    def end(self):
        self._over.set()


def open_source(number):
    """A socket at an address of its own, where the machine has more than one for itself; else at a port of its own."""
    source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    source.setblocking(False)
    try:
        source.bind((f"127.66.0.{number}", 0))
    except OSError:
        source.bind(("127.0.0.1", 0))
    return source


@contextmanager
def open_sources():
    with ExitStack() as stack:
        yield [stack.enter_context(open_source(number)) for number in range(1, SOURCES + 1)]


async def test_a_client_registers_while_thousands_of_spoofed_inits_come_in_each_second():
    with open_sources() as sources:
        async with open_programs() as programs:
            server = await programs.server()
            flood = Flood(("127.0.0.1", server.port), sources)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, flood.run)
                try:
                    while flood.sent < RATE // 4:  # noqa: ASYNC110 - a thread does it
                        await trio.sleep(0.05)
                    # Not `programs.client()`, which waits until all programs rest: in a flood they do not.
                    # And not the plain client: in 2.5 seconds a starved server may not even get to its datagrams.
                    x = await programs.start("x", "client", "x", "127.0.0.1", server.port, file=patient_client.__file__)
                    await x.sees("[Welcome, You are registered.]")
                    await x.types("send_all I did not notice anything")
                    await x.sees("[Group Message received by Server.]")
                    await x.types("exit")
                    await x.sees("[You are Offline. Bye.]")
                    await x.exits(0)
                    while flood.sent < LEAST:  # noqa: ASYNC110 - a thread does it
                        await trio.sleep(0.05)
                finally:
                    flood.end()
            server.interrupt()
            _, complaints = await server.rest()
            assert complaints == []

        flood.listen()
        assert all(flood.received.values()), "the flood did reach the server"
        assert {type(parse_untrusted(data)) for data in chain.from_iterable(flood.received.values())} == {Cookie}
