"""What a client takes from the server: in order, once, whoever sent it and whatever any clock says.

The server and the other people are played by the test (raw_server.py), in virtual time.
"""

import attrs
import pytest
import trio

from tests.client.raw_server import RawServer, credentials_of, open_client
from tests.raw_peer import RawPeer
from tests.stage import identity_of
from trio_chat.client.events import (
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    LetterUnreadable,
    MessageReceived,
    SecondTextReceived,
)
from trio_chat.crypto.letters import seal_letter, sign_post
from trio_chat.crypto.receipts import Verdict, hash_text, read_receipt
from trio_chat.protocol.messages import Ack, Busy, DirectMessage, TableChange
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, Record, Version
from trio_chat.storage.client_interface import HistoryEntry, OpenedEntry
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

BOB = identity_of("bob")
DAY = 24 * 3600.0
NOW = 1_700_000_000.0


@pytest.fixture
async def server(network, nursery):
    server = RawServer(network, rows=("alice", "bob"))
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
async def bob(network, server):
    async with open_client(network, "bob") as bob:
        yield bob


def letter(seq, text, sender="alice", *, id=None, at=NOW, signed_at=None, identity=None) -> Entry:
    own, id_ = identity or identity_of(sender), id or new_id()
    at_their_clock = at if signed_at is None else signed_at
    body = seal_letter(own, BOB.public, id=id_, sender=sender, recipient="bob", sent_at=at_their_clock, text=text)
    return Entry(seq, EntryKind.DIRECT, id_, sender, own.public.signing, "bob", at, body)


def post(seq, text, sender="alice", *, id=None, at=NOW, signed_at=None) -> Entry:
    own, id_ = identity_of(sender), id or new_id()
    body = sign_post(own, id=id_, sender=sender, sent_at=at if signed_at is None else signed_at, text=text)
    return Entry(seq, EntryKind.GROUP, id_, sender, own.public.signing, EVERYONE, at, body)


def missed(seq, body) -> Entry:
    return Entry(seq, EntryKind.MISSED, new_id(), "bob", NO_KEY, "bob", 0.0, body)


def verdicts(taken, *letters_and_texts) -> list[Verdict]:
    """What the receipts say about these letters, which had these texts."""
    return [
        read_receipt(receipt, BOB.public.signing, id=one.id, sender=one.sender, text_hash=hash_text(text))
        for receipt, (one, text) in zip(taken.receipts, letters_and_texts, strict=True)
    ]


# --- away or live ---


async def test_what_was_in_the_log_when_we_registered_is_from_the_time_away(network, nursery, autojump_clock):
    server = RawServer(network, rows=("alice",), head=2)
    nursery.start_soon(server.listen)
    async with open_client(network, "bob") as bob:
        taken = await server.hand_over(letter(1, "one"), post(2, "two"), letter(3, "three"), post(4, "four"))
        assert (taken.count, len(taken.receipts)) == (4, 2)
    assert bob.shown == [
        LetterReceived("alice", "one", NOW, group=False, first=True),
        LetterReceived("alice", "two", NOW, group=True, first=False),
        MessageReceived("alice", "three"),
        GroupMessageReceived("alice", "four"),
    ]


async def test_a_batch_that_comes_again_is_acknowledged_again_and_shown_once(server, bob, autojump_clock):
    one = letter(1, "one")
    for _ in range(2):
        taken = await server.hand_over(one, post(2, "two"), missed(3, b"3"))
        assert taken.count == 3
        assert verdicts(taken, (one, "one")) == [Verdict.RECEIVED]
        one = attrs.evolve(one, seq=11)  # a new entry of the same message
    assert [type(event) for event in bob.shown] == [
        MessageReceived,
        GroupMessageReceived,
        GroupMessagesMissed,
        GroupMessageReceived,
        GroupMessagesMissed,
    ], "the posts and notices had new ids"


