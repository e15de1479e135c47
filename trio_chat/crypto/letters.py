"""Letters, sealed for one recipient with HPKE (RFC 9180), and posts to rooms, which are signed but readable.

Pure, except that HPKE generates random bytes by itself. When letters are sent and shown is decided in client/.
"""

from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.signatures import SIGNATURE_SIZE, TIME, statement, verify
from trio_chat.protocol.records import EVERYONE, MAX_TEXT, PublicKeys, fold

LETTER_OVERHEAD = 32 + 16 + SIGNATURE_SIZE + TIME.size
"""Bytes that sealing adds to a text: HPKE's key and tag, signature, time."""

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_YEAR_10000 = 253_402_300_800.0

_LETTER = "trio_chat/1 letter"
_ENVELOPE = "trio_chat/1 envelope"
_POST = "trio_chat/1 group post"
_ROOM_POST = "trio_chat/1 room post"


class Unreadable(Exception):
    """The letter is not for this reader, not from the sender it names, or was changed in transit."""


@attrs.frozen
class OpenedText:
    """A text that was opened and verified. `sent_at`: the time by the sender's clock, seconds since 1970, UTC."""

    sent_at: float
    text: str


# --- letters ---


def seal_letter(
    own: Identity, reader: PublicKeys, *, id: bytes, sender: str, recipient: str, sent_at: float, text: str
) -> bytes:
    """A letter that only the reader can open: LETTER_OVERHEAD bytes longer than its text.

    Raises Unreadable if the reader's key, which came from the network, is not usable.
    """
    stated = _letter(id, sender, own.public.signing, recipient, reader, sent_at, text.encode())
    inside = own.signing.sign(stated) + TIME.pack(sent_at) + text.encode()
    try:
        key = X25519PublicKey.from_public_bytes(reader.link)
        return HPKE.encrypt(inside, key, _envelope(id, sender, recipient))
    except ValueError as error:
        raise Unreadable("the reader's key cannot be used") from error


def open_letter_untrusted(
    sealed: bytes, own: Identity, sender_key: bytes, *, id: bytes, sender: str, recipient: str
) -> OpenedText:
    """The text of a letter that `sender` has signed with `sender_key` for `recipient`, whose identity is `own`.

    Raises Unreadable, and nothing else, for anything else.
    """
    try:
        inside = HPKE.decrypt(sealed, own.link, _envelope(id, sender, recipient))
    except (InvalidTag, ValueError) as error:
        raise Unreadable("cannot be opened") from error
    return read_signed_untrusted(
        inside, sender_key, lambda at, raw: _letter(id, sender, sender_key, recipient, own.public, at, raw)
    )


def read_signed_untrusted(inside: bytes, key: bytes, state: Callable[[float, bytes], bytes]) -> OpenedText:
    """Time and text, if the owner of `key` has signed what `state` makes of them. Raises Unreadable."""
    start = SIGNATURE_SIZE + TIME.size
    if not start < len(inside) <= start + MAX_TEXT:
        raise Unreadable("no letter has this length")
    signature, raw = inside[:SIGNATURE_SIZE], inside[start:]
    (sent_at,) = TIME.unpack_from(inside, SIGNATURE_SIZE)
    # The signature first: what the sender has not signed is not looked at any further.
    if not verify(key, signature, state(sent_at, raw)):
        raise Unreadable("the signature is not the sender's")
    if not 0 <= sent_at < _YEAR_10000:
        raise Unreadable("the time is not valid")
    try:
        return OpenedText(sent_at, raw.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("the text is not UTF-8") from error


def _envelope(id: bytes, sender: str, recipient: str) -> bytes:
    return statement(_ENVELOPE, id, fold(sender), fold(recipient))


def _letter(
    id: bytes, sender: str, sender_key: bytes, recipient: str, reader: PublicKeys, sent_at: float, text: bytes
) -> bytes:
    # The keys of both are signed with their names. Otherwise a reader could seal the text again for somebody else, as
    # if the sender had written it to them, if a server gives them the same name (Davis, Defective Sign & Encrypt).
    names = (fold(sender), sender_key, fold(recipient), reader.signing, reader.link)
    return statement(_LETTER, id, *names, sent_at, text)


# --- posts ---


@attrs.frozen
class SignedRoom:
    """To which room a post is signed: its id and its name."""

    id: str = EVERYONE
    name: str = ""


TO_EVERYONE = SignedRoom()


def sign_post(
    own: Identity, *, id: bytes, sender: str, sent_at: float, text: str, room: SignedRoom = TO_EVERYONE
) -> bytes:
    """A message to a room: signed, but readable for the server."""
    raw = text.encode()
    return own.signing.sign(_post(id, sender, room, sent_at, raw)) + TIME.pack(sent_at) + raw


def open_post_untrusted(
    body: bytes, sender_key: bytes, *, id: bytes, sender: str, room: SignedRoom = TO_EVERYONE
) -> OpenedText:
    """The text of a post that `sender` has signed with `sender_key` for this room.

    Raises Unreadable for anything else.
    """
    return read_signed_untrusted(body, sender_key, lambda at, raw: _post(id, sender, room, at, raw))


def _post(id: bytes, sender: str, room: SignedRoom, sent_at: float, text: bytes) -> bytes:
    if room.id == EVERYONE:
        return statement(_POST, id, fold(sender), sent_at, text)
    # The id: another room may get the name later. The name: only the server says which room has it, and could show what
    # was written to one room as if it was written to another one.
    return statement(_ROOM_POST, id, fold(sender), room.id, fold(room.name), sent_at, text)
