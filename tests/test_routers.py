"""People behind routers that translate addresses (NAT): who reaches whom directly, and who stays online.

Virtual time (tests/stage.py), routers as RFC 4787 describes them (tests/nat.py).
"""

from contextlib import asynccontextmanager

import pytest
import trio

from tests.client.raw_server import EPOCH, RawServer, credentials_of, open_client
from tests.nat import Kind, Nat
from tests.network import Conditions, open_memory_network
from tests.raw_peer import RawPeer
from tests.stage import SERVER_KEY, SERVER_PEER, identity_of, open_stage
from trio_chat.client.opening import open_chat
from trio_chat.crypto.addresses import seal_address
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.messages import Heartbeat, Introduce, Introduced, Registered, Save, TableChange
from trio_chat.protocol.records import Record, Version
from trio_chat.server.server import serve_chat
from trio_chat.transport.ids import new_id
from trio_chat.transport.udp import own_addresses

pytestmark = pytest.mark.usefixtures("lower_key")

CONE, RESTRICTED, SYMMETRIC = Kind.FULL_CONE, Kind.PORT_RESTRICTED, Kind.SYMMETRIC


@asynccontextmanager
async def alice_and_bob(*kinds, delay=0.02, **nat):
    """The two, each behind a router of such a kind of their own, or None."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        network.default = Conditions(delay=(delay, delay + 0.001))
        people = []
        for number, (name, kind) in enumerate(zip(("alice", "bob"), kinds, strict=True)):
            host = f"192.168.{number}.2"
            if kind:
                network.put_behind(Nat(f"203.0.113.{number}", kind, **nat), host)
            people.append(await stage.enter(name, host=host))
        yield stage, *people


@pytest.mark.parametrize("seen_from", ["alice", "bob"])
@pytest.mark.parametrize(
    "kinds", [(None, None), (CONE, CONE), (None, RESTRICTED), (RESTRICTED, None), (RESTRICTED, RESTRICTED)]
)
async def test_messages_go_directly_from_the_first_one_on(kinds, seen_from, autojump_clock):
    """Before: behind two routers that let in only answers, those of the one who began went by the server."""
    async with alice_and_bob(*kinds) as (_, alice, bob):
        sender, reader = (alice, bob) if seen_from == "alice" else (bob, alice)
        texts = ["one", "two", "three"]
        assert [(await sender.chat.send(reader.chat.name, text)).how for text in texts] == ["direct"] * 3
        assert (await reader.chat.send(sender.chat.name, "four")).how == "direct"
        assert reader.texts() == texts


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15])
async def test_if_they_are_far_away_at_least_from_the_second_one_on(delay, autojump_clock):
    async with alice_and_bob(RESTRICTED, RESTRICTED, delay=delay) as (stage, alice, bob):
        await alice.chat.send("bob", "one")
        await stage.pass_time(1)
        assert (await alice.chat.send("bob", "two")).how == "direct"
        assert bob.texts() == ["one", "two"]


async def test_a_link_that_a_router_has_forgotten_is_opened_again(autojump_clock):
    async with alice_and_bob(RESTRICTED, RESTRICTED, lasts=30) as (stage, alice, _):
        assert (await alice.chat.send("bob", "one")).how == "direct"
        await stage.pass_time(3600)
        assert (await alice.chat.send("bob", "two")).how == "direct"


@pytest.mark.parametrize("kinds", [(SYMMETRIC, SYMMETRIC), (RESTRICTED, SYMMETRIC)])
async def test_behind_a_router_with_another_address_for_each_messages_go_by_the_server(kinds, autojump_clock):
    """Nobody knows the address from which such a router lets in what is sent to it."""
    async with alice_and_bob(*kinds) as (stage, alice, bob):
        for text in ("one", "two"):
            assert (await alice.chat.send("bob", text)).how == "relayed"
            await stage.pass_time(1)
        assert bob.texts() == ["one", "two"]


@pytest.mark.parametrize("kind", [None, CONE])
async def test_who_is_behind_such_a_router_and_those_who_are_reached_by_all_write_directly(kind, autojump_clock):
    """To them from the second message on: they have sent to us then, from the address that we need."""
    async with alice_and_bob(kind, SYMMETRIC, lasts=60) as (stage, alice, bob):
        assert (await alice.chat.send("bob", "one")).how == "relayed"
        for text in ("two", "three"):
            assert (await alice.chat.send("bob", text)).how == "direct"
        assert (await bob.chat.send("alice", "four")).how == "direct"
        await stage.pass_time(600)  # their router has forgotten us meanwhile
        await alice.chat.send("bob", "five")
        assert (await alice.chat.send("bob", "six")).how == "direct"
        assert bob.texts() == ["one", "two", "three", "five", "six"]


@pytest.mark.parametrize("hairpin", [False, True])
async def test_two_behind_one_router_write_directly(hairpin, autojump_clock):
    """The server, which is outside, sees both at the same address. It does not learn those that they have inside."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        nat = Nat("203.0.113.0", hairpin=hairpin)
        inside = ("192.168.0.2", "192.168.0.3")
        for host in inside:
            network.put_behind(nat, host)
        alice, bob = await stage.enter("alice", host=inside[0]), await stage.enter("bob", host=inside[1])
        assert (await alice.chat.send("bob", "one")).how == ("direct" if hairpin else "relayed")
        for text in ("two", "three"):
            assert (await alice.chat.send("bob", text)).how == "direct"
        assert (await bob.chat.send("alice", "four")).how == "direct"
        assert bob.texts() == ["one", "two", "three"]
        assert not any(host.encode() in message.at for message in stage.sent(Introduce) for host in inside)


