"""The contract of a ServerStore about private rooms: each story is told with every backend.

Epochs are not signed here: who has signed one is looked at before the store (see tests/server/test_room_epochs.py).
Transactions run without threads, so everything happens in the same order each time.
"""

import sqlite3
from contextlib import asynccontextmanager

import attrs
import pytest

from tests.storage.backends import backends
from tests.storage.log_entries import (
    PEOPLE,
    begin,
    create,
    direct,
    id_of,
    join,
    key_of,
    leave,
    read_all,
    record,
    register,
    sealed,
    signed_of,
    take_all,
)
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, Room
from trio_chat.storage import epoch_rows, mailboxes, server_log
from trio_chat.storage.interface import Appended, RoomChange, Status, StoredEpoch
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store

BACKENDS = backends(MemoryServerStore, open_server_store)
FIRST = begin(1, "alice", "bob")
LUNCH = FIRST.recipient
"""The room that alice creates with FIRST: entry 1 of the log creates it, entry 2 is the epoch."""

SECOND = begin(2, "alice", "bob", "carol", after=FIRST)
WITHOUT_BOB = begin(3, "alice", after=FIRST)


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


@asynccontextmanager
async def opened_first(open_store):
    """A store that knows alice, bob and carol; alice has a private room, and bob is in it."""
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await change(store, FIRST) is Status.NEW
        yield store


@pytest.fixture
async def store(open_store):
    """The same for tests that open it once."""
    async with opened_first(open_store) as store:
        yield store


async def change(store, entry: Entry, limits: Limits = LIMITS) -> Status:
    return (await store.change_room(entry, limits)).status


async def status_of(store, entry: Entry) -> Status:
    (appended,) = await store.append([entry])
    return appended.status


async def seqs(store, name: str, after: int = 0) -> list[int]:
    return [one.seq for one in await read_all(store, name, after)]


async def rooms_of(store, name: str) -> dict[str, int]:
    return (await store.save_name(record(name))).rooms


async def present(store, name: str = "alice") -> int:
    """The number of the present epoch, as a member gets it."""
    return (await store.epoch(LUNCH, 0, name, key_of(name))).n


# --- beginning ---


