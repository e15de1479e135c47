"""The contract of a ServerStore: each story is told with every backend.

The backends, and how a store is opened again, are in backends.py. Transactions run without threads, so everything
happens in the same order each time. Random stories are in test_stores_agree.py, damaged files in test_damaged_rows.py.
"""

from contextlib import asynccontextmanager
from itertools import pairwise

import attrs
import pytest
import trio

from tests.storage.backends import backends
from tests.storage.log_entries import KIB, PEOPLE, direct, key_of, post, read_all, record, register, take_all
from trio_chat.protocol import limits
from trio_chat.protocol.messages import MAX_RECEIPTS
from trio_chat.protocol.records import MAX_BODY, NO_KEY, Entry, EntryKind
from trio_chat.storage import mailboxes, server_log, server_requests
from trio_chat.storage.interface import (
    MAILBOX_BYTES,
    MAILBOX_LETTERS,
    Acknowledged,
    Appended,
    KnownName,
    Position,
    Status,
)
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store

BACKENDS = backends(MemoryServerStore, open_server_store)


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


@pytest.fixture
def small_room(monkeypatch):
    """Three posts are kept."""
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)


@pytest.fixture
def small_mailboxes(monkeypatch):
    """A mailbox holds four letters."""
    monkeypatch.setattr(mailboxes, "MAILBOX_LETTERS", 4)
    monkeypatch.setattr(limits, "MAX_SHARE", 0)


@pytest.fixture
def no_shares(monkeypatch):
    """One sender may fill a mailbox."""
    monkeypatch.setattr(limits, "MAX_SHARE", 0)


async def known(store) -> dict[str, KnownName]:
    names, _ = await store.load(store.told.extend)
    return {name.record.name: name for name in names}


async def head(store) -> int:
    _, head = await store.load(store.told.extend)
    return head


def new(*seqs: int) -> list[Appended]:
    return [Appended(Status.NEW, seq) for seq in seqs]


def receipt(letter: Entry) -> bytes:
    """What its reader returns for a letter: different bytes for each, and no text."""
    return b"\xff\0" + letter.id[::-1]


def acknowledged(name: str, *letters: Entry, upto: int | None = None) -> Acknowledged:
    """The name has taken everything up to the last of these letters."""
    return Acknowledged(name, upto or letters[-1].seq, {one.seq: receipt(one) for one in letters})


def receipt_of(seq: int, letter: Entry, reader: str, at: float = 5.0) -> Entry:
    """The entry for the sender of a letter that this reader has taken."""
    return Entry(seq, EntryKind.RECEIPT, letter.id, reader, key_of(reader), letter.sender.lower(), at, receipt(letter))


def failed(seq: int, letter: Entry, reader: str, at: float) -> Entry:
    """The entry for the sender of a letter that this reader has not read."""
    return Entry(seq, EntryKind.FAILED, letter.id, reader, key_of(reader), letter.sender.lower(), at)


def at(seq: int, entry: Entry) -> Entry:
    return attrs.evolve(entry, seq=seq)


# --- names ---


async def test_a_new_store_is_empty(open_store):
    async with open_store() as store:
        assert await store.load(store.told.extend) == ([], 0)


async def test_names_are_remembered_as_offline_in_the_order_in_which_they_last_came(open_store):
    async with open_store() as store:
        for one in (record("bob", since=9.0), record("alice", since=3.0), record("carol", since=2.0)):
            await store.save_name(one)
        await store.save_name(record("Bob", host="::1", since=1.0))
    async with open_store() as store:
        names, _ = await store.load(store.told.extend)
        expected = [record("alice", since=3.0), record("carol", since=2.0), record("Bob", host="::1", since=1.0)]
        offline = [attrs.evolve(one, online=False) for one in expected]
        assert names == [KnownName(one, one.credentials) for one in offline], "whatever the clock says"


