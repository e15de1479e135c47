"""What is signed, and what is sealed to one reader: letters, group posts, receipts, identities, link keys.

Pure but for HPKE, which draws its own randomness. Each kind of statement opens with a domain of its own, and each
field with its length, so no signature can be read as one under something else. Names are signed as they compare.
"""

import hashlib
import struct
from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from trio_chat.protocol.records import MAX_TEXT, Credentials, PublicKeys, fold

__all__ = [
    "SEALED_MORE",
    "SIGNATURE",
    "Identity",
    "Opened",
    "Unreadable",
    "credentials",
    "is_receipt",
    "open_letter_untrusted",
    "read_post_untrusted",
    "seal_letter",
    "sign_identity",
    "sign_link_key",
    "sign_unreadable",
    "verify_identity",
    "verify_link_key",
    "verify_unreadable",
    "write_post",
    "write_receipt",
]

SIGNATURE = 64
"""Bytes of a signature."""

HASH = 32

SEALED_MORE = 32 + 16 + SIGNATURE + 8
"""Bytes that a sealed letter has more than its text: HPKE's key and tag, signature, time."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_TIME = struct.Struct(">d")
_YEAR_10000 = 253_402_300_800.0

_LETTER = "trio_chat/1 letter"
_ENVELOPE = "trio_chat/1 envelope"
_POST = "trio_chat/1 group post"
_RECEIPT = "trio_chat/1 receipt"
_UNREADABLE = "trio_chat/1 unreadable"
_IDENTITY = "trio_chat/1 identity"
_LINK_KEY = "trio_chat/1 link key"


class Unreadable(Exception):
    """This letter is not for us, or not from the one it should be from, or was changed on its way."""


@attrs.frozen
class Identity:
    """Somebody's private keys, made of 32 random bytes each."""

    signing_secret: bytes = attrs.field(repr=False)
    link_secret: bytes = attrs.field(repr=False)
    signing: Ed25519PrivateKey = attrs.field(init=False, repr=False, eq=False)
    link: X25519PrivateKey = attrs.field(init=False, repr=False, eq=False)
    public: PublicKeys = attrs.field(init=False)

    @classmethod
    def new(cls, random: Callable[[int], bytes]) -> "Identity":
        """New keys; `random` gives so many random bytes."""
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


@attrs.frozen
class Opened:
    """A letter that its reader has opened and verified. `sent_at` is the sender's clock, seconds since 1970, UTC."""

    sent_at: float
    text: str


# --- letters ---


def seal_letter(
    own: Identity, reader: PublicKeys, *, id: bytes, sender: str, recipient: str, sent_at: float, text: str
) -> bytes:
    """A letter that only the reader can open: SEALED_MORE bytes longer than its text.

    Raises Unreadable if the reader's key, which came from somebody, is none.
    """
    stated = _letter(id, sender, own.public.signing, recipient, reader, sent_at, text.encode())
    inside = own.signing.sign(stated) + _TIME.pack(sent_at) + text.encode()
    try:
        key = X25519PublicKey.from_public_bytes(reader.link)
        return _SUITE.encrypt(inside, key, _envelope(id, sender, recipient))
    except ValueError as error:
        raise Unreadable("the reader's key is not a key") from error


def open_letter_untrusted(
    sealed: bytes, own: Identity, sender_key: bytes, *, id: bytes, sender: str, recipient: str
) -> Opened:
    """The letter in it, which `sender` has signed with `sender_key`, for `recipient`, who has the identity `own`.

    Raises Unreadable, and nothing else, if it is anything but that.
    """
    try:
        inside = _SUITE.decrypt(sealed, own.link, _envelope(id, sender, recipient))
    except (InvalidTag, ValueError) as error:
        raise Unreadable("cannot be opened") from error
    return _read_signed_untrusted(
        inside, sender_key, lambda at, raw: _letter(id, sender, sender_key, recipient, own.public, at, raw)
    )


