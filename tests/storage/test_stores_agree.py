"""The server's store and its model do the same, whatever happens to them: random stories for both at once.

The limits are lowered, so that a short story reaches them. Hypothesis makes the same stories each time, and shortens
the one that fails.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import attrs
import hypothesis
import hypothesis.strategies as st
import pytest

from tests.memory_folder import MEMORY
from tests.storage.backends import inline
from tests.storage.log_entries import PEOPLE, begin, create, direct, id_of, join, key_of, leave, post, record, sealed
from tests.storage.model import Limits, ModelStore
from trio_chat.protocol import log
from trio_chat.protocol.limits import Limits as ServerLimits
from trio_chat.protocol.records import EntryKind
from trio_chat.storage import epoch_rows, mailboxes, past_owners, server_log, server_retention
from trio_chat.storage.interface import Acknowledged
from trio_chat.storage.server_store import open_server_store

LIMITS = Limits(
    9,
    24,
    posts=6,
    post_bytes=9,
    trim_part=4,
    remembered=12,
    forget_every=4,
    forget_rows=3,
    past_owners=3,
    all_bytes=14,
    epoch_bytes=1200,
)
LOWER = {
    "EPOCHS_BYTES": (LIMITS.epoch_bytes, epoch_rows),
    "READ_EPOCHS": (1, epoch_rows),
    "ALL_ROOMS_BYTES": (LIMITS.all_bytes, server_log),
    "MAX_PAST_OWNERS": (LIMITS.past_owners, past_owners),
    "MAILBOX_LETTERS": (LIMITS.letters, mailboxes),
    "MAILBOX_BYTES": (LIMITS.letter_bytes, mailboxes),
    "ROOM_POSTS": (LIMITS.posts, server_log),
    "ROOM_BYTES": (LIMITS.post_bytes, server_log),
    "TRIM_PART": (LIMITS.trim_part, server_log),
    "REMEMBERED": (LIMITS.remembered, server_log),
    "FORGET_EVERY": (LIMITS.forget_every, server_log),
    "FORGET_ROWS": (LIMITS.forget_rows, server_log),
    "MAX_BATCH": (3, log),
    "MAX_RECEIPTS": (2, log),
    "RETAIN_ROWS": (2, server_retention),
}

ROOM_LIMITS = ServerLimits(rooms=4, rooms_per_key=2, members_per_room=2)

people = st.sampled_from(PEOPLE)
bodies = st.sampled_from([b"", b"a", b"bb", b"cccc"])
letters = st.builds(direct, st.integers(0, 5), sender=people, to=people, body=bodies)
names = st.sampled_from(["lunch", "Lunch", "work", "everyone"])
rooms = st.builds(lambda number, sender: id_of(create(number, sender=sender)), st.integers(0, 1), people)
posts = st.builds(post, st.integers(0, 5), sender=people, room=st.just("") | rooms, body=bodies)
private = st.sampled_from([begin(0, "alice", name="tea"), begin(0, "bob", sender="bob", owners=("bob",), name="den")])
room_changes = (
    st.builds(create, st.integers(0, 1), sender=people, name=names)
    | st.builds(join, st.integers(0, 5), sender=people, name=names)
    | st.builds(leave, st.integers(0, 5), rooms | private.map(lambda first: first.recipient), sender=people)
)
times = st.integers(100, 110).map(float)
requests = st.builds(lambda entry, at: attrs.evolve(entry, taken_at=at), letters | posts | posts, times)
members = st.lists(people, unique=True, min_size=1).map(tuple)
spelled = st.sampled_from([*PEOPLE, "Alice", "BOB"])

STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(requests, max_size=6)),
    st.tuples(st.just("append"), st.lists(requests, max_size=6)),
    st.tuples(st.just("take"), people, st.integers(1, 3), st.integers(0, 3)),
    st.tuples(st.just("take"), people, st.integers(1, 3), st.integers(0, 3)),
    st.tuples(st.just("change_room"), room_changes, st.sampled_from(["", "a", "b"])),
    st.tuples(st.just("change_room"), room_changes, st.sampled_from(["", "a", "b"])),
    st.tuples(st.just("begin"), st.integers(0, 9), private, people, members, st.sampled_from([0, 0, 0, 0, 1])),
    st.tuples(st.just("begin"), st.integers(0, 9), private, people, members, st.sampled_from([0, 0, 0, 0, 1])),
    st.tuples(st.just("seal"), st.integers(0, 9), private, people, st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("register"), spelled, st.sampled_from([None, None, None, "mallory"])),
    st.tuples(st.just("forget"), spelled, st.sampled_from(["", "aaaa-bbbb-cccc-dddd"])),
    st.tuples(st.just("delete"), spelled),
    st.tuples(st.just("note_online"), spelled, st.sampled_from([7.0, ("10.0.0.9", 9), ("fe80::1%eth0", 9)])),
    st.builds(lambda one, other, *there: ("unused", there, min(one, other), max(one, other)), times, times, people),
    st.builds(lambda one, other: ("retain", min(one, other), max(one, other)), times, times),
    st.builds(lambda one, other: ("date_forward", min(one, other), max(one, other)), times, times),
)


# Counts that are kept, and what they count.
COUNTS = [
    (
        "SELECT name, letters, bytes FROM mailboxes WHERE letters > 0 OR bytes > 0 ORDER BY name",
        "SELECT recipient, count(*), sum(length(body)) FROM entries WHERE kept AND kind = 'direct'"
        " GROUP BY recipient ORDER BY recipient",
    ),
    (
        "SELECT id, posts, bytes FROM rooms WHERE posts > 0 ORDER BY id",
        "SELECT recipient, count(*), coalesce(sum(length(body)), 0) FROM entries WHERE kept AND kind = 'group'"
        " AND recipient IN (SELECT id FROM rooms) GROUP BY recipient ORDER BY recipient",
    ),
    (
        "SELECT id, members FROM rooms WHERE members > 0 ORDER BY id",
        "SELECT room, count(*) FROM members GROUP BY room ORDER BY room",
    ),
]


class Pair:
    """The model and a store. Each step is done with both, and must have the same result."""

    def __init__(self, one, other):
        self.stores = (one, other)
        self.told = ([], [])
        self.names = {name: record(name) for name in PEOPLE}
        self.acknowledged = []

    async def start(self):
        results = [await store.load(told.extend) for store, told in zip(self.stores, self.told, strict=True)]
        assert results[0] == results[1]
        for name in PEOPLE:
            await self.both("save_name", self.names[name])

    async def both(self, method, *arguments):
        results = [await getattr(store, method)(*arguments) for store in self.stores]
        assert results[0] == results[1], method
        assert self.told[0] == self.told[1]
        return results[0]

    async def append(self, entries):
        await self.both("append", entries)

    async def change_room(self, entry, origin):
        await self.both("change_room", entry, ROOM_LIMITS, origin)

    async def begin(self, number, first, other, members, late):
        """The first epoch of a room, or one after the present one, or after the one before."""
        own = await self.both("epoch", first.recipient, 0, first.sender, first.key)
        if own is None:
            await self.change_room(first, "")
            return
        sender = other if late else first.sender
        before = await self.both("epoch", first.recipient, max(own.n - late, 1), first.sender, first.key)
        after = attrs.evolve(first, body=(before or own).body)
        listed = tuple(dict.fromkeys((sender, *members)))
        owners = tuple(dict.fromkeys((sender, *members[:1])))[: 1 + late]
        entry = begin(10 + number, *listed, sender=sender, after=after, owners=owners)
        await self.change_room(attrs.evolve(entry, taken_at=105.0), "")

    async def seal(self, number, first, sender, late):
        own = await self.both("epoch", first.recipient, 0, first.sender, first.key)
        n = own.n - late if own else 1
        await self.both("append", [sealed(10 + number, n, first.recipient, sender=sender, body=b"")])

    async def register(self, name, owner):
        self.names[name.lower()] = record(name, owner=owner)
        await self.both("save_name", self.names[name.lower()])

    async def forget(self, name, only_for):
        await self.both("forget", name, only_for)

    async def delete(self, name):
        await self.both("delete", name, 105.0)

    async def note_online(self, name, address):
        await self.both("note_online", {name: address, "alice": address})

    async def unused(self, online, before, now):
        await self.both("unused", online, before, now)

    async def date_forward(self, before, now):
        await self.both("date_forward", before, now)

    async def take(self, name, count, late):
        """As a server does: the first entries of a page, of one after the last page, or once more an earlier page."""
        position = await self.both("save_name", self.names[name])
        page = await self.both("read", name, position.seq)
        entries = page.entries[:count]
        if entries and entries[0].kind == EntryKind.MISSED:
            entries = page.entries  # as a whole, or not at all
        upto = page.upto if len(entries) == len(page.entries) else entries[-1].seq
        # No receipt for some: their senders are told nothing.
        receipts = {one.seq: one.id[::-1] * (one.body != b"bb") for one in entries if one.kind == EntryKind.DIRECT}
        if not receipts:
            await self.both("advance", {name: upto})
            return
        self.acknowledged.append(Acknowledged(name, upto, receipts))
        await self.both("acknowledge", self.acknowledged[-1 - late :], 105.0)

    async def retain(self, before, now):
        for store in self.stores:
            while await store.retain(before, now):
                pass
        assert self.told[0] == self.told[1]

    async def check(self, names=PEOPLE):
        for name in names:
            position = await self.both("save_name", self.names[name])
            for after in {0, position.seq, position.head // 2, position.head}:
                one, other = [await read_pages(store, name, after) for store in self.stores]
                assert one == other, (name, after)
        lists = [(name, key_of(name), after, own) for name in names for after in ("", "lunch") for own in (True, False)]
        for one in lists:
            for room in await self.both("list_rooms", *one, 2):
                await self.both("list_members", room.id, "alice", 1)
        await self.both("past_owners")
        await self.both("online")
        heads = [await store.load(told.extend) for store, told in zip(self.stores, self.told, strict=True)]
        assert heads[0] == heads[1]


async def read_pages(store, name, after):
    """All pages from here to the end of the log."""
    pages = []
    while not pages or pages[-1].upto > after:
        after = pages[-1].upto if pages else after
        pages.append(await store.read(name, after))
    return pages


@hypothesis.settings(max_examples=50)
@hypothesis.given(st.lists(STEPS, min_size=8, max_size=40))
async def test_the_store_does_what_the_model_does(steps):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for name, (limit, module) in LOWER.items():
            patch.setattr(module, name, limit)
        path, model = Path(folder) / "store.db", ModelStore(LIMITS)
        async with open_server_store(path, inline) as store:
            pair = Pair(model, store)
            await pair.start()
            for number, (method, *arguments) in enumerate(steps):
                await getattr(pair, method)(*arguments)
                await pair.check(PEOPLE[number % 3 :][:1])
        async with open_server_store(path, inline) as store:
            pair.stores = (model, store)
            await pair.check()
            assert store.damaged == 0
        with closing(sqlite3.connect(path)) as database:
            for kept, counted in COUNTS:
                assert database.execute(kept).fetchall() == database.execute(counted).fetchall()
