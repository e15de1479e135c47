"""The contract of a ClientStore: each test runs with every backend.

The backends, and how a store is opened again, are in backends.py.
"""

import contextlib
import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import attrs
import pytest
import trio

from tests.stage import identity_of
from tests.storage.backends import backends, inline, put_file
from trio_chat.crypto.receipts import NO_HASH, Verdict, hash_text
from trio_chat.crypto.room_keys import RoomKey
from trio_chat.errors import StoreError, StoreFailed
from trio_chat.protocol.records import RETENTION, Entry, EntryKind
from trio_chat.storage import client_rows, client_store, history, kept_epochs, memory, sent_letters
from trio_chat.storage.client_interface import SERVER, HistoryEntry, OpenedEntry
from trio_chat.storage.client_schema import CLIENT_SCHEMA
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.kept_epochs import KeptEpoch
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.outgoing import Outgoing
from trio_chat.storage.sent_letters import SentLetter

KEY = bytes(range(32))
OTHER_KEY = bytes(range(255, 223, -1))

OX, ELK = "!" + 32 * "1", "!" + 32 * "2"

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
    number: int, text: str | None = "hi", sender: str = "Alice", kind: EntryKind = EntryKind.DIRECT
) -> OpenedEntry:
    is_message = kind in (EntryKind.DIRECT, EntryKind.GROUP) and text is not None
    hash_ = hash_text(text) if is_message else NO_HASH
    return OpenedEntry(number, kind, id_of(number), sender, 100.0 + number, text, hash_, 99.0 if is_message else None)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def sent(number: int) -> SentLetter:
    return SentLetter(id_of(number), "Bob", KEY, hash_text(f"{number}"), 100.0 + number)


def saw(store, *entries):
    for entry in entries:
        store.saw(entry.key, entry.hash)


def knows(store, *numbers) -> list[bool]:
    return [store.seen(letter(number).key) is not None for number in numbers]


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
            put_file(self._folder / name, content)


async def test_a_new_store_has_seen_nothing(store):
    assert store.seen(letter(1).key) is None
    assert store.unshown() == []


@pytest.mark.parametrize("kind", EntryKind)
def test_an_entry_is_identified_by_kind_sender_and_id_whatever_else_it_has(kind):
    entry = Entry(7, str(kind), bytes(16), "Alice", KEY, "bob", 1.0, b"sealed")
    opened = OpenedEntry(entry.seq, entry.kind, entry.id, entry.sender, entry.taken_at, "opened")
    assert opened.key == OpenedEntry(8, kind, bytes(16), "ALICE", 2.0, None).key == (kind, "alice", bytes(16))


async def test_letters_wait_in_order_until_they_are_shown(store):
    await store.keep([letter(3), letter(1, sender="carol")])
    await store.keep([letter(2)])
    assert store.unshown() == [letter(3), letter(1, sender="carol"), letter(2)]
    store.shown(letter(3))
    assert store.unshown() == [letter(1, sender="carol"), letter(2)]
    assert knows(store, 3, 2, 4) == [True, True, False]


async def test_a_repeated_letter_is_left_out_whether_it_was_shown_or_not(store):
    await store.keep([letter(1), letter(2)])
    store.shown(letter(1))
    await store.keep([letter(2), letter(1), letter(3), letter(3)])
    assert store.unshown() == [letter(2), letter(3)]


async def test_a_letter_that_has_already_come_directly_is_left_out(store):
    saw(store, letter(1))
    await store.keep([letter(1), letter(2)])
    assert store.unshown() == [letter(2)]


async def test_messages_are_identified_by_kind_sender_and_id(store):
    saw(store, letter(1))
    others = [letter(2), letter(1, sender="carol"), *(letter(1, kind=kind) for kind in EntryKind if kind != "direct")]
    assert not any(store.seen(other.key) for other in others)
    await store.keep(others)
    assert store.unshown() == others
    assert store.seen(letter(1, sender="ALICE").key), "names are compared without case"


async def test_the_hash_of_what_came_first_is_remembered(open_store):
    async with open_store() as store:
        saw(store, letter(1, "direct"))
        await store.keep([letter(2, "an entry"), letter(3, None), letter(1, "another text"), letter(2, "another text")])
        await store.keep([letter(4, "one"), letter(4, "two")])
        assert [entry.text for entry in store.unshown()] == ["an entry", None, "one"]
    async with open_store() as store:
        hashes = [store.seen(letter(number).key) for number in (1, 2, 3, 4, 5)]
        assert hashes == [hash_text("direct"), hash_text("an entry"), NO_HASH, hash_text("one"), None]


async def test_letters_survive_unchanged(open_store):
    letters = [
        letter(1, "ä\0\x1b[31m\r\n\t🙂 "),
        letter(2, "x" * 16 * 1024, kind=EntryKind.GROUP),
        *(letter(number, verdict, kind=EntryKind.RECEIPT) for number, verdict in enumerate(Verdict, 3)),
        letter(8, None),
        letter(9, None, kind=EntryKind.GROUP),
        letter(10, "", kind=EntryKind.FAILED),
        letter(11, "7", "bob", EntryKind.MISSED),
        OpenedEntry(2**53, EntryKind.DIRECT, bytes(16), "bob", 253_402_300_799.0, "x", hash_text("x"), 0.0),
    ]
    async with open_store() as store:
        await store.keep(letters[:2])
        await store.keep(letters[2:])
    async with open_store() as store:
        assert store.unshown() == letters
        await store.keep([*letters, letter(20)])
        assert store.unshown() == [*letters, letter(20)]


