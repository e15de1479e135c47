"""What people do with rooms: create, join, post, be away and come back, leave, list; and what is refused.

A real server and real clients in virtual time (tests/stage.py). Servers that lie about rooms: test_room_attacks.py.
"""

import attrs
import pytest
import trio

from tests.stage import identity_of
from trio_chat import errors
from trio_chat.client.events import (
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    MemberJoined,
    MemberLeft,
)
from trio_chat.client.room_requests import just_before
from trio_chat.client.rooms import RoomInfo
from trio_chat.protocol.limits import LIMITS, Rate
from trio_chat.protocol.messages import Accepted, GroupPost
from trio_chat.protocol.records import MAX_TEXT
from trio_chat.protocol.room_messages import (
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    MemberList,
    RoomChanged,
    RoomList,
)
from trio_chat.server import delivery
from trio_chat.storage import server_log
from trio_chat.storage.client_interface import HistoryEntry
from trio_chat.storage.memory import MemoryClientStore

MANY = 1_000_000


@pytest.fixture
async def people(stage):
    """Alice has created the room Lunch, and bob is in it. What they were told of that is not in `received` any more."""
    people = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await people[0].chat.create_room("Lunch")
    await people[1].chat.join("lunch")
    await stage.pass_time(1)
    for person in people:
        person.received.clear()
    return people


def in_lunch(sender, text) -> GroupMessageReceived:
    return GroupMessageReceived(sender, text, room="Lunch")


def as_letter(sender, text, room="", *, first=False, group=True) -> LetterReceived:
    """Its time is left out: see `without_times`."""
    return LetterReceived(sender, text, 0.0, group, first, None, room)


def without_times(events):
    return [attrs.evolve(one, sent_at=0.0) if isinstance(one, LetterReceived) else one for one in events]


async def restart_server(stage, **limits):
    await stage.kill_server()
    stage.limits = attrs.evolve(LIMITS, **limits)
    await stage.start_server()


# --- creating, joining, posting ---


