"""Measures the server's log in a file: a post while thousands are away, the start of a large store, and plain reads.

    python benchmarks/log.py [NAMES]

Beside a figure is what cannot be less on the same disk in the same run: of a post, one row of its size that SQLite
alone writes in a transaction of its own, and the body's bytes; of a read, one that finds nothing; of the start, a new
process that only imports. The best of several calls counts: other programs can only make a call slower. Linux only: the
memory is read from /proc.
"""

import multiprocessing
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from shared.tables import print_heading, print_row

from trio_chat.protocol.records import EVERYONE, MAX_BODY, Credentials, Entry, EntryKind, PublicKeys, Record
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.server_store import open_server_store

NAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
LETTERS_AT_START = 20 * NAMES
ENTRIES = 50 * NAMES
POSTS = 20
CALLS = 50
APPENDED_AT_ONCE = 256
SIZE = 300
RAW = Schema(
    application_id=0x72617721,
    migrations=("CREATE TABLE entries (seq INTEGER PRIMARY KEY, recipient TEXT, sender TEXT, id BLOB, body BLOB)",),
)


def name(number):
    return f"name-{number}"


def key(number):
    return number.to_bytes(32, "big")


def entry(kind, recipient, size):
    return Entry(0, kind, os.urandom(16), name(0), key(0), recipient, time.time(), os.urandom(size))


async def best(calls, call):
    """The shortest of so many calls, in milliseconds."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


async def at_once(count, call):
    """Call with each number, all at once: they share transactions."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(call, number)


# --- what is measured ---


async def posts(folder):
    """Milliseconds and bytes for each post of the greatest length, while all names but one are away."""
    path = folder / "posts.db"
    async with open_server_store(path) as store:
        await store.load(lambda entries: None)
        await fill_names(store)
    before = path.stat().st_size
    async with open_server_store(path) as store:
        await store.load(lambda entries: None)
        each = await best(POSTS, lambda: store.append([entry(EntryKind.GROUP, EVERYONE, MAX_BODY)]))
    # Closed: what SQLite had in a second file is in this one now.
    return each, (path.stat().st_size - before) / POSTS


async def raw_post(folder):
    with closing(open_database(folder / "raw.db", RAW)) as database:

        async def insert():
            row = (EVERYONE, name(0), os.urandom(16), os.urandom(MAX_BODY))
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO entries (recipient, sender, id, body) VALUES (?, ?, ?, ?)", row)
            database.execute("COMMIT")

        return await best(POSTS, insert)


async def fill_names(store):
    async def save(number):
        credentials = Credentials(PublicKeys(key(number), key(number)), bytes(64))
        await store.save_name(Record(name(number), "127.0.0.1", 1, False, 0.0, credentials))

    await at_once(NAMES, save)


async def fill_letters(path, first, last):
    async with open_server_store(path) as store:
        await store.load(lambda entries: None)
        if not first:
            await fill_names(store)
        for start in range(first, last, APPENDED_AT_ONCE):
            numbers = range(start, min(last, start + APPENDED_AT_ONCE))
            await store.append([entry(EntryKind.DIRECT, name(number % NAMES), SIZE) for number in numbers])


def start(path, pipe):
    """Open a store and load it. Sends the seconds, and the peak memory of this process in MiB."""

    async def load():
        async with open_server_store(path) as store:
            await store.load(lambda entries: None)

    started = time.perf_counter()
    if path:
        trio.run(load)
    pipe.send((time.perf_counter() - started, peak_memory()))


def peak_memory():
    """MiB. Not from getrusage: that has the memory of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def start_in_process(path):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=start, args=(path, theirs))
    process.start()
    result = ours.recv()
    process.join()
    return result


async def reads(path):
    """Milliseconds for reads of some sizes, and for a position of each name in one commit."""
    async with open_server_store(path) as store:
        _, head = await store.load(lambda entries: None)
        reader = name(NAMES // 2)
        places = {}
        after = 0
        while (page := await store.read(reader, after)).entries:
            places[len(page.entries)] = after
            after = page.upto
        times = {"read at the head": await best(CALLS, lambda: store.read(reader, head))}
        for count, after in places.items():
            times[f"read {count} letters"] = await best(CALLS, lambda after=after: store.read(reader, after))
        await store.append([entry(EntryKind.GROUP, EVERYONE, 10) for _ in range(64)])
        times["read 64 posts"] = await best(CALLS, lambda: store.read(reader, head))
        upto = iter(range(1, CALLS))
        times[f"{NAMES} positions in one commit"] = await best(
            10, lambda: store.advance(dict.fromkeys(map(name, range(NAMES)), next(upto)))
        )
    return times


def main():
    with TemporaryDirectory() as temporary:
        print_heading(f"the log of a server with {NAMES} names")
        folder = Path(temporary)
        each, bytes_each = trio.run(posts, folder)
        print_row("a post of 16 KiB, ms", each, trio.run(raw_post, folder))
        print_row("  bytes of the file", bytes_each, MAX_BODY)
        path = folder / "large.db"
        trio.run(fill_letters, path, 0, LETTERS_AT_START)
        seconds, memory = min(start_in_process(path) for _ in range(3))
        _, floor = start_in_process(None)
        print_row(f"start with {LETTERS_AT_START} letters, s", seconds)
        print_row("  memory, MiB", memory, floor)
        trio.run(fill_letters, path, LETTERS_AT_START, ENTRIES)
        times = trio.run(reads, path)
        for what, milliseconds in times.items():
            print_row(f"{what}, ms", milliseconds, times["read at the head"])


if __name__ == "__main__":
    main()
