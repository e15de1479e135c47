"""Floods, from forged addresses and from true ones: they cost little, and clients still get through.

The real server in virtual time (tests/stage.py), random bytes from seeds. Links alone: tests/link/test_links.py.
"""

import random

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.network import Conditions, MemoryNetwork
from tests.stage import SERVER, SERVER_IDENTITY, SERVER_PEER, open_stage
from trio_chat.crypto.identities import Identity, sign_link_key
from trio_chat.link.handshake import Initiator, Responder
from trio_chat.link.links import RENEW_AFTER, Links
from trio_chat.link.packets import Hello, Init, Keys, header, parse_untrusted

HELLO, KEYS, INIT, COOKIE, RESP, DATA, RESET, CHALLENGE, PROOF, CALL = range(1, 11)
NAMES = ["HELLO", "KEYS", "INIT", "COOKIE", "RESP", "DATA", "RESET", "CHALLENGE", "PROOF", "CALL"]
SIZES = {HELLO: 136, KEYS: 136, INIT: 136, COOKIE: 24, RESP: 60, RESET: 8, CHALLENGE: 40, PROOF: 40, CALL: 8}
ANSWERS = {"server": {HELLO: KEYS, INIT: COOKIE, DATA: RESET}, "client": {INIT: COOKIE, DATA: RESET}}

ALICE, BOB = ("10.0.2.1", 6000), ("10.0.2.2", 6000)
MALLORY = Identity(b"m" * 32, b"M" * 32)

TICK = 0.01
"""Seconds between two bursts of a flood."""

BURST = 1000
"""Datagrams of a burst: fewer than the queue of a receiver holds."""


class FloodedNetwork(MemoryNetwork):
    """Datagrams to an address without a socket are recorded in `answers`, and neither carried nor logged."""

    def __init__(self):
        super().__init__()
        self.default = Conditions(delay=(2 * TICK, 2 * TICK))
        self.answers = []

    def carry(self, data, source, destination):
        if destination in self._sockets:
            super().carry(data, source, destination)
        else:
            self.answers.append((data, destination))

    async def flood(self, datagrams, target=SERVER):
        """Inject these (datagram, source), 100,000 a second. All of them are handled."""
        for start in range(0, len(datagrams), BURST):
            for data, source in datagrams[start : start + BURST]:
                self.inject(data, source, target)
            await trio.sleep(TICK)
        assert self.counts.overflowed == 0

    async def with_cookies(self, inits):
        """Return these (INIT, source) with the cookies that the server gives for them."""
        self.answers.clear()
        await self.flood(encoded(inits))
        cookies = [parse_untrusted(data).cookie for data, _ in self.answers]
        self.answers.clear()
        return [
            (attrs.evolve(init, cookie=cookie), source) for (init, source), cookie in zip(inits, cookies, strict=True)
        ]


class Inside:
    """What cannot be seen on the network: all links, the server's first, and the INITs that cost a computation."""

    def __init__(self, monkeypatch):
        self.links = []
        self.computed = []
        monkeypatch.setattr("trio_chat.server.server.Links", self._open_links)
        monkeypatch.setattr("trio_chat.client.opening.Links", self._open_links)
        monkeypatch.setattr("trio_chat.link.links.Responder", self._respond)

    def _open_links(self, *arguments, **more):
        self.links.append(Links(*arguments, **more))
        return self.links[-1]

    def _respond(self, own, message):
        self.computed.append(message)
        return Responder(own, message)

    def computed_for(self, inits):
        """The number of these INITs that cost a computation."""
        messages = {init.message for init in inits}
        return sum(message in messages for message in self.computed)


@pytest.fixture
def inside(monkeypatch):
    """Requested by `stage`: it must exist before the server starts."""
    return Inside(monkeypatch)


@pytest.fixture
async def network():
    network = FloodedNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run_courier)
        yield network
        nursery.cancel_scope.cancel()


@pytest.fixture
async def stage(network, inside):
    async with open_stage(network) as stage:
        yield stage