async def test_who_creates_a_room_is_in_it_and_others_join_under_any_spelling(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    assert await alice.chat.create_room("Lunch") == "Lunch"
    assert await bob.chat.join("LUNCH") == "Lunch"
    assert await alice.chat.joined_rooms() == await bob.chat.joined_rooms() == ["Lunch"]
    await stage.pass_time(1)
    assert alice.received == [MemberJoined("Lunch", "bob")]
    assert bob.received == []


async def test_a_post_goes_to_the_members_and_to_nobody_else(stage, people, autojump_clock):
    alice, bob, carol = people
    await alice.chat.post("lunch", "soup?")
    await bob.chat.post("LUNCH", "yes")
    await bob.chat.post("everyone", "to all")
    await bob.chat.send_all("to all again")
    await stage.pass_time(1)
    to_all = [GroupMessageReceived("bob", text) for text in ("to all", "to all again")]
    assert alice.received == [in_lunch("bob", "yes"), *to_all]
    assert bob.received == [in_lunch("alice", "soup?")]
    assert carol.received == to_all


async def test_what_came_while_away_comes_in_the_order_of_the_log_with_all_else(stage, people, autojump_clock):
    alice, bob, carol = people
    await bob.chat.deregister()
    await alice.chat.post("lunch", "one")
    await carol.chat.send("bob", "two")
    await carol.chat.send_all("three")
    await alice.chat.post("lunch", "four")
    assert await bob.chat.register() == 4
    await alice.chat.post("lunch", "now")
    await stage.pass_time(1)
    assert without_times(bob.received) == [
        as_letter("alice", "one", "Lunch", first=True),
        as_letter("carol", "two", group=False),
        as_letter("carol", "three"),
        as_letter("alice", "four", "Lunch"),
        in_lunch("alice", "now"),
    ]


async def test_who_was_away_is_not_told_who_came_and_went_meanwhile(stage, people, autojump_clock):
    alice, bob, carol = people
    await bob.chat.deregister()
    await carol.chat.join("lunch")
    await alice.chat.leave("lunch")
    await bob.chat.register()
    await carol.chat.leave("lunch")
    await stage.pass_time(1)
    assert bob.received == [MemberLeft("Lunch", "carol")]


async def test_two_rooms_at_once(stage, people, autojump_clock):
    alice, bob, carol = people
    await carol.chat.create_room("work")
    await bob.chat.join("work")
    await bob.chat.post("work", "w1")
    await bob.chat.post("lunch", "l1")
    await bob.chat.post("work", "w2")
    await stage.pass_time(1)
    assert alice.received == [in_lunch("bob", "l1")]
    to_work = [GroupMessageReceived("bob", text, room="work") for text in ("w1", "w2")]
    assert carol.received == [MemberJoined("work", "bob"), *to_work]
    assert await bob.chat.joined_rooms() == ["Lunch", "work"], "the one that was joined last comes last"


async def test_after_leaving_nothing_comes_until_they_join_again(stage, people, autojump_clock):
    alice, bob, _ = people
    await bob.chat.leave("lunch")
    await alice.chat.post("lunch", "not for bob")
    with pytest.raises(errors.NotAMember):
        await bob.chat.post("lunch", "not any more")
    await bob.chat.join("lunch")
    await alice.chat.post("lunch", "for bob")
    await bob.chat.post("lunch", "back")
    await stage.pass_time(1)
    assert bob.received == [in_lunch("alice", "for bob")]
    events = [MemberLeft("Lunch", "bob"), MemberJoined("Lunch", "bob"), in_lunch("bob", "back")]
    assert alice.received == events


async def test_a_batch_that_is_sent_again_after_leaving_is_acknowledged_and_not_shown(stage, people, autojump_clock):
    alice, bob, _ = people
    stage.lose(lambda message, source, destination: destination[0] == bob.host and hasattr(message, "entries"), times=3)
    await alice.chat.post("lunch", "late")
    await bob.chat.leave("lunch")
    await alice.chat.send_all("after")
    await stage.pass_time(5)
    assert bob.received == [GroupMessageReceived("alice", "after")]


async def test_joining_and_creating_again(stage, people, autojump_clock):
    alice, bob, _ = people
    await bob.chat.join("lunch")
    with pytest.raises(errors.RoomExists):
        await alice.chat.create_room("LUNCH")
    await alice.chat.post("lunch", "still there")
    await stage.pass_time(1)
    assert bob.received == [in_lunch("alice", "still there")]
    assert alice.received == [], "to join as a member changes nothing"


async def test_everyone_is_a_room_that_cannot_be_created_joined_or_left(stage, people, autojump_clock):
    alice, *_ = people
    with pytest.raises(errors.RoomExists):
        await alice.chat.create_room("Everyone")
    with pytest.raises(errors.NotAMember, match="nobody can leave it"):
        await alice.chat.leave("EVERYONE")
    assert await alice.chat.join("Everyone") == "everyone"
    assert await alice.chat.joined_rooms() == ["Lunch"]
    assert await alice.chat.members("everyone") == ["alice", "bob", "carol"]


# --- lists ---


async def test_rooms_are_listed_by_name_with_that_of_everyone(stage, people, autojump_clock):
    _, bob, carol = people
    for number in range(9):
        await carol.chat.create_room(f"Room{number}")
    rooms = await bob.chat.rooms()
    assert rooms == [
        RoomInfo("everyone", None, True),
        RoomInfo("Lunch", 2, True),
        *(RoomInfo(f"Room{number}", 1, False) for number in range(9)),
    ]
    assert len(stage.sent(ListRooms, source=bob.host)) == 2, "11 rooms are two parts"


async def test_more_rooms_than_fit_into_one_answer_are_ours_in_the_order_of_joining(stage, autojump_clock):
    alice = await stage.enter("alice")
    created = [f"room{number}" for number in (5, 3, 8, 1, 9, 2, 7, 4, 6, 0)]
    for name in created:
        await alice.chat.create_room(name)
    await alice.chat.deregister()
    await alice.chat.register()
    assert await alice.chat.joined_rooms() == created
    asked = stage.sent(ListRooms, source=alice.host)
    assert [one.own for one in asked] == [True, True]
    await alice.chat.joined_rooms()
    await alice.chat.post("room9", "known")
    assert len(stage.sent(ListRooms, source=alice.host)) == 2, "it is asked for once in each registration"


async def test_a_room_that_we_post_to_is_looked_up_once_in_each_registration(stage, people, autojump_clock):
    _, bob, _ = people
    for registrations in (1, 2):
        await bob.chat.deregister()
        await bob.chat.register()
        for _ in range(3):
            await bob.chat.post("lunch", "hi")
        assert len(stage.sent(ListRooms, source=bob.host)) == registrations


@pytest.mark.parametrize("count", [32, 33])
async def test_all_members_are_listed(stage, people, autojump_clock, count):
    *_, carol = people
    names = [f"m{number:02}" for number in range(count - 2)]
    for name in names:
        person = await stage.enter(name)
        await person.chat.join("lunch")
    assert await carol.chat.members("LUNCH") == ["alice", "bob", *names], "also for who is not in it"
    assert len(stage.sent(ListMembers, source=carol.host)) == count // 32 + 1


async def test_a_list_that_is_longer_than_may_be_asked_for_at_once_takes_a_little_longer(stage, people, autojump_clock):
    await restart_server(stage, room_requests_per_key=Rate(4, 4), new_rooms_per_key=Rate(100, 1))
    alice, *_ = people
    for number in range(100):
        room = f"room{number:02}"
        await stage.pass_time(1)
        person = alice if number % 2 else people[1]
        await person.chat.create_room(room)
    rooms = await people[2].chat.rooms()
    assert [room.name for room in rooms] == ["everyone", "Lunch", *(f"room{number:02}" for number in range(100))]


@pytest.mark.parametrize("name", ["a", "A", "0", "a-", "a.", "a_", "az", "x" * 32, "x" * 31 + "0", "lunch9"])
def test_a_room_is_looked_up_by_what_comes_just_before_its_name(name):
    before = just_before(name)
    assert len(before) <= 32
    assert before < name.lower()
    last = "-.0123456789_abcdefghijklmnopqrstuvwxyz"
    others = [name[:-1], *(name[:-1] + end for end in last), *((name[:-1] + end + "z")[:32] for end in last)]
    assert not any(before < other.lower() < name.lower() for other in others), "no other name is between them"


# --- errors ---


async def test_what_cannot_be_done_with_rooms_that_there_are_not(people, autojump_clock):
    alice, *_ = people
    for request in (
        alice.chat.join("nowhere"),
        alice.chat.leave("nowhere"),
        alice.chat.members("nowhere"),
        alice.chat.post("nowhere", "hi"),
    ):
        with pytest.raises(errors.NoSuchRoom, match="nowhere: create it") as caught:
            await request
        assert caught.value.room == "nowhere"


async def test_what_only_members_can_do(people, autojump_clock):
    *_, carol = people
    for request in (carol.chat.leave("Lunch"), carol.chat.post("Lunch", "hi")):
        with pytest.raises(errors.NotAMember, match="Lunch: join it first"):
            await request


@pytest.mark.parametrize("name", ["", "#lunch", "a b", "x" * 33, "ä", "lunch\n"])
async def test_what_is_not_the_name_of_a_room(people, autojump_clock, name):
    chat = people[0].chat
    for request in (
        chat.create_room(name),
        chat.join(name),
        chat.leave(name),
        chat.members(name),
        chat.post(name, "hi"),
    ):
        with pytest.raises(errors.InvalidName):
            await request


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1)])
async def test_a_text_that_cannot_be_posted(people, autojump_clock, text):
    with pytest.raises(errors.InvalidText):
        await people[0].chat.post("lunch", text)