async def test_nothing_is_taken_before_the_table(network, nursery, autojump_clock):
    server = RawServer(network, rows=("alice",), head=1)
    tables = []

    def without_table(request):
        answer = server._answer(request)
        if isinstance(answer, TableChange):
            tables.append(answer)
            return None
        return answer

    server.answer = without_table
    nursery.start_soon(server.listen)
    taken = []

    async def hand_over_early():
        await trio.sleep(0.1)
        taken.append(await server.hand_over(letter(1, "hi")))
        server.send(server.client, tables[0])

    nursery.start_soon(hand_over_early)
    async with open_client(network, "bob") as bob:
        assert taken == [None], "to the program before this one, perhaps, which knew the key of the sender"
        assert (await server.hand_over(letter(1, "hi"))).count == 1
    assert bob.shown == [LetterReceived("alice", "hi", NOW, group=False, first=True)]


# --- who sent it ---


async def test_a_sender_whose_row_has_not_come_is_known_by_the_credentials_in_the_batch(server, bob, autojump_clock):
    one = letter(1, "hi", "carol")
    taken = await server.hand_over(one, post(2, "hi all", "carol"), senders=[("carol", credentials_of("carol"))])
    assert bob.shown == [MessageReceived("carol", "hi"), GroupMessageReceived("carol", "hi all")]
    assert verdicts(taken, (one, "hi")) == [Verdict.RECEIVED]
    assert bob.store.pinned("carol") == identity_of("carol").public.signing


@pytest.mark.parametrize("name", ["dave", "mallory"])
async def test_credentials_that_are_not_certified_for_the_name_are_not_believed(server, bob, autojump_clock, name):
    mallory = identity_of("mallory")
    one, after = letter(1, "hi", "dave", identity=mallory), letter(2, "after", "alice")
    taken = await server.hand_over(one, after, senders=[("dave", credentials_of("mallory", mallory))])
    assert bob.shown == [LetterUnreadable("dave"), MessageReceived("alice", "after")], "it holds up nothing"
    assert verdicts(taken, (one, "hi"), (after, "after")) == [Verdict.NOT_OPENED, Verdict.RECEIVED]
    assert bob.store.pinned("dave") is None


async def test_a_sender_of_whom_there_is_nothing_holds_up_nothing(server, bob, autojump_clock):
    taken = await server.hand_over(letter(1, "hi", "carol"), letter(2, "after"))
    assert taken.count == 2
    assert bob.shown == [LetterUnreadable("carol"), MessageReceived("alice", "after")]


async def test_a_pin_is_not_replaced_by_the_credentials_in_a_batch(server, bob, autojump_clock):
    mallory = identity_of("mallory")
    forged, true = letter(1, "hi", identity=mallory), letter(2, "hello")
    taken = await server.hand_over(forged, true, senders=[("alice", credentials_of("alice", mallory))])
    assert bob.shown == [LetterUnreadable("alice"), MessageReceived("alice", "hello")]
    assert verdicts(taken, (forged, "hi"), (true, "hello")) == [Verdict.NOT_OPENED, Verdict.RECEIVED]


# --- as much as there is room for ---


async def test_a_client_takes_as_many_entries_as_it_can_show(network, server, autojump_clock):
    async with open_client(network, "bob", backlog=4, listening=False) as bob:
        posts = [post(number, f"{number}") for number in range(1, 6)]
        taken = await server.hand_over(*posts)
        assert taken.count == 3, "one place has the change of the table"
        assert await server.hand_over(*posts[3:]) == Busy(taken.of, server.of(Busy)[0].id)
        assert len(bob.store.unshown()) == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.show_events)
            await trio.sleep(1)
            assert (await server.hand_over(*posts[3:])).count == 2
            nursery.cancel_scope.cancel()
    assert [event.text for event in bob.shown] == ["1", "2", "3", "4", "5"]


