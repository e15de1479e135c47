"""A client's store in memory. It may be used by one `open_chat` after the other; the process keeps it.

No method has a checkpoint, so each is one transaction. The server's is in server_memory.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType

import attrs

from trio_chat.errors import NoHistory
from trio_chat.protocol.records import fold
from trio_chat.storage.client_interface import SEEN_LIMIT, EntryKey, HistoryEntry, OpenedEntry
from trio_chat.storage.kept_epochs import KeptEpoch, KeptEpochs
from trio_chat.storage.outgoing import Outgoing, OutgoingMessages
from trio_chat.storage.search_query import asked_room, is_found
from trio_chat.storage.sent_letters import SentLetter, SentLetters
from trio_chat.storage.shares import fair_share

HISTORY_LIMIT = 1000


class MemoryClientStore:
    """A ClientStore that forgets when the process ends; of messages seen it remembers 100,000.

    The history has up to 1,000 entries, or with `history=False` none. In both, those who have most give way.
    """

    def __init__(self, *, history: bool = True) -> None:
        # By sender: what is too much is taken from those who have sent most.
        self._seen: dict[str, dict[EntryKey, bytes]] = {}
        self._seen_count = 0
        self._unshown: dict[EntryKey, OpenedEntry] = {}
        self._sent = SentLetters()
        self._pins: dict[str, bytes] = {}
        self._blocked: dict[bytes, str] = {}
        self._history: list[HistoryEntry] | None = [] if history else None
        self._lengths: Counter[str] = Counter()
        self._outgoing = OutgoingMessages()
        self._last_number = 0
        self._epochs = KeptEpochs()

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
            self.keep_soon(entry)

    def keep_soon(self, entry: OpenedEntry) -> None:
        if self.seen(entry.key) is None:
            self.saw(entry.key, entry.hash)
            self._unshown[entry.key] = entry

    async def flush(self) -> None:
        pass

    def unshown(self) -> list[OpenedEntry]:
        return list(self._unshown.values())

    def shown(self, entry: OpenedEntry) -> None:
        if self._unshown.pop(entry.key, None) and entry.history:
            self.note(entry.history)

    async def will_send(self, letter: SentLetter) -> None:
        self._sent.add(letter)

    def sent(self, id: bytes) -> SentLetter | None:
        return self._sent.get(id)

    def saved(self, id: bytes, at: float) -> None:
        self._sent.saved(id, at)

    def passed(self, recipient: str) -> None:
        self._sent.passed(recipient)

    def newest_at_server(self, recipient: str) -> SentLetter | None:
        return self._sent.newest_at_server(recipient)

    def is_at_server(self, recipient: str, since: float) -> bool:
        return self._sent.is_at_server(recipient, since)

    def settled(self, id: bytes) -> None:
        self._sent.remove(id)

    def knows_all_sent(self) -> bool:
        return True

    def pinned(self, name: str) -> bytes | None:
        return self._pins.get(fold(name))

    def pin(self, name: str, key: bytes) -> None:
        self._pins[fold(name)] = key

    def pin_count(self) -> int:
        return len(self._pins)

    def blocked(self) -> Mapping[bytes, str]:
        return MappingProxyType(self._blocked)

    async def block(self, key: bytes, name: str) -> None:
        self._blocked.setdefault(key, name)

    async def unblock(self, key: bytes) -> None:
        self._blocked.pop(key, None)

    def outgoing(self) -> list[Outgoing]:
        return self._outgoing.all()

    def outgoing_size(self) -> tuple[int, int]:
        return self._outgoing.size()

    async def put_outgoing(self, message: Outgoing, on_stored: Callable[[Outgoing], object] | None = None) -> Outgoing:
        self._last_number += 1
        message = attrs.evolve(message, number=self._last_number)
        self._outgoing.put(message)
        if on_stored is not None:
            on_stored(message)
        return message

    async def attempt_outgoing(self, message: Outgoing, at: float) -> Outgoing:
        return self._outgoing.replace(attrs.evolve(message, attempted_at=at))

    def outgoing_received(self, message: Outgoing) -> Outgoing:
        return self._outgoing.replace(attrs.evolve(message, is_received=True))

    def outgoing_done(self, message: Outgoing) -> None:
        self._outgoing.remove(message.number)

    async def cancel_outgoing(self, message: Outgoing) -> None:
        self._outgoing.remove(message.number)

    def epochs(self) -> list[KeptEpoch]:
        return self._epochs.all()

    async def keep_epochs(self, epochs: Iterable[KeptEpoch]) -> None:
        self._epochs.keep(epochs)

    async def end_room(self, room: str, *, forget: bool) -> None:
        self._epochs.end(room, forget=forget)

    def note(self, entry: HistoryEntry) -> None:
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
        return self._newest(lambda entry: _is_of(peer, entry), count)

    async def search(self, words: str, count: int, peer: str | None = None) -> list[HistoryEntry]:
        return self._newest(lambda entry: _is_of(peer, entry) and is_found(words, entry.text), count)

    def _newest(self, fits: Callable[[HistoryEntry], bool], count: int) -> list[HistoryEntry]:
        if self._history is None:
            raise NoHistory
        newest = islice(filter(fits, reversed(self._history)), max(0, min(count, HISTORY_LIMIT)))
        return list(newest)[::-1]


def _is_of(peer: str | None, entry: HistoryEntry) -> bool:
    room = asked_room(peer)
    if room is not None:
        return entry.group and fold(entry.room) == fold(room)
    return peer is None or fold(entry.peer) == fold(peer)