async def test_who_is_offline_can_do_nothing(people, autojump_clock):
    chat = people[0].chat
    await chat.deregister()
    for request in (
        chat.create_room("work"),
        chat.join("lunch"),
        chat.leave("lunch"),
        chat.members("lunch"),
        chat.post("lunch", "hi"),
        chat.rooms(),
        chat.joined_rooms(),
    ):
        with pytest.raises(errors.NotRegistered):
            await request


async def test_limits_are_refusals_that_say_what_to_do(stage, people, autojump_clock):
    alice, _, carol = people
    await restart_server(stage, members_per_room=2)
    with pytest.raises(errors.RoomFull, match="lunch is full"):
        await carol.chat.join("lunch")
    await restart_server(stage, rooms_per_key=1)
    await alice.chat.join("lunch")  # they are in it
    with pytest.raises(errors.TooManyRooms, match="leave one"):
        await alice.chat.create_room("work")
    await restart_server(stage, rooms=2)
    with pytest.raises(errors.NoMoreRooms):
        await carol.chat.create_room("work")
    await restart_server(stage, new_rooms_per_key=Rate(1, 0.1))
    await carol.chat.create_room("work")
    with pytest.raises(errors.TooFast) as caught:
        await carol.chat.create_room("play")
    assert caught.value.after == pytest.approx(10, abs=1)


