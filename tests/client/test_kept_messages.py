"""Direct messages that their sender keeps until they are on the recipient's disk, and what a kill of that one does.

The server and the senders are played by the test (raw_server.py, raw_peer.py). Virtual time; what is too often or too
much is counted.
"""

import sqlite3
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.client.raw_server import RawServer, open_client
from tests.client.test_inbox import letter
from tests.raw_peer import RawPeer
from tests.stage import identity_of
from tests.storage.backends import inline
from tests.storage.test_client_store import Disk, SlowDisk
from trio_chat.client import kept_notices
from trio_chat.client.events import LetterReceived, MessageReceived, SecondTextReceived
from trio_chat.errors import StoreFailed
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import MAX_KEPT, Ack, DirectMessage, MessagesKept, Taken
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.wire import encode
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

LONG = "x" * 4000


@pytest.fixture
async def server(network, nursery):
    server = RawServer(network, rows=("alice", "bob", "mallory"))
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
def person(network, nursery):
    """`person("alice")`: somebody whose program acknowledges what it is told; each call is a new program."""
    ports = iter(range(7000, 8000))

    def begin(name):
        peer = RawPeer(network, ("10.0.2.1", next(ports)), identity_of(name))
        peer.answer = lambda message: message.ack() if isinstance(message, MessagesKept) else None
        nursery.start_soon(peer.listen)
        return peer

    return begin


@pytest.fixture
async def bob(network, server):
    async with open_client(network, "bob") as bob:
        yield bob


@asynccontextmanager
async def open_bob(network, path, run, **options):
    """Bob with a store in a file, whose transactions are run by `run`."""
    async with open_client_store(path, run) as store, open_client(network, "bob", store=store, **options) as bob:
        yield bob


def message(text="hi", sender="alice", *, id=None, keeps=True) -> DirectMessage:
    return DirectMessage(id or new_id(), sender, "bob", text, keeps)


async def shake_hands(peer, client):
    """Begin a session: until there is one, only some messages wait for it."""
    peer.send(client.peer, message("hello", client.chat.name, keeps=False))
    await trio.sleep(0.01)


def told(peer) -> list[bytes]:
    """The ids of all messages that are on Bob's disk, as his program says, in order."""
    return [id_ for notice in peer.of(MessagesKept) for id_ in notice.ids]


def texts(client) -> list[str]:
    return [event.text for event in client.shown]


# --- the second acknowledgement ---


async def test_the_sender_is_told_when_the_message_is_on_the_disk(network, server, person, tmp_path, autojump_clock):
    disk, alice = SlowDisk(), person("alice")
    async with open_bob(network, tmp_path / "store.db", disk.run) as bob:
        await trio.sleep(5)  # the pins are written
        one, before = message(), disk.commits
        alice.send(bob.peer, one)
        await trio.sleep(0.9)
        assert (len(alice.of(Ack)), told(alice), disk.commits) == (1, [], before), "the receipt comes at once"
        assert bob.shown == [MessageReceived("alice", "hi")]
        await trio.sleep(2)
        assert (len(alice.of(Ack)), told(alice), disk.commits) == (1, [one.id], before + 1)


async def test_who_does_not_ask_is_not_told(bob, person, autojump_clock):
    alice = person("alice")
    for _ in range(2):
        alice.send(bob.peer, message(keeps=False))
    await trio.sleep(1)
    assert (len(alice.of(Ack)), alice.of(MessagesKept)) == (2, [])


async def test_what_came_together_is_told_together(bob, person, autojump_clock):
    alice = person("alice")
    await shake_hands(alice, bob)
    sent = [message(f"{number}") for number in range(2 * MAX_KEPT + 10)]
    for one in sent:
        alice.send(bob.peer, one)
    await trio.sleep(0.3)
    assert sorted(len(notice.ids) for notice in alice.of(MessagesKept)) == [10, MAX_KEPT, MAX_KEPT]
    assert sorted(told(alice)) == sorted(one.id for one in sent)
    await trio.sleep(2)
    assert len(alice.of(MessagesKept)) == 3, "they were acknowledged"


@pytest.mark.parametrize("text", ["hi", LONG])
async def test_a_lost_notice_is_asked_for_by_sending_the_message_again(bob, person, text, autojump_clock):
    alice = person("alice")
    alice.answer = lambda message: None  # as if nothing came
    one = message(text)
    await send_in_parts(alice, bob, one)
    await trio.sleep(2)
    assert told(alice) == [one.id] * 3, "one window, and no more"
    alice.received.clear()
    await send_in_parts(alice, bob, one)
    await trio.sleep(2)
    assert len(alice.of(Ack)) == 1
    assert told(alice) == [one.id] * 3
    assert texts(bob) == [text]


