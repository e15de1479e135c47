"""Measures what a server costs while nothing happens: CPU time with 500 clients, memory with 1,000; and their joining.

    python benchmarks/idle.py [--idle 500] [--all 1000] [--seconds 60]

The clients are chats of the library, in one process, with their stores in memory. The server is a process of its own,
also with its store in memory. Clients join all at once, and each has joined when it has the whole table: that time is
mostly that of their one process. The floor of the memory is a server that nobody has joined. Linux only.
"""

import argparse
import time
from functools import partial

import trio
from shared.processes import allow_many_files, cpu_seconds, memory, running, serve
from shared.tables import print_heading, print_row

from trio_chat import open_chat

SETTLE = 5.0
"""Seconds after the last has joined, in which the others are told."""


async def join(server, numbers, nursery):
    """Let so many clients join at once. Returns the seconds until the last one is welcomed. They stay."""
    started = time.perf_counter()
    async with trio.open_nursery() as joining:
        for number in numbers:
            joining.start_soon(nursery.start, chat, server, f"name-{number}")
    seconds = time.perf_counter() - started
    await trio.sleep(SETTLE)
    return seconds


async def chat(server, name, task_status):
    # Those for whom the server has no time yet try again.
    async with open_chat(name, server, reconnect=True) as opened:
        task_status.started()
        async for _ in opened.events:
            pass


async def measure(options, pid, server):
    """Print the table."""
    print_heading("a server and its clients")
    nobody = memory(pid)
    async with trio.open_nursery() as nursery:
        seconds = await join(server, range(options.idle), nursery)
        print_row(f"{options.idle} clients join, s", seconds, digits=2)
        before = cpu_seconds(pid)
        await trio.sleep(options.seconds)
        share = (cpu_seconds(pid) - before) / options.seconds
        print_row(f"idle with {options.idle} clients, % of a core", 100 * share, digits=2)
        if options.all > options.idle:
            seconds = await join(server, range(options.idle, options.all), nursery)
            print_row(f"{options.all - options.idle} more join, s", seconds, digits=2)
        print_row(f"memory with {options.all} clients, MiB", memory(pid), nobody)
        nursery.cancel_scope.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--idle", type=int, default=500, help="how many clients there are while CPU time is measured")
    parser.add_argument("--all", type=int, default=1000, help="how many there are while memory is measured")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the server is idle")
    options = parser.parse_args()
    allow_many_files()
    with running(serve) as (pid, server):
        trio.run(partial(measure, options, pid, server))


if __name__ == "__main__":
    main()
