"""What protects the costly part of a handshake: cookies, which prove an address, and rates.

The order is that of DTLS (RFC 6347, section 4.2.1): no key is computed or stored for a sender who has
not shown that they receive what is sent to their address. When to ask for a cookie is decided in links.py.
"""

import hmac

from trio_chat.protocol.limits import Limits, origin
from trio_chat.protocol.records import Address
from trio_chat.protocol.token_buckets import TokenBuckets

COOKIE_SIZE = 16
"""Bytes of a cookie."""

MINUTE = 60.0


class Cookies:
    """Cookies under one secret, generated at each start. A cookie is valid in the minute of its making and the next."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, address: Address, init: bytes, now: float) -> bytes:
        """The cookie for this INIT (without its cookie) from this address."""
        return self._compute(address, init, int(now // MINUTE))

    def is_valid(self, cookie: bytes, address: Address, init: bytes, now: float) -> bool:
        """Whether this is the cookie of this minute, or of the one before, for this INIT from this address."""
        minute = int(now // MINUTE)
        return any(hmac.compare_digest(cookie, self._compute(address, init, then)) for then in (minute, minute - 1))

    def _compute(self, address: Address, init: bytes, minute: int) -> bytes:
        # The host is preceded by its length, so that no other host and rest can be the same bytes, even if the rest
        # gets another size one day. The INIT is included so that a cookie that somebody has read on
        # the network is of no use for another handshake.
        host = address[0].encode()
        stated = bytes((len(host),)) + host + address[1].to_bytes(2, "big") + minute.to_bytes(8, "big", signed=True)
        return hmac.digest(self._secret, stated + init, "sha256")[:COOKIE_SIZE]


class HandshakeRates:
    """How many handshakes are answered."""

    def __init__(self, limits: Limits) -> None:
        self._ports = TokenBuckets(limits.handshakes_per_port)
        self._addresses = TokenBuckets(limits.handshakes_per_address)

    def allow(self, address: Address, now: float) -> bool:
        """Whether one more handshake of this address is answered now."""
        # The port first: one program that asks too often does not use up the share of the others behind its router.
        return self._ports.take(address, now) and self._addresses.take(origin(address), now)
