"""The outbox: what a program has accepted is sent in the end, once, in order, or its user is told that it is not."""

import sqlite3
from functools import partial

import attrs
import pytest
import trio

from tests.stage import SERVER, Person, identity_of
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.events import (
    LetterReceived,
    MessageReceived,
    MessageState,
    OutgoingChanged,
    ReceiptReceived,
    ServerBack,
)
from trio_chat.client.opening import open_chat
from trio_chat.client.outgoing_queue import MAX_OUTGOING, MAX_OUTGOING_BYTES
from trio_chat.errors import (
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    MailboxFull,
    NotWaiting,
    OutboxFull,
    ServerNotResponding,
    StoreFailed,
    TriedTooLong,
    UnknownRecipient,
)
from trio_chat.protocol.messages import Accepted, Batch, Save, Saved, TableChange
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.memory import MemoryClientStore

DAY = 24 * 3600.0


def states(person: Person) -> list[tuple[int, str]]:
    """What the person was told of their messages, by number."""
    return [(one.number, str(one.state)) for one in person.received if isinstance(one, OutgoingChanged)]


def waiting(person: Person) -> list[str]:
    return [one.text for one in person.chat.outbox.waiting()]


# --- when all is well ---


async def test_a_message_is_sent_at_once_and_is_in_the_history(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    message = await alice.chat.outbox.put("bob", "hi")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await stage.pass_time(1)
    assert bob.received[-1] == MessageReceived("alice", "hi")
    assert waiting(alice) == states(alice) == []
    assert [(one.peer, one.text) for one in await alice.chat.history()] == [("bob", "hi")]


async def test_what_becomes_of_a_message_comes_as_an_event(stage, autojump_clock):
    alice = await stage.enter("alice")
    bob = await stage.enter("bob")
    await bob.chat.deregister()
    message = await alice.chat.outbox.put("Bob", "are you there?")
    post = await alice.chat.outbox.put_in_room("everyone", "hello")
    await stage.pass_time(1)
    saved, posted = sorted(
        (one for one in alice.received if isinstance(one, OutgoingChanged)), key=lambda one: one.number
    )
    assert saved == OutgoingChanged(message.number, message.id, "Bob", "", message.at, MessageState.SAVED, message.at)
    assert posted == OutgoingChanged(post.number, post.id, "", "everyone", post.at, MessageState.POSTED)
    await bob.chat.register()
    await stage.pass_time(1)
    assert sorted(bob.texts()) == ["are you there?", "hello"]
    assert ReceiptReceived("Bob", message.at) in alice.received or ReceiptReceived("bob", message.at) in alice.received


async def test_what_cannot_be_a_message_is_refused_at_once(stage, autojump_clock):
    alice = await stage.enter("alice")
    with pytest.raises(InvalidText):
        await alice.chat.outbox.put("bob", "")
    with pytest.raises(InvalidRecipient):
        await alice.chat.outbox.put("Alice", "to myself")
    assert waiting(alice) == []


# --- while the server is away ---


async def test_messages_wait_for_the_server_and_nothing_else_does(stage, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await carol.chat.deregister()
    await stage.pass_time(1)
    await stage.kill_server()
    to_carol = [await alice.chat.outbox.put("carol", f"{n} for carol") for n in range(3)]
    to_all = await alice.chat.outbox.put_in_room("everyone", "for all")
    begun = trio.current_time()
    direct = await alice.chat.outbox.put("bob", "hi bob")
    assert (await alice.chat.outbox.news(direct)).state is MessageState.RECEIVED
    assert trio.current_time() - begun < 0.5, "a direct message does not wait for the server"
    waits = await alice.chat.outbox.news(to_carol[0])
    assert (waits.state, type(waits.error)) == (MessageState.WAITING, ServerNotResponding)
    assert waiting(alice) == ["0 for carol", "1 for carol", "2 for carol", "for all"]
    await stage.pass_time(100)
    told = [(one.number, "waiting") for one in (to_all, *to_carol[1:])]
    assert sorted(states(alice)) == sorted(told), "of each once, and of the first one as its news"
    await stage.start_server()
    await stage.pass_time(30)
    assert waiting(alice) == []
    await carol.chat.register()
    await stage.pass_time(5)
    assert [text for text in carol.texts() if "carol" in text] == ["0 for carol", "1 for carol", "2 for carol"]
    assert sorted(carol.texts()) == sorted(["0 for carol", "1 for carol", "2 for carol", "for all"])
    assert bob.texts() == ["hi bob", "for all"]


async def test_a_program_that_was_killed_goes_on_where_it_was(stage, autojump_clock):
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await stage.kill_server()
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(10)
    await alice.kill()
    await stage.start_server()
    alice = await stage.enter("alice", host=alice.host, store=store, reconnect=True)
    await stage.pass_time(5)
    assert waiting(alice) == []
    await bob.chat.register()
    await stage.pass_time(5)
    assert bob.texts() == ["0", "1", "2"]


async def test_a_message_of_which_the_answer_was_lost_is_shown_once(stage, autojump_clock):
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    for put, name in ((alice.chat.outbox.put, "bob"), (alice.chat.outbox.put_in_room, "everyone")):
        stage.lose(lambda message, source, destination: isinstance(message, Saved | Accepted))
        await put(name, f"to {name}")
        await stage.pass_time(4)
    await alice.kill()
    stage.network.filters.clear()
    alice = await stage.enter("alice", host=alice.host, store=store, reconnect=True)
    await stage.pass_time(40)
    assert waiting(alice) == []
    await bob.chat.register()
    await stage.pass_time(5)
    assert sorted(bob.texts()) == ["to bob", "to everyone"]


@pytest.mark.parametrize("has_another", [False, True])
async def test_a_letter_that_is_given_to_the_server_again_after_its_receipt_is_not_saved(
    stage, has_another, autojump_clock
):
    """Alice's program was killed before it had written that the message was sent, and got the receipt at its start."""
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await bob.chat.deregister()
    message = await alice.chat.outbox.put("bob", "hi")
    await stage.pass_time(1)
    await bob.chat.register()
    await stage.pass_time(1)
    assert ReceiptReceived("bob", message.at) in alice.received
    await bob.chat.deregister()
    if has_another:
        assert (await alice.chat.send("bob", "another")).how == "saved"
    await alice.kill()
    again = await store.put_outgoing(attrs.evolve(message, attempted_at=message.at))
    alice = await stage.enter("alice", host=alice.host, store=store, reconnect=True)
    await stage.pass_time(5)
    assert len(stage.sent(Save)) == 2 + has_another
    assert states(alice) == [(again.number, "relayed")]
    assert store.is_at_server("bob", 0) is has_another, "what is sent next must not overtake, and else go directly"
    assert store.sent(message.id) is None
    assert bob.texts() == ["hi"]


async def test_nothing_is_sent_while_one_is_off_line(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.deregister()
    await alice.chat.outbox.put("bob", "later")
    await stage.pass_time(60)
    assert bob.texts() == []
    assert states(alice) == [(1, "waiting")]
    await alice.chat.register()
    await stage.pass_time(1)
    assert bob.texts() == ["later"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_call_that_has_failed_sends_nothing_later(stage, is_cancelled, autojump_clock):
    """Without the outbox: people, and programs such as cron jobs, try again by themselves."""
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store, reconnect=True), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await stage.kill_server()
    for send in (partial(alice.chat.send, "bob", "hi"), partial(alice.chat.send_all, "hello")):
        if is_cancelled:
            with trio.move_on_after(0.2) as scope:
                await send()
            assert scope.cancelled_caught
        else:
            with pytest.raises(ServerNotResponding):
                await send()
    await stage.start_server()
    await stage.pass_time(60)
    await alice.kill()
    alice = await stage.enter("alice", host=alice.host, store=store, reconnect=True)
    await bob.chat.register()
    await stage.pass_time(60)
    assert (bob.texts(), alice.received, await alice.chat.history()) == ([], [], [])


# --- refusals ---


async def test_a_message_that_fails_does_not_block_the_next_one(stage, autojump_clock):
    alice = await stage.enter("alice")
    first = await alice.chat.outbox.put("nobody", "1")
    failed = await alice.chat.outbox.news(first)
    assert (failed.state, type(failed.error)) == (MessageState.FAILED, UnknownRecipient)
    await alice.chat.outbox.put("nobody", "2")
    await stage.pass_time(1)
    await stage.enter("nobody")
    third = await alice.chat.outbox.put("nobody", "3")
    assert (await alice.chat.outbox.news(third)).state is MessageState.RECEIVED
    await stage.pass_time(1)
    assert [state for _, state in states(alice)] == ["failed"]
    assert waiting(alice) == []


async def test_a_full_mailbox_is_tried_again(stage, monkeypatch, autojump_clock):
    monkeypatch.setattr("trio_chat.storage.mailboxes.MAILBOX_LETTERS", 4)
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(5)
    told = [one for one in alice.received if isinstance(one, OutgoingChanged) and one.state is MessageState.WAITING]
    assert [type(one.error) for one in told] == [MailboxFull, MailboxFull]
    await bob.chat.register()
    await stage.pass_time(70)
    assert bob.texts() == ["0", "1", "2"]
    assert waiting(alice) == []


async def test_a_changed_key_holds_the_queue_until_it_is_trusted(stage, autojump_clock):
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await stage.pass_time(1)
    await bob.kill()
    await stage.server_store.forget("bob")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(30)
    bob = await stage.enter("bob", identity=identity_of("another bob"))
    await stage.pass_time(1)
    first, _, third = [await alice.chat.outbox.put("bob", text) for text in "123"]
    waits = await alice.chat.outbox.news(first)
    assert (waits.state, type(waits.error)) == (MessageState.WAITING, KeyChanged)
    await stage.pass_time(3600)
    assert (bob.texts(), stage.sent(Save)) == ([], []), "nothing is sealed to the new key"
    await alice.chat.outbox.cancel(third.number)
    await alice.chat.trust("bob")
    await stage.pass_time(1)
    assert bob.texts() == ["1", "2"]


# --- withdrawing, limits, old attempts ---


async def test_a_message_that_waits_can_be_withdrawn(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await stage.kill_server()
    one, two, three = [await alice.chat.outbox.put("bob", text) for text in ("one", "two", "three")]
    await stage.pass_time(5)
    assert (await alice.chat.outbox.cancel(one.number)).text == "one"
    await alice.chat.outbox.cancel(three.number)
    with pytest.raises(NotWaiting):
        await alice.chat.outbox.cancel(one.number)
    await stage.start_server()
    await stage.pass_time(30)
    await bob.chat.register()
    await stage.pass_time(5)
    assert bob.texts() == ["two"]
    assert two.number not in {number for number, state in states(alice) if state == "failed"}


async def test_there_is_a_limit(stage, monkeypatch, autojump_clock):
    assert OutboxFull.line.startswith(f"{MAX_OUTGOING:,} messages, or {MAX_OUTGOING_BYTES // 1024**2} MiB, wait")
    monkeypatch.setattr("trio_chat.client.outgoing_queue.MAX_OUTGOING", 3)
    alice = await stage.enter("alice")
    await alice.chat.deregister()
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    with pytest.raises(OutboxFull):
        await alice.chat.outbox.put("bob", "4")
    await alice.chat.outbox.cancel(alice.chat.outbox.waiting()[0].number)
    await alice.chat.outbox.put("bob", "4")
    monkeypatch.setattr("trio_chat.client.outgoing_queue.MAX_OUTGOING", 100)
    monkeypatch.setattr("trio_chat.client.outgoing_queue.MAX_OUTGOING_BYTES", 10)
    with pytest.raises(OutboxFull):
        await alice.chat.outbox.put("bob", "12345678")
    await alice.chat.outbox.put("bob", "1234567")


async def test_what_was_tried_for_14_days_has_failed(stage, autojump_clock):
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, Save))
    message = await alice.chat.outbox.put("bob", "old")
    await stage.pass_time(5)
    (kept,) = store.outgoing()
    assert kept.attempted_at is not None
    await store.attempt_outgoing(kept, kept.attempted_at - 14 * DAY)
    await alice.kill()
    alice = await stage.enter("alice", host=alice.host, store=store, reconnect=True)
    await stage.pass_time(5)
    (failed,) = [one for one in alice.received if isinstance(one, OutgoingChanged)]
    assert (failed.number, failed.state, type(failed.error)) == (message.number, MessageState.FAILED, TriedTooLong)
    assert waiting(alice) == []


# --- order ---


async def test_nothing_overtakes_a_saved_message(stage, autojump_clock):
    """Bob is back, and has not taken the letter yet: a direct message would be shown before it."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    assert (await alice.chat.send("bob", "first")).how == "saved"
    stage.lose(lambda message, source, destination: isinstance(message, Batch), times=8)
    await bob.chat.register()
    delivery = await alice.chat.send("bob", "second")
    assert delivery.how in ("saved", "relayed")
    await stage.pass_time(10)
    assert bob.texts() == ["first", "second"]
    assert (await alice.chat.send("bob", "third")).how == "direct"
    assert next(type(one) for one in bob.received if hasattr(one, "text")) is LetterReceived


@pytest.mark.parametrize("is_silent", [False, True])
async def test_nothing_overtakes_a_message_that_died_with_its_recipients_program(stage, is_silent, autojump_clock):
    """Bob's program was killed before the first one was on its disk, and the next one cannot go directly."""
    alice, bob = await stage.enter("alice", reconnect=True), await stage.enter("bob")
    await stage.pass_time(1)
    first = await alice.chat.outbox.put("bob", "first")
    assert (await alice.chat.outbox.news(first)).state is MessageState.RECEIVED
    await bob.kill()
    if is_silent:
        await stage.kill_server()
    for text in ("second", "third"):
        await alice.chat.outbox.put("bob", text)
    await stage.pass_time(0.9)
    assert waiting(alice)
    if is_silent:
        await stage.start_server()
    bob = await stage.enter("bob", host=bob.host, reconnect=True)  # with what its disk has: nothing
    await stage.pass_time(40)
    assert bob.texts() == ["first", "second", "third"]
    assert waiting(alice) == []
    assert [(one.peer, one.text) for one in await alice.chat.history()] == [
        ("bob", "first"),
        ("bob", "second"),
        ("bob", "third"),
    ]


@pytest.mark.parametrize("host", [None, "10.0.7.7"])
@pytest.mark.parametrize("speaks_first", [False, True])
async def test_nothing_overtakes_it_before_the_sender_has_the_row_of_the_new_program(
    stage, speaks_first, host, autojump_clock
):
    """The new program is at the address of the one before, or at another one, from which it says something first."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    first = await alice.chat.outbox.put("bob", "first")
    assert (await alice.chat.outbox.news(first)).state is MessageState.RECEIVED
    await bob.kill()
    stage.lose(lambda message, source, to: isinstance(message, TableChange) and to[0] == alice.host)
    bob = await stage.enter("bob", host=host or bob.host)
    if speaks_first:
        await bob.chat.send("alice", "I am back")
    await alice.chat.outbox.put("bob", "second")
    await stage.pass_time(0.4)
    stage.network.filters.clear()
    await stage.pass_time(10)
    assert bob.texts() == ["first", "second"]
    assert waiting(alice) == []


async def test_a_message_that_waits_to_be_sent_gives_way_to_one_that_is_due_again(stage, autojump_clock):
    """Alice is offline when she should hear that the first one is on Bob's disk, and Bob's program was killed."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    first = await alice.chat.outbox.put("bob", "first")
    assert (await alice.chat.outbox.news(first)).state is MessageState.RECEIVED
    await alice.chat.deregister()
    await bob.kill()
    await alice.chat.outbox.put("bob", "second")
    await stage.pass_time(2)
    bob = await stage.enter("bob", host=bob.host)
    await alice.chat.register()
    await stage.pass_time(10)
    assert bob.texts() == ["first", "second"]
    assert waiting(alice) == []


async def test_a_message_that_is_kept_before_its_user_was_told_leaves_the_outbox(stage, autojump_clock):
    """Alice's program does not read its events: being told takes longer than Bob's disk."""
    alice, bob = await stage.enter("alice", listening=False), await stage.enter("bob")
    await stage.pass_time(1)
    while alice.chat._context.event_queue.offer(ServerBack()):
        pass
    await alice.chat.outbox.put("bob", "hi")
    await stage.pass_time(1)
    async for event in alice.chat.events:
        if isinstance(event, OutgoingChanged):
            break
    assert event.state is MessageState.RECEIVED
    await stage.pass_time(1)
    assert waiting(alice) == []
    assert bob.texts() == ["hi"]


# --- many, and at the same time ---


async def test_a_message_put_in_a_moment_of_cancellation_is_sent(stage, autojump_clock):
    """Its caller does not know whether it was kept. It must not be sent by the next program, days later."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    with trio.CancelScope() as scope:
        scope.cancel()
        await alice.chat.outbox.put("bob", "hi")
    await stage.pass_time(1)
    assert bob.texts() == ["hi"]
    assert waiting(alice) == []


async def test_a_program_that_puts_a_message_when_its_disk_fails_ends(stage, autojump_clock, tmp_path):
    is_broken = False

    async def run(work):
        if is_broken:
            raise sqlite3.OperationalError("disk I/O error")
        await trio.lowlevel.checkpoint()
        return work()

    with pytest.raises(StoreFailed):
        async with open_client_store(tmp_path / "alice.db", run) as store:
            alice = await stage.enter("alice", store=store)
            await stage.pass_time(1)  # until all is written
            is_broken = True
            await alice.chat.outbox.put("bob", "hi")
    await alice.kill()


async def test_hundreds_of_queues_for_a_silent_server_do_not_hold_up_a_direct_message(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    await stage.kill_server()
    for n in range(300):
        await alice.chat.outbox.put_in_room(f"room-{n}", "hello")
    await stage.pass_time(0.1)
    begun = trio.current_time()
    message = await alice.chat.outbox.put("bob", "hi")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    assert trio.current_time() - begun < 0.5
    await alice.chat.outbox.settled()
    assert trio.current_time() - begun < 5, "who knows that the server is silent does not ask it 300 times"
    assert len(waiting(alice)) == 300
    assert bob.texts() == ["hi"]


async def test_who_writes_much_is_slowed_down_and_not_told_of_each_second(stage, autojump_clock):
    alice = await stage.enter("alice")
    bob = await stage.enter("bob")
    for n in range(100):
        await alice.chat.outbox.put_in_room("everyone", f"{n}")
    await stage.pass_time(120)
    assert waiting(alice) == []
    assert {state for _, state in states(alice)} == {"posted"}
    assert bob.texts() == [f"{n}" for n in range(100)]


async def test_a_disk_that_fails_ends_the_program_and_not_the_message(stage, autojump_clock):
    class FullStore(MemoryClientStore):
        is_full = False

        async def will_send(self, letter):
            if self.is_full:
                raise StoreFailed("the disk is full")
            await super().will_send(letter)

    store = FullStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    store.is_full = True
    await alice.chat.outbox.put("bob", "hi")
    assert waiting(alice) == ["hi"]


async def test_a_program_that_only_sends_hears_of_no_receipt_and_still_sends_directly(stage, autojump_clock):
    """As `trio-chat send` does; its messages do not wait for a receipt that nobody takes."""
    bob, store = await stage.enter("bob"), MemoryClientStore()
    await bob.chat.deregister()
    for away, how in ((True, "saved"), (False, "direct")):
        if not away:
            await bob.chat.register()
        async with open_chat(
            *("robot", SERVER),
            **{"host": "10.0.9.1", "identity": identity_of("robot"), "store": store, "backlog": 0},
            **{"network": stage.network, "clock": trio.current_time},
        ) as chat:
            await stage.pass_time(1)
            assert (await chat.send("bob", how)).how == how
    assert bob.texts() == ["saved", "direct"]


async def test_a_program_without_events_is_told_what_becomes_of_each_message(stage, autojump_clock):
    bob, store = await stage.enter("bob"), MemoryClientStore()
    for recipient, text in (("bob", "1"), ("nobody", "2"), ("bob", "3")):
        await EarlyOutbox("robot", store, trio.current_time).put(recipient, "", text)
    told = []
    async with open_chat(
        *("robot", SERVER),
        **{"host": "10.0.9.1", "identity": identity_of("robot"), "store": store, "backlog": 0},
        **{"network": stage.network, "clock": trio.current_time},
    ) as chat:
        await chat.outbox.send_waiting(told.append)
        assert sorted((one.number, str(one.state)) for one in told) == [(1, "received"), (2, "failed"), (3, "received")]
        await bob.chat.deregister()
        await stage.pass_time(1)
        await stage.kill_server()
        await chat.outbox.put("bob", "4")
        await chat.outbox.settled()
        assert (told[-1].number, told[-1].state) == (4, MessageState.WAITING)
        await stage.start_server()
    assert [one.text for one in store.outgoing()] == ["4"]
    assert bob.texts() == ["1", "3"]


async def test_a_receipt_names_the_message_that_it_is_about(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    messages = [await alice.chat.outbox.put("bob", f"{n}") for n in range(3)]
    await stage.pass_time(5)
    await bob.chat.register()
    await stage.pass_time(5)
    receipts = [one for one in alice.received if isinstance(one, ReceiptReceived)]
    assert [one.id for one in receipts] == [one.id for one in messages]


async def test_a_message_that_was_received_directly_has_no_receipt_of_an_earlier_attempt(stage, autojump_clock):
    """The server has it, and its answer is lost. Bob is back before it is tried again, and gets it both ways."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, Saved))
    message = await alice.chat.outbox.put("bob", "hi")
    await stage.pass_time(4)
    assert states(alice) == [(message.number, "waiting")]
    stage.lose(lambda message, source, destination: isinstance(message, Batch) and destination[0] == bob.host)
    await bob.chat.register()
    await stage.pass_time(30)
    assert states(alice)[-1] == (message.number, "received")
    stage.network.filters.clear()
    await stage.pass_time(60)
    assert bob.texts() == ["hi"]
    assert [one for one in alice.received if isinstance(one, ReceiptReceived)] == []
    assert alice.store.sent(message.id) is None


async def test_what_was_received_is_not_withdrawn(stage, autojump_clock):
    """Bob's program has it, and is killed before it is on the disk: what alice was told becomes true all the same."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    message = await alice.chat.outbox.put("bob", "hi")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await bob.kill()
    with pytest.raises(NotWaiting):
        await alice.chat.outbox.cancel(message.number)
    bob = await stage.enter("bob", host=bob.host)
    await stage.pass_time(10)
    assert bob.texts() == ["hi"]
