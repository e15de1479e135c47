"""The outbox in the hard cases: crashes, full disks, changed keys, slow readers, and servers and people who lie."""

import sqlite3
from contextlib import closing, suppress

import attrs
import pytest
import trio

from tests.client.raw_server import RawServer, credentials_of, open_client
from tests.client.test_outbox import DAY, states, waiting
from tests.client.test_private_attacks import PrivateServer, chain, epoch_entry, removed_entry
from tests.stage import identity_of
from tests.storage.backends import inline
from trio_chat.client.events import MessageState, OutgoingChanged, ServerSilent
from trio_chat.errors import KeyChanged, NotWaiting, OutboxFull, StoreFailed
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Batch, DirectMessage, GroupPost, MessagesKept, Save, TableChange
from trio_chat.protocol.records import Room, fold, room_id
from trio_chat.protocol.room_messages import ListRooms
from trio_chat.server.moderation import RegistrationMode
from trio_chat.storage import group_commit
from trio_chat.storage.client_schema import CLIENT_SCHEMA
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.server_memory import MemoryServerStore


def told(person, state) -> list[OutgoingChanged]:
    return [one for one in person.received if isinstance(one, OutgoingChanged) and one.state is state]


class Thread:
    """A disk on which a transaction takes a second. Like a thread, it is not abandoned when its caller is cancelled."""

    is_full = False

    async def run(self, work):
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        if self.is_full:
            raise sqlite3.OperationalError("database or disk is full")
        return work()


# --- a program that never ends ---


async def _ends(network, path, disk, during):
    """Run a program whose store is on this disk; `during` gets the chat and a scope around it all. Returns an error."""
    scope, ended, errors = trio.CancelScope(), trio.Event(), []

    async def program():
        with scope:
            try:
                async with open_client_store(path, disk.run) as store, open_client(network, "alice", store=store) as a:
                    await during(a.chat, scope)
            except Exception as error:
                errors.append(error)
        ended.set()

    async with trio.open_nursery() as nursery:
        server = RawServer(network, rows=("bob",))
        nursery.start_soon(server.listen)
        nursery.start_soon(program)
        with trio.move_on_after(1000):
            await ended.wait()
        has_ended = ended.is_set()
        # What waits for a transaction that never comes goes on: else this test would not end.
        while not ended.is_set():
            for one in HELD:
                one.answered.set()
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return has_ended, errors


HELD = []


@pytest.fixture
def held(monkeypatch):
    """All that wait for a transaction, so that a test can let them go on."""
    HELD.clear()
    init = group_commit._Waiting.__init__

    def remember(self, *args, **kwargs):
        init(self, *args, **kwargs)
        HELD.append(self)

    monkeypatch.setattr(group_commit._Waiting, "__init__", remember)


async def test_a_program_that_is_cancelled_while_it_accepts_a_message_ends(network, held, tmp_path, autojump_clock):
    """SIGTERM at the terminal: the scope is outside of the store, whose writing task it ends, too."""

    async def during(chat, scope):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat.outbox.put, "bob", "1")
            await trio.sleep(0.5)
            nursery.start_soon(chat.outbox.put, "bob", "2")
            await trio.sleep(0.1)
            scope.cancel()

    has_ended, _ = await _ends(network, tmp_path / "store.db", Thread(), during)
    assert has_ended


async def test_a_program_whose_disk_is_full_while_it_accepts_a_message_ends(network, held, tmp_path, autojump_clock):
    disk = Thread()

    async def during(chat, scope):
        await trio.sleep(10)
        disk.is_full = True
        await chat.outbox.put("bob", "1")

    has_ended, errors = await _ends(network, tmp_path / "store.db", disk, during)
    assert has_ended
    assert [type(error) for error in errors] == [StoreFailed]


# --- a message that waits for ever ---


async def _another_bob(stage, bob):
    """Bob's name gets another owner."""
    await bob.kill()
    await stage.server_store.forget("bob")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(30)
    bob = await stage.enter("bob", identity=identity_of("another bob"))
    await stage.pass_time(1)
    return bob