async def send_in_parts(peer, client, request):
    """As a client sends it: in parts, if it is long."""
    for data in OutgoingRequest(request.kind, request.id, encode(request)).datagrams:
        peer.send(client.peer, data)
    await trio.sleep(0.01)


async def test_a_copy_is_not_told_of_before_the_message_is_on_the_disk(
    network, server, person, tmp_path, autojump_clock
):
    disk, alice = SlowDisk(), person("alice")
    async with open_bob(network, tmp_path / "store.db", disk.run) as bob:
        await trio.sleep(5)
        one, before = message(), disk.commits
        for _ in range(8):
            alice.send(bob.peer, one)
            await trio.sleep(0.1)
        assert (len(alice.of(Ack)), told(alice), disk.commits) == (8, [], before)
        await trio.sleep(5)
        assert set(told(alice)) == {one.id}


async def test_a_letter_that_comes_again_directly_is_told_of(server, bob, person, autojump_clock):
    alice, one = person("alice"), message()
    await server.hand_over(letter(1, "hi", id=one.id))
    alice.send(bob.peer, one)
    await trio.sleep(1)
    assert told(alice) == [one.id]
    assert texts(bob) == ["hi"]


async def test_what_is_sent_when_a_batch_was_taken_is_shown_after_all_of_it(server, bob, person, autojump_clock):
    alice, answer = person("alice"), server.answer
    await shake_hands(alice, bob)

    def send_directly(message_):
        if isinstance(message_, Taken):
            alice.send(bob.peer, message("4"))
        return answer(message_)

    server.answer = send_directly
    await server.hand_over(*(letter(number + 1, f"{number}") for number in range(4)))
    assert texts(bob) == [f"{number}" for number in range(5)]


async def test_a_copy_of_a_letter_that_is_being_stored_is_not_acknowledged(
    network, server, person, tmp_path, nursery, autojump_clock
):
    """It is not queued yet: what its sender sends directly after the acknowledgement would be shown before it."""
    disk, alice, one = SlowDisk(), person("alice"), message("one")
    async with open_bob(network, tmp_path / "store.db", disk.run) as bob:
        await trio.sleep(5)
        await shake_hands(alice, bob)
        await trio.sleep(5)
        nursery.start_soon(server.hand_over, letter(1, "one", id=one.id))
        await trio.sleep(0.1)
        alice.send(bob.peer, one)
        await trio.sleep(0.1)
        assert (alice.of(Ack), texts(bob)) == ([], [])
        await trio.sleep(5)
        alice.send(bob.peer, one)
        await trio.sleep(0.1)
        assert (len(alice.of(Ack)), texts(bob)) == (1, ["one"])


async def test_another_text_under_a_known_id_is_not_told_of(bob, person, autojump_clock):
    alice, one = person("alice"), message("hi")
    alice.send(bob.peer, one)
    await trio.sleep(1)
    alice.send(bob.peer, message("I owe you 1000", id=one.id))
    await trio.sleep(1)
    assert (len(alice.of(Ack)), told(alice)) == (1, [one.id]), "once, for the first one"
    assert bob.shown == [MessageReceived("alice", "hi"), SecondTextReceived("alice")]


async def test_who_is_blocked_is_told_nothing(bob, person, autojump_clock):
    alice, mallory = person("alice"), person("mallory")
    before, after = message(sender="mallory"), message(sender="mallory")
    mallory.send(bob.peer, before)
    await trio.sleep(0.05)
    assert mallory.of(Ack)
    with trio.move_on_after(0.01):  # the server is told later
        await bob.chat.block("mallory")
    for one in (before, after):
        mallory.send(bob.peer, one)
    alice.send(bob.peer, one := message())
    await trio.sleep(2)
    assert told(mallory) == []
    assert told(alice) == [one.id]


async def test_what_cannot_be_queued_is_neither_stored_nor_told_of(network, server, person, autojump_clock):
    alice = person("alice")
    async with open_client(network, "bob", backlog=0) as bob:
        alice.send(bob.peer, message())
        await trio.sleep(1)
        assert alice.received == []
        assert bob.store.unshown() == []


# --- kills, and a full disk ---


async def test_a_message_that_was_not_on_the_disk_is_sent_again(network, server, person, tmp_path, autojump_clock):
    disk, path, one = Disk(tmp_path), tmp_path / "store.db", message()
    alice = person("alice")
    async with open_bob(network, path, disk.run, listening=False) as bob:
        await trio.sleep(1)
        alice.send(bob.peer, one)
        await trio.sleep(0.01)
        assert (len(alice.of(Ack)), told(alice)) == (1, [])
    disk.fall_back()
    alice = person("alice")
    async with open_bob(network, path, disk.run) as bob:
        await trio.sleep(1)
        assert bob.shown == []
        alice.send(bob.peer, one)
        await trio.sleep(1)
        assert told(alice) == [one.id]
        assert bob.shown == [MessageReceived("alice", "hi")]


