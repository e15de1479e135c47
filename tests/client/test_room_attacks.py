"""Servers that lie about rooms, and members who want to take rooms from others or flood them.

A server that lies is played by the test (raw_server.py); the hostile members are at a real server (tests/stage.py). All
in virtual time.
"""

import attrs
import pytest
import trio

from tests.client.raw_server import RawServer, open_client
from tests.stage import identity_of
from trio_chat import errors
from trio_chat.client import room_requests
from trio_chat.client.event_queue import BACKLOG
from trio_chat.client.events import (
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterUnreadable,
    MemberJoined,
    MemberLeft,
    TableChanged,
)
from trio_chat.crypto.letters import TO_EVERYONE, SignedRoom, Unreadable, open_post_untrusted, sign_post
from trio_chat.protocol.limits import LIMITS, Rate
from trio_chat.protocol.messages import GroupPost
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, Reason, Room
from trio_chat.protocol.room_messages import (
    MAX_MEMBERS_LISTED,
    MAX_ROOMS_LISTED,
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
)
from trio_chat.transport.ids import new_id

LUNCH, WORK = SignedRoom("#" + 32 * "1", "lunch"), SignedRoom("#" + 32 * "2", "work")
NAMES = [(LUNCH.id, "lunch"), (WORK.id, "work")]


def room(signed, joined=0, members=2) -> Room:
    return Room(signed.id, signed.name, bytes(32), members, joined)


class RoomServer(RawServer):
    """A server with the rooms lunch and work, who says yes to everything. `answers[kind]` answers in its place."""

    def __init__(self, network):
        super().__init__(network, rows=("alice",))
        self.answers = {}
        self.joined = []
        self.answer = self._answer_about_rooms

    def _answer_about_rooms(self, request):
        if answer := self.answers.get(type(request)):
            return answer(request)
        match request:
            case JoinRoom(name=name):
                return request.changed(room(LUNCH if name == "lunch" else WORK, joined=1))
            case LeaveRoom(room=id_):
                return request.changed(room(LUNCH if id_ == LUNCH.id else WORK))
            case ListRooms(own=True):
                return request.listed(tuple(room(one, 1) for one in self.joined))
            case ListRooms(after=after):
                return request.listed(tuple(room(one) for one in (LUNCH, WORK) if one.name > after))
        return self._answer(request)


@pytest.fixture
async def server(network, nursery):
    server = RoomServer(network)
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
async def bob(network, server):
    async with open_client(network, "bob") as bob:
        yield bob


def post(seq, text, *, signed_for, shown_in) -> Entry:
    own, id_ = identity_of("alice"), new_id()
    body = sign_post(own, id=id_, sender="alice", sent_at=0.0, text=text, room=signed_for)
    return Entry(seq, EntryKind.GROUP, id_, "alice", own.public.signing, shown_in, 0.0, body)


def change(seq, kind, sender="alice", *, id=LUNCH.id) -> Entry:
    return Entry(seq, kind, new_id(), sender, identity_of(sender).public.signing, id, 0.0)


# --- what is shown ---


async def test_a_genuine_post_is_shown_in_its_room(server, bob, autojump_clock):
    taken = await server.hand_over(post(1, "soup", signed_for=LUNCH, shown_in=LUNCH.id), rooms=NAMES)
    assert taken.count == 1
    assert bob.shown == [GroupMessageReceived("alice", "soup", room="lunch")]


@pytest.mark.parametrize(
    ("signed_for", "shown_in"), [(LUNCH, WORK.id), (LUNCH, EVERYONE), (TO_EVERYONE, LUNCH.id), (LUNCH, "#lunch")]
)
async def test_a_post_is_not_shown_where_it_was_not_sent(server, bob, autojump_clock, signed_for, shown_in):
    taken = await server.hand_over(post(1, "soup", signed_for=signed_for, shown_in=shown_in), rooms=NAMES)
    assert taken.count == 1
    assert bob.shown == [LetterUnreadable("alice")]