async def test_trust_while_the_user_is_being_told_is_not_missed(stage, autojump_clock):
    """A bot trusts the new key as soon as it is told of the first message, while it is being told of the others."""
    alice, bob = await stage.enter("alice", listening=False), await stage.enter("bob")
    await stage.pass_time(1)
    bob = await _another_bob(stage, bob)

    async def bot():
        async for event in alice.chat.events:
            if isinstance(event, OutgoingChanged) and isinstance(event.error, KeyChanged):
                await alice.chat.trust("bob")
                break
        async for _ in alice.chat.events:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bot)
        await stage.pass_time(1)
        for n in range(5):
            await alice.chat.outbox.put("bob", f"{n}")
        await stage.pass_time(3600)
        assert alice.chat.untrusted == set()
        assert bob.texts() == [f"{n}" for n in range(5)]
        nursery.cancel_scope.cancel()


async def test_registering_while_the_user_reads_no_events_is_not_missed(stage, autojump_clock):
    """A prompt at which somebody types takes no events: 256 of them wait, then the outbox waits, too."""
    alice, bob = await stage.enter("alice", listening=False), await stage.enter("bob")
    await stage.pass_time(1)
    await alice.chat.deregister()
    for n in range(256):
        await alice.chat.outbox.put(f"somebody-{n}", "?")
    await stage.pass_time(1)
    await alice.chat.outbox.put("bob", "1")
    await stage.pass_time(1)
    await alice.chat.register()

    async def read():
        async for _ in alice.chat.events:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stage.pass_time(3600)
        assert alice.chat.online
        assert bob.texts() == ["1"]
        nursery.cancel_scope.cancel()


async def test_a_message_on_their_disk_does_not_wait_for_the_server(stage, autojump_clock):
    """Bob's disk takes 20 seconds. The server, which is away, is asked after 7; then Bob says that it is there."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)

    async def slow():
        await trio.sleep(20)

    bob.store.flush = slow
    await stage.kill_server()
    await alice.chat.outbox.put("bob", "1")
    await stage.pass_time(15)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(25)
    del bob.store.flush
    await stage.pass_time(60)
    assert stage.sent(MessagesKept, source=bob.host), "Bob has said so"
    assert waiting(alice) == []
    assert bob.texts() == ["1", "2"]


async def test_a_message_on_their_disk_is_not_sent_to_the_next_owner_of_the_name(stage, autojump_clock):
    """Bob's slow disk has it when the key of the name has changed already: nothing of that message is left to send."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)

    async def slow():
        await trio.sleep(3.5)

    bob.store.flush = slow
    await alice.chat.outbox.put("bob", "for the first Bob")
    await stage.pass_time(0.5)
    # The row changes before the notice comes.
    row = alice.chat.table.get("bob")
    other = identity_of("another bob")
    table = alice.chat._context.table
    changed = attrs.evolve(row, since=row.since + 1, credentials=credentials_of("bob", other))
    table._records[fold("bob")] = changed
    await stage.pass_time(10)
    assert stage.sent(MessagesKept, source=bob.host), "Bob has said so"
    assert waiting(alice) == []