async def test_the_first_epoch_creates_the_room(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        room = Room(LUNCH, "lunch", key_of("alice"), 2, joined=1)
        assert await store.change_room(FIRST, LIMITS) == RoomChange(Status.NEW, room)
        created = attrs.evolve(FIRST, seq=1, kind=EntryKind.CREATED, body=b"lunch")
        assert store.told == [created, attrs.evolve(FIRST, seq=2)]
    async with open_store() as store:
        assert await store.rooms() == [(EVERYONE, "everyone"), (LUNCH, "lunch")]
        for name in ("alice", "bob"):
            assert await rooms_of(store, name) == {LUNCH: 1}
            assert await read_all(store, name, 0) == [attrs.evolve(FIRST, seq=2)], "its sender, too"
            assert await store.epoch(LUNCH, 0, name, key_of(name)) == StoredEpoch(2, 1, FIRST.body)
            assert await store.epoch(LUNCH, 1, name, key_of(name)) == StoredEpoch(2, 1, FIRST.body)
        assert await rooms_of(store, "carol") == {}
        assert await read_all(store, "carol", 0) == []
        assert await store.list_members(LUNCH, "", 9) == ["alice", "bob"]
        assert (await store.save_name(record("bob"))).waiting == 0, "it is no message"


async def test_who_is_added_gets_the_epoch_and_nothing_older(open_store):
    async with opened_first(open_store) as store:
        await store.append([sealed(10, 1, LUNCH)])
        assert await store.change_room(SECOND, LIMITS) == RoomChange(
            Status.NEW, Room(LUNCH, "lunch", key_of("alice"), 3, joined=1)
        )
        await store.append([sealed(11, 2, LUNCH)])
    async with open_store() as store:
        assert await rooms_of(store, "carol") == {LUNCH: 3}
        assert await seqs(store, "carol") == [4, 5]
        assert await seqs(store, "bob") == [2, 3, 4, 5], "the others go on"
        assert await seqs(store, "alice") == [2, 4]
        assert await store.epoch(LUNCH, 1, "carol", key_of("carol")) is None
        assert (await store.epoch(LUNCH, 2, "carol", key_of("carol"))).seq == 4


async def test_who_is_removed_gets_nothing_more_but_a_notice(open_store):
    async with opened_first(open_store) as store:
        await store.append([sealed(10, 1, LUNCH)])
        assert await change(store, WITHOUT_BOB) is Status.NEW
        await store.append([sealed(11, 2, LUNCH)])
        notice = Entry(5, "removed", WITHOUT_BOB.id, "alice", key_of("alice"), "bob", 103.0, LUNCH.encode())
    async with open_store() as store:
        assert await rooms_of(store, "bob") == {}
        assert await read_all(store, "bob", 0) == [notice], "nor what had not come to them before"
        assert (await store.save_name(record("bob"))).waiting == 0
        assert await store.list_members(LUNCH, "", 9) == ["alice"]
        assert await status_of(store, sealed(12, 2, LUNCH, sender="bob")) is Status.NOT_A_MEMBER
        await take_all(store, "bob", bytes)
        assert await read_all(store, "bob", 0) == [], "once"


async def epochs_for(store, name: str, key: str = "") -> list[int]:
    """Which epochs somebody gets who asks for each of them by its number, and for the present one."""
    found = [await store.epoch(LUNCH, n, name, key_of(key or name)) for n in range(6)]
    return [one.n for one in found if one]


async def test_each_epoch_is_for_those_who_are_listed_in_it_also_later(open_store):
    async with opened_first(open_store) as store:
        third = begin(4, "alice", "carol", after=WITHOUT_BOB)
        for entry in (WITHOUT_BOB, third):
            assert await change(store, entry) is Status.NEW
        assert await epochs_for(store, "bob") == [1], "they had it; the later ones not, nor which one is present"
        assert await epochs_for(store, "carol") == [3, 3]
        assert await change(store, begin(5, "alice", "bob", after=third)) is Status.NEW
        assert await change(store, leave(6, LUNCH, sender="bob")) is Status.NEW
    async with open_store() as store:
        assert await epochs_for(store, "bob") == [1, 4], "who was removed, was added again and has left"
        assert await epochs_for(store, "carol") == [3]
        assert await epochs_for(store, "alice") == [4, 1, 2, 3, 4]


async def test_who_is_listed_in_no_epoch_gets_none_whatever_name_or_key_they_have(store):
    await store.change_room(WITHOUT_BOB, LIMITS)
    await store.save_name(record("bob", owner="mallory"))
    await store.save_name(record("bob2", owner="bob"))
    for name, key in (("carol", "carol"), ("mallory", "bob"), ("bob", "mallory"), ("bob2", "bob"), ("alice", "bob")):
        assert await epochs_for(store, name, key) == []


async def test_one_notice_waits_however_often_somebody_comes_and_goes(store):
    """An owner could fill the disk with them otherwise."""
    last = FIRST
    for number in range(10, 20):
        last = begin(number, *(("alice",) if number % 2 else ("alice", "bob")), after=last)
        assert await change(store, last) is Status.NEW
    assert [(one.kind, one.seq) for one in await read_all(store, "bob", 0)] == [("removed", store.told[-1].seq)]


async def test_copies_after_other_epochs_change_nothing(open_store):
    async with opened_first(open_store) as store:
        await store.change_room(WITHOUT_BOB, LIMITS)
        third = begin(4, "alice", "bob", after=WITHOUT_BOB)
        await store.change_room(third, LIMITS)
    async with open_store() as store:
        room = Room(LUNCH, "lunch", key_of("alice"), 2, joined=1)
        for copy in (FIRST, WITHOUT_BOB, third):
            assert await store.change_room(copy, LIMITS) == RoomChange(Status.KNOWN, room)
        assert store.told == []
        assert await present(store) == 3
        other = attrs.evolve(WITHOUT_BOB, body=third.body)
        assert await change(store, other) is Status.CONFLICT, "the id of another request"


async def test_a_copy_that_is_no_longer_remembered_changes_nothing(store):
    await store.change_room(WITHOUT_BOB, LIMITS)
    while await store.retain(1e6, 1e6):
        pass
    assert await change(store, FIRST) is Status.WRONG_EPOCH
    assert await change(store, WITHOUT_BOB) is Status.WRONG_EPOCH
    assert await store.list_members(LUNCH, "", 9) == ["alice"]


# --- who may not ---


async def refused(store, entry: Entry, limits: Limits = LIMITS) -> Status:
    """Nothing has changed, and nothing is remembered of it."""
    told, members, n = list(store.told), await store.list_members(LUNCH, "", 9), await present(store)
    for _ in range(2):
        status = await change(store, entry, limits)
        assert status not in (Status.NEW, Status.KNOWN)
    assert (store.told, await store.list_members(LUNCH, "", 9), await present(store)) == (told, members, n)
    return status


async def test_a_stranger_changes_nothing(store):
    theirs = begin(9, "alice", "carol", sender="carol", after=FIRST, owners=("carol",))
    assert await refused(store, theirs) is Status.NOT_AN_OWNER
    assert await refused(store, join(10, sender="carol")) is Status.PRIVATE
    assert await status_of(store, sealed(11, 1, LUNCH, sender="carol")) is Status.NOT_A_MEMBER
    assert await store.epoch(LUNCH, 0, "carol", key_of("carol")) is None
    assert await store.epoch(LUNCH, 1, "alice", key_of("carol")) is None, "not under this name"
    first = begin(1, "carol", sender="carol", owners=("carol",), room=LUNCH)
    assert await refused(store, first) is Status.NOT_AN_OWNER, "nor does the room begin again"
    assert await change(store, leave(12, LUNCH, sender="carol")) is Status.NOT_A_MEMBER


async def test_a_member_who_is_no_owner_changes_nothing(store):
    theirs = begin(9, "alice", "bob", "carol", sender="bob", after=FIRST, owners=("bob",))
    assert await refused(store, theirs) is Status.NOT_AN_OWNER
    assert await refused(store, create(10, sender="bob")) is Status.EXISTS


async def test_an_owner_who_is_none_any_more_changes_nothing(store):
    await store.change_room(begin(2, "alice", "bob", after=FIRST, owners=("bob",)), LIMITS)
    assert await refused(store, begin(3, "alice", after=SECOND)) is Status.NOT_AN_OWNER
    assert await refused(store, begin(3, "alice", after=FIRST)) is Status.NOT_AN_OWNER


async def test_epochs_follow_each_other(store):
    second = begin(2, "alice", "bob", "carol", after=FIRST, owners=("alice", "bob"))
    await store.change_room(second, LIMITS)
    by_bob = begin(3, "alice", "bob", sender="bob", after=second, owners=("alice", "bob"))
    by_alice = begin(4, "alice", "bob", after=second, owners=("alice", "bob"))
    assert await change(store, by_bob) is Status.NEW
    assert await refused(store, by_alice) is Status.WRONG_EPOCH, "the second of two owners"
    assert await refused(store, begin(5, "alice", after=by_alice)) is Status.WRONG_EPOCH, "after one that never was"
    assert await refused(store, begin(6, "alice", "carol", after=FIRST)) is Status.WRONG_EPOCH, "after an old one"
    assert await refused(store, begin(8, "alice", after=by_bob, name="dinner")) is Status.WRONG_EPOCH
    assert await refused(store, begin(9, "alice", after=by_bob, n=2**53)) is Status.WRONG_EPOCH
    assert await change(store, begin(4, "alice", "bob", after=by_bob)) is Status.NEW, "the id was not used up"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (begin(9, "alice", name="lunch"), Status.EXISTS),
        (begin(9, "alice", name="LUNCH"), Status.EXISTS),
        (begin(9, "alice", name="everyone"), Status.EXISTS),
        (begin(9, "alice", name="work", before=bytes(31) + b"x"), Status.WRONG_EPOCH),
        (begin(9, "alice", name="work", room="!" + "0" * 32), Status.WRONG_EPOCH),
        (begin(9, "alice", name="work", room=id_of(create(9))), Status.WRONG_EPOCH),
        (begin(9, "alice", name="work", room=EVERYONE), Status.WRONG_EPOCH),
        (begin(9, "alice", name="work", n=2), Status.UNKNOWN),
        (begin(9, "alice", "bob", name="work", owners=("bob",)), Status.WRONG_EPOCH),
        (begin(9, "alice", "dave", name="work"), Status.UNKNOWN_MEMBER),
        (begin(9, "alice", "bob", name="work", keys={"bob": "carol"}), Status.UNKNOWN_MEMBER),
    ],
)
async def test_a_first_epoch_is_not_any(store, wrong, status):
    assert await refused(store, wrong) is status


