"""Who is online: registrations, owners of names, takeovers, probes, heartbeats, and returns.

In virtual time, over the network in memory (tests/stage.py).
"""

from collections import Counter
from functools import partial

import pytest
import trio

from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER, identity_of
from trio_chat.client.events import SignedOff
from trio_chat.client.opening import open_chat
from trio_chat.errors import InvalidName, NameTaken, NotRegistered, ServerNotResponding, SignedInElsewhere
from trio_chat.link.packets import VERSION, Hello, WakeUpCall
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.messages import (
    Batch,
    Deregister,
    Deregistered,
    Elsewhere,
    Heartbeat,
    Register,
    Registered,
    SessionEnded,
    TableChange,
)
from trio_chat.storage.server_memory import MemoryServerStore


def comings_and_goings(stage, name):
    return [record.online for record in stage.changes if record.name == name]


async def test_a_registration_fails_after_five_windows_without_an_answer(stage, autojump_clock):
    await stage.kill_server()
    await stage.pass_time(1)
    began = trio.current_time()
    with pytest.raises(ServerNotResponding):
        async with open_chat("alice", SERVER, network=stage.network):
            pass  # pragma: no cover
    assert trio.current_time() - began == pytest.approx(2.5)
    versions = Counter(line.data[1] for line in stage.network.log if line.data[0] == Hello.kind)
    assert versions == {VERSION: 15, 0: 14}, "each but the first also for older servers"


async def test_four_lost_answers_are_no_reason_to_give_up(stage, autojump_clock):
    stage.lose(lambda message, *_: isinstance(message, Registered), times=4)
    alice = await stage.enter("alice")
    assert alice.chat.online
    assert len({request.id for request in stage.sent(Register)}) == 1
    assert comings_and_goings(stage, "alice") == [True]


async def test_leaving_the_block_deregisters_and_a_kill_does_not(stage, autojump_clock):
    async with open_chat("alice", SERVER, network=stage.network):
        pass
    assert comings_and_goings(stage, "alice") == [True, False]

    with pytest.raises(ZeroDivisionError):
        async with open_chat("bob", SERVER, network=stage.network):
            1 / 0  # noqa: B018
    assert comings_and_goings(stage, "bob") == [True]


async def test_invalid_names_are_refused(stage, autojump_clock):
    for name in ("", "x\n", "a" * 33, "-x", "x y", "é", "x\x00"):
        with pytest.raises(InvalidName):
            async with open_chat(name, SERVER, network=stage.network):
                pass  # pragma: no cover
    alice = await stage.enter("Al.ice_1-2")
    with pytest.raises(InvalidName):
        await alice.chat.send("bob\n", "hi")


async def test_a_name_belongs_to_its_first_key_in_any_case_online_or_not(stage, autojump_clock):
    alice = await stage.enter("alice")
    for name in ("alice", "ALICE", "alice", "Alice"):
        began = trio.current_time()
        with pytest.raises(NameTaken):
            async with open_chat(name, SERVER, host="10.0.2.2", network=stage.network):
                pass  # pragma: no cover
        assert trio.current_time() == began, "the server refuses at once"
        if name == "ALICE":
            await alice.chat.deregister()
    assert comings_and_goings(stage, "alice") == [True, False]


async def test_of_two_people_who_want_a_name_at_the_same_moment_one_gets_it(stage, autojump_clock, nursery):
    outcomes = []

    async def newcomer(host):
        try:
            async with open_chat("alice", SERVER, host=host, network=stage.network):
                outcomes.append("in")
                await stage.pass_time(10)
        except NameTaken:
            outcomes.append("taken")

    nursery.start_soon(newcomer, "10.0.2.1")
    nursery.start_soon(newcomer, "10.0.2.2")
    await stage.pass_time(6)
    assert sorted(outcomes) == ["in", "taken"]


async def test_the_owner_takes_over_from_another_address_and_the_older_program_signs_off(stage, autojump_clock):
    bob, old = await stage.enter("bob"), await stage.enter("alice")
    new = await stage.enter("alice", host="10.0.2.2")
    await stage.pass_time(1)
    (event,) = old.received
    assert isinstance(event, SignedOff)
    assert isinstance(event.error, SignedInElsewhere)
    assert not old.chat.online
    await stage.pass_time(100)
    assert comings_and_goings(stage, "alice") == [True, True]
    assert bob.chat.table["alice"].host == "10.0.2.2"
    assert (await bob.chat.send("alice", "hi")).how == "direct"
    await stage.pass_time(0.1)
    assert new.texts() == ["hi"]


async def test_a_program_without_network_during_a_takeover_signs_off_afterwards(stage, autojump_clock):
    old = await stage.enter("alice")
    stage.network.cut(old.host)
    new = await stage.enter("alice", host="10.0.2.2")
    await stage.pass_time(300)
    stage.network.heal()
    await stage.pass_time(30)
    assert [type(event.error) for event in old.received] == [SignedInElsewhere]
    assert not old.chat.online
    assert new.chat.online
    assert comings_and_goings(stage, "alice") == [True, True]