def somewhere(n):
    """One of many different addresses without a socket."""
    return (f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}", 1 + n % 65535)


def formal(dice):
    """An INIT that is valid by its form only."""
    return Init(dice.randbytes(4), dice.randbytes(112), dice.randbytes(16))


def valid(dice):
    """A valid INIT of a new party, without a cookie."""
    own = X25519PrivateKey.from_private_bytes(dice.randbytes(32))
    initiator = Initiator(own, SERVER_IDENTITY.public.link, dice.randbytes(32), dice.randbytes(16))
    return Init(dice.randbytes(4), initiator.message)


def anything(dice, kind):
    """A datagram of this type that is valid by its form only."""
    if kind == HELLO:
        return Hello(dice.randbytes(4)).encode()
    size = dice.randrange(32, 1201) if kind == DATA else SIZES[kind]
    middle = Init.middle if kind in (KEYS, INIT) else bytes(3)
    return header(kind, dice.randbytes(4), middle) + dice.randbytes(size - 8)


def encoded(inits):
    return [(init.encode(), source) for init, source in inits]


async def entering(stage, name, address):
    """The client, and how long it took to register."""
    began = trio.current_time()
    person = await stage.enter(name, host=address[0], port=address[1])
    return person, trio.current_time() - began


def types_sent(network, source, destination=SERVER):
    """The types of the datagrams that were sent from one to the other, in order."""
    return [line.data[0] for line in network.log if (line.source, line.destination) == (source, destination)]


# --- from forged addresses ---


async def test_30000_spoofed_inits_take_no_memory_and_no_computation(stage, network, inside, autojump_clock, nursery):
    dice = random.Random(1)
    alice = await stage.enter("alice")
    await stage.pass_time(1)
    remembered = len(inside.links[0])

    spoofed = [(formal(dice), somewhere(n)) for n in range(29_600)]
    good = await network.with_cookies([(valid(dice), somewhere(n)) for n in range(29_600, 30_000)])
    for (init, source), (other, elsewhere) in zip(good[::2], good[1::2], strict=True):
        cookie = dice.choice([init.cookie, dice.randbytes(16), bytes(16)])  # of another INIT, a guess, none
        spoofed += [(init, elsewhere), (attrs.evolve(other, cookie=cookie), source)]
    dice.shuffle(spoofed)
    datagrams = encoded(spoofed)
    nursery.start_soon(network.flood, datagrams)
    await stage.pass_time(8 * TICK)
    bob = await stage.enter("bob")
    assert 8_000 < len(network.answers) < 30_000, "bob registered in the middle of the flood"
    await stage.pass_time(2)

    assert [source for _, source in network.answers] == [source for _, source in datagrams]
    assert {len(data) for data, _ in network.answers} == {SIZES[COOKIE]}
    assert inside.computed_for(init for init, _ in spoofed) == 0
    assert len(inside.links[0]) == remembered + 1, "only bob's"
    assert (await alice.chat.send("bob", "did you notice anything?")).how == "direct"
    assert bob.texts() == ["did you notice anything?"]


async def test_a_flood_from_the_address_of_a_client_does_not_block_it(stage, network, inside, autojump_clock, nursery):
    dice = random.Random(2)
    alice, undisturbed = await entering(stage, "alice", ALICE)
    nursery.start_soon(network.flood, [(formal(dice).encode(), BOB) for _ in range(20_000)])
    await stage.pass_time(2 * TICK)
    _, disturbed = await entering(stage, "bob", BOB)
    assert disturbed == pytest.approx(undisturbed)
    assert len(inside.computed) == 2, "alice's and bob's"
    assert (await alice.chat.send("bob", "hi")).how == "direct"