async def test_a_freed_name_has_no_credentials_but_its_last_owner_is_known(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.forget("ALICE") is True
        assert await store.forget("ALICE") is True, "again"
        assert await store.forget("mallory") is False
    async with open_store() as store:
        names = await known(store)
        assert list(names) == list(PEOPLE)
        assert names["alice"] == KnownName(
            attrs.evolve(record("alice"), online=False, credentials=None), record("alice").credentials
        )
        assert names["bob"].record.credentials == names["bob"].owner == record("bob").credentials
        await store.save_name(record("alice", owner="mallory"))
        assert (await known(store))["alice"].record.credentials == record("mallory").credentials


async def test_a_name_without_credentials(open_store):
    async with open_store() as store:
        await store.save_name(attrs.evolve(record("alice"), credentials=None))
    async with open_store() as store:
        assert (await known(store))["alice"].owner is None
        await store.append([direct(1, to="alice")])
        assert await store.save_name(record("alice")) == Position(1, 0, 2), "nobody knows whose letter it was"


# --- positions ---


async def test_a_new_name_begins_at_the_head(store):
    await store.append([post(1), post(2)])
    assert await store.save_name(record("dave")) == Position(2, 0, 2)
    await store.append([post(3), direct(4, to="dave")])
    assert await store.save_name(record("dave")) == Position(2, 2, 4)
    assert await read_all(store, "dave", 2) == [at(3, post(3)), at(4, direct(4, to="dave"))]


async def test_the_same_owner_keeps_the_position(store):
    await store.append([direct(1), post(2), direct(3)])
    await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5.0)
    assert await store.save_name(record("BOB", since=7.0)) == Position(1, 2, 4)
    await store.forget("bob")
    assert await store.save_name(record("bob")) == Position(1, 2, 4), "even if the name was freed meanwhile"


@pytest.mark.parametrize("freed", [True, False])
async def test_another_owner_begins_at_the_head_and_the_letters_fail(store, freed):
    letters = [direct(1), direct(2, sender="Carol"), direct(3)]
    await store.append([letters[0], post(9), *letters[1:]])
    if freed:
        await store.forget("bob")
    assert await store.save_name(record("Bob", owner="mallory", since=77.0)) == Position(4, 0, 7)
    entries = [
        failed(5, letters[0], "bob", 77.0),
        failed(6, letters[1], "bob", 77.0),
        failed(7, letters[2], "bob", 77.0),
    ]
    assert store.told[-3:] == entries
    assert await read_all(store, "alice", 0) == [entries[0], entries[2]]
    assert await read_all(store, "carol", 4) == [entries[1]]
    assert await read_all(store, "bob", 4) == []
    assert await store.save_name(record("bob", owner="mallory")) == Position(4, 0, 7), "they are the owner now"
    assert await store.append([letters[0]]) == [Appended(Status.KNOWN, 1)], "and the request is still known"


async def test_what_waits_are_letters_and_the_posts_of_others(store):
    await store.append([direct(1), post(2), post(3, sender="Bob")])
    await store.append([direct(4, sender="bob", to="alice")])
    assert await store.save_name(record("bob")) == Position(0, 2, 4)
    await take_all(store, "alice", receipt)
    assert (await store.save_name(record("bob"))).waiting == 2, "a receipt does not count"
    await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5.0)
    assert (await store.save_name(record("bob"))).waiting == 1


# --- appending ---


