"""What is sent to whom, in which order and how often: one request in flight for each session, from one log.

The real delivery loop with a store in memory and an endpoint that the test answers (tests/delivering_server.py), in
virtual time; the last test tries any sequence of events.
"""

import random
from collections.abc import Callable
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.bare_server import A, B, C, D, elsewhere, identity_of
from tests.delivering_server import CountingStore, DeliveringServer, receipt_for, taken_by
from tests.fake_endpoint import Sent
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_IDENTITY, SERVER_KEY, SERVER_PEER
from trio_chat.crypto.receipts import NO_HASH, sign_receipt
from trio_chat.link.session import Peer
from trio_chat.protocol.log import BATCH_BYTES
from trio_chat.protocol.messages import MAX_RECEIPTS, Batch, GroupPost, Heartbeat, Save, TableChange, TableHeld
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, Reason, Version
from trio_chat.server import delivery as delivery_module
from trio_chat.server.delivery import PROBES
from trio_chat.server.server import serve_chat
from trio_chat.server.service import Append, Session
from trio_chat.storage import server_log
from trio_chat.transport.windows import ACK_WINDOW


@pytest.fixture
async def server(nursery) -> DeliveringServer:
    """Alice, bob and carol are online, and hold the table."""
    server = DeliveringServer()
    await server.start(nursery)
    for name, peer in (("alice", A), ("bob", B), ("carol", C)):
        await server.come(name, peer)
    for session in server.service.online():
        server.hold_table(session)
    await trio.testing.wait_all_tasks_blocked()
    server.store.calls.clear()
    return server


@pytest.fixture
def bob(server) -> Session:
    return server.service.session("bob")


# --- batches ---


async def test_letters_posts_and_receipts_come_in_the_order_of_the_log(server, autojump_clock):
    await server.post_to_all(C)
    await server.send(A, "bob", "carol")
    await server.post_to_all(A)
    await server.send(B, "carol")
    await server.take_all(C)  # two letters: two receipts
    kinds = [entry.kind for entry in server.store.log]
    assert kinds == ["group", "direct", "direct", "group", "direct", "receipt", "receipt"]
    assert await server.take_all(B) == [1, 2, 4, 7]
    assert await server.take_all(A) == [1, 6, 8], "the receipt is the last entry for this name"


async def test_one_request_is_in_flight_and_what_comes_meanwhile_goes_into_the_next(server, autojump_clock):
    await server.send(A, "bob")
    first = await server.sent_to(B)
    for _ in range(3):
        await server.send(A, "bob")
        await server.post_to_all(A)
        assert await server.sent_to(B) is first
    assert await server.take(B) == [1]
    assert await server.take(B) == [2, 3, 4, 5, 6, 7]
    assert await server.sent_to(B) is None
    ids = [one.request.id for one in server.endpoint.sent if one.peer == B]
    assert len(set(ids)) == len(ids) == 2, "an id that comes again is a copy"


async def test_a_batch_has_as_many_letters_as_the_answer_has_room_for_receipts(server, autojump_clock):
    await server.send(A, *["bob"] * (MAX_RECEIPTS + 3))
    assert await server.take(B) == [1]
    assert len(await server.take(B)) == MAX_RECEIPTS
    assert len(await server.take(B)) == 2


