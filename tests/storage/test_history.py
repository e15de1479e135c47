"""The history of a ClientStore: each test of the contract runs with every backend.

The backends, and how a store is opened again, are in backends.py.
"""

import gc
import sqlite3
import weakref
from collections import Counter
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_folder import MEMORY
from tests.storage.backends import backends, inline, put_file
from trio_chat.crypto.receipts import NO_HASH, Verdict, hash_text
from trio_chat.errors import NoHistory
from trio_chat.protocol.records import EntryKind
from trio_chat.storage import history, memory
from trio_chat.storage.client_interface import HistoryEntry, OpenedEntry
from trio_chat.storage.client_rows import Arrival
from trio_chat.storage.client_schema import CLIENT_SCHEMA
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.search_query import is_found

BACKENDS = backends(MemoryClientStore, open_client_store)
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, again and again."""
    return request.param(tmp_path)


@pytest.fixture
async def store(open_store):
    async with open_store() as store:
        yield store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def came(number, text="hi", peer="Alice", **facts):
    return HistoryEntry(100.0 + number, peer, text, **facts)


def letter(number, text="hi", sender="Alice", kind=EntryKind.DIRECT):
    hash_ = hash_text(text) if text is not None else NO_HASH
    return OpenedEntry(number, kind, number.to_bytes(16, "big"), sender, 100.0 + number, text, hash_)


def take(store, number, text="hi"):
    """A message that comes directly."""
    one = letter(number, text)
    store.keep_soon(one)
    store.shown(one)


async def keep_and_show(store, *letters):
    await store.keep(letters)
    for one in store.unshown():
        store.shown(one)


async def texts(store, peer=None, count=100):
    return [entry.text for entry in await store.history(peer, count)]


# --- rooms ---


def post(number, text="hi", sender="Alice", room=""):
    return attrs.evolve(letter(number, text, sender, EntryKind.GROUP), room=room)


async def test_the_room_of_a_post_is_kept(open_store):
    async with open_store() as store:
        await keep_and_show(store, post(1, "soup", room="Lunch"), post(2, "soup for all"))
        await store.keep([post(3, "more soup", "Bob", room="Lunch")])
        store.note(HistoryEntry(104.0, "", "no soup", sent=True, group=True, room="Lunch"))
    async with open_store() as store:
        (unshown,) = store.unshown()
        assert unshown == post(3, "more soup", "Bob", room="Lunch")
        store.shown(unshown)
        expected = [
            came(1, "soup", group=True, room="Lunch"),
            came(2, "soup for all", group=True),
            HistoryEntry(104.0, "", "no soup", sent=True, group=True, room="Lunch"),
            came(3, "more soup", "Bob", group=True, room="Lunch"),
        ]
        assert await store.history(None, 100) == expected
        assert await store.search("soup", 100) == expected


async def test_the_history_of_a_room(store):
    await keep_and_show(store, post(1, "soup", room="Lunch"), post(2, "to all"), post(3, "job", room="work"))
    await keep_and_show(store, letter(4, "to me alone", "Lunch"))
    store.note(HistoryEntry(105.0, "", "no soup", sent=True, group=True, room="Lunch"))
    store.note(HistoryEntry(106.0, "", "to all of you", sent=True, group=True))
    for name in ("#Lunch", "#lunch"):
        assert await texts(store, name) == ["soup", "no soup"]
    assert await texts(store, "#lunch", 1) == ["no soup"]
    assert await texts(store, "#Everyone") == ["to all", "to all of you"], "no direct messages"
    assert await texts(store, "#play") == []
    assert await texts(store, "Lunch") == ["to me alone"], "the person of that name"
    assert await texts(store, "alice") == ["soup", "to all", "job"], "a post counts as from its sender, too"


async def test_words_are_found_in_one_room_or_with_one_person(store):
    """However many newer ones there are elsewhere: the limit counts what is asked for."""
    await keep_and_show(store, post(1, "soup", room="Lunch"), post(2, "soup for all"), post(3, "job", room="Lunch"))
    await keep_and_show(store, letter(4, "soup for lunch", "Lunch"))
    store.note(HistoryEntry(105.0, "", "no soup", sent=True, group=True, room="Lunch"))
    for number in range(110, 120):
        store.note(HistoryEntry(float(number), "bob", f"soup {number}", sent=True))

    async def found_with(name, count):
        return [entry.text for entry in await store.search("soup", count, name)]

    assert await found_with("#lunch", 9) == ["soup", "no soup"]
    assert await found_with("#LUNCH", 1) == ["no soup"]
    assert await found_with("#everyone", 9) == ["soup for all"]
    assert await found_with("#play", 9) == []
    assert await found_with("Lunch", 9) == ["soup for lunch"]
    assert await found_with("alice", 9) == ["soup", "soup for all"]
    assert len(await found_with(None, 99)) == 14


@pytest.mark.parametrize("name", ["#lunch", "#everyone"])
async def test_the_history_of_a_room_does_not_go_through_all_of_it(path, name):
    queries = []
    async with open_client_store(path, inline) as store:
        connection = store._commits._connection
        connection.set_trace_callback(queries.append)
        await store.history(name, 20)
        connection.set_trace_callback(None)
        (query,) = [one for one in queries if one.startswith("SELECT at, peer")]
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert "entries_by_room" in plan[0]


async def found(store, words, count=100):
    return [entry.text for entry in await store.search(words, count)]


def rows(path, question):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(question).fetchall()


def is_in_step(path):
    """Check that the index has exactly the texts that are there: if not, FTS5 raises an error."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO history_index (history_index, rank) VALUES ('integrity-check', 1)")
    return True


