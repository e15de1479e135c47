"""Rates: a bucket of tokens for each key, in bounded memory.

Which rates apply to what is said where they are used.
"""

from collections import OrderedDict
from collections.abc import Hashable

import attrs

__all__ = ["TokenBuckets"]

KEYS_KEPT = 16_384


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """A bucket of tokens for each key: `rate` come in a second, at most `burst` are kept.

    Remembers `limit` keys and forgets the one that was asked about longest ago: its bucket counts as full.
    """

    def __init__(self, rate: float, burst: float, limit: int = KEYS_KEPT) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Take a token, if there is one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
