"""Measures how many Saves a second a server makes durable, compared with SQLite alone on the same disk.

And how long a change of a room takes, from the client's call to its answer, one after the other.

    python benchmarks/saves.py [SAVES]

The server is a process with its store in a file. This process sends requests over UDP as fast as a plain socket and one
encrypted session can. Bodies are random bytes, as long as a sealed text. The store without a server gets as many at
once as the server's loop would give it: 64, and 256. The best round counts: other programs that use the disk can only
make a round slower. Rooms are created and joined by two chats of the library, which keep their own stores in memory.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio
from shared.tables import print_heading, print_row

from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.crypto.letters import LETTER_OVERHEAD
from trio_chat.link.events import Received, Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.frames import unpack_untrusted
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.messages import Heartbeat, Part, Register, Save, Saved, TableChange
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.records import Credentials, Entry, EntryKind, Record
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.server.server import serve_chat
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.server_store import open_server_store

ROUNDS = 5
SERVE = "--serve"
SAVES = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != SERVE else 20_000
ONE_BY_ONE = SAVES // 10
GROUP, MOST = 64, 256
IN_FLIGHT = 512
"""Twice what the server appends at once."""
NO_LIMIT = Rate(1e9, 1e9)
LIMITS = Limits(
    names_per_key=10_000,
    registrations_per_key=NO_LIMIT,
    registrations_per_address=NO_LIMIT,
    requests_per_key=NO_LIMIT,
    letters_per_key=NO_LIMIT,
    letters_per_address=NO_LIMIT,
    messages_in_progress=4 * IN_FLIGHT,
    rooms=100_000,
    rooms_per_key=100_000,
    new_rooms_per_key=NO_LIMIT,
    new_rooms_per_address=NO_LIMIT,
    room_requests_per_key=NO_LIMIT,
    epochs_per_key=NO_LIMIT,
)
"""One key at one address sends all Saves, and creates all rooms, faster than a server allows."""
ROOMS, PRIVATE_ROOMS = 300, 150
"""A client is in 200 private rooms at most."""
PAUSE = 0.02
"""Seconds after each change of a room, in which the others are told of it."""
WINDOW = 0.5
BUFFER = 4 * 1024 * 1024
NAMES = [f"recipient-{number}" for number in range(SAVES // 250 + 1)]
"""All of them are offline. None gets more letters than the limit for one sender to one person allows."""
TEXT = "A message as people write them, to somebody who is away and will read it some time later. " * 2
SIZE = len(TEXT) + LETTER_OVERHEAD

RAW = Schema(
    application_id=0x72617721,
    migrations=(
        "CREATE TABLE letters (number INTEGER PRIMARY KEY, recipient TEXT, kind TEXT, sender TEXT, id BLOB,"
        " sent_at REAL, body BLOB)",
    ),
)


def recipient(number):
    return NAMES[number % len(NAMES)]


def body():
    return os.urandom(SIZE)


# --- SQLite alone ---


def raw(folder, count, group):
    """Rows per second into one plain table, in a database opened like the stores."""
    rows = [(recipient(number), "direct", "sender", os.urandom(16), time.time(), body()) for number in range(count)]
    with closing(open_database(folder / "raw.db", RAW)) as database:
        started = time.perf_counter()
        for start in range(0, count, group):
            database.execute("BEGIN IMMEDIATE")
            for row in rows[start : start + group]:
                database.execute(
                    "INSERT INTO letters (recipient, kind, sender, id, sent_at, body) VALUES (?, ?, ?, ?, ?, ?)", row
                )
            database.execute("COMMIT")
        return count / (time.perf_counter() - started)


# --- the server's store, without a server ---


async def store_alone(folder, at_once):
    """Saves per second into the store, with so many in each call, one call after the other."""
    key = Identity.new(secrets.token_bytes).public
    entries = [
        Entry(0, EntryKind.DIRECT, os.urandom(16), "sender", key.signing, recipient(number), time.time(), body())
        for number in range(SAVES)
    ]
    async with open_server_store(folder / "server.db") as store:
        await store.load(lambda entries: None)
        for name in NAMES:
            await store.save_name(Record(name, "127.0.0.1", 1, False, 0.0, Credentials(key, bytes(64))))
        started = time.perf_counter()
        for start in range(0, SAVES, at_once):
            await store.append(entries[start : start + at_once])
        return SAVES / (time.perf_counter() - started)


# --- the whole server ---


class Client:
    """Sends requests with many in flight, and answers only what keeps it online."""

    def __init__(self, port, server_keys):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(WINDOW)
        self._server = Peer(("127.0.0.1", port), server_keys.link)
        self._server_key = server_keys.signing
        self._identity = Identity.new(secrets.token_bytes)
        self._links = Links(self._identity.link, secrets.token_bytes)
        self._assembly = Assembly()
        self.resent = 0

    def register(self, name):
        own = credentials(self._identity, name=name, server_key=self._server_key)
        return Register(os.urandom(16), name, own, program=bytes(16))

    def ask(self, requests, in_flight):
        """Send requests, given as pairs of id and bytes. Return the answers in the order of their arrival."""
        todo, waiting, answers = iter(requests), {}, []
        answered_at = time.monotonic()
        while True:
            for id_, data in islice(todo, in_flight - len(waiting)):
                waiting[id_] = data
                self._send(data)
            if not waiting:
                return answers
            for answer in self._receive():
                if waiting.pop(answer.id, None):
                    answers.append(answer)
                    answered_at = time.monotonic()
            if time.monotonic() - answered_at > WINDOW:
                self._send_again(waiting.values())
                answered_at = time.monotonic()

    def _receive(self):
        with suppress(TimeoutError, WireError):
            datagram = self._socket.recv(2048)
            for step in self._links.receive_untrusted(datagram, self._server.address, time.monotonic()):
                match step:
                    case Transmit(data):
                        self._socket.send(data)
                    case Received(_, plaintext):
                        for data in unpack_untrusted(plaintext):
                            yield from self._take(decode_untrusted(data))

    def _take(self, message):
        match message:
            case Part():
                part_ack, whole = self._assembly.add(message.id, message)
                self._send(encode(part_ack))
                if whole:
                    self._assembly.drop(message.id)
                    yield from self._take(decode_untrusted(whole))
            case TableChange():
                self._send(encode(message.held(message.after)))
            case Heartbeat():
                self._send(encode(message.ack()))
            case _:
                yield message

    def _send(self, data):
        for step in self._links.send(self._server, data, time.monotonic()):
            self._socket.send(step.data)

    def _send_again(self, waiting):
        self.resent += len(waiting)
        for data in waiting:
            self._send(data)

    def close(self):
        self._socket.close()


def encoded(request):
    return request.id, encode(request)


@contextmanager
def running_server(folder):
    """A server on a free port, in a process of its own. Yields the port and its public keys."""
    command = [sys.executable, __file__, SERVE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            port = int(process.stdout.readline())
            yield port, open_identity(folder / "server.key").public
        finally:
            process.terminate()


async def serve(folder):
    """That server: as the command `server`, with other limits."""
    identity = open_identity(folder / "server.key")
    async with open_server_store(folder / "server.db") as store, trio.open_nursery() as nursery:
        options = {"host": "127.0.0.1", "identity": identity, "store": store, "limits": LIMITS}
        _, port = await nursery.start(partial(serve_chat, 0, **options))
        print(port, flush=True)


def whole_server(folder, in_flight):
    """Saves per second over UDP. Each is answered when it is durable."""
    saves = [encoded(Save(os.urandom(16), recipient(number), body())) for number in range(SAVES)]
    with running_server(folder) as (port, server_keys), closing(Client(port, server_keys)) as client:
        # One key registers all names, one after the other: that leaves all but the last one offline.
        client.ask([encoded(client.register(name)) for name in (*NAMES, "sender")], in_flight=1)
        client.resent = 0
        started = time.perf_counter()
        answers = client.ask(saves, in_flight)
        rate = SAVES / (time.perf_counter() - started)
    if not all(isinstance(answer, Saved) for answer in answers):
        sys.exit("not everything was saved")
    if client.resent:
        print(f"a round sent {client.resent} requests again: no answer came for {WINDOW} s", file=sys.stderr)
    return rate


# --- rooms ---


async def rooms(folder):
    """Milliseconds of each change of a room, by what was done."""
    taken = defaultdict(list)

    async def measure(what, call, *args, **options):
        started = time.perf_counter()
        await call(*args, **options)
        taken[what].append(1000 * (time.perf_counter() - started))
        await trio.sleep(PAUSE)

    with running_server(folder) as (port, _):
        server = ("127.0.0.1", port)
        async with open_chat("ann", server) as ann, open_chat("bob", server) as bob, trio.open_nursery() as nursery:
            nursery.start_soon(read_events, ann)
            nursery.start_soon(read_events, bob)
            for number in range(ROOMS):
                await measure("create a room", ann.create_room, f"room-{number}")
                await measure("join it", bob.join, f"room-{number}")
            for number in range(PRIVATE_ROOMS):
                await measure("create a private room", ann.create_room, f"private-{number}", private=True)
                await measure("invite somebody into it", ann.invite, f"private-{number}", "bob")
            nursery.cancel_scope.cancel()
    return taken


async def read_events(chat):
    async for _ in chat.events:
        pass


def print_rooms():
    with TemporaryDirectory() as folder:
        taken = trio.run(rooms, Path(folder))
    print_heading("changes of rooms, one by one, median", "ms")
    for what, times in taken.items():
        print_row(what, median(times), digits=2)


def main():
    grouped = f"raw inserts, {GROUP} in a transaction"
    measures = {
        "raw inserts, one in a transaction": lambda folder: raw(folder, ONE_BY_ONE, 1),
        grouped: lambda folder: raw(folder, SAVES, GROUP),
        f"Saves, the store alone, {GROUP} at once": lambda folder: trio.run(store_alone, folder, GROUP),
        f"Saves, the store alone, {MOST} at once": lambda folder: trio.run(store_alone, folder, MOST),
        f"Saves, the whole server, {GROUP} in flight": lambda folder: whole_server(folder, GROUP),
        f"Saves, the whole server, {IN_FLIGHT} in flight": lambda folder: whole_server(folder, IN_FLIGHT),
    }
    best = dict.fromkeys(measures, 0.0)
    for _ in range(ROUNDS):
        for what, measure in measures.items():
            with TemporaryDirectory() as folder:
                best[what] = max(best[what], measure(Path(folder)))
    print_heading(f"messages of {SIZE} bytes that are made durable, best of {ROUNDS}", "a second")
    for what, rate in best.items():
        print_row(what, rate, best[grouped], is_rate=True, digits=0)
    print_rooms()


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        trio.run(serve, Path(sys.argv[2]))
    else:
        main()