def _read_signed_untrusted(inside: bytes, key: bytes, state: Callable[[float, bytes], bytes]) -> Opened:
    """Signature, time and text, where the owner of `key` has signed what `state` says of them. Raises Unreadable."""
    if not SIGNATURE + _TIME.size < len(inside) <= SIGNATURE + _TIME.size + MAX_TEXT:
        raise Unreadable("no letter has this length")
    signature, time, raw = inside[:SIGNATURE], inside[SIGNATURE : SIGNATURE + 8], inside[SIGNATURE + 8 :]
    (sent_at,) = _TIME.unpack(time)
    if not _verify(key, signature, state(sent_at, raw)):
        raise Unreadable("the signature is not the sender's")
    if not 0 <= sent_at < _YEAR_10000:
        raise Unreadable("no time")
    try:
        return Opened(sent_at, raw.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("no text") from error


def _envelope(id: bytes, sender: str, recipient: str) -> bytes:
    return _statement(_ENVELOPE, id, fold(sender), fold(recipient))


def _letter(
    id: bytes, sender: str, sender_key: bytes, recipient: str, reader: PublicKeys, sent_at: float, text: bytes
) -> bytes:
    names = (fold(sender), sender_key, fold(recipient), reader.signing, reader.link)
    return _statement(_LETTER, id, *names, sent_at, text)


# --- group posts ---


def write_post(own: Identity, *, id: bytes, sender: str, sent_at: float, text: str) -> bytes:
    """A message to everyone, signed; its text can be read on its way."""
    raw = text.encode()
    return own.signing.sign(_post(id, sender, sent_at, raw)) + _TIME.pack(sent_at) + raw


def read_post_untrusted(body: bytes, sender_key: bytes, *, id: bytes, sender: str) -> Opened:
    """The message in it, which `sender` has signed with `sender_key`. Raises Unreadable if it is anything but that."""
    return _read_signed_untrusted(body, sender_key, lambda at, raw: _post(id, sender, at, raw))


def _post(id: bytes, sender: str, sent_at: float, text: bytes) -> bytes:
    return _statement(_POST, id, fold(sender), sent_at, text)


# --- receipts ---


def write_receipt(own: Identity, *, id: bytes, sender: str, text: str) -> bytes:
    """What the reader of a text of `sender` gives for it: the text's SHA-256 and his signature, 96 bytes."""
    text_hash = hashlib.sha256(text.encode()).digest()
    return text_hash + own.signing.sign(_receipt(id, sender, text_hash))


def is_receipt(receipt: bytes, key: bytes, *, id: bytes, sender: str, text: str | None = None) -> bool:
    """Whether the owner of `key` has given this for a message of `sender`; with `text`, for that text."""
    text_hash, signature = receipt[:HASH], receipt[HASH:]
    if text is not None and text_hash != hashlib.sha256(text.encode()).digest():
        return False
    return _verify(key, signature, _receipt(id, sender, text_hash))


def _receipt(id: bytes, sender: str, text_hash: bytes) -> bytes:
    return _statement(_RECEIPT, id, fold(sender), text_hash)


def sign_unreadable(own: Identity, *, id: bytes, sender: str) -> bytes:
    """The reader's signature: a letter of `sender` came that could not be opened."""
    return own.signing.sign(_statement(_UNREADABLE, id, fold(sender)))


def verify_unreadable(key: bytes, signature: bytes, *, id: bytes, sender: str) -> bool:
    """Whether the owner of `key` says that this letter could not be opened."""
    return _verify(key, signature, _statement(_UNREADABLE, id, fold(sender)))


# --- keys ---


def credentials(own: Identity, *, name: str, server_key: bytes) -> Credentials:
    """What the owner of a name shows for it at one server (its Ed25519 key)."""
    return Credentials(own.public, sign_identity(own, name=name, server_key=server_key))


def sign_identity(own: Identity, *, name: str, server_key: bytes) -> bytes:
    """The certificate of a name at one server (its Ed25519 key): these two keys go together, and with the name."""
    return own.signing.sign(_statement(_IDENTITY, fold(name), own.public.link, server_key))


def verify_identity(keys: PublicKeys, certificate: bytes, *, name: str, server_key: bytes) -> bool:
    """Whether these keys belong together and to this name at this server."""
    return _verify(keys.signing, certificate, _statement(_IDENTITY, fold(name), keys.link, server_key))


def sign_link_key(own: Identity) -> bytes:
    """A server's signature of its X25519 key, for whoever asks for its keys."""
    return own.signing.sign(_statement(_LINK_KEY, own.public.link))


def verify_link_key(keys: PublicKeys, signature: bytes) -> bool:
    """Whether the owner of the Ed25519 key has signed the X25519 key."""
    return _verify(keys.signing, signature, _statement(_LINK_KEY, keys.link))


def _statement(domain: str, *fields: bytes | str | float) -> bytes:
    stated = bytearray()
    for field in (domain, *fields):
        match field:
            case str():
                raw = field.encode()
            case float() | int():
                raw = _TIME.pack(field)
            case _:
                raw = field
        stated += len(raw).to_bytes(4, "big") + raw
    return bytes(stated)


def _verify(key: bytes, signature: bytes, stated: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, stated)
    except (InvalidSignature, ValueError):
        return False
    return True