async def test_an_open_room_has_no_epochs(store):
    await store.change_room(create(5, name="work"), LIMITS)
    for room in (id_of(create(5)), EVERYONE):
        for n in (1, 2):
            theirs = begin(6, "alice", "bob", room=room, n=n, name="work")
            assert await refused(store, theirs) in (Status.NOT_AN_OWNER, Status.WRONG_EPOCH)
        assert await store.epoch(room, 0, "alice", key_of("alice")) is None


async def test_a_member_without_a_key_is_nobody(store):
    """NO_KEY is what the store says of a name that nobody owns."""
    member = signed_of(FIRST).epoch.members[1]
    nobody = attrs.evolve(member, name="zed", keys=attrs.evolve(member.keys, signing=NO_KEY))
    epoch = begin(9, "alice", after=FIRST, members=(signed_of(FIRST).epoch.members[0], nobody))
    assert await refused(store, epoch) is Status.UNKNOWN_MEMBER


async def test_a_name_with_a_wrong_key_is_not_added(store):
    assert await refused(store, begin(2, "alice", "dave", after=FIRST)) is Status.UNKNOWN_MEMBER
    as_carol = begin(2, "alice", "bob", "carol", after=FIRST, keys={"carol": "mallory"})
    assert await refused(store, as_carol) is Status.UNKNOWN_MEMBER
    as_bob = begin(2, "alice", "bob", after=FIRST, keys={"bob": "mallory"})
    assert await refused(store, as_bob) is Status.UNKNOWN_MEMBER, "nor a member's name with another"