# --- restarts, losses, other programs ---


async def test_a_server_that_starts_again_knows_the_rooms_and_their_members(stage, people, autojump_clock):
    alice, bob, _ = people
    await stage.kill_server()
    await stage.start_server()
    await alice.chat.post("lunch", "hello again")
    await bob.chat.post("lunch", "hello")  # registers bob again
    await stage.pass_time(1)
    assert [event.text for event in bob.received] == ["hello again"]
    assert alice.received == [in_lunch("bob", "hello")]
    assert await alice.chat.members("lunch") == ["alice", "bob"]


@pytest.mark.parametrize("kind", [CreateRoom, JoinRoom, LeaveRoom, GroupPost])
async def test_a_request_is_done_once_if_the_server_is_killed_before_it_can_answer(
    stage, people, nursery, autojump_clock, kind
):
    alice, bob, carol = people
    request = {
        CreateRoom: lambda: carol.chat.create_room("work"),
        JoinRoom: lambda: carol.chat.join("lunch"),
        LeaveRoom: lambda: bob.chat.leave("lunch"),
        GroupPost: lambda: bob.chat.post("lunch", "hi"),
    }[kind]
    answer = Accepted if kind is GroupPost else RoomChanged
    stage.lose(lambda message, source, destination: isinstance(message, answer), times=1)
    done = trio.Event()

    async def ask():
        await request()
        done.set()

    nursery.start_soon(ask)
    await stage.pass_time(0.05)
    await stage.kill_server()
    await stage.pass_time(0.6)
    await stage.start_server()
    await done.wait()
    await alice.chat.rooms()  # registers alice again
    await stage.pass_time(2)
    if kind is CreateRoom:
        assert await carol.chat.joined_rooms() == ["work"]
    if kind is JoinRoom:
        assert await carol.chat.members("lunch") == ["alice", "bob", "carol"]
    if kind is LeaveRoom:
        assert await carol.chat.members("lunch") == ["alice"]
    if kind is GroupPost:
        assert [event.text for event in alice.received] == ["hi"]


@pytest.mark.parametrize(
    ("kind", "answer", "ask"),
    [
        (CreateRoom, RoomChanged, lambda chat: chat.create_room("work")),
        (JoinRoom, RoomChanged, lambda chat: chat.join("play")),
        (LeaveRoom, RoomChanged, lambda chat: chat.leave("lunch")),
        (ListRooms, RoomList, lambda chat: chat.rooms()),
        (ListMembers, MemberList, lambda chat: chat.members("lunch")),
        (GroupPost, Accepted, lambda chat: chat.post("lunch", "hi")),
    ],
)
async def test_a_request_whose_answer_is_lost_is_repeated_with_the_same_id(
    stage, people, autojump_clock, kind, answer, ask
):
    alice, bob, carol = people
    await carol.chat.create_room("play")
    await alice.chat.joined_rooms()
    before = len(stage.sent(kind, source=alice.host))
    stage.lose(
        lambda message, source, destination: isinstance(message, answer) and destination[0] == alice.host, times=2
    )
    await ask(alice.chat)
    asked = stage.sent(kind, source=alice.host)[before:]
    assert len(asked) >= 3
    assert len({one.id for one in asked}) == 1
    await stage.pass_time(1)
    told = {JoinRoom: [MemberJoined("play", "alice")], LeaveRoom: [MemberLeft("Lunch", "alice")]}
    posted = [in_lunch("alice", "hi")] if kind is GroupPost else []
    assert bob.received + carol.received == told.get(kind, posted), "it was done once"


