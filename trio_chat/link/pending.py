"""Handshakes begun and not finished, on both sides: those answered, and those asked for with what waits for them.

Bounded in number and in age. Which of them counts for what is decided in link.py.
"""

from collections.abc import Iterator

import attrs

from trio_chat.link.handshake import Initiator
from trio_chat.link.packets import NO_COOKIE, Init
from trio_chat.link.session import LinkSession, Peer
from trio_chat.protocol.records import Address

__all__ = ["HANDSHAKE_LIFETIME", "HOLD_TIME", "AcceptedHandshakes", "PendingHandshake", "StartedHandshakes"]

HANDSHAKE_LIFETIME = 5.0
"""Seconds after which a handshake is given up."""

HOLD_TIME = 0.5
"""Seconds for which a plaintext waits for a session; whoever still wants it sent has sent it again by then."""

ANSWERED_PER_ADDRESS = 4
ANSWERED_IN_ALL = 1024
ASKED_IN_ALL = 1024
HELD_PER_PEER = 32
COOKIES_HURRIED = 3
INIT_PAUSE = 0.05


@attrs.frozen
class _HalfOpen:
    address: Address
    init: bytes
    resp: bytes
    session: LinkSession
    since: float


class AcceptedHandshakes:
    """Handshakes that were answered: sessions that their initiator has not used yet.

    At most 4 for an address and port and 1,024 in all; a newer one takes the place of the oldest.
    """

    def __init__(self) -> None:
        self._by_index: dict[bytes, _HalfOpen] = {}
        self._by_address: dict[Address, dict[bytes, _HalfOpen]] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def __contains__(self, index: bytes) -> bool:
        return index in self._by_index

    def add(self, init: bytes, resp: bytes, session: LinkSession, now: float) -> None:
        """This INIT (without its cookie) was answered with this RESP."""
        address = session.peer.address
        beside = self._by_address.setdefault(address, {})
        if len(beside) >= ANSWERED_PER_ADDRESS:
            self._remove(next(iter(beside.values())))
        elif len(self) >= ANSWERED_IN_ALL:
            self._remove(next(iter(self._by_index.values())))
        half_open = _HalfOpen(address, init, resp, session, now)
        self._by_index[session.index] = half_open
        self._by_address.setdefault(address, {})[init] = half_open

    def resp(self, init: bytes, address: Address, now: float) -> bytes | None:
        """The RESP that this INIT got before, if it did, and lately."""
        self.sweep(now)
        half_open = self._by_address.get(address, {}).get(init)
        return half_open.resp if half_open else None

    def session(self, index: bytes, now: float) -> LinkSession | None:
        """The session that would begin with a valid DATA under this index."""
        half_open = self._by_index.get(index)
        return half_open.session if half_open and now - half_open.since < HANDSHAKE_LIFETIME else None

    def discard(self, session: LinkSession) -> None:
        """The session has begun."""
        self._remove(self._by_index[session.index])

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        for half_open in list(self._by_index.values()):
            if now - half_open.since < HANDSHAKE_LIFETIME:
                return
            self._remove(half_open)

    def _remove(self, half_open: _HalfOpen) -> None:
        del self._by_index[half_open.session.index]
        beside = self._by_address[half_open.address]
        del beside[half_open.init]
        if not beside:
            del self._by_address[half_open.address]


@attrs.define(eq=False)
class PendingHandshake:
    """A handshake of ours, and the newest plaintexts that wait for it, each once."""

    peer: Peer
    index: bytes
    initiator: Initiator
    begun: float
    sent_at: float = float("-inf")
    cookie: bytes = NO_COOKIE
    hurries_left: int = COOKIES_HURRIED
    held: dict[bytes, float] = attrs.Factory(dict)

    def hold(self, plaintext: bytes, now: float) -> None:
        """Keep this until the answer is here; of too many, the oldest goes."""
        self.held.pop(plaintext, None)
        self.held[plaintext] = now
        if len(self.held) > HELD_PER_PEER:
            del self.held[next(iter(self.held))]

    def still_wanted(self, now: float) -> list[bytes]:
        """What is worth sending now, in order."""
        return [plaintext for plaintext, since in self.held.items() if now - since <= HOLD_TIME]

    def init(self, now: float) -> bytes:
        """The INIT, to be sent now."""
        self.sent_at = now
        return Init(self.index, self.initiator.message, self.cookie).encode()

    def is_due(self, now: float) -> bool:
        """Whether the INIT may have been lost by now."""
        return now - self.sent_at >= INIT_PAUSE

    def take_cookie(self, cookie: bytes) -> bool:
        """Keep it for the next INIT. Whether that is to be sent at once: a few times, so that nobody is kept sending.

        The newest one counts, or else a few that somebody has made up would keep the true one out.
        """
        if cookie == self.cookie:
            return False
        self.cookie = cookie
        self.hurries_left -= 1
        return self.hurries_left >= 0


class StartedHandshakes:
    """Handshakes of ours that wait for their RESP, one for a peer and 1,024 in all; the oldest is given up first."""

    def __init__(self) -> None:
        self._by_peer: dict[Peer, PendingHandshake] = {}
        self._by_index: dict[bytes, PendingHandshake] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def __contains__(self, index: bytes) -> bool:
        return index in self._by_index

    def add(self, question: PendingHandshake) -> None:
        """This one begins; one that is there for the same peer ends."""
        self.end(question.peer)
        if len(self) >= ASKED_IN_ALL:
            self.end(next(iter(self._by_peer)))
        self._by_peer[question.peer] = question
        self._by_index[question.index] = question

    def to(self, peer: Peer, now: float) -> PendingHandshake | None:
        """The handshake under way with this peer."""
        question = self._by_peer.get(peer)
        return question if question and now - question.begun < HANDSHAKE_LIFETIME else None

    def under(self, index: bytes, address: Address) -> PendingHandshake | None:
        """The handshake that has this index, if it goes to this address."""
        question = self._by_index.get(index)
        return question if question and question.peer.address == address else None

    def end(self, peer: Peer) -> PendingHandshake | None:
        """Answered, or given up."""
        question = self._by_peer.pop(peer, None)
        if question:
            del self._by_index[question.index]
        return question

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        for question in list(self._old(now)):
            self.end(question.peer)

    def _old(self, now: float) -> Iterator[PendingHandshake]:
        return (one for one in self._by_peer.values() if now - one.begun >= HANDSHAKE_LIFETIME)
