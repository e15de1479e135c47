"""What one key or one address can use up: a story for each attack that was done, and honest work that is not slowed.

Time is what the tests say it is (tests/bare_server.py), or virtual (tests/stage.py). What is asserted are counts.
"""

import logging
from collections import Counter
from functools import cache

import attrs
import pytest
import trio

from tests.bare_server import SERVER_KEY, A, B, BareServer, C, credentials_of, elsewhere
from tests.raw_peer import RawPeer
from tests.stage import SERVER_KEY as STAGE_KEY
from tests.stage import SERVER_PEER, identity_of
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.limits import LIMITS, Limits, Rate
from trio_chat.protocol.messages import Accepted, Ack, Find, Found, GroupPost, Heartbeat, Refused, Registered
from trio_chat.protocol.records import Credentials, Reason, Record
from trio_chat.protocol.token_buckets import KEYS_KEPT
from trio_chat.server import service as service_module
from trio_chat.server.service import Admission, Append
from trio_chat.server.throttle import Throttle
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.ids import new_id


def kind_of(outcome) -> str:
    return outcome.reason if isinstance(outcome, Refused) else type(outcome).__name__


@cache
def keys_of(number: int) -> Identity:
    """One of many people."""
    secret = f"person {number}".encode().ljust(32, b".")
    return Identity(secret, secret[::-1])


@attrs.frozen
class Person:
    """One of many people, at an address."""

    identity: Identity
    peer: Peer

    @classmethod
    def at(cls, host: str, number: int) -> "Person":
        identity = keys_of(number)
        return cls(identity, Peer((host, 1 + number % 65535), identity.public.link))

    def register(self, server: BareServer, name: str):
        return server.register(name, self.peer, shown=shown_by(self.identity, name), take_over=False)


@cache
def shown_by(identity: Identity, name: str) -> Credentials:
    return credentials(identity, name=name, server_key=SERVER_KEY)


@pytest.fixture
def server() -> BareServer:
    server = BareServer()
    server.pace = 0.0
    return server


@pytest.fixture
def checks(monkeypatch):
    """The signature checks that the server has computed."""
    names = []
    verify = service_module.verify_identity

    def counted(*arguments, name, server_key):
        names.append(name)
        return verify(*arguments, name=name, server_key=server_key)

    monkeypatch.setattr(service_module, "verify_identity", counted)
    return names


# --- names ---


def test_one_key_that_registers_10_000_names_gets_50(server, checks):
    server.pace = 1 / LIMITS.registrations_per_key.a_second
    outcomes = [server.register(f"name-{number}", A) for number in range(10_000)]
    assert Counter(map(kind_of, outcomes)) == {"Admission": 50, Reason.TOO_MANY_NAMES: 9950}
    assert len(server.service.table) == len(checks) == 50
    assert server.service.refusals == {"names_per_key": 9950}
    assert isinstance(server.register("bob", B), Admission)
    assert isinstance(server.register("NAME-7", A), Admission), "a name of their own"


def one_host(number):
    return "10.9.9.9"


def hosts_of_one_network(number):
    return f"2001:db8:1:2::{number:x}"


@pytest.mark.parametrize("host", [one_host, hosts_of_one_network])
def test_300_keys_at_one_address_get_100_names_and_newcomers_come_in_at_once(host):
    assert (LIMITS.new_names_per_address, LIMITS.registrations_per_address) == (Rate(1000, 1 / 60), Rate(2000, 100))
    server = BareServer(Limits(new_names_per_address=Rate(100, 1 / 60), registrations_per_address=Rate(200, 100)))
    server.pace = 0.0
    crowd = [Person.at(host(number), number) for number in range(1, 301)]
    outcomes = [person.register(server, f"name-{number}") for number, person in enumerate(crowd)]
    assert Counter(map(kind_of, outcomes)) == {"Admission": 100, Reason.NO_ROOM: 100, Reason.TOO_FAST: 100}
    assert server.service.refusals == {"new_names_per_address": 100, "registrations_per_address": 100}
    assert isinstance(server.register("bob", B), Admission), "who is elsewhere does not wait"
    server.now += outcomes[-1].after
    assert isinstance(crowd[0].register(server, "name-0"), Admission), "who has a name may return to it"
    server.now += 60.0
    late = [person.register(server, f"late-{number}") for number, person in enumerate(crowd[-2:])]
    assert [kind_of(outcome) for outcome in late] == ["Admission", Reason.NO_ROOM]