async def test_the_receipts_are_those_of_the_entries_that_were_taken(network, server, autojump_clock):
    async with open_client(network, "bob", backlog=3, listening=False):
        one, two = letter(1, "one"), letter(3, "two")
        taken = await server.hand_over(one, post(2, "to all"), two)
        assert taken.count == 2
        assert verdicts(taken, (one, "one")) == [Verdict.RECEIVED]


async def test_a_batch_with_a_notice_is_taken_as_a_whole_if_there_is_any_room(network, server, autojump_clock):
    async with open_client(network, "bob", backlog=2, listening=False) as bob:
        posts = [post(number, f"{number}") for number in range(1, 4)]
        batch = [missed(4, b"7"), *posts]
        assert (await server.hand_over(*batch)).count == 4
        assert isinstance(await server.hand_over(missed(9, b"1"), post(10, "10")), Busy), "now there is none"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.show_events)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert bob.shown[0] == GroupMessagesMissed(7)
    assert [event.text for event in bob.shown[1:]] == ["1", "2", "3"]


async def test_a_program_that_reads_nothing_takes_nothing(network, server, autojump_clock):
    async with open_client(network, "bob", backlog=0) as bob:
        assert isinstance(await server.hand_over(letter(1, "hi")), Busy)
        assert bob.store.unshown() == []


async def test_a_client_that_cannot_show_what_it_stored_before_takes_nothing_more(network, server, autojump_clock):
    store = MemoryClientStore()
    await store.keep(OpenedEntry(0, EntryKind.GROUP, new_id(), "alice", NOW, f"{number}") for number in range(5))
    async with open_client(network, "bob", store=store, backlog=2, listening=False):
        assert isinstance(await server.hand_over(post(1, "hi")), Busy), "at once: silence would look like an absence"


# --- what is skipped ---


async def test_what_a_newer_server_hands_over_is_acknowledged_and_skipped(server, bob, autojump_clock):
    strange = attrs.evolve(letter(1, "hi"), kind="poll")
    taken = await server.hand_over(strange, letter(2, "after"))
    assert (taken.count, len(taken.receipts)) == (2, 1)
    assert bob.shown == [MessageReceived("alice", "after")]
    assert bob.store.seen(("poll", "alice", strange.id)) is None


async def test_our_own_posts_are_skipped(server, bob, autojump_clock):
    taken = await server.hand_over(post(1, "mine", "Bob"), post(2, "hers"))
    assert taken.count == 2
    assert bob.shown == [GroupMessageReceived("alice", "hers")]


@pytest.mark.parametrize("body", [b"", b"-1", b"3 ", b"\xd9\xa3", b"1_0", b"x", b"1" * 17])
async def test_a_notice_without_a_number_is_skipped(server, bob, autojump_clock, body):
    taken = await server.hand_over(missed(1, body), missed(2, b"9" * 16))
    assert taken.count == 2
    assert bob.shown == [GroupMessagesMissed(10**16 - 1)]


async def test_an_entry_that_cannot_be_opened_is_reported_and_its_sender_can_know(server, bob, autojump_clock):
    one = letter(1, "hi")
    damaged = attrs.evolve(one, body=one.body[:-1] + bytes((one.body[-1] ^ 1,)))
    taken = await server.hand_over(damaged, attrs.evolve(post(2, "hi all"), body=b"junk"))
    assert bob.shown == [LetterUnreadable("alice")] * 2
    assert verdicts(taken, (one, "hi")) == [Verdict.NOT_OPENED]
    taken = await server.hand_over(one)
    assert bob.shown[2:] == [MessageReceived("alice", "hi")], "junk with its id does not keep the true letter out"
    assert verdicts(taken, (one, "hi")) == [Verdict.RECEIVED]


# --- two texts under one id ---


@pytest.fixture
async def alice(network, nursery, server, bob):
    """Alice, played by the test, online in Bob's table."""
    return await come_online(network, nursery, server, bob)


