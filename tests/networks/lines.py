"""Hosts on one machine, each in a network namespace, and the lines between them: loss, delay, rate, queue, MTU, NAT.

The lines are in this process: each namespace has a TUN interface, whose packets are read here, and written to that of
their destination. So no kernel has to know how to delay or lose anything, and nothing leaves the namespaces. Only UDP
over IPv4 is carried, so no host gets an ICMP error. Which programs run there is not known here. Needs Linux, root, and
`ip` (iproute2).
"""

import fcntl
import heapq
import itertools
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from tests.network import Conditions
from tests.networks.packets import ends, fragments, with_ends

TUN, TUNSETIFF, IFF_TUN, IFF_NO_PI = "/dev/net/tun", 0x400454CA, 0x0001, 0x1000
LARGEST = 65536
DECK = 10
"""Of so many packets in a row from one host to another, exactly the share is lost that should be, in random order. With
true dice, one start of a thousand would have no luck at all, and here no seed repeats what has happened."""

_numbers = itertools.count(1)


def why_not():
    """Why this machine cannot run these tests; empty if it can."""
    if not Path("/proc/self/ns/net").exists():
        return "needs network namespaces, which are in Linux"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if not shutil.which("ip"):
        return "needs `ip`, of the package iproute2"
    name = _new_name("probe")
    try:
        os.close(_open_tun(f"chat{os.getpid()}"))
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)  # noqa: S607
    except subprocess.CalledProcessError as error:
        return f"cannot make a network namespace: {error.stderr.strip()}"
    except OSError as error:
        return f"cannot open {TUN}: {error.strerror}"
    subprocess.run(["ip", "netns", "del", name], check=True)  # noqa: S607
    return ""