async def test_a_batch_has_as_many_bytes_as_its_parts_can_carry(server, autojump_clock):
    body = bytes(BATCH_BYTES // 4)
    await server.append(*(server.ask(A, GroupPost(server.id(), body)) for _ in range(5)))
    assert [len(await server.take(B)) for _ in range(2)] == [3, 2]


async def test_one_post_goes_to_all_in_one_fan_out(server, autojump_clock):
    await server.post_to_all(A)
    to_bob, to_carol = await server.sent_to(B), await server.sent_to(C)
    assert to_bob.on_answer is to_carol.on_answer, "one window for all"
    assert await server.sent_to(A) is None, "it is their own"


async def test_the_first_entries_of_a_batch_are_acknowledged_and_the_others_come_again(server, bob, autojump_clock):
    await server.send(A, "bob", "bob", "carol", "bob", "bob")
    assert await server.take(B) == [1]
    assert await server.take(B, 2) == [2, 4]
    assert bob.position == 4
    assert server.store.log[-1].kind == EntryKind.RECEIPT
    assert await server.sent_to(B) is None, "a client that takes a part has no room for more: it gets a pause"
    await trio.sleep(ACK_WINDOW)
    assert await server.take(B) == [5]


async def test_a_part_of_a_batch_with_a_notice_is_not_taken(server, bob, autojump_clock, monkeypatch):
    """The notice counts what is missed up to the end of the batch: after a part of it, some would be counted again."""
    monkeypatch.setattr(server_log, "ROOM_POSTS", 4)
    monkeypatch.setattr(delivery_module, "TAIL_ENTRIES", 1)
    server.leave(B)
    for peer in (A, C, A, A, C, A, A):
        await server.post_to_all(peer)
    bob = await server.come("bob", B)
    batch = await server.batch_to(B)
    assert [(one.kind, one.seq, one.body) for one in batch.entries[:2]] == [
        ("missed", 4, b"3"),
        ("group", 2, b"signed"),
    ]
    assert await server.take(B, 3) == [4, 2, 5]
    assert (bob.position, await server.sent_to(B)) == (0, None), "a pause, as after a part of another one"
    await trio.sleep(ACK_WINDOW)
    assert (await server.batch_to(B)).entries == batch.entries
    await server.take(B)
    assert (bob.position, await server.sent_to(B)) == (7, None)


async def test_a_batch_that_is_taken_to_its_end_moves_the_position_past_what_others_get(server, bob, autojump_clock):
    await server.send(A, "bob")
    await server.sent_to(B)
    await server.send(A, "bob", "carol", "carol")
    await server.take(B)
    assert await server.take(B) == [2]
    assert bob.position == len(server.store.log) == 6, "two letters of carol and two receipts"
    server.leave(B)
    assert (await server.come("bob", B)).position == 5, "that is what the store has written"


async def test_own_posts_are_passed(server, bob, autojump_clock):
    await server.post_to_all(B, 3)
    assert await server.sent_to(B) is None
    assert bob.position == 3
    await server.post_to_all(A)
    await server.post_to_all(B)
    assert await server.take_all(B) == [4]
    assert bob.position == 5
    assert server.store.calls["read"] == 0


async def test_who_was_away_gets_everything_since_in_order(server, autojump_clock):
    server.leave(B)
    await server.send(A, "bob")
    await server.post_to_all(C)
    await server.send(A, "carol", "bob")
    await server.come("bob", elsewhere(B))
    assert await server.take_all(elsewhere(B)) == [1, 2, 4]


async def test_a_new_name_begins_at_the_end_of_the_log(server, autojump_clock):
    await server.post_to_all(A)
    await server.come("dave", D)
    await server.send(A, "dave")
    assert await server.take_all(D) == [2]


async def test_senders_whose_rows_a_client_lacks_come_with_the_batch(server, bob, autojump_clock):
    bob.held = None
    await server.post_to_all(A)
    ((name, credentials),) = (await server.batch_to(B)).senders
    assert (name, credentials.keys) == ("alice", identity_of(A).public)
    server.hold_table(bob)
    await server.take(B)
    await server.post_to_all(A)
    assert (await server.batch_to(B)).senders == ()


async def test_a_batch_in_flight_is_answered_from_the_new_address_of_a_session(server, bob, autojump_clock):
    await server.send(A, "bob", "bob")
    sent = await server.sent_to(B)
    server.moved(B, elsewhere(B))
    server.endpoint.respond(sent, taken_by(B, sent.request, 1))
    assert await server.take_all(elsewhere(B)) == [2]
    assert server.service.is_current(bob)


# --- the table ---


async def test_the_table_comes_before_entries(server, autojump_clock):
    dave = await server.come("dave", D, holds_table=False)
    await server.send(A, "dave")
    change = (await server.sent_to(D)).request
    assert isinstance(change, TableChange)
    assert {record.name for record in change.records} == {"alice", "bob", "carol", "dave"}
    await server.respond(D, change.held(change.after))
    assert dave.held == server.service.table.version
    assert await server.take_all(D) == [1]


async def test_a_table_that_changes_in_each_round_trip_does_not_keep_entries_back(server, autojump_clock):
    await server.come("dave", D, holds_table=False)
    await server.send(A, "dave")
    change = (await server.sent_to(D)).request
    server.enter("erin", elsewhere(A))
    server.enter("alice", A)
    await server.respond(D, change.held(change.after))
    assert await server.take(D) == [1], "the rest of the table comes with the next round"
    server.change_table()
    last = (await server.sent_to(D)).request
    assert last.before == change.after


async def test_a_change_of_the_table_waits_for_the_batch_in_flight_and_comes_before_the_next(
    server, bob, autojump_clock
):
    await server.send(A, "bob")
    await server.sent_to(B)
    server.leave(C)
    server.change_table()
    await server.send(A, "bob")
    assert await server.take(B) == [1]
    change = (await server.sent_to(B)).request
    assert [record.name for record in change.records] == ["carol"]
    await server.respond(B, change.held(change.after))
    assert await server.take_all(B) == [2]


async def test_a_change_of_the_table_is_sent_to_those_who_have_everything_else(server, autojump_clock):
    server.leave(C)
    server.change_table()
    assert (await server.sent_to(A)).request is (await server.sent_to(B)).request, "one change for all"
    for peer in (A, B):
        change = (await server.sent_to(peer)).request
        await server.respond(peer, change.held(change.after))
        assert await server.sent_to(peer) is None
    server.change_table()
    assert await server.sent_to(A) is None, "they hold it"
    await server.post_to_all(A)
    assert await server.take_all(B) == [1]


async def test_a_client_that_comes_back_is_sent_what_it_lacks_of_the_table_that_it_holds(server, autojump_clock):
    held = server.service.table.version
    await server.come("dave", D, holds_table=False)
    change = (await server.sent_to(D)).request
    await server.respond(D, change.held(held))
    last = (await server.sent_to(D)).request
    assert (last.before, [record.name for record in last.records]) == (held, ["dave"])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda change: change.busy(),
        lambda change: change.ack(),
        lambda change: change.held(None),
        lambda change: change.held(Version(b"another.", 1)),
        lambda change: change.refused(Reason.NOT_REGISTERED),
    ],
)
async def test_after_a_wrong_answer_to_the_table_it_is_offered_again_after_a_pause(
    server, bob, autojump_clock, wrong: Callable
):
    server.leave(C)
    server.change_table()
    change = (await server.sent_to(B)).request
    await server.respond(B, wrong(change))
    await trio.sleep(ACK_WINDOW - 0.01)
    assert await server.sent_to(B) is None
    await trio.sleep(0.02)
    again = (await server.sent_to(B)).request
    assert isinstance(again, TableChange)
    await server.respond(B, again.held(again.after))
    assert bob.held == server.service.table.version


