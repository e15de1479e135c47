"""What sealing costs: a round trip between two processes over loopback, bare, unsealed and sealed.

    python benchmarks/links.py [ROUND-TRIPS]

The floor is a blocking socket that echoes as many bytes. Above it a request is asked and answered by two endpoints,
one time with links that seal nothing, one time with real ones, one time as a message whose receipt is signed by its
reader and verified by its sender, as chat messages are. The four take turns; the best turn of each counts.
"""

import multiprocessing
import secrets
import socket
import sys
import time
from contextlib import closing

import trio

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.receipts import make_receipt, verify_receipt
from trio_chat.link.links import Links, Received, Transmit
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import DirectMessage, Heartbeat
from trio_chat.protocol.wire import encode
from trio_chat.transport.endpoint import Endpoint, new_id
from trio_chat.transport.udp import UDP

ROUND_TRIPS = 4000
TURNS = 5
HOST = "127.0.0.1"
HERE, THERE = Identity(b"h" * 32, b"H" * 32), Identity(b"t" * 32, b"T" * 32)
SIZE = len(encode(Heartbeat(new_id(), "alice")))


class PlainLinks:
    """Links that seal nothing; everybody has the same key."""

    def send(self, peer, plaintext, now):
        return [Transmit(plaintext, peer.address)]

    def receive_untrusted(self, datagram, address, now):
        return [Received(Peer(address, THERE.public.link), datagram)]

    def sweep(self, now):
        pass


def links(identity, sealed):
    return Links(identity.link, secrets.token_bytes) if sealed else PlainLinks()


def take(peer, request):
    """What the other side answers."""
    if isinstance(request, DirectMessage):
        return request.receipt(make_receipt(THERE, id=request.id, sender=request.sender, text=request.text))
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
            await Endpoint(bound, links(THERE, sealed)).listen(take)

    trio.run(run)


def bare_round_trips(port, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
        bare.connect((HOST, port))
        data = bytes(SIZE)
        begun = time.perf_counter()
        for _ in range(count):
            bare.send(data)
            bare.recv(65536)
        return time.perf_counter() - begun


def round_trips(port, count, sealed, signed=False):
    async def run():
        peer = Peer((HOST, port), THERE.public.link)
        with closing(UDP.bind(HOST, 0)) as bound:
            endpoint = Endpoint(bound, links(HERE, sealed))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(endpoint.listen, take)
                await ask(endpoint, peer, signed)  # the handshake is made once for many messages
                begun = time.perf_counter()
                for _ in range(count):
                    await ask(endpoint, peer, signed)
                taken = time.perf_counter() - begun
                nursery.cancel_scope.cancel()
        return taken

    return trio.run(run)


async def ask(endpoint, peer, signed):
    request = DirectMessage(new_id(), "alice", "bob", "hi") if signed else Heartbeat(new_id(), "alice")
    answer = await endpoint.request(peer, request)
    if answer is None:
        raise SystemExit("a round trip took longer than a window: the machine is too busy to measure")
    if signed and not verify_receipt(answer.receipt, THERE.public.signing, id=request.id, sender="alice", text="hi"):
        raise SystemExit("a receipt is forged")


def child(run, *arguments):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=run, args=(theirs, *arguments), daemon=True)
    process.start()
    return process, ours.recv()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROUND_TRIPS
    children = [child(echo), child(serve, False), child(serve, True)]
    (_, bare), (_, plain), (_, sealed) = children
    measures = {
        "a blocking socket that echoes": lambda: bare_round_trips(bare, count),
        "a request, unsealed": lambda: round_trips(plain, count, sealed=False),
        "a request, sealed": lambda: round_trips(sealed, count, sealed=True),
        "a message, sealed, with a signed receipt": lambda: round_trips(sealed, count, sealed=True, signed=True),
    }
    best = dict.fromkeys(measures, float("inf"))
    for _ in range(TURNS):
        for what, measure in measures.items():
            best[what] = min(best[what], measure() / count)
    unsealed = best["a request, unsealed"]
    print(f"{f'{count} round trips, best of {TURNS} turns':42}{'us each':>10}{'ratio':>8}")
    for what, seconds in best.items():
        print(f"{what:42}{seconds * 1e6:>10.1f}{seconds / unsealed:>8.2f}")
    for process, _ in children:
        process.terminate()


if __name__ == "__main__":
    main()