@pytest.mark.parametrize("names", [[], [(WORK.id, "lunch")], [(LUNCH.id, "work")], [(LUNCH.id, "Everyone")]])
async def test_a_post_is_not_shown_under_the_name_of_another_room(server, bob, autojump_clock, names):
    taken = await server.hand_over(post(1, "soup", signed_for=LUNCH, shown_in=LUNCH.id), rooms=names)
    assert taken.count == 1
    assert bob.shown == [LetterUnreadable("alice")]


@pytest.mark.parametrize("name", ["", "a b", "\x1b[2J", "x" * 33])
async def test_a_batch_with_what_is_no_name_is_not_taken_and_harms_nothing(server, bob, autojump_clock, name):
    to_lunch = post(1, "soup", signed_for=LUNCH, shown_in=LUNCH.id)
    assert await server.hand_over(to_lunch, rooms=[(LUNCH.id, name)]) is None
    assert (await server.hand_over(post(1, "all", signed_for=TO_EVERYONE, shown_in=EVERYONE))).count == 1
    assert bob.shown == [GroupMessageReceived("alice", "all")]


async def test_no_room_is_shown_as_that_of_everyone(server, bob, autojump_clock):
    """Also if its members take it for that, too."""
    fake = SignedRoom(LUNCH.id, "Everyone")
    joined = change(2, EntryKind.JOINED)
    taken = await server.hand_over(
        post(1, "soup", signed_for=fake, shown_in=fake.id), joined, rooms=[(fake.id, "Everyone")]
    )
    assert taken.count == 2
    assert bob.shown == [LetterUnreadable("alice")]


async def test_the_name_of_a_room_that_we_are_in_is_the_one_that_we_know(server, bob, autojump_clock):
    await bob.chat.join("lunch")
    await server.hand_over(post(2, "soup", signed_for=LUNCH, shown_in=LUNCH.id), rooms=[(LUNCH.id, "work")])
    await server.hand_over(change(3, EntryKind.LEFT), rooms=[(LUNCH.id, "work")])
    assert bob.shown == [GroupMessageReceived("alice", "soup", room="lunch"), MemberLeft("lunch", "alice")]


async def test_who_joins_or_leaves_a_room_without_a_name_is_not_told(server, bob, autojump_clock):
    joined, left = change(1, EntryKind.JOINED), change(2, EntryKind.LEFT)
    at_all = change(3, EntryKind.JOINED, id=EVERYONE)
    taken = await server.hand_over(joined, left, at_all, rooms=[(WORK.id, "work")])
    assert taken.count == 3
    assert bob.shown == []
    await server.hand_over(change(4, EntryKind.JOINED), rooms=NAMES)
    assert bob.shown == [MemberJoined("lunch", "alice")]


async def test_what_is_said_of_ourselves_is_not_told(server, bob, autojump_clock):
    taken = await server.hand_over(change(1, EntryKind.JOINED, "bob"), change(2, EntryKind.LEFT, "BOB"), rooms=NAMES)
    assert taken.count == 2
    assert bob.shown == []


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (f"3 {LUNCH.id}", [GroupMessagesMissed(3, "lunch")]),
        (f"3 #{32 * '9'}", [GroupMessagesMissed(3)]),
        ("3", [GroupMessagesMissed(3)]),
        ("3 #lunch", []),
        ("3 ", []),
        (f"{LUNCH.id} 3", []),
    ],
)
async def test_notices_of_posts_that_were_not_kept(server, bob, autojump_clock, body, events):
    notice = Entry(1, EntryKind.MISSED, new_id(), "bob", NO_KEY, "bob", 0.0, body.encode())
    assert (await server.hand_over(notice, rooms=NAMES)).count == 1
    assert bob.shown == events


