"""Links: messages arrive once and only from their peers, whatever is lost, forged, repeated or reordered.

No sockets or clock: each datagram waits until the test delivers, drops or repeats it; random bytes come from seeds.
"""

import functools
import gc
import random
import sys
import types
from contextlib import suppress

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from trio_chat.crypto.identities import Identity, sign_link_key
from trio_chat.crypto.letters import PublicKeys
from trio_chat.link.events import KeysLearned, Moved, OtherVersion, Received, Transmit
from trio_chat.link.handshake import PROLOGUE, Initiator, Responder, SessionKeys
from trio_chat.link.hellos import ServerKeys
from trio_chat.link.links import MOVE_PAUSE, Links
from trio_chat.link.packets import Cookie, Hello, Init, Keys, Reset, Resp, WakeUpCall, header, parse_untrusted
from trio_chat.link.pending import AcceptedHandshakes, HalfOpen
from trio_chat.link.session import REPLAY_WINDOW, LinkSession, Peer
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.wire import MAX_DATAGRAM, MAX_PLAINTEXT, WireError

HELLO, KEYS, INIT, COOKIE, RESP, DATA, RESET, CHALLENGE, PROOF, CALL = range(1, 11)


# --- two parties and the datagrams between them ---


class CountingKey:
    """A static key that counts the Diffie-Hellman computations with it."""

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.used = 0

    def public_key(self):
        return self._key.public_key()

    def exchange(self, public):
        self.used += 1
        return self._key.exchange(public)


class Party:
    """A party at an address, and the events of its links. `restart` forgets everything but the keys."""

    def __init__(self, secret: bytes, address, dice: random.Random, *, is_server: bool = False) -> None:
        self.limits = LIMITS
        self.known: set[bytes] = set()
        self.secret = secret
        self.key = CountingKey(secret)
        self.address = address
        self.is_server = is_server
        self.server: Peer | None = None
        self.dice = dice
        self.events: list = []
        self.refused = 0
        self.restart()

    def restart(self) -> None:
        server_keys = None
        if self.is_server:
            identity = Identity(bytes(31) + b"\x07", self.secret)
            server_keys = ServerKeys(identity.public, sign_link_key(identity))
        self.links = Links(
            self.key, self.dice.randbytes, server_keys, self.limits, self.known.__contains__, lambda: self.server
        )

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def peer(self) -> Peer:
        return Peer(self.address, self.public)

    @property
    def sessions(self) -> list[LinkSession]:
        return list(self.links._sessions._by_index.values())

    @property
    def received(self) -> list[bytes]:
        return [event.plaintext for event in self.events if isinstance(event, Received)]


@attrs.define
class Flight:
    """A datagram that was sent and has not arrived yet."""

    data: bytes
    source: tuple[str, int]
    target: tuple[str, int]

    @property
    def kind(self) -> int:
        return self.data[0]


class Wire:
    """Two parties, the time, and the datagrams between them. `log` has all that were sent since `kinds` was called."""

    def __init__(self, *, seed: int = 1) -> None:
        dice = random.Random(seed)
        secrets = sorted((dice.randbytes(32) for _ in range(2)), key=public_of)
        self.low = Party(secrets[0], ("10.0.0.1", 1111), dice)
        self.high = Party(secrets[1], ("10.0.0.2", 2222), dice, is_server=True)
        self.low.server = self.high.peer
        self.parties = [self.low, self.high]
        self.now = 1000.0
        self.flying: list[Flight] = []
        self.log: list[Flight] = []

    def other(self, party: Party) -> Party:
        return self.high if party is self.low else self.low

    def send(self, party: Party, text: bytes, *, to: Peer | None = None) -> None:
        self.post(party, party.links.send(to or self.other(party).peer, text, self.now))

    def post(self, party: Party, steps) -> None:
        for step in steps:
            if isinstance(step, Transmit):
                self.flying.append(Flight(step.data, party.address, step.address))
                self.log.append(self.flying[-1])

    def land(self, flight: Flight) -> list:
        """Deliver one datagram, if a party has its address. Return the events."""
        for party in self.parties:
            if party.address == flight.target:
                try:
                    steps = party.links.receive_untrusted(flight.data, flight.source, self.now)
                except WireError:
                    party.refused += 1
                    return []
                party.events += [step for step in steps if not isinstance(step, Transmit)]
                self.post(party, steps)
                return steps
        return []

    def run(self, *, lose=lambda flight: False) -> None:
        """Deliver everything in order, except what `lose` selects."""
        steps = 0
        while self.flying:
            flight = self.flying.pop(0)
            if not lose(flight):
                self.land(flight)
            steps += 1
            assert steps < 1000, "the exchange does not end"

    def link(self) -> None:
        """Start a session that both sides use."""
        self.talk(self.low, b"first")
        self.talk(self.high, b"second")

    def talk(self, party: Party, text: bytes, **options) -> None:
        self.send(party, text, **options)
        self.run()

    def kinds(self) -> list[int]:
        """The types of the datagrams that were sent since the last call."""
        kinds = [flight.kind for flight in self.log]
        self.log.clear()
        return kinds

    def check_that_both_talk_undisturbed(self) -> None:
        """Each message takes one datagram, now and when the old sessions have expired."""
        for pause in (0, 1, 8, 20):
            self.now += pause
            for party in self.parties:
                self.kinds()
                self.talk(party, b"still here %d" % self.now)
                assert self.kinds() == [DATA]
                assert self.other(party).received[-1] == b"still here %d" % self.now


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def weight(links: Links) -> int:
    """Bytes of memory of all objects that this one refers to."""
    skipped = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, random.Random)
    seen, waiting = set(), [vars(links)]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, skipped):
            seen.add(id(one))
            total += sys.getsizeof(one)
            waiting += gc.get_referents(one)
    return total


def is_refused(links: Links, data: bytes, address, now: float = 1000.0) -> bool:
    try:
        links.receive_untrusted(data, address, now)
    except WireError:
        return True
    return False


# --- the handshake, against published vectors and another implementation ---

# The vector Noise_IK_25519_ChaChaPoly_SHA256 of cacophony (https://github.com/centromere/cacophony,
# vectors/cacophony.txt), as snow carries it in tests/vectors/cacophony.txt.
VECTOR = {
    "prologue": "4a6f686e2047616c74",
    "init_static": "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    "init_ephemeral": "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    "init_remote_static": "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
    "resp_static": "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
    "resp_ephemeral": "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
    "handshake_hash": "0b0f68fb0c27e03ce9b97565995ed4838cc0581b762ef72b062f6a546419fad7",
}
MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc2"
        "14d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89083169825e59642148d49202"
        "0664ccf7",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b840f194e373979"
        "d241b203c4acafccf5",
    ),
    ("462e20412e20486179656b", "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8"),
    ("4361726c204d656e676572", "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667"),
    ("4a65616e2d426170746973746520536179", "62cdeeb172ad7ade7aa7d9e069da5790f12331bfa00177787a1d0810c67dc3b2b4"),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "029bead1b40992327044d409d9a1f3ad8f36c3c452775d557e18bbeb2e8dfcead32d514024",
    ),
]