async def come_online(network, nursery, server, bob) -> RawPeer:
    alice = RawPeer(network, ("10.0.2.1", 6000), identity_of("alice"))
    nursery.start_soon(alice.listen)
    row = Record("alice", *alice.socket.address, online=True, since=2.0, credentials=credentials_of("alice"))
    epoch = bob.chat.table.version.epoch
    server.send(server.client, TableChange(new_id(), Version(epoch, 1), Version(epoch, 2), (row,)))
    await trio.sleep(1)
    return alice


async def is_acknowledged(alice, bob, id_, text) -> bool:
    """Send a direct message; whether Bob's client acknowledges it."""
    alice.received.clear()
    alice.send(bob.peer, DirectMessage(id_, "alice", "bob", text))
    await trio.sleep(1)
    return any(ack.id == id_ for ack in alice.of(Ack))


async def test_nobody_can_say_one_thing_and_prove_that_they_have_said_another(server, bob, alice, autojump_clock):
    id_ = new_id()
    assert await is_acknowledged(alice, bob, id_, "hi")
    lie, true = letter(1, "I owe you 1000", id=id_), letter(2, "hi", id=id_)
    taken = await server.hand_over(lie, true)
    assert verdicts(taken, (lie, "I owe you 1000"), (true, "hi")) == [Verdict.NOT_OPENED, Verdict.RECEIVED]
    assert await is_acknowledged(alice, bob, id_, "hi")
    # The Ack for `hi`, again. It is not signed: nobody can show others what it was for.
    assert await is_acknowledged(alice, bob, id_, "I owe you 1000")
    assert bob.shown == [MessageReceived("alice", "hi"), SecondTextReceived("alice")]
    assert [entry.text for entry in await bob.chat.history()] == ["hi"]


async def test_the_same_by_a_letter_and_then_directly(server, bob, alice, autojump_clock):
    id_ = new_id()
    await server.hand_over(letter(1, "hi", id=id_))
    assert not await is_acknowledged(alice, bob, id_, "I owe you 1000")
    assert await is_acknowledged(alice, bob, id_, "hi")
    assert bob.shown == [MessageReceived("alice", "hi"), SecondTextReceived("alice")]


async def test_the_same_directly_by_a_sender_who_keeps_it(server, bob, alice, autojump_clock):
    """Each copy of such a message is handled again, so it is not taken for one."""
    id_ = new_id()
    for text in ("hi", "I owe you 1000"):
        alice.send(bob.peer, DirectMessage(id_, "alice", "bob", text, True))
        await trio.sleep(1)
    assert bob.shown == [MessageReceived("alice", "hi"), SecondTextReceived("alice")]


async def test_the_same_in_one_batch(server, bob, autojump_clock):
    id_ = new_id()
    one, two, three = (letter(1, "hi", id=id_), letter(2, "I owe you 1000", id=id_), letter(3, "hi", id=id_))
    taken = await server.hand_over(one, two, three)
    told = verdicts(taken, (one, "hi"), (two, "I owe you 1000"), (three, "hi"))
    assert told == [Verdict.RECEIVED, Verdict.NOT_OPENED, Verdict.RECEIVED]
    assert bob.shown == [SecondTextReceived("alice"), MessageReceived("alice", "hi")]


async def test_the_same_by_posts(server, bob, autojump_clock):
    one, two = post(1, "hi", id=(id_ := new_id())), post(2, "I owe you 1000", id=id_)
    await server.hand_over(one)
    await server.hand_over(two, attrs.evolve(one, seq=3))
    assert bob.shown == [GroupMessageReceived("alice", "hi"), SecondTextReceived("alice")]


