"""What protects the costly part of a handshake: cookies, which prove an address, and rates.

The order is that of DTLS (RFC 6347, section 4.2.1): no key is computed or stored for a sender who has
not shown that they receive what is sent to their address. When to ask for a cookie is decided in links.py.
"""

import hmac
from collections import Counter

from trio_chat.protocol.limits import Limits, Rate, origin
from trio_chat.protocol.records import Address
from trio_chat.protocol.token_buckets import FairBudget, TokenBuckets

COOKIE_SIZE = 16
"""Bytes of a cookie."""

MINUTE = 60.0

COST_WHEN_BEHIND = 8
"""As so many handshakes counts one of a stranger while the party is behind with its datagrams."""


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
    """How many handshakes are computed, in three steps: for one address and port, for one address, for all together.

    Those with a session of somebody known have rates of their own. So no flood, however many addresses it comes from,
    keeps them from renewing it. `refused`: how often each limit has refused one, by its name in `Limits`.
    """

    def __init__(self, limits: Limits) -> None:
        self.refused: Counter[str] = Counter()
        self._ports = TokenBuckets(limits.handshakes_per_port)
        self._strangers = _SharedRates(limits, "handshakes_of_strangers", limits.handshakes_of_strangers)
        self._peers = _SharedRates(limits, "handshakes_of_peers", limits.handshakes_of_peers)

    def allow(self, address: Address, now: float, *, is_peer: bool, is_behind: bool = False) -> bool:
        """Whether one more handshake of this address is computed now. `is_peer`: it has a session of somebody known.

        `is_behind`: datagrams come faster than they are read. On a slow machine the usual number of handshakes may be
        the reason.
        """
        # The port first: one program that asks too often does not use up the share of the others behind its router.
        if not self._ports.take(address, now):
            refused: str | None = "handshakes_per_port"
        else:
            rates = self._peers if is_peer else self._strangers
            refused = rates.refusal(origin(address), now, COST_WHEN_BEHIND if is_behind and not is_peer else 1)
        if refused:
            self.refused[refused] += 1
        return refused is None


class _SharedRates:
    """What one address may cost, and all together. `name` is that of the second limit."""

    def __init__(self, limits: Limits, name: str, together: Rate) -> None:
        self._name = name
        self._addresses = TokenBuckets(limits.handshakes_per_address)
        self._budget = FairBudget(together, limits.handshakes_of_newcomers)

    def refusal(self, where: str, now: float, cost: int) -> str | None:
        """The name of the limit that refuses a handshake of this address; None if it is allowed."""
        if not self._addresses.take(where, now):
            return "handshakes_per_address"
        return None if self._budget.take(where, now, cost) else self._name