# --- who has left ---


async def test_a_late_epoch_does_not_bring_back_who_has_left(store):
    assert await change(store, leave(5, LUNCH, sender="bob")) is Status.NEW
    assert await refused(store, SECOND) is Status.WRONG_EPOCH
    assert await seqs(store, "bob") == [], "nothing more comes"
    without = begin(6, "alice", "carol", after=FIRST)
    assert await change(store, without) is Status.NEW
    assert [one.kind for one in store.told if one.recipient == "bob"] == [], "they have left by themselves"
    assert await change(store, begin(7, "alice", "carol", "bob", after=without)) is Status.NEW, "and may be asked again"
    assert (await rooms_of(store, "bob"))[LUNCH] == store.told[-1].seq - 1


async def test_the_room_goes_on_without_an_epoch_when_somebody_leaves(store):
    await store.change_room(leave(5, LUNCH, sender="bob"), LIMITS)
    assert await status_of(store, sealed(10, 1, LUNCH)) is Status.NEW
    assert await status_of(store, sealed(11, 1, LUNCH, sender="bob")) is Status.NOT_A_MEMBER


async def test_an_owner_who_has_left_does_not_come_back_by_themselves(store):
    await store.change_room(leave(5, LUNCH), LIMITS)
    assert await change(store, begin(6, "alice", "bob", after=FIRST)) is Status.NOT_A_MEMBER
    await store.save_name(record("alice2", owner="alice"))
    other = attrs.evolve(begin(7, "alice2", "bob", after=FIRST, keys={"alice2": "alice"}), sender="alice2")
    assert await change(store, other) is Status.NOT_A_MEMBER, "under another name neither"
    assert await store.list_members(LUNCH, "", 9) == ["bob"]


