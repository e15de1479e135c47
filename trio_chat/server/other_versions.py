"""Whom the operator is told of because their program has another version of the protocol (pure).

What is such a program is found out in link/hellos.py.
"""

from trio_chat.link.events import OtherVersion
from trio_chat.protocol.limits import Rate, origin
from trio_chat.protocol.token_buckets import TokenBuckets

LINES = Rate(10, 1 / 60)
"""How many addresses the operator is told of."""

ADDRESSES_KEPT = 1024


class OtherVersions:
    """Each address is reported once, as what it sends comes again and again.

    Anybody can forge it, with any address. So there are few lines, whatever comes, and the newest addresses are
    remembered.
    """

    def __init__(self) -> None:
        self._told: dict[str, None] = {}
        self._lines = TokenBuckets(LINES, 1)

    def line(self, met: OtherVersion, now: float) -> str | None:
        """What to log; None if that was said before, or too much was."""
        where = origin(met.address)
        if where in self._told or not self._lines.take("lines", now):
            return None
        self._told[where] = None
        if len(self._told) > ADDRESSES_KEPT:
            del self._told[next(iter(self._told))]
        host, port = met.address
        if met.is_older:
            return f"a program at {host}, port {port}, is too old for this server: it must be upgraded"
        return f"a program at {host}, port {port}, is newer than this server: the server must be upgraded"
