"""What one key or one address may ask of the server: its buckets, its share of the work in progress, what was refused.

Each limit has the name of its field in `Limits` (protocol/limits.py). Which limits a request counts for is decided in
service.py, and below for the work in progress.
"""

from collections import Counter
from collections.abc import Hashable

import attrs

from trio_chat.link.session import Peer
from trio_chat.protocol.limits import Limits, Rate, is_fair, origin
from trio_chat.protocol.messages import GroupPost, Register, Request, Save
from trio_chat.protocol.room_messages import RoomRequest
from trio_chat.protocol.token_buckets import KEYS_KEPT, TokenBuckets

_IN_PROGRESS = ("registrations_in_progress", "messages_in_progress")


class Throttle:
    """The limits of one server, and who has used how much of them.

    `refusals`: how many requests were over each limit, since the start.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.refusals: Counter[str] = Counter()
        # A bucket that is pushed out is full again. So there is room for each key that owns a name: strangers, whose
        # keys cost nothing, cannot give a sender who is over the limit a new bucket, or themselves by many keys.
        room = max(KEYS_KEPT, limits.names)
        rates = {field.name: getattr(limits, field.name) for field in attrs.fields(Limits)}
        self._buckets = {name: TokenBuckets(rate, room) for name, rate in rates.items() if isinstance(rate, Rate)}
        self._in_progress: dict[str, Counter[Hashable]] = {name: Counter() for name in _IN_PROGRESS}

    def pause(self, now: float, tokens: float = 1.0, /, **limits: Hashable) -> float:
        """Count a request for these limits, each given with the key of its bucket: `posts_per_key=key`.

        Returns 0.0 if it is allowed. Else it is noted as refused: the seconds after which it may be sent again.
        """
        for limit, key in limits.items():
            buckets = self._buckets[limit]
            # Not more than a full bucket has: the request would never be allowed.
            wanted = min(tokens, buckets.rate.at_once)
            if not buckets.take(key, now, wanted):
                self.refuse(limit)
                return buckets.pause(key, wanted)
        return 0.0

    def refuse(self, limit: str) -> None:
        """Note that a request was over this limit."""
        self.refusals[limit] += 1

    def begin(self, limit: str, who: Hashable) -> bool:
        """Take one of the places for work in progress, until `end` is called. False, and noted: there is none."""
        used = self._in_progress[limit]
        places: int = getattr(self.limits, limit)
        if is_fair(used[who], 1, places - used.total()):
            used[who] += 1
            return True
        self.refuse(limit)
        return False

    def in_progress(self, limit: str) -> int:
        """How many of the places for this work are taken."""
        return self._in_progress.get(limit, Counter()).total()

    def end(self, limit: str, who: Hashable) -> None:
        """Give a place back."""
        used = self._in_progress[limit]
        used[who] -= 1
        if not used[who]:
            del used[who]


def work_of(peer: Peer, request: Request) -> tuple[str, Hashable] | None:
    """The work in progress that a request may become, and whose it is. None if it needs no store."""
    if isinstance(request, Register):
        return ("registrations_in_progress", origin(peer.address))
    is_stored = isinstance(request, Save | GroupPost | RoomRequest)
    return ("messages_in_progress", peer.key) if is_stored else None