@pytest.mark.skipif(not own_addresses(), reason="this machine is in no network")
async def test_who_is_on_the_machine_of_the_server_and_others_write_directly(nursery):
    """The server sees them at 127.0.0.1. Before: all messages to them went by the server. Real sockets."""
    own = own_addresses()[0]
    _, port = await nursery.start(serve_chat, 0)
    async with open_chat("bob", ("127.0.0.1", port)), open_chat("alice", (own, port)) as alice:
        assert alice.table["bob"].host == "127.0.0.1"
        assert (await alice.send("bob", "one")).how != "direct"
        ways = []
        for _ in range(100):
            await trio.sleep(0.1)
            ways.append((await alice.send("bob", "two")).how)
            if ways[-1] == "direct":
                break
        assert ways[-1] == "direct"
    nursery.cancel_scope.cancel()


async def test_nobody_is_asked_for_if_they_answer(autojump_clock):
    async with alice_and_bob(None, None, delay=0.01) as (stage, alice, _):
        await alice.chat.send("bob", "one")
        assert stage.sent(Introduce) == []


async def test_who_is_silent_is_asked_for_a_few_times_and_then_no_more(autojump_clock):
    async with alice_and_bob(None, None) as (stage, alice, bob):
        stage.network.cut(alice.host, bob.host)
        for _ in range(20):
            await alice.chat.send("bob", "hi")
        assert len(stage.sent(Introduce)) == len(stage.sent(Introduced)) == 3
        assert len(stage.sent(Save)) == 20


# --- attacks ---


async def enter_mallory(stage):
    """A registered attacker, who sends what the test wants."""
    mallory = RawPeer(stage.network, ("10.6.6.6", 6000), identity_of("mallory"))
    stage._nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, first := mallory.register("mallory", SERVER_KEY))
    await stage.pass_time(1)
    assert mallory.of(Registered), first
    mallory.answer = lambda message: message.held(message.after) if isinstance(message, TableChange) else None
    await stage.pass_time(1)
    return mallory


