"""What makes requests repeatable: the memory of which came before, and of what they were answered.

Bounded: it forgets the oldest first. When to send again is the endpoint's business.
"""

import enum
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["DuplicateMemory", "Reaction", "Seen"]

REQUESTS_REMEMBERED = 65_536


class Seen(enum.Enum):
    """What a receiver knows of a request that it has no answer to repeat for."""

    NEW = enum.auto()
    IN_WORK = enum.auto()


class Reaction(enum.Enum):
    """What a receiver does with a request when it is no answer."""

    SILENCE = "no answer, and the next copy is looked at anew"
    IN_WORK = "an answer will follow, and until then copies stay without one"


class DuplicateMemory:
    """What became of each request: new, in work, or answered (then the answer's bytes are kept).

    Keys are whatever tells requests apart: (sender, kind, id). Holds `limit` requests and forgets the oldest.
    """

    def __init__(self, limit: int = REQUESTS_REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[Hashable, bytes | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: Hashable) -> Seen | bytes:
        """NEW, IN_WORK, or the answer to repeat."""
        answer = self._known.get(key, Seen.NEW)
        return Seen.IN_WORK if answer is None else answer

    def begin(self, key: Hashable) -> None:
        """From now on the request is in work."""
        self._known[key] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def settle(self, key: Hashable, answer: bytes) -> None:
        """From now on the request is answered, if it is still remembered."""
        if key in self._known:
            self._known[key] = answer

    def forget(self, key: Hashable) -> None:
        """The request was not taken: its next copy is new again."""
        self._known.pop(key, None)
