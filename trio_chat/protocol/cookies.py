"""What stands before the first costly step for a stranger: cookies that prove an address, and handshake rates.

Nothing is remembered for a cookie; the rates remember a bounded number of addresses that have shown one.
"""

import hmac
from collections import OrderedDict
from collections.abc import Hashable

import attrs

__all__ = ["COOKIE", "Buckets", "Cookies", "Rates"]

COOKIE = 16
"""Bytes of a cookie."""

MINUTE = 60.0

PORT_RATE, PORT_BURST = 20.0, 5.0
HOST_RATE, HOST_BURST = 1000.0, 1000.0
ADDRESSES_KEPT = 16_384

Address = tuple[str, int]


class Cookies:
    """Cookies under one secret, which is drawn at each start. A cookie holds for its minute and the next one."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def bake(self, address: Address, init: bytes, now: float) -> bytes:
        """The cookie for this INIT (without its cookie) from this address."""
        return self._bake(address, init, int(now // MINUTE))

    def is_good(self, cookie: bytes, address: Address, init: bytes, now: float) -> bool:
        """Whether this is the cookie of this minute, or the one before, for this INIT from this address."""
        minute = int(now // MINUTE)
        return any(hmac.compare_digest(cookie, self._bake(address, init, then)) for then in (minute, minute - 1))

    def _bake(self, address: Address, init: bytes, minute: int) -> bytes:
        host = address[0].encode()
        stated = bytes((len(host),)) + host + address[1].to_bytes(2, "big") + minute.to_bytes(8, "big", signed=True)
        return hmac.digest(self._secret, stated + init, "sha256")[:COOKIE]


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


class Buckets:
    """A bucket of tokens for each key: `rate` come in a second, at most `burst` are kept.

    Remembers `limit` keys and forgets the one that was asked about longest ago: its bucket counts as full.
    """

    def __init__(self, rate: float, burst: float, limit: int = ADDRESSES_KEPT) -> None:
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


class Rates:
    """How many handshakes are answered: 20 a second for an address and port (5 at once), 1,000 for an address."""

    def __init__(self) -> None:
        self._ports = Buckets(PORT_RATE, PORT_BURST)
        self._hosts = Buckets(HOST_RATE, HOST_BURST)

    def admit(self, address: Address, now: float) -> bool:
        """Whether one more handshake from there is answered now."""
        return self._ports.take(address, now) and self._hosts.take(address[0], now)
