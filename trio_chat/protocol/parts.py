"""Long messages in parts: those that go out and what of them was received, and those that come in, put together.

Bounded: it forgets the oldest first. When to send again is the endpoint's business.
"""

from collections import OrderedDict
from collections.abc import Hashable

import attrs

from trio_chat.protocol.messages import Part, PartAck
from trio_chat.protocol.records import MAX_PARTS
from trio_chat.protocol.wire import MAX_PLAINTEXT, encode

__all__ = ["Assembly", "OutgoingRequest"]

PART_BODY = 1100
ASSEMBLY_BYTES = 8 * 1024 * 1024
PART_OVERHEAD = 256


class OutgoingRequest:
    """One request on its way: whole in one datagram, or in parts of which the receiver says what it holds."""

    def __init__(self, kind: int, id: bytes, data: bytes) -> None:
        self._datagrams: tuple[bytes, ...] = (data,)
        if len(data) > MAX_PLAINTEXT:
            bodies = [data[start : start + PART_BODY] for start in range(0, len(data), PART_BODY)]
            if len(bodies) > MAX_PARTS:
                raise ValueError(f"a message of {len(data)} bytes is too long for {MAX_PARTS} parts")
            self._datagrams = tuple(
                encode(Part(kind, id, index, len(bodies), body)) for index, body in enumerate(bodies)
            )
        self._held = 0

    def acknowledge(self, held: int) -> None:
        """The receiver holds these parts, and only these: it may have had to forget some."""
        self._held = held

    def missing(self) -> list[bytes]:
        """The datagrams to send now. When all parts are held the last one asks for the answer."""
        missing = [data for index, data in enumerate(self._datagrams) if not self._held >> index & 1]
        return missing or [self._datagrams[-1]]


@attrs.define
class _Parts:
    count: int
    bodies: dict[int, bytes]
    size: int = 0
    is_fresh: bool = True


class Assembly:
    """Parts received, until the message is whole and `drop` says that it was taken, or no more come.

    Holds `limit` bytes over all senders, bookkeeping included, and forgets the message that has waited longest.
    """

    def __init__(self, limit: int = ASSEMBLY_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._messages: OrderedDict[Hashable, _Parts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, key: Hashable, part: Part) -> tuple[PartAck, bytes | None]:
        """Take a part; return its acknowledgement, and the whole message when all parts are here."""
        parts = self._messages.get(key)
        if parts is None or parts.count != part.count:
            self.drop(key)
            parts = self._messages[key] = _Parts(part.count, {})
        parts.is_fresh = True
        if part.index not in parts.bodies:
            parts.bodies[part.index] = part.body
            parts.size += len(part.body) + PART_OVERHEAD
            self._size += len(part.body) + PART_OVERHEAD
            self._shed(key)
        held = sum(1 << index for index in parts.bodies)
        whole = len(parts.bodies) == parts.count
        data = b"".join(parts.bodies[index] for index in range(parts.count)) if whole else None
        return PartAck(part.of, part.id, held), data

    def drop(self, key: Hashable) -> None:
        """Forget the parts of this message."""
        parts = self._messages.pop(key, None)
        if parts is not None:
            self._size -= parts.size

    def sweep(self) -> None:
        """Forget the messages of which no part has come since the sweep before: their senders have given up."""
        for key in [key for key, parts in self._messages.items() if not parts.is_fresh]:
            self.drop(key)
        for parts in self._messages.values():
            parts.is_fresh = False

    def _shed(self, newest: Hashable) -> None:
        while self._size > self._limit:
            oldest = next(key for key in self._messages if key != newest)
            self.drop(oldest)
