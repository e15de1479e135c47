"""What a ClientStore promises, whatever it is made of: each test is played with every backend.

The backends, and how a store is opened again, are in backends.py.
"""

import pytest
import trio

from tests.storage.backends import backends, inline
from trio_chat.protocol.records import Letter, LetterKind
from trio_chat.storage import memory
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.memory import MemoryClientStore

BACKENDS = backends(MemoryClientStore, open_client_store)


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, as often as one likes, one after the other."""
    return request.param(tmp_path)


@pytest.fixture
async def store(open_store):
    async with open_store() as store:
        yield store


def letter(number: int, text: str = "hi", sender: str = "Alice", kind: LetterKind = LetterKind.DIRECT) -> Letter:
    return Letter(kind, number.to_bytes(16, "big"), sender, 100.0 + number, text)


async def test_a_new_store_has_seen_nothing(store):
    assert not store.has(letter(1).key)
    assert store.unshown() == []


async def test_letters_wait_in_order_until_they_are_shown(store):
    await store.keep([letter(3), letter(1, sender="carol")])
    await store.keep([letter(2)])
    assert store.unshown() == [letter(3), letter(1, sender="carol"), letter(2)]
    store.shown(letter(3))
    assert store.unshown() == [letter(1, sender="carol"), letter(2)]
    assert all(store.has(one.key) for one in (letter(3), letter(2)))


async def test_what_comes_again_is_left_out_whether_it_was_shown_or_not(store):
    await store.keep([letter(1), letter(2)])
    store.shown(letter(1))
    await store.keep([letter(2), letter(1), letter(3), letter(3)])
    assert store.unshown() == [letter(2), letter(3)]


async def test_what_came_straight_from_its_sender_is_no_letter_any_more(store):
    store.saw(letter(1).key)
    assert store.has(letter(1).key)
    await store.keep([letter(1), letter(2)])
    assert store.unshown() == [letter(2)]


async def test_messages_are_told_apart_by_kind_sender_and_id(store):
    store.saw(letter(1).key)
    others = [
        letter(2),
        letter(1, sender="carol"),
        letter(1, kind=LetterKind.GROUP),
        letter(1, kind=LetterKind.RECEIPT),
        letter(1, kind=LetterKind.MISSED),
    ]
    assert not any(store.has(other.key) for other in others)
    await store.keep(others)
    assert store.unshown() == others
    assert store.has(letter(1, sender="ALICE").key), "in whichever case"


async def test_letters_survive_as_they_were(open_store):
    letters = [
        letter(1, "ä\0\x1b[31m\r\n\t🙂 "),
        letter(2, "x" * 16 * 1024, kind=LetterKind.GROUP),
        letter(3, "", kind=LetterKind.RECEIPT),
        Letter(LetterKind.MISSED, bytes(16), "bob", 0.0, count=7),
    ]
    async with open_store() as store:
        await store.keep(letters[:2])
        await store.keep(letters[2:])
    async with open_store() as store:
        assert store.unshown() == letters
        await store.keep([*letters, letter(9)])
        assert store.unshown() == [*letters, letter(9)]


async def test_what_was_shown_and_seen_is_remembered(open_store):
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


async def test_a_letter_that_had_come_straight_is_on_the_disk_before_it_is_acknowledged(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", {}

    async def run(work):
        outcomes = await inline(work)
        disk.update((file.name, file.read_bytes()) for file in tmp_path.glob("store.db*"))
        return outcomes

    async with open_client_store(path, run) as store:
        store.saw(letter(1).key)
        await store.keep([letter(1)])
    for name, content in disk.items():  # the kill
        (tmp_path / name).write_bytes(content)
    async with open_client_store(path, inline) as survivor:
        assert survivor.has(letter(1).key)


async def test_what_was_shown_is_written_though_the_store_is_closed_in_the_midst_of_it(tmp_path, autojump_clock):
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
        with trio.move_on_after(0.5):  # the writer is at work, and what was shown waits for it
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
