"""Which sessions get what is posted to a room: its members, from joining on, in the order of the log.

The real delivery loop with a store in memory (tests/delivering_server.py), in virtual time. What the store knows of
rooms: tests/storage/test_server_rooms.py.
"""

import pytest
import trio

from tests.bare_server import A, B, BareServer, C, elsewhere, identity_of
from tests.delivering_server import DeliveringServer
from trio_chat.protocol.limits import LIMITS, Limits, Rate
from trio_chat.protocol.messages import (
    Refused,
)
from trio_chat.protocol.records import Entry, EntryKind, Reason
from trio_chat.protocol.room_messages import (
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
)
from trio_chat.server import delivery as delivery_module
from trio_chat.server.sessions import AskRoom, RoomEvent
from trio_chat.storage.interface import Status


@pytest.fixture
async def server(nursery) -> DeliveringServer:
    """Alice, bob and carol are online, and hold the table. Alice has created a room, and bob is in it."""
    server = DeliveringServer()
    await server.start(nursery)
    for name, peer in (("alice", A), ("bob", B), ("carol", C)):
        await server.come(name, peer)
    for session in server.service.online():
        server.hold_table(session)
    server.lunch = (await server.change_room(A, EntryKind.CREATED, "lunch")).id
    await server.change_room(B, EntryKind.JOINED, "lunch")
    for peer in (A, B):
        await server.take_all(peer)
    return server


async def post(server, peer, room) -> int:
    (appended,) = await server.append(server.post(peer, room=room))
    return appended.seq


async def test_a_post_goes_to_the_members_and_says_the_name_of_the_room(server, autojump_clock):
    seq = await post(server, A, server.lunch)
    batch = await server.batch_to(B)
    assert [(one.seq, one.recipient) for one in batch.entries] == [(seq, server.lunch)]
    assert batch.rooms == ((server.lunch, "lunch"),)
    assert await server.sent_to(C) is None
    assert await server.sent_to(A) is None, "nobody gets their own posts"


async def test_members_are_told_who_joins_and_leaves_while_they_are_online(server, autojump_clock):
    await server.change_room(C, EntryKind.JOINED, "lunch")
    await server.change_room(C, EntryKind.LEFT, server.lunch)
    batches = []
    while await server.sent_to(A):
        batches += [(one.kind, one.sender) for one in (await server.batch_to(A)).entries]
        await server.take(A)
    assert batches == [("joined", "carol"), ("left", "carol")]


async def test_to_join_again_changes_nothing_for_the_others(server, autojump_clock):
    await server.change_room(B, EntryKind.JOINED, "Lunch")
    assert await server.sent_to(A) is None
    seq = await post(server, A, server.lunch)
    assert seq in await server.take_all(B)


async def test_who_joins_gets_what_is_posted_from_then_on(server, autojump_clock):
    first = await post(server, A, server.lunch)
    await server.change_room(C, EntryKind.JOINED, "lunch")
    second = await post(server, A, server.lunch)
    assert await server.take_all(C) == [second]
    assert await server.take_all(B) == [first, first + 1, second]


async def test_who_leaves_gets_nothing_more_and_begins_anew_when_they_join_again(server, autojump_clock):
    await server.change_room(B, EntryKind.LEFT, server.lunch)
    await post(server, A, server.lunch)
    assert await server.sent_to(B) is None
    await server.change_room(B, EntryKind.JOINED, "lunch")
    seq = await post(server, A, server.lunch)
    assert await server.take_all(B) == [seq]


async def test_rooms_letters_and_posts_to_everyone_come_in_one_order(server, autojump_clock):
    work = (await server.change_room(C, EntryKind.CREATED, "work")).id
    await server.change_room(B, EntryKind.JOINED, "work")
    await server.take_all(B)
    (letter,) = await server.append(server.save(A, "bob"))
    seqs = [await post(server, A, server.lunch), await post(server, C, work), await post(server, C, "")]
    assert await server.take_all(B) == [letter.seq, *seqs]


async def test_who_was_away_gets_the_posts_of_their_rooms_from_the_store(server, autojump_clock, monkeypatch):
    monkeypatch.setattr(delivery_module, "TAIL_ENTRIES", 2)
    server.leave(B)
    seqs = [await post(server, A, server.lunch) for _ in range(6)]
    bob = await server.come("bob", B)
    assert bob.rooms == {server.lunch: 2}
    assert await server.take_all(B) == seqs
    seq = await post(server, A, server.lunch)
    assert await server.take_all(B) == [seq]