@pytest.mark.parametrize("kind", range(1, 11), ids=NAMES)
@pytest.mark.parametrize("whom", ["server", "client"])
async def test_no_answer_is_longer_than_its_request_and_nothing_is_remembered(
    stage, network, inside, autojump_clock, whom, kind
):
    dice = random.Random(3)
    await stage.enter("alice", host=ALICE[0])
    await stage.pass_time(1)
    remembered = [len(links) for links in inside.links]
    whole = [anything(dice, kind) for _ in range(1000)]
    cut = [data[: dice.randrange(len(data))] for data in whole]
    longer = [data + dice.randbytes(dice.randint(1, 200)) for data in whole]
    causes = {somewhere(n): data for n, data in enumerate(whole + cut + longer)}
    target = {"server": SERVER, "client": ALICE}[whom]
    await network.flood([(data, source) for source, data in causes.items()], target)

    lengths = {source: len(data) for data, source in network.answers}
    assert len(lengths) == len(network.answers), "one answer at most"
    assert all(length <= len(causes[source]) for source, length in lengths.items())
    expected = SIZES.get(ANSWERS[whom].get(kind))
    assert [lengths.get(somewhere(n)) for n in range(1000)] == [expected] * 1000
    if kind != DATA:  # DATA may have any size
        assert not any(somewhere(n) in lengths for n in range(1000, 3000))
    assert [len(links) for links in inside.links] == remembered
    assert len(inside.computed) == 1, "alice's"


async def test_forged_answers_do_not_disturb_a_client_that_waits_for_true_ones(stage, network, autojump_clock, nursery):
    dice = random.Random(4)
    _, undisturbed = await entering(stage, "alice", ALICE)
    sent_by_alice = types_sent(network, ALICE)
    forged = [anything(dice, dice.choice([COOKIE, RESP, RESET, CHALLENGE, PROOF])) for _ in range(16_000)]
    keys, signature = MALLORY.public, sign_link_key(MALLORY)
    forged += [Keys(dice.randbytes(4), keys.link, keys.signing, signature).encode() for _ in range(4000)]
    dice.shuffle(forged)
    nursery.start_soon(network.flood, [(data, SERVER) for data in forged], BOB)
    _, disturbed = await entering(stage, "bob", BOB)
    assert disturbed == pytest.approx(undisturbed)
    assert types_sent(network, BOB) == sent_by_alice


# --- from true addresses, with cookies ---


async def test_one_port_gets_20_handshakes_a_second_and_the_others_cost_no_computation(
    stage, network, inside, autojump_clock, nursery
):
    dice = random.Random(5)
    greedy = somewhere(0)
    inits = await network.with_cookies([(valid(dice), greedy) for _ in range(600)])

    async def storm():
        for start in range(0, len(inits), 20):
            await network.flood(encoded(inits[start : start + 20]))
            await trio.sleep(0.1 - TICK)

    nursery.start_soon(storm)
    await stage.pass_time(1)
    await stage.enter("bob")
    assert len(inside.links[0]) <= 4 + 1
    await stage.pass_time(5)
    answered = [len(data) for data, source in network.answers if source == greedy]
    assert set(answered) == {SIZES[RESP]}
    assert 60 <= len(answered) <= 65, "in three seconds, the first five at once"
    assert inside.computed_for(init for init, _ in inits) == len(answered)


async def test_one_host_gets_half_of_the_handshakes_and_others_are_not_limited_by_it(
    stage, network, inside, autojump_clock, nursery
):
    dice = random.Random(6)
    alice = await stage.enter("alice")
    inits = await network.with_cookies([(formal(dice), ("198.18.0.1", port)) for port in range(1, 5001)])
    inside.computed.clear()
    nursery.start_soon(network.flood, encoded(inits[:2000]))
    await stage.pass_time(2 * TICK)
    assert 500 <= len(inside.computed) <= 520, "at once"
    bob = await stage.enter("bob")
    inside.computed.clear()
    for start in range(2000, 5000, 300):
        await network.flood(encoded(inits[start : start + 300]))
        await trio.sleep(0.1 - TICK)
    assert 40 <= len(inside.computed) <= 100, "in one second, of those left at first and 50 more"
    assert (await alice.chat.send("bob", "hi")).how == "direct"
    assert bob.texts() == ["hi"]


