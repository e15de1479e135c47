"""Child processes of the benchmarks: a server, an echo; their cores, CPU time and memory. Linux only: /proc is read."""

import multiprocessing
import os
import resource
from contextlib import contextmanager
from functools import partial

import attrs
import trio

from trio_chat import Identity, Limits, Rate, serve_chat

HOST = "127.0.0.1"
NO_LIMIT = Rate(1e9, 1e9)
UNLIMITED = Limits(**{field.name: NO_LIMIT for field in attrs.fields(Limits) if field.type is Rate})
"""All clients of a benchmark have one address, and are faster than a server allows."""


@contextmanager
def running(run, *arguments, core=None):
    """A process that calls `run(pipe, *arguments)`. Yields its number, and the first object that it sends."""
    with talking_to(run, *arguments, core=core) as (pid, pipe):
        yield pid, pipe.recv()


@contextmanager
def talking_to(run, *arguments, core=None):
    """The same, but yields its number and the other end of its pipe."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_run, args=(run, theirs, core, *arguments), daemon=True)
    process.start()
    theirs.close()  # so that `recv` ends with EOFError if the process does
    try:
        yield process.pid, ours
    finally:
        process.terminate()
        process.join()


def _run(run, pipe, core, *arguments):
    if core is not None:
        os.sched_setaffinity(0, {core})
    run(pipe, *arguments)


def serve(pipe, identity=None):
    """A chat server without limits, with its store in memory. Sends its address."""

    async def run():
        keys = identity or Identity.new(os.urandom)
        async with trio.open_nursery() as nursery:
            pipe.send(await nursery.start(partial(serve_chat, 0, host=HOST, identity=keys, limits=UNLIMITED)))

    trio.run(run)


def two_cores():
    """The cores for both sides of a conversation: two, if there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[1 % len(cores)]


def cpu_seconds(pid):
    """CPU time of a process and its threads, user and system."""
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main_thread_seconds(pid):
    """CPU time of the main thread of a process, much finer: in nanoseconds, where the other is in hundredths."""
    with open(f"/proc/{pid}/schedstat") as stat:
        return int(stat.read().split()[0]) / 1e9


def memory(pid):
    """Memory of a process at the moment, in MiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def allow_many_files():
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
