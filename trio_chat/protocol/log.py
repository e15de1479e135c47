"""The server's log (pure): entries in one order, what of them each name gets, and which of them go into one batch.

The stores have the same log on disk (see storage/interface.py), the server keeps its newest part in memory.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import merge
from itertools import islice
from operator import attrgetter

import attrs

from trio_chat.protocol.messages import MAX_BATCH, MAX_RECEIPTS
from trio_chat.protocol.records import EVERYONE, NO_KEY, Entry, EntryKind, fold

BATCH_BYTES = 24 * 1024
ENTRY_OVERHEAD = 450
"""Bytes that an entry adds to a batch besides its body: its other fields, and the credentials of its sender."""

ROOM_POSTS = 10_000
ROOM_BYTES = 64 * 1024 * 1024
"""How many posts are kept, and how many bytes of them. Older ones lose their bodies and are only counted."""

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


def with_notices(
    entries: Iterable[Entry], after: int, head: int, notice: Callable[[int, int], Entry | None]
) -> Iterator[Entry]:
    """These entries, and before each the notice of posts that are missed between it and the one before, if any.

    `notice(after, before)` makes it from the numbers of both; the last one is for what comes after all, up to `head`.
    """
    passed = after
    for entry in entries:
        if missed := notice(passed, entry.seq):
            yield missed
        yield entry
        passed = entry.seq
    if missed := notice(passed, head + 1):
        yield missed


def about_letter(letter: Entry, kind: EntryKind, reader: tuple[str, bytes], at: float, body: bytes = b"") -> Entry:
    """An entry for the sender of a letter that says what became of it. `reader`: the recipient's name and key."""
    return Entry(0, kind, letter.id, *reader, fold(letter.sender), at, body)


