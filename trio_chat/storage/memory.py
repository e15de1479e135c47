"""Both stores in memory. They may be used by one `serve_chat` or `open_chat` after the other; the process keeps them.

No method has a checkpoint, so each is one transaction.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from types import MappingProxyType

import attrs

from trio_chat.errors import NoHistory
from trio_chat.protocol.log import Log, Page, about_letter, request_hash
from trio_chat.protocol.records import EVERYONE, NO_KEY, Credentials, Entry, EntryKind, Record, fold
from trio_chat.storage.interface import (
    MAILBOX_BYTES,
    MAILBOX_LETTERS,
    SEEN_LIMIT,
    SENT_LIMIT,
    Acknowledged,
    Appended,
    Ban,
    EntryKey,
    HistoryEntry,
    Invitation,
    KnownName,
    OnAppended,
    OpenedEntry,
    Position,
    SentLetter,
    Status,
)
from trio_chat.storage.search_query import is_found
from trio_chat.storage.shares import fair_share

HISTORY_LIMIT = 1000


@attrs.define
class _Name:
    record: Record
    owner: Credentials | None
    position: int
    reserved: str = ""
    seen: float | None = None


@attrs.define
class _Request:
    """What answers a copy of a request: number, hash and time of its entry, and the receipt if there is one."""

    seq: int
    hash: bytes
    taken_at: float
    receipt: bytes = b""


class MemoryServerStore:
    """A ServerStore that forgets when the process ends."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._log = Log()
        self._requests: dict[tuple[str, bytes, bytes], _Request] = {}
        self._bans: dict[tuple[str, str], Ban] = {}
        self._invitations: dict[bytes, Invitation] = {}
        # Letters that were taken without a receipt, by their numbers, without their bodies.
        self._untold: dict[int, Entry] = {}
        self._on_appended: OnAppended = lambda entries: None

    async def load(self, on_appended: OnAppended) -> tuple[list[KnownName], int]:
        self._on_appended = on_appended
        names = [
            KnownName(attrs.evolve(one.record, online=False), one.owner, one.reserved) for one in self._names.values()
        ]
        return names, self._log.head

    async def save_name(self, record: Record, invitation: bytes = b"") -> Position:
        name, head = fold(record.name), self._log.head
        known = self._names.pop(name, None)  # the order is that of the last registrations
        is_same_owner = known is not None and known.owner is not None and known.owner.keys.signing == _signing(record)
        self._names[name] = _Name(record, record.credentials, known.position if known else head)
        if not is_same_owner:
            untold = self._take_untold(lambda letter: letter.recipient == name)
            self._fail(untold + self._log.take(name, head), record.since, known)
            self._names[name].position = head
        self._invitations.pop(invitation, None)
        position = self._names[name].position
        return Position(position, self._log.waiting(name, position), self._log.head)

    async def forget(self, name: str, only_for: str = "") -> bool:
        known = self._names.get(fold(name))
        if known is not None:
            known.record = attrs.evolve(known.record, credentials=None)
            known.reserved = only_for
        return known is not None

    async def delete(self, name: str, at: float) -> bool:
        name = fold(name)
        known = self._names.pop(name, None)
        if known is not None:
            untold = self._take_untold(lambda letter: letter.recipient == name)
            self._fail(untold + self._log.take(name, self._log.head), at, known)
        return known is not None

    async def unused(self, online: Iterable[str], before: float, now: float) -> list[str]:
        there = set(map(fold, online))
        for name, one in self._names.items():
            if one.seen is None or one.seen > now or name in there:
                one.seen = now
        old = [(name, one) for name, one in self._names.items() if one.seen is not None and one.seen < before]
        return [one.record.name for name, one in old if not self._log.letters(name)]

    async def rules(self) -> tuple[list[Ban], list[Invitation]]:
        return list(self._bans.values()), list(self._invitations.values())

    async def ban(self, bans: Iterable[Ban]) -> None:
        for one in bans:
            self._bans.pop((one.kind, one.value), None)
            self._bans[one.kind, one.value] = one

    async def unban(self, bans: Iterable[Ban]) -> None:
        for one in bans:
            self._bans.pop((one.kind, one.value), None)

    async def invite(self, invitation: Invitation, now: float) -> None:
        self._invitations = {key: one for key, one in self._invitations.items() if one.until >= now}
        self._invitations[invitation.hash] = invitation

    async def append(self, entries: Sequence[Entry]) -> list[Appended]:
        new: list[Entry] = []
        appended = [self._append_request(entry, new) for entry in entries]
        self._tell(new)
        return appended

    def _append_request(self, entry: Entry, new: list[Entry]) -> Appended:
        request = self._requests.get(_key(entry))
        if request is not None:
            is_same = request.hash == request_hash(entry)
            return Appended(Status.KNOWN, request.seq, request.receipt) if is_same else Appended(Status.CONFLICT)
        if entry.recipient != EVERYONE:
            if entry.recipient not in self._names:
                return Appended(Status.UNKNOWN)
            waiting = self._log.letters(entry.recipient)
            size = sum(len(letter.body) for letter in waiting)
            if len(waiting) >= MAILBOX_LETTERS or size + len(entry.body) > MAILBOX_BYTES:
                return Appended(Status.FULL)
        new.append(self._append(entry))
        self._requests[_key(entry)] = _Request(self._log.head, request_hash(entry), entry.taken_at)
        return Appended(Status.NEW, self._log.head)

    async def read(self, name: str, after: int) -> Page:
        return self._log.read(fold(name), after)

    async def acknowledge(self, acknowledged: Sequence[Acknowledged], at: float) -> None:
        receipts = []
        for one in acknowledged:
            name = self._names.get(fold(one.name))
            if name is None:  # deleted meanwhile
                continue
            for letter in self._move(fold(one.name), one.upto):
                receipt = one.receipts.get(letter.seq, b"")
                self._requests[_key(letter)].receipt = receipt
                if not receipt:
                    self._untold[letter.seq] = attrs.evolve(letter, body=b"")
                elif self._has_its_sender(letter):
                    receipts.append(self._append(about_letter(letter, EntryKind.RECEIPT, _reader(name), at, receipt)))
        self._tell(receipts)

    async def advance(self, positions: Mapping[str, int]) -> None:
        for name, upto in positions.items():
            if fold(name) in self._names:
                self._move(fold(name), upto)

    def _move(self, name: str, upto: int) -> list[Entry]:
        """Move a position forward. Returns the letters that are passed."""
        known = self._names[name]
        # A late acknowledgement must not move it back: what is behind it would be handed out again.
        known.position = max(known.position, upto)
        return [entry for entry in self._log.take(name, upto) if entry.kind == EntryKind.DIRECT]

    async def retain(self, before: float, now: float) -> bool:
        self._log.date_back(now)
        for request in self._requests.values():
            request.taken_at = min(request.taken_at, now)
        times = [(request.seq, request.taken_at) for request in self._requests.values()]
        times += [(entry.seq, entry.taken_at) for entry in self._log.entries()]
        upto = min((seq for seq, taken_at in times if taken_at >= before), default=self._log.head + 1) - 1
        self._requests = {key: request for key, request in self._requests.items() if request.seq > upto}
        old = self._take_untold(lambda letter: letter.seq <= upto)
        old = sorted(old + [entry for entry in self._log.entries() if entry.seq <= upto], key=attrgetter("seq"))
        self._log.drop(upto)
        self._fail(old, now)
        return False

    async def date_forward(self, before: float, now: float) -> None:
        for name in self._names.values():
            if name.seen is not None and name.seen < before:
                name.seen = now
        self._log.date_forward(before, now)
        for request in self._requests.values():
            request.taken_at = now if request.taken_at < before else request.taken_at

    def _take_untold(self, fits: Callable[[Entry], bool]) -> list[Entry]:
        taken = [letter for letter in self._untold.values() if fits(letter)]
        for letter in taken:
            del self._untold[letter.seq]
        return sorted(taken, key=attrgetter("seq"))

    def _fail(self, unread: Iterable[Entry], at: float, reader: _Name | None = None) -> None:
        """Tell the senders of letters that these are not read. The reader is None if they have their names today."""
        letters = [entry for entry in unread if entry.kind == EntryKind.DIRECT and self._has_its_sender(entry)]
        failed = [
            about_letter(one, EntryKind.FAILED, _reader(reader or self._names[one.recipient]), at) for one in letters
        ]
        self._tell([self._append(entry) for entry in failed])

    def _has_its_sender(self, letter: Entry) -> bool:
        """Whether the key that has sent a letter still owns the name. Another owner must not hear of the letter."""
        sender = self._names.get(fold(letter.sender))
        return not (sender and sender.owner) or letter.key in (sender.owner.keys.signing, NO_KEY)

    def _append(self, entry: Entry) -> Entry:
        numbered = attrs.evolve(entry, seq=self._log.head + 1)
        self._log.append(numbered)
        return numbered

    def _tell(self, appended: Sequence[Entry]) -> None:
        if appended:
            self._on_appended(appended)


