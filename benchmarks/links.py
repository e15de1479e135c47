"""Measures the cost of encryption: round trips between two processes over loopback.

    python benchmarks/links.py [ROUND-TRIPS]

Three cases: a blocking socket that echoes as many bytes, which is the lower limit; a request between two endpoints
without encryption; and the same with encryption. They are measured in turns. The best turn of each counts: other
programs can only make a turn slower.
"""

import os
import secrets
import socket
import sys
import time
from contextlib import closing

import trio
from shared.processes import HOST, running, two_cores
from shared.tables import print_heading, print_row

from trio_chat.crypto.identities import Identity
from trio_chat.link.events import Received, Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Heartbeat
from trio_chat.protocol.wire import encode
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.udp import UDP

ROUND_TRIPS = 4000
TURNS = 5
OWN, OTHER = Identity(b"h" * 32, b"H" * 32), Identity(b"t" * 32, b"T" * 32)
SIZE = len(encode(Heartbeat(new_id(), 0.0)))


class PlainLinks:
    """Links without encryption. All peers have the same key."""

    def send(self, peer, plaintext, now):
        return [Transmit(plaintext, peer.address)]

    def receive_untrusted(self, datagram, address, now):
        return [Received(Peer(address, OTHER.public.link), datagram)]

    def session(self, peer):
        return b"none, and none is needed"

    def sweep(self, now):
        pass


def links(identity, sealed):
    return Links(identity.link, secrets.token_bytes) if sealed else PlainLinks()


def answer(peer, request):
    """The answer of the other process."""
    return request.ack()


def echo(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
        bare.bind((HOST, 0))
        port.send(bare.getsockname()[1])
        while True:
            data, source = bare.recvfrom(65536)
            bare.sendto(data, source)


def serve(port, sealed):
    async def run():
        with closing(UDP.bind(HOST, 0)) as bound:
            port.send(bound.address[1])
            await Endpoint(bound, links(OTHER, sealed)).listen(answer)

    trio.run(run)


def bare_round_trips(port, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
        bare.connect((HOST, port))
        data = bytes(SIZE)
        started = time.perf_counter()
        for _ in range(count):
            bare.send(data)
            bare.recv(65536)
        return time.perf_counter() - started


def round_trips(port, count, sealed):
    async def run():
        peer = Peer((HOST, port), OTHER.public.link)
        with closing(UDP.bind(HOST, 0)) as bound:
            endpoint = Endpoint(bound, links(OWN, sealed))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(endpoint.listen, answer)
                await ask(endpoint, peer)  # the handshake, which many messages share, is not measured
                started = time.perf_counter()
                for _ in range(count):
                    await ask(endpoint, peer)
                elapsed = time.perf_counter() - started
                nursery.cancel_scope.cancel()
        return elapsed

    return trio.run(run)


async def ask(endpoint, peer):
    request = Heartbeat(new_id(), 0.0)
    response = await endpoint.request(peer, request)
    if response is None:
        raise SystemExit("a round trip took longer than a window: the machine is too busy to measure")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROUND_TRIPS
    ours, theirs = two_cores()
    with (
        running(echo, core=theirs) as (_, bare),
        running(serve, False, core=theirs) as (_, plain),
        running(serve, True, core=theirs) as (_, sealed),
    ):
        os.sched_setaffinity(0, {ours})
        measures = {
            "a blocking socket that echoes": lambda: bare_round_trips(bare, count),
            "a request, unsealed": lambda: round_trips(plain, count, sealed=False),
            "a request, sealed": lambda: round_trips(sealed, count, sealed=True),
        }
        best = dict.fromkeys(measures, float("inf"))
        for _ in range(TURNS):
            for what, measure in measures.items():
                best[what] = min(best[what], measure() / count)
    print_heading(f"{count} round trips, best of {TURNS} turns", "us each")
    for what, seconds in best.items():
        print_row(what, seconds * 1e6, best["a blocking socket that echoes"] * 1e6)


if __name__ == "__main__":
    main()
