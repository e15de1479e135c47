"""Blocking: nothing more comes from the owner of a key, who cannot tell it from an absence.

All stories run in virtual time over the network in memory (tests/stage.py), which has no delay. So the times of answers
are compared exactly.
"""

import attrs
import pytest
import trio
import trio.testing

from tests.client.raw_server import RawServer, credentials_of, open_client
from tests.client.test_inbox import letter, post, verdicts
from tests.network import open_memory_network
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER, identity_of, open_stage
from trio_chat.client.block_list import Blocked
from trio_chat.client.events import LetterReceived, MessageNotDelivered, MessageReceived
from trio_chat.crypto.receipts import Verdict
from trio_chat.errors import (
    BlockedYourself,
    InvalidName,
    NotBlocked,
    ServerNotResponding,
    TooManyBlocked,
    UnknownRecipient,
)
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import (
    Ack,
    Batch,
    DirectMessage,
    Find,
    Found,
    ListNames,
    Registered,
    Save,
    TableChange,
)
from trio_chat.protocol.records import NO_KEY, Version, fingerprint
from trio_chat.protocol.wire import encode
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

RETENTION = 600.0


def key_of(name):
    return identity_of(name).public.signing


def fingerprint_of(name):
    return fingerprint(key_of(name))


# --- the list ---


async def test_a_key_is_blocked_and_its_names_are_listed(stage, autojump_clock):
    bob = await stage.enter("bob")
    await stage.enter("Mallory", identity=identity_of("mallory"))
    await stage.pass_time(1)
    assert bob.chat.blocked == ()
    assert await bob.chat.block("mallory") == fingerprint_of("mallory")
    assert await bob.chat.block("MALLORY") == fingerprint_of("mallory"), "it may be repeated"
    assert bob.chat.blocked == (Blocked(("Mallory",), fingerprint_of("mallory")),)
    other_keys = identity_of("mallory")
    await stage.enter("angel", identity=other_keys)
    await stage.pass_time(1)
    assert bob.chat.blocked == (Blocked(("angel", "Mallory"), fingerprint_of("mallory")),)
    await bob.chat.unblock("Angel")
    assert bob.chat.blocked == ()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *(("bob", BlockedYourself), ("BOB", BlockedYourself), ("bob2", BlockedYourself)),
        *(("nobody", UnknownRecipient), ("no name", InvalidName)),
    ],
)
async def test_who_cannot_be_blocked(stage, autojump_clock, name, error):
    await (await stage.enter("bob2", identity=identity_of("bob"))).kill()
    bob = await stage.enter("bob")
    await stage.pass_time(1)
    with pytest.raises(error):
        await bob.chat.block(name)
    with pytest.raises(NotBlocked):
        await bob.chat.unblock(name)
    assert bob.chat.blocked == ()


async def test_256_can_be_blocked(stage, autojump_clock):
    store = MemoryClientStore()
    for number in range(255):
        await store.block(number.to_bytes(32, "big"), f"p{number}")
    bob, alice = await stage.enter("bob", store=store), await stage.enter("alice")
    await stage.enter("carol")
    await stage.pass_time(1)
    await bob.chat.block("alice")
    await stage.pass_time(1)
    assert not alice.chat.table["bob"].online, "the longest list goes to the server, too"
    with pytest.raises(TooManyBlocked):
        await bob.chat.block("carol")
    await bob.chat.block("alice")
    await bob.chat.unblock("p17")
    await bob.chat.block("carol")
    assert len(bob.chat.blocked) == 256


async def test_who_has_another_key_now_is_not_blocked_and_the_old_key_stays_so(stage, autojump_clock):
    bob, eve = await stage.enter("bob"), await stage.enter("eve")
    await stage.pass_time(1)
    await bob.chat.block("eve")
    await eve.chat.deregister()
    await stage.server_store.forget("eve")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(60)
    await stage.enter("eve", identity=identity_of("another"))
    angel = await stage.enter("angel", identity=identity_of("eve"))
    await stage.pass_time(1)
    assert bob.chat.blocked == (Blocked(("angel",), fingerprint_of("eve")),)
    await bob.chat.unblock("eve")
    assert bob.chat.blocked == (), "eve has this key, as far as bob trusts"
    await bob.chat.block("eve")
    await angel.kill()
    await stage.kill_server()
    await stage.server_store.delete("angel", 1.0)
    await stage.start_server()
    await stage.pass_time(60)
    await bob.chat.trust("eve")
    both = [Blocked(("eve",), fingerprint_of(key)) for key in ("eve", "another")]
    assert list(bob.chat.blocked) == both, "there is no other name of the first key"
    await bob.chat.unblock("eve")
    assert bob.chat.blocked == (), "both were listed as eve"


