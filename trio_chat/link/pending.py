"""Handshakes that are not finished: those that this party has accepted, and those that it has started.

Bounded in number and in age. What a datagram does to them is decided in links.py.
"""

from collections import OrderedDict

import attrs

from trio_chat.link.handshake import Initiator, SessionKeys
from trio_chat.link.packets import NO_COOKIE, Init
from trio_chat.link.session import LinkSession, Peer
from trio_chat.protocol.records import Address

HANDSHAKE_LIFETIME = 5.0
"""Seconds after which a handshake is given up."""

PLAINTEXT_LIFETIME = 0.5
"""Seconds for which a plaintext waits for its handshake. By then the request layer has sent it again."""

MAX_ACCEPTED_PER_ADDRESS = 4
MAX_ACCEPTED = 8192
"""More than the rates allow in HANDSHAKE_LIFETIME, so no flood pushes out a half-open handshake."""
MAX_STARTED = 1024
MAX_QUEUED = 32
MAX_IMMEDIATE_RESENDS = 3
INIT_RESEND_DELAY = 0.05


@attrs.frozen
class HalfOpen:
    """A handshake that was answered. `init`: the INIT without its cookie; `index` is ours, `remote_index` the peer's.

    It holds keys only: the ciphers of a session take six times the memory, and a flood leaves thousands of these.
    """

    peer: Peer
    index: bytes
    remote_index: bytes
    keys: SessionKeys
    init: bytes
    resp: bytes
    since: float

    def session(self) -> LinkSession:
        """The session that the first DATA confirms."""
        return LinkSession(self.keys, self.peer, self.index, self.remote_index, initiated=False, born=self.since)


class AcceptedHandshakes:
    """Handshakes that were answered: sessions that the initiator has not used yet.

    At most 4 for an address and port, and 8,192 in all. A newer one takes the place of the oldest: if old ones were
    kept, an attacker could fill the table and nobody else could connect.
    """

    def __init__(self) -> None:
        self._by_index: OrderedDict[bytes, HalfOpen] = OrderedDict()
        self._by_address: dict[Address, dict[bytes, HalfOpen]] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def __contains__(self, index: bytes) -> bool:
        return index in self._by_index

    def add(self, half_open: HalfOpen) -> None:
        """Remember this handshake until it is confirmed or too old."""
        address = half_open.peer.address
        same_address = self._by_address.get(address, {})
        if len(same_address) >= MAX_ACCEPTED_PER_ADDRESS:
            self._remove(next(iter(same_address.values())))
        elif len(self) >= MAX_ACCEPTED:
            self._remove(next(iter(self._by_index.values())))
        self._by_index[half_open.index] = half_open
        self._by_address.setdefault(address, {})[half_open.init] = half_open

    def find_resp(self, init: bytes, address: Address, now: float) -> bytes | None:
        """The RESP that this INIT got before. Repeating it makes up for a lost one without a second computation."""
        self.sweep(now)
        half_open = self._by_address.get(address, {}).get(init)
        return half_open.resp if half_open else None

    def find_session(self, index: bytes, now: float) -> LinkSession | None:
        """The session that a valid DATA under this index would confirm."""
        half_open = self._by_index.get(index)
        return half_open.session() if half_open and now - half_open.since < HANDSHAKE_LIFETIME else None

    def remove(self, session: LinkSession) -> None:
        """Forget the handshake of this session: it is confirmed."""
        self._remove(self._by_index[session.index])

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        # A dict keeps the order in which the handshakes came, so the first young one ends the search.
        while half_open := next(iter(self._by_index.values()), None):
            if now - half_open.since < HANDSHAKE_LIFETIME:
                return
            self._remove(half_open)

    def _remove(self, half_open: HalfOpen) -> None:
        del self._by_index[half_open.index]
        same_address = self._by_address[half_open.peer.address]
        del same_address[half_open.init]
        if not same_address:
            del self._by_address[half_open.peer.address]