async def test_a_message_on_the_disk_that_was_not_shown_comes_at_the_next_start(
    network, server, person, tmp_path, autojump_clock
):
    disk, path, one = Disk(tmp_path), tmp_path / "store.db", message()
    alice = person("alice")
    async with open_bob(network, path, disk.run, listening=False) as bob:
        await trio.sleep(1)
        at = trio.current_time()
        alice.send(bob.peer, one)
        await trio.sleep(0.5)
        assert told(alice) == [one.id]
        assert await bob.chat.history() == [], "it is in the history when it has been shown"
    disk.fall_back()
    await trio.sleep(100)
    alice = person("alice")
    async with open_bob(network, path, disk.run) as bob:
        await server.hand_over(letter(1, "hi", id=one.id), letter(2, "after"))
        alice.send(bob.peer, one)
        await trio.sleep(1)
        assert told(alice) == [one.id]
        (first, second) = bob.shown
        assert first == LetterReceived("alice", "hi", first.sent_at, group=False, first=True), "with our own time"
        assert at <= first.sent_at < at + 0.1
        assert second == MessageReceived("alice", "after")
        assert [(entry.at, entry.text) for entry in await bob.chat.history()][:1] == [(first.sent_at, "hi")]
    async with open_bob(network, path, disk.run) as bob:
        await trio.sleep(1)
        assert bob.shown == []


async def test_a_message_that_was_shown_and_not_marked_comes_again(network, server, person, tmp_path, autojump_clock):
    disk, path, one = Disk(tmp_path), tmp_path / "store.db", message()
    alice = person("alice")
    async with open_bob(network, path, disk.run, listening=False) as bob:
        await trio.sleep(1)
        alice.send(bob.peer, one)
        await trio.sleep(0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.show_events)
            await trio.sleep(0.01)
            assert texts(bob) == ["hi"]
            nursery.cancel_scope.cancel()
    disk.fall_back()
    async with open_bob(network, path, disk.run) as bob:
        await trio.sleep(1)
        assert texts(bob) == ["hi"], "rather twice than not at all"
        assert [entry.text for entry in await bob.chat.history()] == ["hi"]


async def test_a_program_that_ends_by_itself_leaves_what_it_has_not_shown(network, server, person, autojump_clock):
    store, alice = MemoryClientStore(), person("alice")
    async with open_client(network, "bob", store=store, listening=False) as bob:
        alice.send(bob.peer, message("one", keeps=False))
        alice.send(bob.peer, message("two", keeps=False))
        await trio.sleep(1)
        async for event in bob.chat.events:
            if isinstance(event, MessageReceived):
                bob.chat.mark_shown()
                break
    async with open_client(network, "bob", store=store) as bob:
        await trio.sleep(1)
        assert texts(bob) == ["two"]


async def test_nothing_is_queued_twice_while_it_waits(network, server, person, autojump_clock):
    alice = person("alice")
    async with open_client(network, "bob", listening=False) as bob:
        for number in range(3):
            alice.send(bob.peer, message(f"{number}"))
            await trio.sleep(0.2)
            await server.hand_over(letter(number + 1, f"letter {number}"))
        assert len(bob.store.unshown()) == 6
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.show_events)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert texts(bob) == ["0", "letter 0", "1", "letter 1", "2", "letter 2"]
        assert [entry.text for entry in await bob.chat.history()] == texts(bob)


async def test_nobody_is_told_that_a_message_is_on_a_full_disk(network, server, person, tmp_path, autojump_clock):
    is_full, alice = trio.Event(), person("alice")

    async def run(work):
        if is_full.is_set():
            await trio.lowlevel.checkpoint()
            raise sqlite3.OperationalError("database or disk is full")
        return await inline(work)

    with pytest.raises(StoreFailed, match="disk is full"):
        async with open_bob(network, tmp_path / "store.db", run) as bob:
            await trio.sleep(1)
            is_full.set()
            alice.send(bob.peer, message())
            await trio.sleep(5)
    await trio.sleep(5)
    assert (len(alice.of(Ack)), told(alice)) == (1, [])