async def test_a_delayed_registration_takes_nothing_from_a_newer_program(stage, autojump_clock, nursery):
    """The program that sent it was killed, and started again before it arrived."""
    late = []

    def is_late(data, source, destination):
        if stage.tap.carries(data, Register) and not late:
            late.append((data, source, destination))
            return False
        return True

    stage.network.filters.append(is_late)
    nursery.start_soon(stage.enter, "bob")
    old = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("alice"))
    listening = trio.CancelScope()

    async def listen():
        with listening:
            await old.listen()

    nursery.start_soon(listen)
    await stage.pass_time(3)
    late.clear()
    old.send(SERVER_PEER, old.register("alice", SERVER_KEY))
    await stage.pass_time(0.1)
    assert late
    listening.cancel()
    old.socket.close()
    for host in ("10.0.3.3", "10.0.3.4"):
        new = await stage.enter("alice", host=host)
        stage.network.inject(*late[0])
        await stage.pass_time(10)
        assert new.received == []
        assert new.chat.online
        await new.kill()
        await stage.pass_time(70)


async def test_a_late_takeover_does_not_end_the_registration_after_it(stage, autojump_clock):
    old = await stage.enter("alice")
    stage.lose(lambda message, *_: isinstance(message, SessionEnded), times=3)
    new = await stage.enter("alice", host="10.0.2.2")
    await old.chat.register()  # by hand: that takes the name back
    await stage.pass_time(5)
    assert old.chat.online
    assert not new.chat.online
    assert old.received == []


async def test_one_address_has_a_share_of_the_registrations_in_progress_and_its_next_ones_follow(
    stage, autojump_clock, nursery
):
    class SlowStore(MemoryServerStore):
        async def save_name(self, record, invitation=b""):
            started.append(record.name)
            waiting = await super().save_name(record, invitation)
            await trio.sleep(1)
            return waiting

    started = []
    stage.limits = Limits(registrations_in_progress=12)
    await stage.kill_server()
    await stage.start_server(SlowStore())
    alice = await stage.enter("alice")
    impatient = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("mallory"))
    nursery.start_soon(impatient.listen)
    for _ in range(10):
        impatient.send(SERVER_PEER, impatient.register("mallory", SERVER_KEY, program=bytes(16)))
        await stage.pass_time(0.01)
    assert started == ["alice", "mallory", "mallory", "mallory"]
    assert (await alice.chat.send_all("hello")) is None, "only registrations wait"
    began = trio.current_time()
    await stage.enter("bob")
    assert trio.current_time() - began == pytest.approx(1), "as long as the store needs"
    impatient.send(SERVER_PEER, impatient.register("mallory", SERVER_KEY, program=bytes(16)))
    await stage.pass_time(1.1)
    assert len(impatient.of(Registered)) == 4


async def test_an_owner_who_takes_over_their_own_name_again_and_again_keeps_nobody_out(stage, autojump_clock, nursery):
    stage.limits = Limits(registrations_in_progress=30, registrations_per_key=Rate(1000, 1000))
    await stage.kill_server()
    await stage.start_server()
    programs = [RawPeer(stage.network, (f"10.0.3.{n}", 6000), identity_of("mallory")) for n in range(2, 102)]

    async def take_over():
        # No program acknowledges that it was replaced: the server tells each of them again, for five windows.
        while True:
            for program in programs:
                program.send(SERVER_PEER, program.register("mallory", SERVER_KEY))
                await trio.sleep(0.013)
                at = program.of(Elsewhere)[-1].at if program.of(Elsewhere) else 0.0
                program.send(SERVER_PEER, program.register("mallory", SERVER_KEY, takeover_at=at))
                await trio.sleep(0.013)

    for program in programs:
        nursery.start_soon(program.listen)
    nursery.start_soon(take_over)
    await stage.pass_time(3)  # longer than the server tells anybody of a takeover
    # Not more: one key has four sessions at a time.
    assert sum(len(program.of(Registered)) for program in programs) > 50
    began = trio.current_time()
    await stage.enter("bob")
    assert trio.current_time() - began < 0.5


async def test_the_same_address_replaces_at_once(stage, autojump_clock):
    old = await stage.enter("alice")
    await old.kill()
    began = trio.current_time()
    await stage.enter("alice", host=old.host)
    assert trio.current_time() == began
    assert all(comings_and_goings(stage, "alice"))


async def test_another_name_with_the_same_keys_ends_the_first(stage, autojump_clock):
    old = await stage.enter("alice")
    await stage.enter("bob", identity=identity_of("alice"))
    await stage.pass_time(1)
    assert comings_and_goings(stage, "alice") == [True, False]
    assert not old.chat.online


