"""One sealed session: its keys and counters, and the window that accepts each datagram once.

How sessions begin and end is in links.py.
"""

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trio_chat.link.handshake import SessionKeys
from trio_chat.link.packets import DATA, DATA_OVERHEAD, header
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import WireError

REPLAY_WINDOW = 1024
"""How far behind the highest counter a datagram may come."""

_MASK = (1 << REPLAY_WINDOW) - 1
_NONCE = bytes(4)


@attrs.frozen(cache_hash=True)
class Peer:
    """A party at an address, identified by its static X25519 public key."""

    address: Address
    key: bytes


class LinkSession:
    """One side of a session: the keys of a finished handshake, in use.

    `index` is our index, which incoming datagrams carry; `remote_index` is the peer's, for outgoing ones. `initiated`:
    we began the handshake. `expires`: the time after which the session is not used at all. `round_trip`: the seconds
    that a datagram of ours and the answer to it took in the handshake, at most: the first of its copies counts.
    """

    def __init__(
        self,
        keys: SessionKeys,
        peer: Peer,
        index: bytes,
        remote_index: bytes,
        *,
        initiated: bool,
        born: float,
        round_trip: float = 0.0,
    ) -> None:
        self.peer = peer
        self.index = index
        self.remote_index = remote_index
        self.initiated = initiated
        self.born = born
        self.expires = born
        self.round_trip = round_trip
        self.reset_at = self.moved_at = float("-inf")
        self.challenge: tuple[Address, bytes] | None = None
        self.previous: LinkSession | None = None
        self.highest = -1
        self._seen = 0
        self._next = 0
        self._header = header(DATA, remote_index)
        self._encrypt = ChaCha20Poly1305(keys.sending).encrypt
        self._decrypt = ChaCha20Poly1305(keys.receiving).decrypt

    @property
    def is_confirmed(self) -> bool:
        """Whether a datagram was received: only then is it certain that the peer has this session too."""
        return self.highest >= 0

    def seal(self, plaintext: bytes, kind: int = DATA) -> bytes:
        """A datagram with this plaintext. No two are the same, as each has a counter of its own."""
        counter = self._next
        self._next = counter + 1
        opening = self._header if kind == DATA else header(kind, self.remote_index)
        opening += counter.to_bytes(8, "big")
        # Header and counter are authenticated, so that nobody can make a CHALLENGE of a DATA. An explicit counter as
        # the nonce makes the order of arrival irrelevant (Noise, section 11.4).
        return opening + self._encrypt(_NONCE + counter.to_bytes(8, "little"), plaintext, opening)

    def open_untrusted(self, datagram: bytes) -> bytes:
        """The plaintext. Raises WireError, and changes nothing, if it is forged, received before, or too old."""
        if len(datagram) < DATA_OVERHEAD:
            raise WireError("too short to be sealed")
        opening = datagram[:16]
        counter = int.from_bytes(opening[8:], "big")
        # The replay window of RFC 4303, section 3.4.3. Bit i of `_seen` stands for the counter `highest` - i. What
        # is older than the window is refused, as nothing tells whether it came before. This check is first because
        # it is cheap: a flood of copies is not decrypted.
        ahead = counter - self.highest
        if ahead <= -REPLAY_WINDOW or (ahead <= 0 and self._seen >> -ahead & 1):
            raise WireError("came before, or too late to tell")
        try:
            plaintext = self._decrypt(_NONCE + counter.to_bytes(8, "little"), datagram[16:], opening)
        except InvalidTag as error:
            raise WireError("a forged datagram") from error
        # Only now does the window move: a forged counter near 2**64 would push all true datagrams out of it.
        if ahead > 0:
            # A shift by the difference could take 2**60 bits: after such a leap only the newest is known.
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < REPLAY_WINDOW else 1
            self.highest = counter
        else:
            self._seen |= 1 << -ahead
        return plaintext
