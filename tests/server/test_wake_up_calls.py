"""After a restart of the server its clients are registered again soon, and do not come as one storm.

Time is virtual: everything happens in the same order in each run, and times are exact.
"""

import secrets
from collections import Counter
from itertools import pairwise

import pytest
import trio

from tests.network import Conditions
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER
from trio_chat.client.own_address import HEARTBEAT_EVERY
from trio_chat.link.events import ServerCalled
from trio_chat.link.links import RESET_PAUSE, Links
from trio_chat.link.packets import Init, Resp, WakeUpCall
from trio_chat.protocol.messages import Heartbeat, Register, Registered
from trio_chat.server.service import SILENCE_LIMIT
from trio_chat.server.wake_up_calls import CALL_ROUNDS, NOTE_EVERY
from trio_chat.storage.server_memory import MemoryServerStore

CALLED = WakeUpCall().encode()


def calls(stage, host=None):
    """When the server has called this host, or all."""
    lines = [line for line in stage.network.log if line.data == CALLED and host in (None, line.destination[0])]
    assert {line.source for line in lines} <= {SERVER}
    return [line.time for line in lines]


def online(stage):
    """Who has come since the last start, by the server's changes."""
    return {record.name for record in stage.changes if record.online}


async def restart(stage):
    await stage.kill_server()
    stage.changes.clear()
    stage.network.log.clear()
    await stage.start_server()


async def test_after_a_restart_everybody_is_registered_again_at_once(stage, autojump_clock):
    stage.network.default = Conditions(delay=(0.001, 0.002))
    people = [await stage.enter(f"user{n}") for n in range(5)]
    await stage.pass_time(1)
    await restart(stage)
    await stage.pass_time(0.2)
    assert online(stage) == {one.chat.name for one in people}
    await stage.pass_time(10)
    assert len(calls(stage)) == len(people), "each once"
    assert all(one.received == [] for one in people), "nobody was told anything"
    assert (await people[0].chat.send("user1", "hi")).how == "direct"


