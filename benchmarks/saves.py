"""How many Saves a second a whole server makes durable, beside what SQLite alone does on the same disk.

    python benchmarks/saves.py

The server is a process of its own, with its store in a file and real UDP in between; this process asks it as fast as
a plain socket can. Of the rounds the best one counts: whatever else uses the disk can only make them slower.
"""

import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from trio_chat.protocol.messages import Heartbeat, Part, Register, Save, Saved, TableChange
from trio_chat.protocol.records import Letter, LetterKind, Record
from trio_chat.protocol.reliability import Assembly
from trio_chat.protocol.wire import decode_untrusted, encode
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.server_store import open_server_store

ROUNDS = 5
SAVES = 20_000
ONE_BY_ONE = 2_000
GROUP = 64
IN_FLIGHT = 512
"""Twice what the store puts into one transaction, half of what the server takes into work."""
WINDOW = 0.5
BUFFER = 4 * 1024 * 1024
NAMES = [f"recipient-{number}" for number in range(SAVES // 500)]
"""All of them away, none with more than half a mailbox of letters."""
TEXT = "A message as people write them, to somebody who is away and will read it some time later. " * 2

RAW = Schema(
    application_id=0x72617721,
    migrations=(
        "CREATE TABLE letters (number INTEGER PRIMARY KEY, recipient TEXT, kind TEXT, sender TEXT, id BLOB,"
        " sent_at REAL, text TEXT)",
    ),
)


def recipient(number):
    return NAMES[number % len(NAMES)]


# --- SQLite alone ---


def raw(folder, count, group):
    """Rows a second into one plain table, opened as the stores are."""
    rows = [(recipient(number), "direct", "sender", os.urandom(16), time.time(), TEXT) for number in range(count)]
    with closing(open_database(folder / "raw.db", RAW)) as database:
        began = time.perf_counter()
        for start in range(0, count, group):
            database.execute("BEGIN IMMEDIATE")
            for row in rows[start : start + group]:
                database.execute(
                    "INSERT INTO letters (recipient, kind, sender, id, sent_at, text) VALUES (?, ?, ?, ?, ?, ?)", row
                )
            database.execute("COMMIT")
        return count / (time.perf_counter() - began)


# --- the server's store, without a server ---


async def store_alone(folder):
    """Saves a second into the store, as many at once as below."""
    letters = [
        (recipient(n), Letter(LetterKind.DIRECT, os.urandom(16), "sender", time.time(), TEXT)) for n in range(SAVES)
    ]
    todo = iter(letters)

    async def save():
        for name, letter in todo:
            await store.save(name, letter)

    async with open_server_store(folder / "server.db") as store:
        for name in NAMES:
            await store.enrol(Record(name, "127.0.0.1", 1, False, 0.0))
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(save)
        return SAVES / (time.perf_counter() - began)


# --- the whole server ---


class Client:
    """Asks with many requests in flight, and answers only what keeps it on line."""

    def __init__(self, port):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(WINDOW)
        self._assembly = Assembly()
        self.resent = 0

    def ask(self, requests, in_flight):
        """Send requests, each as its id and its bytes; return their answers, in the order in which they came."""
        todo, waiting, answers = iter(requests), {}, []
        answered_at = time.monotonic()
        while True:
            for id_, data in islice(todo, in_flight - len(waiting)):
                waiting[id_] = data
                self._socket.send(data)
            if not waiting:
                return answers
            answer = self._hear()
            if answer is not None and waiting.pop(answer.id, None):
                answers.append(answer)
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at > WINDOW:
                self._send_again(waiting.values())
                answered_at = time.monotonic()

    def _hear(self):
        with suppress(TimeoutError):
            message = decode_untrusted(self._socket.recv(2048))
            if isinstance(message, Part):
                part_ack, whole = self._assembly.add(message.id, message)
                self._socket.send(encode(part_ack))
                message = whole and decode_untrusted(whole)
            match message:
                case TableChange():
                    self._socket.send(encode(message.held(message.after)))
                case Heartbeat():
                    self._socket.send(encode(message.ack()))
                case _:
                    return message
        return None

    def _send_again(self, waiting):
        self.resent += len(waiting)
        for data in waiting:
            self._socket.send(data)

    def close(self):
        self._socket.close()


def packed(request):
    return request.id, encode(request)


@contextmanager
def running_server(folder):
    """The server as anyone starts it, on a free port."""
    command = [sys.executable, "-m", "trio_chat", "server", "0", "--host", "127.0.0.1"]
    command += ["--store", str(folder / "server.db")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield int(process.stderr.readline().rpartition(":")[2])
        finally:
            process.terminate()


def whole_server(folder):
    """Saves a second over real UDP, each answered when it is durable."""
    saves = [packed(Save(os.urandom(16), recipient(number), TEXT)) for number in range(SAVES)]
    with running_server(folder) as port, closing(Client(port)) as client:
        # One address that registers as one name after the other leaves all but the last off line.
        client.ask([packed(Register(os.urandom(16), name)) for name in (*NAMES, "sender")], in_flight=1)
        client.resent = 0
        began = time.perf_counter()
        answers = client.ask(saves, IN_FLIGHT)
        rate = SAVES / (time.perf_counter() - began)
    if not all(isinstance(answer, Saved) for answer in answers):
        sys.exit("not everything was saved")
    if client.resent:
        print(f"a round with {client.resent} requests sent twice, as no answer came for {WINDOW} s", file=sys.stderr)
    return rate


def main():
    grouped = f"raw inserts, {GROUP} in a transaction"
    measures = {
        "raw inserts, one in a transaction": lambda folder: raw(folder, ONE_BY_ONE, 1),
        grouped: lambda folder: raw(folder, SAVES, GROUP),
        "Saves, the store without a server": lambda folder: trio.run(store_alone, folder),
        "Saves, the whole server": whole_server,
    }
    best = dict.fromkeys(measures, 0.0)
    for _ in range(ROUNDS):
        for what, measure in measures.items():
            with TemporaryDirectory() as folder:
                best[what] = max(best[what], measure(Path(folder)))
    print(f"{f'rows of {len(TEXT)} bytes, {IN_FLIGHT} Saves in flight':40}{'a second':>10}{'ratio':>8}")
    for what, rate in best.items():
        print(f"{what:40}{rate:>10,.0f}{rate / best[grouped]:>8.2f}")


if __name__ == "__main__":
    main()
