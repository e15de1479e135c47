"""The handshake Noise_IK_25519_ChaChaPoly_SHA256 (Noise, revision 34), from both sides.

Messages and keys only: no index, no address, no clock; ephemeral keys are handed in. A message that fails changes
nothing, so a forgery does not end a handshake.
"""

import hashlib
import hmac

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trio_chat.protocol.wire import WireError

__all__ = ["PROLOGUE", "Initiator", "Responder", "SessionKeys"]

PROLOGUE = b"trio_chat/1"

_NAME = b"Noise_IK_25519_ChaChaPoly_SHA256"
_KEY = 32
_TAG = 16


@attrs.frozen
class SessionKeys:
    """What a finished handshake leaves: a key for each direction, and the hash of all that was said."""

    sending: bytes = attrs.field(repr=False)
    receiving: bytes = attrs.field(repr=False)
    handshake_hash: bytes


@attrs.define
class _Transcript:
    """The symmetric state of Noise: what was said, and the key that follows from it."""

    hash: bytes
    chain: bytes
    key: bytes = b""
    nonce: int = 0

    def copy(self) -> "_Transcript":
        return attrs.evolve(self)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self.chain, self.key = _derive_two(self.chain, secret)
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

    def _next_nonce(self) -> bytes:
        nonce = bytes(4) + self.nonce.to_bytes(8, "little")
        self.nonce += 1
        return nonce


class Initiator:
    """The side that begins, and knows the other's static public key.

    Raises WireError when that key is none: it came from somebody.
    """

    def __init__(
        self, static: X25519PrivateKey, remote: bytes, ephemeral: bytes, payload: bytes, prologue: bytes = PROLOGUE
    ) -> None:
        self._static = static
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._said = said = _opening(prologue, remote)
        public = _public(self._ephemeral)
        said.mix_hash(public)
        said.mix_key(_dh_untrusted(self._ephemeral, remote))
        sealed_static = said.seal(_public(static))
        said.mix_key(_dh_untrusted(static, remote))
        self.message: bytes = public + sealed_static + said.seal(payload)
        """The first message, to be sent."""

    def read_response_untrusted(self, message: bytes) -> tuple[bytes, SessionKeys]:
        """The payload of the second message, and the keys. Raises WireError if it is not the other's answer to this."""
        if len(message) < _KEY + _TAG:
            raise WireError("a handshake that is cut short")
        said = self._said.copy()
        remote = message[:_KEY]
        said.mix_hash(remote)
        said.mix_key(_dh_untrusted(self._ephemeral, remote))
        said.mix_key(_dh_untrusted(self._static, remote))
        payload = said.open_untrusted(message[_KEY:])
        first, second = _derive_two(said.chain, b"")
        return payload, SessionKeys(first, second, said.hash)


class Responder:
    """The side that answers. Raises WireError unless `message` is a first message for this static key."""

    def __init__(self, static: X25519PrivateKey, message: bytes, prologue: bytes = PROLOGUE) -> None:
        if len(message) < _KEY + _KEY + _TAG + _TAG:
            raise WireError("a handshake that is cut short")
        self._said = said = _opening(prologue, _public(static))
        self._remote_ephemeral = message[:_KEY]
        said.mix_hash(self._remote_ephemeral)
        said.mix_key(_dh_untrusted(static, self._remote_ephemeral))
        self.remote = said.open_untrusted(message[_KEY : 2 * _KEY + _TAG])
        """The static public key of the initiator, proven only by its first DATA: a first message can be a copy."""
        said.mix_key(_dh_untrusted(static, self.remote))
        self.payload = said.open_untrusted(message[2 * _KEY + _TAG :])

    def respond(self, ephemeral: bytes, payload: bytes = b"") -> tuple[bytes, SessionKeys]:
        """The second message, to be sent, and the keys."""
        said = self._said.copy()
        private = X25519PrivateKey.from_private_bytes(ephemeral)
        public = _public(private)
        said.mix_hash(public)
        said.mix_key(_dh_untrusted(private, self._remote_ephemeral))
        said.mix_key(_dh_untrusted(private, self.remote))
        message = public + said.seal(payload)
        first, second = _derive_two(said.chain, b"")
        return message, SessionKeys(second, first, said.hash)


def _opening(prologue: bytes, responder: bytes) -> _Transcript:
    said = _Transcript(_NAME, _NAME)
    said.mix_hash(prologue)
    said.mix_hash(responder)
    return said


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _dh_untrusted(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # 32 bytes, but of a kind whose secret everyone knows
        raise WireError("not a public key") from error


def _derive_two(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.digest(chain, secret, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")
