"""Saves, letters, receipts and group posts at the server: what is handed over, when, in which order, how often.

In virtual time, over the network in memory (tests/stage.py).
"""

import pytest
import trio

from tests.network import Conditions
from tests.raw_peer import RawPeer
from tests.stage import SERVER_KEY, SERVER_PEER, identity_of
from trio_chat.client.events import (
    Delivery,
    Fallback,
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    LetterUnreadable,
    MessageNotDelivered,
    MessageReceived,
    ReceiptReceived,
)
from trio_chat.errors import MailboxFull, TooFast, UnknownRecipient
from trio_chat.protocol import limits
from trio_chat.protocol.messages import (
    Accepted,
    Batch,
    Busy,
    Delivered,
    DirectMessage,
    Find,
    GroupPost,
    Heartbeat,
    Register,
    Save,
    Saved,
    Taken,
)
from trio_chat.protocol.records import NO_KEY, Entry, EntryKind
from trio_chat.server import delivery
from trio_chat.storage import mailboxes, server_log
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.ids import new_id


def receipts(person) -> list[ReceiptReceived]:
    return [event for event in person.received if isinstance(event, ReceiptReceived)]


async def test_a_letter_to_somebody_offline_waits_and_its_receipt_comes_back(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)

    delivery = await alice.chat.send("bob", "hi offline bob")
    assert delivery.how == "saved"
    assert await bob.chat.register() == 1
    await stage.pass_time(1)

    assert bob.received == [LetterReceived("alice", "hi offline bob", delivery.sent_at, group=False, first=True)]
    assert alice.received == [ReceiptReceived("bob", delivery.sent_at)]


async def test_a_letter_to_somebody_online_is_relayed_without_a_receipt(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)

    reasons = []
    delivery = await alice.chat.send("bob", "hi", on_fallback=reasons.append)
    await stage.pass_time(5)

    assert delivery == Delivery("relayed")
    assert reasons == [Fallback.NO_ACK]
    assert bob.received == [MessageReceived("alice", "hi")]
    assert alice.received == []


async def test_a_message_whose_direct_ack_was_lost_is_shown_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(bob.host, alice.host, both=False)

    assert (await alice.chat.send("bob", "hi")).how == "relayed"
    await stage.pass_time(5)

    assert bob.received == [MessageReceived("alice", "hi")]
    assert len({message.id for message in stage.sent(DirectMessage) + stage.sent(Save)}) == 1


async def test_a_message_delayed_beyond_its_window_is_shown_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    held = []
    stage.network.filters.append(
        lambda data, source, destination: (
            (source[0], destination[0]) != (alice.host, bob.host) or bool(held.append((data, source, destination)))
        )
    )
    assert (await alice.chat.send("bob", "hi")).how == "relayed"
    for late in held:
        stage.network.inject(*late)
    await stage.pass_time(1)

    assert bob.received == [MessageReceived("alice", "hi")]


