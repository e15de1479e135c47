"""Peers that send nonsense, that cannot be answered, or that stop at a bad moment: the others are not affected.

Virtual time, over the network in memory (tests/stage.py).
"""

import pytest
import trio

from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER
from trio_chat.client.opening import open_chat
from trio_chat.protocol.messages import Batch, Heartbeat, Save, TableChange
from trio_chat.protocol.records import Reason, Version
from trio_chat.transport.ids import new_id

LIAR = ("10.7.7.7", 7)


async def test_a_registration_from_port_0_does_not_get_into_the_table(stage, autojump_clock, nursery):
    alice = await stage.enter("alice")
    nobody = RawPeer(stage.network, LIAR)
    stage.network.filters.append(lambda data, source, _: source != LIAR or bool(from_port_0(data)))

    def from_port_0(data):
        stage.network.inject(data, (LIAR[0], 0), SERVER)

    nursery.start_soon(nobody.listen)
    nobody.send(SERVER_PEER, nobody.register("nobody", SERVER_KEY))
    await stage.pass_time(5)
    await stage.enter("bob")
    await stage.pass_time(5)
    assert set(alice.chat.table) == {"alice", "bob"}


async def test_letters_that_were_not_read_before_a_crash_are_shown_at_the_next_start(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await alice.chat.send("bob", "one")
    await bob.kill()
    unread = await stage.enter("bob", store=bob.store, listening=False)
    await stage.pass_time(1)
    await unread.kill()
    back = await stage.enter("bob", store=bob.store)
    await stage.pass_time(5)
    assert back.texts() == ["one"]


@pytest.mark.parametrize("answer", ["to batches", "to the table", "with ever other versions"])
async def test_a_client_that_answers_nonsense_is_not_sent_the_same_at_once(stage, autojump_clock, nursery, answer):
    liar, got = RawPeer(stage.network, LIAR), []

    def answer_nonsense(request):
        if isinstance(request, Heartbeat):
            return request.ack()
        if isinstance(request, Batch):
            got.append(request)
            return request.taken(1, ()) if len(got) % 2 else request.refused(Reason.FULL)
        if isinstance(request, TableChange):
            got.append(request)
            if answer == "to batches":
                return request.held(request.after)
            if answer == "to the table":
                return request.ack()
            return request.held(Version(len(got).to_bytes(8, "big"), 1))
        return None

    liar.answer = answer_nonsense
    nursery.start_soon(liar.listen)
    liar.send(SERVER_PEER, liar.register("liar", SERVER_KEY))
    await stage.pass_time(1)
    liar.send(SERVER_PEER, Save(new_id(), "liar", b"hi"))
    await stage.pass_time(5)
    assert 2 < len(got) < 100


async def test_all_addresses_of_a_host_are_tried_again_when_none_answered(stage, autojump_clock, nursery):
    await stage.kill_server()
    stage.network.names["chat"] = ["10.0.0.99", SERVER[0]]
    there = trio.Event()

    async def client():
        async with open_chat("alice", ("chat", SERVER[1]), host="10.0.2.2", network=stage.network, reconnect=True):
            there.set()
            await trio.sleep_forever()

    nursery.start_soon(client)
    await stage.pass_time(10)
    await stage.start_server()
    with trio.fail_after(60):
        await there.wait()