async def test_who_never_says_that_they_have_it_gets_messages_without_the_server(stage, autojump_clock):
    """A program that acknowledges, and whose notices are lost: the next message to it is direct, too."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, MessagesKept))
    await stage.kill_server()
    await alice.chat.outbox.put("bob", "1")
    await stage.pass_time(20)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(20)
    assert bob.texts() == ["1", "2"]


async def test_news_of_a_message_that_is_cancelled(stage, autojump_clock):
    alice = await stage.enter("alice")
    await alice.chat.deregister()
    first = await alice.chat.outbox.put("bob", "1")
    await alice.chat.outbox.news(first)
    second = await alice.chat.outbox.put("carol", "2")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.chat.outbox.cancel, second.number)
        with trio.move_on_after(100) as scope:
            with pytest.raises(NotWaiting):
                await alice.chat.outbox.news(second)
    assert not scope.cancelled_caught


# --- the 14 days ---


async def _restart(stage, alice, days):
    """End her program; some days later there is another one."""
    await alice.kill()
    kept = alice.store._outgoing
    for one in kept.all():
        tried = None if one.attempted_at is None else one.attempted_at - days * DAY
        kept.replace(attrs.evolve(one, at=one.at - days * DAY, attempted_at=tried))
    return await stage.enter("alice", host=alice.host, store=alice.store, reconnect=True)


async def test_a_key_that_changed_holds_its_messages_until_it_is_trusted(stage, autojump_clock):
    """Nothing of it was ever sent, so that nothing can be shown twice."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    bob = await _another_bob(stage, bob)
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(1)
    assert len(told(alice, MessageState.WAITING)) == 3
    alice = await _restart(stage, alice, 15)
    await stage.pass_time(1)
    await alice.chat.trust("bob")
    await stage.pass_time(5)
    assert told(alice, MessageState.FAILED) == []
    assert bob.texts() == ["0", "1", "2"]


async def test_a_message_that_never_left_this_machine_has_not_been_tried_for_14_days(stage, autojump_clock):
    autojump_clock.jump(100 * DAY)
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.kill_server()
    await stage.pass_time(100)
    assert alice.chat._registration.silent_since is not None
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(1)
    assert stage.sent(Save) == []
    await alice.kill()
    await stage.start_server()
    alice = await _restart(stage, alice, 15)
    await stage.pass_time(30)
    await bob.chat.register()
    await stage.pass_time(5)
    assert told(alice, MessageState.FAILED) == []
    assert bob.texts() == ["0", "1", "2"]


async def test_a_message_that_was_received_does_not_fail_after_14_days(stage, autojump_clock):
    """The program ends before Bob's says that it has it on its disk: that is 0.1 s, or a datagram that is lost."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    message = await alice.chat.outbox.put("bob", "hi")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    alice = await _restart(stage, alice, 15)
    await stage.pass_time(30)
    assert bob.texts() == ["hi"]
    assert states(alice) == []


async def test_a_message_tried_while_the_clock_was_ahead_is_not_tried_for_a_year(stage, autojump_clock):
    """By the right clock it was tried for 20 days: the server and the recipient may have forgotten its id in 10."""
    autojump_clock.jump(400 * DAY)
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    stage.lose(lambda message, source, destination: isinstance(message, Save))
    await alice.chat.outbox.put("bob", "1")
    await stage.pass_time(5)
    await alice.kill()
    (kept,) = alice.store.outgoing()
    await alice.store.attempt_outgoing(kept, trio.current_time() + 365 * DAY)
    autojump_clock.jump(20 * DAY)
    alice = await stage.enter("alice", host=alice.host, store=alice.store, reconnect=True)
    await stage.pass_time(30)
    assert len(told(alice, MessageState.FAILED)) == 1


# --- order ---


@pytest.mark.parametrize("days", [31])
async def test_an_old_message_that_is_saved_late_is_not_overtaken(stage, days, autojump_clock):
    """It was written days ago, and given to the server a moment ago: it is there, and must come first."""
    autojump_clock.jump(100 * DAY)
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await alice.chat.deregister()
    await alice.chat.outbox.put("bob", "1")
    alice = await _restart(stage, alice, days)
    await stage.pass_time(5)
    assert waiting(alice) == []
    assert len(told(alice, MessageState.SAVED)) == 1
    stage.lose(lambda message, source, destination: isinstance(message, Batch) and destination[0] == bob.host, times=12)
    await bob.chat.register()
    await stage.pass_time(0.2)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(600)
    assert bob.texts() == ["1", "2"]


async def test_letters_to_others_do_not_make_us_forget_one_that_is_at_the_server(stage, monkeypatch, autojump_clock):
    """Of 10,000 letters without receipts the newest are known. Here it is one."""
    monkeypatch.setattr("trio_chat.storage.sent_letters.SENT_LIMIT", 1)
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await bob.chat.deregister()
    await carol.chat.deregister()
    await alice.chat.outbox.put("bob", "1")
    await stage.pass_time(1)
    await alice.chat.outbox.put("carol", "to carol")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, Batch) and destination[0] == bob.host, times=12)
    await bob.chat.register()
    await stage.pass_time(0.2)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(60)
    assert bob.texts() == ["1", "2"]


async def test_a_letter_of_an_older_program_may_be_at_the_server(tmp_path, monkeypatch, autojump_clock):
    """What an older program has sent, and has no receipt, is there, for all we know: nothing must overtake it."""
    older = Schema(CLIENT_SCHEMA.application_id, CLIENT_SCHEMA.migrations[:7])
    path = tmp_path / "store.db"
    with closing(open_database(path, older)) as database, database:
        database.execute(
            "INSERT INTO sent (id, recipient, key, hash, at) VALUES (?, 'bob', ?, ?, 5.0)", (bytes(16), bytes(32), b"")
        )
    async with open_client_store(path, inline) as store:
        assert store.sent(bytes(16))
        assert store.is_at_server("bob", 0.0)


async def test_a_message_that_a_crash_has_taken_comes_before_the_next_one(stage, autojump_clock):
    """Bob's program has the first one, and not on its disk, when the power goes. The next one goes to the server."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    message = await alice.chat.outbox.put("bob", "1")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await bob.kill()
    await stage.pass_time(0.3)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(10)
    assert len(told(alice, MessageState.SAVED)) == 1
    bob = await stage.enter("bob", host=bob.host, store=MemoryClientStore())
    await stage.pass_time(30)
    assert bob.texts() == ["1", "2"]


