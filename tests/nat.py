"""A router that translates addresses (NAT), as a pure model: addresses and the time in, addresses out.

The words are those of RFC 4787 and RFC 5780. Used by the network in memory and by the one of real namespaces.
"""

import enum
import itertools

import trio


class Kind(enum.Enum):
    """Who reaches the host behind it, and how the host is seen."""

    FULL_CONE = "everybody at one address"
    PORT_RESTRICTED = "only those to whom it has sent, at one address"
    SYMMETRIC = "only those to whom it has sent, at another address for each of them"


class Nat:
    """One router with the outside address `host`. What it knows is forgotten `lasts` seconds after its last
    use outwards.

    `hairpin`: whether those behind it reach each other at its outside address.
    """

    def __init__(self, host, kind=Kind.PORT_RESTRICTED, *, lasts=120.0, hairpin=False):
        self.host = host
        self.hairpin = hairpin
        self._kind = kind
        self._lasts = lasts
        self._ports = itertools.count(40_000)
        # Of each inside address (with the destination, if symmetric): the outside port, and when it was last used.
        self._mappings = {}
        # Of each outside port: to whom something was sent from there, and when.
        self._sent_to = {}

    def outward(self, source, destination, now):
        """The address from which a datagram goes on, that was sent from inside."""
        key = (source, destination if self._kind is Kind.SYMMETRIC else None)
        port, used = self._mappings.get(key, (0, float("-inf")))
        if now - used > self._lasts:
            self._sent_to.pop(port, None)
            port = next(self._ports)
        self._mappings[key] = (port, now)
        self._sent_to.setdefault(port, {})[destination] = now
        return (self.host, port)

    def inward(self, source, destination, now):
        """The inside address to which a datagram goes that came from outside; None if it is dropped."""
        for (inside, _), (port, used) in self._mappings.items():
            if port == destination[1] and now - used <= self._lasts:
                sent_at = self._sent_to[port].get(source, float("-inf"))
                is_let_in = self._kind is Kind.FULL_CONE or now - sent_at <= self._lasts
                return inside if is_let_in else None
        return None


class Firewall:
    """In front of some hosts: it lets in what comes from where they have sent to lately, and translates nothing."""

    def __init__(self, hosts, lasts):
        self._hosts = hosts
        self._lasts = lasts
        self._sent = {}

    def lets_through(self, data, source, destination):
        """A filter of a MemoryNetwork."""
        now = trio.current_time()
        if source[0] in self._hosts:
            self._sent[source, destination] = now
        is_answer = now - self._sent.get((destination, source), float("-inf")) <= self._lasts
        return is_answer or destination[0] not in self._hosts