@pytest.mark.parametrize("how", ["delete", "another owner"])
async def test_a_name_that_is_lost_is_in_no_private_room(store, how):
    if how == "delete":
        await store.delete("bob", 300.0)
    else:
        assert (await store.save_name(record("bob", owner="mallory", since=300.0))).rooms == {}
    assert await store.list_members(LUNCH, "", 9) == ["alice"]
    assert await refused(store, SECOND) is Status.WRONG_EPOCH
    assert await store.epoch(LUNCH, 0, "bob", key_of("mallory")) is None
    assert await store.epoch(LUNCH, 0, "bob", key_of("bob")) is None
    assert await seqs(store, "bob") == []
    assert await change(store, begin(6, "alice", "carol", after=FIRST)) is Status.NEW
    assert {one.kind for one in store.told} == {"created", "epoch"}, "nobody is told of the last owner"


async def test_the_request_of_a_last_owner_of_a_name_begins_nothing(store):
    await store.save_name(record("alice", owner="mallory"))
    assert await change(store, SECOND) is Status.UNKNOWN
    assert await change(store, FIRST) is Status.KNOWN
    assert await store.list_members(LUNCH, "", 9) == ["bob"]


async def test_a_member_under_another_name_is_another_member(store):
    await store.save_name(record("bob2", owner="bob"))
    renamed = begin(5, "alice", "bob2", after=FIRST, keys={"bob2": "bob"})
    assert await change(store, renamed) is Status.NEW
    assert await store.list_members(LUNCH, "", 9) == ["alice", "bob2"]
    assert [one.kind for one in await read_all(store, "bob", 0)] == ["removed"]


# --- posts ---


async def test_a_post_of_another_epoch_is_refused_and_its_id_is_free(open_store):
    async with opened_first(open_store) as store:
        await store.change_room(SECOND, LIMITS)
        assert await store.append([sealed(10, 1, LUNCH), sealed(11, 2, LUNCH), sealed(12, 3, LUNCH)]) == [
            Appended(Status.WRONG_EPOCH),
            Appended(Status.NEW, 4),
            Appended(Status.WRONG_EPOCH),
        ]
        assert await status_of(store, sealed(10, 2, LUNCH)) is Status.NEW, "sealed again"
        assert await status_of(store, sealed(10, 1, LUNCH)) is Status.CONFLICT
    async with open_store() as store:
        assert await status_of(store, sealed(10, 2, LUNCH)) is Status.KNOWN
        for body in (b"", b"\0", bytes(7), bytes(8), b"\xff" * 8):
            post = attrs.evolve(sealed(20, 1, LUNCH), body=body)
            assert await status_of(store, post) is Status.WRONG_EPOCH, body


async def test_copies_of_posts_are_known_after_other_epochs(store):
    await store.append([sealed(10, 1, LUNCH)])
    await store.change_room(WITHOUT_BOB, LIMITS)
    assert await store.append([sealed(10, 1, LUNCH)]) == [Appended(Status.KNOWN, 3)]
    assert await seqs(store, "alice") == [2, 4]


async def test_epochs_come_in_the_order_of_the_log(open_store):
    async with opened_first(open_store) as store:
        await store.append([sealed(10, 1, LUNCH), direct(11), sealed(12, 1, LUNCH)])
        work = begin(21, "carol", "bob", sender="carol", owners=("carol",), name="work")
        await store.change_room(work, LIMITS)
        await store.append([sealed(22, 1, work.recipient, sender="carol")])
        await store.change_room(SECOND, LIMITS)
    async with open_store() as store:
        kinds = [(one.seq, one.kind) for one in await read_all(store, "bob", 0)]
        assert kinds == [
            *[(2, "epoch"), (3, "group"), (4, "direct"), (5, "group")],
            *[(7, "epoch"), (8, "group"), (9, "epoch")],
        ]