# --- what is in the history ---


async def test_a_new_history_is_empty(store):
    assert await store.history(None, 20) == await store.history("alice", 20) == await store.search("hi", 20) == []


async def test_a_noted_message_is_there_at_once_and_unchanged(store):
    entries = [
        came(1, "ä\0\x1b[31m\r\n\t🙂 "),
        came(2, "x" * 16 * 1024, sent=True),
        came(3, group=True),
        came(4, peer="", sent=True, group=True),
    ]
    for entry in entries:
        store.note(entry)
    assert await store.history(None, 20) == entries


async def test_the_newest_are_returned_oldest_first(store):
    for number in range(10):
        store.note(came(number, f"{number}"))
    assert await texts(store, count=3) == ["7", "8", "9"]
    assert await texts(store, count=10) == await texts(store, count=1000) == [f"{number}" for number in range(10)]


@pytest.mark.parametrize("count", [0, -1, -(10**30)])
async def test_asking_for_less_than_one_returns_nothing(store, count):
    store.note(came(1))
    assert await store.history(None, count) == await store.search("hi", count) == []


async def test_any_number_may_be_asked_for(store):
    store.note(came(1))
    assert await store.history(None, 10**30) == await store.search("hi", 10**30) == [came(1)]


async def test_the_history_of_one_person_has_both_directions(store):
    entries = [
        came(1, peer="Alice"),
        came(2, peer="bob"),
        came(3, peer="alice", sent=True),
        came(4, peer="ALICE", group=True),
        came(5, peer="", sent=True, group=True),
        came(6, peer="alice2"),
    ]
    for entry in entries:
        store.note(entry)
    assert await store.history("aLICE", 20) == [entries[0], entries[2], entries[3]]
    assert await store.history("alice", 1) == [entries[3]]
    assert await store.history("carol", 20) == []


@pytest.mark.parametrize("name", ["%", "alic_", "' OR 1 --", "\0", "\udcff", "alice\0"])
async def test_a_name_is_not_a_pattern(store, name):
    store.note(came(1))
    assert await store.history(name, 20) == []


async def test_a_letter_is_there_as_soon_as_it_is_shown(store):
    await store.keep([letter(1, "one"), letter(2, "two", "carol", EntryKind.GROUP)])
    assert await store.history(None, 20) == []
    one, two = store.unshown()
    store.shown(two)
    store.shown(one)
    store.shown(one)
    assert await store.history(None, 20) == [came(2, "two", "carol", group=True), came(1, "one")]


async def test_receipts_and_unreadable_letters_are_not_there(store):
    await keep_and_show(
        store,
        *(letter(number, verdict, kind=EntryKind.RECEIPT) for number, verdict in enumerate(Verdict, 10)),
        letter(2, "", kind=EntryKind.FAILED),
        letter(3, None),
        letter(4, None, kind=EntryKind.GROUP),
        letter(7, "7", "bob", EntryKind.MISSED),
    )
    assert await store.history(None, 20) == []


async def test_a_message_that_came_directly_and_as_a_letter_is_there_once(store):
    take(store, 1)
    await keep_and_show(store, letter(1))
    assert await store.history(None, 20) == [came(1)]
    await keep_and_show(store, letter(2))
    await keep_and_show(store, letter(2), letter(2))
    assert await store.history(None, 20) == [came(1), came(2)]
    assert await found(store, "hi") == ["hi", "hi"]


