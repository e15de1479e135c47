"""Fuzzes links: two parties, one of them a server, and datagrams that arrive as the input says.

An input is the number of a setup and a list of arrivals. An arrival is a byte (where the datagram goes, its source
address, what happens before) and the datagram. After each arrival the promises of links are checked.
"""

import random
from collections.abc import Callable, Sequence

import attrs

from tests.link.test_links import (
    CALL,
    CHALLENGE,
    COOKIE,
    DATA,
    ELSEWHERE,
    INIT,
    KEYS,
    PROOF,
    RESET,
    RESP,
    Flight,
    Party,
    Wire,
    weight,
)
from trio_chat.link.events import (
    KeysLearned,
    LinkEvent,
    Moved,
    OtherVersion,
    Received,
    ServerCalled,
    SessionReplaced,
    Transmit,
)
from trio_chat.link.packets import VERSION, Init, WakeUpCall
from trio_chat.protocol.wire import WireError

BETWEEN = b"\xff--\xff"
MOST_ARRIVALS = 60
UNKNOWN_ADDRESS = ("10.9.9.9", 9)
PAUSES = (0.0, 0.3, 6.0, 130.0)
PATIENCE = 1.5
"""Seconds until both can talk again: a RESET, of which one a second is accepted, a handshake, and some to spare."""
RESEND_EVERY = 0.1
ROOM = 4096
"""Bytes of memory that a party may take for a datagram: a session and its handshake."""
ADMITTED = 2000
"""The same for an INIT that is refused. If its cookie is good, its address is counted in four tables, whatever else is
in it; the first one makes these tables."""
CONFIRMED = 1500
"""More for a datagram that begins a session."""
COUNTED = 256
"""The same for any other datagram without effect: a counter grows, a replay window moves."""