def test_the_published_vector():
    given_ = {name: bytes.fromhex(value) for name, value in VECTOR.items()}
    payloads, ciphertexts = zip(*((bytes.fromhex(p), bytes.fromhex(c)) for p, c in MESSAGES), strict=True)
    private = X25519PrivateKey.from_private_bytes
    assert public_of(given_["resp_static"]) == given_["init_remote_static"]

    initiator = Initiator(
        private(given_["init_static"]),
        given_["init_remote_static"],
        given_["init_ephemeral"],
        payloads[0],
        given_["prologue"],
    )
    assert initiator.message == ciphertexts[0]
    responder = Responder(private(given_["resp_static"]), ciphertexts[0], given_["prologue"])
    assert (responder.payload, responder.remote) == (payloads[0], public_of(given_["init_static"]))
    message, theirs = responder.respond(given_["resp_ephemeral"], payloads[1])
    assert message == ciphertexts[1]
    payload, ours = initiator.read_response_untrusted(message)
    assert payload == payloads[1]
    assert ours.handshake_hash == theirs.handshake_hash == given_["handshake_hash"]

    ours_sends, theirs_sends = Noise(ours.sending), Noise(theirs.sending)
    ours_reads, theirs_reads = Noise(ours.receiving), Noise(theirs.receiving)
    turns = [(ours_sends, theirs_reads), (theirs_sends, ours_reads)] * 2
    for (sends, reads), plaintext, ciphertext in zip(turns, payloads[2:], ciphertexts[2:], strict=True):
        assert sends.seal(plaintext) == ciphertext
        assert reads.open(ciphertext) == plaintext