# --- what is written, and when ---


async def test_after_letters_the_next_batch_waits_until_the_store_has_written_that_they_were_taken(
    server, bob, autojump_clock
):
    await server.send(A, "bob", "bob")
    with server.store.held():
        assert await server.take(B) == [1]
    assert server.store.calls["acknowledge"] == 1
    await trio.sleep(10)
    assert await server.sent_to(B) is None
    assert bob.position == 0
    server.store.release()
    assert await server.take(B) == [2]
    assert bob.position >= 1


async def test_what_is_taken_while_the_store_writes_is_written_together(server, autojump_clock):
    await server.send(A, "bob", "carol", "alice")
    with server.store.held():
        for peer in (A, B, C):
            await server.take(peer)
    assert server.store.calls["acknowledge"] == 1
    server.store.release()
    await trio.testing.wait_all_tasks_blocked()
    assert server.store.calls["acknowledge"] == 2
    assert [entry.recipient for entry in server.store.log if entry.kind == EntryKind.RECEIPT] == ["alice"] * 3


async def test_receipts_are_those_of_the_letters_that_were_taken(server, autojump_clock):
    await server.send(A, "bob")
    await server.post_to_all(A)
    await server.send(A, "bob")
    letters = [entry for entry in server.store.log if entry.kind == EntryKind.DIRECT]
    await server.take_all(B)
    receipts = [entry for entry in server.store.log if entry.kind == EntryKind.RECEIPT]
    assert [(one.id, one.sender, one.recipient) for one in receipts] == [(one.id, "bob", "alice") for one in letters]
    assert [one.body for one in receipts] == [receipt_for(letter, B) for letter in letters]


