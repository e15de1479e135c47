"""Private rooms: epochs signed by an owner, the room's key sealed for each member, posts sealed with that key.

Pure, except that HPKE generates random bytes by itself; other random bytes are passed in. When an epoch begins, and
which one is believed, is decided in client/.
"""

import hashlib
from collections.abc import Iterable
from enum import Enum

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import HPKE, OpenedText, Unreadable, read_signed_untrusted
from trio_chat.crypto.signatures import SIGNATURE_SIZE, TIME, statement, verify
from trio_chat.protocol.epochs import MAX_NUMBER, NO_EPOCH, Epoch, RoomMember, decode_epoch_untrusted, encode_epoch
from trio_chat.protocol.records import Entry, EntryKind, PublicKeys, fold
from trio_chat.protocol.wire import WireError

NONCE = 12
"""Bytes of the random nonce of a sealed post. One key seals far fewer than the 2**32 that 96 bits are good for."""

NUMBER = 8
"""Bytes of the number of the epoch with which a sealed post begins, readable for the server."""

_EPOCH = "trio_chat/1 epoch"
_KEY = "trio_chat/1 room key"
_COMMITMENT = "trio_chat/1 room key commitment"
_SEALED_POST = "trio_chat/1 sealed post"
_PRIVATE_POST = "trio_chat/1 private post"


# --- epochs ---


@attrs.frozen
class SignedEpoch:
    """An epoch with the signature of its owner: `body` is what is sent, `hash` what the next epoch names."""

    epoch: Epoch
    body: bytes = attrs.field(repr=False)

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.body).digest()


def sign_epoch(
    own: Identity,
    key: bytes,
    *,
    room: str,
    name: str,
    members: Iterable[tuple[str, PublicKeys]],
    owners: Iterable[bytes],
    before: SignedEpoch | None = None,
) -> SignedEpoch:
    """The epoch after this one, with a new key of 32 random bytes. Raises Unreadable if a member's key is not usable.

    Sealing takes about 0.1 ms for each member.
    """
    n = before.epoch.n + 1 if before else 1
    sealed = tuple(RoomMember(one, keys, _seal_key(key, keys, room, n, own.public.signing)) for one, keys in members)
    hash_before = before.hash if before else NO_EPOCH
    epoch = Epoch(room, name, n, hash_before, own.public.signing, _commitment(key), tuple(owners), sealed)
    raw = encode_epoch(epoch)
    return SignedEpoch(epoch, own.signing.sign(statement(_EPOCH, raw)) + raw)


def read_epoch_untrusted(body: bytes) -> SignedEpoch:
    """An epoch, signed by the owner that it names. Raises Unreadable, and nothing else, for anything else.

    Whether they own the room is not in it: see `compare`.
    """
    signature, raw = body[:SIGNATURE_SIZE], body[SIGNATURE_SIZE:]
    try:
        epoch = decode_epoch_untrusted(raw)
    except WireError as error:
        raise Unreadable("not an epoch") from error
    if not verify(epoch.owner, signature, statement(_EPOCH, raw)):
        raise Unreadable("the signature is not the owner's")
    return SignedEpoch(epoch, body)


def signed_epoch(body: bytes) -> SignedEpoch:
    """An epoch whose signature has been verified before. Raises WireError if it is damaged."""
    return SignedEpoch(decode_epoch_untrusted(body[SIGNATURE_SIZE:]), body)


class Sequel(Enum):
    """What an epoch of a room is for somebody who knows another one of it, or none."""

    NEXT = "it is the next one, or the first one that they see"
    LATER = "it is a later one, and those between are missing"
    KNOWN = "they know it"
    OLD = "it was before it"
    FORK = "it does not follow from the one that they know, or is in its place"
    NOT_AN_OWNER = "who has signed it does not own the room"


def epoch_of_entry_untrusted(entry: Entry) -> int:
    """The number of the epoch that an entry brings, or with whose key it is sealed; 0 if it has none."""
    if entry.kind == EntryKind.GROUP:
        n = epoch_of_post(entry.body)
        return n if n <= MAX_NUMBER else 0
    try:
        return read_epoch_untrusted(entry.body).epoch.n
    except Unreadable:
        return 0


