"""The model of a server's store: what SQLite does with tables and indexes, said with lists. Slow, and easy to check.

The real store must do the same; see test_stores_agree.py. The limits are arguments, so that a short story reaches them.
"""

import attrs

from trio_chat.protocol.limits import is_fair
from trio_chat.protocol.log import about_letter, first_batch, missed_posts, request_hash
from trio_chat.protocol.records import EVERYONE, NO_KEY, Credentials, Entry, EntryKind, Record, fold
from trio_chat.storage.interface import Appended, KnownName, OnAppended, Position, Status


@attrs.define
class _Name:
    record: Record
    owner: Credentials | None
    position: int
    reserved: str = ""
    used_at: float | None = None

    @property
    def as_reader(self) -> tuple[str, bytes]:
        return self.record.name, self.owner.keys.signing if self.owner else NO_KEY


@attrs.define
class _Request:
    """What answers a copy of a request."""

    seq: int
    hash: bytes
    taken_at: float
    receipt: bytes = b""


class ModelStore:
    """A ServerStore. Entries that have to be handed over are in one list, posts that are only counted in another."""

    def __init__(self, *, letters: int, letter_bytes: int, posts: int, post_bytes: int) -> None:
        self._limits = letters, letter_bytes, posts, post_bytes
        self._names: dict[str, _Name] = {}
        self._head = 0
        self._entries: list[Entry] = []
        self._trimmed: list[Entry] = []
        # Letters that were taken without a receipt.
        self._untold: list[Entry] = []
        self._requests: dict[tuple[str, bytes, bytes], _Request] = {}
        self._on_appended: OnAppended = lambda entries: None

    # --- names ---

    async def load(self, on_appended):
        self._on_appended = on_appended
        offline = [
            KnownName(attrs.evolve(one.record, online=False), one.owner, one.reserved) for one in self._names.values()
        ]
        return offline, self._head

    async def save_name(self, record, invitation=b""):
        name = fold(record.name)
        known = self._names.pop(name, None)  # the order is that of the last registrations
        self._names[name] = _Name(record, record.credentials, known.position if known else self._head)
        if not (known and known.owner and known.owner.keys.signing == record.credentials.keys.signing):
            self._names[name].position = self._head
            # Of a name that was deleted there may be what its last owner would have got.
            letters = self._take_untold(name) + self._take(name, self._head)
            self._fail(letters, record.since, known and known.as_reader)
        position = self._names[name].position
        kinds = [one.kind for one in self._coming(name, position)]
        return Position(position, kinds.count("direct") + kinds.count("group"), self._head)

    async def forget(self, name, only_for=""):
        known = self._names.get(fold(name))
        if known:
            known.record = attrs.evolve(known.record, credentials=None)
            known.reserved = only_for
        return known is not None

    async def delete(self, name, at):
        name = fold(name)
        known = self._names.pop(name, None)
        if known:
            self._fail(self._take_untold(name) + self._take(name, self._head), at, known.as_reader)
        return known is not None

    async def unused(self, online, before, now):
        for name, one in self._names.items():
            if one.used_at is None or one.used_at > now or name in map(fold, online):
                one.used_at = now
        waiting = {one.recipient for one in self._entries if one.kind == EntryKind.DIRECT}
        return [one.record.name for name, one in self._names.items() if one.used_at < before and name not in waiting]

    def _take_untold(self, name):
        taken = [one for one in self._untold if one.recipient == name]
        self._untold = [one for one in self._untold if one.recipient != name]
        return taken

    # --- the log ---

    async def append(self, entries):
        new: list[Entry] = []
        results = [self._append_request(entry, new) for entry in entries]
        self._tell(new)
        return results

    def _append_request(self, entry, new):
        if request := self._requests.get(_key(entry)):
            if request.hash != request_hash(entry):
                return Appended(Status.CONFLICT)
            return Appended(Status.KNOWN, request.seq, request.receipt)
        if entry.recipient != EVERYONE:
            if entry.recipient not in self._names:
                return Appended(Status.UNKNOWN)
            waiting = [one for one in self._entries if one.recipient == entry.recipient and one.kind == "direct"]
            own = [one for one in waiting if one.key == entry.key]
            if not is_fair(len(own), 1, self._limits[0] - len(waiting)):
                return Appended(Status.FULL)
            if not is_fair(_size(own), len(entry.body), self._limits[1] - _size(waiting)):
                return Appended(Status.FULL)
        new.append(self._append(entry))
        self._requests[_key(entry)] = _Request(self._head, request_hash(entry), entry.taken_at)
        return Appended(Status.NEW, self._head)

    def _append(self, entry):
        self._head += 1
        numbered = attrs.evolve(entry, seq=self._head)
        self._entries.append(numbered)
        while True:
            posts = [one for one in self._entries if one.recipient == EVERYONE]
            if len(posts) <= self._limits[2] and sum(len(post.body) for post in posts) <= self._limits[3]:
                return numbered
            self._entries.remove(posts[0])
            self._trimmed.append(posts[0])

    def _tell(self, appended):
        if appended:
            self._on_appended(appended)

    async def read(self, name, after):
        coming, entries = self._coming(fold(name), after), []
        for entry in [*coming, None]:
            upto = entry.seq if entry else self._head + 1
            missed = [one.seq for one in self._trimmed if after < one.seq < upto and fold(one.sender) != fold(name)]
            entries += [missed_posts(fold(name), len(missed), missed[0], missed[-1])] if missed else []
            entries += [entry] if entry else []
            after = upto
        return first_batch(entries, self._head)

    def _coming(self, name, after):
        return [
            one
            for one in self._entries
            if one.seq > after and (one.recipient == name or (one.recipient == EVERYONE and fold(one.sender) != name))
        ]

    # --- positions ---

    async def acknowledge(self, acknowledged, at):
        receipts = []
        for one in acknowledged:
            if fold(one.name) not in self._names:
                continue  # deleted meanwhile
            reader = self._names[fold(one.name)].as_reader
            for letter in self._move(fold(one.name), one.upto):
                receipt = self._requests[_key(letter)].receipt = one.receipts.get(letter.seq, b"")
                if not receipt:
                    self._untold.append(letter)
                elif self._has_its_sender(letter):
                    receipts.append(about_letter(letter, EntryKind.RECEIPT, reader, at, receipt))
        self._tell([self._append(one) for one in receipts])

    async def advance(self, positions):
        for name, upto in positions.items():
            if fold(name) in self._names:
                self._move(fold(name), upto)

    def _move(self, name, upto):
        self._names[name].position = max(self._names[name].position, upto)
        return self._take(name, upto)

    def _take(self, name, upto):
        """Remove what is for a name alone; return the letters among it."""
        taken = [one for one in self._entries if one.recipient == name and one.seq <= upto]
        self._entries = [one for one in self._entries if one not in taken]
        return [one for one in taken if one.kind == EntryKind.DIRECT]

    # --- what is too old ---

    async def retain(self, before, now):
        for entries in (self._entries, self._trimmed, self._untold):
            entries[:] = [attrs.evolve(one, taken_at=min(one.taken_at, now)) for one in entries]
        for request in self._requests.values():
            request.taken_at = min(request.taken_at, now)
        rows = [*self._entries, *self._trimmed, *self._requests.values()]
        upto = min((one.seq for one in rows if one.taken_at >= before), default=self._head + 1) - 1
        self._requests = {key: one for key, one in self._requests.items() if one.seq > upto}
        self._trimmed = [one for one in self._trimmed if one.seq > upto]
        old = sorted((one for one in self._entries + self._untold if one.seq <= upto), key=lambda one: one.seq)
        self._untold = [one for one in self._untold if one.seq > upto]
        self._entries = [one for one in self._entries if one.seq > upto]
        self._fail([one for one in old if one.kind == EntryKind.DIRECT], now)
        return False

    def _fail(self, letters, at, reader=None):
        """Tell the senders of letters that these are not read. The reader is None if they have their names today."""
        self._tell(
            [
                self._append(about_letter(one, EntryKind.FAILED, reader or self._names[one.recipient].as_reader, at))
                for one in letters
                if self._has_its_sender(one)
            ]
        )

    def _has_its_sender(self, letter):
        """Whether the key that has sent a letter still owns the name. Another owner must not hear of the letter."""
        sender = self._names.get(fold(letter.sender))
        return not (sender and sender.owner) or letter.key in (sender.owner.keys.signing, NO_KEY)


def _size(entries):
    return sum(len(one.body) for one in entries)


def _key(entry):
    return (entry.kind, entry.key, entry.id)