async def test_nothing_is_shown_of_a_room_that_we_are_not_in_or_have_left(server, bob, autojump_clock):
    server.joined = [LUNCH]
    assert await bob.chat.joined_rooms() == ["lunch"]

    async def hand_over(seq):
        taken = await server.hand_over(
            post(seq, f"work {seq}", signed_for=WORK, shown_in=WORK.id),
            change(seq + 1, EntryKind.JOINED, id=WORK.id),
            Entry(seq + 2, EntryKind.MISSED, new_id(), "bob", NO_KEY, "bob", 0.0, f"3 {WORK.id}".encode()),
            post(seq + 3, f"lunch {seq}", signed_for=LUNCH, shown_in=LUNCH.id),
            rooms=NAMES,
        )
        assert taken.count == 4, "all of it is acknowledged"

    await hand_over(2)
    await bob.chat.join("work")
    await bob.chat.leave("work")
    await bob.chat.leave("lunch")
    await hand_over(12)
    assert bob.shown == [GroupMessageReceived("alice", "lunch 2", room="lunch")]


async def test_nothing_is_shown_of_a_room_that_we_have_left_also_if_we_do_not_know_the_others(
    server, bob, autojump_clock
):
    await bob.chat.leave("lunch")
    await server.hand_over(post(2, "soup", signed_for=LUNCH, shown_in=LUNCH.id), rooms=NAMES)
    await server.hand_over(post(3, "report", signed_for=WORK, shown_in=WORK.id), rooms=NAMES)
    assert bob.shown == [GroupMessageReceived("alice", "report", room="work")]


async def test_a_post_that_is_refused_after_we_have_joined_does_not_end_that(server, bob, nursery, autojump_clock):
    refused = trio.Event()

    async def post_to_lunch():
        with pytest.raises(errors.NotAMember):
            await bob.chat.post("lunch", "hi")
        refused.set()

    server.answers[GroupPost] = lambda request: None
    nursery.start_soon(post_to_lunch)
    await trio.sleep(0.1)
    await bob.chat.join("lunch")
    server.answers[GroupPost] = lambda request: request.refused(Reason.NOT_A_MEMBER)
    await refused.wait()
    await server.hand_over(post(2, "soup", signed_for=LUNCH, shown_in=LUNCH.id), rooms=NAMES)
    assert bob.shown == [GroupMessageReceived("alice", "soup", room="lunch")]


async def test_nothing_is_shown_of_what_was_posted_before_we_joined(server, bob, autojump_clock):
    server.answers[JoinRoom] = lambda request: request.changed(room(LUNCH, joined=7))
    await bob.chat.join("lunch")
    one, other = (post(seq, f"{seq}", signed_for=LUNCH, shown_in=LUNCH.id) for seq in (7, 8))
    assert (await server.hand_over(one, other, rooms=NAMES)).count == 2
    assert bob.shown == [GroupMessageReceived("alice", "8", room="lunch")]


# --- answers ---


async def test_what_we_post_is_signed_for_the_room_that_we_have_named(server, bob, autojump_clock):
    """A server that takes lunch for work gets a post that nobody can read who knows the room as work."""
    server.answers[ListRooms] = lambda request: request.listed((Room(WORK.id, "lunch", bytes(32), 2, 1),))
    await bob.chat.post("lunch", "about work")
    (sent,) = server.of(GroupPost)
    assert sent.room == WORK.id
    with pytest.raises(Unreadable, match="signature"):
        open_post_untrusted(sent.body, identity_of("bob").public.signing, id=sent.id, sender="bob", room=WORK)


@pytest.mark.parametrize("answered", [room(WORK, 1), Room(EVERYONE, "lunch", NO_KEY, 0)])
async def test_an_answer_about_another_room_is_none(server, bob, autojump_clock, answered):
    for kind in (CreateRoom, JoinRoom, LeaveRoom):
        server.answers[kind] = lambda request: request.changed(answered)
    for request in (bob.chat.create_room("lunch"), bob.chat.join("lunch"), bob.chat.leave("lunch")):
        with pytest.raises(errors.ServerNotResponding):
            await request


