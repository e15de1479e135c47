"""What a stranger can send to a server's and a client's port: no exception, and no answer to what is no message.

Random bytes and mutated messages by hypothesis, into the real parties over the network in memory.
"""

import random

import hypothesis
import hypothesis.strategies as st
import trio
from trio.testing import MockClock

from tests.network import open_memory_network
from tests.stage import SERVER, open_stage
from trio_chat.protocol.messages import (
    Ack,
    Chat,
    Deregister,
    GroupPost,
    Heartbeat,
    Held,
    Letters,
    Part,
    Register,
    Registered,
    Save,
    TableChange,
)
from trio_chat.protocol.records import Letter, LetterKind, Record, Version
from trio_chat.protocol.wire import WireError, decode_untrusted, encode

STRANGER = ("10.66.6.6", 666)
ID = bytes(range(16))
VERSION = Version(b"epoch678", 3)
SAMPLES = [
    encode(message)
    for message in (
        Register(ID, "mallory"),
        Deregister(ID),
        Chat(ID, "mallory", "alice", "hi"),
        Save(ID, "alice", "hi"),
        GroupPost(ID, "hi"),
        Letters(ID, "alice", (Letter(LetterKind.DIRECT, ID, "mallory", 1.0, "hi"),)),
        TableChange(ID, VERSION, VERSION, (Record("bob", "10.0.0.2", 5, True, 1.0),)),
        Heartbeat(ID, "alice"),
        Ack(Chat.kind, ID),
        Registered(Register.kind, ID, VERSION, 2, 5.0),
        Held(TableChange.kind, ID, None),
        Part(Save.kind, ID, 0, 2, b"body"),
    )
]


def mutated(dice):
    """A message in which up to four places are changed, cut out or doubled; or just bytes."""
    if dice.random() < 0.3:
        return dice.randbytes(dice.randrange(200))
    data = bytearray(dice.choice(SAMPLES))
    for _ in range(dice.randrange(5)):
        place = dice.randrange(len(data) + 1)
        match dice.choice(("change", "cut", "double")):
            case "change":
                data[place : place + 1] = dice.randbytes(1)
            case "cut":
                del data[place : place + dice.randint(1, 3)]
            case "double":
                data[place:place] = data[place : place + 8]
    return bytes(data)


def is_message(data):
    try:
        decode_untrusted(data)
    except WireError:
        return False
    return True


def play(datagrams):
    """Throw datagrams at a server and a client; return the bytes that came back for those that are no message."""

    async def main():
        async with open_memory_network() as network, open_stage(network) as stage:
            alice = await stage.enter("alice")
            answers = []
            for kind in (False, True):
                network.log.clear()
                for data in datagrams:
                    if is_message(data) is kind:
                        network.inject(data, STRANGER, SERVER)
                        network.inject(data, STRANGER, (alice.host, 6000))
                await trio.testing.wait_all_tasks_blocked()
                if kind is False:
                    answers = [line.data for line in network.log if line.destination == STRANGER]
            await stage.pass_time(30)
            await stage.enter("bob")
            assert (await alice.chat.send("bob", "still at work")).how == "direct"
            return answers

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.randoms(use_true_random=False), st.lists(st.binary(max_size=200), max_size=10))
def test_10000_datagrams_of_anything_harm_nobody(dice, datagrams):
    assert play([*datagrams, *(mutated(random.Random(dice.random())) for _ in range(400))]) == []


def test_giants_and_emptiness():
    nested = b"\x22" + b"\x91" * 60_000
    assert play([b"", b"\0" * 65_000, nested, *(sample + b"\0" * 5000 for sample in SAMPLES)]) == []


def test_a_stranger_gets_no_more_than_it_gave():
    async def main():
        async with open_memory_network() as network, open_stage(network) as stage:
            await stage.enter("alice")
            for data in SAMPLES[1:]:
                network.log.clear()
                network.inject(data, STRANGER, SERVER)
                await trio.testing.wait_all_tasks_blocked()
                answers = [line.data for line in network.log if line.destination == STRANGER]
                assert sum(map(len, answers)) <= len(data) + 32
                assert len(answers) <= 1

    trio.run(main, clock=MockClock(autojump_threshold=0))