async def test_more_epochs_than_are_read_at_once(store, monkeypatch):
    monkeypatch.setattr(epoch_rows, "READ_EPOCHS", 2)
    last, expected = FIRST, [2]
    for number in range(10, 17):
        last = begin(number, "alice", "bob", after=last)
        await store.change_room(last, LIMITS)
        expected.append(store.told[-1].seq)
    assert await seqs(store, "bob") == expected
    assert await seqs(store, "bob", 4) == expected[3:]


async def test_epochs_come_to_a_full_mailbox(store, monkeypatch):
    monkeypatch.setattr(mailboxes, "MAILBOX_LETTERS", 1)
    assert await status_of(store, direct(10, to="bob")) is Status.FULL
    assert await change(store, SECOND) is Status.NEW
    assert await change(store, begin(11, "alice", "carol", after=SECOND)) is Status.NEW
    assert [one.kind for one in await read_all(store, "bob", 0)] == ["removed"]


# --- limits ---


async def test_a_stranger_does_not_use_up_somebodys_rooms(store):
    """Carol is put into rooms by mallory, again and again. She still creates and joins others."""
    limits = Limits(rooms_per_key=24)
    await store.save_name(record("mallory"))
    statuses = [
        await change(
            store,
            begin(30 + n, "mallory", "carol", sender="mallory", owners=("mallory",), name=f"spam{n}"),
            limits,
        )
        for n in range(6)
    ]
    assert statuses == [Status.NEW] * 3 + [Status.THEY_ARE_IN_TOO_MANY] * 3
    assert await change(store, SECOND, limits) is Status.NEW, "another owner has a share of their own"
    for n in range(20):
        own = begin(50 + n, "carol", sender="carol", owners=("carol",), name=f"own{n}")
        assert await change(store, own, limits) is Status.NEW
    last = begin(80, "carol", sender="carol", owners=("carol",), name="own")
    assert await change(store, last, limits) is Status.TOO_MANY_ROOMS
    other = begin(81, "bob", "carol", sender="bob", owners=("bob",), name="bobs")
    assert await change(store, other, limits) is Status.THEY_ARE_IN_TOO_MANY


async def test_half_of_somebodys_rooms_are_for_what_they_create_and_join(store):
    """Somebody with many keys at one address puts carol into as many rooms as they can."""
    limits = Limits(rooms_per_key=24)
    statuses = []
    for n in range(20):
        await store.save_name(record(f"m{n}"))
        spam = begin(30 + n, f"m{n}", "carol", sender=f"m{n}", owners=(f"m{n}",), name=f"spam{n}")
        statuses.append((await store.change_room(spam, limits, "10.0.0.9")).status)
    assert statuses == [Status.NEW] * 3 + [Status.THEY_ARE_IN_TOO_MANY] * 17
    for n in range(20):
        await store.save_name(record(f"o{n}"))
        spam = begin(60 + n, f"o{n}", "carol", sender=f"o{n}", owners=(f"o{n}",), name=f"more{n}")
        statuses.append((await store.change_room(spam, limits, f"10.0.1.{n}")).status)
    assert statuses[20:] == [Status.NEW] * 9 + [Status.THEY_ARE_IN_TOO_MANY] * 11
    for n in range(12):
        assert await change(store, create(100 + n, sender="carol", name=f"own{n}"), limits) is Status.NEW


async def test_after_a_restored_copy_an_owner_goes_on_with_a_later_epoch(store):
    """The members know epochs that the store has lost: what follows from these is taken."""
    lost = begin(7, "alice", "bob", "carol", after=SECOND)
    assert await change(store, begin(8, "alice", "bob", after=lost)) is Status.NEW
    assert await refused(store, lost) is Status.WRONG_EPOCH