async def test_posts_and_receipts_move_positions_without_a_write_until_the_next_second(server, bob, autojump_clock):
    for _ in range(20):
        await server.post_to_all(A)
        await server.take(B)
        await server.take(C)
        await trio.sleep(0.01)
    assert bob.position == 20
    assert server.store.calls["acknowledge"] == server.store.calls["advance"] == 0
    await trio.sleep(1)
    assert server.store.calls["advance"] == 1, "for all together"
    assert (await server.store.read("bob", 0)).entries, "what was taken stays in the log"
    server.leave(B)
    await server.come("bob", B)
    assert await server.sent_to(B) is None
    await trio.sleep(5)
    assert server.store.calls["advance"] == 1, "nothing has moved since"


async def test_positions_are_written_before_a_name_registers_again(server, autojump_clock):
    await server.post_to_all(A, 3)
    assert await server.take_all(B) == [1, 2, 3]
    session = await server.come("bob", elsewhere(B))
    assert session.position == 3
    assert await server.sent_to(elsewhere(B)) is None


async def test_after_a_crash_posts_of_the_last_second_come_again_and_letters_do_not(server, autojump_clock):
    async with trio.open_nursery() as nursery:
        await server.send(A, "bob")
        await server.take(B)
        await server.post_to_all(A)
        await server.take(B)
        await server.start(nursery)
        await server.come("bob", B)
        (post,) = (await server.batch_to(B)).entries
        assert post.kind == EntryKind.GROUP
        nursery.cancel_scope.cancel()


async def test_of_two_registrations_of_a_name_the_store_keeps_the_later_one(network, nursery, autojump_clock):
    store = CountingStore()
    host, port = SERVER
    serve = partial(serve_chat, port, host=host, identity=SERVER_IDENTITY, store=store, network=network)
    await nursery.start(serve)
    alice, bob = (RawPeer(network, (f"10.0.2.{n}", 6000)) for n in (1, 2))
    moved = RawPeer(network, ("10.0.2.3", 6000), bob.identity)
    for peer in (alice, bob, moved):
        peer.answer = take_everything
        nursery.start_soon(peer.listen)
    alice.send(SERVER_PEER, alice.register("alice", SERVER_KEY))
    bob.send(SERVER_PEER, bob.register("bob", SERVER_KEY, program=bytes(16)))
    await trio.sleep(0.1)
    alice.send(SERVER_PEER, GroupPost(bytes(16), b"signed"))
    await trio.sleep(0.1)
    with store.held():
        bob.send(SERVER_PEER, bob.register("bob", SERVER_KEY, program=bytes(16)))
        await trio.testing.wait_all_tasks_blocked()
    assert store.calls["advance"] == 1, "the position is written first, which takes its time"
    moved.send(SERVER_PEER, moved.register("bob", SERVER_KEY, program=bytes(16)))
    await trio.sleep(0.1)
    store.release()
    await trio.sleep(0.1)
    names, _ = await store.load(lambda entries: None)
    assert {name.record.name: name.record.host for name in names} == {"alice": "10.0.2.1", "bob": "10.0.2.3"}


def take_everything(request):
    match request:
        case TableChange():
            return request.held(request.after)
        case Batch():
            return request.taken(len(request.entries), ())
    return None


# --- the newest part of the log in memory ---


@pytest.fixture
def short_tail(monkeypatch) -> None:
    monkeypatch.setattr(delivery_module, "TAIL_ENTRIES", 16)


async def test_who_is_behind_the_tail_is_served_from_the_store(server, short_tail, autojump_clock):
    await server.send(A, "bob")
    await server.sent_to(B)
    await server.post_to_all(A, 100)
    assert server.store.calls["read"] == 0
    assert await server.take(B) == [1]
    assert server.store.calls["read"] == 1
    assert await server.take_all(B) == list(range(2, 102))
    await server.take_all(C)
    reads = server.store.calls["read"]
    await server.post_to_all(A)
    assert await server.take_all(B) == [103], "102 is the receipt"
    assert server.store.calls["read"] == reads, "who has caught up is served from memory"


