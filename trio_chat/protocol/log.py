"""The server's log (pure): entries in one order, what of them each name gets, and which of them go into one batch.

The store has all of it (see storage/server_log.py), the server keeps the newest part in memory.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from operator import attrgetter
from types import MappingProxyType

import attrs

from trio_chat.protocol.messages import MAX_BATCH, MAX_RECEIPTS
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, fold, is_room

BATCH_BYTES = 24 * 1024
ENTRY_OVERHEAD = 450
"""Bytes that an entry adds to a batch besides its body: its other fields, and the credentials of its sender.

The names of rooms, at most 70 bytes for each entry, are in what a request may be longer than BATCH_BYTES.
"""

ROOM_POSTS = 10_000
ROOM_BYTES = 64 * 1024 * 1024
"""How many posts are kept, and how many bytes of them. The others lose their bodies and are only counted."""

ALL_ROOMS_BYTES = 1024 * 1024 * 1024
"""How many bytes of posts are kept in all rooms together."""

EPOCHS_BYTES = 1024 * 1024
"""How many bytes of epochs are kept for a private room. Posts of older ones are not kept, either."""

REMEMBERED = 1_000_000
"""How many of the newest entries are remembered after they were handed over, or are no longer kept."""

NO_ROOMS: Mapping[str, int] = MappingProxyType({})
_seq = attrgetter("seq")


@attrs.frozen
class Page:
    """What comes next for a name, and the position that it has when it has taken all of it.

    `upto` passes what is not for the name. Without entries it may be further than the position was: then that is the
    position now.
    """

    entries: tuple[Entry, ...]
    upto: int


def first_batch(entries: Iterable[Entry], upto: int) -> Page:
    """The first of these entries, as many as go into one message, at least one. `upto`: the position after all."""
    batch: list[Entry] = []
    size = letters = 0
    for entry in entries:
        size += len(entry.body) + ENTRY_OVERHEAD
        letters += entry.kind == EntryKind.DIRECT
        if batch and (size > BATCH_BYTES or letters > MAX_RECEIPTS or len(batch) == MAX_BATCH):
            return Page(tuple(batch), batch[-1].seq)
        batch.append(entry)
    return Page(tuple(batch), upto)


def about_letter(letter: Entry, kind: EntryKind, reader: tuple[str, bytes], at: float, body: bytes = b"") -> Entry:
    """An entry for the sender of a letter that says what became of it. `reader`: the recipient's name and key."""
    return Entry(0, kind, letter.id, *reader, fold(letter.sender), at, body)


def missed_posts(name: str, rooms: Iterable[str], count: int, first: int, last: int) -> Entry:
    """The notice for a name that posts to these rooms are no longer kept: so many, from the first to the last of them.

    The same posts always make the same notice. So each is counted once, unless one more post is trimmed after a client
    has stored the notice and before the server knows that. It says which room it was, if it was one alone.
    """
    listed = sorted(rooms)
    id_ = hashlib.sha256(f"missed {' '.join(listed)} {first} {last}".encode()).digest()[:16]
    body = f"{count} {listed[0]}" if len(listed) == 1 and listed[0] else f"{count}"
    return Entry(last, EntryKind.MISSED, id_, name, NO_KEY, fold(name), 0.0, body.encode())


def removed_from(room: str, member: str, epoch: Entry) -> Entry:
    """The notice for a member whom the owner has removed from a private room with this epoch."""
    return Entry(0, EntryKind.REMOVED, epoch.id, epoch.sender, epoch.key, fold(member), epoch.taken_at, room.encode())


def room_of(entry: Entry) -> str:
    """The id of the room that an entry is about: a post to it, or a notice of it. EVERYONE if it is about none."""
    match entry.kind:
        case EntryKind.MISSED:
            return entry.body.decode(errors="replace").partition(" ")[2]
        case EntryKind.REMOVED:
            return entry.body.decode(errors="replace")
    return entry.recipient if is_room(entry.recipient) else EVERYONE


def sender_left_out(entry: Entry) -> str | None:
    """Who does not get an entry of a room because they have sent it, in lower case. None: all members get it."""
    # An epoch has the key of the room: its sender, too, may have to get it from the server.
    return None if entry.kind == EntryKind.EPOCH else fold(entry.sender)


def request_hash(entry: Entry) -> bytes:
    """What a request with the same id must have in common with the first one: its recipient and its body."""
    # Names have no space: no other recipient and body make the same bytes.
    return hashlib.sha256(f"{entry.recipient} ".encode() + entry.body).digest()