async def test_open_rooms_of_the_same_owner_are_their_own_choice(store):
    limits = Limits(rooms_per_key=8)
    for n in range(4):
        await store.change_room(create(30 + n, name=f"open{n}"), LIMITS)
        assert await change(store, join(40 + n, sender="carol", name=f"open{n}"), limits) is Status.NEW
    assert await change(store, SECOND, limits) is Status.NEW


async def test_private_rooms_count_among_all(store):
    limits = Limits(rooms=9)
    statuses = [await change(store, begin(30 + n, "alice", name=f"more{n}"), limits) for n in range(3)]
    assert statuses == [Status.NEW, Status.NO_MORE_ROOMS, Status.NO_MORE_ROOMS]


async def test_so_many_are_in_a_private_room(store):
    assert await refused(store, SECOND, Limits(members_per_room=2)) is Status.FULL


async def test_so_many_bytes_of_epochs_are_kept(open_store, monkeypatch):
    """The oldest go, and so do the posts that nobody could open without them."""
    async with opened_first(open_store) as store:
        size = len(FIRST.body)
        monkeypatch.setattr(epoch_rows, "EPOCHS_BYTES", 3 * size)
        last = FIRST
        for number in range(10, 15):
            n = signed_of(last).epoch.n
            await store.append([sealed(100 + number, n, LUNCH, sender="alice")])
            last = begin(number, "alice", "bob", after=last)
            assert await change(store, last) is Status.NEW
    async with open_store() as store:
        found = [(one.kind, one.seq, one.body[:8]) for one in await read_all(store, "bob", 0)]
        assert found[0] == ("missed", 7, f"3 {LUNCH}".encode()[:8])
        assert [(kind, seq) for kind, seq, _ in found[1:]] == [
            *[("epoch", 8), ("group", 9), ("epoch", 10), ("group", 11), ("epoch", 12)],
        ]
        assert await present(store) == 6
        assert await store.epoch(LUNCH, 3, "bob", key_of("bob")) is None
        assert (await store.save_name(record("bob"))).waiting == 2


async def test_one_epoch_may_be_longer_than_what_is_kept(store, monkeypatch):
    monkeypatch.setattr(epoch_rows, "EPOCHS_BYTES", 1)
    assert await change(store, SECOND) is Status.NEW
    assert await seqs(store, "bob") == [3]


# --- what is too old ---


async def retain(store, before: float, now: float = 1e6) -> None:
    while await store.retain(before, now):
        pass


async def test_epochs_go_when_no_post_of_their_time_is_kept(open_store):
    async with opened_first(open_store) as store:
        second = attrs.evolve(SECOND, taken_at=500.0)
        await store.change_room(second, LIMITS)
        await store.change_room(attrs.evolve(begin(5, "alice", "bob", after=SECOND), taken_at=900.0), LIMITS)
        await retain(store, 500.0)
        assert await seqs(store, "bob") == [2, 3, 4], "the second one began at that time"
        await retain(store, 501.0)
        assert await seqs(store, "bob") == [3, 4]
    async with open_store() as store:
        await retain(store, 1e6)
        assert await seqs(store, "bob") == [4], "the present one stays"
        assert (await store.epoch(LUNCH, 0, "alice", key_of("alice"))).n == 3
        assert await store.list_members(LUNCH, "", 9) == ["alice", "bob"]
        assert await status_of(store, sealed(30, 3, LUNCH)) is Status.NEW


async def test_a_time_in_the_future_keeps_no_epoch(store):
    await store.change_room(attrs.evolve(SECOND, taken_at=9e9), LIMITS)
    await retain(store, 1000.0, 2000.0)
    assert await seqs(store, "bob") == [2, 3], "it is dated now"
    await retain(store, 2001.0, 3000.0)
    assert await seqs(store, "bob") == [3]