async def test_a_message_that_a_crash_has_taken_comes_first_also_if_their_new_program_is_not_known_yet(
    stage, autojump_clock
):
    """The same, and Bob is back at the same address before the table says so."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.lose(
        lambda message, source, destination: isinstance(message, TableChange) and destination[0] == alice.host, times=3
    )
    message = await alice.chat.outbox.put("bob", "1")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await bob.kill()
    bob = await stage.enter("bob", host=bob.host, store=MemoryClientStore())
    await stage.pass_time(0.1)
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(30)
    assert bob.texts() == ["1", "2"]


async def test_messages_are_sent_in_the_order_of_their_numbers(network, tmp_path, autojump_clock):
    """Two tasks put them at once: they are listed, and sent by the next program, in the order of their numbers."""
    sent = []

    def answer(request):
        if isinstance(request, Save):
            sent.append(request.id)
            return request.saved()
        return server._answer(request)

    server = RawServer(network, rows=("bob",))
    server.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.listen)
        async with (
            open_client_store(tmp_path / "store.db", inline) as store,
            open_client(network, "alice", store=store) as alice,
        ):
            messages = {}

            async def put(n):
                message = await alice.chat.outbox.put("bob", f"{n}")
                messages[message.id] = message.number

            for _ in range(10):
                async with trio.open_nursery() as putting:
                    for n in range(4):
                        putting.start_soon(put, n)
                await trio.sleep(5)
            numbers = [messages[id_] for id_ in dict.fromkeys(sent)]
            assert numbers == sorted(numbers)
        nursery.cancel_scope.cancel()


# --- what the user is told ---


async def test_a_message_that_was_withdrawn_is_not_said_to_wait(stage, autojump_clock):
    alice = await stage.enter("alice", listening=False)
    await alice.chat.deregister()
    for n in range(256):
        await alice.chat.outbox.put(f"somebody-{n}", "?")
    await stage.pass_time(1)
    for n in range(3):
        last = await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(1)
    await alice.chat.outbox.cancel(last.number)
    seen = []

    async def read():
        async for event in alice.chat.events:
            seen.append(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stage.pass_time(10)
        nursery.cancel_scope.cancel()
    assert [one for one in seen if isinstance(one, OutgoingChanged) and one.number == last.number] == []


@pytest.mark.parametrize("before", [253, 254])
async def test_each_message_that_waits_is_said_to_wait(stage, before, autojump_clock):
    """The first one is withdrawn while the user is being told of those behind it."""
    alice = await stage.enter("alice", listening=False)
    await alice.chat.deregister()
    for n in range(before):
        await alice.chat.outbox.put(f"somebody-{n}", "?")
    await stage.pass_time(1)
    messages = [await alice.chat.outbox.put("bob", f"{n}") for n in range(3)]
    await stage.pass_time(1)
    await alice.chat.outbox.cancel(messages[0].number)
    seen = []

    async def read():
        async for event in alice.chat.events:
            if isinstance(event, OutgoingChanged):
                seen.append(event.number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stage.pass_time(10)
        nursery.cancel_scope.cancel()
    assert {messages[1].number, messages[2].number} <= set(seen)


async def test_the_count_of_what_waits_for_the_server_has_no_message_that_was_received(stage, autojump_clock):
    """It waits for nothing but the notice that it is on their disk, and `outbox` does not list it."""
    alice, _ = await stage.enter("alice", reconnect=True), await stage.enter("bob")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, MessagesKept))
    await stage.kill_server()
    await stage.pass_time(21)
    message = await alice.chat.outbox.put("bob", "hi")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await stage.pass_time(10)
    assert [one.waiting for one in alice.received if isinstance(one, ServerSilent)] == [0]


async def test_everyone_in_another_case_is_everyone_in_the_history(stage, autojump_clock):
    alice = await stage.enter("alice")
    await alice.chat.outbox.put_in_room("Everyone", "hi")
    await stage.pass_time(1)
    assert [one.room for one in await alice.chat.history()] == [""]


async def test_a_program_that_reads_no_events_sends_all_of_its_messages(stage, autojump_clock):
    """It was opened with the default backlog, and only puts messages. With `chat.send` they would all be sent."""
    alice, bob = await stage.enter("alice", listening=False), await stage.enter("bob")
    await stage.pass_time(1)
    for n in range(300):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(600)
    assert len(bob.texts()) == 300


async def test_a_stranger_who_fills_the_event_queue_does_not_hold_up_what_is_sent(stage, autojump_clock):
    alice, bob, mallory = (
        await stage.enter("alice", listening=False),
        await stage.enter("bob"),
        await stage.enter("mallory"),
    )
    await stage.pass_time(1)
    for n in range(256):
        await mallory.chat.send("alice", f"{n}")
    for n in range(3):
        await alice.chat.outbox.put("bob", f"{n}")
    await stage.pass_time(100)
    assert bob.texts() == ["0", "1", "2"]


async def test_a_message_that_was_received_does_not_fail_with_the_name(stage, autojump_clock):
    """It was told to be received, and is in the history. Now the name has no owner any more."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, MessagesKept))
    message = await alice.chat.outbox.put("bob", "1")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    await bob.kill()
    await stage.server_store.forget("bob")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(60)
    assert states(alice) == []


