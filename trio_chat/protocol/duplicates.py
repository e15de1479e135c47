"""Makes requests idempotent: a memory of the requests that were received, and of the answers that they got.

It is bounded, and forgets the oldest request first. When a request is sent again is decided in transport/endpoint.py.
"""

import enum
from collections import OrderedDict
from collections.abc import Hashable

REQUESTS_REMEMBERED = 65_536


class Seen(enum.Enum):
    """What is known of a request that has no stored answer."""

    NEW = enum.auto()
    IN_PROGRESS = enum.auto()


class Reaction(enum.Enum):
    """What a request handler returns when it has no answer to give now."""

    SILENCE = "no answer; the next copy is handled as a new request"
    IN_PROGRESS = "the answer will follow; until then copies are ignored"


class DuplicateMemory:
    """The state of each request: new, in progress, or answered, with the bytes of the answer.

    A key identifies a request: (sender, kind, id). At most `limit` requests are remembered.
    """

    def __init__(self, limit: int = REQUESTS_REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[Hashable, bytes | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: Hashable) -> Seen | bytes:
        """NEW, IN_PROGRESS, or the answer to send again."""
        answer = self._known.get(key, Seen.NEW)
        return Seen.IN_PROGRESS if answer is None else answer

    def begin(self, key: Hashable) -> None:
        """Note that the request is in progress."""
        self._known[key] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def settle(self, key: Hashable, answer: bytes) -> None:
        """Note the answer."""
        # The request may have been pushed out while it was in progress. Adding it back would exceed the limit.
        if key in self._known:
            self._known[key] = answer

    def forget(self, key: Hashable) -> None:
        """Note that the request was not handled: its next copy is new."""
        self._known.pop(key, None)