async def test_a_room_that_was_there_is_not_the_one_that_we_create(server, bob, autojump_clock):
    server.answers[CreateRoom] = lambda request: request.changed(room(LUNCH, 1))
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.create_room("lunch")


@pytest.mark.parametrize("own", [True, False])
async def test_rooms_that_have_the_name_of_everyone_are_not_listed(server, bob, autojump_clock, own):
    lies = (Room(LUNCH.id, "Everyone", NO_KEY, 2, 1), Room(EVERYONE, "lunch", NO_KEY, 2, 1))
    server.answers[ListRooms] = lambda request: request.listed(lies)
    assert (await bob.chat.joined_rooms() if own else await bob.chat.rooms()) == []


def endless_rooms(request):
    start = int(request.after[1:] or 0) + 1
    return request.listed(
        tuple(Room(f"#{n:032x}", f"r{n:09}", NO_KEY, 1, 1) for n in range(start, start + MAX_ROOMS_LISTED))
    )


def endless_members(request):
    start = int(request.after[1:] or 0) + 1
    return request.listed(tuple(f"m{n:09}" for n in range(start, start + MAX_MEMBERS_LISTED)))


async def test_a_list_that_goes_on_and_on_is_asked_for_no_more_and_the_user_is_told(
    server, bob, autojump_clock, monkeypatch
):
    monkeypatch.setattr(room_requests, "MAX_LISTED", 100)
    monkeypatch.setattr(room_requests, "MAX_OWN_LISTED", 50)
    server.answers |= {ListRooms: endless_rooms, ListMembers: endless_members}
    with pytest.raises(errors.ListTooLong, match="goes on and on: ask its operator"):
        await bob.chat.rooms()
    with pytest.raises(errors.ListTooLong):
        await bob.chat.joined_rooms()
    assert len(server.of(ListRooms)) == 15 + 8
    await bob.chat.join("lunch")
    for name in ("lunch", "everyone"):
        with pytest.raises(errors.ListTooLong):
            await bob.chat.members(name)
    assert len(server.of(ListMembers)) == 4 + 4


async def test_a_list_of_as_many_as_are_taken_is_no_lie(server, bob, autojump_clock, monkeypatch):
    monkeypatch.setattr(room_requests, "MAX_LISTED", 100)

    def hundred_members(request):
        answer = endless_members(request)
        return attrs.evolve(answer, names=tuple(name for name in answer.names if name <= f"m{100:09}"))

    server.answers[ListMembers] = hundred_members
    assert len(await bob.chat.members("everyone")) == 100


async def test_a_list_that_repeats_itself_ends(server, bob, autojump_clock):
    await bob.chat.join("lunch")
    server.answers[ListRooms] = lambda request: endless_rooms(attrs.evolve(request, after=""))
    server.answers[ListMembers] = lambda request: endless_members(attrs.evolve(request, after=""))
    await bob.chat.rooms()
    await bob.chat.members("lunch")
    assert (len(server.of(ListRooms)), len(server.of(ListMembers))) == (2, 2)


async def test_a_server_that_always_says_that_it_is_too_early_is_asked_four_times(server, bob, autojump_clock):
    server.answers[ListRooms] = lambda request: request.refused(Reason.TOO_FAST, 0.5)
    with pytest.raises(errors.TooFast):
        await bob.chat.rooms()
    assert len(server.of(ListRooms)) == 4
    server.answers[ListRooms] = lambda request: request.refused(Reason.TOO_FAST, 1e9)
    with pytest.raises(errors.TooFast):
        await bob.chat.rooms()
    assert len(server.of(ListRooms)) == 5, "nobody waits that long"


# --- members ---


async def restart_server(stage, **limits):
    await stage.kill_server()
    stage.limits = attrs.evolve(LIMITS, **limits)
    await stage.start_server()