async def test_the_lost_answer_to_a_save_is_repeated_and_nothing_is_stored_twice(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    stage.lose(lambda message, *_: isinstance(message, Saved), times=3)

    delivery = await alice.chat.send("bob", "hi")
    await bob.chat.register()
    await stage.pass_time(1)

    assert delivery.how == "saved"
    assert len(stage.sent(Save)) == 4
    assert bob.texts() == ["hi"]
    assert receipts(alice) == [ReceiptReceived("bob", delivery.sent_at)]


async def test_the_lost_answer_delivered_is_repeated_as_delivered(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    stage.lose(lambda message, *_: isinstance(message, Delivered), times=2)

    assert await alice.chat.send("bob", "hi") == Delivery("relayed")
    await stage.pass_time(30)
    assert bob.texts() == ["hi"]
    assert receipts(alice) == []


async def test_a_save_that_is_answered_after_a_server_restart_keeps_its_first_answer(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    stage.lose(lambda message, *_: isinstance(message, Saved), times=1)

    async with trio.open_nursery() as nursery:
        deliveries = []

        async def send():
            deliveries.append(await alice.chat.send("bob", "hi"))

        nursery.start_soon(send)
        await stage.pass_time(0.1)  # committed, and the answer lost
        committed_at = trio.current_time()
        await stage.kill_server()
        await stage.start_server()
    await stage.pass_time(1)
    await bob.chat.register()
    await stage.pass_time(1)

    assert deliveries[0].how == "saved"
    assert deliveries[0].sent_at < committed_at
    assert bob.texts() == ["hi"]
    assert len(receipts(alice)) == 1


async def test_a_save_that_is_committed_while_its_recipient_registers_is_handed_over(stage, autojump_clock):
    class SlowStore(MemoryServerStore):
        async def append(self, entries):
            await trio.sleep(0.2)
            appended = await super().append(entries)
            await trio.sleep(0.2)
            return appended

    await stage.kill_server()
    await stage.start_server(SlowStore())
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    for delay in (0.1, 0.3, 0.39):
        before = len(bob.received)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.chat.send, "bob", f"after {delay}")
            await stage.pass_time(delay)
            await bob.chat.register()
        await stage.pass_time(2)
        assert bob.texts()[before:] == [f"after {delay}"]
        await bob.chat.deregister()
        await stage.pass_time(1)


async def test_an_acknowledgement_after_the_window_stores_a_receipt(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    stage.lose(lambda message, *_: isinstance(message, Batch), times=3)

    delivery = await alice.chat.send("bob", "hi")
    await stage.pass_time(5)

    assert delivery.how == "saved"
    assert bob.received == [MessageReceived("alice", "hi")]
    assert receipts(alice) == [ReceiptReceived("bob", delivery.sent_at)]


async def test_letters_whose_acknowledgement_is_lost_are_shown_once_with_one_receipt_each(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    for n in range(3):
        await alice.chat.send("bob", f"letter {n}")
    stage.lose(
        lambda message, source, _: isinstance(message, Taken) and source[0] == bob.host,
        times=4,
    )
    await bob.chat.register()
    await stage.pass_time(5)

    assert bob.texts() == ["letter 0", "letter 1", "letter 2"]
    assert len(receipts(alice)) == 3


async def test_deregistering_during_a_delivery_loses_and_repeats_no_letter(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    for n in range(5):
        await alice.chat.send("bob", f"letter {n}")
    for travel in (0.02, 0.05, 0.08):
        stage.network.default = Conditions(delay=(travel, travel))
        await bob.chat.register()
        await bob.chat.deregister()
        await stage.pass_time(2)
    stage.network.default = Conditions()
    await bob.chat.register()
    await stage.pass_time(2)

    assert bob.texts() == [f"letter {n}" for n in range(5)]
    assert len(receipts(alice)) == 5


async def test_a_receipt_causes_no_receipt_and_waits_for_its_owner(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await alice.chat.send("bob", "hi")
    await alice.chat.deregister()
    await bob.chat.register()
    await stage.pass_time(5)
    assert alice.received == []

    assert await alice.chat.register() == 0, "receipts do not count as letters waiting"
    await stage.pass_time(5)
    assert len(receipts(alice)) == 1
    assert bob.texts() == ["hi"]
    assert receipts(bob) == []


async def test_letters_of_one_sender_that_arrive_together_stay_in_order(stage, autojump_clock, nursery):
    bob = await stage.enter("bob")
    await bob.chat.deregister()
    writer = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("alice"))
    nursery.start_soon(writer.listen)
    writer.send(SERVER_PEER, writer.register("alice", SERVER_KEY))
    await stage.pass_time(0.1)
    sent = [Save(new_id(), "bob", b"sealed, it seems") for _ in range(10)]
    for save in sent:
        writer.send(SERVER_PEER, save)
    await stage.pass_time(1)
    page = await stage.server_store.read("bob", 0)
    assert [letter.id for letter in page.entries] == [save.id for save in sent]


async def test_the_server_is_asked_for_an_unknown_name(stage, autojump_clock):
    alice = await stage.enter("alice")
    with pytest.raises(UnknownRecipient):
        await alice.chat.send("nobody", "hi")
    assert [request.name for request in stage.sent(Find)] == ["nobody"]
    assert stage.sent(Save) == []


async def test_the_server_is_asked_for_a_name_that_is_not_in_the_table_yet(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.lose(lambda message, _, destination: destination[0] == alice.host and hasattr(message, "records"))
    bob = await stage.enter("bob")
    assert "bob" not in alice.chat.table
    assert await alice.chat.send("bob", "hi") == Delivery("direct")
    await stage.pass_time(0.1)
    assert bob.texts() == ["hi"]


async def test_300_letters_at_once_and_100_a_minute_are_enough_from_one_to_another(stage, autojump_clock, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SHARE", 0)  # else their share of the mailbox is full before
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await bob.chat.deregister()
    await stage.pass_time(1)
    for n in range(300):
        await alice.chat.send("bob", f"{n}")
    with pytest.raises(TooFast):
        await alice.chat.send("bob", "one too many")
    assert (await carol.chat.send("bob", "from another one")).how == "saved"
    assert (await alice.chat.send("carol", "to another one")).how == "direct"
    await stage.pass_time(60)
    for n in range(100):
        await alice.chat.send("bob", f"{n} a minute later")
    with pytest.raises(TooFast):
        await alice.chat.send("bob", "one too many")


async def test_what_somebody_sent_who_is_offline_now_does_not_block(stage, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await bob.chat.deregister()
    await carol.chat.send("bob", "a letter")
    await carol.chat.send_all("a post")
    await carol.chat.deregister()
    await alice.chat.send("bob", "another letter")
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.texts() == ["a letter", "a post", "another letter"]


async def test_what_somebody_sent_whose_name_was_freed_does_not_block(stage, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await bob.kill()
    await stage.pass_time(5)
    await carol.chat.send("bob", "a letter")
    await carol.chat.send_all("a post")
    await alice.chat.send("bob", "another letter")
    await carol.kill()
    await stage.kill_server()
    await stage.server_store.forget("carol")
    await stage.start_server()

    # A client that has never seen carol: her keys are not in the table any more, but come with what she wrote.
    bob = await stage.enter("bob", host=bob.host)
    await stage.pass_time(1)
    assert "carol" not in bob.chat.table
    assert bob.texts() == ["a letter", "a post", "another letter"]


async def test_what_nobody_has_sent_does_not_block(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    nobody = Entry(0, EntryKind.DIRECT, new_id(), "nobody", NO_KEY, "bob", 1.0, b"from before entries had keys")
    await stage.server_store.append([nobody])
    await alice.chat.send("bob", "a letter")
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.received[0] == LetterUnreadable("nobody")
    assert bob.texts() == ["a letter"]


async def test_letters_for_a_key_that_lost_its_name_fail_to_their_senders(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.kill()
    await stage.pass_time(5)
    delivery = await alice.chat.send("bob", "for the old bob")
    await alice.chat.send_all("for all who were there")
    await stage.kill_server()
    await stage.server_store.forget("bob")
    await stage.start_server()

    bob = await stage.enter("bob", identity=identity_of("another bob"))
    await stage.pass_time(25)
    assert bob.texts() == []
    assert MessageNotDelivered("bob", delivery.sent_at) in alice.received
    assert receipts(alice) == []


async def test_a_full_mailbox_refuses_letters_and_keeps_messages_to_everyone(stage, autojump_clock, monkeypatch):
    monkeypatch.setattr(mailboxes, "MAILBOX_LETTERS", 200)
    monkeypatch.setattr(limits, "MAX_SHARE", 0)
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    writers = [alice, *[await stage.enter(name) for name in ("carol", "dan", "erin")]]
    await bob.chat.deregister()
    await stage.pass_time(1)
    for n in range(200):
        await writers[n % 4].chat.send("bob", f"letter {n}")
    with pytest.raises(MailboxFull):
        await alice.chat.send("bob", "one too many")
    await alice.chat.send_all("to all")
    await alice.chat.send_all("to all again")
    await stage.pass_time(1)

    assert await bob.chat.register() == 202
    await stage.pass_time(5)
    assert bob.texts() == [f"letter {n}" for n in range(200)] + ["to all", "to all again"]
    assert [len(receipts(writer)) for writer in writers] == [50] * 4
    assert (await alice.chat.send("bob", "there is room again")).how == "direct"


async def test_posts_that_are_no_longer_kept_are_counted_before_the_others(stage, autojump_clock, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
    monkeypatch.setattr(delivery, "TAIL_ENTRIES", 3)  # as always: what is in memory is not more than what is kept
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    for n in range(5):
        await alice.chat.send_all(f"post {n}")

    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.received[0] == GroupMessagesMissed(2)
    assert bob.texts() == ["post 2", "post 3", "post 4"]

    await bob.chat.deregister()
    assert await bob.chat.register() == 0
    await stage.pass_time(1)
    assert len(bob.received) == 4, "reported once"


async def test_a_user_who_does_not_read_is_busy_and_online_and_loses_nothing(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    stage.network.cut(alice.host, bob.host)
    for n in range(300):
        await alice.chat.send("bob", f"message {n}")
    await stage.pass_time(100)

    assert stage.sent(Busy)
    assert alice.chat.table["bob"].online
    received = []
    with trio.move_on_after(20):
        async for event in bob.chat.events:
            if hasattr(event, "text"):
                received.append(event.text)
    assert received == [f"message {n}" for n in range(300)]


# --- to everyone ---


async def test_a_group_message_reaches_everyone_but_its_sender_without_receipts(stage, autojump_clock):
    people = [await stage.enter(name) for name in ("alice", "bob", "carol", "dan")]
    await people[3].chat.deregister()
    await people[0].chat.send_all("hello")
    await stage.pass_time(2)
    await people[3].chat.register()
    await stage.pass_time(2)

    assert people[0].received == []
    assert people[1].received == people[2].received == [GroupMessageReceived("alice", "hello")]
    (letter,) = people[3].received
    assert (letter.text, letter.group, letter.first) == ("hello", True, True)


async def test_the_lost_answer_to_a_group_post_is_repeated_and_nobody_gets_it_twice(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, Accepted), times=3)
    await alice.chat.send_all("hello")
    await stage.pass_time(2)
    assert len(stage.sent(GroupPost)) == 4
    assert bob.texts() == ["hello"]


async def test_someone_with_older_letters_waiting_gets_a_group_message_after_them(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    stage.lose(lambda message, *_: isinstance(message, Batch), times=3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.chat.send, "bob", "first")
        await stage.pass_time(0.6)
        nursery.start_soon(alice.chat.send_all, "second")
        await stage.pass_time(0.1)
        nursery.start_soon(alice.chat.send, "bob", "third")
    await stage.pass_time(5)
    assert bob.texts() == ["first", "second", "third"]


async def test_a_letter_does_not_overtake_a_group_message_whose_fan_out_is_under_way(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    await alice.chat.send("bob", "zero")  # from now on by the server at once
    await stage.pass_time(1)
    stage.lose(lambda message, *_: isinstance(message, Batch), times=2)

    await alice.chat.send_all("first")
    await alice.chat.send("bob", "second")
    await stage.pass_time(5)
    assert bob.texts() == ["zero", "first", "second"]


async def test_a_group_message_after_an_unfinished_one_comes_second(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    carol = await stage.enter("carol")
    stage.lose(lambda message, _, to: isinstance(message, Batch) and to[0] == bob.host, times=3)
    await alice.chat.send_all("first")
    await carol.chat.send_all("second")
    await alice.chat.send_all("third")
    await stage.pass_time(5)
    assert bob.texts() == ["first", "second", "third"]
    assert carol.texts() == ["first", "third"]
    assert alice.texts() == ["second"]


async def test_a_group_message_is_delivered_after_a_server_restart(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, Batch), times=1)
    await alice.chat.send_all("hello")
    await stage.kill_server()
    await stage.pass_time(1)
    assert bob.texts() == []
    await stage.start_server()
    await stage.pass_time(25)  # the next heartbeat shows that the server forgot who is online
    assert bob.texts() == ["hello"]


async def test_a_client_that_is_silent_and_answers_a_probe_gets_the_same_again(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, Batch), times=3)
    await alice.chat.send_all("hello")
    await stage.pass_time(0.7)
    assert bob.texts() == ["hello"]
    assert len(stage.sent(Heartbeat)) == 1
    assert len(stage.sent(Register)) == 2