def missed_posts(name: str, count: int, first: int, last: int) -> Entry:
    """The notice for a name that these posts are no longer kept. The same posts always make the same notice.

    So it is shown once, unless one more post is trimmed after a client has stored it and before the server knows that.
    """
    id_ = hashlib.sha256(f"missed {EVERYONE} {first} {last}".encode()).digest()[:16]
    return Entry(last, EntryKind.MISSED, id_, name, NO_KEY, fold(name), 0.0, b"%d" % count)


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
    """Entries in memory, from some number on. A position is the number up to which a name has everything."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        """The number of the last entry."""
        self.floor = head
        """What has this number or a lower one is not here."""
        self._personal: dict[str, list[Entry]] = {}
        self._posts: list[Entry] = []
        self._trimmed: list[Entry] = []
        self._post_bytes = 0
        self.size = 0
        """Bytes of the posts and letters that are here."""
        self._shared: dict[int, tuple[Page, set[str]]] = {}

    def append(self, entry: Entry) -> None:
        """Add the next entry: its number is that of the head and one."""
        # Whatever is handed out up to a number must be everything up to it: a gap would be passed for good.
        if entry.seq != self.head + 1:
            raise ValueError(f"entry {entry.seq} after {self.head}")
        self.head = entry.seq
        self._shared.clear()
        self.size += len(entry.body)
        if entry.recipient != EVERYONE:
            self._personal.setdefault(entry.recipient, []).append(entry)
            return
        self._posts.append(entry)
        self._post_bytes += len(entry.body)
        while len(self._posts) > ROOM_POSTS or self._post_bytes > ROOM_BYTES:
            oldest = self._posts.pop(0)
            self._post_bytes -= len(oldest.body)
            self.size -= len(oldest.body)
            self._trimmed.append(attrs.evolve(oldest, body=b""))

    def read(self, name: str, after: int) -> Page:
        """What comes next for a name (in lower case) at this position, which must not be below the floor."""
        # Most names have only posts here, and the same position: what comes for them is found once. Notices of posts
        # that are missed have names in them.
        if not _has_after(self._personal.get(name, []), after) and not _has_after(self._trimmed, after):
            page, senders = self._shared.get(after) or self._share(after)
            if name not in senders:
                return page
        return first_batch(self._entries_for(name, after), self.head)

    def _share(self, after: int) -> tuple[Page, set[str]]:
        """What comes at this position for all names but those that have sent some of it, and these names."""
        # No person has the name EVERYONE: no post is left out, and nothing is for them alone.
        page = first_batch(self._entries_for(EVERYONE, after), self.head)
        # The post behind the page decides where it ends: for its sender that may be later.
        posts = (*page.entries, *islice(_after(self._posts, page.upto), 1))
        self._shared[after] = page, {fold(post.sender) for post in posts}
        return self._shared[after]

    def _entries_for(self, name: str, after: int) -> Iterator[Entry]:
        """All that comes for a name. Few of many are looked at: a reader who is far behind gets them batch by batch."""
        personal = _after(self._personal.get(name, []), after)
        posts = (post for post in _after(self._posts, after) if fold(post.sender) != name)
        return with_notices(merge(personal, posts, key=_seq), after, self.head, partial(self._notice, name))

    def _notice(self, name: str, after: int, before: int) -> Entry | None:
        if not _has_after(self._trimmed, after):
            return None
        missed = [post.seq for post in _after(self._trimmed, after) if post.seq < before and fold(post.sender) != name]
        return missed_posts(name, len(missed), missed[0], missed[-1]) if missed else None

    def waiting(self, name: str, after: int) -> int:
        """How many letters and posts come for a name after this position; receipts and notices do not count."""
        letters = [one for one in _after(self._personal.get(name, []), after) if one.kind == EntryKind.DIRECT]
        return len(letters) + sum(fold(post.sender) != name for post in _after(self._posts, after))

    def letters(self, name: str) -> list[Entry]:
        """The letters for a name that are here."""
        return [entry for entry in self._personal.get(name, []) if entry.kind == EntryKind.DIRECT]

    def entries(self) -> list[Entry]:
        """All that is here, in order; posts that are no longer kept have no body."""
        return list(merge(*self._personal.values(), self._posts, self._trimmed, key=_seq))

    def date_back(self, now: float) -> None:
        """Date what was taken later than now, because the clock was wrong, as of now."""
        self._date(lambda at: min(at, now))

    def date_forward(self, before: float, now: float) -> None:
        """The clock was set forward: date what was taken before this time as of now."""
        self._date(lambda at: now if at < before else at)

    def _date(self, time: Callable[[float], float]) -> None:
        for entries in (*self._personal.values(), self._posts, self._trimmed):
            for place, entry in enumerate(entries):
                if entry.taken_at != time(entry.taken_at):
                    entries[place] = attrs.evolve(entry, taken_at=time(entry.taken_at))
        self._shared.clear()

    def take(self, name: str, upto: int) -> list[Entry]:
        """Remove what is for this name alone, up to this number; return it."""
        personal = self._personal.get(name, [])
        count = bisect_right(personal, upto, key=_seq)
        taken, personal[:count] = personal[:count], []
        self.size -= sum(len(entry.body) for entry in taken)
        if not personal:
            self._personal.pop(name, None)
        return taken

    def drop_older(self, before: float) -> None:
        """Drop the oldest entries, up to the first one that was not taken before this time."""
        young = (entry.seq for entry in self.entries() if entry.taken_at >= before)
        self.drop(next(young, self.head + 1) - 1)

    def drop(self, upto: int) -> None:
        """Forget everything up to this number: from now on that is the floor."""
        self.floor = max(self.floor, upto)
        self._shared.clear()
        for name in list(self._personal):
            self.take(name, upto)
        for posts in (self._posts, self._trimmed):
            del posts[: bisect_right(posts, upto, key=_seq)]
        dropped = self._post_bytes - sum(len(post.body) for post in self._posts)
        self._post_bytes -= dropped
        self.size -= dropped


def _has_after(entries: list[Entry], seq: int) -> bool:
    return bool(entries) and entries[-1].seq > seq


def _after(entries: list[Entry], seq: int) -> Iterator[Entry]:
    return (entries[place] for place in range(bisect_right(entries, seq, key=_seq), len(entries)))