async def test_the_server_keeps_what_is_not_on_a_full_disk(network, server, tmp_path, autojump_clock):
    is_full = False

    async def run(work):
        if is_full:
            await trio.lowlevel.checkpoint()
            raise sqlite3.OperationalError("database or disk is full")
        return await inline(work)

    with pytest.raises(StoreFailed, match="disk is full"):
        async with open_bob(network, tmp_path / "store.db", run) as bob:
            await trio.sleep(1)
            is_full = True
            await server.hand_over(letter(1, "hi"))
    await trio.sleep(5)
    assert (server.of(Taken), texts(bob)) == ([], [])


# --- who is hostile ---


async def test_copies_of_a_known_message_cause_ten_notices_a_second_at_most(bob, person, autojump_clock):
    mallory, one = person("mallory"), message(sender="mallory")
    await shake_hands(mallory, bob)
    for _ in range(300):  # 10,000 a second
        for _ in range(10):
            mallory.send(bob.peer, one)
        await trio.sleep(0.001)
    # At most one for each time that she sent: copies that arrive together get one answer.
    assert 300 <= len(mallory.of(Ack)) <= 3000
    assert len(mallory.of(MessagesKept)) <= 3
    await trio.sleep(2)
    assert 2 <= len(mallory.of(MessagesKept)) <= 4
    assert set(told(mallory)) == {one.id}
    assert texts(bob) == ["hi"]


async def test_who_does_not_answer_holds_up_nobody(bob, person, autojump_clock):
    alice, mallory = person("alice"), person("mallory")
    mallory.answer = lambda message: None
    before, most = trio.lowlevel.current_statistics().tasks_living, 0
    for number in range(50):
        mallory.send(bob.peer, message(f"{number}", "mallory"))
        alice.send(bob.peer, one := message(f"{number}"))
        for _ in range(15):
            await trio.sleep(0.01)
            most = max(most, trio.lowlevel.current_statistics().tasks_living - before)
        assert told(alice)[-1] == one.id, "within 150 ms"
    assert len(alice.of(MessagesKept)) == 50, "one for each, as nothing is sent again to who answers"
    assert most <= 6, "a window is as long as five pauses"


async def test_a_bounded_number_of_ids_waits_and_each_key_has_a_share(bob, person, monkeypatch, autojump_clock):
    monkeypatch.setattr(kept_notices, "MAX_UNTOLD", 40)
    alice, mallories = person("alice"), [person("mallory") for _ in range(3)]
    await trio.sleep(1)
    floods = [message(f"{number}", "mallory") for number in range(30)]
    for number, one in enumerate(floods):
        mallories[number % 3].send(bob.peer, one)
    alice.send(bob.peer, hers := message())
    await trio.sleep(1)
    notices = bob.chat._inbox.kept_notices
    assert (sum(len(told(mallory)) for mallory in mallories), notices.dropped) == (10, 20), "whatever their addresses"
    assert told(alice) == [hers.id]
    await trio.sleep(1)
    mallories[0].send(bob.peer, floods[-1])
    await trio.sleep(1)
    assert told(mallories[0])[-1] == floods[-1].id, "who asks again is told"


# --- the sender's side ---


async def test_the_sender_hears_which_messages_are_kept_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    heard = []
    alice.chat._direct.on_kept = lambda peer, ids: heard.append((peer, ids))
    stage.lose(lambda message, *_: isinstance(message, Ack) and message.of == MessagesKept.kind, times=1)
    record, keys = await alice.chat._people.keys("bob")
    one = DirectMessage(new_id(), "alice", "bob", "hi", True)
    assert await alice.chat._direct.send(one, record, keys) is None
    await stage.pass_time(2)
    assert heard == [(Peer((bob.host, 6000), identity_of("bob").public.link), (one.id,))]
    assert len(stage.sent(MessagesKept)) == 2, "the acknowledgement of the first one was lost"
    assert bob.texts() == ["hi"]


async def test_a_message_that_is_sent_as_ever_is_not_kept(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    assert (await alice.chat.send("bob", "hi")).how == "direct"
    await stage.pass_time(2)
    assert stage.sent(MessagesKept) == []
    assert [one.sender_keeps for one in stage.sent(DirectMessage)] == [False]
    assert bob.texts() == ["hi"]


async def test_who_is_offline_hears_nothing(bob, person, autojump_clock):
    heard = []
    bob.chat._direct.on_kept = lambda peer, ids: heard.append(ids)
    alice, notice = person("alice"), partial(MessagesKept, ids=(new_id(),))
    alice.send(bob.peer, notice(new_id()))
    await trio.sleep(0.1)
    assert (len(alice.of(Ack)), len(heard)) == (1, 1)
    await bob.chat.deregister()
    alice.send(bob.peer, notice(new_id()))
    await trio.sleep(0.1)
    assert (len(alice.of(Ack)), len(heard)) == (1, 1)
