"""One sealed session: counters, the window that lets no datagram in twice, and whom it leads to.

How a session comes about and when it ends is in link.py.
"""

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trio_chat.link.handshake import SessionKeys
from trio_chat.link.packets import DATA, DATA_OVERHEAD, header
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import WireError

__all__ = ["REPLAY_WINDOW", "LinkSession", "Peer"]

REPLAY_WINDOW = 1024
"""How far behind the highest counter a datagram may come."""

_MASK = (1 << REPLAY_WINDOW) - 1
_NONCE = bytes(4)


@attrs.frozen(cache_hash=True)
class Peer:
    """Somebody at an address, known by a static X25519 public key."""

    address: Address
    key: bytes


class LinkSession:
    """The keys of one finished handshake at work, on one side.

    `index` is our name for it and stands in what comes in, `remote_index` the other's and stands in what goes out.
    `initiated`: the handshake was ours. `expires` is when it is no longer used at all.
    """

    def __init__(
        self, keys: SessionKeys, peer: Peer, index: bytes, remote_index: bytes, *, initiated: bool, born: float
    ) -> None:
        self.peer = peer
        self.index = index
        self.remote_index = remote_index
        self.initiated = initiated
        self.born = born
        self.expires = born
        self.hinted_at = float("-inf")
        self.challenge: tuple[Address, bytes] | None = None
        self.before: LinkSession | None = None
        self.highest = -1
        self._seen = 0
        self._next = 0
        self._header = header(DATA, remote_index)
        self._encrypt = ChaCha20Poly1305(keys.sending).encrypt
        self._decrypt = ChaCha20Poly1305(keys.receiving).decrypt

    @property
    def heard(self) -> bool:
        """Whether anything came in: only then does the other surely have this session."""
        return self.highest >= 0

    def seal(self, plaintext: bytes, kind: int = DATA) -> bytes:
        """A datagram with this plaintext, like no other before it."""
        counter = self._next
        self._next = counter + 1
        opening = self._header if kind == DATA else header(kind, self.remote_index)
        opening += counter.to_bytes(8, "big")
        return opening + self._encrypt(_NONCE + counter.to_bytes(8, "little"), plaintext, opening)

    def open_untrusted(self, datagram: bytes) -> bytes:
        """The plaintext of a datagram. Raises WireError, and changes nothing, if it is forged, a copy or too old."""
        if len(datagram) < DATA_OVERHEAD:
            raise WireError("too short to be sealed")
        opening = datagram[:16]
        counter = int.from_bytes(opening[8:], "big")
        ahead = counter - self.highest
        if ahead <= -REPLAY_WINDOW or (ahead <= 0 and self._seen >> -ahead & 1):
            raise WireError("came before, or too late to tell")
        try:
            plaintext = self._decrypt(_NONCE + counter.to_bytes(8, "little"), datagram[16:], opening)
        except InvalidTag as error:
            raise WireError("a forged datagram") from error
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < REPLAY_WINDOW else 1
            self.highest = counter
        else:
            self._seen |= 1 << -ahead
        return plaintext
