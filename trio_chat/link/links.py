"""All links of one party: a table of sessions, and the rules by which they begin, replace each other and end.

A pure state machine: datagrams, plaintexts and the time come in, datagrams to send and events come out. It has no
timers: a lost handshake message is sent again when the request layer sends its plaintext again.
"""

from collections import Counter
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trio_chat.link import packets
from trio_chat.link.cookies import Cookies, HandshakeRates
from trio_chat.link.events import LinkEvent, Moved, Received, ServerCalled, SessionReplaced, Transmit
from trio_chat.link.handshake import Initiator, Responder
from trio_chat.link.hellos import Hellos, ServerKeys
from trio_chat.link.pending import HANDSHAKE_LIFETIME, AcceptedHandshakes, HalfOpen, PendingHandshake, StartedHandshakes
from trio_chat.link.session import LinkSession, Peer
from trio_chat.link.sessions import REPLACED_LIFETIME, SessionTable
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError

RENEW_AFTER = 120.0
"""Seconds after which the next message on a session starts a handshake for a new one."""

RESET_PAUSE = 1.0
"""Seconds that must pass between two handshakes that RESETs start, or wake-up calls."""

MOVE_PAUSE = 1.0
"""Seconds that must pass between two moves of a session: each changes what everybody knows of the peer."""


