"""Hosts on one machine, each in a network namespace, and the lines between them: loss, delay, rate, queue, MTU, NAT.

The lines are in this process: each namespace has a TUN interface, whose packets are read here, and written to that of
their destination. So no kernel has to know how to delay or lose anything, and nothing leaves the namespaces. Which
programs run there is not known here. Needs Linux, root, and `ip` (iproute2).
"""

import fcntl
import os
import random
import shutil
import struct
from contextlib import asynccontextmanager, suppress

import trio

from tests.network import Conditions

TUN, TUNSETIFF, IFF_TUN, IFF_NO_PI = "/dev/net/tun", 0x400454CA, 0x0001, 0x1000
NETWORK = "10.99.0.0/16"
"""For namespaces of a test only: nothing routes it."""
UDP = 17
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
LARGEST = 65536


def why_not():
    """Why this machine cannot run these tests; empty if it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root"
    if not shutil.which("ip"):
        return "needs `ip`, of the package iproute2"
    try:
        os.close(_open_tun("chatprobe"))
    except OSError as error:
        return f"needs {TUN}: {error.strerror}"
    return ""


class Host:
    """One host. `name`: its namespace; `address`: the numeric one that its programs bind; `nat`: None without one."""

    def __init__(self, name, address, nat):
        self.name, self.address, self.nat = name, address, nat
        self.tun = None

    @property
    def command(self):
        """What to write before a command so that it runs there."""
        return ["ip", "netns", "exec", self.name]


class Lines:
    """The lines between all hosts. `default` is what happens on each of them, `set` overrides it for one host."""

    def __init__(self, nursery, seed=0):
        self.default = Conditions()
        self.mtu = LARGEST
        """A larger packet is dropped, without a message to its sender, if it must not be fragmented."""
        self.sent = {}
        """How many bytes were sent to each address, lost or not, with their headers."""
        self._nursery = nursery
        self._dice = random.Random(seed)
        self._hosts = {}
        self._outside = {}
        self._conditions = {}
        self._free_at = {}

    def set(self, conditions, host):
        """Override `default` for what a host sends and gets."""
        self._conditions[host] = conditions

    async def add(self, name, *, nat=None):
        """Make a host. `nat`: a tests.nat.Nat, whose outside address is that of this host for all others."""
        number = len(self._hosts) + 1
        name = f"chat{os.getpid()}{name}"
        host = Host(name, f"10.99.{1 if nat else 0}.{number}", nat)
        tun = f"chat{os.getpid() % 10**7}t{number}"[:15]
        await _ip("netns", "add", name)
        self._hosts[host.address] = host
        host.tun = _open_tun(tun)
        await _ip("link", "set", tun, "netns", name)
        for command in (
            f"addr add {host.address}/32 dev {tun}",
            f"link set {tun} mtu 1500 up",
            "link set lo up",
            f"route add default dev {tun}",
        ):
            await _ip("-n", name, *command.split())
        if nat:
            self._outside[nat.host] = host
        self._nursery.start_soon(self._read, host)
        return host

    async def move(self, host, address):
        """Give a host another address, as when a laptop comes into another network."""
        (tun,) = [link async for link in _links(host.name)]
        await _ip("-n", host.name, "addr", "add", f"{address}/32", "dev", tun)
        await _ip("-n", host.name, "addr", "del", f"{host.address}/32", "dev", tun)
        await _ip("-n", host.name, "route", "replace", "default", "dev", tun)
        del self._hosts[host.address]
        host.address = address
        self._hosts[address] = host

    async def close(self):
        """Remove the hosts."""
        for host in self._hosts.values():
            os.close(host.tun)
            await _ip("netns", "del", host.name)

    async def _read(self, host):
        while True:
            await trio.lowlevel.wait_readable(host.tun)
            with suppress(BlockingIOError):
                while True:
                    self._carry(os.read(host.tun, LARGEST), host)

    def _carry(self, packet, sender):
        if packet[0] >> 4 != 4 or packet[9] != UDP:
            return
        source, destination = _address(packet[12:16]), _address(packet[16:20])
        now = trio.current_time()
        if sender.nat:
            packet = _translate(packet, sender.nat.outward, now)
        receiver = self._outside.get(destination) or self._hosts.get(destination)
        if receiver is None or source != sender.address:
            return
        self.sent[destination] = self.sent.get(destination, 0) + len(packet)
        conditions = self._conditions.get(sender) or self._conditions.get(receiver) or self.default
        for piece in _fragments(packet, self.mtu):
            if self._dice.random() < conditions.loss:
                continue
            free_at = max(now, self._free_at.get((sender, receiver), 0.0))
            if (free_at - now) * conditions.rate > conditions.queue:
                continue
            self._free_at[sender, receiver] = free_at = free_at + len(piece) / conditions.rate
            after = free_at - now + self._dice.uniform(*conditions.delay)
            self._nursery.start_soon(self._arrive, after, piece, receiver)

    async def _arrive(self, after, packet, receiver):
        if after > 0:
            await trio.sleep(after)
        if receiver.nat and _address(packet[16:20]) == receiver.nat.host:
            packet = _translate(packet, receiver.nat.inward, trio.current_time(), receiver.address)
        if packet:
            with suppress(OSError):  # its interface is down, or its queue full
                os.write(receiver.tun, packet)


@asynccontextmanager
async def open_lines(seed=0):
    """Lines without hosts; at the end the hosts are removed."""
    async with trio.open_nursery() as nursery:
        lines = Lines(nursery, seed)
        try:
            yield lines
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await lines.close()


def _open_tun(name):
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(tun)
        raise
    return tun


async def _ip(*arguments):
    await trio.run_process(["ip", *arguments])


async def _links(namespace):
    done = await trio.run_process(["ip", "-n", namespace, "-o", "link"], capture_stdout=True)
    for line in done.stdout.decode().splitlines():
        if (name := line.split(": ")[1]) != "lo":
            yield name


def _address(data):
    return ".".join(map(str, data))


def _fragments(packet, mtu):
    """The packet as a router passes it on that has a smaller MTU (RFC 791): none if it must not be fragmented."""
    if len(packet) <= mtu:
        return [packet]
    (flags,) = struct.unpack_from("!H", packet, 6)
    if flags & DONT_FRAGMENT:
        return []
    size = (packet[0] & 15) * 4
    data, step = packet[size:], (mtu - size) // 8 * 8
    offsets = range(0, len(data), step)
    return [
        _with_header(packet[:size], data[at : at + step], (MORE_FRAGMENTS if at != offsets[-1] else 0) | at // 8)
        for at in offsets
    ]


def _with_header(header, data, flags=None):
    """The packet with this header, its length and checksum set, and perhaps its flags."""
    header = bytearray(header)
    struct.pack_into("!H", header, 2, len(header) + len(data))
    if flags is not None:
        struct.pack_into("!H", header, 6, flags)
    struct.pack_into("!H", header, 10, 0)
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", header, 10, ~total & 0xFFFF)
    return bytes(header) + data


def _translate(packet, translate, now, inside=None):
    """The packet with the address that a router has put into it: the source's outwards, else the destination's."""
    size = (packet[0] & 15) * 4
    header, data = bytearray(packet[:size]), bytearray(packet[size:])
    ports = struct.unpack_from("!HH", data)
    source, destination = (_address(header[12:16]), ports[0]), (_address(header[16:20]), ports[1])
    found = translate(source, destination, now)
    if found is None:
        return b""
    at = 12 if inside is None else 16
    header[at : at + 4] = bytes(map(int, found[0].split(".")))
    struct.pack_into("!H", data, 0 if inside is None else 2, found[1])
    struct.pack_into("!H", data, 6, 0)  # no checksum, which IPv4 allows
    return _with_header(bytes(header), bytes(data))
