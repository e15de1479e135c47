"""Measures how fast news of friends arrives, pushed and polled, and how much CPU time the server needs for it.

    python benchmarks/presence.py [CONNECTIONS]

Each watcher has 20 friends. 1,000 people come online and go offline, at a fixed rate, whether or not the news of the
last event has arrived. The server is one process, and this process is all the others, over loopback. Linux only: the
CPU time is read from /proc. The server has other limits than usual: all watchers have few addresses here. The floor is
a server that only writes the same lines, in a loop.
"""

import json
import os
import random
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from functools import partial

import trio

from trio_chat.presence.server import serve_presence
from trio_chat.protocol.limits import Limits, Rate

CONNECTIONS = 5000
CONNECTED_AT_ONCE = 50
ADDRESSES = 16
FRIENDS = 20
PEOPLE = 5000
CHANGING = 1000
EVENTS_A_SECOND = 100.0
ONLINE_AT_ONCE = 50
STAR = 999_999
STAR_EVENTS = 20

POLL_EVERY = 1.0
KEEP_ALIVE_EVERY = 10.0
IDLE = 5.0
GIVE_UP = 30.0

NEWS = re.compile(rb'"online": (true|false), "user_id": (\d+)')


SERVE, FLOOR = "serve", "floor"
MANY = Rate(1e12, 1e12)
LIMITS = Limits(
    presence_connections=40_000,
    presence_work_per_address=MANY,
    presence_work=MANY,
    presence_work_of_newcomers=MANY,
)


async def serve():
    """Run a server, as the child process."""
    async with trio.open_nursery() as nursery:
        _, port = await nursery.start(partial(serve_presence, 0, limits=LIMITS))
        print(f"Listening on 127.0.0.1:{port}", file=sys.stderr)