async def test_the_list_is_kept_if_the_server_is_silent(stage, autojump_clock):
    bob = await stage.enter("bob")
    await stage.enter("mallory")
    await stage.pass_time(1)
    stage.network.cut(SERVER[0])
    with pytest.raises(ServerNotResponding):
        await bob.chat.block("mallory")
    assert list(bob.store.blocked()) == [key_of("mallory")]


# --- what does not come any more ---


async def test_nothing_comes_from_who_is_blocked_whatever_way_they_take(stage, autojump_clock):
    bob, alice, carol = [await stage.enter(name) for name in ("bob", "alice", "carol")]
    await stage.pass_time(1)
    await bob.chat.block("alice")
    assert (await alice.chat.send("bob", "before her table says that bob is away")).how == "saved"
    await stage.pass_time(1)
    assert (await alice.chat.send("bob", "a letter")).how == "saved"
    await alice.chat.send_all("to all")
    assert (await carol.chat.send("bob", "hi")).how == "direct"
    await carol.chat.send_all("hi all")
    await stage.pass_time(1)
    assert bob.texts() == ["hi", "hi all"]
    assert carol.texts() == ["to all"]
    assert [entry.text for entry in await bob.chat.history()] == ["hi", "hi all"]
    await bob.chat.deregister()
    await alice.chat.send("bob", "while away")
    await carol.chat.send("bob", "while away, too")
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.texts() == ["hi", "hi all", "while away, too"]
    assert await bob.chat.search("while") == [entry for entry in await bob.chat.history() if "too" in entry.text]


async def test_a_direct_message_of_who_is_blocked_is_not_answered(stage, nursery, autojump_clock):
    bob = await stage.enter("bob")
    mallory = RawPeer(stage.network, ("10.9.0.1", 7000), identity_of("mallory"))
    nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY))
    await stage.pass_time(1)
    peer = Peer((bob.host, 6000), identity_of("bob").public.link)
    mallory.send(peer, DirectMessage(new_id(), "mallory", "bob", "before"))
    await stage.pass_time(1)
    assert len(mallory.of(Ack)) == 1
    await bob.chat.block("mallory")
    await stage.pass_time(1)
    mallory.send(peer, DirectMessage(new_id(), "mallory", "bob", "after"))
    await stage.pass_time(1)
    assert len(mallory.of(Ack)) == 1
    assert [source for source, _ in mallory.received].count(peer) == 1
    assert bob.texts() == ["before"]


async def test_another_name_of_the_same_key_is_blocked(stage, autojump_clock):
    bob, mallory = await stage.enter("bob"), await stage.enter("mallory")
    await stage.pass_time(1)
    await bob.chat.block("mallory")
    await mallory.kill()
    angel = await stage.enter("angel", identity=identity_of("mallory"))
    await stage.pass_time(1)
    assert "bob" not in angel.chat.table
    assert [one.online for one in await angel.chat.everybody() if one.name == "bob"] == [False]
    assert (await angel.chat.send("bob", "hi")).how == "saved"
    await angel.chat.send_all("hi all")
    await stage.pass_time(1)
    assert bob.texts() == []


async def test_after_unblocking_all_is_as_before_and_what_was_sent_meanwhile_does_not_come(stage, autojump_clock):
    bob, alice = await stage.enter("bob"), await stage.enter("alice")
    await stage.pass_time(1)
    await bob.chat.block("alice")
    await stage.pass_time(1)
    await alice.chat.send("bob", "lost")
    await stage.pass_time(1)
    await bob.chat.unblock("alice")
    await stage.pass_time(1)
    assert alice.chat.table["bob"].online
    assert (await alice.chat.send("bob", "hi")).how == "relayed", "as far as alice knows, that one waits at the server"
    assert (await alice.chat.send("bob", "again")).how == "direct"
    await stage.pass_time(1)
    assert bob.texts() == ["hi", "again"]


async def test_the_list_goes_with_each_registration(stage, autojump_clock):
    bob, alice = await stage.enter("bob"), await stage.enter("alice")
    await stage.pass_time(1)
    await bob.chat.deregister()
    await bob.chat.block("alice")
    await bob.chat.register()
    await stage.pass_time(1)
    assert not alice.chat.table["bob"].online
    await bob.kill()
    bob = await stage.enter("bob", store=bob.store)
    await stage.pass_time(1)
    assert not alice.chat.table["bob"].online
    assert bob.chat.blocked == (Blocked(("alice",), fingerprint_of("alice")),)


