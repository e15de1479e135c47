"""Rate limits: a token bucket for each key, in bounded memory.

Which rates apply to what is defined where they are used.
"""

from collections import OrderedDict
from collections.abc import Hashable

import attrs

KEYS_KEPT = 16_384


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """A bucket of at most `burst` tokens for each key, refilled with `rate` tokens a second.

    At most `limit` keys are kept. The one that was used least recently is dropped; its bucket is full again then.
    """

    def __init__(self, rate: float, burst: float, limit: int = KEYS_KEPT) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Take one token from the bucket of `key`. False if it has none. `now` is in seconds."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        # A refused key counts as used too: otherwise a sender over its limit would be dropped, and start full again.
        self._buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