async def test_two_clients_that_swap_ports(stage, autojump_clock):
    carol = await stage.enter("carol")
    alice = await stage.enter("alice", host="10.0.3.3", port=1)
    bob = await stage.enter("bob", host="10.0.3.3", port=2)
    await stage.pass_time(1)
    stage.lose(lambda message, _, to: isinstance(message, TableChange) and to[0] == carol.host)
    await alice.kill()
    await bob.kill()
    await stage.pass_time(1)
    bob = await stage.enter("bob", host="10.0.3.3", port=1)
    alice = await stage.enter("alice", host="10.0.3.3", port=2)

    assert carol.chat.table["alice"].port == 1, "carol has not received the change"
    assert (await carol.chat.send("alice", "for alice")).how == "relayed"
    assert (await carol.chat.send("bob", "for bob")).how == "relayed"
    await alice.chat.send_all("hello")
    await stage.pass_time(3)
    assert alice.texts() == ["for alice"]
    assert bob.texts() == ["for bob", "hello"]
    assert alice.chat.table["alice"].online
    assert bob.chat.table["bob"].online


async def test_a_dead_client_is_marked_offline_after_five_silent_probes_and_not_before(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.kill()
    began = trio.current_time()
    await alice.chat.send_all("is anyone there?")
    await stage.pass_time(10)
    gone = next(record for record in stage.changes if record.name == "bob" and not record.online)
    # One window of the delivery, five of probes.
    assert gone.since - began == pytest.approx(6 * 0.5, abs=0.01)
    assert not alice.chat.table["bob"].online


async def test_a_client_that_answers_one_probe_stays_online(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, Batch), times=6)
    stage.lose(lambda message, *_: isinstance(message, Heartbeat), times=14)
    await alice.chat.send_all("hello")
    await stage.pass_time(6)
    assert bob.texts() == ["hello"]
    assert comings_and_goings(stage, "bob") == [True]


