"""What the library promises: which way messages go, what is raised, what arrives on `events`, and how a chat ends.

All tests run in virtual time over the network in memory (tests/stage.py).
"""

from functools import partial

import pytest
import trio

from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_IDENTITY, SERVER_KEY, SERVER_PEER, acknowledges, identity_of
from trio_chat.client.event_queue import BACKLOG
from trio_chat.client.events import Delivery, Fallback, LetterReceived, MessageReceived, TableChanged
from trio_chat.client.opening import open_chat
from trio_chat.errors import (
    AddressError,
    InvalidRecipient,
    InvalidText,
    NameTaken,
    NotRegistered,
    ServerNotResponding,
    SignedInElsewhere,
)
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import (
    Batch,
    DirectMessage,
    Heartbeat,
    Register,
    Save,
    SessionEnded,
    TableChange,
    TableHeld,
    Taken,
)
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind
from trio_chat.storage.client_interface import OpenedEntry
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

MIXED = ("Grüße, καλημέρα, привет, こんにちは, مرحبا, 🙂👩‍👩‍👧 " * 400).encode()[: 16 * 1024].decode(errors="ignore")


def post_of(sender):
    return Entry(1, EntryKind.GROUP, new_id(), sender, NO_KEY, EVERYONE, 1.0, b"forged")


async def test_a_direct_message_does_not_touch_the_server(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.network.cut(SERVER[0])
    assert await alice.chat.send("BOB", "hi bob") == Delivery("direct")
    await stage.pass_time(1)
    assert bob.received == [MessageReceived("alice", "hi bob")]


async def test_a_lost_message_and_a_lost_ack_are_resent_within_the_window(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, DirectMessage), times=1)
    stage.lose(lambda message, *_: acknowledges(message, DirectMessage), times=1)
    assert await alice.chat.send("bob", "hi") == Delivery("direct")
    await stage.pass_time(1)
    assert bob.texts() == ["hi"]