async def ask_often(stage, mallory, times=2000):
    """For ten seconds; returns how many datagrams bob has sent to her meanwhile."""
    before = len(sent_from_to(stage, "192.168.1.2", "10.6.6.6"))
    for _ in range(times):
        mallory.send(SERVER_PEER, Introduce(new_id(), "bob"))
        await stage.pass_time(10 / times)
    return len(sent_from_to(stage, "192.168.1.2", "10.6.6.6")) - before


def sent_from_to(stage, source, destination):
    return [one for one in stage.network.log if (one.source[0], one.destination[0]) == (source, destination)]


async def test_who_asks_all_the_time_makes_another_send_only_a_little(autojump_clock):
    async with alice_and_bob(None, None) as (stage, _, _bob):
        mallory = await enter_mallory(stage)
        sent = await ask_often(stage, mallory)
        at_most = LIMITS.introductions_per_key.at_once + 10 * LIMITS.introductions_per_key.a_second
        assert 0 < len(stage.sent(Introduced)) <= at_most + 1
        assert sent <= at_most + 1


async def test_nobody_is_made_to_send_to_somebody_whom_they_block(autojump_clock):
    async with alice_and_bob(None, None) as (stage, _, bob):
        mallory = await enter_mallory(stage)
        await bob.chat.block("mallory")
        await stage.pass_time(1)
        assert await ask_often(stage, mallory, 20) == 0
        assert stage.sent(Introduced) == []


@pytest.mark.parametrize("at", ["192.168.1.9", "127.0.0.1", "203.0.113.9"])
@pytest.mark.parametrize("is_behind_the_same", [False, True])
async def test_nobody_sends_to_any_address_that_another_names(at, is_behind_the_same, autojump_clock):
    """Only to one of a private network, and only if both are behind the same router, as the server says."""
    async with alice_and_bob(None, RESTRICTED) as (stage, _, bob):
        mallory = await enter_mallory(stage)
        if is_behind_the_same:
            stage.network.put_behind(stage.network.nats["203.0.113.1"], "10.6.6.6")
            mallory.send(SERVER_PEER, Heartbeat(new_id(), mallory.of(Registered)[-1].since))
            await stage.pass_time(5)
        sealed = seal_address((at, 53), stage.identities["bob"].public, sender="mallory", recipient="bob")
        mallory.send(SERVER_PEER, Introduce(new_id(), "bob", sealed))
        await stage.pass_time(1)
        assert len(stage.sent(Introduced)) == 1
        sent = [one for one in stage.network.log if one.destination == (at, 53)]
        assert bool(sent) == (is_behind_the_same and at == "192.168.1.9")
        assert all(len(one.data) <= 200 for one in sent)
        assert bob.chat.online


async def test_only_the_server_introduces(autojump_clock):
    async with alice_and_bob(None, None) as (stage, alice, bob):
        mallory = await enter_mallory(stage)
        mallory.send(Peer((bob.host, 6000), stage.identities["bob"].public.link), Introduced(new_id(), "alice"))
        await stage.pass_time(1)
        assert sent_from_to(stage, bob.host, alice.host) == []


async def test_a_lying_server_cannot_have_its_clients_flood_somebody(nursery, autojump_clock):
    """It puts the address of somebody who does not chat into a row, and introduces that row all the time."""
    victim = ("10.7.7.7", 53)
    async with open_memory_network(1) as network:
        server = RawServer(network)
        nursery.start_soon(server.listen)
        async with open_client(network, "alice"):
            names = [f"carol{n}" for n in range(30)]
            rows = tuple(Record(name, *victim, True, 1.0, credentials_of(name)) for name in names)
            for n, row in enumerate(rows):
                server.send(server.client, TableChange(new_id(), Version(EPOCH, 1 + n), Version(EPOCH, 2 + n), (row,)))
                await trio.sleep(0.1)
            for n in range(3000):
                server.send(server.client, Introduced(new_id(), names[n % len(names)]))
                await trio.sleep(1 / 300)
        sent = [one for one in network.log if one.destination == victim]
        assert 0 < len(sent) <= 101
        nursery.cancel_scope.cancel()
