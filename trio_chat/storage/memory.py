"""Both stores in memory. They may be used by one `serve_chat` or `open_chat` after the other; the process keeps them.

No method has a checkpoint, so each is one transaction.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

import attrs

from trio_chat.errors import NoHistory
from trio_chat.protocol.records import RECEIPT_KINDS, Letter, LetterKind, Record, fold
from trio_chat.storage.interface import (
    BATCH_LETTERS,
    MAILBOX_BYTES,
    MAILBOX_LETTERS,
    Entry,
    HandedOver,
    Kept,
    LetterKey,
    OpenedLetter,
    OpenPost,
    Status,
    oldest_batch,
)
from trio_chat.storage.search_query import is_found

SEEN_LIMIT = 100_000
HISTORY_LIMIT = 1000


@attrs.define
class _Mailbox:
    """The letters by number, and how many group letters were not kept."""

    letters: dict[int, Letter] = attrs.Factory(dict)
    keys: set[LetterKey] = attrs.Factory(set)
    count: int = 0
    size: int = 0
    missed: int = 0
    missed_id: bytes = b""

    def has_room(self, letter: Letter) -> bool:
        return self.count < MAILBOX_LETTERS and self.size + len(letter.body) <= MAILBOX_BYTES

    def put(self, number: int, letter: Letter) -> None:
        if letter.key not in self.keys:
            self.keys.add(letter.key)
            self.letters[number] = letter
            self._count(letter, 1)

    def take(self, letter: Letter) -> bool:
        for number, kept in self.letters.items():
            if kept.key == letter.key:
                del self.letters[number]
                self.keys.discard(kept.key)
                self._count(kept, -1)
                return True
        return False

    def _count(self, letter: Letter, sign: int) -> None:
        if letter.kind not in RECEIPT_KINDS:
            self.count += sign
            self.size += sign * len(letter.body)


@attrs.define
class _Open:
    number: int
    letter: Letter
    left: frozenset[str]


class MemoryServerStore:
    """A ServerStore that forgets when the process ends."""

    def __init__(self) -> None:
        self._number = 0
        self._records: dict[str, Record] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        self._posts: dict[LetterKey, _Open] = {}
        self._answers: OrderedDict[LetterKey, Kept] = OrderedDict()

    async def load(self) -> tuple[list[Record], list[str], list[OpenPost]]:
        records = [attrs.evolve(record, online=False) for record in self._records.values()]
        waiting = [name for name, mailbox in self._mailboxes.items() if mailbox.letters or mailbox.missed]
        return records, waiting, [OpenPost(post.letter, post.left) for post in self._posts.values()]

    async def save_name(self, record: Record) -> int:
        name = fold(record.name)
        self._records[name] = record
        mailbox = self._mailboxes.setdefault(name, _Mailbox())
        return mailbox.count + sum(name in post.left for post in self._posts.values())

    async def forget(self, name: str) -> bool:
        record = self._records.get(fold(name))
        if record is None:
            return False
        self._records[fold(name)] = attrs.evolve(record, credentials=None)
        return True

    async def save(self, recipient: str, letter: Letter) -> Kept:
        if before := self._answers.get(letter.key):
            return before
        mailbox = self._mailboxes[fold(recipient)]
        if not mailbox.has_room(letter):
            return Kept(Status.FULL, letter.sent_at)
        mailbox.put(self._next(), letter)
        self._answers[letter.key] = Kept(Status.SAVED, letter.sent_at)
        return Kept(Status.NEW, letter.sent_at)

    async def post(self, letter: Letter, recipients: Collection[str]) -> Kept:
        if before := self._answers.get(letter.key):
            return before
        left = frozenset(fold(name) for name in recipients)
        self._posts[letter.key] = _Open(self._next(), letter, left)
        self._answers[letter.key] = Kept(Status.SAVED, letter.sent_at)
        return Kept(Status.NEW, letter.sent_at)

    async def finish_post(self, letter: Letter, left: Collection[str]) -> None:
        post = self._posts.pop(letter.key)
        for name in left:
            mailbox = self._mailboxes[fold(name)]
            if mailbox.has_room(letter):
                mailbox.put(post.number, letter)
            else:
                mailbox.missed += 1
                mailbox.missed_id = letter.id

    async def waiting(self, name: str) -> Sequence[Letter]:
        mailbox = self._mailboxes[fold(name)]
        batch = oldest_batch(mailbox.letters[number] for number in sorted(mailbox.letters))
        if mailbox.missed and len(batch) == len(mailbox.letters) < BATCH_LETTERS:
            batch.append(
                Letter(LetterKind.MISSED, mailbox.missed_id, self._records[fold(name)].name, 0.0, count=mailbox.missed)
            )
        return batch

    async def acknowledge(self, name: str, handed: Iterable[HandedOver], relayed: Collection[LetterKey]) -> list[str]:
        mailbox = self._mailboxes[fold(name)]
        receipted = []
        for one in handed:
            letter = one.letter
            if letter.kind is LetterKind.MISSED:
                mailbox.missed = max(0, mailbox.missed - letter.count)
            elif mailbox.take(letter) and letter.kind is LetterKind.DIRECT:
                if letter.key in relayed:
                    status = Status.DELIVERED if one.opened else Status.UNREADABLE
                    self._answers[letter.key] = Kept(status, letter.sent_at, one.receipt)
                else:
                    self._file_receipt(one, self._records[fold(name)].name)
                    receipted.append(letter.sender)
        return receipted

    def _file_receipt(self, one: HandedOver, reader: str) -> None:
        kind = LetterKind.RECEIPT if one.opened else LetterKind.UNREADABLE
        receipt = Letter(kind, one.letter.id, reader, one.letter.sent_at, one.receipt)
        self._mailboxes[fold(one.letter.sender)].put(self._next(), receipt)

    async def forget_answers(self, before: float) -> None:
        while self._answers and next(iter(self._answers.values())).sent_at < before:
            self._answers.popitem(last=False)

    def _next(self) -> int:
        self._number += 1
        return self._number


class MemoryClientStore:
    """A ClientStore that forgets when the process ends; of messages seen it remembers the latest 100,000.

    The history has the newest 1,000 entries, or with `history=False` none.
    """

    def __init__(self, *, history: bool = True) -> None:
        self._seen: OrderedDict[LetterKey, None] = OrderedDict()
        self._unshown: dict[LetterKey, OpenedLetter] = {}
        self._pins: dict[str, bytes] = {}
        self._history: deque[Entry] | None = deque(maxlen=HISTORY_LIMIT) if history else None

    def has(self, key: LetterKey) -> bool:
        return key in self._seen

    def saw(self, key: LetterKey) -> None:
        self._seen[key] = None
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)

    async def keep(self, letters: Iterable[OpenedLetter]) -> None:
        for letter in letters:
            if not self.has(letter.key):
                self.saw(letter.key)
                self._unshown[letter.key] = letter

    def unshown(self) -> list[OpenedLetter]:
        return list(self._unshown.values())

    def shown(self, letter: OpenedLetter) -> None:
        if self._unshown.pop(letter.key, None) and letter.entry:
            self.note(letter.entry)

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key

    def note(self, entry: Entry) -> None:
        if self._history is not None:
            self._history.append(entry)

    async def history(self, peer: str | None, count: int) -> list[Entry]:
        return self._newest(lambda entry: peer is None or fold(entry.peer) == fold(peer), count)

    async def search(self, words: str, count: int) -> list[Entry]:
        return self._newest(lambda entry: is_found(words, entry.text), count)

    def _newest(self, fits: Callable[[Entry], bool], count: int) -> list[Entry]:
        if self._history is None:
            raise NoHistory
        newest = islice(filter(fits, reversed(self._history)), max(0, min(count, HISTORY_LIMIT)))
        return list(newest)[::-1]
