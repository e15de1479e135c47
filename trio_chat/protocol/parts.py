"""Long requests in parts: the sender's side, which parts to send, and the receiver's, which puts them together.

Both are bounded. When to send again is decided in transport/endpoint.py.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Hashable

import attrs

from trio_chat.protocol.messages import Part, PartAck, Request
from trio_chat.protocol.records import MAX_PARTS
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, decode_untrusted, encode

PART_BODY = 1100
FIRST_FLIGHT = 10
"""How many parts are sent before the first one is acknowledged, as in TCP (RFC 6928) and QUIC."""

FEWEST = 2
"""How many are on their way together at least."""

LATE_AFTER = 0.09
"""Seconds after which a part that was not acknowledged may be lost: a little less than the time until a resend."""

ASSEMBLY_BYTES = 8 * 1024 * 1024
PART_OVERHEAD = 256


class OutgoingRequest:
    """A request that is sent as one datagram or, if it is too long, in parts. Knows which parts have arrived.

    Of the parts FIRST_FLIGHT are sent at once, then more as others arrive: so a slow line is not sent much more than it
    carries. `now` is any clock in seconds that does not go back. `datagrams`: the plaintexts of all parts.
    """

    def __init__(self, kind: int, id: bytes, data: bytes) -> None:
        self.datagrams: tuple[bytes, ...] = (data,)
        if len(data) > MAX_PLAINTEXT:
            bodies = [data[start : start + PART_BODY] for start in range(0, len(data), PART_BODY)]
            if len(bodies) > MAX_PARTS:
                raise ValueError(f"a message of {len(data)} bytes is too long for {MAX_PARTS} parts")
            whole = hashlib.sha256(data).digest()[:8]
            self.datagrams = tuple(
                encode(Part(kind, id, index, len(bodies), body, whole)) for index, body in enumerate(bodies)
            )
        self._begin()

    @classmethod
    def of(cls, request: Request) -> "OutgoingRequest":
        """This request, with nothing sent yet."""
        # Encoded once: a resend must be the same bytes, as links that wait for a session keep each plaintext once.
        return cls(request.kind, request.id, encode(request))

    def _begin(self) -> None:
        self._held = 0
        self._most = 0
        self._flight = FIRST_FLIGHT
        # The longest that a part has taken until it was acknowledged; 0 if that is not known. Is it of one sent once?
        self._slowest, self._is_certain = 0.0, False
        # When each part was sent first, and when each of those that are on their way was sent last.
        self._first_at: dict[int, float] = {}
        self._sent_at: dict[int, float] = {}

    def copy(self) -> "OutgoingRequest":
        """The same request for another receiver, who has nothing of it yet. It is not encoded again."""
        copy = OutgoingRequest.__new__(OutgoingRequest)
        copy.datagrams = self.datagrams
        copy._begin()
        return copy

    def acknowledge(self, held: int, now: float) -> None:
        """The receiver holds the parts whose bits are set."""
        for index in [index for index in self._sent_at if held >> index & 1]:
            took, is_certain = now - self._first_at[index], self._first_at[index] == self._sent_at.pop(index)
            # Of one that was sent twice nobody knows which copy it was (Karn's algorithm): at most it took so long.
            if is_certain or not self._is_certain:
                self._slowest = max(took, self._slowest if is_certain == self._is_certain else 0.0)
                self._is_certain = is_certain
        # Replaces what was known: a receiver that needed the room has dropped parts that it had acknowledged before.
        self._held = held
        more = max(0, held.bit_count() - self._most)
        self._most += more
        self._flight += more  # slow start (RFC 5681): it doubles with each round trip

    def forget_sent(self) -> None:
        """What is on its way is lost: it was for a session that the receiver has forgotten."""
        self._sent_at.clear()

    def missing(self, now: float, *, is_due: bool = True) -> list[bytes]:
        """The plaintexts to send now, each for one datagram. `is_due`: it is time to send something again."""
        if len(self.datagrams) == 1:
            return [*self.datagrams] if is_due else []
        missing = [index for index in range(len(self.datagrams)) if not self._held >> index & 1]
        if not missing:
            # All parts have arrived, but the answer was lost, or is not there yet. One makes the receiver repeat it.
            return [self.datagrams[-1]] if is_due else []
        if is_due:
            self._give_up_late(now)
        room = max(0, self._flight - len(self._sent_at))
        sent = [index for index in missing if index not in self._sent_at][:room]
        self._sent_at |= dict.fromkeys(sent, now)
        self._first_at = dict.fromkeys(sent, now) | self._first_at
        return [self.datagrams[index] for index in sent]

    def _give_up_late(self, now: float) -> None:
        # Twice as long as the slowest one: what waits before a slow line takes about as long as the last one before it.
        limit = max(LATE_AFTER, 2 * self._slowest)
        late = [index for index, sent_at in self._sent_at.items() if now - sent_at >= limit]
        if not self._slowest:
            # Nothing has arrived yet: everything may be lost, or on its way. One is enough to find out.
            late = late[:1]
        elif late:
            self._flight = max(FEWEST, self._flight // 2)  # RFC 9002, section 7.3.2
        for index in late:
            del self._sent_at[index]


Sender = tuple[str, Hashable]
"""Who sends parts: the address that limits count them by, and their key."""


@attrs.define
class _Parts:
    count: int
    whole: bytes
    sender: Sender
    bodies: dict[int, bytes] = attrs.Factory(dict)
    size: int = 0
    is_fresh: bool = True


class Assembly:
    """The parts received of each message, until `drop` is called for it or no more parts come.

    At most `limit` bytes for all senders together, PART_OVERHEAD for each part included: many tiny parts cost memory
    too. Beyond that, of the address that uses most, the key that uses most loses the message that was begun first. So
    nobody pushes out the parts of others, whether they have many keys or share an address with others.
    """

    def __init__(self, limit: int = ASSEMBLY_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._messages: dict[Hashable, _Parts] = {}
        self._used: Counter[str | Sender] = Counter()
        self._senders: dict[str, dict[Sender, OrderedDict[Hashable, None]]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, key: Hashable, part: Part, sender: Sender = ("", "")) -> tuple[PartAck, bytes | None]:
        """Add a part. Return its acknowledgement and, if all parts are here, the bytes of the message."""
        parts = self._messages.get(key)
        # A late part of what was sent under the same id before must not get among these (seed 20083): a message to a
        # private room is sealed again if the members have changed, and nobody could open a mixture of both.
        if parts is None or (parts.count, parts.whole) != (part.count, part.whole):
            self.drop(key)
            parts = self._messages[key] = _Parts(part.count, part.whole, sender)
            self._senders.setdefault(sender[0], {}).setdefault(sender, OrderedDict())[key] = None
        parts.is_fresh = True
        if part.index not in parts.bodies:
            parts.bodies[part.index] = part.body
            self._resize(parts, len(part.body) + PART_OVERHEAD)
            self._make_room(key)
        held = sum(1 << index for index in parts.bodies)
        is_whole = len(parts.bodies) == parts.count
        # The parts stay: a handler that gives no answer now gets the message again with the next copy of a part.
        data = b"".join(parts.bodies[index] for index in range(parts.count)) if is_whole else None
        return PartAck(part.of, part.id, held), data

    def drop(self, key: Hashable) -> None:
        """Forget the parts of this message."""
        parts = self._messages.pop(key, None)
        if parts is None:
            return
        self._resize(parts, -parts.size)
        of_address = self._senders[parts.sender[0]]
        del of_address[parts.sender][key]
        if not of_address[parts.sender]:
            del of_address[parts.sender], self._used[parts.sender]
        if not of_address:
            del self._senders[parts.sender[0]], self._used[parts.sender[0]]

    def sweep(self) -> None:
        """Drop the messages that got no part since the last sweep: their senders have given up."""
        for key in [key for key, parts in self._messages.items() if not parts.is_fresh]:
            self.drop(key)
        for parts in self._messages.values():
            parts.is_fresh = False

    def _resize(self, parts: _Parts, size: int) -> None:
        parts.size += size
        self._size += size
        self._used[parts.sender] += size
        self._used[parts.sender[0]] += size

    def _make_room(self, newest: Hashable) -> None:
        # Never the message that has just got a part: its own part must not drop it. Alone it cannot reach the limit.
        spared = self._messages[newest]

        def used(whose: str | Sender) -> int:
            return self._used[whose] - (spared.size if whose in (spared.sender, spared.sender[0]) else 0)

        while self._size > self._limit:
            address = max(self._senders, key=used)
            sender = max(self._senders[address], key=used)
            self.drop(next(key for key in self._senders[address][sender] if key != newest))


def assembled_untrusted(data: bytes, part: Part) -> Request | None:
    """The request in these parts, if they contain one, and the one that they name."""
    try:
        message = decode_untrusted(data)
    except WireError:
        return None
    # With another kind or id, its answer would not free the parts, which are stored under the key that they name.
    if isinstance(message, Request) and (message.kind, message.id) == (part.of, part.id):
        return message
    return None
