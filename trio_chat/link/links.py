"""Every link of one party: the table of sessions, and the rules by which they begin, take over and end.

A pure state machine: it is told what arrived, what to send and what time it is, and says what to transmit and what
to deliver. Random bytes come from the function that it is given. It waits for nothing and re-sends nothing by
itself: whoever sends again within his window drives a handshake on.
"""

from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trio_chat.crypto.identities import verify_link_key
from trio_chat.link.cookies import Cookies, HandshakeRates
from trio_chat.link.handshake import Initiator, Responder
from trio_chat.link.packets import (
    CHALLENGE,
    DATA,
    DATA_OVERHEAD,
    INDEX_SIZE,
    PATH_SIZE,
    PROOF,
    TOKEN_SIZE,
    Cookie,
    Hello,
    Init,
    Keys,
    Path,
    Reset,
    Resp,
    parse_untrusted,
)
from trio_chat.link.pending import HANDSHAKE_LIFETIME, AcceptedHandshakes, PendingHandshake, StartedHandshakes
from trio_chat.link.session import LinkSession, Peer
from trio_chat.protocol.records import Address, PublicKeys
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError

__all__ = ["KeysLearned", "LinkEvent", "Links", "Moved", "Received", "Relinked", "ServerKeys", "Transmit"]

RENEW_AFTER = 120.0
"""Seconds after which a session that is sent on gets a successor."""

SESSION_LIFETIME = 180.0
"""Seconds after which a session is not used any longer, whether or not it got one."""

REPLACED_LIFETIME = 10.0
"""Seconds for which a replaced session is still good for what comes in."""

RESET_PAUSE = 1.0
"""Seconds that must pass between two handshakes that a RESET brings about."""

MAX_SESSIONS = 16_384
MAX_KEY_QUERIES = 16


@attrs.frozen
class Transmit:
    """Send this datagram to this address."""

    data: bytes
    address: Address


@attrs.frozen
class Received:
    """The peer has said this. Its address is the proven one, not always that of the datagram."""

    peer: Peer
    plaintext: bytes


@attrs.frozen
class Moved:
    """The peer is at another address now, and has proven it; its session goes on."""

    before: Peer
    now: Peer


@attrs.frozen
class KeysLearned:
    """Who is at this address says that these are its keys, and they belong together. Whether to trust them is open."""

    address: Address
    keys: PublicKeys


@attrs.frozen
class Relinked:
    """A new session with the peer took the place of one that he may not have known any longer.

    What was sent on that lately may not have been read: whoever still wants an answer does well to send it again.
    """

    peer: Peer


@attrs.frozen
class ServerKeys:
    """What a party that strangers may ask answers: its keys, and `letters.sign_link_key` of them."""

    keys: PublicKeys
    signature: bytes


LinkEvent = Transmit | Received | Moved | Relinked | KeysLearned


