"""Networks that lose much, or are far away: the programs start, everything arrives once and in order, nobody gives up.

Virtual time (tests/stage.py), and one seed for the network.
"""

import pytest
import trio
import trio.testing

from tests.network import HEADERS, Conditions, open_memory_network
from tests.simulation.seed import fixed_by
from tests.stage import SERVER, identity_of, open_stage
from trio_chat.client.opening import open_chat

FAR = [0.17, 0.3, 0.48, 0.6, 0.82, 1.5]
"""Round trips in seconds."""


def far_away(round_trip, *, loss=0.0):
    return Conditions(loss=loss, delay=(round_trip / 2, round_trip / 2 + 0.001))


def run_from(seed, main):
    """Run a test in virtual time, with everything fixed by the seed: of a thousand starts one has no luck at all."""
    with fixed_by(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_of_230_messages_arrive_once_and_in_order_where_30_percent_are_lost_both_ways(seed):
    """Before: both programs ended, after the 33rd send; 9 of 30 starts failed."""

    async def main():
        async with open_memory_network(seed) as network, open_stage(network) as stage:
            network.default = Conditions(loss=0.3)
            alice, bob = await stage.enter("alice"), await stage.enter("bob")
            texts = [str(n) for n in range(230)]
            for text in texts:
                await alice.chat.send("bob", text)
            await stage.pass_time(30)
            assert bob.texts() == texts

    run_from(seed, main)


def test_all_of_30_starts_succeed_where_30_percent_are_lost_both_ways():
    """Before: 9 failed."""

    async def main():
        async with open_memory_network(1) as network, open_stage(network) as stage:
            network.default = Conditions(loss=0.3)
            people = [await stage.enter(f"user{n}") for n in range(30)]
            assert all(person.chat.online for person in people)

    run_from(1, main)


@pytest.mark.parametrize("seed", [2, 5, 15])
def test_late_starts_succeed_where_30_percent_are_lost_and_the_table_has_many_parts(seed):
    """Before: in these seeds a client gave up while the server sent the parts, and answered its heartbeats."""

    async def main():
        async with open_memory_network(seed) as network, open_stage(network) as stage:
            network.default = Conditions(loss=0.3, delay=(0.005, 0.01))
            people = [await stage.enter(f"user{n}") for n in range(40)]
            assert all(person.chat.online for person in people)

    run_from(seed, main)


@pytest.mark.parametrize("round_trip", FAR)
async def test_all_of_15_messages_are_shown_at_each_round_trip(round_trip, autojump_clock):
    """Before: from 510 ms on each was told to be saved, and never shown; from 840 ms on nobody could start."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        network.default = far_away(round_trip)
        alice, bob = await stage.enter("alice"), await stage.enter("bob")
        texts = [str(n) for n in range(15)]
        for text in texts:
            await alice.chat.send("bob", text)
        await stage.pass_time(30)
        assert bob.texts() == texts
        assert [one.online for one in alice.chat.table.values()] == [True, True]
        await stage.pass_time(120)
        assert [row.name for row in stage.changes] == ["alice", "bob"], "nobody was marked offline"


@pytest.mark.usefixtures("lower_key")
@pytest.mark.parametrize("round_trip", [0.1, 0.17, 0.25, 0.3, 0.4, 0.48])
async def test_the_first_message_goes_directly_if_the_network_is_slow(round_trip, autojump_clock):
    """Before: no ACK, and the server's way for the next 60 s, as the handshake had used up the window."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        network.default = far_away(round_trip)
        alice, bob = await stage.enter("alice"), await stage.enter("bob")
        assert (await alice.chat.send("bob", "hi")).how == "direct"
        await stage.pass_time(5)
        assert bob.texts() == ["hi"]


@pytest.mark.usefixtures("lower_key")
async def test_a_detour_ends_when_the_other_writes_directly(autojump_clock):
    """Before: by the server for 60 s, whatever came from them."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        alice, bob = await stage.enter("alice"), await stage.enter("bob")
        network.cut(alice.host, bob.host)
        assert (await alice.chat.send("bob", "one")).how == "relayed"
        network.heal()
        assert (await alice.chat.send("bob", "two")).how == "relayed"
        assert (await bob.chat.send("alice", "three")).how == "direct"
        assert (await alice.chat.send("bob", "four")).how == "direct"
        assert bob.texts() == ["one", "two", "four"]


async def test_a_server_that_moves_is_found_where_its_name_is_then(autojump_clock):
    """Before: never found again."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        network.names["chat"] = [SERVER[0]]
        own = {"identity": identity_of("alice"), "network": network, "reconnect": True}
        async with open_chat("alice", ("chat", SERVER[1]), host="10.0.1.1", **own) as alice:
            await stage.kill_server()
            network.names["chat"] = []  # for a while it has no address at all
            await stage.pass_time(60)
            stage.host = "10.0.0.9"
            network.names["chat"] = [stage.host]
            await stage.start_server()
            await stage.pass_time(15)
            assert (await alice.send_all("hi")) is None


SLOW = Conditions(rate=8000.0, delay=(0.01, 0.01), queue=20_000)
"""64 kbit/s, with a queue of 2.5 s."""
LONG = "x" * 16_384


SEALED = 1350
"""Bytes of a letter of 1 KB: sealed, with its entry, in parts, with their headers."""


def bytes_sent(network, since, host):
    return sum(len(one.data) + HEADERS for one in network.log if one.time >= since and one.destination[0] == host)


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_text_of_16_kib_passes_at_64_kbit_a_second_in_under_4_s(is_away, autojump_clock):
    """Before: it ended its sender, and 306 KiB were sent for it."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        alice, bob = await stage.enter("alice"), await stage.enter("bob")
        if is_away:
            await bob.chat.deregister()
        await stage.pass_time(1)
        network.set(SLOW, alice.host)
        network.set(SLOW, None, alice.host)
        began = trio.current_time()
        assert (await alice.chat.send("bob", LONG)).how == ("saved" if is_away else "direct")
        assert trio.current_time() - began < 4
        assert bytes_sent(network, began, SERVER[0] if is_away else bob.host) < 1.5 * len(LONG)


async def test_20_letters_of_1_kb_arrive_in_under_8_s_on_return_at_64_kbit_a_second(autojump_clock):
    """Before: 10 arrived, the same batch again and again, 324 KiB in 60 s."""
    async with open_memory_network(1) as network, open_stage(network) as stage:
        alice, bob = await stage.enter("alice"), await stage.enter("bob")
        await bob.chat.deregister()
        texts = [f"{n} ".ljust(1024, ".") for n in range(20)]
        for text in texts:
            await alice.chat.send("bob", text)
        await stage.pass_time(1)
        network.set(SLOW, bob.host)
        network.set(SLOW, None, bob.host)
        began = trio.current_time()
        await bob.chat.register()
        await stage.pass_time(8 - (trio.current_time() - began))
        assert bob.texts() == texts
        assert bytes_sent(network, began, bob.host) < 1.5 * 20 * SEALED
