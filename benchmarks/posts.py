"""Measures the server's CPU time for handing one message to everyone out to many sessions that are online.

    python benchmarks/posts.py [SESSIONS]

Each session has an encrypted link and a UDP socket of its own. They are tasks of one process with the server, and their
time does not count: what is measured is the server's part of each delivery, from the post to the acknowledgement, with
its system calls. The store is in memory. Posts are sent one at a time (the next one when all have acknowledged the one
before) and with 20 in flight. The floor is what no server can do without: a datagram sealed and sent for each session,
an answer received and opened.

A delivery is one post that one session has acknowledged. The best round counts: other programs can only make a round
slower.

Beside it are other servers with as many clients and posts as long, over TCP, without encryption: ngircd, whose clients
acknowledge nothing; mosquitto and amqtt (the latter in Python), with acknowledgements (QoS 1). Each is started if it is
installed: `apt install ngircd mosquitto`, `pip install amqtt`.
"""

import os
import secrets
import select
import socket
import sys
import time
from contextlib import suppress
from functools import partial

import trio
from shared.peers import PEERS, find_peer, peer_costs
from shared.plain_client import Client
from shared.processes import HOST, UNLIMITED, allow_many_files
from shared.tables import print_heading, print_note, print_row

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.signatures import SIGNATURE_SIZE, TIME
from trio_chat.link.events import Received, Transmit
from trio_chat.link.links import Links
from trio_chat.protocol.messages import Batch, GroupPost, Heartbeat
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind
from trio_chat.protocol.wire import encode
from trio_chat.server import server

SESSIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 900
ROUNDS = 5
ONE_BY_ONE = 20
MANY, IN_FLIGHT = 100, 20
SILENCE = 0.5
GIVE_UP = 60.0
BUFFER = 4 * 1024 * 1024
TEXT = "A message to everyone, as long as people write them"
SIZE = SIGNATURE_SIZE + TIME.size + len(TEXT)


class ServerTime(trio.abc.Clock):
    """A clock that stands still while the clients work, so that no window ends because of them.

    What is measured is CPU time: other programs do not count.
    """

    def __init__(self):
        self.of_clients = self.cpu_of_clients = 0.0

    def cpu(self):
        """Seconds of CPU time that the server has used."""
        return time.process_time() - self.cpu_of_clients

    def start_clock(self):
        pass

    def current_time(self):
        return time.perf_counter() - self.of_clients

    def deadline_to_sleep_time(self, deadline):
        return deadline - self.current_time()


class Clients:
    """All sessions, and one more that sends the posts."""

    def __init__(self, address, server_keys, clock):
        self._clock = clock
        clients = [Client(address, server_keys) for _ in range(SESSIONS + 1)]
        self._all = {client.socket.fileno(): client for client in clients}
        self._ready = select.epoll()
        for number in self._all:
            self._ready.register(number, select.EPOLLIN)

    @property
    def all(self):
        return list(self._all.values())

    async def receive(self):
        """Wait for datagrams. Returns pairs of client and what came for it, one datagram for each client."""
        with trio.move_on_after(SILENCE):
            await trio.lowlevel.wait_readable(self._ready.fileno())
        return self.take()

    def take(self):
        """The same without waiting."""
        started, cpu = time.perf_counter(), time.process_time()
        ready = [self._all[number] for number, _ in self._ready.poll(0)]
        came = [(client, message) for client in ready for message in client.receive()]
        self._clock.of_clients += time.perf_counter() - started
        self._clock.cpu_of_clients += time.process_time() - cpu
        return came

    async def register(self):
        """Register all, the sender first: so nobody lacks their keys."""
        for clients in (self.all[-1:], self.all[:-1]):
            requests = {client: client.register(f"name-{client.socket.fileno()}") for client in clients}
            while waiting := [client for client in clients if not client.registered]:
                for client in waiting:
                    client.send(requests[client])
                await self.settle()

    async def settle(self):
        """Receive until nothing comes for a while."""
        heard_at = time.monotonic()
        while time.monotonic() - heard_at < SILENCE:
            with trio.move_on_after(SILENCE):
                await trio.lowlevel.wait_readable(self._ready.fileno())
                heard_at = time.monotonic()
                self.take()


