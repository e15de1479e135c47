"""No statement of a server's store goes through the whole log, however long it is. The plans are SQLite's own.

A condition that does not fit the indexes would not be noticed otherwise: everything is right, and slow.
"""

import pytest

from tests.storage.log_entries import PEOPLE, direct, post, record, register
from trio_chat.protocol.records import Entry, EntryKind
from trio_chat.storage import server_log
from trio_chat.storage.interface import MAILBOX_LETTERS, Acknowledged
from trio_chat.storage.memory import MemoryServerStore

TRIM = "SELECT seq, key, length(body) FROM entries WHERE kept = 1 AND recipient = '' ORDER BY seq"
"""Reads an index of all posts that are kept, which is little."""

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
    await store.unused([], 1.0, 2.0)
    await store.read("bob", 0)
    await store.retain(110.0, 9000.0)
    await store.date_forward(1.0, 2.0)
    return told


@pytest.fixture
def plans(monkeypatch):
    """`plans(store)`: how SQLite does each statement that the store has been given."""
    statements: list[str] = []
    store = MemoryServerStore()
    monkeypatch.setattr(server_log, "ROOM_POSTS", 2)
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
        if any(step.startswith("SCAN entries") for step in plan) and not statement.startswith((TRIM, *RARE))
    }
    assert slow == set()


ONLY_INDEXES = (TRIM, "SELECT count(*), min(seq), max(seq) FROM entries", "SELECT count(*) FROM entries WHERE kept = 1")


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
