"""Links under fire: two parties, one of them a listening server, and datagrams of whose arrival the input tells.

An input is a stage and what happens on it, one act after the other: a byte that says where a datagram goes, where it
seems to come from and what happens before, then the datagram. Each arrival is held against what links promise.
"""

import random
from collections.abc import Callable, Sequence

import attrs

from tests.link.test_links import (
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
from trio_chat.link.links import KeysLearned, LinkEvent, Moved, Received, Relinked, Transmit
from trio_chat.link.packets import Init
from trio_chat.protocol.wire import WireError

__all__ = ["check_links", "link_samples", "rearranged_acts"]

BETWEEN_ACTS = b"\xff--\xff"
MOST_ACTS = 60
STRANGER = ("10.9.9.9", 9)
PAUSES = (0.0, 0.3, 6.0, 130.0)
PATIENCE = 1.5
"""Seconds until both hear each other again: a RESET, which counts once a second, a handshake, and some for luck."""
RESEND_EVERY = 0.1
ROOM = 4096
"""Bytes by which a party may weigh more after a datagram: a session and its handshake."""
ADMITTED = 1000
"""The same after an INIT that was refused: with a good cookie its address is counted, whatever else was in it."""
COUNTED = 256
"""The same after any other that brought nothing about: a count is higher, a replay window moves."""


class Stand(Wire):
    """A wire on which each arrival, of what is true and of what is not, is held against the promises."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.said: dict[Party, set[bytes]] = {}
        self.seen: set[object] = set()
        self._taken: set[bytes] = set()
        self._challenged: set[tuple[Party, object]] = set()
        self._count = 0
        super().__init__(seed=number)
        self.homes = {party: {party.address} for party in self.parties}
        """Where each party has been, and where its datagrams have been led."""

    def say(self, party: Party, text: bytes, **options) -> None:
        self.said.setdefault(party, set()).add(text)
        super().say(party, text, **options)

    def say_something(self, party: Party) -> bytes:
        """Something new, long enough for a challenge to come back."""
        self._count += 1
        text = b"something new: %d" % self._count
        self.say(party, text)
        return text

    def land(self, flight: Flight) -> list[LinkEvent]:
        party = next((party for party in self.parties if party.address == flight.target), None)
        return self.arrive(party, flight.data, flight.source) if party else []

    def arrive(self, party: Party, data: bytes, source) -> list[LinkEvent]:
        """A datagram that seems to come from `source`."""
        before = len(party.links)
        try:
            steps = party.links.receive_untrusted(data, source, self.now)
        except WireError as error:
            assert len(party.links) <= before, "something is remembered of what was refused"
            self._see(party, data, source, str(error))
            return []
        kinds = _kinds(steps)
        self._check_sizes(steps, party, data, source)
        if RESP in kinds:
            self.homes[self.other(party)].add(source)  # proven by a cookie, be it by somebody on the way
        assert len(party.links) <= before + (RESP in kinds) + (INIT in kinds), "more was begun than there is to see"
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
                assert address == source or address in self.homes[other], "somebody else is answered"
                assert answer[0] != PROOF or address in self.homes[other], "a proof for whoever relays the challenge"
                if answer[0] == CHALLENGE:
                    self._challenged.add((party, address))
            case Received(peer, plaintext):
                assert peer.key == other.public, "a message of somebody else"
                assert plaintext in self.said[other], "a message that nobody sealed"
                assert data not in self._taken, "a message that came before"
                self._taken.add(data)
            case Moved(was, now):
                assert (was.key, now.key) == (other.public, other.public), "somebody else moves"
                assert was.address in self.homes[other], "a move from another place"
                assert now.address == source, "a move to another place"
                assert (party, source) in self._challenged, "a move to where nobody was challenged"
                self.homes[other].add(source)
            case KeysLearned(address, keys):
                assert (address, keys) == (other.address, other.links._server_keys.keys), "false keys"
            case Relinked(peer):
                assert peer.key == other.public, "a session with somebody else"

    def _check_sizes(self, steps: list[LinkEvent], party: Party, data: bytes, source) -> None:
        back = sum(len(step.data) for step in steps if isinstance(step, Transmit) and step.address == source)
        assert source in self.homes[self.other(party)] or back <= len(data), "an answer larger than the question"

    def _see(self, party: Party, data: bytes, source, *what: str) -> None:
        kind = min(data[0], 10) if data else 0
        self.seen.add((party.is_server, kind, source in self.homes[self.other(party)], what))

    def check_that_both_still_talk(self) -> None:
        """Whoever sends again is heard before long."""
        unheard, since = set(self.parties), self.now
        while unheard:
            assert self.now - since < PATIENCE, "they do not hear each other any longer"
            for party in self.parties:
                text = self.say_something(party)
                self.run()
                if text in self.other(party).heard:
                    unheard.discard(party)
            self.now += RESEND_EVERY


def _kinds(steps: list[LinkEvent]) -> list[int]:
    """The types of what is sent."""
    return [step.data[0] for step in steps if isinstance(step, Transmit)]


def _in_short(step: LinkEvent) -> str:
    return f"type {step.data[0]}" if isinstance(step, Transmit) else type(step).__name__


# --- stages ---


def asked(stand: Stand) -> None:
    """Nobody knows anybody; the client has asked for keys, and for a session."""
    stand.post(stand.low, stand.low.links.hello(stand.high.address))
    stand.say_something(stand.low)


def linked(stand: Stand) -> None:
    """A session that both use, with a message on its way in each direction."""
    stand.link()
    stand.say_something(stand.low)
    stand.say_something(stand.high)
    stand.say(stand.low, b"hi")


def moved(stand: Stand) -> None:
    """The client has moved and does not know it."""
    stand.link()
    stand.low.address = ELSEWHERE
    stand.homes[stand.low].add(ELSEWHERE)
    stand.say(stand.low, b"hi")
    stand.say_something(stand.low)


def forgotten(stand: Stand) -> None:
    """The server has started anew and knows nobody; the client still uses the session."""
    stand.link()
    stand.high.restart()
    stand.say_something(stand.low)


STAGES: list[Callable[[Stand], None]] = [asked, linked, moved, forgotten]


def opened(stage: int) -> Stand:
    """The same each time, with keys that no other stage has: what was sealed there was not said here."""
    stand = Stand(stage % len(STAGES))
    STAGES[stand.number](stand)
    return stand


# --- acts ---


@attrs.frozen
class Act:
    """One arrival. `source` 0: from where the other is, 1: a stranger, 2: another port of his host, 3: oneself.

    `before`: what happens before it (see `_prepare`); `pause`: for how long nothing happens before that.
    """

    datagram: bytes
    to_server: bool = True
    source: int = 0
    pause: int = 0
    before: int = 0

    def encode(self) -> bytes:
        return bytes((self.source | self.to_server << 2 | self.pause << 3 | self.before << 5,)) + self.datagram

    @classmethod
    def decode(cls, data: bytes) -> "Act":
        how = data[0] if data else 0
        return cls(data[1:], bool(how >> 2 & 1), how & 3, how >> 3 & 3, how >> 5)

    def perform(self, stand: Stand) -> None:
        party = stand.high if self.to_server else stand.low
        other = stand.other(party)
        if self.pause:
            stand.now += PAUSES[self.pause]
            for one in stand.parties:
                one.links.sweep(stand.now)
        host, port = other.address
        source = (other.address, STRANGER, (host, port + 1), party.address)[self.source]
        datagram = self._prepare(stand, party, source)
        weighed = weight(party.links)
        steps = stand.arrive(party, datagram, source)
        assert weight(party.links) <= weighed + _room(datagram, steps), "more is remembered than came in"

    def _prepare(self, stand: Stand, party: Party, source) -> bytes:
        """What happens before the datagram arrives, and what it is by then."""
        datagram = self.datagram
        match self.before:
            case 3:
                datagram = _with_cookie(stand, party, datagram, source)
            case 4:
                stand.say_something(stand.low)
            case 5:
                stand.say_something(stand.high)
            case 6 if stand.flying:
                stand.land(stand.flying.pop(0))
            case 7:
                datagram = _sealed(stand, stand.other(party), datagram)
        return datagram


def _room(datagram: bytes, steps: list[LinkEvent]) -> int:
    """By how many bytes a party to which this was sent, and which did this, may weigh more."""
    if not steps:
        return ADMITTED if datagram[:1] == bytes((INIT,)) else COUNTED
    only_answered = len(_kinds(steps)) == len(steps) and {*_kinds(steps)} <= {KEYS, COOKIE, RESET}
    return 0 if only_answered else ROOM


def _with_cookie(stand: Stand, party: Party, datagram: bytes, source) -> bytes:
    """The same INIT, if it is one, with the cookie that its sender gets: what he says in it need not make sense."""
    match stand.arrive(party, datagram, source):
        case [Transmit(answer)] if answer[0] == COOKIE:
            return datagram[:-16] + answer[-16:]
    return datagram


def _sealed(stand: Stand, sender: Party, datagram: bytes) -> bytes:
    """The same bytes, if the sender has a session: said by him who may say them, but need not make sense."""
    session = next(iter(sender.links._current.values()), None)
    if session is None or not datagram:
        return datagram
    kind = (DATA, CHALLENGE, PROOF)[datagram[0] % 3]
    if kind == DATA:
        stand.said.setdefault(sender, set()).add(datagram[1:])
    return session.seal(datagram[1:], kind)


# --- the target ---


def check_links(data: bytes) -> set[object]:
    """Whatever arrives: nothing is raised but WireError, nobody is taken in, and both can talk afterwards."""
    stand = opened(data[0] if data else 0)
    for act in data[1:].split(BETWEEN_ACTS)[:MOST_ACTS]:
        Act.decode(act).perform(stand)
    stand.check_that_both_still_talk()
    return {(stand.number, *one) for one in stand.seen}


def link_samples() -> list[bytes]:
    """Each stage with all its datagrams; with each alone, from a stranger, or forged; and with sealed nonsense."""
    samples = []
    for stage in range(len(STAGES)):
        acts = _recorded(stage)
        samples.append(_script(stage, acts))
        samples += [_script(stage, [attrs.evolve(act, source=source)]) for act in acts for source in range(2)]
        samples += [_script(stage, [_forged(act, n) for n in range(4)]) for act in acts]
        for source in range(2):
            sealed = [Act(bytes((kind,)) + b"8 bytes.", source=source, before=7) for kind in range(3)]
            samples.append(_script(stage, sealed))
        samples.append(_script(stage, [Act(Init(b"indx", bytes(112)).encode(), source=1, before=3)]))
    return samples


def _recorded(stage: int) -> list[Act]:
    stand = opened(stage)
    acts = []
    while stand.flying:
        flight = stand.flying.pop(0)
        acts.append(Act(flight.data, to_server=flight.target == stand.high.address))
        stand.land(flight)
    return acts


def _forged(act: Act, number: int) -> Act:
    return attrs.evolve(act, datagram=act.datagram[:-1] + bytes((act.datagram[-1] ^ 1 + number,)))


def _script(stage: int, acts: Sequence[Act]) -> bytes:
    return bytes((stage,)) + BETWEEN_ACTS.join(act.encode() for act in acts)


def rearranged_acts(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Acts left out, repeated, put in from another input, or in another order, or under other circumstances."""
    acts = data[1:].split(BETWEEN_ACTS)
    theirs = dice.choice(others)[1:].split(BETWEEN_ACTS)
    at = dice.randrange(len(acts))
    match dice.randrange(5):
        case 0:
            del acts[at]
        case 1:
            again = [acts[at]] * dice.choice((1, 2, 4, 30))
            acts[at:at] = again if dice.random() < 0.5 else [act[:-1] + dice.randbytes(1) for act in again]
        case 2:
            acts[at:at] = dice.sample(theirs, dice.randint(1, len(theirs)))
        case 3:
            dice.shuffle(acts)
        case 4:
            acts[at] = dice.randbytes(1) + acts[at][1:]
    return data[:1] + BETWEEN_ACTS.join(acts)
