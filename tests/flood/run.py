"""Floods a server with and without its limits, and prints what it costs, and whether people can use the chat meanwhile.

    python -m tests.flood.run [KIND ...]

Neighbours are clients that were there before; each sends a message a second. Newcomers register during the flood. The
clients are tasks of this process; the server and the attackers are processes of their own. Linux only, and about two
minutes. On a busy machine the numbers mean little.
"""

import os
import resource
import subprocess
import sys
from contextlib import suppress
from functools import partial

import trio

from tests.flood.attackers import RATE
from trio_chat.client.opening import open_chat
from trio_chat.errors import ChatError

HOST = "127.0.0.1"
KINDS = {
    "handshakes": f"{RATE:,} valid handshakes a second, 60 addresses",
    "garbage": f"{RATE:,} a second with garbage, one address",
    "presence": "400 presence connections, requests of 64 KiB",
}
SECONDS = 10.0
PEOPLE = 5
PATIENCE = 5.0
"""Seconds in which a newcomer must be in, and a message at the server."""


def start(module, *arguments):
    command = [sys.executable, "-m", f"tests.flood.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def cpu_of(pid):
    """Seconds of CPU time of a process so far."""
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def is_admitted(port, name):
    with suppress(ChatError), trio.move_on_after(PATIENCE):
        async with open_chat(name, (HOST, port), backlog=0) as chat:
            return chat.online
    return False


async def neighbour(name, port, flooded, over, took, *, task_status):
    """Registers; during the flood sends a message to everyone each second, until one does not get to the server."""
    slowest = 0.0
    with suppress(ChatError, trio.TooSlowError):
        async with open_chat(name, (HOST, port), backlog=0) as chat:
            task_status.started()
            await flooded.wait()
            while not over.is_set():
                began = trio.current_time()
                with trio.fail_after(PATIENCE):
                    await chat.send_all("still here")
                slowest = max(slowest, trio.current_time() - began)
                await trio.sleep(1)
            took.append(slowest)


async def observe(server, chat_port, attack_port, kind):
    """A line of the table: the server's share of a core, newcomers who got in, neighbours who could send, their slowest
    message."""
    flooded, over, took, came = trio.Event(), trio.Event(), [], []

    async def newcomer(name):
        came.append(await is_admitted(chat_port, name))

    async with trio.open_nursery() as nursery:
        for number in range(PEOPLE):
            await nursery.start(partial(neighbour, f"neighbour{number}", chat_port, flooded, over, took))
        with start("attackers", kind, str(attack_port), str(SECONDS)) as attackers:
            await trio.to_thread.run_sync(attackers.stdout.readline)
            flooded.set()
            began, cpu = trio.current_time(), cpu_of(server.pid)
            async with trio.open_nursery() as newcomers:
                for number in range(PEOPLE):
                    await trio.sleep(1)
                    newcomers.start_soon(newcomer, f"newcomer{number}")
            await trio.sleep_until(began + SECONDS)
            share = (cpu_of(server.pid) - cpu) / (trio.current_time() - began)
            over.set()
    slowest = f"{max(took, default=PATIENCE):.2f} s"
    return f"{share:.0%}", f"{sum(came)} of {PEOPLE}", f"{len(took)} of {PEOPLE}", slowest


def measure(kind, *options):
    with start("server", *options) as server:
        try:
            chat_port, presence_port = map(int, server.stdout.readline().split())
            attack_port = presence_port if kind == "presence" else chat_port
            return trio.run(observe, server, chat_port, attack_port, kind)
        finally:
            server.kill()


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{'attack':48}{'limits':>10}{'server CPU':>12}{'newcomers':>12}{'neighbours':>12}{'slowest':>12}")
    for kind in sys.argv[1:] or KINDS:
        for limits, options in (("none", ["--without"]), ("usual", [])):
            cells = measure(kind, *options)
            print(f"{KINDS[kind]:48}{limits:>10}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