class Noise:
    """The transport messages of Noise under one key, without our header."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def _nonce(self) -> bytes:
        self._count += 1
        return bytes(4) + (self._count - 1).to_bytes(8, "little")

    def seal(self, plaintext: bytes) -> bytes:
        return self._cipher.encrypt(self._nonce(), plaintext, b"")

    def open(self, ciphertext: bytes) -> bytes:
        return self._cipher.decrypt(self._nonce(), ciphertext, b"")


def other_implementation(secret: bytes, *, remote: bytes | None = None) -> NoiseConnection:
    other = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_SHA256")
    other.set_prologue(PROLOGUE)
    other.set_keypair_from_private_bytes(Keypair.STATIC, secret)
    if remote is None:
        other.set_as_responder()
    else:
        other.set_as_initiator()
        other.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
    other.start_handshake()
    return other


SECRETS = st.binary(min_size=32, max_size=32)


@given(SECRETS, SECRETS, SECRETS, st.binary(max_size=40), st.binary(max_size=40))
@settings(max_examples=25)
def test_as_initiator_against_noiseprotocol(mine, theirs, ephemeral, sent, answer):
    other = other_implementation(theirs)
    initiator = Initiator(X25519PrivateKey.from_private_bytes(mine), public_of(theirs), ephemeral, sent)
    assert other.read_message(initiator.message) == sent
    payload, keys = initiator.read_response_untrusted(bytes(other.write_message(answer)))
    assert (payload, keys.handshake_hash) == (answer, other.get_handshake_hash())
    assert other.decrypt(Noise(keys.sending).seal(b"there")) == b"there"
    assert Noise(keys.receiving).open(other.encrypt(b"and back")) == b"and back"


@given(SECRETS, SECRETS, SECRETS, st.binary(max_size=40), st.binary(max_size=40))
@settings(max_examples=25)
def test_as_responder_against_noiseprotocol(mine, theirs, ephemeral, sent, answer):
    other = other_implementation(theirs, remote=public_of(mine))
    responder = Responder(X25519PrivateKey.from_private_bytes(mine), bytes(other.write_message(sent)))
    assert (responder.payload, responder.remote) == (sent, public_of(theirs))
    message, keys = responder.respond(ephemeral, answer)
    assert other.read_message(message) == answer
    assert keys.handshake_hash == other.get_handshake_hash()
    assert other.decrypt(Noise(keys.sending).seal(b"there")) == b"there"
    assert Noise(keys.receiving).open(other.encrypt(b"and back")) == b"and back"


def test_a_forged_answer_does_not_end_the_handshake():
    mine, theirs = (X25519PrivateKey.from_private_bytes(bytes((n,)) * 32) for n in (1, 2))
    initiator = Initiator(mine, theirs.public_key().public_bytes_raw(), bytes(31) + b"\x03", b"payload")
    message, keys = Responder(theirs, initiator.message).respond(bytes(31) + b"\x04")
    for forged in (bytes(48), message[:47], b"", message[:32] + bytes(16), bytes(32) + message[32:]):
        with pytest.raises(WireError):
            initiator.read_response_untrusted(forged)
    assert initiator.read_response_untrusted(message)[1].sending == keys.receiving


def test_a_handshake_under_another_prologue_or_for_another_key_is_refused():
    mine, theirs = (X25519PrivateKey.from_private_bytes(bytes((n,)) * 32) for n in (1, 2))
    public = theirs.public_key().public_bytes_raw()
    with pytest.raises(WireError):
        Responder(theirs, Initiator(mine, public, bytes(32), b"", b"trio_chat/1").message)
    with pytest.raises(WireError):
        Responder(mine, Initiator(mine, public, bytes(32), b"").message)
    with pytest.raises(WireError):
        Responder(theirs, Initiator(mine, public, bytes(32), b"").message[:95])


# --- the layouts ---


def test_every_datagram_has_its_size():
    sizes = {
        Hello(b"indx").encode(): 136,
        Keys(b"indx", bytes(32), bytes(32), bytes(64)).encode(): 136,
        Init(b"indx", bytes(112), bytes(16)).encode(): 136,
        Cookie(b"indx", bytes(16)).encode(): 24,
        Resp(b"indx", b"sndr", bytes(48)).encode(): 60,
        Reset(b"indx").encode(): 8,
        WakeUpCall().encode(): 8,
    }
    for data, size in sizes.items():
        assert len(data) == size
        version = 2 if data[0] in (HELLO, KEYS, INIT) else 0
        assert data[1:8] == bytes((version, 0, 0)) + (bytes(4) if data[0] == CALL else b"indx")
        assert parse_untrusted(data).encode() == data
    assert [data[0] for data in sizes] == [HELLO, KEYS, INIT, COOKIE, RESP, RESET, CALL]


def test_a_full_datagram_is_as_long_as_a_datagram_may_be():
    wire = Wire()
    wire.link()
    wire.send(wire.low, bytes(MAX_PLAINTEXT))
    assert len(wire.flying[0].data) == MAX_DATAGRAM
    for size in (0, MAX_PLAINTEXT + 1):
        with pytest.raises(ValueError, match="carries 1 to"):
            wire.send(wire.low, bytes(size))


@given(
    st.binary(max_size=200)
    | st.tuples(st.integers(0, 11), st.binary(max_size=200)).map(lambda two: bytes((two[0],)) + bytes(3) + two[1])
)
def test_any_bytes(data):
    wire = played()
    for party in wire.parties:
        for links in (party.links, Links(party.key, party.dice.randbytes)):
            before = len(links)
            try:
                steps = links.receive_untrusted(data, ("10.9.9.9", 9), wire.now)
            except WireError:
                steps = []
            assert sum(len(step.data) for step in steps if isinstance(step, Transmit)) <= len(data)
            assert len(links) == before


@functools.cache
def played() -> Wire:
    wire = Wire()
    wire.link()
    return wire


# --- sessions ---


def session_pair() -> tuple[LinkSession, LinkSession]:
    keys = SessionKeys(b"1" * 32, b"2" * 32, b"")
    turned = SessionKeys(b"2" * 32, b"1" * 32, b"")
    peer = Peer(("10.0.0.1", 1), bytes(32))
    options = {"initiated": True, "born": 0.0}
    return LinkSession(keys, peer, b"aaaa", b"bbbb", **options), LinkSession(turned, peer, b"bbbb", b"aaaa", **options)


def is_taken(session: LinkSession, datagram: bytes) -> bool:
    try:
        session.open_untrusted(datagram)
    except WireError:
        return False
    return True


def test_the_replay_window_at_its_edges():
    sends, reads = session_pair()
    data = [sends.seal(b"%d" % n) for n in range(4 * REPLAY_WINDOW)]
    assert is_taken(reads, data[0])
    assert is_taken(reads, data[REPLAY_WINDOW]), "a whole window ahead of the first"
    assert not is_taken(reads, data[0])
    assert is_taken(reads, data[1]), "the last one in the window"
    assert not is_taken(reads, data[1])
    assert is_taken(reads, data[REPLAY_WINDOW + 2])
    assert not is_taken(reads, data[2]), "never received, but older than the window"
    assert is_taken(reads, data[3])
    assert is_taken(reads, data[4 * REPLAY_WINDOW - 1]), "a leap over more than the window"
    assert not is_taken(reads, data[REPLAY_WINDOW + 2])
    assert not is_taken(reads, data[3 * REPLAY_WINDOW - 1])
    assert is_taken(reads, data[3 * REPLAY_WINDOW])
    assert not is_taken(reads, data[4 * REPLAY_WINDOW - 1])


@given(st.lists(st.integers(0, 3 * REPLAY_WINDOW), max_size=60))
def test_no_datagram_is_accepted_twice_in_any_order(order):
    sends, reads = session_pair()
    data = [sends.seal(b"") for _ in range(3 * REPLAY_WINDOW + 1)]
    taken, highest = set(), -1
    for n in order:
        expected = n not in taken and n > highest - REPLAY_WINDOW
        assert is_taken(reads, data[n]) == expected
        if expected:
            taken.add(n)
            highest = max(highest, n)


def test_a_forged_counter_does_not_move_the_window():
    sends, reads = session_pair()
    first, second = sends.seal(b"first"), sends.seal(b"second")
    forged = first[:8] + (2**63).to_bytes(8, "big") + first[16:]
    assert not is_taken(reads, forged)
    assert is_taken(reads, second)
    assert is_taken(reads, first)


def test_a_session_refuses_what_it_has_sent_itself():
    sends, reads = session_pair()
    assert not is_taken(sends, sends.seal(b"mirrored"))
    assert not is_taken(reads, sends.seal(b"challenge", CHALLENGE)[:-1])


def test_the_type_of_a_datagram_cannot_be_changed():
    sends, reads = session_pair()
    data = sends.seal(bytes(8))
    assert not is_taken(reads, bytes((CHALLENGE,)) + data[1:])
    assert not is_taken(reads, data[:1] + b"\x01" + data[2:])
    assert is_taken(reads, data)


# --- a link begins ---


@pytest.mark.parametrize("side", ["low", "high"])
def test_the_first_message_starts_a_session_and_arrives(side):
    wire = Wire()
    party = getattr(wire, side)
    wire.talk(party, b"hi")
    assert wire.kinds() == [INIT, COOKIE, INIT, RESP, DATA]
    assert wire.other(party).events == [Received(party.peer, b"hi")]
    wire.talk(wire.other(party), b"hi yourself")
    assert wire.kinds() == [DATA]
    assert party.events == [Received(wire.other(party).peer, b"hi yourself")]
    wire.check_that_both_talk_undisturbed()


def test_messages_wait_for_the_handshake_once_each_and_in_order():
    wire = Wire()
    for text in (b"one", b"two", b"one", b"three"):
        wire.send(wire.low, text)
    wire.run()
    assert wire.kinds() == [INIT, COOKIE, INIT, RESP, DATA, DATA, DATA]
    assert wire.high.received == [b"two", b"one", b"three"]


def test_the_newest_32_wait_and_none_longer_than_half_a_second():
    wire = Wire()
    for n in range(40):
        wire.send(wire.low, b"%d" % n)
    wire.run()
    assert wire.high.received == [b"%d" % n for n in range(8, 40)]

    wire = Wire()
    wire.send(wire.low, b"stale")
    wire.flying.clear()
    wire.now += 0.6
    wire.talk(wire.low, b"wanted")
    assert wire.high.received == [b"wanted"]


@pytest.mark.parametrize("lost", range(5))
def test_sending_again_makes_up_for_any_lost_datagram(lost):
    wire = Wire()
    count = iter(range(100))
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: next(count) == lost)
    wire.now += 0.1
    wire.talk(wire.low, b"hi")
    assert set(wire.high.received) == {b"hi"}
    wire.check_that_both_talk_undisturbed()


def test_an_init_is_not_repeated_at_once_and_a_lost_resp_costs_no_second_one():
    wire = Wire()
    wire.send(wire.low, b"one")
    wire.send(wire.low, b"two")
    wire.run(lose=lambda flight: flight.kind == RESP)
    assert wire.kinds() == [INIT, COOKIE, INIT, RESP]
    used = wire.high.key.used
    wire.now += 0.1
    wire.talk(wire.low, b"two")
    assert wire.kinds() == [INIT, RESP, DATA, DATA]
    assert wire.high.key.used == used, "the first answer was repeated"


def test_the_responder_sends_nothing_before_the_first_data():
    wire = Wire()
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: flight.kind == DATA)
    assert wire.high.received == []
    wire.kinds()
    wire.send(wire.high, b"too early for that session")
    assert wire.kinds() == [INIT]
    wire.run()
    assert wire.low.received == [b"too early for that session"]


def test_a_handshake_is_given_up_after_five_seconds():
    wire = Wire()
    wire.send(wire.low, b"hi")
    first = wire.flying.pop().data
    wire.now += 4.9
    wire.send(wire.low, b"hi")
    assert wire.flying.pop().data == first, "the same INIT: its cookie depends on it"
    wire.now += 0.2
    wire.send(wire.low, b"hi")
    assert wire.flying.pop().data != first
    wire.now += 6
    wire.low.links.sweep(wire.now)
    assert len(wire.low.links) == 0


def test_an_accepted_handshake_is_forgotten_after_five_seconds():
    wire = Wire()
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: flight.kind == DATA)
    late = wire.log[-1]
    assert len(wire.high.links) == 1
    wire.now += 5.1
    wire.land(late)
    assert wire.high.received == [], "too late"
    assert wire.flying.pop().kind == RESET
    wire.high.links.sweep(wire.now)
    assert len(wire.high.links) == 0


def test_the_same_init_after_five_seconds_gets_a_new_answer():
    wire = Wire()
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: flight.kind in (RESP, DATA))
    init = [flight for flight in wire.log if flight.kind == INIT][-1]
    wire.now += 5.1
    for _ in range(2):
        wire.land(init)
        assert len(wire.high.links) == 1
    old, new, same = (flight.data for flight in wire.log if flight.kind == RESP)
    assert old != new == same


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), (2**255 - 18).to_bytes(32, "little")])
def test_nothing_is_sent_to_an_unusable_key(key):
    wire = Wire()
    wire.send(wire.low, b"hi", to=Peer(wire.high.address, key))
    assert wire.flying == []
    assert len(wire.low.links) == 0


def test_a_peer_with_another_key_is_not_reached():
    wire = Wire()
    wire.talk(wire.low, b"hi", to=Peer(wire.high.address, public_of(b"the secret of another, 32 bytes.")))
    assert wire.kinds() == [INIT, COOKIE, INIT], "no answer: the peer cannot read this"
    assert wire.high.events == []
    wire.link()
    wire.send(wire.low, b"not for the one with the session", to=Peer(wire.high.address, bytes(31) + b"\x09"))
    assert [flight.kind for flight in wire.flying] == [INIT]


# --- keys of a server ---


def test_an_unknown_party_can_ask_a_server_for_its_keys():
    wire = Wire()
    wire.post(wire.low, wire.low.links.hello(wire.high.address))
    wire.run()
    assert [len(flight.data) for flight in wire.log] == [136, 136]
    assert wire.kinds() == [HELLO, KEYS]
    (learned,) = wire.low.events
    assert learned.address == wire.high.address
    assert learned.keys.link == wire.high.public
    wire.talk(wire.low, b"hi", to=Peer(learned.address, learned.keys.link))
    assert wire.high.received == [b"hi"]


def test_only_a_server_answers_a_hello():
    wire = Wire()
    assert is_refused(wire.low.links, Hello(b"indx").encode(), wire.high.address)


def test_keys_that_nobody_asked_for_or_that_are_not_signed_are_refused():
    wire = Wire()
    wire.post(wire.low, wire.low.links.hello(wire.high.address))
    hello = wire.flying.pop()
    (keys,) = wire.high.links.receive_untrusted(hello.data, hello.source, wire.now)
    true = parse_untrusted(keys.data)
    mallory = Identity(bytes(31) + b"\x08", bytes(31) + b"\x09")
    swapped = attrs.evolve(true, link_key=mallory.public.link)
    foreign = attrs.evolve(true, signing_key=mallory.public.signing)
    other_index = attrs.evolve(true, index=b"????")
    for forged in (swapped, foreign, other_index):
        assert is_refused(wire.low.links, forged.encode(), wire.high.address)
    assert is_refused(wire.low.links, keys.data, ("10.9.9.9", 9)), "from another address"
    for _ in range(2):  # the first one to answer may be somebody else
        assert wire.low.links.receive_untrusted(keys.data, wire.high.address, wire.now) == [
            KeysLearned(wire.high.address, PublicKeys(true.signing_key, true.link_key))
        ]
    wire.low.links.forget_hellos()
    assert is_refused(wire.low.links, keys.data, wire.high.address), "nobody waits for keys any longer"


def test_the_number_of_key_queries_is_bounded():
    wire = Wire()
    for port in range(1, 1000):
        wire.low.links.hello(("10.0.0.2", port))
    assert len(wire.low.links) <= 16


# --- crossed handshakes ---


def every_order(scenario, limit: int = 100_000):
    """Run `scenario` once for each sequence of choices. It calls choose(n) to choose a number below n."""
    script: list[list[int]] = []
    for _ in range(limit):
        place = 0

        def choose(n: int) -> int:
            nonlocal place
            if place == len(script):
                script.append([0, n])
            place += 1
            return script[place - 1][0]

        scenario(choose)
        yield
        while script and script[-1][0] + 1 >= script[-1][1]:
            script.pop()
        if not script:
            return
        script[-1][0] += 1
    raise AssertionError("too many orders")


@pytest.mark.parametrize("is_renewal", [False, True])
def test_crossed_inits_in_every_order_of_arrival(is_renewal):
    orders = 0

    def scenario(choose) -> None:
        wire = Wire()
        if is_renewal:
            wire.link()
            wire.now += 121
        for party in wire.parties:
            wire.send(party, b"crossing")
        for data in [flight for flight in wire.flying if flight.kind == DATA]:  # on the session that is renewed
            wire.flying.remove(data)
            wire.land(data)
        while wire.flying:
            wire.land(wire.flying.pop(choose(len(wire.flying))))
        assert (wire.high.received[-1], wire.low.received[-1]) == (b"crossing", b"crossing")
        assert RESET not in wire.kinds()
        wire.check_that_both_talk_undisturbed()

    for _ in every_order(scenario):
        orders += 1
    assert orders > 50


@pytest.mark.parametrize("seed", range(150))
def test_crossed_inits_in_any_order_with_copies_and_losses(seed):
    dice = random.Random(seed)
    wire = Wire()
    sent = set()
    for turn in range(4):
        for party in dice.sample(wire.parties, 2):
            text = b"%d" % dice.randrange(3)
            sent.add((party.public, text))
            wire.send(party, text)
            while wire.flying and dice.random() < 0.8:
                flight = wire.flying.pop(dice.randrange(len(wire.flying)))
                if turn == 3 or dice.random() < 0.8:
                    wire.land(flight)
                if dice.random() < 0.1:
                    wire.land(flight)
        wire.now += 0.1
    wire.run()
    wire.now += 1.1  # so that the next RESET counts again
    for party in wire.parties:
        for text in (b"0", b"1", b"2"):
            wire.talk(party, text)
    for party in wire.parties:
        assert set(party.received) == {b"0", b"1", b"2"}
        assert {event.peer for event in party.events} == {wire.other(party).peer}
    wire.check_that_both_talk_undisturbed()


def test_a_crossing_init_is_answered_on_the_session_of_the_lower_key():
    wire = Wire()
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: flight.kind == DATA)
    wire.kinds()
    wire.talk(wire.high, b"only I speak")
    assert wire.kinds() == [INIT, COOKIE, INIT, DATA, DATA]
    assert wire.low.received == [b"only I speak"]
    for pause in (0, 5, 5.1, 20):
        wire.now += pause
        wire.talk(wire.high, b"and again")
        assert wire.kinds() == [DATA]


def test_the_crossed_init_of_the_lower_key_wins():
    wire = Wire()
    wire.send(wire.high, b"from high")
    wire.send(wire.low, b"from low")
    wire.run()
    answered_by = {flight.source for flight in wire.log if flight.kind == RESP}
    assert answered_by == {wire.high.address}


# --- a link is renewed, replaced, lost ---


def test_a_session_is_renewed_after_two_minutes_and_the_old_one_receives_for_ten_more_seconds():
    wire = Wire()
    wire.link()
    wire.now += 119
    wire.talk(wire.low, b"young enough")
    wire.kinds()
    wire.now += 2
    wire.send(wire.high, b"on the old one, late")
    wire.send(wire.high, b"on the old one, too late")
    late, init, too_late = wire.flying
    wire.flying.clear()
    wire.kinds()
    assert init.kind == INIT
    wire.flying.append(init)
    wire.run()
    assert wire.kinds() == [COOKIE, INIT, RESP, DATA]
    wire.now += 9.9
    assert wire.land(late) == [Received(wire.high.peer, b"on the old one, late")]
    wire.now += 0.2
    assert [step.data[0] for step in wire.land(too_late)] == [RESET]
    wire.flying.clear()
    wire.check_that_both_talk_undisturbed()


def test_only_the_latest_two_sessions_of_a_peer_are_kept():
    wire = Wire()
    for _ in range(6):
        wire.now += 1
        wire.low.restart()
        wire.talk(wire.low, b"me again")
    assert len(wire.high.received) == 6
    assert len(wire.high.links) == 2


def test_the_old_session_carries_on_until_the_new_one_answers():
    wire = Wire()
    wire.link()
    wire.now += 121
    wire.send(wire.low, b"on the old one")
    wire.run(lose=lambda flight: flight.kind == INIT)
    wire.talk(wire.high, b"so do I", to=wire.low.peer)
    assert (wire.high.received[-1], wire.low.received[-1]) == (b"on the old one", b"so do I")


def test_a_session_is_not_used_for_more_than_three_minutes():
    wire = Wire()
    wire.link()
    wire.send(wire.low, b"late")
    late = wire.flying.pop()
    wire.now += 181
    assert [step.data[0] for step in wire.land(late)] == [RESET]
    wire.flying.clear()
    wire.kinds()
    wire.talk(wire.low, b"again")
    assert wire.kinds() == [INIT, COOKIE, INIT, RESP, DATA]
    for party in wire.parties:
        wire.now += 181
        party.links.sweep(wire.now)
        assert len(party.links) == 0


def test_an_init_alone_replaces_nothing():
    wire = Wire()
    wire.link()
    wire.low.restart()
    wire.send(wire.low, b"the first of a new session")
    wire.run(lose=lambda flight: flight.kind == DATA)
    wire.kinds()
    wire.send(wire.high, b"still on the old one")
    assert wire.kinds() == [DATA]
    wire.run()
    wire.now += 0.1
    wire.talk(wire.low, b"the second")
    wire.kinds()
    wire.talk(wire.high, b"on the new one")
    assert wire.kinds() == [DATA]
    assert wire.low.received[-1] == b"on the new one"


@pytest.mark.parametrize(("side", "sender"), [(a, b) for a in ("low", "high") for b in ("low", "high")])
def test_a_restart_of_either_side_is_noticed_by_a_reset(side, sender):
    wire = Wire()
    wire.link()
    getattr(wire, side).restart()
    sends = getattr(wire, sender)
    wire.kinds()
    wire.talk(sends, b"hi")
    wire.now += 0.1
    wire.talk(sends, b"hi")
    assert wire.other(sends).received[-1] == b"hi"
    if side != sender:
        assert wire.kinds() == [DATA, RESET, INIT, COOKIE, INIT, RESP, DATA, DATA]
    wire.check_that_both_talk_undisturbed()


def test_resets_start_at_most_one_handshake_a_second():
    wire = Wire()
    wire.link()
    wire.send(wire.low, b"hi")
    index = wire.flying.pop().data[4:8]
    reset = Flight(Reset(index).encode(), wire.high.address, wire.low.address)
    started = []
    for _ in range(100):
        wire.kinds()
        wire.land(reset)
        wire.run(lose=lambda flight: flight.kind in (RESP, COOKIE))
        started += wire.kinds()
        wire.now += 0.05
    assert 1 <= started.count(INIT) <= 5
    assert set(started) <= {INIT, COOKIE}


def test_resets_start_at_most_one_handshake_a_second_even_if_each_succeeds():
    wire = Wire()
    wire.link()
    inits = 0
    for _ in range(40):
        wire.send(wire.low, b"hi")
        reset = Reset(wire.flying[-1].data[4:8]).encode()
        wire.run()
        wire.kinds()
        wire.land(Flight(reset, wire.high.address, wire.low.address))
        wire.run()
        inits += wire.kinds().count(INIT)
        wire.now += 0.05
    assert 2 <= inits <= 2 * 2, "two INITs a handshake, a handshake a second"


def test_the_session_goes_on_after_a_forged_reset():
    wire = Wire()
    wire.link()
    wire.send(wire.low, b"hi")
    index = wire.flying.pop().data[4:8]
    assert is_refused(wire.low.links, Reset(b"????").encode(), wire.high.address)
    assert is_refused(wire.low.links, Reset(index).encode(), ("10.9.9.9", 9)), "from another address"
    wire.land(Flight(Reset(index).encode(), wire.high.address, wire.low.address))
    wire.flying.clear()
    wire.talk(wire.low, b"still")
    wire.talk(wire.high, b"here")
    assert (wire.high.received[-1], wire.low.received[-1]) == (b"still", b"here")


# --- peers that move ---

ELSEWHERE = ("10.0.7.7", 777)


def test_a_peer_that_moves_proves_it_and_its_session_goes_on():
    wire = Wire()
    wire.link()
    before = wire.low.peer
    wire.low.address = ELSEWHERE
    wire.kinds()
    wire.talk(wire.low, b"from elsewhere")
    assert wire.kinds() == [DATA, CHALLENGE, PROOF]
    assert wire.high.events[-2:] == [Received(before, b"from elsewhere"), Moved(before, wire.low.peer)]
    wire.talk(wire.high, b"at your new address")
    wire.talk(wire.low, b"well done")
    assert wire.kinds() == [DATA, DATA]
    assert wire.high.events[-1] == Received(wire.low.peer, b"well done")
    assert wire.low.received[-1] == b"at your new address"
    wire.check_that_both_talk_undisturbed()


def test_a_peer_that_moves_before_the_first_data_proves_it_too():
    wire = Wire()
    wire.send(wire.low, b"hello while I move")
    before = wire.low.peer
    while wire.flying:
        flight = wire.flying.pop(0)
        if flight.kind == DATA:
            wire.low.address = flight.source = ELSEWHERE
        wire.land(flight)
    assert wire.high.events == [Received(before, b"hello while I move"), Moved(before, wire.low.peer)]


def test_a_lost_challenge_is_repeated_with_the_next_message():
    wire = Wire()
    wire.link()
    wire.low.address = ELSEWHERE
    wire.send(wire.low, b"one")
    wire.run(lose=lambda flight: flight.kind == CHALLENGE)
    wire.send(wire.low, b"two, long enough")
    wire.run(lose=lambda flight: flight.kind == PROOF)
    assert not any(isinstance(event, Moved) for event in wire.high.events)
    wire.talk(wire.low, b"three, long enough")
    assert isinstance(wire.high.events[-1], Moved)


def test_a_datagram_relayed_from_another_address_changes_nothing():
    wire = Wire()
    wire.link()
    wire.send(wire.low, b"caught by an attacker")
    caught = wire.flying.pop()
    steps = wire.land(attrs.evolve(caught, source=ELSEWHERE))
    assert steps[0] == Received(wire.low.peer, b"caught by an attacker")
    (challenge,) = [flight for flight in wire.flying if flight.kind == CHALLENGE]
    assert challenge.target == ELSEWHERE
    assert len(challenge.data) <= len(caught.data)
    wire.flying.clear()
    # The attacker can relay the challenge to the true peer, but does not get the proof:
    wire.land(Flight(challenge.data, ELSEWHERE, wire.low.address))
    assert wire.flying == []
    wire.talk(wire.high, b"to where you were")
    assert wire.low.received[-1] == b"to where you were"
    assert not any(isinstance(event, Moved) for event in wire.high.events)


def test_a_proof_from_an_address_that_was_not_challenged_is_ignored():
    wire = Wire()
    wire.link()
    wire.low.address = ELSEWHERE
    wire.send(wire.low, b"from elsewhere")
    wire.run(lose=lambda flight: flight.kind == PROOF)
    proof = wire.log[-1]
    assert wire.land(attrs.evolve(proof, source=("10.0.8.8", 888))) == []
    assert wire.land(proof) == [], "the challenge is used up"
    assert not any(isinstance(event, Moved) for event in wire.high.events)


def test_a_proof_must_carry_the_challenge():
    wire = Wire()
    wire.link()
    wire.low.address = ELSEWHERE
    wire.send(wire.low, b"from elsewhere")
    wire.run(lose=lambda flight: flight.kind == CHALLENGE)
    (session,) = wire.low.sessions
    wire.land(Flight(session.seal(b"a guess!", PROOF), ELSEWHERE, wire.high.address))
    assert not any(isinstance(event, Moved) for event in wire.high.events)


def test_each_move_has_its_own_challenge():
    wire = Wire()
    wire.link()
    home = wire.low.address
    tokens = set()
    for address in (ELSEWHERE, home, ELSEWHERE):
        wire.low.address = address
        wire.send(wire.low, b"from another place")
        wire.land(wire.flying.pop())
        (session,) = wire.high.sessions
        address_and_token = session.challenge
        tokens.add(address_and_token[1])
        wire.run()
        assert wire.high.events[-1].now.address == address
        moves = len(wire.high.events)
        (mine,) = wire.low.sessions
        wire.land(Flight(mine.seal(address_and_token[1], PROOF), address, wire.high.address))
        assert len(wire.high.events) == moves, "a proof counts once"
        wire.now += MOVE_PAUSE
    assert len(tokens) == 3


def test_only_the_newest_datagram_can_show_a_move():
    wire = Wire()
    wire.link()
    wire.send(wire.low, b"an older one, held back")
    held_back = wire.flying.pop()
    wire.talk(wire.low, b"a newer one")
    assert wire.land(attrs.evolve(held_back, source=ELSEWHERE)) == [Received(wire.low.peer, b"an older one, held back")]


def test_no_challenge_is_longer_than_its_cause():
    wire = Wire()
    wire.link()
    for size in range(1, 20):
        wire.send(wire.low, bytes(size))
        data = wire.flying.pop().data
        steps = wire.high.links.receive_untrusted(data, ELSEWHERE, wire.now)
        assert all(len(step.data) <= len(data) for step in steps if isinstance(step, Transmit))


# --- attacks ---


def test_10000_spoofed_inits_take_no_memory_and_no_computation():
    wire = Wire()
    wire.link()
    high = wire.high
    dice = random.Random(7)
    true = Init(b"indx", Initiator(X25519PrivateKey.generate(), high.public, bytes(32), bytes(16)).message)
    used, weighs = high.key.used, weight(high.links)
    for n in range(10_000):
        init = true if n % 10 == 0 else Init(dice.randbytes(4), dice.randbytes(112), dice.randbytes(16))
        source = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1 + n % 65535)
        (answer,) = high.links.receive_untrusted(init.encode(), source, wire.now)
        assert answer.address == source
        assert len(answer.data) == 24
    assert high.key.used == used
    assert weight(high.links) == weighs
    wire.check_that_both_talk_undisturbed()


def with_cookie(party: Party, init: Init, source, now: float) -> Init:
    (answer,) = party.links.receive_untrusted(init.encode(), source, now)
    return attrs.evolve(init, cookie=parse_untrusted(answer.data).cookie)


def flood(party: Party, sources, now: float, *, first: int = 0) -> int:
    """Send a different, valid INIT with its cookie from each of these sources; return how many were answered."""
    answered = 0
    for n, source in enumerate(sources, start=first):
        secret = X25519PrivateKey.from_private_bytes((1 + n).to_bytes(32, "big"))
        init = Init(n.to_bytes(4, "big"), Initiator(secret, party.public, bytes(32), bytes(16)).message)
        answered += len(party.links.receive_untrusted(with_cookie(party, init, source, now).encode(), source, now))
    return answered


def test_a_cookie_is_for_one_address_one_init_and_two_minutes():
    wire = Wire()
    high, source = wire.high, ("10.5.5.5", 5)
    init = Init(b"indx", Initiator(X25519PrivateKey.generate(), high.public, bytes(32), bytes(16)).message)
    good = with_cookie(high, init, source, wire.now)
    used = high.key.used

    def answer_to(init: Init, source, now: float) -> int:
        return high.links.receive_untrusted(init.encode(), source, now)[0].data[0]

    assert answer_to(good, ("10.5.5.5", 6), wire.now) == COOKIE
    assert answer_to(good, ("10.5.5.6", 5), wire.now) == COOKIE
    assert answer_to(attrs.evolve(good, index=b"other"[:4]), source, wire.now) == COOKIE
    assert answer_to(good, source, wire.now + 121) == COOKIE
    assert high.key.used == used
    assert answer_to(good, source, wire.now + 60) == RESP
    high.restart()
    assert answer_to(good, source, wire.now) == COOKIE, "the secret is new at each start"


def test_twenty_handshakes_a_second_from_one_port_and_five_at_once():
    wire = Wire()
    source = ("10.5.5.5", 5)
    used = wire.high.key.used
    assert flood(wire.high, [source] * 50, wire.now) == 5
    assert wire.high.key.used - used == 2 * 5, "a refused INIT costs no computation"
    assert flood(wire.high, [source] * 50, wire.now + 0.1, first=50) == 2


def test_one_address_gets_half_of_the_handshakes_and_a_newcomer_still_gets_in():
    wire = Wire()
    assert flood(wire.high, [("10.5.5.5", port) for port in range(1, 1101)], wire.now) == 500
    wire.talk(wire.low, b"nevertheless")
    assert wire.high.received == [b"nevertheless"]
    assert wire.high.links.refused == {"handshakes_of_strangers": 500, "handshakes_per_address": 100}


def test_a_party_that_is_behind_answers_fewer_handshakes_of_strangers():
    wire = Wire()
    wire.high.links.is_behind = True
    assert flood(wire.high, [("10.5.5.5", port) for port in range(1, 101)], wire.now) == 62
    wire.talk(wire.low, b"nevertheless")
    assert wire.high.received == [b"nevertheless"]
    wire.high.links.is_behind = False
    assert flood(wire.high, [("10.5.5.5", port) for port in range(101, 201)], wire.now + 1, first=100) == 100


def test_garbage_behind_a_good_cookie_counts_before_anything_is_computed():
    wire = Wire()
    used = wire.high.key.used
    for port in range(1, 1101):
        source = ("10.5.5.5", port)
        init = with_cookie(wire.high, Init(b"indx", bytes(range(112))), source, wire.now)
        with suppress(WireError):
            wire.high.links.receive_untrusted(init.encode(), source, wire.now)
    assert wire.high.key.used - used == 500


def test_the_number_of_unfinished_handshakes_is_bounded_and_the_newest_is_kept(monkeypatch):
    monkeypatch.setattr("trio_chat.link.pending.MAX_ACCEPTED", 20)
    wire = Wire()
    flood(wire.high, [("10.5.5.5", 5)] * 5, wire.now)
    assert len(wire.high.links) == 4
    flood(wire.high, [(f"10.6.0.{n}", 6) for n in range(30)], wire.now)
    assert len(wire.high.links) == 20
    wire.talk(wire.low, b"nevertheless")
    assert wire.high.received == [b"nevertheless"]


def test_of_more_than_8192_unfinished_handshakes_the_oldest_are_forgotten():
    """With the usual rates there are never so many. A server that is given higher ones has no other bound."""
    accepted, keys = AcceptedHandshakes(), SessionKeys(bytes(32), bytes(32), bytes(32))
    indices = [n.to_bytes(4, "big") for n in range(8192 + 100)]
    for n, index in enumerate(indices):
        accepted.add(HalfOpen(Peer((f"10.6.{n >> 8}.{n & 255}", 6), bytes(32)), index, index, keys, b"", b"", 0.0))
    assert len(accepted) == 8192
    assert [index in accepted for index in indices] == [False] * 100 + [True] * 8192


def test_the_number_of_started_handshakes_is_bounded():
    wire = Wire()
    for n in range(1100):
        wire.low.links.send(Peer(("10.6.6.6", n + 1), wire.high.public), b"hi", wire.now)
    assert len(wire.low.links) == 1024


def test_a_key_at_ever_new_ports_has_four_sessions():
    wire = Wire()
    wire.high.known.add(wire.low.public)
    for n in range(30):
        wire.low.restart()
        wire.low.address = ("10.0.0.1", 3000 + n)
        wire.now += 1
        wire.talk(wire.low, b"hi")
    assert len(wire.high.received) == 30
    assert len(wire.high.links) == 4


def test_sessions_of_strangers_are_bounded_and_do_not_end_those_of_somebody_known():
    wire = Wire()
    wire.high.limits = Limits(sessions_of_strangers=5)
    wire.high.restart()
    wire.link()
    friend = wire.low
    wire.high.known.add(friend.public)  # as somebody who registers inside their session
    for n in range(20):
        stranger = Party(bytes((n + 50,)) * 32, (f"10.3.0.{n}", 3000), wire.high.dice)
        wire.low, wire.parties = stranger, [stranger, wire.high]
        wire.talk(stranger, b"hi")
    assert len(wire.high.links) == 5 + 1
    assert wire.high.links.refused == {"sessions_of_strangers": 15}
    wire.low, wire.parties = friend, [friend, wire.high]
    wire.kinds()
    wire.talk(wire.low, b"still here")
    assert wire.kinds() == [DATA]


def test_a_reset_for_each_of_many_sessions_costs_no_more_than_inits():
    wire = Wire()
    wire.link()
    sessions = []
    for n in range(20):
        stranger = Party(bytes((n + 50,)) * 32, ("10.3.0.3", 3000), wire.high.dice)
        wire.low, wire.parties = stranger, [stranger, wire.high]
        wire.now += 1
        wire.talk(stranger, b"hi")
        sessions += stranger.sessions
    wire.now += 1
    used = wire.high.key.used
    for session in sessions:
        reset = Reset(session.index).encode()
        wire.post(wire.high, wire.high.links.receive_untrusted(reset, ("10.3.0.3", 3000), wire.now))
    assert len(wire.flying) == 5, "what one port gets at once"
    assert wire.high.key.used - used == 5


def test_a_peer_that_moves_back_and_forth_moves_once_a_second():
    wire = Wire()
    wire.link()
    home = wire.low.address
    for n in range(100):
        wire.low.address = (ELSEWHERE, home)[n % 2]
        wire.now += MOVE_PAUSE / 50
        wire.talk(wire.low, b"from another place")
    assert len([event for event in wire.high.events if isinstance(event, Moved)]) <= 3
    wire.now += MOVE_PAUSE
    wire.talk(wire.low, b"from where they are now")
    assert wire.high.received.count(b"from another place") == 100
    wire.talk(wire.high, b"and back")
    assert wire.low.received[-1] == b"and back"


def conversation() -> Wire:
    """A wire whose log has every type of datagram."""
    wire = Wire()
    wire.post(wire.low, wire.low.links.hello(wire.high.address))
    wire.run()
    wire.low.links.forget_hellos()
    wire.link()
    wire.talk(wire.low, b"a message of some length")
    wire.low.address = ELSEWHERE
    wire.talk(wire.low, b"from elsewhere, with some length")
    wire.high.restart()
    wire.talk(wire.low, b"to a peer that has restarted")
    wire.post(wire.high, [Transmit(WakeUpCall().encode(), wire.low.address)])
    wire.run()
    assert {flight.kind for flight in wire.log} == set(range(1, 11))
    return wire


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("later", [0, 30, 130])
@pytest.mark.parametrize("port", ["same", "other"])
def test_every_recorded_datagram_replayed(port, later, restarted):
    wire = conversation()
    wire.now += later
    if restarted:
        wire.low.restart()
        wire.high.restart()
    for party in wire.parties:
        party.events.clear()
    for flight in list(wire.log):
        source = flight.source if port == "same" else ("10.9.9.9", 9)
        for party in wire.parties:
            try:
                steps = party.links.receive_untrusted(flight.data, source, wire.now)
            except WireError:
                continue
            assert all(isinstance(step, Transmit) for step in steps), "nothing is delivered, learned or moved"
            if port == "other":
                assert sum(len(step.data) for step in steps) <= len(flight.data)
    if not restarted and later < 120:
        wire.now += 1.1
        for party in wire.parties:
            wire.talk(party, b"after all that")
            assert wire.other(party).received[-1] == b"after all that"
        wire.check_that_both_talk_undisturbed()


def test_every_recorded_datagram_cut_short_or_longer():
    wire = conversation()
    wire.high.events.clear()
    for flight in wire.log:
        for party in wire.parties:
            for size in range(len(flight.data)):
                data = flight.data[:size]
                answered = [] if is_refused(party.links, data, flight.source, wire.now) else data
                # For an index without a session, any DATA of 32 bytes or more is answered with a RESET.
                assert not answered or (flight.kind == DATA and size >= 32 and flight.data[4:8])
            if flight.kind != DATA:
                assert is_refused(party.links, flight.data + b"\0", flight.source, wire.now)
    assert wire.high.events == []


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=60)
def test_a_changed_copy_that_arrives_first_is_refused_and_does_not_stop_the_true_one(which, place, change):
    """Before one of the datagrams, the receiver gets a copy of it with one byte changed."""
    wire = Wire()
    wire.post(wire.low, wire.low.links.hello(wire.high.address))
    wire.send(wire.low, b"a message of some length")
    which %= 7
    count = 0
    while wire.flying:
        flight = wire.flying.pop(0)
        if count == which:
            changed = bytearray(flight.data)
            at = place % len(changed)
            if flight.kind == RESP and 8 <= at < 12:
                at += 4  # the responder's index is not authenticated: see the next test
            changed[at] ^= change
            party = wire.high if flight.target == wire.high.address else wire.low
            before = len(party.links)
            try:
                steps = party.links.receive_untrusted(bytes(changed), flight.source, wire.now)
            except WireError:
                steps = []
            assert len(party.links) == before
            assert all(isinstance(step, Transmit | OtherVersion) for step in steps)
            if party is wire.high:
                assert sum(len(step.data) for step in steps if isinstance(step, Transmit)) <= len(changed)
            wire.post(party, steps)
        count += 1
        wire.land(flight)
    assert count >= 7
    assert wire.high.received == [b"a message of some length"]
    assert len([event for event in wire.low.events if isinstance(event, KeysLearned)]) == 1


def test_a_resp_with_a_changed_index_costs_a_handshake_but_not_the_message():
    wire = Wire()
    wire.send(wire.low, b"hi")
    while wire.flying:
        flight = wire.flying.pop(0)
        if flight.kind == RESP and not wire.low.sessions:
            flight.data = flight.data[:8] + b"????" + flight.data[12:]
        wire.land(flight)
    wire.now += 0.1
    wire.talk(wire.low, b"hi")
    assert wire.high.received == [b"hi"]


def test_a_flood_of_cookies_causes_few_inits():
    wire = Wire()
    wire.send(wire.low, b"hi")
    index = wire.flying.pop().data[4:8]
    sent = 0
    for n in range(100):
        forged = Cookie(index, n.to_bytes(16, "big"))
        sent += len(wire.low.links.receive_untrusted(forged.encode(), wire.high.address, wire.now))
    assert sent <= 3


def test_forged_cookies_do_not_keep_the_true_one_out():
    wire = Wire()
    wire.send(wire.low, b"hi")
    index = wire.flying[0].data[4:8]
    for n in range(100):
        forged = Cookie(index, n.to_bytes(16, "big"))
        wire.post(wire.low, wire.low.links.receive_untrusted(forged.encode(), wire.high.address, wire.now))
    wire.run()
    wire.now += 0.1
    wire.talk(wire.low, b"hi")
    assert wire.high.received == [b"hi"]


def test_an_answer_from_another_address_is_refused():
    wire = Wire()
    wire.send(wire.low, b"hi")
    wire.run(lose=lambda flight: flight.kind == RESP)
    resp = wire.log[-1]
    assert resp.kind == RESP
    assert is_refused(wire.low.links, resp.data, ("10.9.9.9", 9), wire.now)
    cookie = next(flight for flight in wire.log if flight.kind == COOKIE)
    assert is_refused(wire.low.links, cookie.data, ("10.9.9.9", 9), wire.now)


def test_data_for_an_unknown_session_gets_a_shorter_reset_and_a_reset_gets_no_answer():
    wire = Wire()
    data = header(DATA, b"indx") + bytes(24)
    assert wire.high.links.receive_untrusted(data, ELSEWHERE, wire.now) == [
        Transmit(Reset(b"indx").encode(), ELSEWHERE)
    ]
    assert is_refused(wire.high.links, data[:-1], ELSEWHERE)
    assert is_refused(wire.high.links, Reset(b"indx").encode(), ELSEWHERE)
    assert len(wire.high.links) == 0
