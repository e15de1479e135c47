"""The contract of a ClientStore: each test runs with every backend.

The backends, and how a store is opened again, are in backends.py.
"""

from contextlib import closing

import pytest
import trio

from tests.storage.backends import backends, first_schema, inline
from trio_chat.protocol.records import Letter, LetterKind
from trio_chat.storage import memory
from trio_chat.storage.client_store import CLIENT_SCHEMA, open_client_store
from trio_chat.storage.database import open_database
from trio_chat.storage.interface import SERVER, OpenedLetter
from trio_chat.storage.memory import MemoryClientStore

KEY = bytes(range(32))
OTHER_KEY = bytes(range(255, 223, -1))

BACKENDS = backends(MemoryClientStore, open_client_store)


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, again and again."""
    return request.param(tmp_path)


@pytest.fixture
async def store(open_store):
    async with open_store() as store:
        yield store


def letter(
    number: int, text: str | None = "hi", sender: str = "Alice", kind: LetterKind = LetterKind.DIRECT
) -> OpenedLetter:
    return OpenedLetter(kind, number.to_bytes(16, "big"), sender, 100.0 + number, text)


class Disk:
    """A folder that can be set back to its state after the last transaction, as by a power cut."""

    def __init__(self, folder):
        self.commits = 0
        self._folder = folder
        self._files = {}

    async def run(self, work):
        outcomes = await inline(work)
        self.commits += 1
        self._files = {file.name: file.read_bytes() for file in self._folder.iterdir()}
        return outcomes

    def fall_back(self):
        for file in self._folder.iterdir():
            file.unlink()
        for name, content in self._files.items():
            (self._folder / name).write_bytes(content)


async def test_a_new_store_has_seen_nothing(store):
    assert not store.has(letter(1).key)
    assert store.unshown() == []


@pytest.mark.parametrize("kind", LetterKind)
def test_a_letter_has_the_same_key_sealed_and_opened(kind):
    sealed = Letter(kind, bytes(16), "Alice", 1.0, b"sealed")
    assert OpenedLetter(kind, bytes(16), "ALICE", 2.0, "opened").key == sealed.key


async def test_letters_wait_in_order_until_they_are_shown(store):
    await store.keep([letter(3), letter(1, sender="carol")])
    await store.keep([letter(2)])
    assert store.unshown() == [letter(3), letter(1, sender="carol"), letter(2)]
    store.shown(letter(3))
    assert store.unshown() == [letter(1, sender="carol"), letter(2)]
    assert all(store.has(one.key) for one in (letter(3), letter(2)))


async def test_a_repeated_letter_is_left_out_whether_it_was_shown_or_not(store):
    await store.keep([letter(1), letter(2)])
    store.shown(letter(1))
    await store.keep([letter(2), letter(1), letter(3), letter(3)])
    assert store.unshown() == [letter(2), letter(3)]


async def test_a_letter_that_has_already_come_directly_is_left_out(store):
    store.saw(letter(1).key)
    assert store.has(letter(1).key)
    await store.keep([letter(1), letter(2)])
    assert store.unshown() == [letter(2)]


async def test_messages_are_identified_by_kind_sender_and_id(store):
    store.saw(letter(1).key)
    others = [
        letter(2),
        letter(1, sender="carol"),
        letter(1, kind=LetterKind.GROUP),
        letter(1, kind=LetterKind.RECEIPT),
        letter(1, kind=LetterKind.UNREADABLE),
        letter(1, kind=LetterKind.MISSED),
    ]
    assert not any(store.has(other.key) for other in others)
    await store.keep(others)
    assert store.unshown() == others
    assert store.has(letter(1, sender="ALICE").key), "names are compared without case"


async def test_letters_survive_unchanged(open_store):
    letters = [
        letter(1, "ä\0\x1b[31m\r\n\t🙂 "),
        letter(2, "x" * 16 * 1024, kind=LetterKind.GROUP),
        letter(3, "", kind=LetterKind.RECEIPT),
        letter(4, "", kind=LetterKind.UNREADABLE),
        letter(5, None),
        letter(6, None, kind=LetterKind.GROUP),
        letter(7, None, kind=LetterKind.RECEIPT),
        OpenedLetter(LetterKind.MISSED, bytes(16), "bob", 0.0, count=7),
    ]
    async with open_store() as store:
        await store.keep(letters[:2])
        await store.keep(letters[2:])
    async with open_store() as store:
        assert store.unshown() == letters
        await store.keep([*letters, letter(9)])
        assert store.unshown() == [*letters, letter(9)]


async def test_shown_and_seen_letters_are_remembered(open_store):
    async with open_store() as store:
        await store.keep([letter(1), letter(2)])
        store.shown(letter(1))
        store.saw(letter(3).key)
    async with open_store() as store:
        assert store.unshown() == [letter(2)]
        assert all(store.has(letter(number).key) for number in (1, 2, 3))
        await store.keep([letter(1), letter(3)])
        store.shown(letter(2))
        assert store.unshown() == []
    async with open_store() as store:
        assert store.unshown() == []


@pytest.mark.parametrize("moments", range(12))
async def test_a_message_that_arrives_while_its_letter_is_being_kept_is_shown_once(store, moments):
    shown = []

    async def keep_and_show():
        await store.keep([letter(1)])
        shown.extend(store.unshown())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_and_show)
        for _ in range(moments):
            await trio.lowlevel.checkpoint()
        if not store.has(letter(1).key):
            shown.append(letter(1))
            store.saw(letter(1).key)
    assert shown == [letter(1)]


async def test_a_letter_that_had_come_directly_is_on_the_disk_before_it_is_acknowledged(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        store.saw(letter(1).key)
        await store.keep([letter(1)])
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.has(letter(1).key)


async def test_shown_letters_are_written_even_if_the_store_is_closed_during_the_write(tmp_path, autojump_clock):
    path, sluggish = tmp_path / "store.db", trio.Event()

    async def run(work):
        outcomes = await inline(work)
        if sluggish.is_set():
            await trio.sleep(1)
        return outcomes

    async with open_client_store(path, run) as store:
        await store.keep([letter(1)])
        store.shown(letter(1))
        sluggish.set()
        with trio.move_on_after(0.5):  # the writer is busy, and what was shown waits for it
            await store.keep([letter(2)])
    async with open_client_store(path, inline) as store:
        assert store.unshown() == [letter(2)]


async def test_the_memory_keeps_the_latest_100000(monkeypatch):
    monkeypatch.setattr(memory, "SEEN_LIMIT", 3)
    store = MemoryClientStore()
    for number in range(5):
        store.saw(letter(number).key)
        store.saw(letter(number).key)
    assert [store.has(letter(number).key) for number in range(5)] == [False, False, True, True, True]


# --- pins ---


async def test_a_new_store_has_no_pins(store):
    assert store.pinned("alice") is store.pinned(SERVER) is None


async def test_the_key_that_was_pinned_last_counts(store):
    store.pin("alice", KEY)
    assert store.pinned("alice") == KEY
    assert store.pinned("bob") is store.pinned(SERVER) is None
    store.pin("alice", OTHER_KEY)
    assert store.pinned("alice") == OTHER_KEY


async def test_pins_are_compared_without_case(open_store):
    async with open_store() as store:
        store.pin("Alice", KEY)
        assert store.pinned("alice") == KEY
        store.pin("ALICE", OTHER_KEY)
    async with open_store() as store:
        assert store.pinned("aLICE") == OTHER_KEY


async def test_pins_are_remembered(open_store, autojump_clock):
    async with open_store() as store:
        store.pin("alice", KEY)
        store.pin("bob", KEY)
        store.pin("carol", KEY)
        store.pin("carol", OTHER_KEY)
        store.pin(SERVER, OTHER_KEY)
        await trio.sleep(1)
        store.pin("bob", OTHER_KEY)
    async with open_store() as store:
        found = {name: store.pinned(name) for name in ("alice", "bob", "carol", SERVER)}
        assert found == {"alice": KEY, "bob": OTHER_KEY, "carol": OTHER_KEY, SERVER: OTHER_KEY}
        store.pin(SERVER, KEY)
    async with open_store() as store:
        assert store.pinned(SERVER) == KEY
        assert store.pinned("alice") == KEY


async def test_a_pin_is_on_the_disk_a_little_later_without_closing_the_store(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        store.pin(SERVER, OTHER_KEY)
        store.pin("alice", KEY)
        store.pin(SERVER, KEY)
        await trio.sleep(0.15)
        after_a_while = disk.commits
        store.pin("alice", OTHER_KEY)  # at the very moment of the kill
    assert after_a_while == 1
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert (survivor.pinned(SERVER), survivor.pinned("alice")) == (KEY, KEY)


async def test_what_comes_during_a_write_is_written_next(tmp_path, autojump_clock):
    path = tmp_path / "store.db"

    async def run(work):
        outcomes = await inline(work)
        await trio.sleep(1)
        return outcomes

    async with open_client_store(path, run) as store:
        await store.keep([letter(1)])
        store.pin("alice", KEY)
        await trio.sleep(0.5)
        store.pin("bob", KEY)
        store.saw(letter(2).key)
        store.shown(letter(1))
        await trio.sleep(5)
    async with open_client_store(path, inline) as store:
        assert (store.pinned("alice"), store.pinned("bob")) == (KEY, KEY)
        assert store.has(letter(2).key)
        assert store.unshown() == []


async def test_pins_are_written_even_if_the_block_fails(tmp_path, autojump_clock):
    path = tmp_path / "store.db"

    async def run(work):
        await trio.sleep(0.5)
        return await inline(work)

    with pytest.raises(ZeroDivisionError):
        async with open_client_store(path, run) as store:
            store.pin("alice", KEY)
            store.pin("bob", KEY)
            await trio.sleep(0.2)  # the writer is at work
            store.pin("alice", OTHER_KEY)
            raise ZeroDivisionError
    async with open_client_store(path, inline) as store:
        assert (store.pinned("alice"), store.pinned("bob")) == (OTHER_KEY, KEY)


async def test_pins_are_written_even_if_the_store_is_closed_during_the_write(tmp_path, autojump_clock):
    path = tmp_path / "store.db"

    async def run(work):
        outcomes = await inline(work)
        await trio.sleep(1)
        return outcomes

    with trio.move_on_after(0.5):
        async with open_client_store(path, run) as store:
            store.pin("alice", KEY)
            await trio.sleep(0.2)  # it is on the disk, though the store does not know it yet
            store.pin("alice", OTHER_KEY)
            await trio.sleep_forever()
    async with open_client_store(path, inline) as store:
        assert store.pinned("alice") == OTHER_KEY


# --- files of earlier versions ---


async def test_a_file_of_the_first_schema_can_still_be_used(tmp_path):
    path = tmp_path / "store.db"
    texts = ["shown before", "ä\0\x1b[31m\r\n\t🙂 ", "", "x" * 16 * 1024]
    with closing(open_database(path, first_schema(CLIENT_SCHEMA))) as database:
        database.executemany(
            "INSERT INTO letters (kind, sender, id, sent_at, text, count, shown) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                ("direct", "Alice", letter(number).id, 100.0 + number, text, 0, number == 0)
                for number, text in enumerate(texts)
            ]
            + [("missed", "bob", bytes(16), 0.0, "", 7, False)],
        )
        database.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", ("direct", "Alice", letter(9).id, 100.0))
    unshown = [
        *(letter(number, text) for number, text in enumerate(texts) if number),
        OpenedLetter(LetterKind.MISSED, bytes(16), "bob", 0.0, count=7),
    ]
    async with open_client_store(path, inline, lambda: 200.0) as store:
        assert store.unshown() == unshown
        assert store.has(letter(9).key)
        assert store.pinned("alice") is None
        await store.keep([letter(0, "a copy, of which only its letter is known"), letter(10, None)])
        assert store.unshown() == [*unshown, letter(10, None)], "what was shown is not shown again"
        store.shown(letter(1))
        store.pin("alice", KEY)
    async with open_client_store(path, inline, lambda: 200.0) as store:
        assert store.unshown() == [*unshown[1:], letter(10, None)]
        assert store.pinned("alice") == KEY