async def test_messages_of_now_are_not_of_the_time_away_because_of_a_block(stage, autojump_clock):
    bob, carol = await stage.enter("bob"), await stage.enter("carol")
    await stage.enter("alice")
    await stage.pass_time(1)
    stage.lose(lambda message, _, to: isinstance(message, Batch) and to[0] == bob.host, times=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carol.chat.send_all, "hi")
        await stage.pass_time(0.3)
        assert bob.received == []
        await bob.chat.block("alice")
    await stage.pass_time(5)
    assert [event for event in bob.received if isinstance(event, LetterReceived)] == []
    assert bob.texts() == ["hi"]


async def test_a_letter_that_waits_for_its_receipt_when_its_sender_is_blocked_is_saved(stage, nursery, autojump_clock):
    def answer(message):
        match message:
            case TableChange():
                return message.held(message.after)
            case Batch():
                return message.taken(len(message.entries), (b"",))
        return None

    bob = RawPeer(stage.network, ("10.9.0.1", 7000), identity_of("bob"))
    bob.answer = answer
    nursery.start_soon(bob.listen)
    bob.send(SERVER_PEER, bob.register("bob", SERVER_KEY))
    alice = await stage.enter("alice")
    await stage.pass_time(1)
    assert (await alice.chat.send("bob", "hi")).how == "saved"
    assert len(bob.of(Batch)) == 1
    await stage.pass_time(10)
    assert alice.received == []


# --- a server that lies ---


@pytest.fixture
async def server(network, nursery):
    server = RawServer(network, rows=("alice", "mallory"))
    nursery.start_soon(server.listen)
    return server


async def test_letters_of_who_is_blocked_get_empty_receipts_and_the_others_get_theirs(network, server, autojump_clock):
    async with open_client(network, "bob") as bob:
        await bob.chat.block("mallory")
        one, two = letter(1, "one", "mallory"), letter(2, "two")
        taken = await server.hand_over(one, post(3, "three", "mallory"), two)
        assert taken.count == 3
        assert taken.receipts[0] == b""
        assert verdicts(attrs.evolve(taken, receipts=taken.receipts[1:]), (two, "two")) == [Verdict.RECEIVED]
        assert bob.shown == [MessageReceived("alice", "two")]


@pytest.mark.parametrize("key", [NO_KEY, key_of("alice")], ids=["no key", "another key"])
async def test_a_server_that_names_another_key_does_not_help_them(network, server, autojump_clock, key):
    async with open_client(network, "bob") as bob:
        await bob.chat.block("mallory")
        entries = [attrs.evolve(one, key=key) for one in (letter(1, "one", "mallory"), post(2, "two", "mallory"))]
        taken = await server.hand_over(*entries)
        assert (taken.count, taken.receipts) == (2, (b"",))
        assert bob.shown == []


async def test_garbage_of_who_is_blocked_causes_no_warning(network, server, autojump_clock):
    async with open_client(network, "bob") as bob:
        await bob.chat.block("mallory")
        taken = await server.hand_over(attrs.evolve(letter(1, "one", "mallory"), body=b"garbage"))
        assert taken.receipts == (b"",)
        # Under a name of which nothing is known here.
        await server.hand_over(letter(2, "two", "angel", identity=identity_of("mallory")))
        assert bob.shown == []


async def test_a_new_owner_of_a_blocked_name_is_not_blocked(network, server, autojump_clock):
    async with open_client(network, "bob") as bob:
        await bob.chat.block("mallory")
        new_owner = identity_of("somebody else")
        await server.hand_over(
            letter(1, "one", "mallory", identity=new_owner), senders=[("mallory", credentials_of("mallory", new_owner))]
        )
        assert [type(event).__name__ for event in bob.shown] == ["LetterUnreadable"], "the user is told, and can trust"


# --- what the sender sees ---


class Sender:
    """What alice gets while she writes to bob. Ids and seals, which differ in each run, are left out."""

    def __init__(self, stage, alice):
        self.results = []
        self._stage = stage
        self._alice = alice
        self._begin = trio.current_time()

    async def send(self, text):
        began = trio.current_time()
        delivery = await self._alice.chat.send("bob", text)
        self.results.append((delivery, trio.current_time() - began))

    async def ask(self, request):
        began = trio.current_time()
        answer = await self._alice.chat._registration.ask(request)
        if isinstance(answer, Found):
            answer = attrs.evolve(answer, version=Version(bytes(8), 0))
        self.results.append((attrs.evolve(answer, id=bytes(16)), trio.current_time() - began))

    def view(self, with_versions):
        """All that she got since the beginning: results, events, her table, and each message with its time and size.

        Not which of them came in one datagram, or which of her programs got theirs first: with the same messages, that
        depends on the order of tasks in one turn.
        """
        lines = sorted(self._stage.network.log, key=lambda line: (line.time, line.destination))
        arrived = [
            (
                line.time,
                line.source,
                len(encode(message)) if with_versions else None,
                self._content(message, with_versions),
            )
            for line in lines
            if line.destination[0] == self._alice.host and line.time >= self._begin
            for message in self._stage.tap.messages(line.data)
        ]
        chat = self._alice.chat
        return [self.results, self._alice.received, self._alice.table_changes, dict(chat.table), arrived]

    def _content(self, message, with_versions):
        match message:
            case TableChange(before=before, after=after, records=records):
                return TableChange, records, with_versions and (before.n, after.n)
            case Registered(version=version, waiting=waiting, head=head):
                return Registered, waiting, head, with_versions and version.n
            case Batch(entries=entries, senders=senders):
                return Batch, [attrs.evolve(entry, id=bytes(16)) for entry in entries], senders
            case Found(record=record):
                return Found, record
            case other:
                return type(other)


