"""The table of sessions of one party: which one a datagram belongs to, which one is used to send, and which one ends.

Bounded for strangers as for those who are known. How sessions begin and move is in links.py.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable

from trio_chat.link.session import LinkSession, Peer
from trio_chat.protocol.limits import Limits
from trio_chat.protocol.records import Address

SESSION_LIFETIME = 180.0
"""Seconds after which a session is not used any longer, whether or not there is a new one."""

REPLACED_LIFETIME = 10.0
"""Seconds for which a replaced session still accepts datagrams: those that the new one has overtaken."""

MAX_PER_KEY = 4
"""Sessions of one key, at all its addresses. Beyond that its oldest one ends."""

EXAMINED = 8


class SessionTable:
    """All sessions. `is_known`: whether a key belongs to somebody who is known here.

    A session begins as that of a stranger: only inside it can its peer register. When there are too many of them, the
    oldest one ends, or is put with those of peers if its key is known by then. There is room for all who are known.
    `ended`: how often each limit has ended a session, by its name in `Limits`.
    """

    def __init__(self, is_known: Callable[[bytes], bool], limits: Limits) -> None:
        self.ended: Counter[str] = Counter()
        self._is_known = is_known
        self._strangers: OrderedDict[bytes, LinkSession] = OrderedDict()
        self._peers: OrderedDict[bytes, LinkSession] = OrderedDict()
        self._orders = (
            ("sessions_of_strangers", limits.sessions_of_strangers, self._strangers),
            ("sessions_of_peers", limits.sessions_of_peers, self._peers),
        )
        self._by_index: dict[bytes, LinkSession] = {}
        self._by_key: dict[bytes, dict[bytes, LinkSession]] = {}
        self._by_remote: dict[tuple[Address, bytes], LinkSession] = {}
        self._current: dict[Peer, LinkSession] = {}
        self._at_address: dict[Address, LinkSession] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def __contains__(self, index: bytes) -> bool:
        return index in self._by_index

    def find(self, index: bytes, now: float) -> LinkSession | None:
        """The session with this index, if it has not expired."""
        session = self._by_index.get(index)
        return session if session and now < session.expires else None

    def find_by_remote(self, address: Address, remote_index: bytes) -> LinkSession | None:
        """The current session with a peer at this address that gave it this index."""
        return self._by_remote.get((address, remote_index))

    def current(self, peer: Peer) -> LinkSession | None:
        """The session on which is sent to this peer."""
        return self._current.get(peer)

    def latest_peer(self, key: bytes) -> Peer | None:
        """The peer with this key, where its newest session is on which is sent."""
        sessions = reversed(self._by_key.get(key, {}).values())
        return next((one.peer for one in sessions if self._current.get(one.peer) is one), None)

    def is_known_at(self, address: Address) -> bool:
        """Whether somebody known has a session at this address and port."""
        session = self._at_address.get(address)
        return session is not None and self._is_known(session.peer.key)

    def add(self, session: LinkSession) -> None:
        """Receive on this session from now on."""
        session.expires = session.born + SESSION_LIFETIME
        self._by_index[session.index] = self._strangers[session.index] = session
        of_key = self._by_key.setdefault(session.peer.key, {})
        of_key[session.index] = session
        # One key at ever new ports: somebody known must not fill the table either.
        if len(of_key) > MAX_PER_KEY:
            self.drop(next(iter(of_key.values())))
        self._make_room()

    def make_current(self, session: LinkSession, now: float) -> None:
        """Send on this session from now on. The one before still receives for a while; the one before that ends."""
        old = self._current.get(session.peer)
        if old:
            if old.previous:  # a peer that makes one handshake after the other must not fill the table
                self.drop(old.previous)
                old.previous = None
            old.expires = min(old.expires, now + REPLACED_LIFETIME)
            self.unlink(old)
            # Inherited: a forged RESET of each new session would otherwise start one handshake after the other.
            session.reset_at = max(session.reset_at, old.reset_at)
        session.previous = old
        self._current[session.peer] = self._at_address[session.peer.address] = session
        self._by_remote[session.peer.address, session.remote_index] = session

    def unlink(self, session: LinkSession) -> None:
        """Send on this session no longer."""
        address = session.peer.address
        if self._current.get(session.peer) is session:
            del self._current[session.peer]
        if self._at_address.get(address) is session:
            del self._at_address[address]
        if self._by_remote.get((address, session.remote_index)) is session:
            del self._by_remote[address, session.remote_index]

    def drop(self, session: LinkSession) -> None:
        """Forget this session."""
        self.unlink(session)
        if self._by_index.pop(session.index, None):
            self._strangers.pop(session.index, None)
            self._peers.pop(session.index, None)
            of_key = self._by_key[session.peer.key]
            del of_key[session.index]
            if not of_key:
                del self._by_key[session.peer.key]

    def sweep(self, now: float) -> None:
        """Forget what has expired."""
        for session in [one for one in self._by_index.values() if now >= one.expires]:
            self.drop(session)

    def _make_room(self) -> None:
        # Bounded work for each datagram: a session of somebody known is put at the end, and is not looked at again
        # before all others. One of strangers always makes room among them, so of these one is examined.
        for name, limit, order in self._orders:
            for _ in range(EXAMINED):
                if len(order) <= limit:
                    break
                session = next(iter(order.values()))
                if self._is_known(session.peer.key):
                    del order[session.index]
                    self._peers[session.index] = session
                else:
                    self.drop(session)
                    self.ended[name] += 1