async def test_messages_to_a_silent_peer_go_through_the_server_for_60_seconds(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    reasons = []
    for pause in (1, 50, 20):
        await alice.chat.send("bob", "hi", on_fallback=reasons.append)
        await stage.pass_time(pause)
    await alice.chat.send("bob", "hi", on_fallback=reasons.append)
    assert reasons == [Fallback.NO_ACK, Fallback.DETOUR, Fallback.DETOUR, Fallback.NO_ACK]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_client_on_the_servers_machine_is_reached_through_the_server_at_once(stage, autojump_clock, host):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", host=host)
    began = trio.current_time()
    assert (await alice.chat.send("bob", "hi")).how == "relayed"
    assert trio.current_time() == began
    assert (await bob.chat.send("alice", "hi")).how == "direct"


async def test_a_peer_that_registers_again_gets_direct_messages_again(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    assert (await alice.chat.send("bob", "one")).how == "relayed"
    stage.network.heal()
    assert (await alice.chat.send("bob", "two")).how == "relayed"
    await bob.chat.register()
    await stage.pass_time(1)
    assert (await alice.chat.send("bob", "three")).how == "direct"


async def test_a_peer_that_is_offline_is_not_tried_directly(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    reasons = []
    delivery = await alice.chat.send("bob", "hi", on_fallback=reasons.append)
    assert delivery.how == "saved"
    assert reasons == [Fallback.OFFLINE]
    assert stage.sent(DirectMessage) == []


async def test_neither_recipient_nor_server_answers(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    await bob.kill()
    await stage.kill_server()
    began = trio.current_time()
    with pytest.raises(ServerNotResponding):
        await alice.chat.send("bob", "hi")
    assert trio.current_time() - began == pytest.approx(3.5), "1 window, 5 windows, and 1 to ask for the server's keys"
    assert len(stage.sent(Save)) == 15
    with pytest.raises(ServerNotResponding):
        await alice.chat.send_all("hi")


@pytest.mark.parametrize("way", ["direct", "relayed", "saved"])
async def test_16_kib_of_mixed_scripts_arrive_unchanged(stage, autojump_clock, way):
    assert 16 * 1024 - 4 < len(MIXED.encode()) <= 16 * 1024
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    if way == "relayed":
        stage.network.cut(alice.host, bob.host)
    if way == "saved":
        await bob.chat.deregister()
        await stage.pass_time(1)
    assert (await alice.chat.send("bob", MIXED)).how == way
    if way == "saved":
        await bob.chat.register()
    await stage.pass_time(1)
    assert bob.texts() == [MIXED]


async def test_texts_arrive_unchanged(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    texts = ["  a line\n\tand\r\nanother ", "\x00", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "\u2028", " "]
    for text in texts:
        await alice.chat.send("bob", text)
    for text in texts:
        await alice.chat.send_all(text)
    await stage.pass_time(1)
    assert bob.texts() == texts * 2


@pytest.mark.parametrize(("text", "size"), [("", 0), ("x" * 16385, 16385), ("é" * 8193, 16386), ("\udcff", None)])
async def test_an_invalid_text_is_not_sent(stage, autojump_clock, text, size):
    alice = await stage.enter("alice")
    await stage.enter("bob")
    for sending in (alice.chat.send("bob", text), alice.chat.send_all(text)):
        with pytest.raises(InvalidText) as caught:
            await sending
        assert caught.value.size == size


async def test_a_message_to_oneself_is_refused(stage, autojump_clock):
    alice = await stage.enter("alice")
    with pytest.raises(InvalidRecipient):
        await alice.chat.send("Alice", "hi")


async def test_nothing_can_be_sent_while_offline(stage, autojump_clock):
    alice = await stage.enter("alice")
    await stage.enter("bob")
    await alice.chat.deregister()
    assert not alice.chat.online
    assert alice.chat.waiting == 0
    with pytest.raises(NotRegistered):
        await alice.chat.send("bob", "hi")
    with pytest.raises(NotRegistered):
        await alice.chat.send_all("hi")


async def test_an_offline_client_acknowledges_nothing(stage, autojump_clock, nursery):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    bob_peer = Peer((bob.host, 6000), identity_of("bob").public.link)
    carol = RawPeer(stage.network, ("10.7.7.7", 7))
    nursery.start_soon(carol.listen)
    await bob.chat.deregister()
    await stage.kill_server()
    server = RawPeer(stage.network, SERVER, SERVER_IDENTITY)
    nursery.start_soon(server.listen)
    for request in (
        Heartbeat(new_id(), "bob"),
        Batch(new_id(), "bob", (post_of("alice"),)),
    ):
        server.send(bob_peer, request)
    carol.send(bob_peer, DirectMessage(new_id(), "carol", "bob", "hi"))
    await stage.pass_time(1)
    assert server.received == carol.received == []
    assert alice.chat.online


async def test_requests_of_the_server_are_accepted_from_the_server_only(stage, autojump_clock, nursery):
    alice = await stage.enter("alice")
    alice_peer = Peer((alice.host, 6000), identity_of("alice").public.link)
    mallory = RawPeer(stage.network, ("10.7.7.7", 7))
    nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY))
    await stage.pass_time(1)
    assert "mallory" in alice.chat.table
    version, mallory.received = alice.chat.table.version, []
    entries = (post_of("mallory"),)
    for request in (
        Batch(new_id(), "alice", entries),
        TableChange(new_id(), version, version, ()),
        Heartbeat(new_id(), alice.chat._registration.registered.since),
        SessionEnded(new_id(), alice.chat._registration.registered.since),
        DirectMessage(new_id(), "mallory", "bob", "for somebody else"),
        Save(new_id(), "alice", b"I am no server"),
    ):
        mallory.send(alice_peer, request)
    await stage.pass_time(1)
    assert alice.received == []
    assert [message for peer, message in mallory.received if peer == alice_peer] == []
    await stage.kill_server()
    server = RawPeer(stage.network, SERVER, SERVER_IDENTITY)
    nursery.start_soon(server.listen)
    server.send(alice_peer, Batch(new_id(), "bob", entries))  # for the former owner of this port
    await stage.pass_time(1)
    assert alice.received == []
    assert server.received == []


# --- events ---


async def test_table_changes_fold_into_one_event(stage, autojump_clock):
    alice = await stage.enter("alice", listening=False)
    for n in range(5):
        await stage.enter(f"user{n}")
    await stage.pass_time(1)
    events = []
    with trio.move_on_after(1):
        async for event in alice.chat.events:
            events.append(event)
    assert events == [TableChanged()]
    assert len(alice.chat.table) == 6


async def test_with_a_full_queue_no_message_is_acknowledged_but_the_table_is_kept(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    ways = [(await alice.chat.send("bob", f"{n}")).how for n in range(BACKLOG + 3)]
    assert ways[: BACKLOG - 1] == ["direct"] * (BACKLOG - 1)
    assert ways[-2:] == ["saved", "saved"]
    await stage.enter("carol")
    await stage.pass_time(1)
    assert "carol" in bob.chat.table
    texts, changes = [], 0
    with trio.move_on_after(10):
        async for event in bob.chat.events:
            changes += isinstance(event, TableChanged)
            texts += [event.text] if hasattr(event, "text") else []
    assert texts == [f"{n}" for n in range(BACKLOG + 3)]
    assert changes >= 1


async def test_a_table_change_that_finds_no_room_is_queued_later(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob", listening=False)
    with trio.move_on_after(1):
        async for event in bob.chat.events:
            assert event == TableChanged()
    for n in range(BACKLOG):
        await alice.chat.send("bob", f"{n}")
    await stage.enter("carol")
    await stage.pass_time(1)
    events = []
    with trio.move_on_after(1):
        async for event in bob.chat.events:
            events.append(event)
    assert events.count(TableChanged()) == 1


async def test_the_first_letter_after_each_registration_is_marked(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    for n in range(2):
        await bob.chat.deregister()
        await stage.pass_time(1)
        await alice.chat.send("bob", f"{n}a")
        await alice.chat.send("bob", f"{n}b")
        assert await bob.chat.register() == 2
        assert bob.chat.waiting == 2
        await stage.pass_time(1)
    letters = [(event.text, event.first) for event in bob.received if isinstance(event, LetterReceived)]
    assert letters == [("0a", True), ("0b", False), ("1a", True), ("1b", False)]


async def test_letters_stored_but_not_shown_are_shown_at_the_next_start(stage, autojump_clock):
    store = MemoryClientStore()
    letter = OpenedEntry(1, EntryKind.DIRECT, new_id(), "bob", 1.0, "from the last time")
    await store.keep([letter])
    alice = await stage.enter("alice", store=store)
    await stage.pass_time(1)
    assert alice.received == [LetterReceived("bob", "from the last time", 1.0, group=False, first=True)]
    assert store.unshown() == []


async def test_of_letters_that_were_stored_and_those_that_wait_one_is_the_first(stage, autojump_clock):
    """Before: it said twice that there are offline messages."""
    store = MemoryClientStore()
    alice, bob = await stage.enter("alice", store=store), await stage.enter("bob")
    await alice.chat.deregister()
    await alice.kill()
    await bob.chat.send("alice", "waits")
    await store.keep([OpenedEntry(1, EntryKind.DIRECT, new_id(), "bob", 1.0, "from the last time")])
    alice = await stage.enter("alice", store=store)
    await stage.pass_time(1)
    letters = [(event.text, event.first) for event in alice.received if isinstance(event, LetterReceived)]
    assert letters == [("from the last time", True), ("waits", False)]


async def test_a_message_is_not_shown_again_after_a_restart(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.lose(lambda message, *_: acknowledges(message, DirectMessage) or isinstance(message, Taken))
    assert (await alice.chat.send("bob", "hi")).how == "saved"
    await stage.pass_time(0.1)
    assert bob.texts() == ["hi"]
    await bob.kill()
    await stage.pass_time(10)
    stage.network.filters.clear()
    bob = await stage.enter("bob", store=bob.store)
    await stage.pass_time(1)
    assert bob.texts() == []
    assert len(alice.received) == 1, "the receipt"


async def test_the_iteration_ends_with_the_chat(stage, autojump_clock):
    async with open_chat("alice", SERVER, network=stage.network) as chat:
        events = chat.events
    assert [event async for event in events] == [TableChanged()]


# --- how a chat ends ---


async def test_errors_are_raised_without_a_group(stage, autojump_clock):
    cause = KeyError("why")
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_chat("alice", SERVER, network=stage.network):
            raise ValueError("mine") from cause
    assert caught.value.__cause__ is cause
    with pytest.raises(AddressError):
        async with open_chat("alice", ("nowhere.invalid", 1), network=stage.network):
            pass  # pragma: no cover
    await stage.enter("bob", host="10.7.7.7")
    with pytest.raises(AddressError):
        async with open_chat("carol", SERVER, host="10.7.7.7", port=6000, network=stage.network):
            pass  # pragma: no cover


async def test_the_port_is_free_again_afterwards(stage, autojump_clock):
    for _ in range(2):
        with pytest.raises(NameTaken):
            async with open_chat("bob", SERVER, host="10.7.7.7", port=1, network=stage.network):
                async with open_chat("bob", SERVER, host="10.7.7.8", port=1, network=stage.network):
                    pass  # pragma: no cover
        await stage.pass_time(70)


async def test_a_silent_server_at_the_end_is_an_error(stage, autojump_clock):
    with pytest.raises(ServerNotResponding):
        async with open_chat("alice", SERVER, network=stage.network):
            await stage.kill_server()


async def test_a_silent_server_does_not_matter_until_it_is_needed(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    await stage.kill_server()
    await stage.pass_time(200)
    assert (await alice.chat.send("bob", "still here")).how == "direct"
    await stage.pass_time(0.1)
    assert bob.texts() == ["still here"]


async def test_a_server_that_never_sends_the_table(stage, autojump_clock):
    stage.lose(lambda message, *_: isinstance(message, TableChange))
    with pytest.raises(ServerNotResponding):
        async with open_chat("alice", SERVER, network=stage.network):
            pass  # pragma: no cover


async def test_a_table_that_arrives_at_the_last_moment_is_in_time(stage, autojump_clock):
    stage.lose(lambda message, *_: isinstance(message, TableChange) and trio.current_time() < 2.65)
    stage.lose(lambda message, source, _: isinstance(message, Heartbeat) and source != SERVER)
    async with open_chat("alice", SERVER, network=stage.network) as chat:
        assert 2.65 < trio.current_time() < 3.2
        assert chat.online


async def test_no_message_is_acknowledged_before_it_can_be_read(stage, autojump_clock, nursery):
    alice, there = await stage.enter("alice"), "10.7.7.7"
    stage.lose(
        lambda message, _, to: isinstance(message, TableChange) and to[0] == there and trio.current_time() < 0.55
    )
    stage.lose(lambda message, source, _: isinstance(message, Heartbeat) and source[0] == there)
    nursery.start_soon(partial(stage.enter, "bob", host=there))
    await stage.pass_time(0.62)
    assert stage.sent(TableHeld, source=there), "Bob has the table, but waits for the answer to a heartbeat"
    assert (await alice.chat.send("bob", "welcome")).how == "relayed"


async def test_a_chat_ends_well_although_another_program_has_just_taken_its_name(stage, autojump_clock):
    own = {"identity": identity_of("alice"), "network": stage.network, "clock": trio.current_time}
    async with open_chat("alice", SERVER, host="10.0.9.1", port=1, **own) as chat:
        stage.network.cut("10.0.9.1", SERVER[0])
        await stage.enter("alice", host="10.0.9.2")
        await stage.pass_time(4)  # the SessionEnded is given up
        stage.network.heal()
        # The next heartbeat is refused. The block ends while the Register that follows waits for its answer.
        registers = trio.Event()

        def passes(data, source, destination):
            if stage.tap.carries(data, Register) and not registers.is_set():
                registers.set()
                return False
            return True

        stage.network.filters.append(passes)
        with trio.fail_after(60):
            await registers.wait()
        assert chat.online
    assert not chat.online


async def test_who_waits_for_the_table_does_not_take_the_name_back(stage, autojump_clock, nursery):
    errors = []

    async def enter_without_table():
        own = {"identity": identity_of("alice"), "network": stage.network, "clock": trio.current_time}
        with pytest.raises(SignedInElsewhere) as caught:
            async with open_chat("alice", SERVER, host="10.0.9.1", port=1, **own):
                raise AssertionError("it has no table")
        errors.append(caught.value)

    stage.lose(lambda message, _, there: isinstance(message, TableChange) and there[0] == "10.0.9.1")
    nursery.start_soon(enter_without_table)
    await stage.pass_time(0.05)
    newer = await stage.enter("alice", host="10.0.9.2")
    await stage.pass_time(60)
    assert len(errors) == 1
    assert newer.chat.online
