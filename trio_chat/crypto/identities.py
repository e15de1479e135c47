"""Identities: private keys, the certificate that ties them to a name at one server, and a server's link key.

Who has which key is remembered elsewhere: at the client in client/key_pins.py, at the server in its table.
"""

from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from trio_chat.crypto.signatures import statement, verify
from trio_chat.protocol.records import Credentials, PublicKeys, fold

_IDENTITY = "trio_chat/1 identity"
_LINK_KEY = "trio_chat/1 link key"


@attrs.frozen
class Identity:
    """The private keys of a person or a server, each made of 32 random bytes."""

    signing_secret: bytes = attrs.field(repr=False)
    link_secret: bytes = attrs.field(repr=False)
    signing: Ed25519PrivateKey = attrs.field(init=False, repr=False, eq=False)
    link: X25519PrivateKey = attrs.field(init=False, repr=False, eq=False)
    public: PublicKeys = attrs.field(init=False)

    @classmethod
    def new(cls, random: Callable[[int], bytes]) -> "Identity":
        """New keys. `random` returns the given number of random bytes."""
        return cls(random(32), random(32))

    @signing.default
    def _make_signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.signing_secret)

    @link.default
    def _make_link(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.link_secret)

    @public.default
    def _make_public(self) -> PublicKeys:
        return PublicKeys(self.signing.public_key().public_bytes_raw(), self.link.public_key().public_bytes_raw())


def credentials(own: Identity, *, name: str, server_key: bytes) -> Credentials:
    """What the owner of a name shows at one server, given by its Ed25519 key, to prove that it is theirs."""
    return Credentials(own.public, sign_identity(own, name=name, server_key=server_key))


def sign_identity(own: Identity, *, name: str, server_key: bytes) -> bytes:
    """The certificate of a name at one server (its Ed25519 key): it ties both public keys and the name together."""
    # With the server in it: a certificate that was shown to one server must not be valid at another.
    return own.signing.sign(statement(_IDENTITY, fold(name), own.public.link, server_key))


def verify_identity(keys: PublicKeys, certificate: bytes, *, name: str, server_key: bytes) -> bool:
    """Whether these keys belong together, and to this name at this server."""
    return verify(keys.signing, certificate, statement(_IDENTITY, fold(name), keys.link, server_key))


def sign_link_key(own: Identity) -> bytes:
    """A server's signature of its X25519 key, which it sends to those who ask for its keys."""
    return own.signing.sign(statement(_LINK_KEY, own.public.link))


def verify_link_key(keys: PublicKeys, signature: bytes) -> bool:
    """Whether the owner of the Ed25519 key has signed the X25519 key."""
    return verify(keys.signing, signature, statement(_LINK_KEY, keys.link))
