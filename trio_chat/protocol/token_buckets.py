"""Rate limits: a token bucket for each key, in bounded memory.

The rates are in limits.py.
"""

from collections import OrderedDict
from collections.abc import Hashable

import attrs

from trio_chat.protocol.limits import Rate

KEYS_KEPT = 16_384


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """A bucket of at most `rate.at_once` tokens for each key, refilled with `rate.a_second` tokens a second.

    At most `limit` keys are kept. The one that was used least recently is dropped; its bucket is full again then.
    """

    def __init__(self, rate: Rate, limit: int = KEYS_KEPT) -> None:
        self.rate = rate
        self._limit = limit
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float, tokens: float = 1.0, keep: float = 0.0) -> bool:
        """Take tokens from the bucket of `key`, if `keep` of them are left. `now` is in seconds."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self.rate.at_once, now)
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        # A refused key counts as used too: otherwise a sender over its limit would be dropped, and start full again.
        self._buckets.move_to_end(key)
        bucket.tokens = min(self.rate.at_once, bucket.tokens + (now - bucket.filled_at) * self.rate.a_second)
        bucket.filled_at = now
        if bucket.tokens < tokens + keep:
            return False
        bucket.tokens -= tokens
        return True

    def left(self, key: Hashable) -> float:
        """The tokens in this bucket when somebody last took or asked for some."""
        bucket = self._buckets.get(key)
        return self.rate.at_once if bucket is None else bucket.tokens

    def pause(self, key: Hashable, tokens: float = 1.0) -> float:
        """Seconds until there are this many, after they were refused."""
        return max(0.0, (tokens - self.left(key)) / self.rate.a_second)


class FairBudget:
    """What all may use of something together. The last half is only for those who have used little lately.

    So newcomers get through while others ask for more than there is: `few` is how much a newcomer may ask for.
    """

    def __init__(self, together: Rate, few: Rate) -> None:
        self._together = TokenBuckets(together, limit=1)
        self._few = TokenBuckets(few)
        self._reserve = together.at_once / 2

    def take(self, who: Hashable, now: float, tokens: float = 1.0) -> bool:
        """Take tokens for somebody. False if there are too few for them."""
        # Counted before anything is refused: somebody who asks all the time is no newcomer, even if they get nothing.
        is_newcomer = self._few.take(who, now, tokens)
        return self._together.take("all", now, tokens, 0.0 if is_newcomer else self._reserve)

    def pause(self, tokens: float = 1.0) -> float:
        """Seconds until there are this many for everybody, after they were refused."""
        return self._together.pause("all", tokens + self._reserve)
