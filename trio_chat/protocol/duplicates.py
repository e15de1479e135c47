"""Makes requests idempotent: a memory of the requests that were received, and of the answers that they got.

It is bounded, each sender has a fair share of it, and it forgets the oldest request first. When a request is sent again
is decided in transport/endpoint.py.
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


_Key = tuple[Hashable, ...]
"""What identifies a request: its sender, then anything."""


class DuplicateMemory:
    """The state of each request: new, in progress, or answered, with the bytes of the answer.

    At most `limit` requests are remembered. When there are more, a sender who has more than their share, of as many as
    there are senders, loses their own oldest; else the oldest of all is forgotten.
    """

    def __init__(self, limit: int = REQUESTS_REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[_Key, bytes | None] = OrderedDict()
        self._of_sender: dict[Hashable, OrderedDict[_Key, None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: _Key) -> Seen | bytes:
        """NEW, IN_PROGRESS, or the answer to send again."""
        answer = self._known.get(key, Seen.NEW)
        return Seen.IN_PROGRESS if answer is None else answer

    def begin(self, key: _Key) -> None:
        """Note that the request is in progress."""
        self._known[key] = None
        own = self._of_sender.setdefault(key[0], OrderedDict())
        own[key] = None
        if len(self._known) > self._limit:
            # Without shares somebody could have a Register of others forgotten by thousands of Heartbeats, and a late
            # copy of it would register a person who has left by then.
            has_too_much = len(own) > 1 and len(own) * len(self._of_sender) > self._limit
            self.forget(next(iter(own if has_too_much else self._known)))

    def settle(self, key: _Key, answer: bytes) -> None:
        """Note the answer."""
        # The request may have been pushed out while it was in progress. Adding it back would exceed the limit.
        if key in self._known:
            self._known[key] = answer

    def forget(self, key: _Key) -> None:
        """Note that the request was not handled: its next copy is new."""
        if key in self._known:
            del self._known[key]
            own = self._of_sender[key[0]]
            del own[key]
            if not own:
                del self._of_sender[key[0]]