class Links:
    """The links of the party with the static key `own`. `random` gives so many random bytes.

    With `server_keys`, strangers that ask for them get them. `now` is any clock that does not go back, in seconds.
    """

    def __init__(
        self, own: X25519PrivateKey, random: Callable[[int], bytes], server_keys: ServerKeys | None = None
    ) -> None:
        self._own = own
        self._public = own.public_key().public_bytes_raw()
        self._random = random
        self._server_keys = server_keys
        self._cookies = Cookies(random(32))
        self._rates = HandshakeRates()
        self._sessions: dict[bytes, LinkSession] = {}
        self._current: dict[Peer, LinkSession] = {}
        self._by_remote: dict[tuple[Address, bytes], LinkSession] = {}
        self._answered = AcceptedHandshakes()
        self._asked = StartedHandshakes()
        self._hellos: dict[Address, bytes] = {}

    def __len__(self) -> int:
        """How many sessions, handshakes and questions for keys are remembered."""
        return len(self._sessions) + len(self._answered) + len(self._asked) + len(self._hellos)

    # --- sending ---

    def hello(self, address: Address) -> list[Transmit]:
        """Ask who is at an address; ask again until `Learned` comes. Sixteen are asked at a time, no more."""
        index = self._hellos.setdefault(address, self._random(INDEX_SIZE))
        if len(self._hellos) > MAX_KEY_QUERIES:
            del self._hellos[next(iter(self._hellos))]
        return [Transmit(Hello(index).encode(), address)]

    def send(self, peer: Peer, plaintext: bytes, now: float) -> list[Transmit]:
        """Send at most MAX_PLAINTEXT bytes, but not none, to a peer: now, or as soon as there is a session.

        Without one it waits for half a second, with the 32 newest others, and each call sends the INIT again when
        it may have been lost. A key that is none leads nowhere, as one that nobody has.
        """
        if not 1 <= len(plaintext) <= MAX_PLAINTEXT:
            raise ValueError(f"a link carries 1 to {MAX_PLAINTEXT} bytes, not {len(plaintext)}")
        session = self._current.get(peer)
        if session is None or now >= session.expires:
            return self._ask(peer, now, plaintext)
        sealed = [Transmit(session.seal(plaintext), peer.address)]
        return sealed + self._ask(peer, now) if now - session.born >= RENEW_AFTER else sealed

    def sweep(self, now: float) -> None:
        """Forget what has ended: call it every few seconds."""
        for session in [one for one in self._sessions.values() if now >= one.expires]:
            self._drop(session)
        self._asked.sweep(now)
        self._answered.sweep(now)

    def _ask(self, peer: Peer, now: float, plaintext: bytes = b"") -> list[Transmit]:
        question = self._asked.to(peer, now)
        if question is None:
            payload, ephemeral = self._random(16), self._random(32)
            try:
                initiator = Initiator(self._own, peer.key, ephemeral, payload)
            except WireError:
                return []
            question = PendingHandshake(peer, self._new_index(), initiator, now)
            self._asked.add(question)
        if plaintext:
            question.hold(plaintext, now)
        return [Transmit(question.init(now), peer.address)] if question.is_due(now) else []

    def _new_index(self) -> bytes:
        while True:
            index = self._random(INDEX_SIZE)
            if not any(index in known for known in (self._sessions, self._answered, self._asked)):
                return index

    # --- receiving ---

    def receive_untrusted(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        """What follows from a datagram.

        Raises WireError, and nothing else, if it is no link datagram, forged, a copy, or the answer to no question;
        then nothing has changed.
        """
        if datagram[:1] == bytes((DATA,)):
            return self._take_data(datagram, address, now)
        match parse_untrusted(datagram):
            case Init() as init:
                return [*self._take_init(init, address, now)]
            case Cookie() as cookie:
                return [*self._take_cookie(cookie, address, now)]
            case Resp() as resp:
                return self._take_resp(resp, address, now)
            case Path(kind, index):
                return self._take_path(kind, index, datagram, address, now)
            case Reset(index):
                return [*self._take_reset(index, address, now)]
            case Hello(index) if self._server_keys:
                keys = self._server_keys.keys
                answer = Keys(index, keys.link, keys.signing, self._server_keys.signature)
                return [Transmit(answer.encode(), address)]
            case Keys() as keys:
                return [self._take_keys(keys, address)]
        raise WireError("not our question to answer")

    def _take_keys(self, said: Keys, address: Address) -> KeysLearned:
        keys = PublicKeys(said.signing_key, said.link_key)
        if self._hellos.get(address) != said.index or not verify_link_key(keys, said.signature):
            raise WireError("keys that do not answer a question, or are not signed")
        del self._hellos[address]
        return KeysLearned(address, keys)

    # --- handshakes ---

    def _take_init(self, init: Init, address: Address, now: float) -> list[Transmit]:
        bare = init.bare
        if not self._cookies.is_good(init.cookie, address, bare, now):
            cookie = self._cookies.bake(address, bare, now)
            return [Transmit(Cookie(init.index, cookie).encode(), address)]
        resp = self._answered.resp(bare, address, now)
        if resp is None:
            if not self._rates.admit(address, now):
                return []
            responder = Responder(self._own, init.message)
            peer = Peer(address, responder.remote)
            if self._public < peer.key and (reminder := self._remind(peer, now)):
                return [Transmit(reminder, address)]
            message, keys = responder.respond(self._random(32))
            session = LinkSession(keys, peer, self._new_index(), init.index, initiated=False, born=now)
            resp = Resp(init.index, session.index, message).encode()
            self._answered.add(bare, resp, session, now)
        return [Transmit(resp, address)]

    def _remind(self, peer: Peer, now: float) -> bytes | None:
        """INITs have crossed and ours counts: what makes the other go on with it."""
        if question := self._asked.to(peer, now):
            return question.init(now)
        session = self._current.get(peer)
        return session.seal(b"") if session and _is_unheard(session, now) else None

    def _take_cookie(self, said: Cookie, address: Address, now: float) -> list[Transmit]:
        question = self._asked.under(said.index, address)
        if question is None:
            raise WireError("a cookie for no handshake of ours")
        return [Transmit(question.init(now), address)] if question.take_cookie(said.cookie) else []

    def _take_resp(self, resp: Resp, address: Address, now: float) -> list[LinkEvent]:
        question = self._asked.under(resp.index, address)
        if question is None:
            raise WireError("an answer to no handshake of ours")
        _, keys = question.initiator.read_response_untrusted(resp.message)
        self._asked.end(question.peer)
        session = LinkSession(keys, question.peer, question.index, resp.sender, initiated=True, born=now)
        self._admit(session)
        self._make_current(session, now)
        waiting = self._flush(session, question, now)
        return [*waiting] if waiting else [Transmit(session.seal(b""), address), Relinked(session.peer)]

    def _take_reset(self, index: bytes, address: Address, now: float) -> list[Transmit]:
        session = self._by_remote.get((address, index))
        if session is None:
            raise WireError("a reset of no session of ours")
        if now - session.hinted_at < RESET_PAUSE:
            return []
        session.hinted_at = now
        return self._ask(session.peer, now)

    # --- sessions ---

    def _take_data(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        session = self._sessions.get(datagram[4:8])
        if session is None or now >= session.expires:
            return self._take_first_data(datagram, address, now)
        highest = session.highest
        plaintext = session.open_untrusted(datagram)
        steps: list[LinkEvent] = [Received(session.peer, plaintext)] if plaintext else []
        if address != session.peer.address and session.highest > highest:
            steps += self._challenge(session, address, len(datagram))
        return steps

    def _take_first_data(self, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        """A session begins for the responder; or it has ended, or never was."""
        index = datagram[4:8]
        session = self._answered.session(index, now)
        if session is None:
            if len(datagram) < DATA_OVERHEAD or any(datagram[1:4]):
                raise WireError("not a link datagram")
            return [Transmit(Reset(index).encode(), address)]
        plaintext = session.open_untrusted(datagram)
        self._answered.discard(session)
        self._admit(session)
        steps: list[LinkEvent] = [Received(session.peer, plaintext)] if plaintext else []
        current = self._current.get(session.peer)
        if current and self._public < session.peer.key and _is_unheard(current, now):
            session.expires = now + REPLACED_LIFETIME
        else:
            self._make_current(session, now)
            question = self._asked.end(session.peer)
            steps += self._flush(session, question, now) if question else []
        if address != session.peer.address:
            steps += self._challenge(session, address, len(datagram))
        return steps

    def _flush(self, session: LinkSession, question: PendingHandshake, now: float) -> list[Transmit]:
        address = session.peer.address
        return [Transmit(session.seal(plaintext), address) for plaintext in question.still_wanted(now)]

    def _admit(self, session: LinkSession) -> None:
        session.expires = session.born + SESSION_LIFETIME
        if len(self._sessions) >= MAX_SESSIONS:
            self._drop(next(iter(self._sessions.values())))
        self._sessions[session.index] = session

    def _make_current(self, session: LinkSession, now: float) -> None:
        """From now on what goes to its peer goes here. The one before it lives on for a while, that before it ends."""
        old = self._current.get(session.peer)
        if old:
            if old.before:
                self._drop(old.before)
                old.before = None
            old.expires = min(old.expires, now + REPLACED_LIFETIME)
            self._unlink(old)
            session.hinted_at = max(session.hinted_at, old.hinted_at)
        session.before = old
        self._current[session.peer] = session
        self._by_remote[session.peer.address, session.remote_index] = session

    def _unlink(self, session: LinkSession) -> None:
        if self._current.get(session.peer) is session:
            del self._current[session.peer]
        if self._by_remote.get((session.peer.address, session.remote_index)) is session:
            del self._by_remote[session.peer.address, session.remote_index]

    def _drop(self, session: LinkSession) -> None:
        self._sessions.pop(session.index, None)
        self._unlink(session)

    # --- other addresses ---

    def _challenge(self, session: LinkSession, address: Address, size: int) -> list[Transmit]:
        """Ask whether the peer is really there, unless the question would be longer than what came from there."""
        if size < PATH_SIZE or self._current.get(session.peer) is not session:
            return []
        if session.challenge is None or session.challenge[0] != address:
            session.challenge = (address, self._random(TOKEN_SIZE))
        return [Transmit(session.seal(session.challenge[1], CHALLENGE), address)]

    def _take_path(self, kind: int, index: bytes, datagram: bytes, address: Address, now: float) -> list[LinkEvent]:
        session = self._sessions.get(index)
        if session is None or now >= session.expires:
            raise WireError("the path of no session of ours")
        if kind == CHALLENGE:
            if address != session.peer.address:
                raise WireError("a challenge from somewhere else")
            # To where the peer is known to be: who relayed the datagram that it asks about gets nothing to relay.
            return [Transmit(session.seal(session.open_untrusted(datagram), PROOF), address)]
        token = session.open_untrusted(datagram)
        if session.challenge != (address, token) or self._current.get(session.peer) is not session:
            return []
        return [self._move(session, address, now)]

    def _move(self, session: LinkSession, address: Address, now: float) -> Moved:
        before = session.peer
        self._unlink(session)
        self._asked.end(before)
        session.challenge = None
        session.peer = Peer(address, before.key)
        self._make_current(session, now)
        return Moved(before, session.peer)


def _is_unheard(session: LinkSession, now: float) -> bool:
    """Whether it is one of ours, new, that the other has not used yet: it may not know of it."""
    return session.initiated and not session.heard and now - session.born < HANDSHAKE_LIFETIME