async def test_an_idle_session_is_served_from_the_tail_however_much_others_got_since(
    server, bob, short_tail, autojump_clock
):
    server.endpoint.reply = lambda peer, request: (
        taken_by(peer, request, len(request.entries)) if isinstance(request, Batch) and peer != B else None
    )
    for number in range(300):
        recipient = ("alice", "carol")[number % 2]
        entry = Entry(0, EntryKind.RECEIPT, server.id(), "carol", identity_of(C).public.signing, recipient, 0.0)
        await server.store.append([entry])
        await trio.testing.wait_all_tasks_blocked()
    assert bob.position == 0
    await server.send(A, "bob")
    assert await server.take_all(B) == [301]
    assert bob.position >= 301
    assert server.store.calls["read"] == 0


async def test_the_tail_is_bounded_by_bytes_as_well(server, monkeypatch, autojump_clock):
    monkeypatch.setattr(delivery_module, "TAIL_BYTES", 50_000)
    await server.post_to_all(A)
    await server.sent_to(B)
    for _ in range(20):
        await server.append(server.ask(A, GroupPost(server.id(), bytes(10_000))))
        await trio.testing.wait_all_tasks_blocked()
    assert server.store.calls["read"] == 0
    assert await server.take(B) == [1]
    assert server.store.calls["read"] == 1
    assert await server.take_all(B) == list(range(2, 22))


async def test_after_a_start_everyone_is_served_from_the_store_first(server, autojump_clock):
    await server.send(A, "bob")
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        await server.come("bob", B)
        assert await server.take_all(B) == [1]
        assert server.store.calls["read"] == 1
        await server.come("alice", A)
        await server.take_all(A)
        server.store.calls.clear()
        await server.post_to_all(A)
        assert await server.take_all(B) == [3]
        assert server.store.calls["read"] == 0
        nursery.cancel_scope.cancel()


async def test_entries_that_come_while_the_store_is_read_are_not_passed(server, short_tail, autojump_clock):
    server.leave(B)
    await server.send(A, "bob")
    await server.post_to_all(C, 40)
    bob = await server.come("bob", B)
    with server.store.held():
        await trio.testing.wait_all_tasks_blocked()
    assert server.store.calls["read"] == 1
    await server.send(A, "bob")
    await server.post_to_all(C, 40)
    server.store.release()
    assert await server.take_all(B) == [*range(1, 83)]
    assert bob.position >= 82


# --- answers that are not believed ---


def right(batch) -> object:
    return taken_by(B, batch, len(batch.entries))