class Links:
    """The links of the party with the static key `own`. `random` returns the given number of random bytes.

    With `server_keys` it answers HELLOs. `is_known`: whether a link key belongs to somebody known, whose sessions no
    stranger may push out. `server` returns the party whose wake-up calls count. `now` is any clock in seconds that does
    not go back.
    """

    def __init__(
        self,
        own: X25519PrivateKey,
        random: Callable[[int], bytes],
        server_keys: ServerKeys | None = None,
        limits: Limits = LIMITS,
        is_known: Callable[[bytes], bool] = lambda key: False,
        server: Callable[[], Peer | None] = lambda: None,
    ) -> None:
        self.is_behind = False
        """Set by the owner: datagrams come faster than they are read, so strangers get fewer handshakes."""
        self._own = own
        self._public = own.public_key().public_bytes_raw()
        self._random = random
        self._server = server
        self._cookies = Cookies(random(32))
        self._rates = HandshakeRates(limits)
        self._sessions = SessionTable(is_known, limits)
        self._accepted = AcceptedHandshakes()
        self._started = StartedHandshakes()
        self._hellos = Hellos(random, server_keys)
        self._called_at = float("-inf")

    def __len__(self) -> int:
        """How many sessions, handshakes and key queries are remembered."""
        return len(self._sessions) + len(self._accepted) + len(self._started) + len(self._hellos)

    @property
    def refused(self) -> Counter[str]:
        """How often each limit has refused a handshake or ended a session, by its name in `Limits`."""
        return self._rates.refused + self._sessions.ended

    # --- sending ---

    def hello(self, address: Address) -> list[Transmit]:
        """Ask the party at an address for its keys; see `Hellos.ask`."""
        return self._hellos.ask(address)

    def forget_hellos(self) -> None:
        """Nobody waits for keys any longer: answers are refused from now on."""
        self._hellos.forget()

    def send(self, peer: Peer, plaintext: bytes, now: float) -> list[Transmit]:
        """Send 1 to MAX_PLAINTEXT bytes to a peer, now or as soon as there is a session.

        Without a session they wait for half a second, at most 32 for a peer, and the INIT is sent again with each call
        if it may be lost. If the peer's key is not a usable key, nothing is sent. Raises ValueError for other sizes.
        """
        if not 1 <= len(plaintext) <= MAX_PLAINTEXT:
            raise ValueError(f"a link carries 1 to {MAX_PLAINTEXT} bytes, not {len(plaintext)}")
        session = self._sessions.current(peer)
        if session is None or now >= session.expires:
            return self._start_handshake(peer, now, plaintext)
        sealed = [Transmit(session.seal(plaintext), peer.address)]
        # During a renewal messages are still sent: the old session is used until the new one is there.
        return sealed + self._start_handshake(peer, now) if now - session.born >= RENEW_AFTER else sealed

    def greet(self, peer: Peer, now: float) -> list[Transmit]:
        """Send something without content to a peer: what a router lets out opens it for the answers."""
        session = self._sessions.current(peer)
        if session is not None and now < session.expires:
            return [Transmit(session.seal(b""), peer.address)]
        sent = self._start_handshake(peer, now)
        if handshake := self._started.find(peer, now):
            handshake.is_greeting = True
        return sent

    def session(self, peer: Peer) -> bytes:
        """Which session is used to send to this peer; empty if there is none. A peer that starts again has another."""
        session = self._sessions.current(peer)
        return session.index if session else b""

    def latest_peer(self, key: bytes) -> Peer | None:
        """Where the owner of this key was when they, or we, last made a session; None if there is none."""
        return self._sessions.latest_peer(key)

    def round_trip(self, peer: Peer) -> float:
        """How many seconds it takes at most until the peer can have answered; 0 if there is no session."""
        session = self._sessions.current(peer)
        return session.round_trip if session else 0.0

    def progressed_at(self, peer: Peer, now: float) -> float:
        """When the handshake with this peer last came a step further, if it did: the peer is there, but may be far."""
        handshake, session = self._started.find(peer, now), self._sessions.current(peer)
        if handshake and handshake.cookie != packets.NO_COOKIE:
            return handshake.asked_at
        return session.born if session else float("-inf")

    def sweep(self, now: float) -> None:
        """Forget what has ended: call it every few seconds."""
        self._sessions.sweep(now)
        self._started.sweep(now)
        self._accepted.sweep(now)

    def _start_handshake(self, peer: Peer, now: float, plaintext: bytes = b"") -> list[Transmit]:
        """Start a handshake, or go on with the one that is running."""
        handshake = self._started.find(peer, now)
        if handshake is None:
            payload, ephemeral = self._random(16), self._random(32)
            try:
                initiator = Initiator(self._own, peer.key, ephemeral, payload)
            except WireError:
                return []
            handshake = PendingHandshake(peer, self._new_index(), initiator, now)
            self._started.add(handshake)
        if plaintext:
            handshake.queue(plaintext, now)
        return [Transmit(handshake.make_init(now), peer.address)] if handshake.may_be_lost(now) else []

    def _new_index(self) -> bytes:
        while True:
            index = self._random(packets.INDEX_SIZE)
            if not any(index in known for known in (self._sessions, self._accepted, self._started)):
                return index

    # --- receiving ---

    def receive_untrusted(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        """Handle a datagram. Return what follows from it.

        Raises WireError, and nothing else, if it is not a link datagram, forged, a copy, or an answer that was not
        asked for; then nothing has changed.
        """
        if datagram[:1] == bytes((packets.DATA,)):
            return self._receive_data(datagram, address, now)
        match packets.parse_untrusted(datagram):
            case packets.Init() as init:
                return [*self._receive_init(init, address, now)]
            case packets.Cookie(index, cookie):
                return [*self._receive_cookie(index, cookie, address, now)]
            case packets.Resp() as resp:
                return self._receive_resp(resp, address, now)
            case packets.Path(kind, index):
                return self._receive_path(kind, index, datagram, address, now)
            case packets.Reset(index):
                return [*self._receive_reset(index, address, now)]
            case packets.WakeUpCall():
                return [*self._receive_call(address, now)]
            case packets.Hello() as hello:
                return [*self._hellos.receive_hello(hello, address)]
            case packets.Keys() as keys:
                return self._hellos.receive_keys(keys, address)
            case packets.OfOtherVersion() as other:
                return self._hellos.receive_other_version(other, address)

    # --- handshakes ---

    def _receive_init(self, init: packets.Init, address: Address, now: float) -> list[Transmit]:
        # The cookie comes before the first Diffie-Hellman: INITs with forged sources would make this party compute
        # without limit. It proves that the sender receives at this address, so the rates below count true addresses.
        # It also keeps out port 0, at which nobody receives, and which no row of the client table may have.
        if not self._cookies.is_valid(init.cookie, address, init.bare, now):
            cookie = self._cookies.make(address, init.bare, now)
            return [Transmit(packets.Cookie(init.index, cookie).encode(), address)]
        # A copy of an INIT: its RESP was lost. To repeat it costs no computation, so it does not count for the rates.
        resp = self._accepted.find_resp(init.bare, address, now)
        if resp is None:
            if not self._may_compute(address, now):
                return []
            responder = Responder(self._own, init.message)
            peer = Peer(address, responder.remote)
            # Crossing INITs: both parties have started a handshake, and the session of each would replace the other's.
            # So only that of the party with the lower key counts: it does not answer, but reminds the peer of its own.
            if self._public < peer.key and (reminder := self._resend_own_handshake(peer, now)):
                return [Transmit(reminder, address)]
            message, keys = responder.respond(self._random(32))
            # The session is not used to send until the first DATA confirms it: an INIT can be a replayed copy.
            index = self._new_index()
            resp = packets.Resp(init.index, index, message).encode()
            self._accepted.add(HalfOpen(peer, index, init.index, keys, init.bare, resp, now))
        return [Transmit(resp, address)]

    def _may_compute(self, address: Address, now: float) -> bool:
        is_peer = self._sessions.is_known_at(address)
        return self._rates.allow(address, now, is_peer=is_peer, is_behind=self.is_behind)

    def _resend_own_handshake(self, peer: Peer, now: float) -> bytes | None:
        """A datagram that makes the peer go on with our handshake: the INIT, which may be lost, or an empty DATA."""
        if handshake := self._started.find(peer, now):
            # The peer's handshake began before our greeting, and nothing of ours waits: theirs is ready sooner. On a
            # line of 250 ms there and back, their message would have to wait too long.
            return handshake.make_init(now) if handshake.queued or not handshake.is_greeting else None
        # Our handshake is finished here, but the DATA that tells the peer so may be lost.
        session = self._sessions.current(peer)
        return session.seal(b"") if session and _may_be_unknown(session, now) else None

    def _receive_cookie(self, index: bytes, cookie: bytes, address: Address, now: float) -> list[Transmit]:
        handshake = self._started.find_by_index(index, address)
        if handshake is None:
            raise WireError("a cookie for no handshake of ours")
        return [Transmit(handshake.make_init(now), address)] if handshake.use_cookie(cookie, now) else []

    def _receive_resp(self, resp: packets.Resp, address: Address, now: float) -> list[LinkEvent]:
        handshake = self._started.find_by_index(resp.index, address)
        if handshake is None:
            raise WireError("an answer to no handshake of ours")
        _, keys = handshake.initiator.read_response_untrusted(resp.message)
        self._started.remove(handshake.peer)
        took = now - handshake.asked_at
        session = LinkSession(
            keys, handshake.peer, handshake.index, resp.sender, initiated=True, born=now, round_trip=took
        )
        self._sessions.add(session)
        self._sessions.make_current(session, now)
        # The responder sends nothing before the first DATA, so there must be one, if need be an empty one. Nothing is
        # queued if a RESET or a renewal started this: then what was sent on the old session may be lost.
        events: list[LinkEvent] = [*self._seal_queued(session, handshake, now)]
        if not events:
            events = [Transmit(session.seal(b""), address), SessionReplaced(session.peer)]
        return [*events, ServerCalled(session.peer)] if handshake.was_called else events

    def _receive_reset(self, index: bytes, address: Address, now: float) -> list[Transmit]:
        session = self._sessions.find_by_remote(address, index)
        if session is None:
            raise WireError("a reset of no session of ours")
        # Only a hint, as anybody can forge a RESET: the session goes on until a handshake has succeeded. At most one a
        # second, or forged RESETs would keep both parties computing. And it counts for the rates: somebody with
        # thousands of sessions, who sends a RESET for each, gets no more computed than by INITs.
        if now - session.reset_at < RESET_PAUSE:
            return []
        if self._started.find(session.peer, now) is None and not self._may_compute(address, now):
            return []
        session.reset_at = now
        return self._start_handshake(session.peer, now)

    def _receive_call(self, address: Address, now: float) -> list[Transmit]:
        server = self._server()
        if server is None or address != server.address:
            raise WireError("a wake-up call of somebody who is not our server")
        # Only a hint, as a RESET: anybody can forge it. So it gets the same: a handshake, at most one a second. The old
        # session goes on until then, and only an answer inside the new one ends a registration.
        if handshake := self._started.find(server, now):
            handshake.was_called = True
        session = self._sessions.current(server)
        if now - max(self._called_at, session.reset_at if session else self._called_at) < RESET_PAUSE:
            return []
        self._called_at = now
        if session:
            session.reset_at = now
        sent = self._start_handshake(server, now)
        if handshake := self._started.find(server, now):
            handshake.was_called = True
        return sent

    # --- sessions ---

    def _receive_data(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        session = self._sessions.find(datagram[4:8], now)
        if session is None:
            return self._receive_first_data(datagram, address, now)
        highest = session.highest
        plaintext = session.open_untrusted(datagram)
        events: list[LinkEvent] = [Received(session.peer, plaintext)] if plaintext else []
        # Only the newest datagram can show a move (RFC 9000, section 9.3): an older one may have been held back by
        # somebody who sends it from their own address.
        if address != session.peer.address and session.highest > highest:
            events += self._challenge(session, address, len(datagram))
        return events

    def _receive_first_data(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        """DATA under an index without a session: it confirms an accepted handshake, or the session has ended here."""
        session = self._accepted.find_session(datagram[4:8], now)
        if session is None:
            # Not for anything shorter, so that a RESET is never longer than the DATA that causes it.
            if len(datagram) < packets.DATA_OVERHEAD or any(datagram[1:4]):
                raise WireError("not a link datagram")
            return [Transmit(packets.Reset(datagram[4:8]).encode(), address)]
        plaintext = session.open_untrusted(datagram)
        session.round_trip = now - session.born
        self._accepted.remove(session)
        self._sessions.add(session)
        events: list[LinkEvent] = [Received(session.peer, plaintext)] if plaintext else []
        current = self._sessions.current(session.peer)
        # Crossing INITs again: ours counts, which the peer does not know yet. Its session only receives.
        if current and self._public < session.peer.key and _may_be_unknown(current, now):
            session.expires = now + REPLACED_LIFETIME
        else:
            self._sessions.make_current(session, now)
            handshake = self._started.remove(session.peer)
            events += self._seal_queued(session, handshake, now) if handshake else []
        if address != session.peer.address:
            events += self._challenge(session, address, len(datagram))
        return events

    def _seal_queued(self, session: LinkSession, handshake: PendingHandshake, now: float) -> list[Transmit]:
        address = session.peer.address
        return [Transmit(session.seal(plaintext), address) for plaintext in handshake.fresh_plaintexts(now)]

    # --- peers that move ---

    def _challenge(self, session: LinkSession, address: Address, size: int) -> list[Transmit]:
        """Ask whether the peer is at this address, from which a datagram of `size` bytes came."""
        # Never more bytes to an unproven address than came from it: the source may be forged. Stricter than QUIC, which
        # allows three times as many (RFC 9000, section 8.1).
        if size < packets.PATH_SIZE or self._sessions.current(session.peer) is not session:
            return []
        # The same token again for the same address, so that a proof that is overtaken by a new challenge counts.
        if session.challenge is None or session.challenge[0] != address:
            session.challenge = (address, self._random(packets.TOKEN_SIZE))
        return [Transmit(session.seal(session.challenge[1], packets.CHALLENGE), address)]

    def _receive_path(self, kind: int, index: bytes, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        session = self._sessions.find(index, now)
        if session is None:
            raise WireError("the path of no session of ours")
        if kind == packets.CHALLENGE:
            # Somebody who sent our datagram on from their own address got this challenge, and needs a proof from us. It
            # goes to the known address of the peer, whatever source they forge, so that they cannot show it.
            if address != session.peer.address:
                raise WireError("a challenge from somewhere else")
            return [Transmit(session.seal(session.open_untrusted(datagram), packets.PROOF), address)]
        token = session.open_untrusted(datagram)
        if session.challenge != (address, token) or self._sessions.current(session.peer) is not session:
            return []
        # Too early: the challenge stands, and the peer's next datagram gets it again.
        return [self._move(session, address, now)] if now - session.moved_at >= MOVE_PAUSE else []

    def _move(self, session: LinkSession, address: Address, now: float) -> Moved:
        before = session.peer
        self._sessions.unlink(session)
        self._started.remove(before)  # its INITs go to the old address
        session.challenge = None
        session.moved_at = now
        session.peer = Peer(address, before.key)
        self._sessions.make_current(session, now)
        return Moved(before, session.peer)


def _may_be_unknown(session: LinkSession, now: float) -> bool:
    """Whether this side started the session, and the peer has not used it yet: the peer may not know that it exists."""
    return session.initiated and not session.is_confirmed and now - session.born < HANDSHAKE_LIFETIME
