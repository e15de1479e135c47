"""The log in the server's store: what a transaction appends to it, reads, takes and removes.

Rows are checked when they are read. A damaged one is set aside, and the others are served. The tables are in
server_schema.py, names and requests in server_store.py.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import repeat
from operator import attrgetter
from typing import Any

import attrs
import msgspec

from trio_chat.protocol.log import (
    ALL_ROOMS_BYTES,
    REMEMBERED,
    ROOM_BYTES,
    ROOM_POSTS,
    Page,
    first_batch,
    missed_posts,
)
from trio_chat.protocol.records import NO_KEY, Entry, EntryKind, PublicKeys, is_private, is_room
from trio_chat.storage.epoch_rows import epochs_after
from trio_chat.storage.shares import fair_share

TRIM_PART = 100
"""When there are too many posts, one in so many is trimmed at once: what each key has is counted in all of them."""

FORGET_EVERY = 250
"""After so many entries, those are looked for that are no longer remembered."""

FORGET_ROWS = 1000
"""The most that are then removed. More than FORGET_EVERY: a file may have many more when it gets its limit."""

READ_POSTS = 16
"""How many numbers of posts to a room are read at once. The posts themselves are read when it is their turn."""

COUNTED_POSTS = 10_000
"""How many of the posts that wait are counted when a name is registered: in 100 rooms there may be a million."""

COUNT_POSTS = """
    UPDATE rooms SET
        (posts, bytes) = (
            SELECT count(*), coalesce(sum(length(body)), 0) FROM entries
            WHERE kept = 1 AND recipient = rooms.id AND recipient < '$'
        ),
        latest = max(
            coalesce((SELECT max(seq) FROM entries WHERE recipient = rooms.id AND recipient < '$'), 0),
            coalesce((SELECT max(seq) FROM epochs WHERE room = rooms.id), 0)
        ),
        trimmed = coalesce((
            SELECT max(seq) FROM entries WHERE kept = 0 AND recipient = rooms.id AND recipient < '$'
        ), 0)"""
_COUNT_LETTERS = """
    UPDATE mailboxes SET (letters, bytes) = (
        SELECT count(*), coalesce(sum(length(body)), 0) FROM entries
        WHERE kept = 1 AND recipient = lower(?1) AND recipient > '$' AND kind = 'direct'
    ) WHERE name = ?1"""

_FIELDS = ("seq", "kind", "sender", "key", "id", "recipient", "taken_at", "body")

# Names begin with a letter or a digit, ids of rooms with `#` or `!`: what is below `$` is a room, and there is an index
# for each of the two. Own posts are passed without reading their rows. With `= ?1` instead of `= lower(?1)` SQLite
# would plan each time, in case the other index fits: that takes ten times as long.
_PERSONAL = """
    SELECT seq, kind, sender, key, id, recipient, taken_at, body FROM entries
    WHERE kept = 1 AND recipient = lower(?) AND recipient > '$' AND seq > ? ORDER BY seq"""
_POSTS = """
    SELECT seq FROM entries
    WHERE kept = 1 AND recipient = lower(?) AND recipient < '$' AND seq > ? AND sender IS NOT ? ORDER BY seq LIMIT ?"""
_seq = attrgetter("seq")
_POST = "SELECT seq, kind, sender, key, id, recipient, taken_at, body FROM entries WHERE seq = ?"
# Those with something behind the position.
_ROOMS_OF = """
    SELECT id, max(joined, ?2), trimmed FROM members CROSS JOIN rooms ON id = room
    WHERE members.name = ?1 AND latest > max(joined, ?2)
    UNION ALL SELECT id, ?2, trimmed FROM rooms WHERE id = '' AND latest > ?2"""


class LogTransaction:
    """What one request does in a transaction: the entries that it has appended, the damaged rows that it has met.

    These take effect outside of the database when the transaction is durable; until then it may be run again.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.appended: list[Entry] = []
        self.damaged: list[str] = []

    @property
    def head(self) -> int:
        """The number of the last entry."""
        head: int = self.database.execute("SELECT head FROM log").fetchone()[0]
        return head

    def append(self, entries: Sequence[Entry], requests: Sequence[tuple[int, bytes]] = ()) -> None:
        """Give entries their numbers and append them; if they are requests, with the numbers and hashes of these."""
        if not entries:
            return
        (head,) = self.database.execute(
            "UPDATE log SET head = head + ?, latest = max(latest, ?) RETURNING head",
            (len(entries), max(one.taken_at for one in entries)),
        ).fetchone()
        # Not attrs.evolve, which takes as long as all else that Python does with an entry here.
        numbered = [
            Entry(seq, one.kind, one.id, one.sender, one.key, one.recipient, one.taken_at, one.body)
            for seq, one in enumerate(entries, head - len(entries) + 1)
        ]
        self.database.executemany(
            "INSERT INTO entries (seq, kind, sender, key, id, recipient, taken_at, body, request, hash, kept)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
            [
                (one.seq, str(one.kind), one.sender, one.key, one.id, one.recipient, one.taken_at, one.body, *request)
                for one, request in zip(numbered, requests or repeat((None, None)), strict=False)
            ],
        )
        self.appended += numbered
        sizes: dict[str, list[int]] = {}
        for one in numbered:
            if is_room(one.recipient):
                sizes.setdefault(one.recipient, []).append(len(one.body))
        for room, added in sizes.items():
            posts, size = self.database.execute(
                "UPDATE rooms SET posts = posts + ?, bytes = bytes + ?, latest = ? WHERE id = ? RETURNING posts, bytes",
                (len(added), sum(added), head, room),
            ).fetchone()
            if posts > ROOM_POSTS or size > ROOM_BYTES:
                self._trim(room, ROOM_BYTES)
        if any(sizes):
            self._trim_all()
        if head // FORGET_EVERY > (head - len(entries)) // FORGET_EVERY:
            self._forget(head - REMEMBERED)

    def note(self, entry: Entry, recipient: str, request: tuple[int, bytes] | tuple[None, None]) -> int:
        """Append an entry that only those get who are online; return its number. Its row answers copies of it.

        Without the number and hash of a request, it is the first of two for one request, and answers none.
        """
        head: int
        (head,) = self.database.execute(
            "UPDATE log SET head = head + 1, latest = max(latest, ?) RETURNING head", (entry.taken_at,)
        ).fetchone()
        # Not with the room as its recipient: there it would be a post that is no longer kept.
        self.database.execute(
            "INSERT INTO entries (seq, kind, sender, key, id, recipient, taken_at, request, hash, kept)"
            " VALUES (?, ?, ?, ?, ?, lower(?), ?, ?, ?, 0)",
            (head, str(entry.kind), entry.sender, entry.key, entry.id, entry.sender, entry.taken_at, *request),
        )
        self.appended.append(attrs.evolve(entry, seq=head, recipient=recipient))
        if head % FORGET_EVERY == 0:
            self._forget(head - REMEMBERED)
        return head

    def _trim_all(self) -> None:
        """If all rooms together have too much, trim the largest one of the address whose rooms have most."""
        # Not the largest room of all: somebody with many rooms would push out the posts to everyone.
        rows = self.database.execute(
            "SELECT sum(bytes) OVER (), id, bytes,"
            " sum(bytes) OVER (PARTITION BY iif(origin = '', id, origin)) AS theirs"
            " FROM rooms ORDER BY theirs DESC, bytes DESC, id LIMIT 1"
        ).fetchall()
        for total, room, size, _ in rows:
            if total > ALL_ROOMS_BYTES:
                self._trim(room, max(size - (total - ALL_ROOMS_BYTES), 0))

    def _trim(self, room: str, room_bytes: int) -> None:
        """Remove the bodies of posts to a room: the oldest of those keys that have more than their share."""
        # Not all that is too old: somebody who posts as fast as they may would push out everybody's posts in minutes.
        rows = self.database.execute(
            "SELECT seq, key, length(body) FROM entries"
            " WHERE kept = 1 AND recipient = ? AND recipient < '$' ORDER BY seq",
            (room,),
        ).fetchall()
        counts = Counter(key for _, key, _ in rows)
        sizes: dict[bytes, int] = defaultdict(int)
        for _, key, length in rows:
            sizes[key] += length or 0  # it may be damaged
        posts, size = len(rows), sum(sizes.values())
        most, most_bytes = ROOM_POSTS - ROOM_POSTS // TRIM_PART, room_bytes - room_bytes // TRIM_PART
        share, share_bytes = fair_share(counts.values(), most), fair_share(sizes.values(), most_bytes)
        trimmed = []
        for seq, key, length in rows:
            # A share may be less than one post, and then all are above it.
            if posts <= most and size <= most_bytes:
                break
            if counts[key] > share or sizes[key] > share_bytes:
                trimmed.append((seq,))
                posts, size = posts - 1, size - (length or 0)
                counts[key] -= 1
                sizes[key] -= length or 0
        self._drop_bodies(room, trimmed, posts, size)

    def trim_before(self, room: str, seq: int) -> None:
        """Remove the bodies of the posts to a room before this entry."""
        rows = self.database.execute(
            "SELECT seq, length(body) FROM entries"
            " WHERE kept = 1 AND recipient = ? AND recipient < '$' AND seq < ? ORDER BY seq",
            (room, seq),
        ).fetchall()
        posts, size = self.database.execute("SELECT posts, bytes FROM rooms WHERE id = ?", (room,)).fetchone()
        gone = sum(length or 0 for _, length in rows)
        self._drop_bodies(room, [(seq,) for seq, _ in rows], max(posts - len(rows), 0), max(size - gone, 0))

    def _drop_bodies(self, room: str, seqs: Sequence[tuple[int]], posts: int, size: int) -> None:
        """`posts` and `size`: what the room has after that."""
        self.database.executemany("UPDATE entries SET body = NULL, kept = 0 WHERE seq = ?", seqs)
        self.database.execute(
            "UPDATE rooms SET posts = ?, bytes = ?, trimmed = max(trimmed, ?) WHERE id = ?",
            (posts, size, seqs[-1][0] if seqs else 0, room),
        )

    def _forget(self, upto: int) -> None:
        """Remove the oldest rows without bodies among these: without a limit, 30 days of them would fill the disk.

        What is lost: a copy of such a request is taken as a new one (recipients know its id, and show it once; clients
        send nothing again after 14 days). A notice counts fewer posts. The sender of a letter that was taken without a
        receipt is told nothing, ever; to say that it has failed before an unread one does would tell them why.
        """
        self.database.execute(
            "DELETE FROM entries WHERE seq IN"
            " (SELECT seq FROM entries WHERE kept = 0 AND seq <= ? ORDER BY seq LIMIT ?)",
            (upto, FORGET_ROWS),
        )

    def owner(self, name: str) -> tuple[str, bytes]:
        """A name as it was registered, and the Ed25519 key of its owner, or of the last one; NO_KEY if nobody knows."""
        row: tuple[str, bytes] | None = self.database.execute(
            "SELECT name, coalesce(signing, zeroblob(32)) FROM names WHERE name = ?", (name,)
        ).fetchone()
        return row or (name, NO_KEY)

    def has_keys(self, name: str, keys: PublicKeys) -> bool:
        """Whether somebody with these keys owns the name."""
        row = self.database.execute(
            "SELECT 1 FROM names WHERE name = ? AND signing = ? AND link = ?", (name, keys.signing, keys.link)
        ).fetchone()
        return row is not None

    def has_its_sender(self, letter: Entry) -> bool:
        """Whether the key that has sent a letter still owns the name. Another owner must not hear of the letter."""
        _, key = self.owner(letter.sender)
        return key == letter.key or NO_KEY in (key, letter.key)

    # --- damaged rows ---

    def entry(self, row: Sequence[Any]) -> Entry | None:
        """The entry in a row. None if the row is damaged: then it has been set aside."""
        try:
            entry = msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Entry, builtin_types=(bytes,))
            EntryKind(entry.kind)  # a client would skip a kind that it does not know, and the message would be lost
        except ValueError as error:  # msgspec.ValidationError is one
            self.set_aside_entry(row[0], error)
            # It was counted, but what is in it cannot be trusted to undo that.
            if isinstance(row[5], str) and is_room(row[5]):
                self.database.execute(f"{COUNT_POSTS} WHERE id = ?", (row[5],))
            else:
                self.database.execute(_COUNT_LETTERS, (row[5],))
            return None
        return entry

    def set_aside_entry(self, seq: int, error: Exception) -> None:
        """Move a damaged row of the log to where nobody reads it."""
        self.database.execute("INSERT INTO damaged SELECT * FROM entries WHERE seq = ?", (seq,))
        self.database.execute("DELETE FROM entries WHERE seq = ?", (seq,))
        self.damaged.append(f"entry {seq}: {error}")

    # --- for one name ---

    def read(self, name: str, after: int) -> Page:
        """What comes next for a name (in lower case) at this position."""
        rooms = self.database.execute(_ROOMS_OF, (name, after)).fetchall()
        seqs = merge(*(self._post_seqs(room, start, name) for room, start, _ in rooms))
        posts = (self.database.execute(_POST, (seq,)).fetchone() for seq in seqs)
        rows = merge(self.database.execute(_PERSONAL, (name, after)), posts)
        private = [(room, start) for room, start, _ in rooms if is_private(room)]
        epochs = epochs_after(self.database, self.damaged, private)
        page = first_batch(merge(filter(None, map(self.entry, rows)), epochs, key=_seq), self.head)
        # One notice for all that the page passes, not one for each gap: there may be one before each post. It has room:
        # ENTRY_OVERHEAD is more than an entry without credentials needs, and ends a page before MAX_BATCH does.
        missed = {
            room: self.database.execute(
                "SELECT count(*), min(seq), max(seq) FROM entries INDEXED BY missed"
                " WHERE kept = 0 AND recipient = ? AND recipient < '$' AND seq > ? AND seq <= ? AND sender IS NOT ?",
                (room, start, page.upto, name),
            ).fetchone()
            for room, start, trimmed in rooms
            if trimmed > start
        }
        found = {room: row for room, row in missed.items() if row[0]}
        if not found:
            return page
        counts, firsts, lasts = zip(*found.values(), strict=True)
        return Page((missed_posts(name, found, sum(counts), min(firsts), max(lasts)), *page.entries), page.upto)

    def _post_seqs(self, room: str, after: int, name: str) -> Iterator[int]:
        """The numbers of the posts to a room, but not those of this name, a few at a time."""
        # Each statement is done before the next: Python prepares it again while it is in use, in 100 rooms 100 times.
        while found := self.database.execute(_POSTS, (room, after, name, READ_POSTS)).fetchall():
            yield from (seq for (seq,) in found)
            (after,) = found[-1]

    def waiting_posts(self, name: str, after: int) -> int:
        """How many posts wait for a name (in lower case) at this position. Of more than COUNTED_POSTS it is fewer."""
        left, waiting = COUNTED_POSTS, 0
        seen: int
        of_others: int
        for room, start, _ in self.database.execute(_ROOMS_OF, (name, after)).fetchall():
            seen, of_others = self.database.execute(
                "SELECT count(*), count(*) FILTER (WHERE sender IS NOT ?) FROM (SELECT sender FROM entries"
                " WHERE kept = 1 AND recipient = lower(?) AND recipient < '$' AND seq > ? LIMIT ?)",
                (name, room, start, left),
            ).fetchone()
            left, waiting = left - seen, waiting + of_others
            if not left:
                break
        # All of these may be their own, but there is probably more.
        return int(waiting or not left)

    def take(self, name: str, upto: int, receipts: Mapping[int, bytes]) -> list[Entry]:
        """Move the position of a name (in lower case), and take what is for it alone up to there out of the log.

        Returns the letters among that, without bodies.

        A letter leaves a row with its receipt, which answers a copy of its request. If the receipt is empty, the row
        has an empty body: its sender is told nothing before it is too old, as if it had not been read.
        """
        rows = self.database.execute(
            "SELECT seq, kind, sender, key, id, recipient, taken_at,"
            " iif(typeof(body) = 'blob', x'', NULL), length(body)"
            " FROM entries WHERE kept = 1 AND recipient = lower(?) AND recipient > '$' AND seq <= ? ORDER BY seq",
            (name, upto),
        ).fetchall()
        taken = [(entry, size) for *row, size in rows if (entry := self.entry(row))]
        letters = [(entry, size) for entry, size in taken if entry.kind == EntryKind.DIRECT]
        self.database.executemany(
            "DELETE FROM entries WHERE seq = ?", [(one.seq,) for one, _ in taken if one.kind != EntryKind.DIRECT]
        )
        self.database.executemany(
            "UPDATE entries SET body = iif(length(?1), NULL, x''), kept = 0, receipt = ?1 WHERE seq = ?2",
            [(receipts.get(one.seq, b""), one.seq) for one, _ in letters],
        )
        # A late acknowledgement must not move a position back: what is behind it would be handed out again.
        self.database.execute(
            "UPDATE mailboxes SET position = max(position, ?), letters = max(letters - ?, 0), bytes = max(bytes - ?, 0)"
            " WHERE name = ?",
            (upto, len(letters), sum(size for _, size in letters), name),
        )
        return [one for one, _ in letters]

    def take_all_letters(self, name: str, upto: int) -> list[Entry]:
        """Take what is for a name alone, too. Returns the letters whose senders have been told nothing, in order."""
        self.take(name, upto, {})
        rows = self.database.execute(
            "SELECT seq, kind, sender, key, id, recipient, taken_at, body FROM entries"
            " WHERE kept = 0 AND recipient = lower(?) AND body = x'' ORDER BY seq",
            (name,),
        ).fetchall()
        self.database.executemany("UPDATE entries SET body = NULL WHERE seq = ?", [(row[0],) for row in rows])
        return [entry for row in rows if (entry := self.entry(row))]
