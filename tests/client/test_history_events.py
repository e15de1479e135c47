"""Which messages are in `Chat.history` and `Chat.search`, and from when on. In virtual time, with stores in memory.

What a search finds, and how the history is kept on disk, is tested in tests/storage/test_history.py.
"""

import pytest
import trio

from tests.stage import SERVER, acknowledges
from trio_chat.client.events import Fallback, HistoryEntry
from trio_chat.errors import NoHistory, ServerNotResponding, UnknownRecipient
from trio_chat.protocol.messages import DirectMessage, Taken
from trio_chat.storage.memory import MemoryClientStore


async def history_of(person, name=None):
    """The history without the times."""
    return [(one.peer, one.text, one.sent, one.group) for one in await person.chat.history(name)]


async def test_a_direct_message_is_in_the_history_of_both(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("Bob")
    await stage.pass_time(100)
    before = trio.current_time()
    await alice.chat.send("bob", "hi bob")
    assert await alice.chat.history() == [HistoryEntry(trio.current_time(), "Bob", "hi bob", sent=True)]
    (entry,) = await bob.chat.history()
    assert before <= entry.at <= trio.current_time()
    assert (entry.peer, entry.text, entry.sent, entry.group) == ("alice", "hi bob", False, False)


async def test_a_relayed_message_is_in_the_history_of_both(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    assert (await alice.chat.send("bob", "hi")).how == "relayed"
    await stage.pass_time(1)
    assert await history_of(alice) == [("bob", "hi", True, False)]
    assert await history_of(bob) == [("alice", "hi", False, False)]


async def test_a_saved_message_is_in_the_history_when_the_server_has_saved_it(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    delivery = await alice.chat.send("bob", "are you there?")
    assert delivery.how == "saved"
    assert await history_of(alice) == [("bob", "are you there?", True, False)]
    await stage.pass_time(1000)
    assert await bob.chat.history() == []
    await bob.chat.register()
    await stage.pass_time(1)
    assert await bob.chat.history() == [HistoryEntry(delivery.sent_at, "alice", "are you there?")]
    assert await history_of(alice) == [("bob", "are you there?", True, False)], "a receipt is not a message"


async def test_a_message_to_everyone_is_in_the_history_of_each(stage, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await carol.chat.deregister()
    await stage.pass_time(1)
    await alice.chat.send_all("lunch?")
    await carol.chat.register()
    await stage.pass_time(1)
    assert await history_of(alice) == [("", "lunch?", True, True)]
    assert await history_of(bob) == await history_of(carol) == [("alice", "lunch?", False, True)]


async def test_a_message_that_came_directly_and_as_a_letter_is_in_it_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: acknowledges(message, DirectMessage), times=5)
    reasons = []
    assert (await alice.chat.send("bob", "hi", on_fallback=reasons.append)).how == "relayed"
    await stage.pass_time(1)
    assert reasons == [Fallback.NO_ACK]
    assert bob.texts() == ["hi"]
    assert await history_of(alice) == [("bob", "hi", True, False)]
    assert await history_of(bob) == [("alice", "hi", False, False)]


async def test_a_letter_that_is_delivered_twice_is_in_it_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await alice.chat.send("bob", "hi")
    stage.lose(lambda message, *_: isinstance(message, Taken), times=10)
    await bob.chat.register()
    await stage.pass_time(120)
    assert await history_of(bob) == [("alice", "hi", False, False)]


async def test_a_letter_that_was_not_shown_yet_is_not_in_it(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    stage.network.cut(alice.host, bob.host)
    await alice.chat.send("bob", "hi")
    await stage.pass_time(1)
    assert await bob.chat.history() == []
    await bob.kill()
    again = await stage.enter("bob", host=bob.host, store=bob.store)
    await stage.pass_time(1)
    assert await history_of(again) == [("alice", "hi", False, False)]


async def test_a_message_that_was_not_sent_is_not_in_it(stage, autojump_clock):
    alice = await stage.enter("alice")
    with pytest.raises(UnknownRecipient):
        await alice.chat.send("nobody", "hi")
    await stage.enter("bob", listening=False)
    await stage.pass_time(1)
    stage.network.cut(SERVER[0])
    stage.network.cut(alice.host)
    for sending in (alice.chat.send("bob", "hi"), alice.chat.send_all("hi")):
        with pytest.raises(ServerNotResponding):
            await sending
    assert await alice.chat.history() == []


async def test_it_can_be_read_while_offline(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.send("alice", "hi")
    await bob.chat.deregister()
    assert await history_of(bob) == [("alice", "hi", True, False)]
    assert [entry.text for entry in await alice.chat.search("hi")] == ["hi"]


async def test_the_default_is_20_entries(stage, autojump_clock):
    alice, bob, _ = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    for number in range(25):
        await alice.chat.send("bob", f"number {number}")
        await bob.chat.send("carol", f"another {number}")
    texts = [f"number {number}" for number in range(25)]
    for chat, name in ((alice.chat, None), (alice.chat, "BOB"), (bob.chat, "alice")):
        assert [entry.text for entry in await chat.history(name)] == texts[-20:]
        assert [entry.text for entry in await chat.history(name, 3)] == texts[-3:]
        assert [entry.text for entry in await chat.history(name, count=100)] == texts
    assert [entry.text for entry in await bob.chat.search("number")] == texts[-20:]
    assert [entry.text for entry in await bob.chat.search("numb", count=22)] == texts[-22:]


async def test_without_a_history_messages_are_sent_and_received_as_usual(stage, autojump_clock):
    alice, bob = await stage.enter("alice", store=MemoryClientStore(history=False)), await stage.enter("bob")
    await alice.chat.send("bob", "hi")
    await bob.chat.send("alice", "hi alice")
    await bob.chat.send_all("hi all")
    await stage.pass_time(1)
    assert alice.texts() == ["hi alice", "hi all"]
    for question in (alice.chat.history(), alice.chat.search("hi")):
        with pytest.raises(NoHistory):
            await question