def remove_leftovers():
    """Remove the hosts, and end their programs, of test processes that were killed before they could do it."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)  # noqa: S607
    for name, pid in re.findall(r"^(chat(\d+)-\S+)", listed.stdout, re.MULTILINE):
        if Path("/proc", pid).exists():
            continue
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)  # noqa: S607
        for program in pids.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(program), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name])  # noqa: S607 - another process may have done it meanwhile


class Host:
    """One host. `address`: the one of its interface; `nat`: a tests.nat.Nat if it is behind one."""

    def __init__(self, name, address, nat):
        self.address = address
        self.nat = nat
        self.namespace = _new_name(name)
        self.interface = ""
        self.tun = -1

    @property
    def command(self):
        """What to write before a command so that it runs there."""
        return ["ip", "netns", "exec", self.namespace]


class Lines:
    """The lines between all hosts. `default` is what happens on each of them; `set` overrides it for one host.

    A packet that is longer than `mtu` is fragmented, or dropped without a word if it must not be. `sent`: how many
    bytes were sent to each host, lost or not, with their headers.
    """

    def __init__(self, hosts, nursery, seed):
        self.default = Conditions()
        self.mtu = LARGEST
        self.sent = Counter()
        self._hosts = hosts
        self._nursery = nursery
        self._dice = random.Random(seed)
        self._addresses = (f"10.99.0.{n}" for n in range(1, 255))
        self._conditions = {}
        self._decks = {}
        self._free_at = {}
        self._in_flight = []
        self._sooner = trio.Event()

    def set(self, conditions, host):
        """Override `default` for what this host sends and gets."""
        self._conditions[host] = conditions

    async def add(self, name, nat=None):
        """Make a host. Those behind a NAT are reached by others at its address, and among themselves also directly."""
        host = Host(name, next(self._addresses), nat)
        await _run(["ip", "netns", "add", host.namespace])
        self._hosts.append(host)
        host.interface = f"chat{os.getpid()}-{next(_numbers)}"
        host.tun = _open_tun(host.interface)
        await _run(["ip", "link", "set", host.interface, "netns", host.namespace])
        await self._configure(
            host,
            "link set lo up",
            f"addr add {host.address}/32 dev {host.interface}",
            f"link set {host.interface} up",
            f"route add default dev {host.interface}",
        )
        self._nursery.start_soon(self._read, host)
        return host

    async def move(self, host):
        """Give a host another address, as when a laptop comes into another network."""
        before, host.address = host.address, next(self._addresses)
        await self._configure(
            host,
            f"addr add {host.address}/32 dev {host.interface}",
            f"addr del {before}/32 dev {host.interface}",
            f"route replace default dev {host.interface}",
        )

    async def run_courier(self):
        """Deliver delayed packets, each at its time, until cancelled."""
        while True:
            with trio.move_on_at(self._in_flight[0][0] if self._in_flight else math.inf):
                await self._sooner.wait()
            self._sooner = trio.Event()
            while self._in_flight and self._in_flight[0][0] <= trio.current_time():
                *_, packet, receiver = heapq.heappop(self._in_flight)
                _arrive(packet, receiver)

    async def _configure(self, host, *commands):
        await _run(["ip", "-n", host.namespace, "-batch", "-"], stdin="\n".join(commands).encode())

    async def _read(self, host):
        while True:
            await trio.lowlevel.wait_readable(host.tun)
            with suppress(BlockingIOError):
                while True:
                    self._carry(os.read(host.tun, LARGEST), host)

    def _carry(self, packet, sender):
        """Send a packet: find out where it goes, and lose, delay or deliver it."""
        found = ends(packet)
        # With another address of its own, it was sent before the host moved.
        if found is None or found[0][0] != sender.address:
            return
        route = self._route(sender, *found)
        if route is None:
            return
        receiver, source, destination = route
        if (source, destination) != found:
            packet = with_ends(packet, source, destination)
        self.sent[receiver] += len(packet)
        line = sender if sender in self._conditions else receiver
        conditions = self._conditions.get(line, self.default)
        for piece in fragments(packet, self.mtu):
            for _ in range(1 + (self._dice.random() < conditions.duplicate)):
                if not self._is_lost(conditions.loss, sender, receiver):
                    self._travel(piece, receiver, conditions, (line, line is sender))

    def _route(self, sender, source, destination):
        """Who gets it, and the addresses that it then has. None if nobody does.

        It is translated at the moment of sending, both ways: nothing else can be sent between that and its arrival.
        """
        now, nat = trio.current_time(), sender.nat
        for host in self._hosts:
            if host.address == destination[0]:
                if host.nat is nat:
                    return host, source, destination
                if host.nat is None:
                    return host, nat.outward(source, destination, now), destination
                return None  # an inside address, which means nothing outside
        if nat:
            source = nat.outward(source, destination, now)
        behind = [host for host in self._hosts if host.nat and host.nat.host == destination[0]]
        if not behind or (behind[0].nat is nat and not nat.hairpin):
            return None
        inside = behind[0].nat.inward(source, destination, now)
        return next(((host, source, inside) for host in behind if inside and host.address == inside[0]), None)

    def _travel(self, packet, receiver, conditions, direction):
        now = trio.current_time()
        free_at = max(now, self._free_at.get(direction, 0.0))
        if conditions.rate < math.inf:
            if (free_at - now) * conditions.rate > conditions.queue:
                return
            self._free_at[direction] = free_at = free_at + len(packet) / conditions.rate
        arrives_at = free_at + self._dice.uniform(*conditions.delay)
        if arrives_at <= now:
            _arrive(packet, receiver)
            return
        flight = (arrives_at, next(_numbers), packet, receiver)
        heapq.heappush(self._in_flight, flight)
        if self._in_flight[0] is flight:
            self._sooner.set()

    def _is_lost(self, loss, sender, receiver):
        deck = self._decks.setdefault((sender, receiver, loss), [])
        if not deck:
            deck += [number < round(loss * DECK) for number in range(DECK)]
            self._dice.shuffle(deck)
        return deck.pop()


@asynccontextmanager
async def open_lines(seed=0):
    """Lines without hosts. At the end the hosts are removed; a failed assertion is raised as it is."""
    hosts, failure = [], None
    try:
        async with trio.open_nursery() as nursery:
            lines = Lines(hosts, nursery, seed)
            nursery.start_soon(lines.run_courier)
            try:
                yield lines
            except AssertionError as error:
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        # Only now: nobody reads the interfaces any more.
        with trio.CancelScope(shield=True):
            for host in hosts:
                if host.tun >= 0:
                    os.close(host.tun)
                await trio.run_process(["ip", "netns", "del", host.namespace], check=False)
    if failure is not None:
        raise failure


def _arrive(packet, receiver):
    with suppress(OSError):  # its queue is full
        os.write(receiver.tun, packet)


def _new_name(name):
    """The name of a namespace; remove_leftovers() reads whose it is."""
    return f"chat{os.getpid()}-{next(_numbers)}-{name}"


def _open_tun(name):
    assert len(name) <= 15, f"an interface cannot have the name {name}"
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(tun)
        raise
    return tun


async def _run(command, stdin=b""):
    await trio.run_process(command, stdin=stdin)