async def test_entries_are_numbered_without_gaps(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.append([direct(1), post(2), direct(3, to="carol")]) == new(1, 2, 3)
        await take_all(store, "bob", receipt)
        assert await store.append([]) == []
        assert await store.append([direct(1), direct(4)]) == [Appended(Status.KNOWN, 1, receipt(direct(1))), *new(5)]
        await take_all(store, "bob", receipt)
        await store.retain(1e9, 1e9)
        assert await read_all(store, "alice", 0) == [failed(7, direct(3), "carol", 1e9)]
        await store.retain(2e9, 2e9)
    async with open_store() as store:
        assert await store.load(store.told.extend) == (list((await known(store)).values()), 7)
        assert await store.append([direct(9)]) == new(8), "although no entry is left"


async def test_everyone_sees_the_same_order(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        sent = [
            direct(1),
            post(2),
            direct(3, sender="carol"),
            post(4, sender="carol"),
            direct(5),
            post(6, sender="bob"),
        ]
        await store.append(sent[:3])
        await store.append(sent[3:])
    async with open_store() as store:
        numbered = [at(seq, one) for seq, one in enumerate(sent, 1)]
        assert await read_all(store, "bob", 0) == numbered[:5], "without own posts"
        assert await read_all(store, "BOB", 3) == numbered[3:5]
        assert await read_all(store, "carol", 0) == [numbered[1], numbered[5]]
        assert (await store.read("carol", 0)).upto == 6


async def test_calls_take_effect_in_the_order_in_which_they_are_made(store):
    """A server registers a name, appends a letter to it and goes on, without waiting for the first to be done."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(register, store, "dave")
        for number in range(10):
            await trio.lowlevel.checkpoint()
            nursery.start_soon(store.append, [direct(number, to="dave")])
    assert [entry.id for entry in await read_all(store, "dave", 0)] == [direct(number).id for number in range(10)]


async def test_a_request_is_taken_once(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.append([direct(1), post(1), direct(1)]) == [*new(1, 2), Appended(Status.KNOWN, 1)]
        assert await store.append([direct(1), post(1)]) == [Appended(Status.KNOWN, 1), Appended(Status.KNOWN, 2)]
        assert store.told == [at(1, direct(1)), at(2, post(1))]
    async with open_store() as store:
        again = attrs.evolve(direct(1), sender="ALICE", taken_at=999.0)
        assert await store.append([again]) == [Appended(Status.KNOWN, 1)], "whenever it comes"
        assert len(await read_all(store, "bob", 0)) == 2


async def test_an_id_belongs_to_one_message(store):
    await store.append([direct(1), post(2)])
    others = [direct(1, body=b"ho"), direct(1, to="carol"), attrs.evolve(post(2), body=b"ho")]
    assert await store.append(others) == [Appended(Status.CONFLICT)] * 3
    assert await store.append([direct(3), direct(3, to="carol")]) == [*new(3), Appended(Status.CONFLICT)], "at once"
    await take_all(store, "bob", receipt)
    assert await store.append(others[:1]) == [Appended(Status.CONFLICT)], "afterwards, too"


async def test_requests_are_identified_by_kind_key_and_id(store):
    other = attrs.evolve(direct(1), key=key_of("mallory"))
    assert await store.append([direct(1), direct(2), direct(1, sender="carol"), post(1), other]) == new(1, 2, 3, 4, 5)


async def test_requests_with_the_same_number_are_told_apart(store, monkeypatch):
    """An attacker may find two. Here all have the same."""
    monkeypatch.setattr(server_requests, "request_number", lambda *request: 7)
    requests = [direct(1), direct(2), direct(1, sender="carol"), post(1)]
    assert await store.append(requests) == new(1, 2, 3, 4)
    assert await store.append(requests) == [Appended(Status.KNOWN, seq) for seq in (1, 2, 3, 4)]
    assert await store.append([direct(2, body=b"ho"), direct(3)]) == [Appended(Status.CONFLICT), *new(5)]


async def test_many_requests_at_once(store):
    letters = [direct(number, to=PEOPLE[number % 3], sender="dave") for number in range(700)]
    assert await store.append(letters) == new(*range(1, 701))
    assert await store.append(letters[::-1]) == [Appended(Status.KNOWN, seq) for seq in range(700, 0, -1)]
    assert len(await read_all(store, "alice", 0)) == 234


# --- the limits of a mailbox ---


async def test_a_mailbox_holds_1000_letters(open_store, no_shares):
    async with open_store() as store:
        await register(store, *PEOPLE)
        results = await store.append([direct(number) for number in range(1, MAILBOX_LETTERS + 2)])
        assert results == [*new(*range(1, MAILBOX_LETTERS + 1)), Appended(Status.FULL)]
    async with open_store() as store:
        more = direct(MAILBOX_LETTERS + 1)
        assert await store.append([more, direct(5000, to="carol"), direct(1)]) == [
            Appended(Status.FULL),
            *new(MAILBOX_LETTERS + 1),
            Appended(Status.KNOWN, 1),
        ]
        await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5.0)
        assert [one.status for one in await store.append([more, direct(5001)])] == [Status.NEW, Status.FULL]


async def test_a_mailbox_holds_1_mib_of_bodies(store, no_shares):
    size = 16 * KIB
    count = MAILBOX_BYTES // size
    letters = [direct(number, body=b"\xff" * size) for number in range(1, count)]
    await store.append([*letters, direct(101, body=b"x" * (size - 1))])
    sizes = [direct(102, body=b"xx"), direct(103, body=b"x"), direct(104, body=b"x")]
    assert [one.status for one in await store.append(sizes)] == [Status.FULL, Status.NEW, Status.FULL]
    await store.acknowledge([acknowledged("bob", at(1, letters[0]))], 5.0)
    assert [one.status for one in await store.append([sizes[0]])] == [Status.NEW]


async def test_one_key_fills_a_quarter_of_a_mailbox_and_the_next_one_finds_room(store):
    flood = [direct(number) for number in range(1, 301)]
    assert [one.status for one in await store.append(flood)] == [Status.NEW] * 250 + [Status.FULL] * 50
    others = [attrs.evolve(one, id=bytes(reversed(one.id)), sender="carol") for one in flood[:10]]
    assert [one.status for one in await store.append(others)] == [Status.FULL] * 10, "another name of the same key"
    second = [direct(1000 + number, sender="carol") for number in range(300)]
    assert [one.status for one in await store.append(second[:100])] == [Status.NEW] * 100
    assert [one.status for one in await store.append(second[100:])] == [Status.NEW] * 87 + [Status.FULL] * 113
    friend = attrs.evolve(direct(5000), key=b"f" * 32)
    assert [one.status for one in await store.append([friend])] == [Status.NEW]
    await take_all(store, "bob", receipt)
    assert [one.status for one in await store.append([direct(6000)])] == [Status.NEW]


async def test_one_key_fills_a_quarter_of_the_bytes_of_a_mailbox(store):
    flood = [direct(number, body=b"x" * 16 * KIB) for number in range(1, 30)]
    assert [one.status for one in await store.append(flood)] == [Status.NEW] * 16 + [Status.FULL] * 13
    assert [one.status for one in await store.append([direct(1000, sender="carol", body=b"x" * 16 * KIB)])] == [
        Status.NEW
    ]


async def test_posts_and_receipts_do_not_count(store, small_mailboxes):
    await store.append([direct(number, to="carol") for number in range(1, 4)])
    await take_all(store, "carol", receipt)
    await store.append([post(number, sender="carol") for number in range(5)])
    letters = [direct(number, sender="carol", to="alice") for number in range(10, 15)]
    assert [one.status for one in await store.append(letters)] == [Status.NEW] * 4 + [Status.FULL]


async def test_a_new_owner_has_an_empty_mailbox(store, small_mailboxes):
    await store.append([direct(number) for number in range(4)])
    await store.save_name(record("bob", owner="mallory"))
    assert [one.status for one in await store.append([direct(4)])] == [Status.NEW]


async def test_letters_that_are_too_old_make_room(store, small_mailboxes):
    await store.append([direct(number) for number in range(4)])
    await store.retain(102.0, 1000.0)
    assert [one.status for one in await store.append([direct(number) for number in (4, 5, 6)])] == [
        *[Status.NEW] * 2,
        Status.FULL,
    ]


# --- reading ---


async def test_a_page_has_ten_letters(store):
    await store.append([direct(number) for number in range(25)])
    page = await store.read("bob", 0)
    assert ([entry.seq for entry in page.entries], page.upto) == (list(range(1, MAX_RECEIPTS + 1)), MAX_RECEIPTS)
    page = await store.read("bob", 15)
    assert ([entry.seq for entry in page.entries], page.upto) == (list(range(16, 26)), 25), "exactly as many as fit"


@pytest.mark.parametrize(("size", "fit"), [(0, 54), (10 * KIB, 2), (MAX_BODY, 1)])
async def test_a_page_is_limited_by_bytes(store, size, fit):
    await store.append([post(number, body=b"x" * size) for number in range(fit + 1)])
    page = await store.read("bob", 0)
    assert ([entry.seq for entry in page.entries], page.upto) == (list(range(1, fit + 1)), fit)
    page = await store.read("bob", 1)
    assert ([entry.seq for entry in page.entries], page.upto) == (list(range(2, fit + 2)), fit + 1)


async def test_what_is_for_others_is_passed(store):
    await store.append([direct(1), direct(2, to="carol"), post(3, sender="carol"), direct(4)])
    page = await store.read("carol", 2)
    assert (page.entries, page.upto) == ((), 4)


async def test_reading_changes_nothing(store):
    await store.append([direct(1), post(2)])
    assert await store.read("bob", 0) == await store.read("bob", 0)
    assert await store.save_name(record("bob")) == Position(0, 2, 2)


async def test_own_posts_are_passed(store):
    await store.append([post(number) for number in range(200)])
    await store.append([post(300, sender="bob"), post(301)])
    assert await read_all(store, "alice", 0) == [at(201, post(300, sender="bob"))]
    assert (await store.save_name(record("alice"))).waiting == 1


async def test_posts_that_are_no_longer_kept_are_counted(open_store, small_room):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([post(1), post(2, sender="bob"), direct(3), post(4), post(5), post(6), post(7), post(8)])
        entries = await read_all(store, "bob", 0)
        assert [(one.kind, one.seq, one.body) for one in entries] == [
            ("missed", 6, b"4"),
            ("direct", 3, b"hi"),
            *[("group", seq, b"hi all") for seq in (7, 8)],
        ], "one notice, although there is a letter between the posts"
        assert await read_all(store, "bob", 0) == entries, "with the same ids"
        assert {(one.sender, one.recipient, one.key) for one in entries if one.kind == "missed"} == {
            ("bob", "bob", NO_KEY)
        }
        assert (await store.save_name(record("bob"))).waiting == 3
    async with open_store() as store:
        assert await read_all(store, "bob", 0) == entries
        assert await store.append([post(1)]) == [Appended(Status.KNOWN, 1)], "a copy is still known"
        assert [one.body for one in await read_all(store, "carol", 3)] == [b"3", *[b"hi all"] * 2]
        assert [one.seq for one in await read_all(store, "carol", 6)] == [7, 8]
        assert [one.kind for one in await read_all(store, "alice", 0)] == ["group"], "own posts are not counted"


async def test_missed_posts_before_own_ones(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 1)
    await store.append([post(1), post(2, sender="bob")])
    page = await store.read("bob", 0)
    assert ([(one.kind, one.seq, one.body) for one in page.entries], page.upto) == ([("missed", 1, b"1")], 2)


async def test_the_largest_room(store):
    for start in range(0, 10_050, 150):
        await store.append([post(start + number) for number in range(150)])
    page = await store.read("bob", 0)
    assert (page.entries[0].kind, page.entries[0].body) == ("missed", b"150")
    assert (await store.save_name(record("bob"))).waiting == 9_900, "a hundredth goes at once"


async def test_a_room_of_large_posts(store):
    size = 16 * KIB
    for start in range(0, 4097, 100):
        await store.append([post(n, body=b"x" * size) for n in range(start, min(start + 100, 4098))])
    assert (await store.read("bob", 0)).entries[0].body == b"43"
    assert (await store.save_name(record("bob"))).waiting == 4096 * 99 // 100


async def posts_of(store, reader: str = "bob") -> list[tuple[str, int]]:
    """Who has sent the posts that a reader gets, and their numbers."""
    return [(one.sender, one.seq) for one in await read_all(store, reader, 0) if one.kind == EntryKind.GROUP]


async def test_somebody_who_posts_without_end_pushes_out_their_own_posts(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 6)
    await store.append([post(1), post(2, sender="carol")])
    for number in range(3, 40):
        await store.append([post(number, sender="mallory")])
    await store.append([post(40)])
    assert await posts_of(store) == [
        *[("alice", 1), ("carol", 2)],
        *[("mallory", seq) for seq in (37, 38, 39)],
        ("alice", 40),
    ]
    await store.append([post(number) for number in range(41, 50)])
    assert await posts_of(store) == [
        *[("carol", 2), ("mallory", 38), ("mallory", 39)],
        *[("alice", seq) for seq in (47, 48, 49)],
    ], "now alice, too, has more than others"


async def test_one_key_under_many_names_has_one_share(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 4)
    await store.append([post(1), post(2)])
    for number in range(3, 20):
        await store.append([attrs.evolve(post(number, sender="mallory"), sender=f"mallory-{number}")])
    assert [seq for _, seq in await posts_of(store)] == [1, 2, 18, 19]


async def test_somebody_with_large_posts_pushes_out_their_own(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_BYTES", 100)
    await store.append([post(1, body=b"x" * 10), post(2, body=b"x" * 10)])
    for number in range(3, 20):
        await store.append([post(number, sender="mallory", body=b"x" * 30)])
    assert await posts_of(store) == [("alice", 1), ("alice", 2), ("mallory", 18), ("mallory", 19)]


async def test_the_oldest_go_if_a_share_is_less_than_a_post(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_BYTES", 50)
    await store.append([attrs.evolve(post(n, body=b"x" * 10), key=bytes([n]) * 32) for n in range(9)])
    assert [seq for _, seq in await posts_of(store)] == [5, 6, 7, 8, 9]
    monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
    await store.append([attrs.evolve(post(n, body=b""), key=bytes([n]) * 32) for n in range(10, 12)])
    assert [seq for _, seq in await posts_of(store)] == [9, 10, 11]


async def test_each_post_that_is_missed_is_counted_once_and_in_one_notice_for_each_page(store, monkeypatch):
    monkeypatch.setattr(server_log, "ROOM_POSTS", 400)
    posts = [post(number, sender="mallory" if number % 3 else f"friend-{number % 10}") for number in range(1, 901)]
    for start in range(0, 900, 60):
        await store.append(posts[start : start + 60])
    position, pages = 0, []
    while (page := await store.read("bob", position)).upto > position:
        assert await store.read("bob", position) == page, "after a lost acknowledgement"
        pages.append(page.entries)
        position = page.upto
    notices = [entry for entries in pages for entry in entries if entry.kind == EntryKind.MISSED]
    kept = [entry for entries in pages for entry in entries if entry.kind == EntryKind.GROUP]
    assert sum(int(one.body) for one in notices) + len(kept) == 900
    assert len({one.id for one in notices}) == len(notices) <= len(pages) <= 10
    assert all(one is entries[0] for entries in pages for one in entries if one in notices), "first"
    gaps = sum(after.seq - before.seq > 1 for before, after in pairwise(kept))
    assert gaps > 100, "they are among each other"


# --- what is remembered ---


async def test_what_was_handed_over_is_remembered_while_it_is_among_the_newest(store, monkeypatch):
    monkeypatch.setattr(server_log, "REMEMBERED", 10)
    monkeypatch.setattr(server_log, "FORGET_EVERY", 5)
    first, waiting = direct(1), direct(2, to="carol")
    await store.append([first, waiting])
    await store.acknowledge([acknowledged("bob", at(1, first))], 5.0)
    await store.append([post(number) for number in range(4, 11)])
    await store.append([post(number) for number in range(11, 15)])
    assert await store.append([first]) == [Appended(Status.KNOWN, 1, receipt(first))], "14 entries: no step since 10"
    await store.append([post(15)])
    assert await store.append([first]) == new(16), "a copy is a new letter"
    assert await store.append([waiting]) == [Appended(Status.KNOWN, 2)], "it still waits, however old it is"
    assert [one.seq for one in await read_all(store, "carol", 0) if one.kind == "direct"] == [2]


async def test_no_more_posts_are_counted_than_are_remembered(store, small_room, monkeypatch):
    monkeypatch.setattr(server_log, "REMEMBERED", 20)
    monkeypatch.setattr(server_log, "FORGET_EVERY", 10)
    for number in range(1, 101):
        await store.append([post(number)])
    assert [one.body for one in await read_all(store, "bob", 0)] == [b"17", *[b"hi all"] * 3]


async def test_much_that_is_no_longer_remembered_goes_in_steps(store, small_room, monkeypatch):
    monkeypatch.setattr(server_log, "FORGET_EVERY", 10)
    monkeypatch.setattr(server_log, "FORGET_ROWS", 30)
    for number in range(1, 101):
        await store.append([post(number)])
    monkeypatch.setattr(server_log, "REMEMBERED", 20)
    for number, left in ((110, 77), (120, 57), (130, 37), (140, 17), (150, 17)):
        await store.append([post(n) for n in range(number - 9, number + 1)])
        assert (await store.read("bob", 0)).entries[0].body == b"%d" % left


async def test_a_letter_that_is_forgotten_tells_its_sender_nothing(store, monkeypatch):
    monkeypatch.setattr(server_log, "REMEMBERED", 3)
    monkeypatch.setattr(server_log, "FORGET_EVERY", 1)
    await store.append([direct(1)])
    await store.acknowledge([Acknowledged("bob", 1, {1: b""})], 5.0)
    await store.append([post(number) for number in range(2, 6)])
    await store.retain(1e6, 1e6)
    assert {entry.kind for entry in store.told} == {"direct", "group"}


# --- acknowledging ---


async def test_a_letter_that_is_taken_becomes_a_receipt(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        letters = [at(1, direct(1)), at(2, direct(2, sender="Carol")), at(3, direct(3))]
        await store.append([direct(1), direct(2, sender="Carol"), direct(3), post(4)])
        await store.acknowledge([acknowledged("BOB", *letters[:2])], 5.0)
        receipts = [receipt_of(5, letters[0], "bob"), receipt_of(6, letters[1], "bob")]
        assert store.told[4:] == receipts
    async with open_store() as store:
        assert await store.save_name(record("bob")) == Position(2, 2, 6)
        assert await read_all(store, "bob", 0) == [letters[2], at(4, post(4))], "they are gone from the log"
        assert await read_all(store, "alice", 0) == receipts[:1]
        assert await read_all(store, "carol", 4) == receipts[1:]
        assert await store.append([direct(1), direct(3)]) == [
            Appended(Status.KNOWN, 1, receipt(direct(1))),
            Appended(Status.KNOWN, 3),
        ]


async def test_a_late_acknowledgement_changes_nothing(store):
    await store.append([direct(1), direct(2)])
    both, first = acknowledged("bob", at(1, direct(1)), at(2, direct(2))), acknowledged("bob", at(1, direct(1)))
    await store.acknowledge([both], 5.0)
    await store.acknowledge([both, first], 6.0)
    await store.advance({"bob": 1})
    assert await store.save_name(record("bob")) == Position(2, 0, 4)
    assert [entry.seq for entry in await read_all(store, "alice", 0)] == [3, 4], "one receipt each"


async def test_twice_the_same_name_at_once(store):
    await store.append([direct(1), direct(2)])
    first = acknowledged("bob", at(1, direct(1)))
    await store.acknowledge([first, first, acknowledged("Bob", at(1, direct(1)), at(2, direct(2)))], 5.0)
    assert await read_all(store, "alice", 0) == [receipt_of(3, direct(1), "bob"), receipt_of(4, direct(2), "bob")]


@pytest.mark.parametrize("receipts", [{}, {2: b""}], ids=["no receipt", "an empty receipt"])
async def test_of_a_letter_without_a_receipt_its_sender_hears_what_they_hear_of_an_unread_one(open_store, receipts):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([direct(1), direct(2), direct(3, to="carol")])
        await store.acknowledge([Acknowledged("bob", 2, {1: receipt(at(1, direct(1)))} | receipts)], 5.0)
        assert await store.save_name(record("bob")) == Position(2, 0, 4), "it is not handed out again"
        assert await read_all(store, "alice", 0) == [receipt_of(4, direct(1), "bob")]
        assert await store.append([direct(2), direct(3, to="carol")]) == [
            Appended(Status.KNOWN, 2),
            Appended(Status.KNOWN, 3),
        ]
    async with open_store() as store:
        assert await store.append([direct(60), direct(61)]) == new(5, 6)
        await store.retain(150.0, 200.0)
        assert await read_all(store, "alice", 6) == [
            failed(7, direct(2), "bob", 200.0),
            failed(8, direct(3, to="carol"), "carol", 200.0),
        ]
        assert await store.save_name(record("bob")) == Position(2, 2, 8), "it is not subtracted twice"


async def test_a_new_owner_lets_letters_without_a_receipt_fail(store):
    await store.append([direct(1), direct(2), direct(3)])
    await store.acknowledge([Acknowledged("bob", 2, {1: b"", 2: receipt(at(2, direct(2)))})], 5.0)
    await store.forget("bob")
    for _ in range(2):
        await store.save_name(record("bob", owner="mallory", since=6.0))
        assert await read_all(store, "alice", 4) == [failed(5, direct(1), "bob", 6.0), failed(6, direct(3), "bob", 6.0)]
    await store.retain(150.0, 200.0)
    assert await head(store) == 6


async def test_receipts_cause_no_receipts(store):
    await store.append([direct(1), direct(2, sender="bob", to="alice")])
    await take_all(store, "bob", receipt)
    await take_all(store, "alice", receipt)
    assert await head(store) == 4
    await take_all(store, "alice", receipt)
    await take_all(store, "bob", receipt)
    assert await head(store) == 4
    for name in PEOPLE:
        assert await read_all(store, name, 0) == []


async def test_a_receipt_is_of_the_name_and_key_that_took_the_letter(store):
    await store.append([direct(1)])
    await store.save_name(record("BOB"))
    await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5.0)
    (entry,) = await read_all(store, "alice", 0)
    assert (entry.sender, entry.key, entry.recipient) == ("BOB", key_of("bob"), "alice")


async def test_positions_advance_past_posts_and_receipts(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([direct(1, sender="bob", to="alice"), post(2)])
        await take_all(store, "alice", receipt)
        await store.advance({"Bob": 3, "carol": 2})
        await store.advance({"carol": 1, "alice": 0})
    async with open_store() as store:
        assert await store.save_name(record("bob")) == Position(3, 0, 3)
        assert await store.save_name(record("carol")) == Position(2, 0, 3)
        assert await read_all(store, "bob", 0) == [at(2, post(2))], "the receipt is gone, the post is for others too"


# --- telling what was appended ---


async def test_the_server_is_told_of_everything_in_order(store):
    await store.append([direct(1), post(2), direct(1)])
    await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5.0)
    await store.append([direct(3)])
    await store.save_name(record("bob", owner="mallory"))
    await store.append([direct(4, to="carol")])
    while await store.retain(1e6, 1e6):
        pass
    kinds = ["direct", "group", "receipt", "direct", "failed", "direct", "failed"]
    assert [(entry.seq, entry.kind) for entry in store.told] == list(enumerate(kinds, 1))


async def test_the_server_is_told_before_the_caller_goes_on(store):
    async def append(number):
        (appended,) = await store.append([direct(number)])
        told.append((number, store.told[-1].seq >= appended.seq))

    told: list[tuple[int, bool]] = []
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(append, number)
    assert sorted(told) == [(number, True) for number in range(50)]
    assert [entry.seq for entry in store.told] == list(range(1, 51))


async def test_what_was_appended_before_the_load_is_not_told(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        first, second = store.told, []
        await store.append([direct(1)])
        _, head = await store.load(second.extend)
        await store.append([direct(2)])
        assert (head, first, second) == (1, [at(1, direct(1))], [at(2, direct(2))])


# --- what is too old ---


async def test_what_is_too_old_is_removed_and_unread_letters_fail(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([direct(1), post(2), direct(3, sender="carol"), direct(4), post(5)])
        await store.acknowledge([acknowledged("bob", at(1, direct(1)))], 5000.0)
        while await store.retain(104.0, 6000.0):
            pass
        assert store.told[-1] == failed(7, direct(3, sender="carol"), "bob", 6000.0)
        assert await store.append([direct(1), direct(4)]) == [*new(8), Appended(Status.KNOWN, 4)]
    async with open_store() as store:
        assert [entry.seq for entry in await read_all(store, "bob", 1)] == [4, 5, 8]
        assert await read_all(store, "carol", 0) == [
            at(5, post(5)),
            failed(7, direct(3, sender="carol"), "bob", 6000.0),
        ]


async def test_the_order_of_removal_is_that_of_the_log(store):
    await store.append([attrs.evolve(post(number), taken_at=at_) for number, at_ in enumerate([1.0, 9.0, 2.0, 3.0])])
    await store.retain(5.0, 10.0)
    assert [entry.seq for entry in await read_all(store, "bob", 0)] == [2, 3, 4], "the second is young enough"
    await store.retain(9.5, 10.0)
    assert await read_all(store, "bob", 0) == []


async def test_what_is_dated_in_the_future_is_dated_now(store):
    await store.append([attrs.evolve(direct(1), taken_at=9000.0), direct(2)])
    assert await store.retain(50.0, 1000.0) is False
    assert [entry.taken_at for entry in await read_all(store, "bob", 0)] == [1000.0, 102.0]
    await store.retain(1000.0, 2000.0)
    assert len(await read_all(store, "bob", 0)) == 2, "as if it had come now"
    await store.retain(1000.5, 2000.0)
    assert await read_all(store, "bob", 0) == []


async def test_positions_stay_when_entries_are_removed(store):
    await store.append([direct(1), post(2), post(3)])
    await store.retain(1e6, 1e6)
    assert await store.save_name(record("bob")) == Position(0, 0, 4)
    page = await store.read("bob", 0)
    assert (page.entries, page.upto) == ((), 4)


async def test_removed_posts_are_not_counted_as_missed(store, small_room):
    await store.append([post(number) for number in range(1, 7)])
    await store.retain(103.0, 1000.0)
    assert [entry.body for entry in await read_all(store, "bob", 0)] == [b"1", *[b"hi all"] * 3]
    await store.retain(105.0, 1000.0)
    assert [entry.seq for entry in await read_all(store, "bob", 0)] == [5, 6]
    await store.append([post(7)])
    kept = await read_all(store, "bob", 0)
    assert [(entry.seq, entry.kind) for entry in kept] == [(seq, "group") for seq in (5, 6, 7)], (
        "there is room for three"
    )


async def test_many_old_letters_fail_in_the_order_of_the_log(store, no_shares):
    letters = [direct(number, to=PEOPLE[number % 2 + 1]) for number in range(1200)]
    await store.append(letters)
    while await store.retain(1e6, 1e6):
        pass
    assert [(one.kind, one.id) for one in store.told[1200:]] == [("failed", letter.id) for letter in letters]