class CheckedWire(Wire):
    """A wire that checks the promises at each arrival, of genuine and of forged datagrams."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent: dict[Party, set[bytes]] = {}
        self.seen: set[object] = set()
        self._taken: set[bytes] = set()
        self._challenged: set[tuple[Party, object]] = set()
        self._count = 0
        super().__init__(seed=number)
        self.homes = {party: {party.address} for party in self.parties}
        """The addresses of each party: its own ones, and those from which its datagrams were made to come."""

    def send(self, party: Party, text: bytes, **options) -> None:
        self.sent.setdefault(party, set()).add(text)
        super().send(party, text, **options)

    def send_something(self, party: Party) -> bytes:
        """A new text, long enough that a challenge may be sent in return."""
        self._count += 1
        text = b"something new: %d" % self._count
        self.send(party, text)
        return text

    def land(self, flight: Flight) -> list[LinkEvent]:
        party = next((party for party in self.parties if party.address == flight.target), None)
        return self.arrive(party, flight.data, flight.source) if party else []

    def arrive(self, party: Party, data: bytes, source) -> list[LinkEvent]:
        """A datagram arrives with this source address."""
        before = len(party.links)
        try:
            steps = party.links.receive_untrusted(data, source, self.now)
        except WireError as error:
            assert len(party.links) <= before, "something is kept of what was refused"
            self._see(party, data, source, str(error))
            return []
        kinds = _kinds(steps)
        assert data[0] != CALL or source in self.homes[self.other(party)], "a call of somebody else"
        self._check_sizes(steps, party, data, source)
        if RESP in kinds:
            self.homes[self.other(party)].add(source)  # proven by a cookie, even if somebody in between relayed it
        assert len(party.links) <= before + (RESP in kinds) + (INIT in kinds), "handshakes that no datagram shows"
        for step in steps:
            self._check(step, party, data, source)
        self._see(party, data, source, *(_in_short(step) for step in steps))
        party.events += [step for step in steps if not isinstance(step, Transmit)]
        self.post(party, steps)
        return steps

    def _check(self, step: LinkEvent, party: Party, data: bytes, source) -> None:
        other = self.other(party)
        match step:
            case Transmit(answer, address):
                assert address == source or address in self.homes[other], "an answer to another address"
                assert answer[0] != PROOF or address in self.homes[other], "a proof for a relayed challenge"
                if answer[0] == CHALLENGE:
                    self._challenged.add((party, address))
            case Received(peer, plaintext):
                assert peer.key == other.public, "a message from somebody else"
                assert plaintext in self.sent[other], "a message that nobody sealed"
                assert data not in self._taken, "a message that arrived before"
                self._taken.add(data)
            case Moved(was, now):
                assert (was.key, now.key) == (other.public, other.public), "a move of somebody else"
                assert was.address in self.homes[other], "a move from another place"
                assert now.address == source, "a move to another place"
                assert (party, source) in self._challenged, "a move without a challenge"
                self.homes[other].add(source)
            case KeysLearned(address, keys):
                assert (address, keys) == (other.address, other.links._hellos._server_keys.keys), "false keys"
            case SessionReplaced(peer):
                assert peer.key == other.public, "a session with somebody else"
            case ServerCalled(peer):
                assert (peer.key, other.is_server) == (other.public, True), "somebody else has called"
            case OtherVersion(address, version):
                assert (address, version != VERSION) == (source, True), "a version that nobody has shown"
                assert data[0] != KEYS or source in self.homes[other], "an answer of somebody who was not asked"

    def _check_sizes(self, steps: list[LinkEvent], party: Party, data: bytes, source) -> None:
        back = sum(len(step.data) for step in steps if isinstance(step, Transmit) and step.address == source)
        assert source in self.homes[self.other(party)] or back <= len(data), "an answer larger than the request"

    def _see(self, party: Party, data: bytes, source, *what: str) -> None:
        kind = min(data[0], 11) if data else 0
        self.seen.add((party.is_server, kind, source in self.homes[self.other(party)], what))

    def check_that_both_still_talk(self) -> None:
        """What both send again arrives soon."""
        missing, since = set(self.parties), self.now
        while missing:
            assert self.now - since < PATIENCE, "they can no longer talk"
            for party in self.parties:
                text = self.send_something(party)
                self.run()
                if text in self.other(party).received:
                    missing.discard(party)
            self.now += RESEND_EVERY


def _kinds(steps: list[LinkEvent]) -> list[int]:
    """The types of what is sent."""
    return [step.data[0] for step in steps if isinstance(step, Transmit)]


def _in_short(step: LinkEvent) -> str:
    return f"type {step.data[0]}" if isinstance(step, Transmit) else type(step).__name__


# --- setups ---


def asked(wire: CheckedWire) -> None:
    """No session yet; the client has sent HELLO and INIT."""
    wire.post(wire.low, wire.low.links.hello(wire.high.address))
    wire.send_something(wire.low)


def linked(wire: CheckedWire) -> None:
    """A session that both use, with messages in transit in both directions."""
    wire.link()
    wire.send_something(wire.low)
    wire.send_something(wire.high)
    wire.send(wire.low, b"hi")


def moved(wire: CheckedWire) -> None:
    """The client has a new address and does not know it."""
    wire.link()
    wire.low.address = ELSEWHERE
    wire.homes[wire.low].add(ELSEWHERE)
    wire.send(wire.low, b"hi")
    wire.send_something(wire.low)


def forgotten(wire: CheckedWire) -> None:
    """The server was restarted and has no sessions; the client still uses the old one."""
    wire.link()
    wire.high.restart()
    wire.send_something(wire.low)


def called(wire: CheckedWire) -> None:
    """The server was restarted and calls; the client asks for its keys, also in version 1."""
    wire.link()
    wire.high.restart()
    wire.post(wire.high, [Transmit(WakeUpCall().encode(), wire.low.address)])
    for _ in range(2):
        wire.post(wire.low, wire.low.links.hello(wire.high.address))


SETUPS: list[Callable[[CheckedWire], None]] = [asked, linked, moved, forgotten, called]


def opened(setup: int) -> CheckedWire:
    """The same each time. Each setup has its own keys, so that datagrams of other setups are forged ones."""
    wire = CheckedWire(setup % len(SETUPS))
    SETUPS[wire.number](wire)
    return wire


# --- arrivals ---


@attrs.frozen
class Arrival:
    """One arrival. `source` 0: the other party's address, 1: an unknown one, 2: another port of its host, 3: its own.

    `before`: what happens before it (see `_prepare`); `pause`: an index of PAUSES, the time that passes before that.
    """

    datagram: bytes
    to_server: bool = True
    source: int = 0
    pause: int = 0
    before: int = 0

    def encode(self) -> bytes:
        return bytes((self.source | self.to_server << 2 | self.pause << 3 | self.before << 5,)) + self.datagram

    @classmethod
    def decode(cls, data: bytes) -> "Arrival":
        how = data[0] if data else 0
        return cls(data[1:], bool(how >> 2 & 1), how & 3, how >> 3 & 3, how >> 5)

    def run(self, wire: CheckedWire) -> None:
        party = wire.high if self.to_server else wire.low
        other = wire.other(party)
        if self.pause:
            wire.now += PAUSES[self.pause]
            for one in wire.parties:
                one.links.sweep(wire.now)
        host, port = other.address
        source = (other.address, UNKNOWN_ADDRESS, (host, port + 1), party.address)[self.source]
        datagram = self._prepare(wire, party, source)
        before, sessions = weight(party.links), len(party.sessions)
        steps = wire.arrive(party, datagram, source)
        room = _room(datagram, steps) + CONFIRMED * (len(party.sessions) - sessions)
        assert weight(party.links) <= before + room, "more memory is taken than the datagram is worth"

    def _prepare(self, wire: CheckedWire, party: Party, source) -> bytes:
        """Let happen what comes before the arrival; return the datagram, which may be changed by it."""
        datagram = self.datagram
        match self.before:
            case 3:
                datagram = _with_cookie(wire, party, datagram, source)
            case 4:
                wire.send_something(wire.low)
            case 5:
                wire.send_something(wire.high)
            case 6 if wire.flying:
                wire.land(wire.flying.pop(0))
            case 7:
                datagram = _sealed(wire, wire.other(party), datagram)
        return datagram


def _room(datagram: bytes, steps: list[LinkEvent]) -> int:
    """How many bytes of memory a party may take for a datagram to which it reacted in this way."""
    if not steps:
        return ADMITTED if datagram[:1] == bytes((INIT,)) else COUNTED
    only_answered = len(_kinds(steps)) == len(steps) and {*_kinds(steps)} <= {KEYS, COOKIE, RESET}
    return 0 if only_answered else ROOM


def _with_cookie(wire: CheckedWire, party: Party, datagram: bytes, source) -> bytes:
    """An INIT with the cookie that its sender is given; the rest of it may be anything. Else the same datagram."""
    match wire.arrive(party, datagram, source):
        case [Transmit(answer)] if answer[0] == COOKIE:
            return datagram[:-16] + answer[-16:]
    return datagram


def _sealed(wire: CheckedWire, sender: Party, datagram: bytes) -> bytes:
    """These bytes sealed by the sender, if it has a session; they may be anything. Else the same datagram."""
    session = next(iter(sender.links._sessions._current.values()), None)
    if session is None or not datagram:
        return datagram
    kind = (DATA, CHALLENGE, PROOF)[datagram[0] % 3]
    if kind == DATA:
        wire.sent.setdefault(sender, set()).add(datagram[1:])
    return session.seal(datagram[1:], kind)


# --- the target ---


def check_links(data: bytes) -> set[object]:
    """Whatever arrives: only WireError is raised, no forged message is accepted, and both can talk afterwards."""
    wire = opened(data[0] if data else 0)
    for arrival in data[1:].split(BETWEEN)[:MOST_ARRIVALS]:
        Arrival.decode(arrival).run(wire)
    wire.check_that_both_still_talk()
    return {(wire.number, *one) for one in wire.seen}


def link_samples() -> list[bytes]:
    """Each setup with all its datagrams; with each alone, from elsewhere, or forged; and with sealed nonsense."""
    samples = []
    for setup in range(len(SETUPS)):
        arrivals = _recorded(setup)
        samples.append(_script(setup, arrivals))
        samples += [
            _script(setup, [attrs.evolve(arrival, source=source)]) for arrival in arrivals for source in range(2)
        ]
        samples += [_script(setup, [_forged(arrival, n) for n in range(4)]) for arrival in arrivals]
        samples += [_script(setup, _of_versions(arrival)) for arrival in arrivals]
        for source in range(2):
            sealed = [Arrival(bytes((kind,)) + b"8 bytes.", source=source, before=7) for kind in range(3)]
            samples.append(_script(setup, sealed))
        samples.append(_script(setup, [Arrival(Init(b"indx", bytes(112)).encode(), source=1, before=3)]))
    return samples


def _recorded(setup: int) -> list[Arrival]:
    wire = opened(setup)
    arrivals = []
    while wire.flying:
        flight = wire.flying.pop(0)
        arrivals.append(Arrival(flight.data, to_server=flight.target == wire.high.address))
        wire.land(flight)
    return arrivals


def _forged(arrival: Arrival, number: int) -> Arrival:
    return attrs.evolve(arrival, datagram=arrival.datagram[:-1] + bytes((arrival.datagram[-1] ^ 1 + number,)))


def _of_versions(arrival: Arrival) -> list[Arrival]:
    """The same of other versions, also from elsewhere. Only HELLO, KEYS and INIT have one; others are refused."""
    datagram = arrival.datagram
    changed = [datagram[:1] + bytes((version,)) + datagram[2:] for version in (0, 1, VERSION + 1, 255)]
    return [attrs.evolve(arrival, datagram=one, source=source) for one in changed for source in range(2)]


def _script(setup: int, arrivals: Sequence[Arrival]) -> bytes:
    return bytes((setup,)) + BETWEEN.join(arrival.encode() for arrival in arrivals)


def rearranged_arrivals(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Arrivals removed, repeated, copied from another input, in another order, or under other circumstances."""
    arrivals = data[1:].split(BETWEEN)
    theirs = dice.choice(others)[1:].split(BETWEEN)
    at = dice.randrange(len(arrivals))
    match dice.randrange(5):
        case 0:
            del arrivals[at]
        case 1:
            again = [arrivals[at]] * dice.choice((1, 2, 4, 30))
            arrivals[at:at] = again if dice.random() < 0.5 else [arrival[:-1] + dice.randbytes(1) for arrival in again]
        case 2:
            arrivals[at:at] = dice.sample(theirs, dice.randint(1, len(theirs)))
        case 3:
            dice.shuffle(arrivals)
        case 4:
            arrivals[at] = dice.randbytes(1) + arrivals[at][1:]
    return data[:1] + BETWEEN.join(arrivals)
