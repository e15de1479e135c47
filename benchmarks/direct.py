"""Measures direct messages between two processes: from `chat.send` to the first acknowledgement.

    python benchmarks/direct.py [--seconds 15] [--messages 2000] [--turns 5]

One at a time, with stores in memory and with SQLite stores; then 64 at once for 15 seconds, with SQLite stores. Each
process is pinned to a core of its own: on one core, an echo takes a fifth of the time. The floors are measured in the
same turns: a blocking socket that echoes as many bytes; and an echo with what a chat needs at least from trio, which is
a task that receives, an event for each message, and a deadline.

The server is a third process, which has nothing to do. The median of all messages counts. On a busy machine these times
say little: therefore the CPU time of both processes is shown, too. A message that is not acknowledged within a window
goes by the server; such messages are counted.
"""

import argparse
import os
import socket
import time
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio
from shared.processes import HOST, cpu_seconds, running, serve, two_cores
from shared.tables import print_heading, print_note, print_row

from trio_chat import Identity, open_chat, open_client_store

AT_ONCE = 64
WARM_UP = 50
TEXT = "A message to one person, as long as people write them."
SIZE = 160
"""Bytes of a datagram with such a text."""
WINDOW = 0.5

by_server = [0]
"""How many messages were not acknowledged within the window."""


# --- the other process ---


def echo(pipe):
    """A blocking socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
        bare.bind((HOST, 0))
        pipe.send(bare.getsockname())
        while True:
            data, source = bare.recvfrom(65536)
            bare.sendto(data, source)


def trio_echo(pipe):
    with open_socket() as bound:
        pipe.send(bound.getsockname())
        trio.run(listen, bound, bound.sendto)


def receive(pipe, server, name, path):
    """A chat that reads its events. Sends its name."""

    async def run():
        async with open_store(path) as store, open_chat(name, server, store=store) as chat:
            pipe.send(name)
            await read_events(chat)

    trio.run(run)


def open_socket():
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind((HOST, 0))
    return bound


async def listen(bound, take):
    while True:
        await trio.lowlevel.wait_readable(bound)
        with suppress(BlockingIOError):
            while True:
                take(*bound.recvfrom(65536))


async def read_events(chat):
    async for _ in chat.events:
        pass


@asynccontextmanager
async def open_store(path):
    if path is None:
        yield None
        return
    async with open_client_store(path) as store:
        yield store


# --- this process ---


def blocking_round_trips(address, count):
    """The seconds of each."""
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
        bare.connect(address)
        data = bytes(SIZE)
        for _ in range(WARM_UP + count):
            started = time.perf_counter()
            bare.send(data)
            bare.recv(65536)
            times.append(time.perf_counter() - started)
    return times[WARM_UP:]


async def with_echo(address, measure):
    """Call `measure(send)`; `send` sends one datagram and waits for its echo, but not longer than a window."""
    waiting = {}

    def take(data, _):
        waiting.pop(data[:8]).set()

    async def send():
        number = os.urandom(8)
        event = waiting[number] = trio.Event()
        bound.sendto(number + bytes(SIZE - 8), address)
        with trio.move_on_after(WINDOW):
            await event.wait()

    with closing(open_socket()) as bound:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, bound, take)
            result = await measure(send)
            nursery.cancel_scope.cancel()
    return result


async def with_chat(server, identity, recipient, path, measure):
    """The same with a chat."""

    async def send():
        delivery = await chat.send(recipient, TEXT)
        by_server[0] += delivery.how != "direct"

    opening = partial(open_chat, "alice", server, identity=identity)
    async with open_store(path) as store, opening(store=store) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(read_events, chat)
        result = await measure(send)
        nursery.cancel_scope.cancel()
    return result


async def one_at_a_time(count, send):
    """The seconds of each."""
    times = []
    for _ in range(WARM_UP + count):
        started = time.perf_counter()
        await send()
        times.append(time.perf_counter() - started)
    return times[WARM_UP:]


async def many_at_once(seconds, send):
    """How many a second."""
    done = 0

    async def send_until_the_end():
        nonlocal done
        while time.perf_counter() < end:
            await send()
            done += 1

    started = time.perf_counter()
    end = started + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(send_until_the_end)
    return done / (time.perf_counter() - started)


# --- all of it ---


def measure(options, folder, bare, with_trio, server):
    """Print the tables. `bare` and `with_trio` are number and address of the two that echo, `server` is an address."""
    ours, theirs = two_cores()
    os.sched_setaffinity(0, {ours})
    identity = Identity.new(os.urandom)
    in_memory = running(receive, server, "bob", None, core=theirs)
    on_disk = running(receive, server, "carol", folder / "carol.db", core=theirs)
    with in_memory as (bob, _), on_disk as (carol, _):
        one = partial(one_at_a_time, options.messages)
        chat = partial(trio.run, with_chat, server, identity)
        measures = {
            "a blocking echo": (bare[0], lambda: blocking_round_trips(bare[1], options.messages)),
            "a trio echo with task, event and deadline": (with_trio[0], lambda: trio.run(with_echo, with_trio[1], one)),
            "a direct message, stores in memory": (bob, lambda: chat("bob", None, one)),
            "a direct message, SQLite stores": (carol, lambda: chat("carol", folder / "alice.db", one)),
        }
        print_one_by_one(options, measures)

        print_heading(f"direct messages, {AT_ONCE} at once, for {options.seconds:g} s", "a second")
        many = partial(many_at_once, options.seconds)
        floor = trio.run(with_echo, with_trio[1], many)
        print_row("a trio echo with task, event and deadline", floor, floor, is_rate=True, digits=0)
        rate = chat("carol", folder / "alice.db", many)
        print_row("direct messages, SQLite stores", rate, floor, is_rate=True, digits=0)
    if by_server[0]:
        print_note(f"{by_server[0]} messages went by the server: the machine is too busy to measure")
    if ours == theirs:
        print_note("this machine has one core: both processes share it")


def print_one_by_one(options, measures):
    times, cpu = {what: [] for what in measures}, dict.fromkeys(measures, 0.0)
    for _ in range(options.turns):
        for what, (other, turn) in measures.items():
            before = time.process_time() + cpu_seconds(other)
            times[what] += turn()
            cpu[what] += time.process_time() + cpu_seconds(other) - before
    count = options.turns * (options.messages + WARM_UP)
    for title, figures in {
        f"direct messages one at a time, median of {options.turns * options.messages}": {
            what: 1e6 * median(seen) for what, seen in times.items()
        },
        "the same, CPU time of both processes": {what: 1e6 * seconds / count for what, seconds in cpu.items()},
    }.items():
        print_heading(title, "us each")
        for what, each in figures.items():
            print_row(what, each, figures["a blocking echo"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="how long 64 at once are sent")
    parser.add_argument("--messages", type=int, default=2000, help="how many are sent one at a time, in each turn")
    parser.add_argument("--turns", type=int, default=5, help="in which all of them are measured, one after the other")
    options = parser.parse_args()
    _, theirs = two_cores()
    with (
        TemporaryDirectory() as folder,
        running(echo, core=theirs) as bare,
        running(trio_echo, core=theirs) as with_trio,
        running(serve, core=theirs) as (_, server),
    ):
        measure(options, Path(folder), bare, with_trio, server)


if __name__ == "__main__":
    main()
