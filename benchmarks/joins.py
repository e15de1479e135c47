"""Measures how long it takes to join: one client where a server knows 9,900 names, and 200 clients at the same time.

    python benchmarks/joins.py [CLIENTS]

The server is a process with its store in memory; the clients are chats of the library, all in this process. One client
joins again and again, and leaves in between: the time from the call of `open_chat` until it is in the chat with its
table, and what it has received by then. For many clients it is the time until all are in, and then until each one knows
of all the others. Beside them stands what nobody can do without: to ask for the server's keys, to make a link, and to
get one request answered.

What many clients take grows with the square of their number, as each gets the row of each, and most of it is their own
work here: so the server's CPU time is shown, too.
"""

import os
import resource
import secrets
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from functools import partial
from statistics import median

import trio

from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import Identity
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.messages import Heartbeat
from trio_chat.protocol.records import Credentials, Record
from trio_chat.server.server import serve_chat
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.udp import UDP

SERVE = "--serve"
CLIENTS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != SERVE else 200
STORED = 9900
ROUNDS, ROUNDS_OF_MANY = 30, 3
HOST = "127.0.0.1"
NO_LIMIT = Rate(1e9, 1e9)
LIMITS = Limits(
    names=100_000,
    new_names_per_address=NO_LIMIT,
    registrations_in_progress=100_000,
    registrations_per_address=NO_LIMIT,
    handshakes_per_address=NO_LIMIT,
    handshakes_of_strangers=NO_LIMIT,
    handshakes_of_newcomers=NO_LIMIT,
    sessions_of_strangers=100_000,
)
"""All clients are at one address."""


class CountingNetwork:
    """Plain UDP; `received`: the bytes of all datagrams that came."""

    def __init__(self):
        self.received = 0
        self.resolve = UDP.resolve

    def bind(self, host, port):
        return CountingSocket(UDP.bind(host, port), self)


class CountingSocket:
    """A socket that counts for its network."""

    def __init__(self, socket, network):
        self._socket, self._network = socket, network
        self.address, self.send, self.close = socket.address, socket.send, socket.close
        self.own_address = socket.own_address

    async def receive_batch(self):
        batch = await self._socket.receive_batch()
        self._network.received += sum(len(data) for data, _ in batch)
        return batch


async def serve(names):
    """A server that knows so many names, as a child process."""
    store, keys = MemoryServerStore(), Identity.new(secrets.token_bytes).public
    for number in range(names):
        row = Record(f"resident{number}", "192.0.2.1", 4000, False, 0.0, Credentials(keys, os.urandom(64)))
        await store.save_name(row)
    async with trio.open_nursery() as nursery:
        _, port = await nursery.start(partial(serve_chat, 0, host=HOST, store=store, limits=LIMITS))
        print(port, flush=True)


class Server:
    """Such a server: its address, and its CPU time in seconds. Linux only: that is read from /proc."""

    def __init__(self, names):
        command = [sys.executable, __file__, SERVE, str(names)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        self.address = HOST, int(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def cpu(self):
        """Seconds of CPU time that it has used."""
        with open(f"/proc/{self._process.pid}/stat") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# --- one client ---


async def one_joins(server):
    """Milliseconds and bytes until a client is in the chat: the median of each."""
    identity, times, sizes = Identity.new(secrets.token_bytes), [], []
    for _ in range(ROUNDS):
        network, started = CountingNetwork(), time.perf_counter()
        async with open_chat("newcomer", server, identity=identity, network=network):
            times.append(1000 * (time.perf_counter() - started))
            sizes.append(network.received)
    return median(times), median(sizes)


async def one_link(server):
    """The same for a link and one request that is answered."""
    times, sizes = [], []
    for _ in range(ROUNDS):
        network, started = CountingNetwork(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            await connect(server, network, nursery)
            times.append(1000 * (time.perf_counter() - started))
            sizes.append(network.received)
            nursery.cancel_scope.cancel()
    return median(times), median(sizes)


async def connect(server, network, nursery, done=lambda: None):
    """Ask for the server's keys, and get an answer to a request over the link to it."""
    socket = network.bind(None, 0)
    endpoint = Endpoint(socket, Links(Identity.new(secrets.token_bytes).link, secrets.token_bytes))
    nursery.start_soon(listen, socket, endpoint)
    found = await endpoint.query_keys([server])
    peer = Peer(found.address, found.keys.link)
    await endpoint.request(peer, Heartbeat(os.urandom(16), 0.0), attempts=5)
    done()


async def listen(socket, endpoint):
    """Receive until cancelled."""
    with closing(socket):
        await endpoint.listen(lambda peer, request: request.ack())


# --- many clients ---


async def many_join(server):
    """Seconds until so many clients are in, until each of them knows of all, and of the server's CPU time."""
    joined, chats = trio.Event(), []
    started, cpu = time.perf_counter(), server.cpu()
    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(run_client, server.address, number, chats, joined)
        await joined.wait()
        all_in = time.perf_counter() - started
        while not all(len(chat.table) == CLIENTS for chat in chats):  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.02)
        all_known, cpu = time.perf_counter() - started, server.cpu() - cpu
        nursery.cancel_scope.cancel()
    return all_in, all_known, cpu


async def run_client(server, number, chats, joined):
    """Join, and stay."""
    async with open_chat(f"client{number}", server, reconnect=True) as chat:
        chats.append(chat)
        if len(chats) == CLIENTS:
            joined.set()
        await trio.sleep_forever()


async def many_links(server):
    """Seconds until so many links are there, and one request of each is answered."""
    network, left = CountingNetwork(), CLIENTS
    all_done, started, cpu = trio.Event(), time.perf_counter(), server.cpu()

    def done():
        nonlocal left
        left -= 1
        if not left:
            all_done.set()

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(connect, server.address, network, nursery, done)
        await all_done.wait()
        took, cpu = time.perf_counter() - started, server.cpu() - cpu
        nursery.cancel_scope.cancel()
    return took, cpu


def print_one():
    """The table of one client."""
    with Server(0) as server:
        link = trio.run(one_link, server.address)
        few = trio.run(one_joins, server.address)
    with Server(STORED) as server:
        many = trio.run(one_joins, server.address)
    print(f"{'one client joins':44}{'ms':>10}{'ratio':>8}{'bytes':>12}")
    for what, (taken, size) in {
        "a link and a request, no chat": link,
        "no names are stored": few,
        f"{STORED:,} names are stored": many,
    }.items():
        print(f"{what:44}{taken:>10.1f}{taken / link[0]:>8.2f}{size:>12,.0f}")


def print_many():
    """The table of many clients: the best round of each, as other programs can only make one slower."""
    rounds = defaultdict(list)
    for _ in range(ROUNDS_OF_MANY):
        with Server(0) as server:
            seconds, cpu = trio.run(many_links, server)
        rounds["a link and a request each, no chat"].append(seconds)
        rounds["the server's CPU time for these"].append(cpu)
        with Server(0) as server:
            all_in, all_known, cpu = trio.run(many_join, server)
        rounds["all are in"].append(all_in)
        rounds["and each knows of all others"].append(all_known)
        rounds["the server's CPU time for that"].append(cpu)
    floor, *_ = (min(seconds) for seconds in rounds.values())
    print(f"{f'{CLIENTS:,} clients join':44}{'s':>10}{'ratio':>8}")
    for what, seconds in rounds.items():
        print(f"{what:44}{min(seconds):>10.2f}{min(seconds) / floor:>8.2f}")


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print_one()
    print_many()


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        trio.run(serve, int(sys.argv[2]))
    else:
        main()