WRONG = {
    "busy": lambda batch: batch.busy(),
    "an ack": lambda batch: batch.ack(),
    "a refusal": lambda batch: batch.refused(Reason.NOT_REGISTERED),
    "a table": lambda batch: TableHeld(Batch.kind, batch.id, None),
    "no receipt": lambda batch: batch.taken(2, ()),
    "a receipt too few": lambda batch: batch.taken(2, right(batch).receipts[:1]),
    "a receipt too many": lambda batch: batch.taken(2, right(batch).receipts * 2),
    "a receipt too many for one": lambda batch: batch.taken(1, right(batch).receipts),
    "more than there are": lambda batch: attrs.evolve(right(batch), count=len(batch.entries) + 1),
    "receipts in another order": lambda batch: batch.taken(2, right(batch).receipts[::-1]),
    "a receipt that is empty and one too many": lambda batch: batch.taken(2, (b"", b"", b"")),
    "half a receipt": lambda batch: batch.taken(2, (b"", right(batch).receipts[1][:48])),
    "a receipt without a signature": lambda batch: batch.taken(2, (right(batch).receipts[0], bytes(96))),
    "receipts by somebody else": lambda batch: taken_by(C, batch, 2),
    "receipts for another letter": lambda batch: batch.taken(
        2, tuple(receipt_for(letter, B, id=bytes(16)) for letter in batch.entries)
    ),
    "receipts for another sender": lambda batch: batch.taken(
        2, tuple(receipt_for(letter, B, sender="carol") for letter in batch.entries)
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_after_a_wrong_answer_the_batch_is_offered_again_after_a_pause(server, bob, autojump_clock, wrong):
    server.leave(B)
    await server.send(A, "bob", "bob")
    bob = await server.come("bob", B)
    for _ in range(3):
        await server.respond(B, wrong(await server.batch_to(B)))
        await server.post_to_all(A)  # a reason to look for what comes next
        await trio.sleep(ACK_WINDOW - 0.01)
        assert await server.sent_to(B) is None
        await trio.sleep(0.02)
    assert bob.position == 0
    assert server.store.calls["acknowledge"] == 0
    assert EntryKind.RECEIPT not in {entry.kind for entry in server.store.log}
    assert await server.take(B) == [1, 2, 3, 4, 5]
    assert server.service.is_current(bob), "any answer proves that it is alive"


async def test_a_reader_may_sign_that_they_could_not_open_a_letter(server, autojump_clock):
    await server.send(A, "bob")
    (letter,) = (await server.batch_to(B)).entries
    receipt = sign_receipt(identity_of(B), id=letter.id, sender=letter.sender, text_hash=NO_HASH)
    await server.respond(B, (await server.batch_to(B)).taken(1, (receipt,)))
    assert server.store.log[-1].body == receipt


async def test_kinds_that_the_server_does_not_know_need_no_receipt(server, autojump_clock):
    await server.store.append([Entry(0, "reaction", server.id(), "alice", bytes(32), "bob", 0.0, b":-)")])
    assert await server.take_all(B) == [1]


# --- silence ---


async def test_a_session_that_stays_silent_is_probed_and_offline_after_3_seconds(server, bob, autojump_clock):
    began = trio.current_time()
    await server.send(A, "bob")
    await trio.sleep(ACK_WINDOW - 0.01)
    assert isinstance((await server.sent_to(B)).request, Batch)
    await trio.sleep(0.02)
    probe = await server.probe_to(B)
    assert probe.since == bob.since
    assert isinstance((await server.sent_to(B)).request, Batch), "it goes on meanwhile"
    await trio.sleep((PROBES - 0.1) * ACK_WINDOW)
    assert server.service.is_current(bob)
    await trio.sleep(0.1 * ACK_WINDOW)
    assert server.service.session("bob") is None
    row = server.published[-1]
    assert (row.name, row.online) == ("bob", False)
    assert row.since == pytest.approx(began + (1 + PROBES) * ACK_WINDOW, abs=0.02)
    assert await server.sent_to(B) is None


async def test_a_session_that_answers_a_probe_gets_the_same_again(server, bob, autojump_clock):
    await server.send(A, "bob")
    await trio.sleep(PROBES * ACK_WINDOW)
    await server.send(A, "bob")
    probe = await server.probe_to(B)
    await server.respond(B, probe.ack())
    assert await server.take_all(B) == [1, 2]
    assert server.service.is_current(bob)


async def test_silence_of_one_delays_nobody_else(server, autojump_clock):
    await server.post_to_all(A)
    assert await server.take(C) == [1]
    for number in range(2, 12):
        await server.post_to_all(A)
        assert await server.take(C) == [number]
        await trio.sleep(0.1)


@pytest.mark.parametrize("after", [0.2, 1.0])
@pytest.mark.parametrize("how", ["elsewhere", "again", "left"])
async def test_a_session_that_ended_while_it_was_silent_is_left_alone(server, bob, autojump_clock, how, after):
    await server.send(A, "bob")
    await trio.sleep(after)
    match how:
        case "elsewhere":
            new, place = await server.come("bob", elsewhere(B)), elsewhere(B)
        case "again":
            new, place = await server.come("bob", B), B
        case "left":
            server.leave(B)
            new, place = await server.come("bob", elsewhere(B)), elsewhere(B)
    sent_before = len([one for one in server.endpoint.sent if one.peer == B])
    assert await server.take_all(place) == [1]
    await trio.sleep(30)
    assert server.service.is_current(new)
    if place != B:
        probes = [one for one in server.endpoint.sent if one.peer == B][sent_before:]
        assert all(isinstance(one.request, Heartbeat) for one in probes)


async def test_a_session_that_ended_while_the_store_was_read_is_sent_nothing(server, short_tail, autojump_clock):
    server.leave(B)
    await server.send(A, "bob")
    await server.post_to_all(C, 40)
    old = await server.come("bob", B)
    with server.store.held():
        await trio.testing.wait_all_tasks_blocked()
    assert server.store.calls["read"] == 1
    await server.come("bob", elsewhere(B))
    server.store.release()
    assert not server.service.is_current(old)
    assert await server.take_all(elsewhere(B)) == list(range(1, 42))
    assert not any(one.peer == B for one in server.endpoint.sent)


async def test_a_late_answer_of_a_session_that_left_still_counts(server, autojump_clock):
    await server.send(A, "bob", "bob")
    await server.sent_to(B)
    server.leave(B)
    assert await server.take(B) == [1]
    assert await server.sent_to(B) is None
    await server.come("bob", elsewhere(B))
    assert await server.take_all(elsewhere(B)) == [2]


# --- Saves that wait for a receipt ---


@pytest.fixture
async def waiting(server, nursery):
    """A Save of alice that waits for the receipt of bob."""
    append = server.save(A, "bob")
    (appended,) = await server.append(append)
    assert server.deliveries.await_receipt(appended.seq, A, append.request)
    nursery.start_soon(server.deliveries.answer_saved, [appended.seq])
    return append.request


async def test_a_save_is_answered_with_the_receipt_that_comes_within_one_window(server, waiting, autojump_clock):
    await trio.sleep(ACK_WINDOW - 0.1)
    letter = (await server.batch_to(B)).entries[0]
    await server.take(B)
    assert server.endpoint.answers == [(A, waiting.delivered(receipt_for(letter, B)))]
    await trio.sleep(5)
    assert len(server.endpoint.answers) == 1, "once"
    assert server.store.log[-1].body == receipt_for(letter, B), "and the receipt comes as an entry, too"


async def test_a_save_is_answered_only_after_the_receipt_was_written(server, waiting, autojump_clock):
    await server.sent_to(B)
    with server.store.held():
        await server.take(B)
    await trio.sleep(ACK_WINDOW - 0.1)
    assert server.endpoint.answers == []
    server.store.release()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(server.endpoint.answers[0][1], type(waiting.delivered(b"")))


async def test_a_save_is_answered_saved_after_one_window_without_a_receipt(server, waiting, autojump_clock):
    await trio.sleep(ACK_WINDOW - 0.01)
    assert server.endpoint.answers == []
    await trio.sleep(0.02)
    assert server.endpoint.answers == [(A, waiting.saved())]
    await server.respond(B, (await server.probe_to(B)).ack())
    await server.take_all(B)
    assert server.endpoint.answers == [(A, waiting.saved())]
    assert server.store.log[-1].kind == EntryKind.RECEIPT


async def test_beyond_a_limit_saves_do_not_wait(server, monkeypatch, autojump_clock):
    monkeypatch.setattr(delivery_module, "MAX_AWAITED", 2)
    request = Save(server.id(), "bob", b"sealed")
    assert [server.deliveries.await_receipt(seq, A, request) for seq in (1, 2, 3)] == [True, True, False]
    await server.deliveries.answer_saved([1])
    assert server.deliveries.await_receipt(3, A, request)


# --- any sequence of events ---


class SlowStore(CountingStore):
    """Each call takes effect at once and returns at any time after that."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    async def _counted(self, name, call):
        result = await call
        await trio.sleep(self._dice.choice((0.0, 0.0, 0.01, 0.3)))
        return result


class AnyEvents:
    """People who come, go, move, write, and answer what they get right, in part, wrongly, late or never.

    The server may crash at any moment; what a client has kept, and what the store has written, stays.
    """

    PLACES = (("10.0.0.7", 7), ("10.0.0.8", 8), ("10.0.0.9", 9))

    def __init__(self, dice: random.Random, nursery: trio.Nursery) -> None:
        self.dice = dice
        self.server = DeliveringServer()
        self.server.store = SlowStore(dice)
        self.people = {"alice": A, "bob": B, "carol": C}
        self.got: dict[str, list[int]] = {name: [] for name in self.people}
        self.nursery = nursery
        self.scope = trio.CancelScope()

    async def start(self) -> None:
        self.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        self.running = await self.nursery.start(self._run)
        await self.server.start(self.running)

    async def _run(self, task_status) -> None:
        with trio.CancelScope() as self.scope:
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await trio.sleep_forever()

    async def go_on(self) -> None:
        """One thing happens to somebody."""
        name = self.dice.choice(list(self.people))
        peer, session = self.people[name], self.server.service.session(name)
        things = [
            "write",
            "write",
            "post",
            "answer",
            "answer",
            "answer",
            "table",
            "time",
            "come or go",
            "move",
            "crash",
        ]
        match self.dice.choice(things):
            case "write" if session:
                self.append(*(self.server.save(peer, self.dice.choice(list(self.people))) for _ in range(3)))
            case "post" if session:
                self.append(self.server.post(peer))
            case "answer" if pending := self.server.endpoint.pending():
                self.answer(self.dice.choice(pending))
            case "table":
                self.server.change_table()
            case "time":
                await trio.sleep(self.dice.choice((0.001, 0.05, 0.3, 0.6, 4.0)))
            case "come or go" if session and self.dice.random() < 0.3:
                self.server.leave(peer)
            case "come or go" | "move" if self.dice.random() < 0.5:
                self.come(name)
            case "move" if session:
                self.people[name] = elsewhere(peer, self.dice.choice(self.PLACES))
                self.server.moved(peer, self.people[name])
            case "crash" if self.dice.random() < 0.3:
                await self.start()
        if self.dice.random() < 0.5:
            await trio.testing.wait_all_tasks_blocked()

    def come(self, name) -> None:
        """Register, at any place: the program may have started again there."""
        self.people[name] = elsewhere(self.people[name], self.dice.choice(self.PLACES))
        self.running.start_soon(self.server.admit, self.server.register(name, self.people[name]))

    def append(self, *appends) -> None:
        assert all(isinstance(one, Append) for one in appends)
        self.running.start_soon(self.server.append, *appends)

    def answer(self, sent: Sent) -> None:
        match sent.request:
            case Heartbeat() as probe:
                answer = probe.ack()
            case TableChange() as change:
                answer = self.dice.choice((change.held(change.after), change.held(change.after), change.held(None)))
            case Batch() as batch:
                count = self.dice.randint(1, len(batch.entries))
                is_kept, answer = self.dice.choice(
                    (
                        *((True, taken_by(sent.peer, batch, count)),) * 5,
                        (True, None),
                        (False, batch.busy()),
                        (False, attrs.evolve(taken_by(sent.peer, batch, count), receipts=(bytes(96),))),
                    )
                )
                if is_kept:
                    self.keep(batch, count)
        if answer:
            self.server.endpoint.respond(sent, answer)

    def keep(self, batch: Batch, count: int) -> None:
        """A client keeps each entry once."""
        got = self.got[batch.recipient]
        got += [entry.seq for entry in batch.entries[:count] if entry.seq not in got]

    def expected(self, name: str) -> list[int]:
        log = self.server.store.log
        return [one.seq for one in log if one.recipient == name or (one.recipient == EVERYONE != one.sender != name)]

    async def end(self) -> None:
        """Let everyone come back, and answer everything."""
        await trio.sleep(10)

        def answer_at_once(peer: Peer, request):
            match request:
                case Batch():
                    self.keep(request, len(request.entries))
                    return taken_by(peer, request, len(request.entries))
                case TableChange():
                    return request.held(request.after)
            return request.ack()

        self.server.endpoint.reply = answer_at_once
        for name in self.people:
            self.come(name)
        await trio.sleep(30)


@given(seed=st.integers(0, 2**64), steps=st.integers(1, 120), tail=st.sampled_from([2, 16, 8192]))
@settings(max_examples=60)
def test_everyone_gets_everything_once_and_in_order_whatever_happens(seed, steps, tail):
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            events = AnyEvents(random.Random(seed), nursery)
            await events.start()
            for name in events.people:
                events.come(name)
            await trio.sleep(1)
            for _ in range(steps):
                await events.go_on()
            await events.end()
            for name in events.people:
                assert events.got[name] == events.expected(name), name
            nursery.cancel_scope.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_module, "TAIL_ENTRIES", tail)
        trio.run(main, clock=MockClock(autojump_threshold=0))
