"""Any bytes from an unregistered peer: they cause no exception, and only messages are answered.

Random bytes and mutated messages from hypothesis, over the network in memory in virtual time: as bare datagrams, and
sealed in sessions of that peer with the server and a client.
"""

import random

import hypothesis
import hypothesis.strategies as st
import trio
from trio.testing import MockClock

from tests.fuzz.mutations import mutated
from tests.network import open_memory_network
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER, identity_of, open_stage
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import (
    Ack,
    Batch,
    Deregister,
    DirectMessage,
    Find,
    GroupPost,
    Heartbeat,
    Introduce,
    Introduced,
    ListNames,
    MessagesKept,
    NamesListed,
    Part,
    Register,
    Registered,
    Save,
    SessionEnded,
    TableChange,
    TableHeld,
    Taken,
)
from trio_chat.protocol.records import Entry, EntryKind, Record, Room, Version
from trio_chat.protocol.room_messages import (
    BeginEpoch,
    CreateRoom,
    EpochPart,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    MemberList,
    RoomChanged,
    RoomList,
)
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, decode_untrusted, encode

SEALED, BARE = ("10.66.6.6", 666), ("10.66.6.6", 667)
MALLORY = Identity(b"m" * 32, b"M" * 32)
ID = bytes(range(16))
VERSION = Version(b"epoch678", 3)
ROOM = Room("#" + "0f" * 16, "lunch", bytes(range(32)), 3, 5)
SAMPLES = [
    encode(message)
    for message in (
        Register(ID, "mallory", credentials(MALLORY, name="mallory", server_key=SERVER_KEY), ID),
        Deregister(ID),
        DirectMessage(ID, "mallory", "alice", "hi"),
        DirectMessage(ID, "mallory", "alice", "hi", True),
        MessagesKept(ID, (ID,)),
        Save(ID, "alice", b"hi"),
        GroupPost(ID, b"hi"),
        GroupPost(ID, b"hi", ROOM.id),
        Batch(ID, "alice", (Entry(1, EntryKind.DIRECT, ID, "mallory", bytes(32), "alice", 1.0, b"hi"),)),
        TableChange(ID, VERSION, VERSION, (Record("bob", "10.0.0.2", 5, True, 1.0),)),
        Heartbeat(ID, 1.0),
        Find(ID, "alice"),
        ListNames(ID, "alice"),
        Introduce(ID, "alice"),
        Introduced(ID, "alice"),
        NamesListed(ListNames.kind, ID, (("bob", True, 1.0, bytes(32)),)),
        SessionEnded(ID, 1.0),
        CreateRoom(ID, "lunch"),
        JoinRoom(ID, "everyone"),
        LeaveRoom(ID, ROOM.id),
        ListRooms(ID, "", True),
        ListMembers(ID, ROOM.id, "bob"),
        BeginEpoch(ID, "!" + "0f" * 16, 1, b"epoch"),
        GetEpoch(ID, "!" + "0f" * 16, 1),
        EpochPart(GetEpoch.kind, ID, 7, 1, 1500, b"part"),
        RoomChanged(JoinRoom.kind, ID, ROOM),
        RoomList(ListRooms.kind, ID, (ROOM,)),
        MemberList(ListMembers.kind, ID, ("alice", "bob")),
        Ack(DirectMessage.kind, ID),
        Taken(Batch.kind, ID, 2, (b"", bytes(96))),
        Registered(Register.kind, ID, VERSION, 5.0, 2, 7, 1),
        TableHeld(TableChange.kind, ID, None),
        Part(Save.kind, ID, 0, 2, b"body"),
    )
]


def anything(dice):
    """A message, often with a few changes, or just bytes."""
    if dice.random() < 0.3:
        return dice.randbytes(dice.randrange(200))
    data = dice.choice(SAMPLES)
    return mutated(data, dice, SAMPLES) if dice.random() < 0.8 else data


def is_message(data):
    try:
        decode_untrusted(data)
    except WireError:
        return False
    return True


def run(datagrams):
    """Send datagrams to a server and a client, bare and sealed; return the answers to those that are not messages."""

    async def main():
        async with open_memory_network() as network, open_stage(network) as stage, trio.open_nursery() as nursery:
            alice = await stage.enter("alice")
            alice_peer = Peer((alice.host, 6000), identity_of("alice").public.link)
            mallory = RawPeer(network, SEALED, MALLORY)
            nursery.start_soon(mallory.listen)
            invalid, valid = [[data for data in datagrams if is_message(data) is kind] for kind in (False, True)]
            network.log.clear()
            for data in datagrams:
                network.inject(data, BARE, SERVER)
                network.inject(data, BARE, alice_peer.address)
            await say_all(mallory, invalid, (SERVER_PEER, alice_peer))
            answers = [line.data for line in network.log if line.destination == BARE]
            answers += mallory.received
            await say_all(mallory, valid, (SERVER_PEER, alice_peer))
            await stage.pass_time(30)
            await stage.enter("bob")
            assert (await alice.chat.send("bob", "still at work")).how == "direct"
            nursery.cancel_scope.cancel()
            return answers

    return trio.run(main, clock=MockClock(autojump_threshold=0))


async def say_all(mallory, datagrams, peers):
    for peer in peers:
        mallory.send(peer, Heartbeat(bytes(16), 1.0))  # starts a session first: at most 32 messages wait for one
        await trio.testing.wait_all_tasks_blocked()
        for data in datagrams:
            if 1 <= len(data) <= MAX_PLAINTEXT:
                mallory.send(peer, data)
        await trio.testing.wait_all_tasks_blocked()
    mallory.received = [one for one in mallory.received if getattr(one[1], "id", None) != bytes(16)]


# Without shrinking: of 400 datagrams from a seed it takes minutes, and finds another seed with as many.
@hypothesis.settings(max_examples=10, phases=[hypothesis.Phase.generate])
@hypothesis.given(st.randoms(use_true_random=False), st.lists(st.binary(max_size=200), max_size=10))
def test_4000_random_datagrams_do_no_harm(dice, datagrams):
    assert run([*datagrams, *(anything(random.Random(dice.random())) for _ in range(400))]) == []


def test_very_long_and_empty_datagrams_do_no_harm():
    nested = b"\x22" + b"\x91" * 60_000
    assert run([b"", b"\0" * 65_000, nested, *(sample + b"\0" * 5000 for sample in SAMPLES)]) == []


def test_an_unregistered_peer_gets_hardly_more_bytes_than_it_sent():
    async def main():
        async with open_memory_network() as network, open_stage(network) as stage, trio.open_nursery() as nursery:
            await stage.enter("alice")
            mallory = RawPeer(network, SEALED, MALLORY)
            nursery.start_soon(mallory.listen)
            await say_all(mallory, [], [SERVER_PEER])
            for data in SAMPLES[1:]:
                network.log.clear()
                mallory.send(SERVER_PEER, data)
                await trio.testing.wait_all_tasks_blocked()
                answers = [line.data for line in network.log if line.destination == SEALED]
                # A refusal has a reason, and the seconds to wait. Its address is proven: no flood can be aimed at it.
                assert sum(map(len, answers)) <= len(data) + 2 * 32 + 16
                assert len(answers) <= 1
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