async def test_65_seconds_without_a_heartbeat_mark_offline(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(9)
    await bob.kill()
    await stage.pass_time(64 - 9)
    assert alice.chat.table["bob"].online
    await stage.pass_time(10)
    assert not alice.chat.table["bob"].online
    await stage.pass_time(300)
    assert comings_and_goings(stage, "alice") == [True]


async def test_a_client_registers_again_if_the_server_restarts_before_it_sends_the_table(
    stage, autojump_clock, nursery
):
    entered = []

    async def enter():
        entered.append(await stage.enter("alice"))

    stage.lose(lambda message, *_: isinstance(message, TableChange), times=1)
    nursery.start_soon(enter)
    await stage.pass_time(0.05)
    assert stage.sent(Registered)
    assert not entered
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(2.5)
    assert entered[0].chat.online
    assert "alice" in entered[0].chat.table


async def test_a_client_wrongly_marked_offline_comes_back_by_itself(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(bob.host)
    await alice.chat.send_all("hello")
    await stage.pass_time(6)
    assert not alice.chat.table["bob"].online
    assert bob.chat.online, "bob has noticed nothing"
    stage.network.heal()
    await stage.pass_time(20)
    assert alice.chat.table["bob"].online
    assert bob.texts() == ["hello"]
    await stage.pass_time(200)
    assert comings_and_goings(stage, "bob") == [True, False, True]


async def test_a_client_wrongly_marked_offline_sends_without_noticing(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(bob.host)
    await alice.chat.send_all("hello")
    await stage.pass_time(6)
    stage.network.heal()
    stage.network.cut(alice.host, bob.host)  # not directly
    assert (await bob.chat.send("alice", "still here")).how == "relayed"
    await stage.pass_time(0.1)
    assert alice.texts() == ["still here"]
    assert alice.chat.table["bob"].online


async def test_after_a_server_restart_clients_register_again_by_themselves(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.kill_server()
    await stage.start_server()
    assert len(stage.changes) == 2, "everyone is offline until they register"
    await alice.chat.send_all("hello")
    await stage.pass_time(25)
    assert bob.texts() == ["hello"]
    assert {name: record.online for name, record in alice.chat.table.items()} == {"alice": True, "bob": True}
    assert alice.chat.table.version == bob.chat.table.version


async def test_a_restarted_server_answers_within_the_first_window(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.kill_server()
    await stage.start_server()
    began = trio.current_time()
    await alice.chat.send_all("hello")
    assert trio.current_time() - began < 0.1
    await stage.pass_time(25)
    assert bob.texts() == ["hello"]


async def test_a_client_whose_name_was_taken_during_a_restart_signs_off(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.network.filters.append(lambda data, *_: data[0] != WakeUpCall.kind)
    await stage.kill_server()
    await stage.server_store.forget("alice")
    await stage.start_server()
    await stage.enter("alice", host="10.0.2.2", identity=identity_of("somebody else"))
    await stage.pass_time(25)
    (event,) = alice.received
    assert isinstance(event, SignedOff)
    assert isinstance(event.error, NameTaken)
    assert not alice.chat.online
    with pytest.raises(NotRegistered):
        await alice.chat.send_all("hello")


async def test_probes_of_an_old_session_do_not_mark_a_new_one_offline(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.kill()
    await alice.chat.send_all("hello")
    await stage.pass_time(2.8)  # the last probe is in its window
    back = await stage.enter("bob", host=bob.host)
    await stage.pass_time(10)
    assert comings_and_goings(stage, "bob") == [True, True]
    assert back.texts() == ["hello"]


async def test_the_lost_answer_to_a_deregistration_is_repeated(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.lose(lambda message, *_: isinstance(message, Deregistered), times=4)
    await alice.chat.deregister()
    assert not alice.chat.online
    assert comings_and_goings(stage, "alice") == [True, False]
    with pytest.raises(NotRegistered):
        await alice.chat.deregister()


async def test_a_client_answers_everything_until_it_has_deregistered(stage, autojump_clock, nursery):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, Deregister | Deregistered), times=3)
    nursery.start_soon(bob.chat.deregister)
    await stage.pass_time(0.2)
    assert (await alice.chat.send("bob", "just in time")).how == "direct"
    await stage.pass_time(3)
    assert bob.texts() == ["just in time"]
    assert (await alice.chat.send("bob", "too late")).how == "saved"


async def test_leaving_a_server_that_forgot_us_is_no_failure(stage, autojump_clock):
    alice = await stage.enter("alice")
    await stage.kill_server()
    await stage.start_server()
    await alice.chat.deregister()
    assert not alice.chat.online


async def test_leaving_a_dead_server_fails_and_changes_nothing(stage, autojump_clock):
    alice = await stage.enter("alice")
    await stage.kill_server()
    await stage.pass_time(1)
    with pytest.raises(ServerNotResponding):
        await alice.chat.deregister()
    assert alice.chat.online


async def test_a_late_copy_of_a_registration_changes_nothing(stage, autojump_clock):
    alice = await stage.enter("alice")
    (register,) = stage.sent(Register)
    await alice.chat.deregister()
    again = await alice.chat._context.endpoint.request(SERVER_PEER, register)
    await stage.pass_time(1)
    assert comings_and_goings(stage, "alice") == [True, False]
    assert isinstance(again, Registered), "the stored answer is repeated"


async def test_100_registrations_at_once(stage, autojump_clock):
    people = []

    async def enter(name):
        people.append(await stage.enter(name))

    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(enter, f"user{n}")
    assert len(people) == 100
    await stage.pass_time(3)
    assert {person.chat.table.version for person in people} == {people[0].chat.table.version}
    assert len(people[0].chat.table) == 100
    assert [record.online for record in stage.changes] == [True] * 100
    rounds = sum(person.table_changes for person in people)
    assert rounds < 100 * 33, "changes in a burst travel together"


async def test_a_host_name_with_several_addresses_finds_the_one_that_answers(stage, autojump_clock):
    stage.network.names["chat.example"] = ["10.9.9.9", SERVER[0], "10.9.9.8"]
    async with open_chat("alice", ("chat.example", SERVER[1]), network=stage.network) as chat:
        assert chat.online
    assert trio.current_time() < 0.1
    assert {line.destination[0] for line in stage.network.log if line.data[0] == Hello.kind} == {
        "10.9.9.9",
        SERVER[0],
        "10.9.9.8",
    }


async def test_many_tasks_that_wait_for_the_server_find_it_again(stage, autojump_clock, nursery):
    bob = await stage.enter("bob")

    async def patient():
        async with open_chat("alice", SERVER, reconnect=True, network=stage.network, host="10.0.2.2") as chat:
            await trio.sleep(2)
            async with trio.open_nursery() as talk:
                for n in range(5):
                    talk.start_soon(send_some, chat, n)

    async def send_some(chat, n):
        await trio.sleep(n / 7)
        await chat.outbox.put_in_room("everyone", f"{n}")
        with pytest.raises(ServerNotResponding):
            await chat.rooms()
        while not chat.online or chat.outbox.waiting():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(1)
        assert len(await chat.rooms()) == 1

    nursery.start_soon(patient)
    await stage.pass_time(1)
    await stage.kill_server()
    await stage.pass_time(9.7)
    await stage.start_server()
    await stage.pass_time(60)
    assert bob.texts() == [f"{n}" for n in range(5)]


async def test_registering_twice_is_harmless(stage, autojump_clock):
    alice = await stage.enter("alice")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(partial(alice.chat.register))
    await stage.pass_time(1)
    assert alice.chat.table["alice"].online