def request_number(kind: bytes, key: bytes, id: bytes) -> int:
    """What a request is looked up by: 63 bits, made of what identifies it. Two requests may have the same number.

    Of a hash: clients choose their ids and keys, and many requests under one number would make looking it up slow.
    """
    return int.from_bytes(hashlib.sha256(kind + key + id).digest()[:8], "big") >> 1


class Log:
    """The newest entries, in memory. A position is the number up to which a name has everything."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        """The number of the last entry."""
        self.floor = head
        """What has this number or a lower one is not here."""
        self.size = 0
        """Bytes of the bodies that are here."""
        self._entries: dict[str, list[Entry]] = {}
        self._shared: dict[tuple[int, tuple[str, ...]], tuple[Page, set[str]]] = {}

    def append(self, entry: Entry) -> None:
        """Add the next entry: its number is that of the head and one."""
        # Whatever is handed out up to a number must be everything up to it: a gap would be passed for good.
        if entry.seq != self.head + 1:
            raise ValueError(f"entry {entry.seq} after {self.head}")
        self.head = entry.seq
        self._shared.clear()
        self.size += len(entry.body)
        self._entries.setdefault(entry.recipient, []).append(entry)

    def read(self, name: str, after: int, rooms: Mapping[str, int] = NO_ROOMS) -> Page:
        """What comes next for a name (in lower case) at this position, which must not be below the floor.

        `rooms`: the rooms that the name is in besides that of everyone, and the entry with which it joined each.
        """
        active = [room for room in rooms if (entries := self._entries.get(room)) and entries[-1].seq > after]
        personal = self._entries.get(name)
        # Most names have only posts here, from the same rooms, and the same position: what comes for them is found
        # once. Not for those who have joined after their position.
        if (personal is None or personal[-1].seq <= after) and all(rooms[room] <= after for room in active):
            rooms_read = (EVERYONE, *sorted(active))
            page, senders = self._shared.get((after, rooms_read)) or self._share(after, rooms_read)
            if name not in senders:
                return page
        joined = {EVERYONE: 0, **{room: rooms[room] for room in active}}
        return first_batch(self._entries_for(name, after, joined), self.head)

    def _share(self, after: int, rooms: tuple[str, ...]) -> tuple[Page, set[str]]:
        """What comes at a position from these rooms for all but those who have sent some of it, and their names."""
        page = first_batch(self._posts(rooms, after), self.head)
        # The post behind the page decides where it ends: for its sender that may be later.
        posts = (*page.entries, *islice(self._posts(rooms, page.upto), 1))
        self._shared[after, rooms] = page, {name for post in posts if (name := sender_left_out(post))}
        return self._shared[after, rooms]

    def _posts(self, rooms: Iterable[str], after: int) -> Iterator[Entry]:
        return merge(*(self._after(room, after) for room in rooms), key=_seq)

    def _entries_for(self, name: str, after: int, joined: Mapping[str, int]) -> Iterator[Entry]:
        found = merge(*(self._after(room, max(after, seq)) for room, seq in joined.items()), key=_seq)
        return merge(self._after(name, after), (post for post in found if sender_left_out(post) != name), key=_seq)

    def _after(self, recipient: str, seq: int) -> Iterator[Entry]:
        """What is for a recipient. Few of many are looked at: who is far behind gets them batch by batch."""
        entries = self._entries.get(recipient, [])
        return (entries[place] for place in range(bisect_right(entries, seq, key=_seq), len(entries)))

    def date_back(self, now: float) -> None:
        """Date what was taken later than now, because the clock was wrong, as of now."""
        for entries in self._entries.values():
            entries[:] = [one if one.taken_at <= now else attrs.evolve(one, taken_at=now) for one in entries]
        self._shared.clear()

    def drop_older(self, before: float) -> None:
        """Drop the oldest entries, up to the first one that was not taken before this time."""
        young = (one.seq for entries in self._entries.values() for one in entries if one.taken_at >= before)
        self.drop(min(young, default=self.head + 1) - 1)

    def drop(self, upto: int) -> None:
        """Forget everything up to this number: from now on that is the floor."""
        self.floor = max(self.floor, upto)
        self._shared.clear()
        for recipient, entries in list(self._entries.items()):
            count = bisect_right(entries, upto, key=_seq)
            self.size -= sum(len(one.body) for one in entries[:count])
            del entries[:count]
            if not entries:
                del self._entries[recipient]