def compare(known: SignedEpoch | None, new: SignedEpoch) -> Sequel:
    """What `new` is for somebody who knows `known`, an epoch of the same room.

    Of a first one it cannot be known who owns the room: that is what the person whom its `owner` has invited believes.
    """
    if known is None:
        return Sequel.NEXT if new.epoch.owner in new.epoch.owners else Sequel.NOT_AN_OWNER
    if new.hash == known.hash:
        return Sequel.KNOWN
    n, last = new.epoch.n, known.epoch.n
    if n < last:
        return Sequel.OLD
    if new.epoch.owner not in known.epoch.owners:
        return Sequel.NOT_AN_OWNER
    # Also if the name is another one: a room could be made to look like another room.
    if n == last or (n == last + 1 and new.epoch.before != known.hash) or new.epoch.name != known.epoch.name:
        return Sequel.FORK
    return Sequel.NEXT if n == last + 1 else Sequel.LATER


def room_key_untrusted(epoch: Epoch, own: Identity) -> bytes:
    """The key of an epoch. Raises Unreadable if we are no member, or are given another key than the others."""
    member = epoch.member(own.public.signing)
    if member is None:
        raise Unreadable("we are not in this room")
    # The next owner would seal the next key for the one that is listed, which may be somebody else's.
    if member.keys != own.public:
        raise Unreadable("it lists another key than ours")
    try:
        key = HPKE.decrypt(member.sealed, own.link, _key_info(epoch.room, epoch.n, epoch.owner, member.keys))
    except (InvalidTag, ValueError) as error:
        raise Unreadable("the key cannot be opened") from error
    if _commitment(key) != epoch.commitment:
        raise Unreadable("the others have another key")
    return key


def _seal_key(key: bytes, keys: PublicKeys, room: str, n: int, owner: bytes) -> bytes:
    try:
        public = X25519PublicKey.from_public_bytes(keys.link)
        return HPKE.encrypt(key, public, _key_info(room, n, owner, keys))
    except ValueError as error:
        raise Unreadable("a member's key cannot be used") from error


def _key_info(room: str, n: int, owner: bytes, keys: PublicKeys) -> bytes:
    return statement(_KEY, room, n, owner, keys.signing, keys.link)


def _commitment(key: bytes) -> bytes:
    return hashlib.sha256(statement(_COMMITMENT, key)).digest()


# --- posts ---


@attrs.frozen
class RoomKey:
    """What posts of one epoch are sealed with. `hash`: that of the epoch."""

    room: str
    name: str
    n: int
    hash: bytes
    key: bytes = attrs.field(repr=False)


def seal_post(
    own: Identity, room: RoomKey, nonce: bytes, *, id: bytes, sender: str, sent_at: float, text: str
) -> bytes:
    """A message to a private room: signed, and sealed for those who have the key. `nonce`: NONCE random bytes."""
    raw = text.encode()
    inside = own.signing.sign(_private_post(room, id, sender, sent_at, raw)) + TIME.pack(sent_at) + raw
    number = room.n.to_bytes(NUMBER, "big")
    return number + nonce + ChaCha20Poly1305(room.key).encrypt(nonce, inside, _sealed_post(room, id, sender))


def epoch_of_post(body: bytes) -> int:
    """The number of the epoch with whose key a post is sealed, as it says."""
    return int.from_bytes(body[:NUMBER], "big")


def open_sealed_post_untrusted(body: bytes, room: RoomKey, sender_key: bytes, *, id: bytes, sender: str) -> OpenedText:
    """The text of a post that `sender` has signed with `sender_key` in this epoch. Raises Unreadable for anything else.

    Whether they are a member is not looked at.
    """
    nonce, sealed = body[NUMBER : NUMBER + NONCE], body[NUMBER + NONCE :]
    if epoch_of_post(body) != room.n or len(nonce) != NONCE:
        raise Unreadable("sealed in another epoch")
    try:
        inside = ChaCha20Poly1305(room.key).decrypt(nonce, sealed, _sealed_post(room, id, sender))
    except InvalidTag as error:
        raise Unreadable("cannot be opened") from error
    return read_signed_untrusted(inside, sender_key, lambda at, raw: _private_post(room, id, sender, at, raw))


def _sealed_post(room: RoomKey, id: bytes, sender: str) -> bytes:
    return statement(_SEALED_POST, room.room, room.n, id, fold(sender))


def _private_post(room: RoomKey, id: bytes, sender: str, sent_at: float, text: bytes) -> bytes:
    # The hash of the epoch stands for the room, its name and all who read it: a member who is in two rooms cannot show
    # in one what was written in the other.
    return statement(_PRIVATE_POST, id, fold(sender), room.hash, sent_at, text)