@pytest.mark.parametrize("before", ["never", "left", "left and listed"])
async def test_a_post_that_comes_before_the_answer_to_joining_is_shown(stage, people, nursery, autojump_clock, before):
    alice, _, carol = people
    if before != "never":
        await carol.chat.join("lunch")
        await carol.chat.leave("lunch")
    if before != "left":
        assert await carol.chat.joined_rooms() == []
    stage.lose(
        lambda message, source, destination: isinstance(message, RoomChanged) and destination[0] == carol.host, times=2
    )
    nursery.start_soon(carol.chat.join, "lunch")
    await stage.pass_time(0.05)
    await alice.chat.post("lunch", "welcome")
    await stage.pass_time(0.02)
    assert carol.received == [in_lunch("alice", "welcome")]
    await stage.pass_time(2)
    assert await carol.chat.joined_rooms() == ["Lunch"]


@pytest.mark.parametrize("was_there", [False, True])
async def test_if_nobody_knows_whether_we_have_joined_the_server_is_asked(stage, people, autojump_clock, was_there):
    alice, _, carol = people
    if was_there:
        await carol.chat.join("lunch")
        await carol.chat.leave("lunch")
    assert await carol.chat.joined_rooms() == []
    stage.lose(lambda message, source, destination: isinstance(message, RoomChanged), times=MANY)
    with pytest.raises(errors.ServerNotResponding):
        await carol.chat.join("lunch")
    stage.network.filters.clear()
    await alice.chat.post("lunch", "welcome")
    await stage.pass_time(1)
    assert carol.received == [in_lunch("alice", "welcome")]
    assert await carol.chat.joined_rooms() == ["Lunch"]


async def test_the_same_if_the_call_was_cancelled(stage, people, autojump_clock):
    alice, _, carol = people
    assert await carol.chat.joined_rooms() == []
    stage.lose(lambda message, source, destination: isinstance(message, RoomChanged), times=1)
    with trio.move_on_after(0.01):
        await carol.chat.join("lunch")
    await alice.chat.post("lunch", "welcome")
    await stage.pass_time(1)
    assert carol.received == [in_lunch("alice", "welcome")]
    assert await carol.chat.joined_rooms() == ["Lunch"]


async def test_another_program_of_the_owner_goes_on_in_the_same_rooms(stage, people, autojump_clock):
    alice, bob, _ = people
    phone = await stage.enter("bob")
    await alice.chat.post("lunch", "to the phone")
    assert await phone.chat.joined_rooms() == ["Lunch"]
    await phone.chat.create_room("work")
    await phone.chat.leave("lunch")
    await bob.chat.register()  # takes over again
    await alice.chat.post("lunch", "to nobody")
    await stage.pass_time(1)
    assert await bob.chat.joined_rooms() == ["work"]
    await bob.chat.post("work", "from bob")
    with pytest.raises(errors.NotAMember):
        await bob.chat.post("lunch", "not any more")
    assert phone.texts() == ["to the phone"]
    assert bob.texts() == []


async def test_a_registration_during_a_list_begins_the_list_again(stage, people, nursery, autojump_clock):
    """Else rooms that another program has joined meanwhile would be taken for not ours."""
    _, bob, _ = people
    assert await bob.chat.joined_rooms() == ["Lunch"]
    await bob.chat.deregister()
    await bob.chat.register()
    stage.lose(lambda message, source, destination: isinstance(message, RoomList), times=1)
    nursery.start_soon(bob.chat.joined_rooms)
    await stage.pass_time(0.01)
    phone = await stage.enter("bob")
    await phone.chat.create_room("work")
    await bob.chat.register()
    assert await bob.chat.joined_rooms() == ["Lunch", "work"]