def test_a_name_that_is_refused_for_another_reason_takes_nothing_from_its_address():
    server = BareServer(Limits(names=2, new_names_per_address=Rate(2, 1)))
    server.pace = 0.0
    server.enter("alice", A)
    for _ in range(10):
        assert kind_of(Person.at("10.0.0.1", 7).register(server, "alice")) == Reason.TAKEN
    assert kind_of(Person.at("10.0.0.1", 8).register(server, "bob")) == "Admission"
    assert kind_of(server.register("carol", C)) == Reason.NO_ROOM
    assert server.service.refusals == {"names": 1}


# --- registrations ---


def registers(server, count, shown=None):
    """Send so many Registers of A at this moment, each with another program."""
    shown = shown or credentials_of(A, "alice")
    return Counter(
        kind_of(server.register("alice", A, shown=shown, program=bytes(14) + n.to_bytes(2, "big"), take_over=False))
        for n in range(count)
    )


def test_registers_with_ever_new_program_ids_cost_few_signature_checks(server, checks):
    server.enter("alice", elsewhere(A))
    server.now += 60.0
    checks.clear()
    assert registers(server, 10_000) == {"Elsewhere": 50, Reason.TOO_FAST: 4950, "Reaction": 5000}
    assert len(checks) == 50
    for _ in range(10):
        server.now += 1.0
        registers(server, 2000)
    assert len(checks) == 50 + 5 * 10


def test_a_wrong_certificate_counts_as_a_right_one(server, checks):
    own = credentials(Person.at("10.0.0.1", 1).identity, name="alice", server_key=SERVER_KEY)
    wrong = attrs.evolve(own, keys=attrs.evolve(own.keys, link=A.key))
    assert registers(server, 1000, wrong) == {"Reaction": 50, Reason.TOO_FAST: 950}
    assert len(checks) == 50
    assert len(server.service.table) == 0


def test_who_was_too_fast_is_let_in_after_the_time_that_the_server_has_named(server):
    for _ in range(50):
        server.enter("alice", A)
    refused = server.register("alice", A)
    assert isinstance(refused, Refused)
    assert refused.after == pytest.approx(0.2)
    server.now += refused.after
    assert isinstance(server.register("alice", A), Admission)


def test_a_name_that_comes_and_goes_3000_times_a_second_changes_the_table_a_few_times(server):
    shown = credentials_of(A, "alice")
    for _ in range(3000 * 10):
        server.now += 1 / 3000
        server.register("alice", A, shown=shown)
        server.leave(A)
    assert len(server.published) <= 2 * (50 + 5 * 10)
    assert set(server.service.refusals) == {"registrations_per_key", "requests_per_key"}


def test_somebody_who_moves_all_the_time_changes_the_table_a_few_times(server):
    session, here = server.enter("alice", A), A
    for number in range(30_001):
        there = elsewhere(A, ("10.0.0.9", 1 + number))
        server.moved(here, there)
        here = there
        assert session.peer == here, "messages to them go where they are"
        server.now += 1 / 3000 if number < 29_990 else 0.0  # the last ones come at one moment
    assert len(server.published) <= 50 + 5 * 10 + 1
    assert server.service.table["alice"].address != here.address
    server.now += 1.0
    assert isinstance(server.ask(here, Heartbeat(server.id(), session.since)), Ack)
    assert server.service.table["alice"].address == here.address
    published = len(server.published)
    server.ask(here, Heartbeat(server.id(), session.since))
    assert len(server.published) == published, "nothing has changed since"


# --- messages through the server ---


def test_tiny_posts_are_limited_for_each_key(server):
    server.enter("alice", A)
    server.enter("bob", B)
    outcomes = [server.post(A) for _ in range(4000)]
    assert Counter(map(kind_of, outcomes)) == {"Append": 300, Reason.TOO_FAST: 3700}
    assert isinstance(server.post(B), Append), "others are not concerned"
    for _ in range(10):
        server.now += 1.0
        assert Counter(kind_of(server.post(A)) for _ in range(400)) == {"Append": 20, Reason.TOO_FAST: 380}
    assert set(server.service.refusals) == {"posts_per_key"}