async def test_the_limit_is_one_for_several_tasks(network, tmp_path, monkeypatch, autojump_clock):
    monkeypatch.setattr("trio_chat.client.outgoing_queue.MAX_OUTGOING", 2)
    async with trio.open_nursery() as nursery:
        server = RawServer(network, rows=("bob",))
        nursery.start_soon(server.listen)
        async with (
            open_client_store(tmp_path / "store.db", inline) as store,
            open_client(network, "alice", store=store) as alice,
        ):

            async def put(n):
                with suppress(OutboxFull):
                    await alice.chat.outbox.put("bob", f"{n}")

            async with trio.open_nursery() as putting:
                for n in range(10):
                    putting.start_soon(put, n)
            assert len(store.outgoing()) == 2
        nursery.cancel_scope.cancel()


# --- private rooms ---


async def test_a_message_for_a_private_room_is_never_posted_to_an_open_one(network, autojump_clock):
    """It waits, and the server says that we were removed, and that an open room, in which we are, has this name."""
    server = PrivateServer(network)
    (first,) = chain((["alice", "bob"], ["alice"]))
    posts = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.listen)
        async with open_client(network, "bob") as bob:
            assert await server.hand_over(epoch_entry(2, first))
            server.answers[GroupPost] = posts.append
            await bob.chat.outbox.put_in_room("plans", "secret")
            await trio.sleep(5)
            assert posts
            before = len(posts)
            owner = identity_of("mallory").public.signing
            room = Room(room_id(owner, bytes(16), private=False), "plans", owner, 2, 1)
            server.answers[ListRooms] = lambda request: request.listed((room,))
            assert await server.hand_over(removed_entry(9))
            await trio.sleep(60)
            assert not [one for one in posts[before:] if b"secret" in one.body]
        nursery.cancel_scope.cancel()