def serve_floor():
    """Run a server that does nothing but write, as the child process: the changes of the star, to all who connected."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTED_AT_ONCE)
    print(f"Listening on 127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr)
    watchers = []
    while True:
        connected, _ = listener.accept()
        user_id = json.loads(connected.recv(4096))["user_id"]
        connected.send(b"{}")
        if user_id != STAR:
            connected.setblocking(False)
            watchers.append(connected)
            continue
        for online in (True, False):
            line = json.dumps({"online": online, "user_id": STAR}).encode() + b"\n"
            for watcher in watchers:
                watcher.send(line)
            if online:
                connected.recv(4096)  # until the star goes


class Server:
    """A presence server, or the floor, and its CPU time in seconds."""

    def __init__(self, mode):
        command = [sys.executable, __file__, mode]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
        self.port = int(self._process.stderr.readline().rpartition(":")[2])

    def connect(self, user_id, friends, push):
        # From several addresses, as one address gets a quarter of the connections.
        source = (f"127.0.0.{1 + user_id % ADDRESSES}", 0)
        connected = socket.create_connection(("127.0.0.1", self.port), source_address=source)
        request = json.dumps({"user_id": user_id, "friends": friends, "push": push}).encode()
        connected.sendall(request)
        return connected, request

    def cpu(self):
        with open(f"/proc/{self._process.pid}/stat") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self._process.kill()
        self._process.communicate()


class Watchers:
    """All watchers. They send requests at a fixed rate. Each event is measured until its last watcher has the news."""

    def __init__(self, server, count, push):
        self.received = 0
        self.latencies = []
        self._every = KEEP_ALIVE_EVERY if push else POLL_EVERY
        self._push = push
        self._selector = selectors.DefaultSelector()
        self._due = deque()
        self._waiting = {}
        self.watcher_counts = Counter()
        rng = random.Random(1)
        for first in range(1, count + 1, CONNECTED_AT_ONCE):
            connecting = []
            for user_id in range(first, min(first + CONNECTED_AT_ONCE, count + 1)):
                friends = [*(PEOPLE + number for number in rng.sample(range(1, PEOPLE + 1), FRIENDS - 1)), STAR]
                self.watcher_counts.update(friends)
                connecting.append(server.connect(user_id, friends, push))
            for connected, request in connecting:
                connected.recv(4096)
                connected.setblocking(False)
                self._selector.register(connected, selectors.EVENT_READ, request)
        start = time.perf_counter()
        for number, key in enumerate(self._selector.get_map().values()):
            self._due.append((start + self._every * number / count, key.fileobj, key.data))

    def expect(self, who, online):
        """An event happens now: start to measure it."""
        if self.watcher_counts[who]:
            self._waiting[who, online] = [time.perf_counter(), self.watcher_counts[who]]

    def run_until(self, until):
        """Send requests and receive news until a time of `perf_counter`."""
        while (now := time.perf_counter()) < until:
            while self._due and self._due[0][0] <= now:
                _, connected, request = self._due.popleft()
                connected.send(request)
                if self._push:
                    self._due.append((now + self._every, connected, request))
            wake = min(until, self._due[0][0] if self._due else until)
            for key, _ in self._selector.select(max(0.0, wake - time.perf_counter())):
                self._receive(key)

    def settle(self):
        """Run until all watchers have received all news."""
        give_up = time.perf_counter() + GIVE_UP
        while self._waiting and time.perf_counter() < give_up:
            self.run_until(time.perf_counter() + 0.005)
        if self._waiting:
            raise SystemExit(f"after {GIVE_UP} s, {len(self._waiting)} events have not reached all watchers")

    def _receive(self, key):
        data = key.fileobj.recv(65536)
        now = time.perf_counter()
        if not data:
            raise SystemExit("the server has closed a connection")
        if not self._push:
            self._due.append((now + self._every, key.fileobj, key.data))
        for online, who in NEWS.findall(data):
            self.received += 1
            event = (int(who), online == b"true")
            waiting = self._waiting[event]
            waiting[1] -= 1
            if not waiting[1]:
                self.latencies.append(now - waiting[0])
                del self._waiting[event]

    def close(self):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def run_changes(server, watchers):
    """2,000 events at a fixed rate. Only a few people are online at a time."""
    rng = random.Random(2)
    waiting = deque(PEOPLE + number for number in rng.sample(range(1, PEOPLE + 1), CHANGING))
    online = deque()
    at = time.perf_counter()
    while waiting or online:
        if waiting and len(online) < ONLINE_AT_ONCE:
            who = waiting.popleft()
            watchers.expect(who, True)
            online.append((who, server.connect(who, [], push=False)[0]))
        else:
            who, connected = online.popleft()
            connected.recv(4096)
            watchers.expect(who, False)
            connected.close()
        at += 1 / EVENTS_A_SECOND
        watchers.run_until(at)
    watchers.settle()


def run_changes_of_the_star(server, watchers):
    """Changes of one person whom everybody watches. Each waits until all watchers know of the last one."""
    watchers.latencies = []
    for _ in range(STAR_EVENTS // 2):
        watchers.expect(STAR, True)
        star, _ = server.connect(STAR, [], push=False)
        watchers.settle()
        star.recv(4096)
        watchers.expect(STAR, False)
        star.close()
        watchers.settle()
    return watchers.latencies


def measure(count, push):
    """One column of the table."""
    server = Server(SERVE)
    try:
        watchers = Watchers(server, count, push)
        cpu, since = server.cpu(), time.perf_counter()
        watchers.run_until(since + IDLE)
        idle = (server.cpu() - cpu) / (time.perf_counter() - since)
        cpu, since = server.cpu(), time.perf_counter()
        run_changes(server, watchers)
        took, used, received = time.perf_counter() - since, server.cpu() - cpu, watchers.received
        ordinary = watchers.latencies
        star = run_changes_of_the_star(server, watchers) if push else None
        watchers.close()
    finally:
        server.stop()
    return {
        "notifications": f"{received:,}",
        "event to last watcher's bytes, median": milliseconds(statistics.median(ordinary)),
        "event to last watcher's bytes, p99": milliseconds(statistics.quantiles(ordinary, n=100)[98]),
        **(compare_with_floor(statistics.median(star), measure_floor(count)) if star else {}),
        "server CPU, of one core": f"{used / took:.1%}",
        "server CPU without any news": f"{idle:.1%}",
        "server CPU per notification": f"{used / received * 1e6:.0f} us",
        "server CPU per notification, beyond that": f"{(used - idle * took) / received * 1e6:.0f} us",
    }


def measure_floor(count):
    """The same changes of the star, by a server that only writes."""
    server = Server(FLOOR)
    try:
        watchers = Watchers(server, count, push=True)
        star = run_changes_of_the_star(server, watchers)
        watchers.close()
    finally:
        server.stop()
    return statistics.median(star)


def compare_with_floor(star, floor):
    """The rows of the star."""
    return {
        "the same, watched by everybody, median": milliseconds(star),
        "floor: written by a loop, nothing else": milliseconds(floor),
        "ratio to the floor": f"{star / floor:.1f} x",
    }


def milliseconds(seconds):
    return f"{seconds * 1000:.1f} ms"


def main():
    if sys.argv[1:] == [SERVE]:
        trio.run(serve)
    if sys.argv[1:] == [FLOOR]:
        serve_floor()
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - 2 * ONLINE_AT_ONCE)
    pushed, polled = measure(count, push=True), measure(count, push=False)
    print(f"{count:,} watchers, {FRIENDS} friends each; {2 * CHANGING:,} changes, {EVENTS_A_SECOND:.0f} a second")
    print(f"{'':44}{'push':>12}{'poll, 1 s':>12}")
    for what, value in pushed.items():
        print(f"{what:44}{value:>12}{polled.get(what, '-'):>12}")


if __name__ == "__main__":
    main()