def test_tiny_posts_are_limited_for_each_address(server):
    crowd = [Person.at("10.9.9.9", number) for number in range(1, 21)]
    for number, person in enumerate(crowd):
        person.register(server, f"name-{number}")
    outcomes = [server.post(person.peer) for person in crowd for _ in range(300)]
    assert Counter(map(kind_of, outcomes)) == {"Append": 3000, Reason.TOO_FAST: 3000}
    server.enter("alice", A)
    assert isinstance(server.post(A), Append)


def test_a_post_to_250_people_counts_two_and_a_half_times(server):
    for number in range(1, 250):
        Person.at("10.9.9.9", number).register(server, f"name-{number}")
    server.enter("alice", A)
    assert Counter(kind_of(server.post(A)) for _ in range(400)) == {"Append": 120, Reason.TOO_FAST: 280}


def test_a_post_to_more_people_than_the_limit_has_room_for_is_sent_at_times():
    server = BareServer(Limits(posts_per_key=Rate(1, 1)))
    server.pace = 0.0
    for number in range(1, 250):
        Person.at("10.9.9.9", number).register(server, f"name-{number}")
    server.enter("alice", A)
    assert Counter(kind_of(server.post(A)) for _ in range(10)) == {"Append": 1, Reason.TOO_FAST: 9}


def letters(server, peer, recipients, count) -> Counter[str]:
    return Counter(kind_of(server.save(peer, recipient)) for recipient in recipients for _ in range(count))


def test_letters_under_ever_new_names_are_those_of_one_key(server):
    server.enter("bob", B)
    counts = Counter()
    for number in range(30):
        server.enter(f"name-{number}", A)
        counts += letters(server, A, ["bob"], 40)
    assert counts == {"Append": 300, Reason.TOO_FAST: 900}
    server.enter("carol", C)
    assert letters(server, C, ["bob"], 1) == {"Append": 1}


def test_letters_to_many_people_are_limited_for_each_key_and_each_address():
    server = BareServer(Limits(requests_per_key=Rate(20_000, 1)))
    server.pace = 0.0
    recipients = [f"name-{number}" for number in range(20)]
    for number, name in enumerate(recipients, start=1):
        Person.at("10.9.9.8", number).register(server, name)
    crowd = [Person.at("10.9.9.9", number) for number in range(100, 104)]
    for number, person in enumerate(crowd):
        person.register(server, f"sender-{number}")
    counts = [letters(server, person.peer, recipients, 200) for person in crowd]
    assert [count["Append"] for count in counts] == [3000, 3000, 3000, 1000]
    assert set(server.service.refusals) == {"letters_per_key", "letters_per_address"}
    server.enter("alice", A)
    assert letters(server, A, ["name-0"], 1) == {"Append": 1}, "from elsewhere"


# --- all requests ---


@pytest.mark.parametrize("request_of", [Heartbeat, lambda id_, since: Find(id_, "bob")])
def test_of_30_000_cheap_requests_a_second_500_are_answered(server, request_of):
    since = server.enter("alice", A).since
    server.enter("bob", B)
    outcomes = Counter()
    for _ in range(30_000):
        server.now += 1 / 30_000
        outcomes[kind_of(server.ask(A, request_of(server.id(), since)))] += 1
    assert outcomes.total() - outcomes["Reaction"] <= 5500
    assert server.ask(A, request_of(server.id(), since)) is Reaction.SILENCE
    assert isinstance(server.find(B, "alice"), Found), "others are not concerned"
    server.now += 1.0
    assert isinstance(server.ask(A, request_of(server.id(), since)), Ack | Found)


# --- work in progress ---


class SlowStore(MemoryServerStore):
    """Needs a second for each group of messages."""

    async def append(self, entries):
        appended = await super().append(entries)
        await trio.sleep(1)
        return appended


async def test_who_fills_the_queue_of_messages_leaves_room_for_others(stage, autojump_clock, nursery):
    much = Rate(1e6, 1e6)
    stage.limits = Limits(requests_per_key=much, posts_per_key=much, posts_per_address=much)
    await stage.kill_server()
    await stage.start_server(SlowStore())
    mallory = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("mallory"))
    nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, mallory.register("mallory", STAGE_KEY))
    alice = await stage.enter("alice")

    async def flood():
        while True:
            for _ in range(50):
                mallory.send(SERVER_PEER, GroupPost(new_id(), b"sealed"))
            await trio.sleep(0.01)

    nursery.start_soon(flood)
    await stage.pass_time(0.5)
    await alice.chat.send_all("hello")
    assert 0 < len(mallory.of(Accepted)) <= 256 * 2