def _signing(record: Record) -> bytes | None:
    return record.credentials.keys.signing if record.credentials else None


def _key(entry: Entry) -> tuple[str, bytes, bytes]:
    return (entry.kind, entry.key, entry.id)


def _reader(one: _Name) -> tuple[str, bytes]:
    """A name as it was registered, and the key of its owner: the reader of a letter."""
    return one.record.name, one.owner.keys.signing if one.owner else NO_KEY


class MemoryClientStore:
    """A ClientStore that forgets when the process ends; of messages seen it remembers 100,000.

    The history has up to 1,000 entries, or with `history=False` none. In both, those who have most give way.
    """

    def __init__(self, *, history: bool = True) -> None:
        # By sender: what is too much is taken from those who have sent most.
        self._seen: dict[str, dict[EntryKey, bytes]] = {}
        self._seen_count = 0
        self._unshown: dict[EntryKey, OpenedEntry] = {}
        self._sent: OrderedDict[bytes, SentLetter] = OrderedDict()
        self._pins: dict[str, bytes] = {}
        self._blocked: dict[bytes, str] = {}
        self._history: list[HistoryEntry] | None = [] if history else None
        self._lengths: Counter[str] = Counter()

    def seen(self, key: EntryKey) -> bytes | None:
        _, sender, _ = key
        return self._seen.get(sender, {}).get(key)

    def saw(self, key: EntryKey, hash: bytes) -> None:
        _, sender, _ = key
        of_sender = self._seen.setdefault(sender, {})
        self._seen_count += key not in of_sender
        of_sender[key] = hash
        if self._seen_count > SEEN_LIMIT + SEEN_LIMIT // 10:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        share = max(1, fair_share(map(len, self._seen.values()), SEEN_LIMIT))
        for sender, keys in self._seen.items():
            self._seen[sender] = dict(islice(keys.items(), max(0, len(keys) - share), None))
        # A share below 1: there are more senders than that, each with one message.
        while len(self._seen) > SEEN_LIMIT:
            del self._seen[next(iter(self._seen))]
        self._seen_count = sum(map(len, self._seen.values()))

    async def keep(self, entries: Iterable[OpenedEntry]) -> None:
        for entry in entries:
            if self.seen(entry.key) is None:
                self.saw(entry.key, entry.hash)
                self._unshown[entry.key] = entry

    def unshown(self) -> list[OpenedEntry]:
        return list(self._unshown.values())

    def shown(self, entry: OpenedEntry) -> None:
        if self._unshown.pop(entry.key, None) and entry.history:
            self.note(entry.history)

    async def will_send(self, letter: SentLetter) -> None:
        self._sent[letter.id] = letter
        if len(self._sent) > SENT_LIMIT:
            self._sent.popitem(last=False)

    def sent(self, id: bytes) -> SentLetter | None:
        return self._sent.get(id)

    def settled(self, id: bytes) -> None:
        self._sent.pop(id, None)

    def knows_all_sent(self) -> bool:
        return True

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key

    def blocked(self) -> Mapping[bytes, str]:
        return MappingProxyType(self._blocked)

    async def block(self, key: bytes, name: str) -> None:
        self._blocked.setdefault(key, name)

    async def unblock(self, key: bytes) -> None:
        self._blocked.pop(key, None)

    def note(self, entry: HistoryEntry, key: EntryKey | None = None) -> None:
        if self._history is None:
            return
        self._history.append(entry)
        self._lengths[fold(entry.peer)] += 1
        if len(self._history) > HISTORY_LIMIT:
            ((longest, _),) = self._lengths.most_common(1)
            del self._history[next(place for place, one in enumerate(self._history) if fold(one.peer) == longest)]
            self._lengths[longest] -= 1
            if not self._lengths[longest]:
                del self._lengths[longest]

    async def history(self, peer: str | None, count: int) -> list[HistoryEntry]:
        return self._newest(lambda entry: peer is None or fold(entry.peer) == fold(peer), count)

    async def search(self, words: str, count: int) -> list[HistoryEntry]:
        return self._newest(lambda entry: is_found(words, entry.text), count)

    def _newest(self, fits: Callable[[HistoryEntry], bool], count: int) -> list[HistoryEntry]:
        if self._history is None:
            raise NoHistory
        newest = islice(filter(fits, reversed(self._history)), max(0, min(count, HISTORY_LIMIT)))
        return list(newest)[::-1]