async def test_shown_and_seen_letters_are_remembered(open_store):
    async with open_store() as store:
        await store.keep([letter(1), letter(2)])
        store.shown(letter(1))
        saw(store, letter(3))
    async with open_store() as store:
        assert store.unshown() == [letter(2)]
        assert knows(store, 1, 2, 3) == [True, True, True]
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
        if store.seen(letter(1).key) is None:
            shown.append(letter(1))
            saw(store, letter(1))
    assert shown == [letter(1)]


async def test_a_letter_that_had_come_directly_is_on_the_disk_before_it_is_acknowledged(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        saw(store, letter(1))
        await store.keep([letter(1)])
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.seen(letter(1).key) == hash_text("hi")


# --- messages that come directly ---


async def test_a_direct_message_is_unshown_until_it_is_shown(open_store):
    async with open_store() as store:
        store.keep_soon(letter(1))
        store.keep_soon(letter(2))
        store.keep_soon(letter(1, "another text"))
        assert store.unshown() == [letter(1), letter(2)], "at once"
        store.shown(letter(1))
        store.keep_soon(letter(1))
        assert store.unshown() == [letter(2)]
    async with open_store() as store:
        assert store.unshown() == [letter(2)]
        assert store.seen(letter(1).key) == hash_text("hi")
        store.shown(letter(2))
        assert await store.history(None, 9) == [letter(1).history, letter(2).history]
    async with open_store() as store:
        assert store.unshown() == []


async def test_a_direct_message_that_is_flushed_survives_unshown(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        store.keep_soon(letter(1))
        await store.flush()
        store.shown(letter(1))  # at the moment of the kill
        store.keep_soon(letter(2))
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.unshown() == [letter(1)]
        assert knows(survivor, 1, 2) == [True, False]


async def test_a_direct_message_that_comes_again_as_a_letter_stays_unshown_on_the_disk(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        store.keep_soon(letter(1))
        await store.keep([letter(1), letter(2), letter(2)])  # the server forgets what is acknowledged now
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.unshown() == [letter(1), letter(2)]


class SlowDisk:
    """A disk on which each transaction takes a second, before and after it is durable."""

    def __init__(self):
        self.commits = 0

    async def run(self, work):
        await trio.sleep(1)
        outcomes = await inline(work)
        self.commits += 1
        await trio.sleep(1)
        return outcomes


async def test_a_flush_returns_when_what_was_given_before_is_on_the_disk(tmp_path, autojump_clock):
    disk = SlowDisk()
    async with open_client_store(tmp_path / "store.db", disk.run) as store:
        await store.flush()
        assert disk.commits == 0, "nothing to wait for"
        store.keep_soon(letter(1))
        await trio.sleep(0.5)  # the write has begun
        store.keep_soon(letter(2))
        await store.flush()
        assert disk.commits == 2
        await store.flush()
        assert disk.commits == 2
        store.keep_soon(letter(3))
        await store.flush()
        assert disk.commits == 3


async def test_a_flush_hastens_nothing_and_returns_under_steady_load(tmp_path, autojump_clock, nursery):
    disk = SlowDisk()

    async def work():
        for number in range(1000):
            store.keep_soon(letter(number))
            await trio.sleep(0.01)

    async with open_client_store(tmp_path / "store.db", disk.run) as store:
        nursery.start_soon(work)
        for commits in (2, 4, 6):
            await trio.sleep(0.5)
            await store.flush()
            assert disk.commits <= commits


async def test_a_flush_waits_for_a_letter_that_is_being_kept(tmp_path, autojump_clock, nursery):
    disk = SlowDisk()
    async with open_client_store(tmp_path / "store.db", disk.run) as store:
        nursery.start_soon(store.keep, [letter(1)])
        await trio.sleep(0.5)
        store.keep_soon(letter(1))
        assert disk.commits == 0
        await store.flush()
        assert disk.commits == 1 + 1, "the second transaction is empty"


async def test_a_flush_that_fails_is_not_reported_as_done(tmp_path, autojump_clock):
    done = []

    async def full(work):
        await trio.lowlevel.checkpoint()
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StoreFailed):
        async with open_client_store(tmp_path / "store.db", full) as store:
            store.keep_soon(letter(1))
            await store.flush()
            done.append("flushed")  # pragma: no cover
    assert done == []


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
        saw(store, letter(number), letter(number))
    assert knows(store, *range(5)) == [False, False, True, True, True]


async def test_the_file_has_the_newest_100000_and_what_is_unshown_or_in_the_history(tmp_path, monkeypatch):
    for module in (client_store, client_rows):
        monkeypatch.setattr(module, "SEEN_LIMIT", 3)
    monkeypatch.setattr(history, "KEPT", 2)
    path = tmp_path / "store.db"
    async with open_client_store(path, inline) as store:
        await store.keep([letter(1), letter(2)])
        store.keep_soon(letter(3))
        store.shown(letter(3))
        await store.keep([letter(4)])
        (unshown, *_, in_history) = store.unshown()
        store.shown(in_history)
        saw(store, *map(letter, range(5, 9)))
    async with open_client_store(path, inline) as store:
        assert knows(store, *range(1, 9)) == [True, True, True, True, False, True, True, True]
        saw(store, letter(9))
        store.shown(unshown)
    async with open_client_store(path, inline) as store:
        assert knows(store, *range(1, 10)) == [True, True, False, True, False, False, True, True, True], (
            "3 has left the history"
        )


async def test_old_ids_are_forgotten_while_the_store_is_open(tmp_path, monkeypatch, autojump_clock):
    for module in (client_store, client_rows):
        monkeypatch.setattr(module, "SEEN_LIMIT", 3)
    async with open_client_store(tmp_path / "store.db", inline) as store:
        saw(store, *map(letter, range(10)))
        await trio.sleep(1)
        assert knows(store, *range(10)) == [False] * 7 + [True] * 3


@pytest.mark.parametrize("now", [0.0, 1e10])
async def test_no_clock_makes_the_store_forget(tmp_path, now):
    path = tmp_path / "store.db"
    async with open_client_store(path, inline, lambda: 1e9) as store:
        saw(store, letter(1))
    async with open_client_store(path, inline, lambda: now) as store:
        assert knows(store, 1) == [True]


async def test_who_sends_much_makes_nobody_forget_what_others_have_sent(open_store, monkeypatch, autojump_clock):
    for module in (memory, client_store, client_rows):
        monkeypatch.setattr(module, "SEEN_LIMIT", 9)
    honest = [letter(number, sender="Alice") for number in range(4)]
    flood = [letter(100 + number, sender="mallory", kind=kind) for number in range(50) for kind in ("direct", "group")]
    async with open_store() as store:
        saw(store, *honest[:2], *flood[:50])
        await store.keep(honest[2:])
        for one in store.unshown():
            store.shown(one)
        saw(store, *flood[50:])
        await trio.sleep(1)
        assert knows(store, 0, 1, 2, 3) == [True] * 4
        assert [store.seen(one.key) for one in flood[-5:]].count(None) == 0
        assert sum(store.seen(one.key) is not None for one in flood) < 10


async def test_more_senders_than_are_remembered(open_store, monkeypatch, autojump_clock):
    for module in (memory, client_store, client_rows):
        monkeypatch.setattr(module, "SEEN_LIMIT", 3)
    senders = [letter(number, sender=f"p{number}") for number in range(10)]
    async with open_store() as store:
        saw(store, *senders)
        await trio.sleep(1)
        assert [store.seen(one.key) is not None for one in senders] == [False] * 7 + [True] * 3


# --- who is blocked ---


async def test_keys_are_blocked_in_order_until_they_are_unblocked(open_store):
    async with open_store() as store:
        blocked = store.blocked()
        assert dict(blocked) == {}
        await store.block(OTHER_KEY, "Mallory")
        await store.block(KEY, "eve")
        await store.block(OTHER_KEY, "angel")
        assert list(blocked.items()) == [(OTHER_KEY, "Mallory"), (KEY, "eve")], "a live view; the first name stays"
    async with open_store() as store:
        assert list(store.blocked().items()) == [(OTHER_KEY, "Mallory"), (KEY, "eve")]
        await store.unblock(OTHER_KEY)
        await store.unblock(OTHER_KEY)
        assert list(store.blocked()) == [KEY]
        await store.block(OTHER_KEY, "angel")
    async with open_store() as store:
        assert list(store.blocked().items()) == [(KEY, "eve"), (OTHER_KEY, "angel")]


@pytest.mark.parametrize("is_blocked", [True, False])
async def test_who_is_blocked_is_on_the_disk_when_the_command_says_so(tmp_path, autojump_clock, is_blocked):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        await store.block(KEY, "eve")
        if not is_blocked:
            await store.unblock(KEY)
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert list(survivor.blocked()) == [KEY] * is_blocked


# --- epochs of private rooms ---


def epoch(n: int, room: str = OX, *, seq: int | None = None) -> KeptEpoch:
    key = RoomKey(room, "Ox", n, bytes((n,)) * 32, bytes((n + 1,)) * 32)
    return KeptEpoch(key, seq or 10 * n, b"epoch %d" % n)


def past(one: KeptEpoch) -> KeptEpoch:
    return attrs.evolve(one, body=b"")


async def test_of_each_room_the_present_epoch_is_kept_and_the_keys_of_those_before(open_store):
    elsewhere = epoch(1, ELK, seq=15)
    kept = [past(epoch(1)), elsewhere, past(epoch(2)), epoch(3)]
    async with open_store() as store:
        assert store.epochs() == []
        await store.keep_epochs([epoch(1)])
        await store.keep_epochs([elsewhere, epoch(2), epoch(3)])
        await store.keep_epochs([epoch(3)])
        assert store.epochs() == kept, "also for a second chat with the same store"
    async with open_store() as store:
        assert store.epochs() == kept
        await store.keep_epochs([epoch(4)])
    async with open_store() as store:
        assert store.epochs() == [*kept[:3], past(epoch(3)), epoch(4)]


def ended(one: KeptEpoch) -> KeptEpoch:
    return attrs.evolve(one, is_ended=True)


@pytest.mark.parametrize("forget", [True, False])
async def test_of_a_room_that_has_ended_the_keys_stay_and_it_may_begin_again(open_store, forget):
    elsewhere = epoch(1, ELK, seq=15)
    async with open_store() as store:
        await store.keep_epochs([epoch(1), elsewhere, epoch(2)])
        await store.end_room(OX, forget=forget)
        await store.end_room("!" + 32 * "9", forget=forget)
        kept = [ended(past(epoch(1))), elsewhere, ended(past(epoch(2)) if forget else epoch(2))]
        assert store.epochs() == kept
    async with open_store() as store:
        assert store.epochs() == kept
        await store.keep_epochs([epoch(5)])
    async with open_store() as store:
        assert store.epochs() == [*kept[:2], ended(past(epoch(2))), epoch(5)]


async def test_the_newest_keys_are_kept_and_each_present_epoch(open_store, monkeypatch):
    monkeypatch.setattr(kept_epochs, "ROOM_KEYS_KEPT", 2)
    oldest = epoch(1, ELK, seq=1)
    async with open_store() as store:
        await store.keep_epochs([oldest, *(epoch(n) for n in (1, 2, 3, 4))])
        assert store.epochs() == [oldest, past(epoch(2)), past(epoch(3)), epoch(4)]
        await store.end_room(OX, forget=True)
        assert store.epochs() == [oldest, ended(past(epoch(3))), ended(past(epoch(4)))]
    async with open_store() as store:
        assert store.epochs() == [oldest, ended(past(epoch(3))), ended(past(epoch(4)))]


async def test_of_one_room_and_of_ended_rooms_so_many_are_kept(open_store, monkeypatch):
    """Nobody can fill our disk with epochs, or push out the keys of other rooms."""
    monkeypatch.setattr(kept_epochs, "KEYS_OF_ROOM", 3)
    monkeypatch.setattr(kept_epochs, "ENDED_KEPT", 2)
    rooms = ["!" + f"{n:032x}" for n in range(4)]
    async with open_store() as store:
        for n in range(1, 6):
            await store.keep_epochs([epoch(n)])
        assert [one.key.n for one in store.epochs()] == [3, 4, 5]
        for n, room in enumerate(rooms):
            await store.keep_epochs([epoch(1, room, seq=100 + n)])
            await store.end_room(room, forget=False)
    async with open_store() as store:
        assert [one.key.room for one in store.epochs()] == [OX] * 3 + rooms[2:]


@pytest.mark.parametrize("has_ended", [True, False])
async def test_an_epoch_is_on_the_disk_before_it_is_acknowledged(tmp_path, autojump_clock, has_ended):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        await store.keep_epochs([epoch(1)])
        if has_ended:
            await store.end_room(OX, forget=True)
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.epochs() == [ended(past(epoch(1))) if has_ended else epoch(1)]


# --- letters that wait for a receipt ---


async def test_a_letter_is_remembered_until_its_receipt_is_settled(open_store):
    async with open_store() as store:
        assert store.sent(id_of(1)) is None
        await store.will_send(sent(1))
        await store.will_send(sent(2))
        assert store.sent(id_of(1)) == sent(1)
        store.settled(id_of(1))
        store.settled(id_of(1))
        store.settled(id_of(9))
    async with open_store() as store:
        assert [store.sent(id_of(number)) for number in (1, 2, 3)] == [None, sent(2), None]


async def test_a_letter_is_on_the_disk_before_it_is_sent(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        await store.will_send(sent(1))
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.sent(id_of(1)) == sent(1)


async def test_the_newest_letters_are_remembered(open_store, monkeypatch):
    assert sent_letters.SENT_LIMIT == 10_000
    monkeypatch.setattr(sent_letters, "SENT_LIMIT", 3)
    async with open_store() as store:
        for number in range(3):
            await store.will_send(sent(number))
        store.settled(id_of(1))
        for number in range(3, 6):
            await store.will_send(sent(number))
    async with open_store() as store:
        assert [number for number in range(6) if store.sent(id_of(number))] == [3, 4, 5]


async def test_which_letters_the_server_keeps(open_store):
    async with open_store() as store:
        for number in range(4):
            await store.will_send(sent(number))
        assert not store.is_at_server("bob", since=0.0), "nobody knows whether it has them"
        for number in (1, 2, 9):
            store.saved(id_of(number), 50.0)
        store.settled(id_of(2))
    async with open_store() as store:
        assert store.is_at_server(sent(1).recipient.upper(), since=0.0)
        assert not store.is_at_server("somebody", since=0.0)
        assert not store.is_at_server(sent(1).recipient, since=50.0), "it has expired"
        assert store.sent(id_of(1)).saved_at == 50.0
        store.settled(id_of(1))
    async with open_store() as store:
        assert not store.is_at_server(sent(1).recipient, since=0.0)
        store.saved(id_of(0), 50.0)
        store.saved(id_of(3), 50.0)
        store.passed(sent(0).recipient.upper())
    async with open_store() as store:
        assert not store.is_at_server(sent(1).recipient, since=0.0)
        assert [store.sent(id_of(number)) for number in (0, 3)] == [sent(0), sent(3)], "they wait for their receipts"


# --- the outbox ---


def outgoing(number: int, recipient: str = "bob", room: str = "") -> Outgoing:
    return Outgoing(0, id_of(number), recipient, room, f"text {number}", float(number))


async def test_messages_wait_in_order_until_they_are_done(open_store):
    async with open_store() as store:
        one, two, three = [await store.put_outgoing(outgoing(n)) for n in (1, 2, 3)]
        assert one.number < two.number < three.number
        assert store.outgoing() == [one, two, three]
        assert store.outgoing_size() == (3, len("text 1") * 3)
        store.outgoing_done(two)
        store.outgoing_done(two)
    async with open_store() as store:
        assert store.outgoing() == [one, three]
        await store.cancel_outgoing(three)
        four = await store.put_outgoing(outgoing(4, "", "lunch"))
        assert four.number > three.number, "the number of a message is never that of an earlier one"
    async with open_store() as store:
        assert store.outgoing() == [one, four]
        assert store.outgoing_size() == (2, len("text 1") * 2)


async def test_what_was_tried_with_a_message_is_remembered(open_store):
    async with open_store() as store:
        one = await store.put_outgoing(outgoing(1))
        tried = await store.attempt_outgoing(one, 77.0)
        received = store.outgoing_received(tried)
        assert (received.attempted_at, received.is_received, received.id) == (77.0, True, one.id)
    async with open_store() as store:
        assert store.outgoing() == [received]
        store.outgoing_done(received)
        assert (await store.attempt_outgoing(received, 78.0)).attempted_at == 78.0
        assert store.outgoing() == [], "it was cancelled meanwhile"


async def test_a_message_is_on_the_disk_before_it_is_sent(tmp_path, autojump_clock):
    path, disk = tmp_path / "store.db", Disk(tmp_path)
    async with open_client_store(path, disk.run) as store:
        message = await store.put_outgoing(outgoing(1))
        message = await store.attempt_outgoing(message, 5.0)
        other = await store.put_outgoing(outgoing(2))
        await store.cancel_outgoing(other)
    disk.fall_back()
    async with open_client_store(path, inline) as survivor:
        assert survivor.outgoing() == [message]


async def test_a_new_store_knows_all_that_was_sent(open_store):
    for _ in range(2):
        async with open_store() as store:
            assert store.knows_all_sent()


# --- pins ---


async def test_a_new_store_has_no_pins(store):
    assert store.pinned("alice") is store.pinned(SERVER) is None


async def test_the_key_that_was_pinned_last_counts(store):
    store.pin("alice", KEY)
    assert store.pinned("alice") == KEY
    assert store.pinned("bob") is store.pinned(SERVER) is None
    store.pin("alice", OTHER_KEY)
    assert store.pinned("alice") == OTHER_KEY


async def test_pins_are_counted(store):
    assert store.pin_count() == 0
    for name, key in (("alice", KEY), (SERVER, KEY), ("ALICE", OTHER_KEY)):
        store.pin(name, key)
    assert store.pin_count() == 2


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
        saw(store, letter(2))
        store.shown(letter(1))
        await trio.sleep(5)
    async with open_client_store(path, inline) as store:
        assert (store.pinned("alice"), store.pinned("bob")) == (KEY, KEY)
        assert knows(store, 2) == [True]
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


# --- files of earlier versions: see fixtures/README.md ---

FIXTURES = Path(__file__).parent / "fixtures"
START = 1_700_000_000.0


@pytest.fixture
def old(tmp_path, request):
    """A copy of an old file."""
    return put_file(tmp_path / "store.db", (FIXTURES / request.param).read_bytes())


def open_old(path, now=START, **options):
    return open_client_store(path, inline, lambda: now, **options)


def summary(entry: OpenedEntry):
    return (entry.kind, entry.sender, int.from_bytes(entry.id, "big"), entry.at - START, entry.text)


@pytest.mark.parametrize("old", ["client.db"], indirect=True)
async def test_what_was_not_shown_by_the_old_version_is_still_shown(old):
    async with open_old(old) as store:
        unshown = store.unshown()
    assert [summary(one) for one in unshown if one.text is not None and one.text != Verdict.FORGED] == [
        ("direct", "Fay", 14, 14.0, "fourteen"),
        ("group", "ann", 15, 15.0, "fifteen"),
        ("receipt", "cid", 16, 16.0, Verdict.RECEIVED),
        ("receipt", "ann", 17, 17.0, Verdict.NOT_OPENED),
        ("missed", "bob", 20, -START, "2"),
        ("direct", "ann", 24, 24.0, "twenty-four"),
    ]
    assert [(one.kind, one.sender, one.text) for one in unshown if one.text in (None, Verdict.FORGED)] == [
        ("direct", "dee", None),
        ("group", "cid", None),
        ("receipt", "eve", Verdict.FORGED),
    ]
    assert {one.seq for one in unshown} == {0}
    assert {one.signed_at for one in unshown} == {None}
    async with open_old(old) as store:
        assert store.unshown() == unshown


@pytest.mark.parametrize("old", ["client.db"], indirect=True)
async def test_a_text_that_came_before_is_known_by_its_hash_if_it_was_kept(old):
    async with open_old(old) as store:
        hashes = {
            key: store.seen((kind, sender, id_of(number)))
            for key, (kind, sender, number) in {
                "forgotten by the old version": ("direct", "ann", 1),
                "shown": ("direct", "ann", 6),
                "shown, to all": ("group", "cid", 7),
                "unshown": ("direct", "ann", 24),
                "came directly": ("direct", "ann", 3),
                "came directly, later": ("direct", "fay", 22),
                "without a history": ("direct", "ann", 23),
                "new": ("direct", "ann", 99),
            }.items()
        }
    assert hashes == {
        "forgotten by the old version": hash_text("one, a month ago"),
        "shown": hash_text("six: ä\0\x1b[31m\r\n\t🙂 "),
        "shown, to all": hash_text("42"),
        "unshown": hash_text("twenty-four"),
        "came directly": NO_HASH,
        "came directly, later": NO_HASH,
        "without a history": NO_HASH,
        "new": None,
    }


@pytest.mark.parametrize("old", ["client.db"], indirect=True)
async def test_the_history_and_the_pins_of_the_old_version_are_still_there(old):
    async with open_old(old) as store:
        texts = [(entry.peer, entry.text, entry.sent, entry.group) for entry in await store.history(None, 100)]
        assert texts == [
            ("ann", "one, a month ago", False, False),
            ("ann", "two, a month ago", False, False),
            ("ann", "three", False, False),
            ("ann", "four, sent", True, False),
            ("", "five, sent to all", True, True),
            ("ann", "six: ä\0\x1b[31m\r\n\t🙂 ", False, False),
            ("Fay", "thirteen, sent", True, False),
            ("cid", "42", False, True),
            ("Fay", "twenty-two", False, False),
        ]
        assert [entry.text for entry in await store.search("sent", 100)] == [
            "four, sent",
            "five, sent to all",
            "thirteen, sent",
        ]
        keys = {name: identity_of(name).public.signing for name in ("ann", "bob", "cid", "dee", "fay")}
        assert {name: store.pinned(name) for name in keys} == keys
        assert store.pinned("eve") is None
        for one in store.unshown():
            store.shown(one)
        assert [entry.text for entry in await store.history(None, 3)] == ["fourteen", "fifteen", "twenty-four"]
    async with open_old(old) as store:
        assert len(await store.history(None, 100)) == 12
        assert store.unshown() == []


@pytest.mark.parametrize("old", ["client.db"], indirect=True)
async def test_for_30_days_after_an_old_version_not_all_that_was_sent_is_known(old):
    async with open_old(old) as store:
        assert not store.knows_all_sent()
    async with open_old(old, START + RETENTION - 1) as store:
        assert not store.knows_all_sent(), "the days are counted from the first start of the new version"
    async with open_old(old, START + RETENTION + 1) as store:
        assert store.knows_all_sent()


@pytest.mark.parametrize("old", ["client-1.db"], indirect=True)
async def test_a_file_of_the_first_schema_can_still_be_used(old):
    async with open_old(old) as store:
        unshown = store.unshown()
        assert [summary(one) for one in unshown] == [
            ("direct", "Cid", 5, 5.0, "five"),
            ("group", "ann", 6, 6.0, "six"),
            ("receipt", "ann", 7, 7.0, Verdict.RECEIVED),
            ("missed", "bob", 8, -START, "2"),
        ]
        assert [entry.text for entry in await store.history(None, 100)] == ["one: ä\0\x1b[31m\r\n\t🙂 ", "42"]
        assert store.seen(("direct", "cid", id_of(5))) == hash_text("five")
        assert store.seen(("direct", "ann", id_of(9))) == NO_HASH
        assert store.pinned("ann") is None
        assert not store.knows_all_sent()
        await store.keep([letter(1, "a copy", "ann"), letter(30)])
        assert store.unshown() == [*unshown, letter(30)], "what was shown is not shown again"
        store.shown(unshown[0])
        store.pin("ann", KEY)
    async with open_old(old) as store:
        assert store.unshown() == [*unshown[1:], letter(30)]
        assert store.pinned("ann") == KEY


@pytest.mark.parametrize("old", ["client-4.db"], indirect=True)
async def test_a_file_of_schema_4_gets_lengths_of_conversations_and_an_empty_list_of_those_who_are_blocked(old):
    with closing(sqlite3.connect(old)) as database:
        lengths = database.execute("SELECT lower(peer), count(*) FROM entries GROUP BY peer ORDER BY peer").fetchall()
        entries = database.execute("SELECT text FROM history ORDER BY number").fetchall()
        (received,) = database.execute("SELECT count(*) FROM received").fetchone()
    assert lengths == [("", 1), ("ann", 6), ("cid", 1), ("dee", 1), ("fay", 3)]
    async with open_old(old) as store:
        assert dict(store.blocked()) == {}
        assert [(entry.text,) for entry in await store.history(None, 100)] == entries
        assert store.sent(id_of(40)).recipient == "Fay"
        assert not store.knows_all_sent()
        store.note(HistoryEntry(START, "ANN", "one more"))
        await store.block(KEY, "ann")
    with closing(sqlite3.connect(old)) as database:
        counted = database.execute("SELECT lower(peer), length FROM conversations ORDER BY peer").fetchall()
        assert database.execute("SELECT count(*) FROM received").fetchone() == (received,)
    assert counted == [(peer, length + (peer == "ann")) for peer, length in lengths]


@pytest.mark.parametrize("old", ["client-5.db"], indirect=True)
async def test_a_file_of_schema_5_gets_rooms_and_keeps_all_else(old):
    with closing(sqlite3.connect(old)) as database:
        entries = database.execute("SELECT at, peer, text, sent, to_all FROM history ORDER BY number").fetchall()
        unshown = database.execute(
            "SELECT kind, id, sender, text FROM received WHERE NOT shown ORDER BY number"
        ).fetchall()
        (received,) = database.execute("SELECT count(*) FROM received").fetchone()
    async with open_old(old) as store:
        assert [(one.kind, one.id, one.sender, one.text) for one in store.unshown()] == unshown
        assert {one.room for one in store.unshown()} == {""}
        assert summary(store.unshown()[-1]) == ("group", "cid", 52, 52.0, "message 52")
        kept = await store.history(None, 100)
        assert kept == [
            HistoryEntry(at, peer, text, bool(sent), bool(group)) for at, peer, text, sent, group in entries
        ]
        of_all = await store.history("#everyone", 100)
        assert [one for one in kept if one.group] == of_all
        assert [one.text for one in of_all][-2:] == ["message 50", "message 53, sent to all"]
        assert await store.search("message 50", 9) == [of_all[-2]], "the index still fits"
        assert list(store.blocked().values()) == ["eve"]
        to_lunch = attrs.evolve(letter(60, "soup", "ann", EntryKind.GROUP), room="lunch")
        await store.keep([to_lunch])
        store.shown(to_lunch)
    async with open_old(old) as store:
        assert [one.text for one in await store.history("#lunch", 9)] == ["soup"]
        assert [one.room for one in await store.search("soup", 9)] == ["lunch"]
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("SELECT count(*) FROM received").fetchone() == (received + 1,)


@pytest.mark.parametrize("old", ["client-6.db"], indirect=True)
async def test_a_file_of_schema_6_gets_epochs_and_keeps_all_else(old):
    with closing(sqlite3.connect(old)) as database:
        entries = database.execute("SELECT text FROM history ORDER BY number").fetchall()
        unshown = database.execute("SELECT id, sender, text, room FROM received WHERE NOT shown ORDER BY number")
        expected = unshown.fetchall()
    assert [(id_of(61), "cid", "message 61", "lunch")] == expected[-1:]
    assert entries[-2:] == [("message 60",), ("message 62, sent to lunch",)]
    async with open_old(old) as store:
        assert [(one.id, one.sender, one.text, one.room) for one in store.unshown()] == expected
        assert [(one.text,) for one in await store.history(None, 100)] == entries
        assert list(store.blocked().values()) == ["eve"]
        assert store.epochs() == []
        await store.keep_epochs([epoch(1)])
    async with open_old(old) as store:
        assert store.epochs() == [epoch(1)]


async def test_a_receipt_that_was_first_unreadable_and_then_true_is_one_entry(tmp_path):
    path = tmp_path / "store.db"
    with closing(open_database(path, Schema(CLIENT_SCHEMA.application_id, CLIENT_SCHEMA.migrations[:3]))) as database:
        database.executemany(
            "INSERT INTO letters (kind, sender, id, sent_at, text, count) VALUES (?, 'bob', ?, 1.0, '', 0)",
            [("unreadable", id_of(1)), ("receipt", id_of(1))],
        )
    async with open_client_store(path, inline) as store:
        assert [entry.text for entry in store.unshown()] == [Verdict.RECEIVED]


# --- a run that was killed ---


class Killed:
    """A store in a file, as a program that is killed leaves it; `path` is that of its latest files."""

    def __init__(self, folder):
        self.path = folder / "store.db"
        self._copies = count()

    async def run(self, at, letter=None) -> float | None:
        """A run that is killed; what it is told is lost."""
        async with open_client_store(self.path, inline, lambda: at) as store:
            if letter:
                await store.keep([letter])
            lost_since = store.lost_since
            aside = self.path.with_name(f"{next(self._copies)}.db")
            self._copy(aside)
        self.path = aside
        return lost_since

    async def run_to_its_end(self, at) -> float | None:
        async with open_client_store(self.path, inline, lambda: at) as store:
            return store.lost_since

    def _copy(self, aside):
        for end in ("", "-wal"):
            put_file(Path(f"{aside}{end}"), Path(f"{self.path}{end}").read_bytes())

    def lose_wal(self):
        os.unlink(f"{self.path}-wal")


async def test_after_a_run_that_was_killed_a_wal_file_that_is_gone_is_noticed_once(tmp_path):
    killed = Killed(tmp_path)
    assert await killed.run(10.0, letter(1)) is None, "a new store"
    killed.lose_wal()
    assert await killed.run_to_its_end(20.0) == 10.0
    assert await killed.run_to_its_end(30.0) is None
    assert await killed.run(40.0, letter(2)) is None
    killed.lose_wal()
    assert await killed.run(50.0) == 40.0
    killed.lose_wal()
    assert await killed.run(60.0) == 50.0


async def test_after_a_run_that_was_killed_nothing_is_missing_if_its_wal_file_is_there(tmp_path):
    killed = Killed(tmp_path)
    await killed.run(10.0, letter(1))
    assert await killed.run(20.0) is None
    async with open_client_store(killed.path, inline) as store:
        assert (store.lost_since, store.unshown()) == (None, [letter(1)])


@pytest.mark.parametrize("error", [KeyError, trio.Cancelled, StoreFailed])
async def test_after_an_error_nothing_is_missing(tmp_path, error, autojump_clock):
    path = tmp_path / "store.db"
    with trio.CancelScope() as scope, contextlib.suppress(error):
        async with open_client_store(path, inline) as store:
            if error is StoreFailed:
                os.unlink(f"{path}-wal")
                await store.keep([letter(1)])
            elif error is trio.Cancelled:
                scope.cancel()
                await trio.sleep_forever()
            raise error
    assert os.listdir(tmp_path) == ["store.db"]
    async with open_client_store(path, inline) as store:
        assert store.lost_since is None


@pytest.mark.parametrize("old", ["client-1.db", "client.db", "client-8.db"], indirect=True)
async def test_a_file_of_an_old_version_has_no_wal_file_and_nothing_is_missing(old):
    for _ in range(2):
        async with open_old(old) as store:
            assert store.lost_since is None


@pytest.mark.parametrize("old", ["client-8.db"], indirect=True)
async def test_a_file_of_schema_8_notes_runs_from_now_on_and_keeps_all_else(old):
    for _ in range(2):
        async with open_old(old) as store:
            assert [(one.recipient, one.text, one.at) for one in store.outgoing()] == [
                ("ann", "message 80", START + 80)
            ]
            assert store.sent(bytes([70]) * 16).recipient == "ann"
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("SELECT * FROM runs").fetchall() == [], "the last one has ended"


# --- what is wrong with a file, and what stays in it ---


async def test_a_row_that_cannot_be_read_is_a_damaged_store(tmp_path):
    path = tmp_path / "store.db"
    async with open_client_store(path, inline) as store:
        store.pin("bob", b"key")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE pins SET name = CAST(x'ff' AS TEXT)")
    with pytest.raises(StoreError, match=r"the store .* is damaged \(.*UTF-8.*\): move it away"):
        async with open_client_store(path, inline):
            raise AssertionError("it must not be opened")


@pytest.mark.parametrize("history", [False, True])
async def test_texts_that_are_not_kept_are_in_no_file_at_the_end(tmp_path, history, autojump_clock):
    path, link = tmp_path / "store.db", tmp_path / "link"
    text = "Zwetschgendatschi"
    async with open_client_store(path, inline, history=history) as store:
        # SQLite removes the -wal file at the end; through a second name we see what it had in it then.
        os.link(f"{path}-wal", link)
        for number in range(1, 100):
            entry = attrs.evolve(letter(number), text=text * number)
            await store.keep([entry])
            store.shown(entry)
        await trio.sleep(0.2)
        assert text.encode() in link.read_bytes()
    assert [file.name for file in tmp_path.iterdir() if text.encode() in file.read_bytes()] == ["store.db"] * history


async def fill_disk(store):
    """From now on the file cannot grow."""
    await store._commits.submit(lambda database: database.execute("PRAGMA max_page_count = 1"))
    for _ in range(100):
        store.note(HistoryEntry(100.0, "Bob", "hi" * 1000, True, False))
    assert store._unwritten


async def test_a_disk_that_is_full_at_the_very_end_is_reported(tmp_path, autojump_clock):
    path = tmp_path / "store.db"
    with pytest.raises(StoreFailed, match=r"^the store .*: database or disk is full; make room on the disk, then"):
        async with open_client_store(path, inline) as store:
            await store.keep([letter(1)])
            await fill_disk(store)
    async with open_client_store(path, inline) as store:
        assert store.unshown() == [letter(1)]


async def test_a_disk_that_is_full_at_the_very_end_does_not_hide_another_error(tmp_path, autojump_clock):
    with pytest.raises(KeyError):
        async with open_client_store(tmp_path / "store.db", inline) as store:
            await fill_disk(store)
            raise KeyError


@pytest.mark.parametrize("old", ["client-7.db"], indirect=True)
async def test_a_file_of_schema_7_gets_an_outbox_and_keeps_all_else(old):
    async with open_old(old) as store:
        letter = store.sent(bytes([70]) * 16)
        assert (letter.recipient, letter.hash) == ("ann", hash_text("message 70"))
        # Whether the server has it was not noted. If it has, nothing must overtake it.
        assert letter.saved_at == letter.at
        assert store.is_at_server("ann", since=0.0)
        assert [one.key.name for one in store.epochs()] == ["lunch"]
        assert store.outgoing() == []
        kept = await store.put_outgoing(outgoing(1))
        store.saved(letter.id, 60.0)
    async with open_old(old) as store:
        assert store.outgoing() == [kept]
        assert store.is_at_server("Ann", since=0.0)