# --- refusals ---


@pytest.mark.parametrize("mode", [RegistrationMode.CLOSED, RegistrationMode.INVITATION])
async def test_a_server_that_lets_nobody_in_makes_no_message_fail(stage, mode, autojump_clock):
    """It was put back to an old copy, say. The one behind it waits."""
    alice, bob = await stage.enter("alice", reconnect=True), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await stage.kill_server()
    stage.registration = mode
    await stage.start_server(MemoryServerStore())
    await alice.chat.outbox.put("bob", "1")
    await alice.chat.outbox.put_in_room("everyone", "2")
    await stage.pass_time(60)
    assert told(alice, MessageState.FAILED) == []
    assert sorted(waiting(alice)) == ["1", "2"]


# --- offline ---


async def test_what_waits_for_its_turn_is_not_sent_after_dereg(stage, monkeypatch, autojump_clock):
    monkeypatch.setattr("trio_chat.client.outbox_attempts.AT_ONCE", 1)
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await stage.pass_time(1)
    await carol.kill()
    await alice.chat.outbox.put("carol", "1")
    await trio.sleep(0.01)
    await alice.chat.outbox.put("bob", "2")
    await trio.sleep(0.01)
    await alice.chat.deregister()
    assert not alice.chat.online
    sent = len(stage.sent(DirectMessage, source=alice.host, destination=bob.host))
    await stage.pass_time(10)
    assert len(stage.sent(DirectMessage, source=alice.host, destination=bob.host)) == sent
    assert bob.texts() == []


# --- too much is sent ---


async def test_a_message_to_somebody_who_is_not_in_our_table_yet_is_sent_once(stage, autojump_clock):
    alice = await stage.enter("alice")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, TableChange) and destination[0] == alice.host)
    bob = await stage.enter("bob")
    await alice.chat.outbox.put("bob", "hi")
    await stage.pass_time(0.5)
    assert bob.texts() == ["hi"]
    ids = {message.id for message in stage.sent(DirectMessage, source=alice.host)}
    assert len(ids) == 1
    assert len(stage.sent(Save, source=alice.host)) == 0
    assert len(stage.sent(DirectMessage, source=alice.host)) <= 2  # a copy for the handshake


async def test_a_message_that_is_on_their_disk_in_the_moment_of_its_turn_ends_nothing(stage, autojump_clock):
    """It is to be sent again, and waits for its turn. That comes, and in the same step Bob says that it is there."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.lose(lambda message, source, destination: isinstance(message, MessagesKept), times=3)
    turns = alice.chat.outbox._attempts._to_others
    message = await alice.chat.outbox.put("bob", "1")
    assert (await alice.chat.outbox.news(message)).state is MessageState.RECEIVED
    turns.total_tokens = 1
    await turns.acquire_on_behalf_of("somebody else")
    await stage.pass_time(1.5)
    turns.release_on_behalf_of("somebody else")
    alice.chat.outbox.on_kept(Peer(("", 0), identity_of("bob").public.link), [message.id])
    await stage.pass_time(1)
    assert waiting(alice) == []
    await alice.chat.outbox.put("bob", "2")
    await stage.pass_time(1)
    assert bob.texts() == ["1", "2"]
    assert waiting(alice) == []