async def go_away(bob):
    await bob.chat.deregister()


async def block(bob):
    await bob.chat.block("alice")


async def tell(stage, leave, live=None):
    """The story of alice, whom bob leaves alone in one of these ways. `live`: what bob does meanwhile."""
    bob, alice, carol = [await stage.enter(name) for name in ("bob", "alice", "carol")]
    await stage.pass_time(5)
    assert (await alice.chat.send("bob", "before")).how == "direct"
    await stage.pass_time(5)
    sender = Sender(stage, alice)
    await leave(bob)
    if live:
        stage._nursery.start_soon(live, stage, bob)
    for number in range(4):
        await stage.pass_time(3)
        await sender.send("text" * 10**number)
    await alice.chat.send_all("to all")
    # A client that asks for more than ours does.
    copy = stage.sent(Save)[-1]
    questions = Find(new_id(), "BOB"), ListNames(new_id())
    for request in (copy, copy, attrs.evolve(copy, body=b"another"), *questions):
        await sender.ask(request)
    await carol.chat.send("alice", "hi")
    await stage.pass_time(100)
    await carol.chat.deregister()
    await stage.pass_time(100)
    await alice.chat.register()
    await sender.send("again")
    await alice.kill()
    sender._alice = await stage.enter("alice", host=alice.host, port=6001, store=alice.store)
    await stage.pass_time(3 * RETENTION)
    return sender


def view(*story, with_versions=True):
    async def run():
        async with open_memory_network() as network, open_stage(network) as stage:
            return (await tell(stage, *story)).view(with_versions)

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def short_retention(monkeypatch):
    """What is not read fails after ten minutes, and the server trusts its clock after one."""
    monkeypatch.setattr("trio_chat.server.retention.RETENTION", RETENTION)
    monkeypatch.setattr("trio_chat.server.retention.AGREEMENT", 60.0)


def test_a_sender_cannot_tell_a_block_from_an_absence(short_retention):
    absent, blocking = view(go_away), view(block)
    assert absent == blocking
    _, received, _, table, messages = blocking
    assert "bob" not in table, "her second program came after that"
    assert len([event for event in received if isinstance(event, MessageNotDelivered)]) == 5, "as if nobody read them"
    assert len(messages) > 100


async def live_on(stage, bob):
    """Register again, in all ways; move; go, and come back."""
    await stage.pass_time(4)
    await bob.chat.register()
    await stage.pass_time(30)
    await bob.kill()
    bob = await stage.enter("bob", host="10.7.0.1", store=bob.store)
    await stage.pass_time(30)
    bob = await stage.enter("bob", host="10.7.0.2", store=bob.store)
    await stage.pass_time(30)
    await bob.chat.deregister()
    await stage.pass_time(30)
    await bob.chat.register()
    await stage.pass_time(60)
    await bob.chat.deregister()


def test_a_sender_sees_nothing_of_what_somebody_who_blocks_them_does(short_retention):
    # Only the numbers of versions show that something has changed in the table, for whatever reason.
    absent, blocking = view(go_away, with_versions=False), view(block, live_on, with_versions=False)
    assert absent == blocking


async def test_who_has_another_key_than_before_is_blocked_with_both(stage, autojump_clock):
    bob = await stage.enter("bob")
    mallory = await stage.enter("mallory", identity=identity_of("mallory"))
    await mallory.chat.send("bob", "hello")
    await mallory.chat.deregister()
    await stage.server_store.forget("mallory")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(60)
    again = await stage.enter("mallory", identity=identity_of("another mallory"))
    await stage.pass_time(1)
    await bob.chat.block("mallory")
    before = list(bob.received)
    await again.chat.send_all("a line on your screen")
    assert (await again.chat.send("bob", "and another one")).how == "saved"
    await stage.pass_time(5)
    assert bob.received == before
    assert {row.key for row in bob.chat.blocked} == {fingerprint_of("mallory"), fingerprint_of("another mallory")}