async def test_newcomers_and_neighbours_of_a_flood_from_60_addresses_do_not_notice_it(
    stage, network, inside, autojump_clock, nursery
):
    """10,000 a second with good cookies, garbage behind them; the neighbours renew their sessions meanwhile."""
    dice = random.Random(8)
    hosts = [f"198.18.0.{n}" for n in range(1, 61)]
    neighbours = [await stage.enter(f"neighbour{n}", host=hosts[n]) for n in range(5)]
    await stage.pass_time(RENEW_AFTER - 1.5)
    _, undisturbed = await entering(stage, "alice", ALICE)
    inits = await network.with_cookies([(formal(dice), (hosts[n % 60], 10_000 + n // 60)) for n in range(20_000)])
    inside.computed.clear()
    began = trio.current_time()

    async def storm():
        # Evenly: between two larger bursts there would always be tokens for others.
        for start in range(0, len(inits), 10):
            for data, source in encoded(inits[start : start + 10]):
                network.inject(data, source, SERVER)
            await trio.sleep(0.001)

    nursery.start_soon(storm)
    await stage.pass_time(0.5)
    for n in range(5):
        _, disturbed = await entering(stage, f"newcomer{n}", (f"10.0.3.{n + 1}", 6000))
        assert disturbed == pytest.approx(undisturbed)
    for neighbour in neighbours:
        await neighbour.chat.send_all("quiet here")
    made = [session for session in inside.links[0]._sessions._current.values() if session.born >= began]
    assert len(made) == 5 + 5, "each newcomer has a session, and each neighbour a new one"
    assert sum(inside.links[0].refused.values()) < 15_000, "in the middle of the flood"
    await stage.pass_time(1.5)
    assert inside.computed_for(init for init, _ in inits) <= 1000 + 2 * 500
    assert inside.links[0].refused["handshakes_of_strangers"] > 10_000


async def test_strangers_with_sessions_do_not_end_those_of_the_registered(stage, network, inside, autojump_clock):
    alice = await stage.enter("alice")
    dice = random.Random(9)
    links = inside.links[0]
    for n in range(200):
        stranger = Links(X25519PrivateKey.from_private_bytes(dice.randbytes(32)), dice.randbytes)
        finish_handshake(stranger, links, somewhere(n))
    assert len(links) == 201
    assert [links._sessions.is_known_at((host, 6000)) for host in (alice.host, "10.0.9.9")] == [True, False]
    assert [links._sessions.is_known_at(somewhere(n)) for n in range(200)] == [False] * 200


def finish_handshake(stranger, links, address):
    """Make a session between two parties, without a network."""
    now = trio.current_time()
    (init,) = stranger.send(SERVER_PEER, b"x", now)
    (cookie,) = links.receive_untrusted(init.data, address, now)
    (init,) = stranger.receive_untrusted(cookie.data, SERVER, now)
    (resp,) = links.receive_untrusted(init.data, address, now)
    (data,) = stranger.receive_untrusted(resp.data, SERVER, now)
    links.receive_untrusted(data.data, address, now)


async def test_no_unfinished_handshakes_push_out_that_of_a_client(stage, network, inside, autojump_clock, nursery):
    dice = random.Random(7)
    _, undisturbed = await entering(stage, "alice", ALICE)
    inits = await network.with_cookies([(valid(dice), somewhere(n)) for n in range(1100)])
    storms = []

    def storm(data, source, destination):
        if data[0] == RESP and destination == BOB and not storms:
            storms.append(data)
            nursery.start_soon(network.flood, encoded(inits))
        return True

    network.filters.append(storm)
    _, disturbed = await entering(stage, "bob", BOB)
    assert storms
    assert 990 < inside.computed_for(init for init, _ in inits) < 1100
    assert disturbed == pytest.approx(undisturbed)
    assert RESET not in types_sent(network, SERVER, BOB)
    await stage.pass_time(30)
    assert len(inside.links[0]) == 2, "alice's and bob's"