async def test_it_survives_a_restart(open_store):
    async with open_store() as store:
        store.note(came(1, "one"))
        await keep_and_show(store, letter(2, "two"))
        store.note(came(3, "three", sent=True))
    async with open_store() as store:
        assert await store.history(None, 20) == [came(1, "one"), came(2, "two"), came(3, "three", sent=True)]
        await keep_and_show(store, letter(1), letter(2))
        store.note(came(4, "four"))
    async with open_store() as store:
        assert await texts(store) == ["one", "two", "three", "hi", "four"]
        assert await found(store, "t") == ["two", "three"]


# --- searching ---


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("build", "The build is green."),
        ("BUILD the", "The build is green."),
        ("gr", "The build is green."),
        ("build gr", "The build is green."),
        ("green.", "The build is green."),
        ("gruße", "Grüße"),
        ("GRÜSSE", "grüsse"),
        ("grü", "GRU\u0308SSE"),
        ("foo-bar", "see foo-bar.py"),
        ("foo_ba", "see foo-bar.py"),
        ("b c", "a\0b\nc"),
        ("hi !!!", "hi"),
        ("^green", "The build is green."),
        ("!!! hi", "hi"),
        ("東京", "東京タワー"),
        ("🙂", "well 🙂"),
        (" ".join(["hi"] * 32 + ["zzz"] * 5000), "hi"),
    ],
)
async def test_what_is_found(store, words, text):
    store.note(came(0, "zzz"))
    store.note(came(1, text))
    assert await found(store, words) == [text]


@pytest.mark.parametrize(
    "words",
    [
        *("", " ", "\0", "...", '"', "''", "*", "-", "( ) ^ :", "\udcff"),
        *("bui green", "uild", "green blue", "is-the", "greens"),
        *("build OR zzz", "NOT zzz", "green*build", "text:green zzz", "NEAR(build green)", '"buil" the'),
        *("build\0' OR 1=1", "{a b}", 'x" OR "green', "green) OR (zzz", "^zzz"),
        "x" * 60_000,
    ],
)
async def test_what_is_not_found(store, words):
    store.note(came(1, "The build is green."))
    assert await store.search(words, 20) == []


async def test_the_newest_matches_are_returned_oldest_first(store):
    for number in range(10):
        store.note(came(number, f"{number} hi" if number % 2 else f"{number}"))
    assert await found(store, "hi", 3) == ["5 hi", "7 hi", "9 hi"]


async def test_letters_are_found_too(store):
    await keep_and_show(store, letter(1, "a green letter"), letter(2, "a blue letter", "carol", EntryKind.GROUP))
    store.note(came(3, "green grass", sent=True))
    assert await found(store, "green") == ["a green letter", "green grass"]
    assert await found(store, "letter") == ["a green letter", "a blue letter"]


@settings(max_examples=20)
@given(words=ANY_TEXT, name=ANY_TEXT.filter(lambda name: name.lower() != "alice"), count=st.integers())
async def test_any_words_and_counts_are_accepted(words, name, count):
    with TemporaryDirectory() as folder:
        for open_backend in BACKENDS.values():
            async with open_backend(Path(folder))() as store:
                store.note(came(1, "The build is green."))
                assert await store.search(words, count) in ([], [came(1, "The build is green.")])
                assert await store.history(name, count) == []
                assert await found(store, "build") == ["The build is green."], "the store goes on"


