"""What stands before the first costly step for a stranger: cookies that prove an address, and handshake rates.

Nothing is remembered for a cookie; the rates remember a bounded number of addresses that have shown one.
"""

import hmac

from trio_chat.protocol.records import Address
from trio_chat.protocol.token_buckets import TokenBuckets

__all__ = ["COOKIE_SIZE", "Cookies", "HandshakeRates"]

COOKIE_SIZE = 16
"""Bytes of a cookie."""

MINUTE = 60.0

PORT_RATE, PORT_BURST = 20.0, 5.0
HOST_RATE, HOST_BURST = 1000.0, 1000.0


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
        return hmac.digest(self._secret, stated + init, "sha256")[:COOKIE_SIZE]


class HandshakeRates:
    """How many handshakes are answered: 20 a second for an address and port (5 at once), 1,000 for an address."""

    def __init__(self) -> None:
        self._ports = TokenBuckets(PORT_RATE, PORT_BURST)
        self._hosts = TokenBuckets(HOST_RATE, HOST_BURST)

    def admit(self, address: Address, now: float) -> bool:
        """Whether one more handshake from there is answered now."""
        return self._ports.take(address, now) and self._hosts.take(address[0], now)
