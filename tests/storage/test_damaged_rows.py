"""A damaged row of the server's file is set aside, logged, counted and passed; all else is served.

The rows are damaged between two uses of the file, as a bad disk or a curious operator would do it. `quick_check` finds
nothing: the file is in order, only its content is not. Damaged pages are in test_database.py.
"""

import sqlite3
from contextlib import closing

import pytest

from tests.storage.backends import inline
from tests.storage.log_entries import (
    PEOPLE,
    begin,
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
    sealed,
    take_all,
)
from trio_chat.protocol import limits
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.records import EntryKind
from trio_chat.storage import mailboxes, server_log
from trio_chat.storage.interface import Acknowledged, Appended, Position, Status
from trio_chat.storage.server_store import open_server_store

INVALID_TEXT = "CAST(x'ff00ff' AS TEXT)"  # no UTF-8
NO_ENTRY = [
    "kind = NULL",
    "kind = 'dire'",
    f"kind = {INVALID_TEXT}",
    "sender = NULL",
    "sender = 'no name'",
    "sender = x'616c696365'",
    f"sender = {INVALID_TEXT}",
    "key = NULL",
    "key = x'00'",
    "key = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='",
    "id = x''",
    "id = 17",
    "taken_at = NULL",
    "taken_at = 'yesterday'",
    "taken_at = -1",
    "taken_at = 9e999",
    "body = 'hi'",
    "body = NULL",
    "body = zeroblob(100000)",
]
NO_NAME = [
    "names SET name = NULL",
    "names SET name = 'b b'",
    f"names SET name = {INVALID_TEXT}",
    "names SET host = 'cafe'",
    "names SET host = 7",
    "names SET port = 0",
    "names SET port = 'seven'",
    "names SET since = NULL",
    "names SET signing = x'00'",
    "names SET signing = NULL",
    "names SET link = 'text'",
    "names SET certificate = NULL",
    "mailboxes SET name = 'bo'",
    "mailboxes SET position = NULL",
    "mailboxes SET position = -1",
    "mailboxes SET letters = 'many'",
    "mailboxes SET bytes = NULL",
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def no_more(entries):
    """For `on_appended`, where nobody listens."""


async def prepare(path, entries):
    """A file with alice, bob and carol, and these entries."""
    async with open_server_store(path, inline) as store:
        await register(store, *PEOPLE)
        await store.append(entries)


def execute(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(statement).fetchall()


def damage_entry(path, damage):
    execute(path, f"UPDATE entries SET {damage} WHERE seq = 2")  # noqa: S608 - from the lists above


def receipt(letter):
    return b"receipt"


@pytest.mark.parametrize("damage", NO_ENTRY)
@pytest.mark.parametrize("entries", [(direct(1), direct(2), direct(3)), (post(1), post(2), post(3))])
async def test_a_damaged_entry_is_passed(path, entries, damage, caplog):
    await prepare(path, entries)
    damage_entry(path, damage)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert (await store.save_name(record("bob"))).seq == 0
        assert [entry.seq for entry in await read_all(store, "bob", 0)] == [1, 3]
        assert store.damaged == 1
        assert "entry 2" in caplog.text
        assert await store.save_name(record("bob")) == Position(0, 2, 3), "it is not counted"
        assert await store.append([direct(4)]) == [Appended(Status.NEW, 4)]
        assert [entry.seq for entry in await take_all(store, "bob", receipt)] == [1, 3, 4]
        assert (await store.save_name(record("bob"))).waiting == 0
    assert execute(path, "SELECT seq FROM damaged") == [(2,)]
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert await read_all(store, "bob", 0) == [
            entry for entry in await read_all(store, "carol", 0) if entry.kind == EntryKind.GROUP
        ]
        assert store.damaged == 0, "only once"


@pytest.mark.parametrize(
    ("damage", "left"), [("body = NULL", [6, 7, 8]), ("key = NULL", [7, 8]), ("key = 7, body = 7", [7, 8])]
)
async def test_damaged_posts_do_not_stop_trimming(path, damage, left, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
    monkeypatch.setattr(server_log, "ROOM_BYTES", 20)
    await prepare(path, [post(1), post(2), post(3)])
    damage_entry(path, damage)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        await store.append([post(number) for number in range(4, 9)])
        assert [entry.seq for entry in await read_all(store, "bob", 0) if entry.kind == EntryKind.GROUP] == left
    assert execute(path, "SELECT posts, bytes FROM rooms") == [(len(left), 6 * len(left))]


async def head(store):
    _, head = await store.load(no_more)
    return head


@pytest.mark.parametrize("damage", ["recipient = NULL", "recipient = x'626f62'", "recipient = 'nobody'", "kept = 'no'"])
async def test_an_entry_that_nobody_reads_any_more_goes_when_it_is_too_old(path, damage):
    await prepare(path, [direct(1), direct(2), direct(3)])
    damage_entry(path, damage)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert [entry.seq for entry in await read_all(store, "bob", 0)] == [1, 3]
        while await store.retain(1e6, 1e6):
            pass
        assert await read_all(store, "bob", 0) == []
    assert execute(path, "SELECT seq FROM entries WHERE seq <= 3") == []


@pytest.mark.parametrize("damage", NO_ENTRY)
@pytest.mark.parametrize("how", ["acknowledge", "another owner", "retain"])
async def test_a_damaged_letter_is_not_answered(path, how, damage, monkeypatch):
    monkeypatch.setattr(mailboxes, "MAILBOX_LETTERS", 3)
    monkeypatch.setattr(limits, "MAX_SHARE", 0)
    await prepare(path, [direct(1), direct(2), direct(3)])
    damage_entry(path, damage)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        match how:
            case "acknowledge":
                await store.acknowledge([Acknowledged("bob", 3, dict.fromkeys((1, 2, 3), b"a receipt"))], 5.0)
            case "another owner":
                await store.save_name(record("bob", owner="mallory"))
            case "retain":
                while await store.retain(1e6, 1e6):
                    pass
        answered = [entry.id for entry in await read_all(store, "alice", 0)]
        assert answered[:1] + answered[-1:] == [direct(1).id, direct(3).id]
        # Bodies are not read here: one that is too long is noticed by its reader only.
        assert (len(answered) == 3) == (damage == "body = zeroblob(100000)")
        assert await read_all(store, "bob", 0) == []
        before = await head(store)
        assert await store.append([direct(n) for n in range(10, 14)]) == [
            *(Appended(Status.NEW, before + n) for n in range(1, 4)),
            Appended(Status.FULL),
        ], "the mailbox was empty"


@pytest.mark.parametrize("damage", ["hash = x'00'", "hash = 'text'", "receipt = 'text'", "receipt = 3"])
async def test_a_damaged_request_is_new_again(path, damage):
    await prepare(path, [post(5), direct(1)])
    damage_entry(path, damage)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert await store.append([direct(1)]) == [Appended(Status.NEW, 3)]
        assert [entry.seq for entry in await read_all(store, "bob", 1)] == [3]
        assert store.damaged == 1
    assert execute(path, "SELECT seq FROM damaged") == [(2,)]


@pytest.mark.parametrize("damage", NO_NAME)
async def test_a_damaged_name_is_nobodys(path, damage, caplog):
    await prepare(path, [direct(1), post(2)])
    execute(path, f"UPDATE {damage} WHERE name = 'bob'")
    async with open_server_store(path, inline) as store:
        names, head = await store.load(no_more)
        assert [name.record.name for name in names] == ["alice", "carol"]
        assert (store.damaged, head) == (1, 2)
        assert "name 2" in caplog.text
        assert await store.save_name(record("bob", owner="mallory")) == Position(2, 0, 3)
        assert [entry.kind for entry in await read_all(store, "alice", 2)] == ["failed"], (
            "the letter was for another key"
        )
    assert execute(path, "SELECT number FROM damaged_names") == [(2,)]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM log",
        "INSERT INTO log SELECT * FROM log",
        "UPDATE log SET head = 'x'",
        "UPDATE log SET head = 1",
        "UPDATE log SET head = NULL",
        "UPDATE log SET latest = 'x'",
        "UPDATE rooms SET posts = -1",
        "UPDATE rooms SET bytes = 'x'",
        "UPDATE rooms SET latest = NULL",
        "UPDATE rooms SET trimmed = x'00'",
        "UPDATE rooms SET members = 'many'",
        "UPDATE rooms SET epoch = NULL",
        "UPDATE rooms SET members = -1 WHERE id <> ''",
    ],
)
async def test_damaged_counts_are_made_anew(path, damage, caplog, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 2)
    await prepare(path, [direct(1), post(2), post(3), post(4)])
    await prepare_room(path)
    before = execute(path, "SELECT * FROM log"), execute(path, "SELECT * FROM rooms")
    execute(path, damage)
    async with open_server_store(path, inline) as store:
        names, head = await store.load(no_more)
        assert (len(names), head) == (3, 8)
        assert "counts" in caplog.text
        assert store.damaged == 0
    assert (execute(path, "SELECT * FROM log"), execute(path, "SELECT * FROM rooms")) == before
    async with open_server_store(path, inline) as store:
        assert await store.append([direct(5)]) == [Appended(Status.NEW, 9)]


# --- epochs ---


FIRST = begin(1, "alice", "bob", owners=("alice", "bob"))
SECOND = begin(2, "alice", "bob", after=FIRST, owners=("bob",))
NO_EPOCH = [
    *("n = NULL", "n = 7", "n = 'two'", "sender = NULL", "sender = 'no name'", f"sender = {INVALID_TEXT}"),
    *("key = NULL", "key = x'00'", "id = 17", "taken_at = 'yesterday'", "taken_at = NULL"),
    *("body = NULL", "body = 'hi'", "body = x''", "body = zeroblob(64)", "body = substr(body, 1, length(body) - 1)"),
    *("room = NULL", "room = x'00'", "room = 'bob'"),
]


async def prepare_epochs(path):
    """A private room of alice with two epochs; bob alone owns it in the second one."""
    async with open_server_store(path, inline) as store:
        await register(store, *PEOPLE)
        for request in (FIRST, SECOND):
            assert (await store.change_room(request, LIMITS)).status is Status.NEW
        await store.append([sealed(10, 2, FIRST.recipient)])


@pytest.mark.parametrize("damage", NO_EPOCH)
async def test_a_damaged_epoch_is_passed(path, damage):
    await prepare_epochs(path)
    execute(path, f"UPDATE epochs SET {damage} WHERE seq = 2")  # noqa: S608 - from the list above
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert [one.seq for one in await read_all(store, "bob", 0)] == [3, 4]
        third = begin(3, "alice", "bob", "carol", sender="bob", after=SECOND, owners=("bob",))
        assert (await store.change_room(third, LIMITS)).status is Status.NEW
        assert [one.seq for one in await read_all(store, "carol", 0)] == [5]


@pytest.mark.parametrize("damage", NO_EPOCH)
async def test_if_the_present_epoch_is_damaged_who_has_created_the_room_goes_on(path, damage):
    await prepare_epochs(path)
    execute(path, f"UPDATE epochs SET {damage} WHERE seq = 3")  # noqa: S608 - from the list above
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert [one.seq for one in await read_all(store, "bob", 0)] == [2, 4]
        assert await store.epoch(FIRST.recipient, 0, "alice", key_of("alice")) is None
        assert (await store.append([sealed(11, 2, FIRST.recipient)]))[0].status is Status.NEW, "posts go on"
        by_bob = begin(3, "alice", "bob", sender="bob", after=SECOND, owners=("bob",))
        assert (await store.change_room(by_bob, LIMITS)).status is Status.NOT_AN_OWNER
        old = begin(4, "alice", "carol", after=FIRST)
        assert (await store.change_room(old, LIMITS)).status is Status.WRONG_EPOCH
        later = begin(5, "alice", "carol", after=SECOND, n=9)
        assert (await store.change_room(later, LIMITS)).status is Status.NEW
        assert await store.list_members(FIRST.recipient, "", 9) == ["alice", "carol"]
        assert (await store.append([sealed(12, 9, FIRST.recipient)]))[0].status is Status.NEW


async def test_a_damaged_number_of_the_present_epoch_is_found_again(path):
    await prepare_epochs(path)
    execute(path, "UPDATE rooms SET epoch = 'two' WHERE id <> ''")
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert (await store.append([sealed(11, 2, FIRST.recipient)]))[0].status is Status.NEW
        assert [one.seq for one in await read_all(store, "bob", 0)] == [2, 3, 4, 5]
    assert execute(path, "SELECT epoch FROM rooms ORDER BY id") == [(0,), (2,)]


# --- rooms ---

LUNCH = id_of(create(1))


async def prepare_room(path):
    """The room lunch of alice, which bob has joined, with two posts, and the room work that alice alone is in."""
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        await register(store, *PEOPLE)
        await store.change_room(create(1), LIMITS)
        await store.change_room(join(2, sender="bob"), LIMITS)
        await store.change_room(create(3, name="work"), LIMITS)
        await store.append([post(10, room=LUNCH)])


NO_ROOM = [
    *("id = NULL", "id = 'lunch'", "id = x'00'", f"id = {INVALID_TEXT}", "id = '#' || substr(id, 3)"),
    *("name = NULL", "name = 'l unch'", "name = ''", f"name = {INVALID_TEXT}"),
    *("owner = NULL", "owner = x'00'", "owner = 'text'"),
]


@pytest.mark.parametrize("damage", NO_ROOM)
async def test_a_damaged_room_is_set_aside_and_all_else_goes_on(path, damage, caplog):
    await prepare(path, [])
    await prepare_room(path)
    execute(path, f"UPDATE rooms SET {damage} WHERE name = 'lunch'")  # noqa: S608 - from the lists above
    async with open_server_store(path, inline) as store:
        _, head = await store.load(no_more)
        assert store.damaged == 1
        assert "room " in caplog.text
        assert sorted(name for _, name in await store.rooms()) == ["everyone", "work"]
        assert [one.name for one in await store.list_rooms("alice", key_of("alice"), "", True, 9)] == ["work"]
        assert (await store.append([post(20, sender="bob", room=LUNCH)]))[0].status is Status.NOT_A_MEMBER
        assert await read_all(store, "bob", 0) == []
        assert await store.append([post(21)]) == [Appended(Status.NEW, head + 1)]
        assert [one.seq for one in await read_all(store, "bob", 0)] == [head + 1]
        position = await store.save_name(record("bob"))
        assert (position.waiting, position.rooms) == (1, {})
        assert (await store.change_room(create(22, sender="bob"), LIMITS)).status is Status.NEW, "the name is free"
        assert store.damaged == 1, "only once"
    assert execute(path, "SELECT count(*) FROM damaged_rooms") == [(1,)]
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert store.damaged == 0


@pytest.mark.parametrize("damage", [*NO_ROOM[5:], "id = 'everyone'", "id = NULL", "name = 'lunch-break'"])
async def test_the_room_of_everyone_is_made_anew(path, damage):
    await prepare(path, [post(1), post(2)])
    await prepare_room(path)
    execute(path, f"UPDATE rooms SET {damage} WHERE id = ''")  # noqa: S608 - from the lists above
    async with open_server_store(path, inline) as store:
        _, head = await store.load(no_more)
        assert sorted(name for _, name in await store.rooms()) == ["everyone", "lunch", "work"]
        assert await store.append([post(20)]) == [Appended(Status.NEW, head + 1)]
        assert [one.seq for one in await read_all(store, "carol", 0)] == [1, 2, head + 1]
        assert (await store.change_room(create(21, name="everyone"), LIMITS)).status is Status.EXISTS
    assert execute(path, "SELECT posts, bytes, latest FROM rooms WHERE id = ''") == [(3, 18, head + 1)]


NO_MEMBER = [
    *("joined = NULL", "joined = -1", "joined = 'x'", "joined = x'00'"),
    *("key = NULL", "key = x'00'", "key = 'text'"),
    *("room = 'lunch'", "room = x'00'", f"room = {INVALID_TEXT}"),
]


@pytest.mark.parametrize("damage", NO_MEMBER)
async def test_a_damaged_member_is_left_out_and_may_join_again(path, damage):
    await prepare(path, [])
    await prepare_room(path)
    execute(path, f"UPDATE members SET {damage} WHERE name = 'bob'")  # noqa: S608 - from the lists above
    async with open_server_store(path, inline) as store:
        _, head = await store.load(no_more)
        assert [one.name for one in await store.list_rooms("bob", key_of("bob"), "", False, 9)] == [
            *("everyone", "lunch", "work")
        ]
        assert await store.list_rooms("bob", key_of("bob"), "", True, 9) == []
        assert (await store.save_name(record("bob"))).rooms == {}
        assert store.damaged == 1
        assert (await store.save_name(record("alice"))).rooms.keys() == {LUNCH, id_of(create(3))}
        change = await store.change_room(join(20, sender="bob"), LIMITS)
        assert (change.status, change.room.members, change.room.joined) == (Status.NEW, 2, head + 1)
        assert await store.append([post(21, sender="bob", room=LUNCH)]) == [Appended(Status.NEW, head + 2)]
        assert [one.seq for one in await read_all(store, "alice", head)] == [head + 2]
        assert (await store.save_name(record("bob"))).rooms == {LUNCH: head + 1}
        assert store.damaged == 1
    assert execute(path, "SELECT name, joined FROM members WHERE name = 'bob'") == [("bob", head + 1)]


@pytest.mark.parametrize("damage", ["name = 'b b'", "name = 'nobody'", "name = x'00'", f"name = {INVALID_TEXT}"])
async def test_a_member_without_a_name_is_not_listed(path, damage):
    await prepare(path, [])
    await prepare_room(path)
    execute(path, f"UPDATE members SET {damage} WHERE name = 'bob'")  # noqa: S608 - from the lists above
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert await store.list_members(LUNCH, "", 9) == ["alice"]
        assert (await store.save_name(record("bob"))).rooms == {}
        assert (await store.append([post(21, room=LUNCH)]))[0].status is Status.NEW


@pytest.mark.parametrize("damage", ["unused_since = 'x'", "unused_since = x'00'", "unused_since = NULL"])
async def test_a_room_in_which_nobody_is_goes_although_it_does_not_say_since_when(path, damage):
    await prepare(path, [])
    await prepare_room(path)
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        await store.change_room(leave(20, id_of(create(3))), LIMITS)
    execute(path, f"UPDATE rooms SET {damage} WHERE name = 'work'")  # noqa: S608 - from the lists above
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        for before, rooms in ((500.0, ["everyone", "lunch", "work"]), (1001.0, ["everyone", "lunch"])):
            await store.retain(before, before + 500)
            assert sorted(name for _, name in await store.rooms()) == rooms


async def test_many_damaged_entries_do_not_hide_what_comes_after_them(path):
    await prepare(path, [direct(number) for number in range(200)])
    execute(path, "UPDATE entries SET id = NULL WHERE seq < 200")
    async with open_server_store(path, inline) as store:
        await store.load(no_more)
        assert [entry.seq for entry in await read_all(store, "bob", 0)] == [200]
        assert store.damaged == 199
        assert (await store.save_name(record("bob"))).waiting == 1


@pytest.mark.parametrize(
    "damage",
    [
        "name = NULL",
        "name = 'b b'",
        f"name = {INVALID_TEXT}",
        "signing = NULL",
        "signing = x'00'",
        "link = 'text'",
        "certificate = NULL",
        "head = NULL",
        "head = 'x'",
        "head = -1",
    ],
)
async def test_a_damaged_past_owner_is_passed(path, damage, caplog):
    await prepare(path, [post(1, sender="bob"), post(2, sender="carol")])
    async with open_server_store(path, inline) as store:
        await store.delete("bob", 5.0)
        await store.delete("carol", 5.0)
    execute(path, f"UPDATE past_owners SET {damage} WHERE name = 'bob'")  # noqa: S608 - from the list above
    async with open_server_store(path, inline) as store:
        assert await store.past_owners() == [("carol", record("carol").credentials)]
        assert "past owner 1" in caplog.text
        assert await store.past_owners() == [("carol", record("carol").credentials)]
        assert store.damaged == 1, "only once"
    assert execute(path, "SELECT number FROM damaged_past_owners") == [(1,)]


@pytest.mark.parametrize("damage", ["host = 'example.org'", "host = NULL", "port = 0", "port = 'x'", "name = 'b b'"])
async def test_a_damaged_address_is_not_called(path, damage):
    async with open_server_store(path, inline) as store:
        await register(store, "alice", "bob")
    execute(path, f"UPDATE online SET {damage} WHERE name = 'bob'")  # noqa: S608
    async with open_server_store(path, inline) as store:
        assert await store.online() == [("alice", ("10.0.0.1", 1))]
        assert store.damaged == 1
        await store.save_name(record("bob"))
        assert [name for name, _ in await store.online()] == ["alice", "bob"]