def database_of(texts):
    """A history in memory, with these texts."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    for script in CLIENT_SCHEMA.migrations:
        database.executescript(script)
    for n, text in enumerate(texts, 1):
        history.write_entry(database, history.Noted(n, came(n, text)))
    history.index_new_entries(database)
    return database


@given(words=st.lists(ANY_TEXT | st.sampled_from(["AND", "NEAR(", '"', "*", "\0", "text:", ")"])).map(" ".join))
def test_no_words_are_an_error_in_sqlite(words):
    with closing(database_of(["The build is green."])) as database:
        history.find_entries(database, words, 20)


SPOKEN = st.text(st.sampled_from("aAbé \n-_.\"'*(:^1"), max_size=10)


@given(text=SPOKEN.filter(bool), words=SPOKEN)
def test_both_backends_find_the_same(text, words):
    with closing(database_of([text])) as database:
        assert is_found(words, text) == bool(history.find_entries(database, words, 20))


# --- limits ---


async def test_the_memory_has_the_newest_1000(monkeypatch):
    assert memory.HISTORY_LIMIT == 1000
    monkeypatch.setattr(memory, "HISTORY_LIMIT", 3)
    store = MemoryClientStore()
    for number in range(5):
        store.note(came(number, f"{number}"))
    assert await texts(store) == ["2", "3", "4"]


async def test_the_file_has_the_newest_100000(path, monkeypatch):
    assert history.KEPT == 100_000
    monkeypatch.setattr(history, "KEPT", 3)
    async with open_client_store(path, inline) as store:
        for number in range(2):
            store.note(came(number, f"hi {number}"))
        await keep_and_show(store, letter(2, "hi 2"), letter(3, "hi 3"))
        store.note(came(4, "hi 4"))
        assert await texts(store) == await found(store, "hi") == ["hi 2", "hi 3", "hi 4"]
        store.note(came(5, "hi 5"))
    async with open_client_store(path, inline) as store:
        assert await texts(store) == await found(store, "hi") == ["hi 3", "hi 4", "hi 5"]
    assert rows(path, "SELECT text FROM received ORDER BY number") == [(None,), ("hi 3",)], (
        "texts go with their entries"
    )
    assert rows(path, "SELECT count(*) FROM entries") == [(3,)]
    assert is_in_step(path)


@pytest.fixture
def twenty(monkeypatch):
    """Twenty entries are kept."""
    monkeypatch.setattr(memory, "HISTORY_LIMIT", 20)
    monkeypatch.setattr(history, "KEPT", 20)


async def test_who_sends_much_pushes_out_only_their_own(open_store, twenty):
    async with open_store() as store:
        for number in range(3):
            store.note(came(number, f"a{number}", "Alice"))
            store.note(came(number, f"b{number}", "bob", sent=True))
        for number in range(100):
            store.note(came(number, f"m{number}", "mallory"))
        assert await texts(store, "alice") == ["a0", "a1", "a2"]
        store.note(came(3, "a3", "ALICE"))
        for number in range(100, 200):
            store.note(came(number, f"n{number}", "Mallory", group=bool(number % 2)))
    async with open_store() as store:
        assert await texts(store, "alice") == ["a0", "a1", "a2", "a3"]
        assert await texts(store, "bob") == ["b0", "b1", "b2"]
        assert await texts(store, "mallory") == await found(store, "n") == [f"n{number}" for number in range(187, 200)]


async def test_among_many_short_conversations_the_oldest_goes(open_store, twenty):
    async with open_store() as store:
        for number in range(30):
            store.note(came(number, f"{number}", f"p{number}"))
        assert await texts(store) == [f"{number}" for number in range(10, 30)]
        store.note(came(30, "30", "p29"))
        assert await texts(store, "p29") in (["29", "30"], ["30"])
        assert len(await texts(store)) in (19, 20)


@given(st.lists(st.sampled_from("aaaaaaabbc"), max_size=60), st.integers(3, 12))
async def test_no_conversation_is_cut_while_there_is_a_longer_one(peers, limit):
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(dir=MEMORY) as folder:
        patch.setattr(memory, "HISTORY_LIMIT", limit)
        patch.setattr(history, "KEPT", limit)
        async with open_client_store(Path(folder) / "store.db", inline) as file:
            for store in (MemoryClientStore(), file):
                for number, peer in enumerate(peers):
                    store.note(came(number, f"{number}", peer))
                    kept = Counter(entry.peer for entry in await store.history(None, 100))
                    sent = Counter(peers[: number + 1])
                    assert kept.total() <= limit
                    cut = [kept[one] for one in sent if kept[one] < sent[one]]
                    # When one was cut it was among the longest ones. Since then these may have got one more.
                    assert not cut or min(cut) >= max(kept.values()) - 1
                for peer in set(peers):
                    own = [f"{number}" for number, one in enumerate(peers) if one == peer]
                    left = await texts(store, peer)
                    assert left == own[len(own) - len(left) :], "the newest ones"


async def test_a_hundredth_is_dropped_at_a_time(path, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 200)
    async with open_client_store(path, inline) as store:
        sizes = []
        for number in range(205):
            store.note(came(number, "hi"))
            sizes.append(len(await store.history(None, 1000)))
    assert sizes[199:] == [200, 198, 199, 200, 198, 199]
    assert is_in_step(path)


async def test_the_text_of_a_message_received_is_kept_once(path):
    async with open_client_store(path, inline) as store:
        await keep_and_show(store, letter(1, "a long text"))
        take(store, 2, "another one")
        assert await texts(store) == await found(store, "a") == ["a long text", "another one"]
    assert rows(path, "SELECT text FROM entries") == [(None,), (None,)]
    assert rows(path, "SELECT text FROM received ORDER BY number") == [("a long text",), ("another one",)]
    assert is_in_step(path)


# --- when the history is on the disk ---


async def test_it_is_on_the_disk_together_with_what_was_seen(path, autojump_clock):
    copies = []

    async def run(work):
        outcomes = await inline(work)
        copies.append([(file, file.read_bytes()) for file in path.parent.iterdir()])
        return outcomes

    async with open_client_store(path, run) as store:
        take(store, 1)
        await trio.sleep(0.15)
        take(store, 2)  # at the very moment of the kill
    (on_the_disk,) = copies
    for file, content in on_the_disk:
        put_file(file, content)
    async with open_client_store(path, inline) as survivor:
        assert await survivor.history(None, 20) == [came(1)]
        assert (survivor.seen(letter(1).key), survivor.seen(letter(2).key)) == (hash_text("hi"), None)


async def test_it_is_written_once_even_if_the_store_is_closed_during_the_write(path, autojump_clock):
    async def run(work):
        outcomes = await inline(work)
        await trio.sleep(1)
        return outcomes

    with trio.move_on_after(0.5):
        async with open_client_store(path, run) as store:
            store.note(came(1, "one"))
            await trio.sleep(0.2)  # it is on the disk, though the store does not know it yet
            store.note(came(2, "two"))
            await trio.sleep_forever()
    async with open_client_store(path, inline) as store:
        assert await texts(store) == ["one", "two"]
        assert await found(store, "one") == ["one"]
    assert is_in_step(path)


async def test_what_is_on_the_disk_is_not_held_in_memory(path, autojump_clock):
    entry = came(1)
    reference = weakref.ref(entry)
    async with open_client_store(path, inline) as store:
        store.note(entry)
        del entry
        await trio.sleep(1)
        store.note(came(2))  # the writer holds what it wrote last
        await trio.sleep(1)
        gc.collect()
        assert reference() is None


async def test_a_query_waits_for_the_writer_and_blocks_no_other_task(path, autojump_clock):
    async def run(work):
        await trio.sleep(5)
        return await inline(work)

    async with open_client_store(path, run) as store:
        store.note(came(1))
        with trio.move_on_after(1) as scope:
            await store.search("hi", 20)
        assert scope.cancelled_caught
        assert await store.search("hi", 20) == [came(1)]


# --- without a history ---


@pytest.fixture(params=BACKENDS.keys())
def open_without(request, path):
    """The same store without a history."""
    store = MemoryClientStore(history=False)

    @asynccontextmanager
    async def open_memory():
        yield store

    return open_memory if request.param == "memory" else lambda: open_client_store(path, inline, history=False)


async def test_without_a_history_everything_else_works(open_without):
    async with open_without() as store:
        store.note(came(1))
        await store.keep([letter(2, "two"), letter(3, "three")])
        store.shown(letter(2, "two"))
        for question in (store.history(None, 20), store.history("alice", 20), store.search("hi", 20)):
            with pytest.raises(NoHistory):
                await question
    async with open_without() as store:
        assert store.unshown() == [letter(3, "three")]
        assert store.seen(letter(2).key)


async def test_without_a_history_shown_texts_are_deleted_from_the_disk(path):
    async with open_client_store(path, inline, history=False) as store:
        take(store, 1)
        await store.keep([letter(2, "two"), letter(3, "three")])
        store.shown(letter(2, "two"))
    assert rows(path, "SELECT text FROM received WHERE text IS NOT NULL") == [("three",)]
    assert rows(path, "SELECT * FROM entries") == rows(path, "SELECT * FROM history_index_docsize") == []


async def test_a_time_without_a_history_leaves_only_a_gap(path):
    async with open_client_store(path, inline) as store:
        store.note(came(1, "one"))
        await keep_and_show(store, letter(2, "two"))
    async with open_client_store(path, inline, history=False) as store:
        store.note(came(3, "three"))
        await keep_and_show(store, letter(4, "four"))
    async with open_client_store(path, inline) as store:
        store.note(came(5, "five"))
        assert await texts(store) == ["one", "two", "five"]
    assert is_in_step(path)


# --- files of earlier versions ---


async def test_a_file_of_the_second_schema_begins_with_the_letters_that_were_shown(path):
    with closing(open_database(path, Schema(CLIENT_SCHEMA.application_id, CLIENT_SCHEMA.migrations[:2]))) as database:
        database.executemany(
            "INSERT INTO letters (kind, sender, id, sent_at, text, count, shown) VALUES (?, ?, ?, ?, ?, 0, ?)",
            [
                ("direct", "Alice", letter(1).id, 101.0, "one ä\0", True),
                ("receipt", "Alice", letter(2).id, 102.0, "", True),
                ("group", "carol", letter(3).id, 103.0, "three", True),
                ("direct", "Alice", letter(4).id, 104.0, None, True),
                ("direct", "Alice", letter(5).id, 105.0, "five", False),
            ],
        )
        database.execute("INSERT INTO pins VALUES ('alice', x'00')")
    async with open_client_store(path, inline) as store:
        of_before = [came(1, "one ä\0"), came(3, "three", "carol", group=True)]
        assert await store.history(None, 20) == of_before
        assert await found(store, "three") == ["three"]
        assert store.pinned("alice") == b"\0"
        (unshown,) = store.unshown()
        store.shown(unshown)
        store.note(came(6, "six"))
        assert await store.history(None, 20) == [*of_before, came(5, "five"), came(6, "six")]
    assert is_in_step(path)


# --- how much is written ---


class Statements:
    """A connection that notes the statements it is given: those of triggers and of the index are not."""

    def __init__(self, database):
        self.noted = []
        self._database = database

    def execute(self, sql, *values):
        self.noted.append(sql.split()[0])
        return self._database.execute(sql, *values)


def statements(database, write):
    """The statements that this runs."""
    write(noting := Statements(database))
    return noting.noted


def contents(database):
    return [
        *database.execute("SELECT kind, id, sender, text, shown FROM received ORDER BY number"),
        *database.execute("SELECT number, peer, text FROM history ORDER BY number"),
        *database.execute("SELECT rowid FROM history_index WHERE history_index MATCH 'hi'"),
    ]


def arrived(number, *, noted=True, keeps_text=True):
    one = letter(number, f"hi {number}")
    return Arrival(one, keeps_text, is_shown=True, noted=history.Noted(number, one.history, one.key) if noted else None)


def test_a_message_that_is_shown_before_it_is_written_takes_two_statements_and_one_for_all_in_the_index():
    with closing(database_of([])) as database:
        assert statements(database, arrived(1).write) == ["INSERT", "INSERT"]
        arrived(2).write(database)
        assert statements(database, history.index_new_entries) == ["INSERT"]
        assert contents(database) == [
            *((EntryKind.DIRECT, letter(n).id, "Alice", f"hi {n}", 1) for n in (1, 2)),
            *((n, "Alice", f"hi {n}") for n in (1, 2)),
            *((n,) for n in (1, 2)),
        ]


def test_a_message_that_was_sent_takes_one_statement():
    with closing(database_of([])) as database:
        sent = history.Noted(1, came(1, sent=True))
        assert statements(database, lambda database: history.write_entry(database, sent)) == ["INSERT"]


@pytest.mark.parametrize("keeps_text", [True, False])
def test_what_is_written_twice_is_there_once(keeps_text):
    with closing(database_of(["hi 1"])) as database:
        both = [
            arrived(2, noted=keeps_text, keeps_text=keeps_text),
            arrived(3, noted=keeps_text, keeps_text=keeps_text),
        ]
        for _ in range(2):
            for one in both:
                one.write(database)
            history.index_new_entries(database)
            before = contents(database)
        assert contents(database) == before
        assert len(database.execute("SELECT * FROM received").fetchall()) == 2
        assert database.execute("SELECT count(text) FROM received").fetchone() == (2 if keeps_text else 0,)


def test_a_message_that_another_program_has_written_is_marked_as_shown():
    with closing(database_of([])) as database:
        Arrival(letter(1, "hi 1"), keeps_text=True).write(database)
        arrived(1).write(database)
        history.index_new_entries(database)
        assert [row[4] for row in contents(database)[:1]] == [1]
        assert contents(database)[1:] == [(1, "Alice", "hi 1"), (1,)]
