"""What the reader of `Chat.events` is promised: an event counts as shown when the reader asks for the next one.

All tests run in virtual time over the network in memory (tests/stage.py): a reader is cancelled at a known moment.
"""

import trio

from tests.stage import SERVER, identity_of
from trio_chat.client.events import TableChanged
from trio_chat.client.opening import open_chat
from trio_chat.storage.memory import MemoryClientStore


async def enter_with_letters(stage, *texts):
    """Alice, and Bob, who has not read any event yet. These letters wait to be read."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    stage.network.cut(alice.host, bob.host)
    for text in texts:
        assert (await alice.chat.send("bob", text)).how == "relayed"
    stage.network.heal()
    await stage.pass_time(1)
    return alice, bob


async def read(chat, seconds=10.0, slow=""):
    """The texts that a reader shows before it is cancelled; the text `slow` takes 100 seconds to show."""
    shown = []
    with trio.move_on_after(seconds):
        async for event in chat.events:
            if isinstance(event, TableChanged):
                continue
            await trio.sleep(100 if event.text == slow else 0.1)
            shown.append(event.text)
    return shown


async def texts_in_history(person):
    return [entry.text for entry in await person.chat.history()]


async def test_a_letter_that_a_cancelled_reader_took_comes_again_and_first(stage, autojump_clock):
    _, bob = await enter_with_letters(stage, "one", "two", "three")
    assert await read(bob.chat, slow="two") == ["one"]
    assert await texts_in_history(bob) == ["one"]
    assert [letter.text for letter in bob.store.unshown()] == ["two", "three"]
    assert await read(bob.chat) == ["two", "three"]
    assert await texts_in_history(bob) == ["one", "two", "three"]
    assert bob.store.unshown() == []


async def test_a_letter_that_was_taken_and_not_shown_is_shown_at_the_next_start(stage, autojump_clock):
    _, bob = await enter_with_letters(stage, "one", "two")
    assert await read(bob.chat, slow="two") == ["one"]
    await bob.kill()
    bob = await stage.enter("bob", host=bob.host, store=bob.store)
    await stage.pass_time(1)
    assert bob.texts() == ["two"]


async def test_a_direct_message_that_a_cancelled_reader_took_comes_again_and_first(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    for text in ("one", "two"):
        assert (await alice.chat.send("bob", text)).how == "direct"
    assert await read(bob.chat, slow="one") == []
    assert await read(bob.chat, slow="one") == [], "any number of readers may be cancelled"
    assert await read(bob.chat) == ["one", "two"]


async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing_and_gets_nothing_twice(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    for text in ("one", "two", "three"):
        await alice.chat.send("bob", text)
        assert await read(bob.chat) == [text]
    assert await read(bob.chat) == []


async def test_after_a_break_the_next_loop_begins_with_the_same_event_unless_it_is_marked(stage, autojump_clock):
    _, bob = await enter_with_letters(stage, "one", "two")

    async def first_text():
        async for event in bob.chat.events:
            if not isinstance(event, TableChanged):
                break
        return event.text

    assert await first_text() == "one"
    assert await first_text() == "one"
    bob.chat.mark_shown()
    assert await texts_in_history(bob) == ["one"]
    bob.chat.mark_shown()
    assert await first_text() == "two"
    assert [letter.text for letter in bob.store.unshown()] == ["two"]


async def test_an_event_that_is_marked_while_it_is_shown_does_not_come_again(stage, autojump_clock):
    _, bob = await enter_with_letters(stage, "one", "two")
    with trio.move_on_after(10):
        async for event in bob.chat.events:
            if hasattr(event, "text"):
                bob.chat.mark_shown()
                await trio.sleep_forever()
    assert await read(bob.chat) == ["two"]


async def test_each_call_of_anext_marks_the_event_before(stage, autojump_clock):
    _, bob = await enter_with_letters(stage, "one", "two")
    assert await anext(bob.chat.events) == TableChanged()
    for text in ("one", "two"):
        assert (await anext(bob.chat.events)).text == text
    assert [letter.text for letter in bob.store.unshown()] == ["two"]


async def test_the_last_event_of_a_chat_counts_as_shown_when_the_loop_has_ended(stage, autojump_clock):
    alice, bob = await enter_with_letters(stage)
    await bob.chat.deregister()
    await stage.pass_time(1)
    await alice.chat.send("bob", "the last one")
    await bob.kill()
    store = MemoryClientStore()
    async with open_chat(
        "bob",
        SERVER,
        host=bob.host,
        identity=identity_of("bob"),
        store=store,
        network=stage.network,
        clock=trio.current_time,
    ) as chat:
        await stage.pass_time(1)
    assert len(store.unshown()) == 1
    assert await read(chat) == ["the last one"]
    assert store.unshown() == []


async def test_a_reader_that_is_behind_reads_the_rest_after_the_end(stage, autojump_clock, nursery):
    bob, has_read_all = await stage.enter("bob"), trio.Event()
    own = {"identity": identity_of("alice"), "network": stage.network, "clock": trio.current_time}

    async def read_slowly(chat):
        async for _ in chat.events:
            await trio.sleep(100)
        has_read_all.set()

    async with open_chat("alice", SERVER, host="10.0.9.1", port=1, backlog=3, **own) as chat:
        nursery.start_soon(read_slowly, chat)
        await stage.pass_time(0.1)
        for text in "abcd":
            await bob.chat.send("alice", text)
        # The queue is full: this change of the table has to wait until there is room, which is after the end.
        await stage.enter("carol")
        await stage.pass_time(0.1)
    with trio.fail_after(1000):
        await has_read_all.wait()


async def test_without_a_backlog_a_reader_that_waits_gets_nothing(stage, autojump_clock, nursery):
    bob, events = await stage.enter("bob"), []

    async def read_all(chat):
        async for event in chat.events:
            events.append(event)

    own = {"identity": identity_of("alice"), "network": stage.network, "clock": trio.current_time}
    async with open_chat("alice", SERVER, host="10.0.9.1", port=1, backlog=0, **own) as chat:
        nursery.start_soon(read_all, chat)
        await stage.pass_time(1)
        assert (await bob.chat.send("alice", "hi")).how == "saved"
        await stage.enter("carol")
        await stage.pass_time(1)
    assert events == []