async def create_until_refused(chat, prefix) -> int:
    """How many rooms somebody can create, and leaves again."""
    for number in range(1000):
        try:
            await chat.create_room(f"{prefix}{number}")
        except errors.NoMoreRooms:
            return number
        await chat.leave(f"{prefix}{number}")
    raise AssertionError("there is no end")


QUICK = {"new_rooms_per_key": Rate(10_000, 1), "new_rooms_per_address": Rate(10_000, 1)}


async def test_one_key_cannot_use_up_all_rooms(stage, autojump_clock):
    await restart_server(stage, rooms=41, room_requests_per_key=Rate(1000, 1), **QUICK)
    mallory, alice = await stage.enter("mallory"), await stage.enter("alice")
    assert await create_until_refused(mallory.chat, "m") == 10, "a quarter of 40"
    elsewhere = await stage.enter("mallory")
    assert await create_until_refused(elsewhere.chat, "n") == 0, "at another address it is the same key"
    await alice.chat.create_room("lunch")


async def test_one_address_cannot_use_up_all_rooms_with_many_keys(stage, autojump_clock):
    await restart_server(stage, rooms=41, room_requests_per_key=Rate(1000, 1), **QUICK)
    created = 0
    for number in range(20):
        mallory = await stage.enter(f"mallory{number}", host="10.0.9.9", port=6000 + number)
        created += await create_until_refused(mallory.chat, f"m{number}x")
    assert created == 10
    await (await stage.enter("alice")).chat.create_room("lunch")
    await restart_server(stage, rooms=41, room_requests_per_key=Rate(1000, 1), **QUICK)
    assert await create_until_refused(mallory.chat, "again") == 0, "a restart changes nothing"


async def test_who_has_none_gets_the_last_room(stage, autojump_clock):
    await restart_server(stage, rooms=4, **QUICK)
    for name in ("alice", "bob", "carol"):
        await (await stage.enter(name)).chat.create_room(name)
    with pytest.raises(errors.NoMoreRooms):
        await (await stage.enter("dave")).chat.create_room("dave")


async def test_who_joins_and_leaves_all_the_time_is_slowed_down_and_the_others_read_on(stage, autojump_clock):
    alice, bob, mallory = [await stage.enter(name) for name in ("alice", "bob", "mallory")]
    await alice.chat.create_room("lunch")
    await bob.chat.join("lunch")
    done = 0
    with pytest.raises(errors.TooFast):
        while True:
            await mallory.chat.join("lunch")
            await mallory.chat.leave("lunch")
            done += 1
    assert done <= LIMITS.room_requests_per_key.at_once / 2
    await alice.chat.post("lunch", "still here")
    await stage.pass_time(2)
    assert bob.texts() == ["still here"]
    of_mallory = [event for event in bob.received if getattr(event, "name", "") == "mallory"]
    assert 2 * done <= len(of_mallory) <= 2 * done + 1


async def test_a_flood_that_nobody_reads_stays_with_the_server(stage, autojump_clock):
    """As with messages: a reader that is slow gets all of it, in its order, and their program takes no more."""
    alice, mallory = await stage.enter("alice"), await stage.enter("mallory")
    slow = await stage.enter("slow", listening=False)
    await alice.chat.create_room("lunch")
    await slow.chat.join("lunch")
    for _ in range(3):
        for _ in range(99):
            await mallory.chat.join("lunch")
            await mallory.chat.leave("lunch")
        await stage.pass_time(10)
    await alice.chat.post("lunch", "the end")
    await stage.pass_time(5)
    assert len(slow.store.unshown()) <= BACKLOG
    read = []
    async for event in slow.chat.events:
        if not isinstance(event, TableChanged):
            read.append(event)
        if isinstance(event, GroupMessageReceived):
            break
    change = [MemberJoined("lunch", "mallory"), MemberLeft("lunch", "mallory")]
    assert read == [*change * 297, GroupMessageReceived("alice", "the end", room="lunch")]