async def test_a_server_that_starts_again_knows_the_rooms_and_who_is_in_them(server, nursery, autojump_clock):
    await server.start(nursery)
    for name, peer in (("alice", A), ("bob", B), ("carol", C)):
        await server.come(name, peer)
    seq = await post(server, A, server.lunch)
    batch = await server.batch_to(B)
    assert ([one.seq for one in batch.entries], batch.rooms) == ([seq], ((server.lunch, "lunch"),))
    assert await server.sent_to(C) is None


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_change_while_the_name_is_registered_again_counts(server, autojump_clock, is_left):
    """The store is asked for the rooms of bob, and before its answer is there the old program's request is done."""
    admission = server.register("bob", elsewhere(B))
    await server.deliveries.write(server.nursery)
    with server.store.held():
        server.nursery.start_soon(server.admit, admission)
        await trio.testing.wait_all_tasks_blocked()
        if is_left:
            await server.change_room(elsewhere(B), EntryKind.LEFT, server.lunch)
        else:
            work = (await server.change_room(elsewhere(B), EntryKind.CREATED, "work")).id
    server.store.release()
    await trio.testing.wait_all_tasks_blocked()
    rooms = admission.session.rooms
    assert set(rooms) == (set() if is_left else {server.lunch, work})


async def test_a_session_that_ends_is_in_no_room(server, autojump_clock):
    server.leave(B)
    assert [one.name for one in server.service.members_online(server.lunch)] == ["alice"]
    server.leave(A)
    assert not server.service.rooms._sessions


async def test_the_request_of_the_last_owner_of_a_name_adds_nobody(server, autojump_clock):
    """It waited for the store while the name got a new owner."""
    server.leave(B)
    server.service.free("bob")
    await server.store.forget("bob")
    carol = elsewhere(C, ("10.0.0.7", 7))
    admission = server.register("bob", carol)
    key = identity_of(B).public.signing
    create = Entry(0, EntryKind.CREATED, server.id(), "bob", key, "", 1.0, b"work")
    room = (await server.store.change_room(create, LIMITS)).room
    assert room.joined
    server.hold_table(admission.session)
    admission.session.table_due = False
    await server.admit(admission)
    assert server.service.session("bob").rooms == {}
    assert not server.service.members_online(room.id)
    join = Entry(0, EntryKind.JOINED, server.id(), "bob", key, "", 1.0, b"lunch")
    assert (await server.store.change_room(join, LIMITS)).status is Status.UNKNOWN
    await post(server, A, server.lunch)
    assert await server.sent_to(carol) is None


# --- what is allowed ---


def test_the_server_tells_who_creates_joins_and_leaves():
    server = BareServer()
    server.enter("alice", A)
    alice = server.service.session("alice")
    room, key = "#" + "0" * 32, alice.key
    created, joined, left = (
        Entry(5, kind, server.id(), "alice", key, room, 1.0, b"lunch")
        for kind in (EntryKind.CREATED, EntryKind.JOINED, EntryKind.LEFT)
    )
    for entry in (created, joined, left):
        assert server.service.rooms.changed(entry, server.service.session) == RoomEvent(
            EntryKind(entry.kind), "lunch", "alice"
        )
    server.service.rooms.remove([room])
    assert server.service.rooms.changed(left, server.service.session) is None
    assert server.service.rooms.names_in([left]) == ()


@pytest.mark.parametrize("request_class", [CreateRoom, JoinRoom])
def test_requests_about_rooms_have_a_limit_for_each_key(request_class):
    server = BareServer(Limits(room_requests_per_key=Rate(3, 0.001), new_rooms_per_key=Rate(3, 0.001)))
    server.enter("alice", A)
    server.enter("bob", B)
    outcomes = [server.ask(A, request_class(server.id(), "lunch")) for _ in range(5)]
    assert [type(one) for one in outcomes] == [AskRoom] * 3 + [Refused] * 2
    assert outcomes[-1].reason == Reason.TOO_FAST
    assert outcomes[-1].after > 100
    assert isinstance(server.ask(B, request_class(server.id(), "lunch")), AskRoom)


def test_lists_of_rooms_count_for_the_same_limit():
    server = BareServer(Limits(room_requests_per_key=Rate(3, 0.001)))
    server.enter("alice", A)
    for request in (ListRooms(server.id()), ListMembers(server.id(), ""), LeaveRoom(server.id(), "")):
        assert isinstance(server.ask(A, request), AskRoom)
    assert isinstance(server.ask(A, ListRooms(server.id())), Refused)


def test_an_address_creates_no_more_rooms_than_its_limit():
    server = BareServer(Limits(new_rooms_per_address=Rate(3, 0.001)))
    server.enter("alice", A)
    server.enter("bob", elsewhere(B, A.address))
    asked = [server.ask(peer, CreateRoom(server.id(), "x")) for peer in (A, elsewhere(B, A.address)) * 2]
    assert [type(one) for one in asked] == [AskRoom] * 3 + [Refused]


def test_strangers_are_told_nothing_of_rooms():
    server = BareServer()
    server.enter("alice", A)
    assert server.ask(B, ListRooms(server.id())).reason == Reason.NOT_REGISTERED
