"""A UDP network in memory, for tests in virtual time: the `Network` of transport/udp.py.

It loses, duplicates, delays and reorders datagrams with given probabilities, with separate dice for each direction.
What the datagrams mean is not known here.
"""

import heapq
import ipaddress
import itertools
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import attrs
import trio

from tests.nat import Nat
from trio_chat.errors import AddressError
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import MAX_DATAGRAM

BATCH = 256
OWN_HOST = "127.0.0.1"
FIRST_FREE_PORT = 49152

HEADERS = 28
"""Bytes of IPv4 and UDP before each datagram, where a rate is given."""

Place = Address | str | None
"""One socket (host, port), all sockets of a host, or (None) all sockets."""

Filter = Callable[[bytes, Address, Address], bool]


@attrs.frozen
class Conditions:
    """What happens to datagrams: two probabilities, and a delay in seconds, drawn evenly from low to high.

    A delay that varies reorders them. `rate`: how many bytes a second pass from one host to another, with HEADERS for
    each datagram. They wait in a queue of `queue` bytes; what does not fit is lost.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    rate: float = math.inf
    queue: float = 65536.0


class Sent(NamedTuple):
    """A line of the log. `delays`: the seconds after which it and its duplicate arrived; empty if it was lost."""

    time: float
    source: Address
    destination: Address
    data: bytes
    delays: tuple[float, ...] = ()


@attrs.define
class Counts:
    """Counts of datagrams. What was sent and not lost is carried, and arrives twice if it was duplicated."""

    sent: int = 0
    lost: int = 0  # by the dice, a cut or a filter
    doubled: int = 0
    arrived: int = 0
    unreachable: int = 0  # nobody was bound there
    overflowed: int = 0  # the receiver's queue was full


class MemorySocket:
    """The DatagramSocket of a MemoryNetwork."""

    def __init__(self, network: "MemoryNetwork", address: Address, capacity: int) -> None:
        self.address = address
        self._network = network
        self._capacity = capacity
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._receivers = trio.lowlevel.ParkingLot()
        self._closed = False

    async def receive_batch(self) -> list[tuple[bytes, Address]]:
        if self._queue or self._closed:
            await trio.lowlevel.checkpoint()
        while not self._queue and not self._closed:
            await self._receivers.park()
        if self._closed:
            raise trio.ClosedResourceError
        return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def send(self, data: bytes, address: Address) -> None:
        assert len(data) <= MAX_DATAGRAM, f"a datagram of {len(data)} bytes, from {self.address} to {address}"
        if not self._closed:
            self._network.carry(bytes(data), self.address, address)

    def own_address(self, towards: Address) -> Address | None:
        return self._network.moved.get(self.address, self.address)

    def close(self) -> None:
        self._closed = True
        self._network.forget(self)
        self._receivers.unpark_all()

    def take(self, data: bytes, source: Address) -> bool:
        """Put a datagram into the queue. False if the queue is full."""
        if len(self._queue) >= self._capacity:
            return False
        self._queue.append((data, source))
        self._receivers.unpark_all()
        return True


class MemorySearchSocket(MemorySocket):
    """The SearchSocket of a MemoryNetwork. What has come goes to the one who asks first."""

    async def receive(self) -> tuple[bytes, Address]:
        if not self._queue:
            for one in await self.receive_batch():
                self._queue.append(one)
        else:
            await trio.lowlevel.checkpoint()
        return self._queue.popleft()

    async def send(self, data: bytes) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        for listener in self._network.listeners:
            self._network.carry(data, self.address, listener.address)


class MemoryNetwork:
    """The Network of a test. Open it with open_memory_network(): delays need its courier task.

    The dice of a direction depend only on `seed`, source and destination, and each datagram throws the same number of
    them: neither other traffic nor other conditions change what happens to the next datagram.
    """

    def __init__(self, seed: int = 0, *, capacity: int = 4096, log_size: int = 100_000) -> None:
        self.default = Conditions()
        self.filters: list[Filter] = []
        """Called with (data, source, destination), all of them; if one returns False, the datagram is lost."""
        self.log: deque[Sent] = deque(maxlen=log_size)
        """The latest `log_size` datagrams that were sent, lost or not, without the injected ones."""
        self.counts = Counts()
        self.names: dict[str, list[str]] = {"localhost": [OWN_HOST]}
        """The host names that resolve() knows."""
        self.moved: dict[Address, Address] = {}
        """Where sockets are now that were bound to another address."""
        self.nats: dict[str, Nat] = {}
        """The router of each host that is behind one, and of its own outside host."""
        self.listeners: list[MemorySearchSocket] = []
        """The sockets that receive searches."""
        self._seed = seed
        self._capacity = capacity
        self._sockets: dict[Address, MemorySocket] = {}
        self._dice: dict[tuple[Address, Address], random.Random] = {}
        self._conditions: dict[tuple[Place, Place], Conditions] = {}
        self._cuts: set[tuple[Place, Place]] = set()
        self._free_at: dict[tuple[str, str], float] = {}
        self._outside: dict[Address, Address] = {}
        self._inside: dict[Address, Address] = {}
        self._in_flight: list[tuple[float, int, bytes, Address, Address]] = []
        self._numbers = itertools.count()
        self._sooner: trio.Event | None = None
        self._searches = itertools.count(1)

    # --- the interface of Network ---

    def bind(self, host: str | None, port: int) -> MemorySocket:
        """As the real network, except that any host can be bound, and None is 127.0.0.1. Raises AddressError."""
        _check_port(port)
        own = _own_host(host, port)
        if port == 0:
            port = next(free for free in itertools.count(FIRST_FREE_PORT) if (own, free) not in self._sockets)
        if (own, port) in self._sockets:
            raise AddressError(f"cannot listen on {host or '*'}:{port}: the port is in use")
        bound = MemorySocket(self, (own, port), self._capacity)
        self._sockets[bound.address] = bound
        return bound

    def open_search(self, *, listens: bool) -> MemorySearchSocket:
        """As the real network: what is sent there reaches all that listen."""
        host = f"10.9.0.{next(self._searches)}"
        opened = MemorySearchSocket(self, (host, 1), self._capacity)
        self._sockets[opened.address] = opened
        if listens:
            self.listeners.append(opened)
        return opened

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Resolve numeric hosts and those in `names`. Raises AddressError."""
        await trio.lowlevel.checkpoint()
        _check_port(port)
        try:
            return [(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), port)]
        except ValueError:
            found = self.names.get(host, [])
        if not found:
            raise AddressError(f"cannot find the host {host!r}: no such name")
        return [(numeric, port) for numeric in found]

    # --- faults, on request of a test ---

    def set(self, conditions: Conditions, source: Place = None, destination: Place = None) -> None:
        """Override `default` from `source` to `destination`. Of several that match, the latest counts."""
        self._conditions.pop((source, destination), None)
        self._conditions[source, destination] = conditions

    def cut(self, a: Place, b: Place = None, *, both: bool = True) -> None:
        """Lose everything that is sent from `a` to `b` from now on, and from `b` to `a` if `both`."""
        self._cuts |= {(a, b), (b, a)} if both else {(a, b)}

    def heal(self, a: Place = None, b: Place = None, *, both: bool = True) -> None:
        """Undo the cut with the same places; without places, all cuts."""
        if a is None and b is None:
            self._cuts.clear()
        self._cuts -= {(a, b), (b, a)} if both else {(a, b)}

    def translate(self, inside: Address, outside: Address) -> None:
        """Put `inside` behind a router: its datagrams come from `outside`, and it is reached there."""
        self._inside.pop(self._outside.pop(inside, inside), None)
        self._outside[inside], self._inside[outside] = outside, inside

    def move(self, bound: Address, to: Address) -> None:
        """Give a socket another address, as when a laptop comes into another network: it can find that out."""
        self.translate(bound, to)
        self.moved[bound] = to

    def put_behind(self, nat: Nat, host: str) -> None:
        """Put a host behind a router that translates its addresses; several hosts may be behind one."""
        self.nats[host] = self.nats[nat.host] = nat

    def inject(self, data: bytes, source: Address, destination: Address) -> None:
        """Deliver `data` now as if it came from `source`: of any size, without conditions, and not logged."""
        self._arrive(data, source, destination)

    # --- delivery ---

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        """Send a datagram: log it, and lose, delay or deliver it."""
        source = self._outside.get(source, source)
        if (nat := self.nats.get(source[0])) and (destination[0] == nat.host or self.nats.get(destination[0]) != nat):
            source = nat.outward(source, destination, trio.current_time())
        self.log.append(Sent(trio.current_time(), source, destination, data))  # first: a filter may look at it
        delays = self._delays(data, source, destination)
        self.log[-1] = self.log[-1]._replace(delays=delays)
        self.counts.sent += 1
        self.counts.lost += not delays
        self.counts.doubled += len(delays) > 1
        for delay in delays:
            self._travel(delay, data, source, destination)

    def _delays(self, data: bytes, source: Address, destination: Address) -> tuple[float, ...]:
        conditions, dice = self._on_the_way(source, destination), self._dice_of(source, destination)
        lose, double, *shares = (dice.random() for _ in range(4))
        passed = [allows(data, source, destination) for allows in self.filters]
        if not all(passed) or self._is_cut(source, destination) or lose < conditions.loss:
            return ()
        low, high = conditions.delay
        delays = tuple(low + (high - low) * share for share in shares[: 1 + (double < conditions.duplicate)])
        if conditions.rate == math.inf or not delays:
            return delays
        line, now = (source[0], destination[0]), trio.current_time()
        waiting = max(0.0, self._free_at.get(line, 0.0) - now)
        if waiting * conditions.rate > conditions.queue:
            return ()
        waiting += (len(data) + HEADERS) / conditions.rate
        self._free_at[line] = now + waiting
        return tuple(waiting + delay for delay in delays)

    def forget(self, bound: MemorySocket) -> None:
        """Free the port of a closed socket."""
        if self._sockets.get(bound.address) is bound:
            del self._sockets[bound.address]

    async def run_courier(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver delayed datagrams, each at its time, until cancelled."""
        self._sooner = trio.Event()
        task_status.started()
        while True:
            with trio.move_on_at(self._in_flight[0][0] if self._in_flight else math.inf):
                await self._sooner.wait()
            self._sooner = trio.Event()
            while self._in_flight and self._in_flight[0][0] <= trio.current_time():
                _, _, data, source, destination = heapq.heappop(self._in_flight)
                self._arrive(data, source, destination)

    def _travel(self, delay: float, data: bytes, source: Address, destination: Address) -> None:
        if delay <= 0:
            self._arrive(data, source, destination)
            return
        assert self._sooner is not None, "only a network opened with open_memory_network() can delay"
        flight = (trio.current_time() + delay, next(self._numbers), data, source, destination)
        heapq.heappush(self._in_flight, flight)
        if self._in_flight[0] is flight:
            self._sooner.set()

    def _arrive(self, data: bytes, source: Address, destination: Address) -> None:
        inside: Address | None = self._inside.get(destination, destination)
        if nat := self.nats.get(destination[0]):
            if destination[0] != nat.host:
                inside = destination if self.nats.get(source[0]) == nat else None
            elif source[0] == nat.host and not nat.hairpin:
                inside = None
            else:
                inside = nat.inward(source, destination, trio.current_time())
        receiver = None if inside is None or destination in self._outside else self._sockets.get(inside)
        if receiver is None:
            self.counts.unreachable += 1
        elif receiver.take(data, source):
            self.counts.arrived += 1
        else:
            self.counts.overflowed += 1

    def _on_the_way(self, source: Address, destination: Address) -> Conditions:
        for (a, b), conditions in reversed(self._conditions.items()):
            if _covers(a, source) and _covers(b, destination):
                return conditions
        return self.default

    def _is_cut(self, source: Address, destination: Address) -> bool:
        return any(_covers(a, source) and _covers(b, destination) for a, b in self._cuts)

    def _dice_of(self, source: Address, destination: Address) -> random.Random:
        direction = (source, destination)
        if direction not in self._dice:
            self._dice[direction] = random.Random(f"{self._seed} {source} {destination}")
        return self._dice[direction]


@asynccontextmanager
async def open_memory_network(seed: int = 0) -> AsyncIterator[MemoryNetwork]:
    """A network with its courier task. Datagrams that have not arrived at the end are dropped."""
    network = MemoryNetwork(seed)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run_courier)
        yield network
        nursery.cancel_scope.cancel()


def _covers(place: Place, address: Address) -> bool:
    return place is None or place in (address, address[0])


def _own_host(host: str | None, port: int) -> str:
    try:
        numeric = ipaddress.ip_address(host or OWN_HOST)
    except ValueError as error:
        raise AddressError(f"cannot listen on {host}:{port}: not a numeric address") from error
    return OWN_HOST if numeric.is_unspecified else str(numeric)


def _check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise AddressError(f"not a port: {port}")