async def handed_out(clients, clock, count, in_flight):
    """Send so many posts. Returns how many deliveries were made in a second of the server's CPU time."""
    sender, left, missing = clients.all[-1], count, {}
    started, cpu = trio.current_time(), clock.cpu()
    while left or missing:
        for _ in range(min(left, in_flight - len(missing))):
            post = GroupPost(os.urandom(16), os.urandom(SIZE))
            missing[post.id] = SESSIONS
            left -= 1
            sender.send(post)
        for _, message in await clients.receive():
            if isinstance(message, Entry):
                missing[message.id] -= 1
                if not missing[message.id]:
                    del missing[message.id]
        if trio.current_time() - started > GIVE_UP:
            sys.exit(f"after {GIVE_UP} s, {len(missing)} posts have not reached all sessions")
    return count * SESSIONS / (clock.cpu() - cpu)


async def whole_server(clock):
    """The best rates of a server, one at a time and with many in flight."""
    identity = Identity.new(secrets.token_bytes)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(server.serve_chat, 0, host=HOST, identity=identity, limits=UNLIMITED))
        clients = Clients(address, identity.public, clock)
        await clients.register()
        one_by_one = many = 0.0
        for _ in range(ROUNDS):
            one_by_one = max(one_by_one, await handed_out(clients, clock, ONE_BY_ONE, 1))
            many = max(many, await handed_out(clients, clock, MANY, IN_FLIGHT))
            for client in clients.all:
                client.send(Heartbeat(os.urandom(16), client.registered.since))
            await clients.settle()
        nursery.cancel_scope.cancel()
    return one_by_one, many


def datagrams_alone():
    """How many datagrams in a second can be sealed and sent, and their answers received and opened."""
    identity = Identity.new(secrets.token_bytes)
    links = Links(identity.link, secrets.token_bytes)
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    bound.setblocking(False)
    bound.bind((HOST, 0))
    clients = Clients(bound.getsockname(), identity.public, ServerTime())

    def hand_out():
        sent = (os.urandom(16), "name-900", os.urandom(32), EVERYONE, time.time(), os.urandom(SIZE))
        entry = Entry(1000, EntryKind.GROUP, *sent)
        data = encode(Batch(os.urandom(16), "name-100", (entry,)))
        for client in peers:
            for step in links.send(client, data, time.monotonic()):
                bound.sendto(step.data, step.address)

    def receive():
        opened = 0
        with suppress(BlockingIOError):
            while True:
                datagram, source = bound.recvfrom(2048)
                for step in links.receive_untrusted(datagram, source, time.monotonic()):
                    match step:
                        case Received():
                            opened += 1
                        case Transmit(data, address):
                            bound.sendto(data, address)
        return opened

    peers = [client.peer for client in clients.all[:-1]]
    opened = 0
    while opened < SESSIONS:  # a handshake with each; what waits too long for it is sent again
        hand_out()
        opened = 0
        for _ in range(4):
            clients.take()
            opened += receive()
    best = float("inf")
    for _ in range(ROUNDS * ONE_BY_ONE):
        started = time.process_time()
        hand_out()
        seconds, opened = time.process_time() - started, 0
        while opened < SESSIONS:
            clients.take()
            started = time.process_time()
            opened += receive()
            seconds += time.process_time() - started
        best = min(best, seconds)
    return SESSIONS / best


def print_peers(floor):
    loads = (ONE_BY_ONE, 1), (MANY, IN_FLIGHT)
    for what, (program, *_) in PEERS.items():
        if find_peer(program) is None:
            print_note(f"{program} is not installed")
            continue
        each, streaming = peer_costs(what, SESSIONS, "x" * SIZE, loads)
        print_row(f"{what}, one at a time", 1e6 * each, floor)
        print_row(f"{what}, {IN_FLIGHT} in flight", 1e6 * streaming, floor)


def main():
    allow_many_files()
    server.TABLE_FOLD = 3600.0  # nobody is told of changes of the table
    clock = ServerTime()
    floor = 1e6 / datagrams_alone()
    one_by_one, many = trio.run(whole_server, clock, clock=clock)
    print_heading(f"a post of {SIZE} bytes to {SESSIONS}, server CPU for a delivery", "us")
    print_row("a datagram and an answer, no server", floor, floor)
    print_row("one at a time", 1e6 / one_by_one, floor)
    print_row(f"{IN_FLIGHT} in flight", 1e6 / many, floor)
    print_peers(floor)


if __name__ == "__main__":
    main()