async def test_since_when_somebody_is_away_survives_a_restart(stage, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await stage.pass_time(100)
    await bob.chat.deregister()
    left_at = trio.current_time()
    await stage.pass_time(100)
    await carol.kill()
    await restart(stage)
    restarted_at = trio.current_time()
    await stage.pass_time(1)
    since = {one.name: (one.online, one.since) for one in await alice.chat.everybody()}
    assert since["bob"] == (False, pytest.approx(left_at, abs=0.1))
    assert since["carol"] == (False, pytest.approx(restarted_at, abs=0.1)), "they went with the server, or before it"


async def test_also_after_an_hour(stage, autojump_clock):
    """Clients wait for 5 s between two tries to reach a silent server."""
    await stage.enter("alice", reconnect=True)
    await stage.kill_server()
    await stage.pass_time(3602)
    stage.changes.clear()
    await stage.start_server()
    await stage.pass_time(1)
    assert online(stage) == {"alice"}


async def test_who_has_left_is_not_called_and_who_was_there_at_the_kill_is(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(2 * NOTE_EVERY)
    await stage.enter("carol")  # noted with the name itself, not a little later
    await restart(stage)
    await stage.pass_time(1)
    assert calls(stage, bob.host) == []
    assert online(stage) == {"alice", "carol"}
    assert alice.chat.online


async def test_who_has_moved_is_called_at_the_new_address(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.network.translate((alice.host, 6000), ("10.0.8.8", 7000))
    await stage.pass_time(HEARTBEAT_EVERY + 2 * NOTE_EVERY)
    await restart(stage)
    await stage.pass_time(1)
    assert (calls(stage, alice.host), len(calls(stage, "10.0.8.8"))) == ([], 1)
    assert online(stage) == {"alice"}


async def test_lost_calls_are_repeated_and_nobody_is_called_for_ever(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.kill()
    lost = []

    def lose_first(data, source, destination):
        if data == CALLED and destination[0] == alice.host and not lost:
            lost.append(data)
            return False
        return True

    stage.network.filters.append(lose_first)
    await restart(stage)
    await stage.pass_time(2)
    assert online(stage) == {"alice"}
    await stage.pass_time(10)
    assert [name for name, _ in await stage.server_store.online()] == ["alice", "bob"], "they would be called once more"
    await stage.pass_time(SILENCE_LIMIT)
    assert (len(calls(stage, alice.host)), len(calls(stage, bob.host))) == (2, CALL_ROUNDS)
    assert all(later - before >= RESET_PAUSE for before, later in pairwise(calls(stage, bob.host))), (
        "or it is not heard"
    )
    await restart(stage)
    await stage.pass_time(5)
    assert calls(stage, bob.host) == [], "they did not come back, and count as gone"


async def test_a_server_that_is_killed_again_at_once_still_calls_everybody(stage, autojump_clock):
    await stage.enter("alice")
    stage.network.filters.append(lambda data, *_: data != CALLED or trio.current_time() >= healed)
    healed = trio.current_time() + 1000
    for _ in range(3):
        await restart(stage)
        await stage.pass_time(1)
    healed = trio.current_time()
    await restart(stage)
    await stage.pass_time(1)
    assert online(stage) == {"alice"}


async def test_of_a_registration_that_was_gone_before_it_was_stored_nothing_is_left(stage, autojump_clock):
    class SlowStore(MemoryServerStore):
        async def save_name(self, record, invitation=b""):
            await trio.sleep(2.5 * NOTE_EVERY)
            return await super().save_name(record, invitation)

    await stage.kill_server()
    await stage.start_server(SlowStore())
    alice = RawPeer(stage.network, ("10.0.3.3", 6000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.listen)
        alice.send(SERVER_PEER, alice.register("alice", SERVER_KEY, program=bytes(16)))
        await stage.pass_time(0.1)
        alice.send(SERVER_PEER, alice.register("alice2", SERVER_KEY, program=bytes(16)))
        await stage.pass_time(4.5 * NOTE_EVERY)
        nursery.cancel_scope.cancel()
    assert [name for name, _ in await stage.server_store.online()] == ["alice2"]


async def test_a_thousand_clients_do_not_come_as_one_storm(stage, autojump_clock, nursery):
    """Only their links: to send a thousand tables to each other would take a minute."""
    await stage.kill_server()
    peers = [Returning(stage.network, (f"10.1.{n // 200}.{1 + n % 200}", 6000)) for n in range(1000)]
    for peer in peers:
        nursery.start_soon(peer.listen)
    await stage.server_store.note_online({f"user{n}": peer.socket.address for n, peer in enumerate(peers)})
    began = trio.current_time()
    await stage.start_server()
    await stage.pass_time(1.5)
    answers = [line.time for line in stage.network.log if line.data[0] == Resp.kind and line.source == SERVER]
    handshakes = Counter(round((at - began) * 10 - 0.499) for at in answers)
    assert sum(handshakes.values()) == 1000
    assert max(handshakes.values()) <= 100
    assert sum(peer.called for peer in peers) == 1000


async def test_fifty_clients_are_registered_again_within_half_a_second(stage, autojump_clock, nursery):
    stage.network.default = Conditions(delay=(0.001, 0.01))
    peers = [Returning(stage.network, (f"10.1.0.{1 + n}", 6000), f"user{n}") for n in range(50)]
    for peer in peers:
        nursery.start_soon(peer.listen)
        peer.enter()
    await stage.pass_time(0.5)
    assert all(peer.of(Registered) for peer in peers)
    for peer in peers:
        peer.received.clear()
    await restart(stage)
    await stage.pass_time(0.5)
    assert all(peer.of(Registered) for peer in peers)


class Returning(RawPeer):
    """Registers its name, if it has one, at each call; a client finds out by a heartbeat that it has to."""

    def __init__(self, network, address, name="") -> None:
        super().__init__(network, address)
        self.links = Links(self.identity.link, secrets.token_bytes, server=lambda: SERVER_PEER)
        self.name = name
        self.called = 0

    def enter(self) -> None:
        self.send(SERVER_PEER, self.register(self.name, SERVER_KEY))

    def _do(self, steps) -> None:
        super()._do(steps)
        if any(isinstance(step, ServerCalled) for step in steps):
            self.called += 1
            if self.name:
                self.enter()


# --- forged calls ---


async def test_forged_calls_cost_a_handshake_and_a_heartbeat_a_second_and_nothing_else(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.network.log.clear()
    before = len(stage.changes)
    for number in range(1000):
        stage.network.inject(CALLED, SERVER, (alice.host, 6000))
        stage.network.inject(CALLED, (bob.host, 6000), (alice.host, 6000))
        await stage.pass_time(0.01)
        if number % 250 == 0:
            assert (await bob.chat.send("alice", "hi")).how == "direct"
    sent = [line.data[0] for line in stage.network.log if line.source[0] == alice.host and line.destination == SERVER]
    assert sent.count(Init.kind) <= 2 * 11, "each once without and once with a cookie"
    assert len(stage.sent(Heartbeat, source=alice.host)) <= 11
    assert stage.sent(Register) == []
    assert stage.changes[before:] == []
    assert alice.chat.online


async def test_nobody_can_use_a_server_to_call_others(stage, autojump_clock):
    """Only addresses are called at which somebody has registered, each with 8 bytes, much less than that took."""
    mallory = RawPeer(stage.network, ("10.0.3.3", 6000))
    mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY))
    init = next(line.data for line in stage.network.log if line.source == ("10.0.3.3", 6000))
    for n in range(100):
        stage.network.inject(init, ("10.0.4.4", 6000 + n), SERVER)
    await stage.pass_time(2)
    await restart(stage)
    await stage.pass_time(5)
    assert calls(stage) == []
    assert len(CALLED) < len(init)


@pytest.mark.parametrize("answers", [False, True])
async def test_a_call_does_not_sign_off_a_client_that_is_registered(stage, autojump_clock, answers):
    """Its heartbeat is answered with an Ack, or not at all: then it goes on as before."""
    alice = await stage.enter("alice", reconnect=True)
    if not answers:
        stage.network.cut(alice.host, SERVER[0])
    stage.network.inject(CALLED, SERVER, (alice.host, 6000))
    await stage.pass_time(3)
    assert alice.chat.online
    assert alice.received == []
