"""No statement of a server's store goes through the whole log, however long it is. The plans are SQLite's own.

A condition that does not fit the indexes would not be noticed otherwise: everything is right, and slow.
"""

import pytest

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
    record,
    register,
    sealed,
)
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind
from trio_chat.storage import epoch_rows, server_log
from trio_chat.storage.interface import MAILBOX_LETTERS, Acknowledged
from trio_chat.storage.server_memory import MemoryServerStore

TRIM = "SELECT seq, key, length(body) FROM entries WHERE kept = 1 AND recipient = "
"""Reads an index of all posts that are kept in a room, which is little."""

COUNT_MEMBERS = "UPDATE rooms SET members = (SELECT count(*) FROM members WHERE room = id) WHERE id = "
"""Reads an index of all members of one room. These are 10,000 at most (see `Limits.members_per_room`)."""

MEMBERS_OF_PRIVATE = "SELECT lower(name), key FROM members WHERE room = "
"""Reads all members of a private room: 100 at most."""

ALL_ROOMS = (
    "UPDATE rooms SET unused_since",  # once in a while, when it is looked for what is too old
    "DELETE FROM rooms WHERE members = 0",
    "SELECT posts, bytes, latest, trimmed, members, epoch FROM rooms",  # at the start
    "SELECT count(*) FROM rooms",
)
"""Goes through all rooms. These are 1,000 (see `Limits.rooms`), and little is known of each."""

RARE = (
    "UPDATE entries SET taken_at",  # when a clock was wrong
    "INSERT INTO log",  # after damage
)


async def use(store: MemoryServerStore) -> list[Entry]:
    """Do everything with a store that can be done. Returns what it has told."""
    told: list[Entry] = []
    await store.load(told.extend)
    await register(store, *PEOPLE, "dave")
    await store.append([direct(number) for number in range(MAILBOX_LETTERS)])
    await store.append([direct(2001, sender="carol"), post(1), post(2), post(3), direct(2002, to="carol")])
    await store.read("bob", 3)
    await store.acknowledge([Acknowledged("bob", 2, {1: b"receipt"})], 5.0)
    await store.advance({"alice": 1000, "carol": 1002})
    await store.save_name(record("bob", owner="mallory"))
    await store.forget("carol")
    await store.delete("carol", 5.0)
    await store.past_owners()
    await store.note_online({"alice": 5.0, "bob": ("10.0.0.2", 2)})
    assert await store.online()
    await store.unused([], 1.0, 2.0)
    await store.read("bob", 0)
    await use_rooms(store)
    await use_private_rooms(store)
    await store.retain(110.0, 9000.0)
    await store.date_forward(1.0, 2.0)
    return told


async def use_rooms(store: MemoryServerStore) -> None:
    """The same with rooms: dave has one, alice joins and leaves it, mallory loses their name in it."""
    mallory, room = record("mallory"), id_of(create(1, sender="dave"))
    await store.save_name(mallory)
    for request in (
        *(create(1, sender="dave"), create(1, sender="dave"), create(2, sender="dave", name="work")),
        *(join(3), join(4), join(5, sender="mallory"), join(6, name="everyone"), leave(7, "#")),
    ):
        await store.change_room(request, LIMITS)
    await store.append([post(n, room=room) for n in range(10, 20)] + [post(20, room=EVERYONE), post(21, room="#")])
    await store.rooms()
    for own in (True, False):
        await store.list_rooms("alice", key_of("alice"), "a", own, 5)
    for one in (room, EVERYONE):
        await store.list_members(one, "a", 5)
    assert await store.read("mallory", 3)
    await store.save_name(mallory)
    await store.change_room(leave(30, room), LIMITS)
    await store.save_name(record("mallory", owner="bob"))
    await store.delete("dave", 5.0)


async def use_private_rooms(store: MemoryServerStore) -> None:
    """Alice has one, removes eve, who is away, and begins more epochs than are kept."""
    await register(store, "alice", "eve")
    first = last = begin(40, "alice", "eve", name="den")
    await store.change_room(first, LIMITS)
    for number in range(41, 45):
        await store.append([sealed(100 + number, number - 40, first.recipient)])
        last = begin(number, "alice", *(["eve"] * (number % 2)), after=last)
        await store.change_room(last, LIMITS)
        assert await store.epoch(first.recipient, 0, "alice", key_of("alice"))
    await store.read("alice", 3)
    await store.read("eve", 3)
    await store.change_room(leave(50, first.recipient), LIMITS)
    await store.change_room(join(51, name="den"), LIMITS)