async def test_nothing_of_who_is_blocked_comes_from_a_room(stage, people, autojump_clock):
    alice, bob, carol = people
    await bob.chat.block("carol")
    await carol.chat.join("lunch")
    await carol.chat.post("lunch", "hello bob")
    await carol.chat.leave("lunch")
    await stage.pass_time(1)
    assert bob.received == []
    assert alice.received == [
        MemberJoined("Lunch", "carol"),
        in_lunch("carol", "hello bob"),
        MemberLeft("Lunch", "carol"),
    ]


async def test_a_new_owner_of_a_name_is_in_no_room(stage, people, autojump_clock):
    alice, bob, _ = people
    await bob.chat.deregister()
    await stage.kill_server()
    await stage.server_store.forget("bob")
    await stage.start_server()
    heir = await stage.enter("bob", identity=identity_of("heir"))
    await alice.chat.post("lunch", "for the old bob")
    await stage.pass_time(1)
    assert heir.texts() == []
    assert await heir.chat.joined_rooms() == []
    with pytest.raises(errors.NotAMember):
        await heir.chat.post("lunch", "hi")
    assert await alice.chat.members("lunch") == ["alice"]


@pytest.mark.parametrize("ask", [lambda chat: chat.post("lunch", "hi"), lambda chat: chat.leave("lunch")])
async def test_who_has_lost_a_room_is_told_and_does_not_list_it_any_more(stage, people, autojump_clock, ask):
    """The store of the server was damaged, say; the client still remembers the room."""
    _, bob, _ = people
    assert await bob.chat.joined_rooms() == ["Lunch"]
    stage.server_store._database.execute("DELETE FROM members WHERE name = 'bob'")
    with pytest.raises(errors.NotAMember):
        await ask(bob.chat)
    assert await bob.chat.joined_rooms() == []


# --- what is kept ---


async def test_a_post_that_was_not_shown_comes_at_the_next_start_with_its_room(stage, people, autojump_clock):
    alice, *_ = people
    store = MemoryClientStore()
    dave = await stage.enter("dave", store=store, listening=False)
    await dave.chat.join("lunch")
    await alice.chat.post("lunch", "read me")
    await stage.pass_time(1)
    await dave.kill()
    dave = await stage.enter("dave", store=store, host=dave.host)
    await stage.pass_time(1)
    assert without_times(dave.received) == [as_letter("alice", "read me", "Lunch", first=True)]


async def test_the_history_of_a_room_has_its_posts_and_a_search_says_where_they_were(stage, people, autojump_clock):
    alice, bob, carol = people
    await alice.chat.post("lunch", "soup")
    await bob.chat.post("lunch", "no soup")
    await bob.chat.send_all("soup for all")
    await carol.chat.send("bob", "soup for bob")
    await stage.pass_time(1)

    def shown(entries: list[HistoryEntry]):
        return [(entry.peer, entry.text, entry.sent, entry.group, entry.room) for entry in entries]

    in_room = [("alice", "soup", False, True, "Lunch"), ("", "no soup", True, True, "Lunch")]
    to_all = ("", "soup for all", True, True, "")
    assert shown(await bob.chat.history("#LUNCH")) == in_room
    assert shown(await bob.chat.history("#everyone")) == [to_all]
    assert shown(await bob.chat.history("#work")) == []
    assert shown(await bob.chat.history("alice")) == in_room[:1], "a post counts as from its sender, too"
    assert shown(await bob.chat.search("soup", name="#Lunch")) == in_room
    assert shown(await bob.chat.search("soup")) == [*in_room, to_all, ("carol", "soup for bob", False, False, "")]


async def test_how_many_posts_of_a_room_were_not_kept(stage, people, autojump_clock, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
    monkeypatch.setattr(delivery, "TAIL_ENTRIES", 3)  # as always: what is in memory is not more than what is kept
    alice, bob, _ = people
    await bob.chat.deregister()
    await stage.pass_time(1)
    for text in "abcde":
        await alice.chat.post("lunch", text)
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.received[0] == GroupMessagesMissed(2, "Lunch")
    assert bob.texts() == ["c", "d", "e"]
