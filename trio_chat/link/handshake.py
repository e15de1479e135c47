"""The handshake Noise_IK_25519_ChaChaPoly_SHA256 (Noise Protocol Framework, revision 34), from both sides.

Messages and keys only: no index, address or clock, and ephemeral keys are handed in. Each side works on a copy of its
state, so a message that fails changes nothing, and a forgery does not end a handshake.
"""

import hashlib
import hmac

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trio_chat.link.packets import VERSION
from trio_chat.protocol.wire import WireError

PROLOGUE = b"trio_chat/%d" % VERSION

_NAME = b"Noise_IK_25519_ChaChaPoly_SHA256"
_KEY = 32
_TAG = 16


@attrs.frozen
class SessionKeys:
    """The result of a handshake: a key for each direction, and the hash of all its messages."""

    sending: bytes = attrs.field(repr=False)
    receiving: bytes = attrs.field(repr=False)
    handshake_hash: bytes


@attrs.define
class _SymmetricState:
    """The SymmetricState of Noise (section 5.2): the hash of the transcript, the chaining key, and the cipher key."""

    hash: bytes
    chaining_key: bytes
    key: bytes = b""
    nonce: int = 0

    @classmethod
    def new(cls, prologue: bytes, responder: bytes) -> "_SymmetricState":
        # The protocol name has exactly the 32 bytes of a hash, so it is the first hash as it is (section 5.2).
        state = cls(_NAME, _NAME)
        state.mix_hash(prologue)
        # The pre-message of IK: the initiator knows the responder's static key (section 7.5).
        state.mix_hash(responder)
        return state

    def copy(self) -> "_SymmetricState":
        return attrs.evolve(self)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self.chaining_key, self.key = _hkdf(self.chaining_key, secret)
        self.nonce = 0

    def seal(self, plaintext: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open_untrusted(self, sealed: bytes) -> bytes:
        try:
            plaintext = ChaCha20Poly1305(self.key).decrypt(self._next_nonce(), sealed, self.hash)
        except InvalidTag as error:
            raise WireError("a forged handshake") from error
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The keys for the initiator's and for the responder's datagrams (Split, section 5.2)."""
        return _hkdf(self.chaining_key, b"")

    def _next_nonce(self) -> bytes:
        # 32 zero bits, then 64 bits in little-endian: section 12.3.
        nonce = bytes(4) + self.nonce.to_bytes(8, "little")
        self.nonce += 1
        return nonce


class Initiator:
    """The side that begins, and knows the static public key of the other.

    Raises WireError if `remote` is not a usable key: it came from the network.
    """

    def __init__(
        self, static: X25519PrivateKey, remote: bytes, ephemeral: bytes, payload: bytes, prologue: bytes = PROLOGUE
    ) -> None:
        self._static = static
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        # First message of IK: -> e, es, s, ss (section 7.5), in this order.
        self._state = state = _SymmetricState.new(prologue, remote)
        public = _public(self._ephemeral)
        state.mix_hash(public)
        state.mix_key(_dh_untrusted(self._ephemeral, remote))
        sealed_static = state.seal(_public(static))
        state.mix_key(_dh_untrusted(static, remote))
        self.message: bytes = public + sealed_static + state.seal(payload)
        """The first message, to be sent."""

    def read_response_untrusted(self, message: bytes) -> tuple[bytes, SessionKeys]:
        """The payload of the second message, and the keys. Raises WireError if it does not answer this handshake."""
        if len(message) < _KEY + _TAG:
            raise WireError("a handshake that is cut short")
        # Second message of IK: <- e, ee, se.
        state = self._state.copy()
        remote = message[:_KEY]
        state.mix_hash(remote)
        state.mix_key(_dh_untrusted(self._ephemeral, remote))
        state.mix_key(_dh_untrusted(self._static, remote))
        payload = state.open_untrusted(message[_KEY:])
        ours, theirs = state.split()
        return payload, SessionKeys(ours, theirs, state.hash)


class Responder:
    """The side that answers. Raises WireError unless `message` is a first message for this static key."""

    def __init__(self, static: X25519PrivateKey, message: bytes, prologue: bytes = PROLOGUE) -> None:
        if len(message) < _KEY + _KEY + _TAG + _TAG:
            raise WireError("a handshake that is cut short")
        self._state = state = _SymmetricState.new(prologue, _public(static))
        self._remote_ephemeral = message[:_KEY]
        state.mix_hash(self._remote_ephemeral)
        state.mix_key(_dh_untrusted(static, self._remote_ephemeral))
        self.remote = state.open_untrusted(message[_KEY : 2 * _KEY + _TAG])
        """The initiator's static public key. Only their first DATA proves it: a first message can be replayed by
        anyone (section 7.7, destination property 2)."""
        state.mix_key(_dh_untrusted(static, self.remote))
        self.payload = state.open_untrusted(message[2 * _KEY + _TAG :])

    def respond(self, ephemeral: bytes, payload: bytes = b"") -> tuple[bytes, SessionKeys]:
        """The second message, to be sent, and the keys."""
        state = self._state.copy()
        private = X25519PrivateKey.from_private_bytes(ephemeral)
        public = _public(private)
        state.mix_hash(public)
        state.mix_key(_dh_untrusted(private, self._remote_ephemeral))
        state.mix_key(_dh_untrusted(private, self.remote))
        message = public + state.seal(payload)
        theirs, ours = state.split()
        return message, SessionKeys(ours, theirs, state.hash)


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _dh_untrusted(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    # 32 bytes, but a point of low order: the shared secret would be zero for every private key (RFC 7748, section 6.1).
    except ValueError as error:
        raise WireError("not a public key") from error


def _hkdf(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs, as in section 4.3."""
    temporary = hmac.digest(chaining_key, secret, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")
