"""People behind routers that translate addresses (NAT): who reaches whom directly, and who stays online.

Virtual time (tests/stage.py), routers as RFC 4787 describes them (tests/nat.py).
"""

from contextlib import asynccontextmanager

import pytest

from tests.nat import Kind, Nat
from tests.network import Conditions, open_memory_network
from tests.stage import open_stage
from trio_chat.protocol.messages import Introduce, Introduced, Save

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
    async with alice_and_bob(*kinds) as (_, alice, bob):
        assert (await alice.chat.send("bob", "one")).how == "relayed"
        assert bob.texts() == ["one"]


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