# --- honest work ---


async def test_300_people_behind_one_address_come_back_at_once(stage, autojump_clock, nursery, caplog):
    people = [
        RawPeer(stage.network, ("10.0.5.5", 6000 + number), identity_of(f"name-{number}")) for number in range(300)
    ]
    requests = [person.register(f"name-{number}", STAGE_KEY) for number, person in enumerate(people)]
    for person, request in zip(people, requests, strict=True):
        known = Record(request.name, *person.peer.address, online=False, since=1.0, credentials=request.credentials)
        await stage.server_store.save_name(known)
    await stage.kill_server()
    await stage.start_server()
    for person, request in zip(people, requests, strict=True):
        nursery.start_soon(person.listen)
        person.send(SERVER_PEER, request)
    await stage.pass_time(61)
    assert [len(person.of(Registered)) for person in people] == [1] * 300
    assert caplog.messages == []


async def test_one_person_sends_200_messages_of_each_kind_in_a_row(stage, autojump_clock, caplog):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    for number in range(200):
        assert (await alice.chat.send("bob", f"letter {number}")).how == "saved"
        await alice.chat.send_all(f"post {number}")
    await bob.chat.register()
    await stage.pass_time(61)
    assert len(bob.texts()) == 400
    assert caplog.messages == []


# --- what was refused ---


async def test_what_was_refused_is_logged_once_a_minute(stage, autojump_clock, nursery, caplog):
    caplog.set_level(logging.WARNING)
    mallory = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("mallory"))
    nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, mallory.register("mallory", STAGE_KEY))
    await stage.pass_time(1)
    for _ in range(1600):
        mallory.send(SERVER_PEER, GroupPost(new_id(), b"sealed"))
        await stage.pass_time(0.001)
    refused = mallory.of(Refused)
    assert {one.reason for one in refused} == {Reason.TOO_FAST}
    assert len(refused) > 1000
    await stage.pass_time(180)
    assert caplog.messages == [f"over the limit posts_per_key in the last minute: {len(refused):,} times"]


async def test_handshakes_that_were_refused_are_logged_too(stage, autojump_clock, nursery, caplog):
    stage.limits = Limits(handshakes_per_address=Rate(1, 0.001))
    await stage.kill_server()
    await stage.start_server()
    for number in range(3):
        stranger = RawPeer(stage.network, ("10.0.3.3", 6000 + number), identity_of(f"name-{number}"))
        nursery.start_soon(stranger.listen)
        stranger.send(SERVER_PEER, Find(new_id(), "alice"))
    await stage.pass_time(61)
    assert caplog.messages == ["over the limit handshakes_per_address in the last minute: 2 times"]


def test_refusals_can_only_be_read(server):
    with pytest.raises(TypeError):
        server.service.refusals["names"] = 0


# --- memory ---


def test_strangers_cannot_give_a_key_that_goes_on_over_its_limit_a_new_bucket():
    throttle = Throttle(LIMITS)
    while not throttle.pause(0.0, registrations_per_key="mallory"):
        pass
    for stranger in range(2 * KEYS_KEPT):
        assert not throttle.pause(0.0, registrations_per_key=stranger)
        if not stranger % 10_000:
            assert throttle.pause(0.0, registrations_per_key="mallory")
    assert throttle.pause(0.0, registrations_per_key="mallory")


def test_there_is_room_for_each_key_that_owns_a_name():
    throttle = Throttle(Limits(names=2 * KEYS_KEPT))
    while not throttle.pause(0.0, posts_per_key=0):
        pass
    for other in range(1, 2 * KEYS_KEPT):
        assert not throttle.pause(0.0, posts_per_key=other)
    assert throttle.pause(0.0, posts_per_key=0)


def test_nothing_is_left_of_work_that_is_done():
    throttle = Throttle(Limits(messages_in_progress=8))
    assert [throttle.begin("messages_in_progress", "alice") for _ in range(3)] == [True, True, False]
    assert throttle.begin("messages_in_progress", "bob")
    assert throttle.refusals == {"messages_in_progress": 1}
    throttle.end("messages_in_progress", "alice")
    assert throttle.begin("messages_in_progress", "alice")
