"""Floods a server: `python -m tests.flood.attackers KIND PORT SECONDS`. Prints `ready`, and floods from then on.

handshakes   10,000 valid INITs with good cookies a second, from 60 addresses with 16 ports each
garbage      the same with garbage behind good cookies, from one address with 960 ports
presence     400 connections from one address, each of which sends requests of 64 KiB all the time

It needs Linux: 127.0.0.2 and so on are addresses of this machine there.
"""

import itertools
import json
import os
import secrets
import selectors
import socket
import sys
import time
from contextlib import suppress

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trio_chat.link.handshake import Initiator
from trio_chat.link.packets import Cookie, Hello, Init, Keys, parse_untrusted

HOST = "127.0.0.1"
RATE = int(os.environ.get("FLOOD", "10000"))
"""INITs a second. Fewer on a machine that cannot even receive so many."""
SOURCES = 960
PREPARED = 20_000
TICK = 0.005
CONNECTIONS = 400


def open_sources(addresses):
    """UDP sockets, at these addresses in turn."""
    hosts = itertools.cycle([f"127.0.0.{2 + n}" for n in range(addresses)])
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    for source, host in zip(sources, hosts, strict=False):
        source.bind((host, 0))
        source.settimeout(1.0)
    return sources


def link_key_of(source, server):
    source.sendto(Hello(b"flod").encode(), server)
    keys = parse_untrusted(source.recv(2048))
    assert isinstance(keys, Keys)
    return keys.link_key


def valid_messages(link_key):
    """A few valid first messages of the handshake: another index makes each of them another INIT."""
    own = X25519PrivateKey.generate()
    return [Initiator(own, link_key, secrets.token_bytes(32), secrets.token_bytes(16)).message for _ in range(100)]


def prepare(sources, server, messages):
    """INITs with the cookies that the server gives for them, and their sources."""
    prepared = []
    for source, message in zip(itertools.cycle(sources), itertools.cycle(messages), strict=False):
        if len(prepared) == PREPARED:
            return prepared
        init = Init(secrets.token_bytes(4), message)
        source.sendto(init.encode(), server)
        with suppress(TimeoutError):
            cookie = parse_untrusted(source.recv(2048))
            if isinstance(cookie, Cookie) and cookie.index == init.index:
                prepared.append((source, attrs.evolve(init, cookie=cookie.cookie).encode()))
    return prepared


def flood(prepared, server, seconds):
    began = time.monotonic()
    for sent, (source, data) in enumerate(itertools.cycle(prepared)):
        while sent >= RATE * (time.monotonic() - began):
            time.sleep(TICK)
        if time.monotonic() - began > seconds:
            return
        source.sendto(data, server)


def flood_with_handshakes(server, seconds, *, valid):
    sources = open_sources(60 if valid else 1)
    messages = valid_messages(link_key_of(sources[0], server)) if valid else [os.urandom(112) for _ in range(100)]
    prepared = prepare(sources, server, messages)
    print("ready", flush=True)
    flood(prepared, server, seconds)


def long_request(user_id, friends):
    """A request of 64 KiB: as many friends as are allowed, and brackets, which are the most work."""
    request = json.dumps({"user_id": user_id, "friends": [f"{friends}-{n}" for n in range(1000)], "x": []})
    padding = ",".join(['""'] * ((64 * 1024 - len(request)) // 3 - 1))
    return request.replace('"x": []', f'"x": [{padding}]').encode()


def flood_presence(server, seconds):
    selector = selectors.DefaultSelector()
    data = long_request(1, "a") + long_request(1, "b")
    print("ready", flush=True)
    for _ in range(CONNECTIONS):
        connected = socket.socket()
        connected.bind(("127.0.0.2", 0))
        connected.connect(server)
        connected.setblocking(False)
        selector.register(connected, selectors.EVENT_READ | selectors.EVENT_WRITE, [0])
    until = time.monotonic() + seconds
    while time.monotonic() < until and selector.get_map():
        for key, ready in selector.select(1.0):
            try:
                if ready & selectors.EVENT_READ and not key.fileobj.recv(65536):
                    selector.unregister(key.fileobj)
                elif ready & selectors.EVENT_WRITE:
                    at = key.data[0]
                    key.data[0] = (at + key.fileobj.send(data[at : at + 65536])) % len(data)
            except OSError:
                selector.unregister(key.fileobj)


def main():
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if kind == "presence":
        flood_presence((HOST, port), seconds)
    else:
        flood_with_handshakes((HOST, port), seconds, valid=kind == "handshakes")


if __name__ == "__main__":
    main()
