"""The contract of a ServerStore about rooms: each story is told with every backend.

The backends, and how a store is opened again, are in backends.py. Transactions run without threads, so everything
happens in the same order each time. Random stories are in test_stores_agree.py, damaged rows in test_damaged_rows.py.
"""

from contextlib import asynccontextmanager

import attrs
import pytest

from tests.storage.backends import backends
from tests.storage.log_entries import (
    PEOPLE,
    create,
    direct,
    id_of,
    join,
    key_of,
    leave,
    post,
    read_all,
    record,
    register,
)
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, Room
from trio_chat.storage import server_log
from trio_chat.storage.interface import Acknowledged, Appended, Position, RoomChange, Status
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store

BACKENDS = backends(MemoryServerStore, open_server_store)
LUNCH, WORK = id_of(create(1)), id_of(create(2))
"""What alice creates with the requests `create(1)` and `create(2, name="work")`."""


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, again and again. `store.told`: what `on_appended` was called with."""
    open_again = request.param(tmp_path)

    @asynccontextmanager
    async def open_and_load():
        async with open_again() as store:
            store.told = []
            await store.load(store.told.extend)
            yield store

    return open_and_load


@pytest.fixture
async def store(open_store):
    """A store that knows alice, bob and carol."""
    async with open_store() as store:
        await register(store, *PEOPLE)
        yield store


def lunch(members: int, joined: int = 0) -> Room:
    return Room(LUNCH, "lunch", key_of("alice"), members, joined)


async def change(store, entry: Entry, limits: Limits = LIMITS) -> Status:
    return (await store.change_room(entry, limits)).status


async def status_of(store, entry: Entry) -> Status:
    (appended,) = await store.append([entry])
    return appended.status


async def seqs(store, name: str, after: int = 0) -> list[int]:
    return [one.seq for one in await read_all(store, name, after)]


async def names_of(store, name: str = "alice", *, own: bool = False) -> list[str]:
    return [one.name for one in await store.list_rooms(name, key_of(name), "", own, 99)]


async def rooms_of(store, name: str) -> dict[str, int]:
    return (await store.save_name(record(name))).rooms


# --- creating ---


async def test_who_creates_a_room_is_in_it(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.change_room(create(1), LIMITS) == RoomChange(Status.NEW, lunch(1, joined=1))
        assert store.told == [attrs.evolve(create(1), seq=1, recipient=LUNCH)]
    async with open_store() as store:
        assert await store.rooms() == [(EVERYONE, "everyone"), (LUNCH, "lunch")]
        assert await rooms_of(store, "alice") == {LUNCH: 1}
        assert await rooms_of(store, "bob") == {}
        assert await store.list_members(LUNCH, "", 9) == ["alice"]
        for name in PEOPLE:
            assert await read_all(store, name, 0) == [], "it is for those who are online"


@pytest.mark.parametrize("name", ["lunch", "LUNCH", "everyone", "Everyone"])
async def test_a_room_is_created_once_in_whatever_case(store, name):
    await store.change_room(create(1), LIMITS)
    assert await change(store, create(2, sender="bob", name=name)) is Status.EXISTS
    assert await change(store, create(3, name=name)) is Status.EXISTS, "for its owner, too"
    assert len(store.told) == 1
    assert await rooms_of(store, "bob") == {}


async def test_a_change_names_its_entry_and_so_does_a_copy(store):
    await store.change_room(create(1), LIMITS)
    first = await store.change_room(leave(2, LUNCH), LIMITS)
    assert first.seq == store.told[-1].seq > 1
    await store.change_room(join(3), LIMITS)
    assert (await store.change_room(leave(2, LUNCH), LIMITS)).seq == first.seq


async def test_a_late_copy_creates_nothing(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        assert await store.change_room(create(1), LIMITS) == RoomChange(Status.KNOWN, lunch(1, joined=1))
        await store.change_room(leave(2, LUNCH), LIMITS)
        assert await store.change_room(create(1), LIMITS) == RoomChange(Status.KNOWN, lunch(0))
    async with open_store() as store:
        again = attrs.evolve(create(1), sender="ALICE", taken_at=999.0)
        assert await store.change_room(again, LIMITS) == RoomChange(Status.KNOWN, lunch(0)), "they have left it"
        assert store.told == []
        await store.retain(1e6, 1e6)
        assert await change(store, create(1)) is Status.NEW, "nothing is known of it any more"


async def test_a_copy_whose_room_is_gone_creates_nothing(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(attrs.evolve(leave(2, LUNCH), taken_at=50.0), LIMITS)
    await store.retain(60.0, 200.0)
    assert await names_of(store) == ["everyone"]
    assert await store.change_room(create(1), LIMITS) == RoomChange(Status.UNKNOWN)
    assert await change(store, create(3)) is Status.NEW, "the name is free"


async def test_an_id_of_a_request_belongs_to_one_request(store):
    await store.change_room(create(1), LIMITS)
    assert await store.change_room(create(1, name="work"), LIMITS) == RoomChange(Status.CONFLICT)
    await store.change_room(join(5, sender="bob"), LIMITS)
    assert await change(store, join(5, sender="bob", name="work")) is Status.CONFLICT
    assert await change(store, join(1)) is Status.KNOWN, "another kind"
    assert await change(store, leave(5, WORK, sender="bob")) is Status.UNKNOWN
    assert await names_of(store) == ["everyone", "lunch"]


async def test_an_id_that_is_no_longer_remembered_creates_no_second_room(open_store):
    """It would get the id of the first one, which is still there. Whoever knows that could stop the server with it."""
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.retain(1e6, 1e6)
        assert await change(store, create(1, name="work")) is Status.CONFLICT
        assert await change(store, create(1)) is Status.EXISTS
    async with open_store() as store:
        assert await store.list_rooms("alice", key_of("alice"), "", True, 9) == [lunch(1, joined=1)]


# --- joining and leaving ---


async def test_who_joins_gets_what_is_posted_from_then_on(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.append([post(2, room=LUNCH)])
        assert await store.change_room(join(3, sender="Bob", name="LUNCH"), LIMITS) == RoomChange(
            Status.NEW, lunch(2, joined=3)
        )
        assert store.told[-1] == attrs.evolve(join(3, sender="Bob", name="LUNCH"), seq=3, recipient=LUNCH)
        await store.append([post(4, room=LUNCH), post(5, sender="bob", room=LUNCH)])
    async with open_store() as store:
        assert await rooms_of(store, "bob") == {LUNCH: 3}
        assert await seqs(store, "bob") == [4], "not what was posted before, and no own post"
        assert await seqs(store, "alice") == [5]
        assert await seqs(store, "carol") == []
        (got,) = await read_all(store, "bob", 0)
        assert (got.kind, got.recipient) == (EntryKind.GROUP, LUNCH)


async def test_a_member_joins_again_and_nothing_changes(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(join(2, sender="bob"), LIMITS)
    await store.append([post(3, room=LUNCH)])
    assert await store.change_room(join(4, sender="bob"), LIMITS) == RoomChange(Status.KNOWN, lunch(2, joined=2))
    assert store.told[-1] == attrs.evolve(join(4, sender="bob"), seq=4, recipient="bob"), "for themselves"
    assert await seqs(store, "bob") == [3]


async def test_after_leaving_nothing_more_comes(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        await store.append([post(3, room=LUNCH)])
        assert await store.change_room(leave(4, LUNCH, sender="bob"), LIMITS) == RoomChange(Status.NEW, lunch(1))
        assert store.told[-1] == attrs.evolve(leave(4, LUNCH, sender="bob"), seq=4)
        await store.append([post(5, room=LUNCH), post(6)])
    async with open_store() as store:
        assert await seqs(store, "bob") == [6], "nor what came before"
        assert await store.save_name(record("bob")) == Position(0, 1, 6, {})
        assert await status_of(store, post(7, sender="bob", room=LUNCH)) is Status.NOT_A_MEMBER


async def test_who_joins_again_begins_at_the_head(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(join(2, sender="bob"), LIMITS)
    await store.change_room(leave(3, LUNCH, sender="bob"), LIMITS)
    await store.append([post(4, room=LUNCH)])
    assert await store.change_room(join(5, sender="bob"), LIMITS) == RoomChange(Status.NEW, lunch(2, joined=5))
    await store.append([post(6, room=LUNCH)])
    assert await seqs(store, "bob") == [6]


async def test_late_copies_of_joining_and_leaving_change_nothing(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        await store.change_room(leave(3, LUNCH, sender="bob"), LIMITS)
        assert await store.change_room(join(2, sender="bob"), LIMITS) == RoomChange(Status.KNOWN, lunch(1))
        await store.change_room(join(4, sender="bob"), LIMITS)
        assert await store.change_room(leave(3, LUNCH, sender="bob"), LIMITS) == RoomChange(
            Status.KNOWN, lunch(2, joined=4)
        )
    async with open_store() as store:
        for copy in (join(2, sender="bob"), leave(3, LUNCH, sender="bob"), join(4, sender="bob")):
            assert await store.change_room(copy, LIMITS) == RoomChange(Status.KNOWN, lunch(2, joined=4))
        assert store.told == []


async def test_what_changed_nothing_changes_nothing_later(store):
    """A join of a member, and a leaving of one who was none, come again when the opposite is true."""
    await store.change_room(create(1), LIMITS)
    assert await change(store, leave(2, LUNCH, sender="bob")) is Status.NOT_A_MEMBER
    assert store.told[-1].recipient == "bob"
    await store.change_room(join(3, sender="bob"), LIMITS)
    assert await store.change_room(leave(2, LUNCH, sender="bob"), LIMITS) == RoomChange(
        Status.KNOWN, lunch(2, joined=3)
    )
    assert await change(store, join(4, sender="bob")) is Status.KNOWN
    await store.change_room(leave(5, LUNCH, sender="bob"), LIMITS)
    assert await store.change_room(join(4, sender="bob"), LIMITS) == RoomChange(Status.KNOWN, lunch(1))


async def test_there_is_no_such_room(store):
    assert await store.change_room(join(1), LIMITS) == RoomChange(Status.UNKNOWN)
    assert await store.change_room(leave(2, LUNCH), LIMITS) == RoomChange(Status.UNKNOWN)
    assert await status_of(store, post(3, room=LUNCH)) is Status.NOT_A_MEMBER
    assert store.told == []
    assert await change(store, create(4)) is Status.NEW
    assert await change(store, join(1)) is Status.KNOWN, "they are in it, and nothing was noted of the first time"


async def test_everybody_is_in_the_room_of_everyone(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        room = Room(EVERYONE, "everyone", NO_KEY, 0)
        assert await store.change_room(join(1, sender="bob", name="Everyone"), LIMITS) == RoomChange(Status.KNOWN, room)
        assert await store.change_room(leave(2, EVERYONE, sender="bob"), LIMITS) == RoomChange(
            Status.NOT_A_MEMBER, room
        )
        await store.append([post(3)])
        assert await store.save_name(record("bob")) == Position(0, 1, 3, {})
    async with open_store() as store:
        assert await store.list_rooms("bob", key_of("bob"), "", False, 9) == [room]
        assert await store.list_rooms("bob", key_of("bob"), "", True, 9) == []
        assert await store.list_members(EVERYONE, "", 9) == ["alice", "bob", "carol"]


# --- names and keys ---


async def test_a_name_that_was_deleted_is_in_no_room(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        await store.delete("BOB", 300.0)
        assert await store.list_members(LUNCH, "", 9) == ["alice"]
        assert await change(store, join(3, sender="bob")) is Status.UNKNOWN, "it waited while the name was deleted"
        assert await status_of(store, post(4, sender="bob", room=LUNCH)) is Status.NOT_A_MEMBER
    async with open_store() as store:
        assert await rooms_of(store, "bob") == {}
        await store.append([post(5, room=LUNCH)])
        assert await seqs(store, "bob") == []
        assert await store.list_rooms("alice", key_of("alice"), "", True, 9) == [lunch(1, joined=1)]


async def test_a_new_owner_of_a_name_is_in_no_room(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        assert (await store.save_name(record("Bob", owner="mallory", since=300.0))).rooms == {}
        assert await store.list_members(LUNCH, "", 9) == ["alice"]
        assert await change(store, join(3, sender="bob")) is Status.UNKNOWN, "a request of the last owner"
        await store.append([post(4, room=LUNCH)])
    async with open_store() as store:
        assert await seqs(store, "bob") == []
        theirs = attrs.evolve(post(5, sender="bob", room=LUNCH), key=key_of("mallory"))
        assert await status_of(store, theirs) is Status.NOT_A_MEMBER
        joined = attrs.evolve(join(6, sender="bob"), key=key_of("mallory"))
        assert await store.change_room(joined, LIMITS) == RoomChange(Status.NEW, lunch(2, joined=4))
        assert await status_of(store, attrs.evolve(theirs, id=bytes(16))) is Status.NEW
        assert await status_of(store, post(7, sender="bob", room=LUNCH)) is Status.NOT_A_MEMBER, "the last owner's key"


async def test_a_name_that_was_freed_stays_its_owners_until_another_comes(store):
    await store.change_room(create(1), LIMITS)
    await store.forget("alice")
    assert await rooms_of(store, "alice") == {LUNCH: 1}
    await store.forget("alice")
    assert (await store.save_name(record("alice", owner="mallory"))).rooms == {}
    assert await store.list_rooms("alice", key_of("mallory"), "", False, 9) == [
        Room(EVERYONE, "everyone", NO_KEY, 0),
        lunch(0),
    ], "the room stays"


async def test_one_key_with_two_names_is_two_members(store):
    await store.save_name(record("alice2", owner="alice"))
    await store.change_room(create(1), LIMITS)
    second = attrs.evolve(join(2, sender="alice2"), key=key_of("alice"))
    assert await status_of(store, attrs.evolve(post(3, sender="alice2", room=LUNCH), key=key_of("alice"))) is (
        Status.NOT_A_MEMBER
    )
    assert await store.change_room(second, LIMITS) == RoomChange(Status.NEW, lunch(2, joined=2))
    await store.append([post(4, room=LUNCH)])
    assert await seqs(store, "alice2") == [3]
    await store.change_room(leave(5, LUNCH), LIMITS)
    assert await store.list_members(LUNCH, "", 9) == ["alice2"]
    assert (await store.save_name(record("alice2", owner="alice"))).rooms == {LUNCH: 2}


# --- limits ---


async def test_all_rooms_together_keep_so_much_and_those_of_one_address_give_way_first(store, monkeypatch):
    """Each may keep 64 MiB, and one address may create a quarter of 1,000 rooms."""
    monkeypatch.setattr(server_log, "ALL_ROOMS_BYTES", 1000)
    rooms = {}
    for number, (sender, name) in enumerate([("alice", "lunch"), ("bob", "work"), ("bob", "tea")], 1):
        created = create(number, sender=sender, name=name)
        assert (await store.change_room(created, LIMITS, f"address of {sender}")).status is Status.NEW
        await store.change_room(join(10 + number, sender="carol", name=name), LIMITS)
        rooms[name] = id_of(created)
    await store.append([post(20, body=bytes(400)), post(21, room=rooms["lunch"], body=bytes(200))])
    for number in range(30, 70):
        await store.append([post(number, sender="bob", room=rooms["work" if number % 2 else "tea"], body=bytes(50))])
    kept = [one for one in await read_all(store, "carol", 0) if one.kind == "group"]
    assert [len(one.body) for one in kept[:2]] == [400, 200], "those of others lose nothing"
    of_bob = [int.from_bytes(one.id, "big") for one in kept[2:]]
    assert of_bob[-1] == 69, "the newest are there"
    assert 200 <= 50 * len(of_bob) <= 400


def test_the_limits_of_a_server_that_is_given_no_others():
    assert (LIMITS.rooms, LIMITS.rooms_per_key, LIMITS.members_per_room) == (1000, 100, 10_000)


async def test_there_are_so_many_rooms(open_store):
    limits = Limits(rooms=3)
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await change(store, create(1), limits) is Status.NEW
        assert await change(store, create(2, name="work"), limits) is Status.NO_MORE_ROOMS, "one key has its share"
        work = create(2, sender="bob", name="work")
        assert await change(store, work, limits) is Status.NEW, "that of everyone is the third"
    async with open_store() as store:
        assert await change(store, create(3, sender="carol", name="tea"), limits) is Status.NO_MORE_ROOMS
        assert await change(store, create(4, sender="carol"), limits) is Status.EXISTS
        left = attrs.evolve(leave(5, id_of(work), sender="bob"), taken_at=50.0)
        assert await change(store, left, limits) is Status.NEW
        await store.retain(60.0, 200.0)
        assert await change(store, create(3, sender="carol", name="tea"), limits) is Status.NEW, "it was not noted"


async def test_one_key_or_one_address_creates_a_quarter_of_the_rooms(store):
    limits, new, no_more = Limits(rooms=9), Status.NEW, Status.NO_MORE_ROOMS
    creations = [
        ("alice", "a", new),
        ("alice", "b", new),
        ("alice", "c", no_more),  # a third one of this key
        ("bob", "b", new),
        ("carol", "b", no_more),  # a third one from this address
        ("carol", "d", new),
        ("carol", "d", no_more),  # a second one is more than a third of what is free
        ("carol", "", no_more),
    ]
    for number, (sender, origin, status) in enumerate(creations):
        entry = create(number, sender=sender, name=f"room{number}")
        assert (await store.change_room(entry, limits, origin)).status is status, number


async def test_one_key_is_in_so_many_rooms_under_all_its_names(store):
    limits = Limits(rooms_per_key=2)
    await store.save_name(record("bob2", owner="bob"))
    for number, name in enumerate(["a", "b", "c"], 1):
        assert await change(store, create(number, sender=PEOPLE[number % 3], name=name)) is Status.NEW
    assert await rooms_of(store, "bob") == {id_of(create(1, sender="bob")): 1}
    second = attrs.evolve(join(4, sender="bob2", name="a"), key=key_of("bob"))
    assert await change(store, second, limits) is Status.NEW
    assert await change(store, join(5, sender="bob", name="b"), limits) is Status.TOO_MANY_ROOMS
    assert await change(store, create(6, sender="bob", name="d"), limits) is Status.TOO_MANY_ROOMS
    assert await change(store, join(7, sender="bob", name="a"), limits) is Status.KNOWN
    left = attrs.evolve(leave(8, id_of(create(1, sender="bob")), sender="bob2"), key=key_of("bob"))
    assert await change(store, left) is Status.NEW
    assert await change(store, join(5, sender="bob", name="b"), limits) is Status.NEW


async def test_so_many_are_in_a_room(store):
    limits = Limits(members_per_room=2)
    await store.change_room(create(1), limits)
    assert await change(store, join(2, sender="bob"), limits) is Status.NEW
    assert await store.change_room(join(3, sender="carol"), limits) == RoomChange(Status.FULL, lunch(2))
    assert await change(store, join(4, sender="bob"), limits) is Status.KNOWN
    await store.change_room(leave(5, LUNCH), limits)
    assert await change(store, join(3, sender="carol"), limits) is Status.NEW, "it was not noted"


# --- lists ---


async def test_rooms_are_listed_page_by_page_in_the_order_of_their_names(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        for number, name in enumerate(["Zoo", "apple", "Lunch", "b2", "B1"]):
            await store.change_room(create(number, name=name, sender=PEOPLE[number % 2]), LIMITS)
    async with open_store() as store:
        found, after = [], ""
        while page := await store.list_rooms("Alice", key_of("alice"), after, False, 2):
            found.append([(room.name, room.members, room.joined) for room in page])
            after = page[-1].name.swapcase()
        assert found == [
            [("apple", 1, 0), ("B1", 1, 5)],
            [("b2", 1, 0), ("everyone", 0, 0)],
            [("Lunch", 1, 3), ("Zoo", 1, 1)],
        ]
        assert await names_of(store, "alice", own=True) == ["B1", "Lunch", "Zoo"]
        own = await store.list_rooms("alice", key_of("alice"), "b1", True, 1)
        assert [one.name for one in own] == ["Lunch"]
        assert await store.list_rooms("alice", key_of("mallory"), "", True, 9) == [], "a name with its key"


async def test_members_are_listed_page_by_page_as_they_were_registered(open_store):
    async with open_store() as store:
        people = ["dora", "Bob", "alice", "Carl"]
        await register(store, *people, "eve")
        await store.change_room(create(1), LIMITS)
        for number, name in enumerate(people, 2):
            await store.change_room(join(number, sender=name), LIMITS)
    async with open_store() as store:
        assert await store.list_members(LUNCH, "", 3) == ["alice", "Bob", "Carl"]
        assert await store.list_members(LUNCH, "CARL", 3) == ["dora"]
        assert await store.list_members(LUNCH, "dora", 3) == []
        assert await store.list_members(EVERYONE, "bob", 3) == ["Carl", "dora", "eve"]
        assert await store.list_members(WORK, "", 3) == [], "no such room"
        await store.save_name(record("CARL"))
        assert await store.list_members(LUNCH, "bob", 1) == ["CARL"]


# --- posts ---


async def test_only_members_post(store):
    await store.change_room(create(1), LIMITS)
    posts = [post(2, room=LUNCH), post(3, sender="bob", room=LUNCH), post(4, sender="ALICE", room=LUNCH), post(5)]
    assert await store.append(posts) == [
        Appended(Status.NEW, 2),
        Appended(Status.NOT_A_MEMBER),
        Appended(Status.NEW, 3),
        Appended(Status.NEW, 4),
    ]
    assert await store.append(posts[:2]) == [Appended(Status.KNOWN, 2), Appended(Status.NOT_A_MEMBER)]
    await store.change_room(leave(6, LUNCH), LIMITS)
    assert await store.append(posts[:1]) == [Appended(Status.KNOWN, 2)], "it was taken when they were in it"
    moved = attrs.evolve(post(2), recipient=WORK)
    assert await store.append([moved]) == [Appended(Status.CONFLICT)]


async def test_somebody_in_several_rooms_reads_in_the_order_of_the_log(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(create(2, name="work"), LIMITS)
        await store.append([post(3, room=LUNCH), post(4)])
        await store.change_room(join(5, sender="bob"), LIMITS)
        await store.append([post(6, room=WORK), direct(7), post(8, room=LUNCH)])
        await store.change_room(join(9, sender="bob", name="work"), LIMITS)
        later = [post(10, room=WORK), post(11), direct(12), post(13, room=LUNCH), post(14, room=WORK)]
        await store.append(later)
    async with open_store() as store:
        assert await rooms_of(store, "bob") == {LUNCH: 5, WORK: 9}
        assert await seqs(store, "bob") == [4, 7, 8, 10, 11, 12, 13, 14]
        assert await seqs(store, "bob", 12) == [13, 14]
        assert await seqs(store, "carol") == [4, 11]
        assert await store.save_name(record("bob")) == Position(0, 8, 14, {LUNCH: 5, WORK: 9})
        assert await store.save_name(record("carol")) == Position(0, 2, 14, {})
        await store.acknowledge([Acknowledged("bob", 11, {7: b"receipt"})], 5.0)
        assert (await store.save_name(record("bob"))).waiting == 3


async def test_each_room_is_trimmed_apart(open_store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(create(2, name="work"), LIMITS)
        for number, name in ((3, "lunch"), (4, "work")):
            await store.change_room(join(number, sender="bob", name=name), LIMITS)
        await store.append([post(10, room=WORK), post(11), post(12, room=WORK)])
        await store.append([post(number, room=LUNCH) for number in range(20, 25)])
    async with open_store() as store:
        entries = await read_all(store, "bob", 0)
        assert [(one.kind, one.seq, one.recipient) for one in entries] == [
            ("missed", 9, "bob"),
            *[("group", 5, WORK), ("group", 6, EVERYONE), ("group", 7, WORK)],
            *[("group", seq, LUNCH) for seq in (10, 11, 12)],
        ]
        assert entries[0].body == f"2 {LUNCH}".encode()
        assert (await store.save_name(record("bob"))).waiting == 6
        await store.append([post(number) for number in (30, 31, 32)])
        (notice, *rest) = await read_all(store, "bob", 0)
        assert (notice.seq, notice.body) == (9, b"3"), "of two rooms, of which that of everyone is one"
        assert [one.seq for one in rest] == [5, 7, 10, 11, 12, 13, 14, 15]
        assert [one.body for one in await read_all(store, "carol", 0)] == [b"1", *[b"hi all"] * 3]


async def test_what_was_trimmed_before_joining_is_not_missed(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 2)
    await store.change_room(create(1), LIMITS)
    await store.append([post(2, room=LUNCH), post(3, room=LUNCH)])
    await store.change_room(join(4, sender="bob"), LIMITS)
    await store.append([post(5, room=LUNCH), post(6, room=LUNCH)])
    assert await seqs(store, "bob") == [5, 6]
    await store.append([post(7, room=LUNCH)])
    assert [(one.seq, one.body) for one in await read_all(store, "bob", 0)] == [
        (5, f"1 {LUNCH}".encode()),
        (6, b"hi all"),
        (7, b"hi all"),
    ]


async def test_requests_about_rooms_are_forgotten_as_all_else(store, monkeypatch):
    """Without posts and letters, too: they alone would fill the disk."""
    monkeypatch.setattr(server_log, "REMEMBERED", 4)
    monkeypatch.setattr(server_log, "FORGET_EVERY", 2)
    await store.change_room(create(1), LIMITS)
    for number in range(2, 12):
        await store.change_room(join(number), LIMITS)
    assert [await change(store, copy) for copy in (join(9), join(11), create(1))] == [
        Status.KNOWN,
        Status.KNOWN,
        Status.EXISTS,
    ], "the last one is forgotten, the others answer their copies"


# --- rooms in which nobody is ---


async def test_a_room_that_nobody_is_in_goes_after_30_days(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(create(2, name="work"), LIMITS)
        await store.change_room(attrs.evolve(leave(3, LUNCH), taken_at=500.0), LIMITS)
        await store.retain(500.0, 1000.0)
        assert await names_of(store) == ["everyone", "lunch", "work"]
    async with open_store() as store:
        await store.retain(500.5, 1000.0)
        assert await names_of(store) == ["everyone", "work"], "somebody is in the other one"
        assert await store.list_members(LUNCH, "", 9) == []
        assert await change(store, join(4)) is Status.UNKNOWN
        await store.retain(1e9, 1e9)
        assert await names_of(store) == ["everyone", "work"], "and that of everyone stays"


@pytest.mark.parametrize("how", ["delete", "another owner"])
async def test_nobody_is_in_it_when_the_last_name_has_gone(store, how):
    await store.change_room(create(1), LIMITS)
    if how == "delete":
        await store.delete("alice", 500.0)
    else:
        await store.save_name(record("alice", owner="mallory", since=500.0))
    await store.retain(499.0, 1000.0)
    assert await names_of(store, "bob") == ["everyone", "lunch"]
    await store.retain(501.0, 1000.0)
    assert await names_of(store, "bob") == ["everyone"]


async def test_who_joins_keeps_it_and_the_time_begins_anew(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(attrs.evolve(leave(2, LUNCH), taken_at=500.0), LIMITS)
    await store.change_room(attrs.evolve(join(3, sender="bob"), taken_at=600.0), LIMITS)
    await store.retain(700.0, 1000.0)
    assert await names_of(store) == ["everyone", "lunch"]
    await store.change_room(attrs.evolve(leave(4, LUNCH, sender="bob"), taken_at=800.0), LIMITS)
    await store.retain(700.0, 1000.0)
    assert await names_of(store) == ["everyone", "lunch"]
    await store.retain(801.0, 1000.0)
    assert await names_of(store) == ["everyone"]


async def test_nobody_gets_the_posts_of_a_room_that_has_gone(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        await store.append([attrs.evolve(post(3, room=LUNCH), taken_at=900.0), attrs.evolve(post(4), taken_at=900.0)])
        await store.change_room(attrs.evolve(leave(5, LUNCH), taken_at=500.0), LIMITS)
        await store.change_room(attrs.evolve(leave(6, LUNCH, sender="bob"), taken_at=500.0), LIMITS)
        await store.retain(600.0, 1000.0)
        assert await names_of(store) == ["everyone"]
    async with open_store() as store:
        assert await seqs(store, "bob") == [4]
        assert await status_of(store, post(7, room=LUNCH)) is Status.NOT_A_MEMBER
        created = create(8, sender="bob")
        assert await store.change_room(created, LIMITS) == RoomChange(
            Status.NEW, Room(id_of(created), "lunch", key_of("bob"), 1, 7)
        )
        assert await seqs(store, "bob") == [4]
        while await store.retain(1e6, 1e6):
            pass
        assert await store.append([post(9, sender="bob", room=id_of(created))]) == [Appended(Status.NEW, 8)]


async def test_a_time_in_the_future_keeps_no_room(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(attrs.evolve(leave(2, LUNCH), taken_at=9e9), LIMITS)
    await store.retain(1000.0, 2000.0)
    assert await names_of(store) == ["everyone", "lunch"], "it is dated now"
    await store.retain(2001.0, 3000.0)
    assert await names_of(store) == ["everyone"]


async def test_a_clock_that_was_set_forward_removes_no_room(store):
    await store.change_room(create(1), LIMITS)
    await store.change_room(attrs.evolve(leave(2, LUNCH), taken_at=500.0), LIMITS)
    await store.date_forward(1e6, 2e6)
    await store.retain(1e6, 2e6)
    assert await names_of(store) == ["everyone", "lunch"]
    await store.retain(2e6 + 1, 4e6)
    assert await names_of(store) == ["everyone"]