async def test_somebody_who_sends_many_second_texts_fills_no_screen(network, server, bob, alice, autojump_clock):
    id_ = new_id()
    for number in range(30):
        await is_acknowledged(alice, bob, id_, f"{number}")
        await server.hand_over(letter(1, f"letter {number}", id=id_), post(2, f"post {number}", id=id_))
    expected = [MessageReceived("alice", "0"), SecondTextReceived("alice"), GroupMessageReceived("alice", "post 0")]
    assert bob.shown == expected
    # Another name of the same key, and another key.
    for name, identity in (("dave", identity_of("alice")), ("carol", identity_of("carol"))):
        senders = [(name, credentials_of(name, identity))]
        letters = (letter(1, text, name, id=id_, identity=identity) for text in "xy")
        await server.hand_over(*letters, senders=senders)
    assert bob.shown == [
        *expected,
        MessageReceived("dave", "x"),
        SecondTextReceived("carol"),
        MessageReceived("carol", "x"),
    ]


async def test_a_warning_for_which_there_was_no_room_comes_with_the_next_second_text(
    network, nursery, server, autojump_clock
):
    id_ = new_id()
    async with open_client(network, "bob", backlog=2, listening=False) as bob:
        alice = await come_online(network, nursery, server, bob)
        await server.hand_over(letter(1, "hi", id=id_))  # the other place has the change of the table
        assert not await is_acknowledged(alice, bob, id_, "I owe you 1000")
        nursery.start_soon(bob.show_events)
        await trio.sleep(1)
        assert bob.shown == [MessageReceived("alice", "hi")]
        assert not await is_acknowledged(alice, bob, id_, "I owe you 1000")
        assert bob.shown == [MessageReceived("alice", "hi"), SecondTextReceived("alice")]


async def test_an_old_id_whose_text_is_not_known_is_not_signed_for(network, server, autojump_clock):
    store, id_ = MemoryClientStore(), new_id()
    store.saw((EntryKind.DIRECT, "alice", id_), bytes(32))  # as the migration of an old store leaves it
    async with open_client(network, "bob", store=store) as bob:
        one = letter(1, "hi", id=id_)
        assert verdicts(await server.hand_over(one), (one, "hi")) == [Verdict.NOT_OPENED]
    assert bob.shown == []


# --- clocks ---


async def test_a_sender_whose_clock_is_in_1970_is_shown_with_both_times(server, bob, autojump_clock):
    one, two = letter(1, "one", signed_at=0.0), post(2, "two", signed_at=0.0)
    taken = await server.hand_over(one, two)
    assert verdicts(taken, (one, "one")) == [Verdict.RECEIVED]
    assert bob.shown == [MessageReceived("alice", "one", 0.0), GroupMessageReceived("alice", "two", 0.0)]
    assert await bob.chat.history() == [
        HistoryEntry(NOW, "alice", "one"),
        HistoryEntry(NOW, "alice", "two", group=True),
    ]


async def test_a_letter_from_the_time_away_has_both_times_too(network, nursery, autojump_clock):
    server = RawServer(network, rows=("alice",), head=1)
    nursery.start_soon(server.listen)
    async with open_client(network, "bob") as bob:
        await server.hand_over(letter(1, "hi", signed_at=NOW + 90 * DAY))
    assert bob.shown == [LetterReceived("alice", "hi", NOW, group=False, first=True, signed_at=NOW + 90 * DAY)]


async def test_a_difference_of_up_to_a_minute_is_not_mentioned(server, bob, autojump_clock):
    for difference in (-61, -60, 0, 60, 61):
        await server.hand_over(letter(1, "x", signed_at=NOW + difference))
    assert [event.signed_at for event in bob.shown] == [NOW - 61, None, None, None, NOW + 61]


@pytest.mark.parametrize("ahead", [40 * DAY, -40 * DAY])
async def test_a_reader_whose_clock_is_wrong_reads_everything(network, server, autojump_clock, ahead):
    async with open_client(network, "bob", clock=lambda: NOW + ahead) as bob:
        one = letter(1, "one")
        taken = await server.hand_over(one, post(2, "two"))
        assert verdicts(taken, (one, "one")) == [Verdict.RECEIVED]
    assert bob.shown == [MessageReceived("alice", "one"), GroupMessageReceived("alice", "two")]