@attrs.define(eq=False)
class PendingHandshake:
    """A handshake that this party has started, and the plaintexts that wait for it.

    `asked_at`: when the INIT was sent first with its present cookie. `was_called`: the server has sent a wake-up call
    since it began, or before it. `is_greeting`: it was started only to send something to the peer.
    """

    peer: Peer
    index: bytes
    initiator: Initiator
    started_at: float
    init_sent_at: float = float("-inf")
    asked_at: float = attrs.field(init=False)
    cookie: bytes = NO_COOKIE
    immediate_resends_left: int = MAX_IMMEDIATE_RESENDS
    was_called: bool = False
    is_greeting: bool = False
    queued: dict[bytes, float] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.asked_at = self.started_at

    def queue(self, plaintext: bytes, now: float) -> None:
        """Keep this until the handshake is finished. Of more than 32 the oldest is dropped."""
        # The request layer sends the same bytes again while it waits: they are kept once, as the newest.
        self.queued.pop(plaintext, None)
        self.queued[plaintext] = now
        if len(self.queued) > MAX_QUEUED:
            del self.queued[next(iter(self.queued))]

    def fresh_plaintexts(self, now: float) -> list[bytes]:
        """The queued plaintexts that are not too old, in order."""
        return [plaintext for plaintext, since in self.queued.items() if now - since <= PLAINTEXT_LIFETIME]

    def make_init(self, now: float) -> bytes:
        """The INIT, to be sent now."""
        self.init_sent_at = now
        return Init(self.index, self.initiator.message, self.cookie).encode()

    def may_be_lost(self, now: float) -> bool:
        """Whether so much time has passed since the INIT was sent that it may have been lost."""
        return now - self.init_sent_at >= INIT_RESEND_DELAY

    def use_cookie(self, cookie: bytes, now: float) -> bool:
        """Use this cookie in the next INIT. Return whether that is to be sent at once.

        The newest cookie counts. If the first ones did, a few forged ones would keep the true one out (fuzzing found
        it). At once only a few times: otherwise every forged cookie would make this party send.
        """
        if cookie == self.cookie:
            return False
        self.cookie, self.asked_at = cookie, now
        self.immediate_resends_left -= 1
        return self.immediate_resends_left >= 0


class StartedHandshakes:
    """The handshakes that this party has started: one for a peer, 1,024 in all. The oldest is given up first."""

    def __init__(self) -> None:
        self._by_peer: dict[Peer, PendingHandshake] = {}
        self._by_index: dict[bytes, PendingHandshake] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def __contains__(self, index: bytes) -> bool:
        return index in self._by_index

    def add(self, handshake: PendingHandshake) -> None:
        """Add a handshake. One with the same peer is given up."""
        self.remove(handshake.peer)
        if len(self) >= MAX_STARTED:
            self.remove(next(iter(self._by_peer)))
        self._by_peer[handshake.peer] = handshake
        self._by_index[handshake.index] = handshake

    def find(self, peer: Peer, now: float) -> PendingHandshake | None:
        """The handshake with this peer."""
        handshake = self._by_peer.get(peer)
        return handshake if handshake and now - handshake.started_at < HANDSHAKE_LIFETIME else None

    def find_by_index(self, index: bytes, address: Address) -> PendingHandshake | None:
        """The handshake with this index, if it is one with this address: no other party may answer it."""
        handshake = self._by_index.get(index)
        return handshake if handshake and handshake.peer.address == address else None

    def remove(self, peer: Peer) -> PendingHandshake | None:
        """Forget the handshake with this peer and return it: it is finished, or given up."""
        handshake = self._by_peer.pop(peer, None)
        if handshake:
            del self._by_index[handshake.index]
        return handshake

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        for handshake in [one for one in self._by_peer.values() if now - one.started_at >= HANDSHAKE_LIFETIME]:
            self.remove(handshake.peer)