@pytest.fixture
def plans(monkeypatch):
    """`plans(store)`: how SQLite does each statement that the store has been given."""
    statements: list[str] = []
    store = MemoryServerStore()
    monkeypatch.setattr(server_log, "ROOM_POSTS", 2)
    monkeypatch.setattr(epoch_rows, "EPOCHS_BYTES", 1000)
    store._database.set_trace_callback(statements.append)

    def explain() -> dict[str, list[str]]:
        store._database.set_trace_callback(None)
        kinds = ("SELECT", "INSERT", "UPDATE", "DELETE")
        return {
            statement: [detail for *_, detail in store._database.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for statement in map(str.strip, statements)
            if statement.startswith(kinds)
        }

    explain.store = store
    return explain


async def test_nothing_goes_through_the_whole_log(plans):
    told = await use(plans.store)
    assert {entry.kind for entry in told} == set(EntryKind) - {"missed"}
    found = plans()
    assert len(found) > 1000
    slow = {
        statement
        for statement, plan in found.items()
        if any(step.startswith("SCAN entries") for step in plan) and not statement.startswith(RARE)
    }
    assert slow == set()
    assert any(statement.startswith(TRIM + "'#") for statement in found), "of a room, too"


async def test_nothing_goes_through_all_members(plans):
    await use(plans.store)
    steps = [(step, statement) for statement, plan in plans().items() for step in plan]
    assert [statement for step, statement in steps if step.startswith("SCAN members")] == []
    of_a_room = {statement for step, statement in steps if "members" in step and step.endswith("(room=?)")}
    assert len(of_a_room) >= 1
    few = (COUNT_MEMBERS, MEMBERS_OF_PRIVATE)
    assert all(statement.startswith(few) for statement in of_a_room), "they are only counted"
    sorted_ = [statement for step, statement in steps if "TEMP B-TREE" in step and "members" in statement]
    assert sorted_ == [], "a page of a list is read in the order of an index"


async def test_nothing_goes_through_all_epochs(plans):
    await use(plans.store)
    found = {statement: plan for statement, plan in plans().items() if "epochs" in statement}
    assert len(found) >= 8
    slow = [statement for statement, plan in found.items() if any(step.startswith("SCAN epochs") for step in plan)]
    assert slow == []


async def test_what_goes_through_all_rooms_is_seldom_or_only_counts_them(plans):
    await use(plans.store)
    found = {statement for statement, plan in plans().items() if any(step.startswith("SCAN rooms") for step in plan)}
    # The list of all begins at no name. Pages do.
    assert {one for one in found if not one.startswith(ALL_ROOMS) and "WHERE" in one} == set()
    assert len(found) >= len(ALL_ROOMS) + 1


ONLY_INDEXES = (TRIM, "SELECT count(*), min(seq), max(seq) FROM entries", "SELECT count(*), count(*) FILTER")


async def test_posts_are_counted_without_reading_their_rows(plans):
    await use(plans.store)
    found = plans()
    for beginning in ONLY_INDEXES:
        statements = [statement for statement in found if statement.startswith(beginning)]
        assert statements, beginning
        assert not any(reads_rows(plans.store, statement) for statement in statements), beginning


def reads_rows(store: MemoryServerStore, statement: str) -> bool:
    """Whether SQLite reads columns of a table, and not only of indexes."""
    program = store._database.execute(f"EXPLAIN {statement}").fetchall()
    # Of an index, the last operand describes its key; of a table it is the number of columns.
    tables = {cursor for _, name, cursor, *_, key, _, _ in program if name == "OpenRead" and not key.startswith("k")}
    return any(name == "Column" and cursor in tables for _, name, cursor, *_ in program)


async def test_what_is_forgotten_is_found_in_an_index(plans):
    await use(plans.store)
    beginning = "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE kept = 0 AND seq <="
    found = [plan for statement, plan in plans().items() if statement.startswith(beginning)]
    assert found
    assert all(any("INDEX remembered (seq<?)" in step for step in plan) for plan in found)


async def test_posts_are_not_counted_for_each_one(plans, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 100)
    monkeypatch.setattr(server_log, "TRIM_PART", 10)
    counted = []
    plans.store._database.set_trace_callback(lambda statement: counted.append(statement.startswith(TRIM)))
    await plans.store.load(lambda entries: None)
    for number in range(300):
        await plans.store.append([post(number)])
    assert sum(counted) == 200 // 11 + 1