async def test_a_clock_that_was_set_forward_drops_no_epoch(store):
    await store.change_room(SECOND, LIMITS)
    await store.date_forward(1e6, 2e6)
    await retain(store, 1e6, 2e6)
    assert await seqs(store, "bob") == [2, 3]


async def test_a_room_that_is_gone_takes_its_epochs_along(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.change_room(FIRST, LIMITS)
        for number, name in ((5, "alice"), (6, "bob")):
            await store.change_room(attrs.evolve(leave(number, LUNCH, sender=name), taken_at=500.0), LIMITS)
        await retain(store, 501.0, 1000.0)
        assert await store.rooms() == [(EVERYONE, "everyone")]
        assert await change(store, SECOND) is Status.UNKNOWN
        assert await change(store, begin(8, "alice", "bob")) is Status.NEW, "the name is free"


async def test_nothing_is_left_of_the_epochs_of_a_room_that_is_gone():
    store = MemoryServerStore()
    await register(store, *PEOPLE)
    await store.change_room(FIRST, LIMITS)
    await store.change_room(SECOND, LIMITS)
    for number, name in enumerate(PEOPLE, 5):
        await store.change_room(attrs.evolve(leave(number, LUNCH, sender=name), taken_at=500.0), LIMITS)
    await retain(store, 501.0, 1000.0)
    assert store._database.execute("SELECT count(*) FROM epochs").fetchall() == [(0,)]


async def test_requests_about_epochs_are_forgotten_as_all_else(store, monkeypatch):
    monkeypatch.setattr(server_log, "REMEMBERED", 4)
    monkeypatch.setattr(server_log, "FORGET_EVERY", 2)
    last = FIRST
    for number in range(10, 20):
        last = begin(number, "alice", "bob", after=last)
        await store.change_room(last, LIMITS)
    assert await change(store, last) is Status.KNOWN
    assert await change(store, FIRST) is Status.WRONG_EPOCH
    assert len(await seqs(store, "bob")) == 11, "the epochs themselves are kept"


# --- lists ---


async def test_private_rooms_are_listed_for_their_members(store):
    room = Room(LUNCH, "lunch", key_of("alice"), 2, joined=1)
    everyone = Room(EVERYONE, "everyone", NO_KEY, 0)
    for name, expected in (("alice", [everyone, room]), ("bob", [everyone, room]), ("carol", [everyone])):
        assert await store.list_rooms(name, key_of(name), "", False, 9) == expected
        assert await store.list_rooms(name, key_of(name), "", True, 9) == expected[1:]
    assert await store.list_rooms("alice", key_of("carol"), "", False, 9) == [everyone]
    assert await change(store, join(9, sender="bob")) is Status.KNOWN, "a member joins, and nothing changes"


# --- kills ---


async def test_an_epoch_that_is_interrupted_has_not_begun():
    """Wherever a power cut comes: there is no half of it, and the same request begins it later."""
    steps, done = 0, False
    while not done:
        store = MemoryServerStore()
        told: list[Entry] = []
        await store.load(told.extend)
        await register(store, *PEOPLE)
        await store.change_room(FIRST, LIMITS)
        before = list(store._database.iterdump())
        left = [steps]

        def is_over(left=left) -> bool:
            left[0] -= 1
            return left[0] < 0

        store._database.set_progress_handler(is_over, 20)
        request = begin(2, "alice", "carol", after=FIRST)
        try:
            done = await change(store, request) is Status.NEW
        except sqlite3.OperationalError:
            assert len(told) == 2
        store._database.set_progress_handler(None, 1)
        if not done:
            assert list(store._database.iterdump()) == before
            assert await change(store, request) is Status.NEW
        assert await store.list_members(LUNCH, "", 9) == ["alice", "carol"]
        assert [(one.kind, one.seq) for one in await read_all(store, "bob", 0)] == [("removed", 4)]
        assert [(one.kind, one.seq) for one in told[2:]] == [("epoch", 3), ("removed", 4)]
        steps += 1
    assert steps > 20
