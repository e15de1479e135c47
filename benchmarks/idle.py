"""Measures what a server costs while nothing happens: its CPU time with 500 clients, and its memory with 1,000.

    python benchmarks/idle.py [--idle 500] [--all 1000] [--seconds 60]

The clients are in one process, and do what keeps them online: a heartbeat every 20 seconds, as all clients send it, and
the answers to what the server sends. The server is a process of its own, with its store in memory. The floor of the
memory is a server that nobody has joined. Linux only.
"""

import argparse
import os
import select
import time

from shared.plain_client import Client
from shared.processes import allow_many_files, cpu_seconds, memory, running, serve, talking_to
from shared.tables import print_heading, print_note, print_row

from trio_chat import Identity
from trio_chat.client.own_address import HEARTBEAT_EVERY
from trio_chat.protocol.messages import Heartbeat

AT_A_TIME = 20
RESEND = 1.0
LOOK_EVERY = 0.2
QUIET, QUIET_FOR, GIVE_UP = 0.05, 3, 120
"""After the last one has joined, the others are told of all who came. The server is idle when it has used less than 5 %
of a core in each of 3 seconds.
"""


class Clients:
    """All clients, and when each of them sends its next heartbeat."""

    def __init__(self, address, keys):
        self._address, self._keys = address, keys
        self._all, self._due, self._look_at = {}, {}, 0.0
        self._ready = select.epoll()

    def add(self, count):
        """Let so many join."""
        missing = [self._open() for _ in range(count)]
        joining = {}
        while missing or joining:
            while missing and len(joining) < AT_A_TIME:
                joining[missing.pop()] = 0.0
            now = time.monotonic()
            for client, sent_at in joining.items():
                if now - sent_at > RESEND:
                    client.send(client.register(f"name-{client.socket.fileno()}"))
                    joining[client] = now
            self.run(0.05)
            joining = {client: sent_at for client, sent_at in joining.items() if not client.registered}

    def _open(self):
        client = Client(self._address, self._keys)
        self._all[client.socket.fileno()] = client
        self._ready.register(client.socket.fileno(), select.EPOLLIN)
        return client

    def run(self, seconds):
        """Answer what comes within so many seconds, and send the heartbeats."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for number, _ in self._ready.poll(until - now):
                self._all[number].receive()
            if now > self._look_at:
                self._look_at = now + LOOK_EVERY
                self._send_heartbeats(now)

    def _send_heartbeats(self, now):
        for client in self._all.values():
            if client.registered and self._due.setdefault(client, now + HEARTBEAT_EVERY) <= now:
                client.send(Heartbeat(os.urandom(16), client.registered.since))
                self._due[client] = now + HEARTBEAT_EVERY


def be_online(pipe, address, keys):
    """Let as many join as are asked for; send when they have."""
    allow_many_files()
    clients = Clients(address, keys)
    while True:
        if pipe.poll():
            clients.add(pipe.recv())
            pipe.send("joined")
        clients.run(0.5)


def join(pid, clients, count):
    """Let so many more join, and wait until the server is idle."""
    clients.send(count)
    clients.recv()
    quiet = 0
    for _ in range(GIVE_UP):
        before = cpu_seconds(pid)
        time.sleep(1)
        quiet = quiet + 1 if cpu_seconds(pid) - before < QUIET else 0
        if quiet == QUIET_FOR:
            return
    print_note("the server did not become idle")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--idle", type=int, default=500, help="how many clients there are while CPU time is measured")
    parser.add_argument("--all", type=int, default=1000, help="how many there are while memory is measured")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the server is idle")
    options = parser.parse_args()
    identity = Identity.new(os.urandom)
    with (
        running(serve, identity) as (pid, address),
        talking_to(be_online, address, identity.public) as (_, clients),
    ):
        print_heading("an idle server")
        nobody = memory(pid)
        join(pid, clients, options.idle)
        before = cpu_seconds(pid)
        time.sleep(options.seconds)
        share = (cpu_seconds(pid) - before) / options.seconds
        print_row(f"with {options.idle} clients, % of a core", 100 * share, digits=2)
        join(pid, clients, options.all - options.idle)
        print_row(f"memory with {options.all} clients, MiB", memory(pid), nobody)


if __name__ == "__main__":
    main()
