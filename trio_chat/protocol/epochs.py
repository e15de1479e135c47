"""Epochs of private rooms (pure): who is in the room, who owns it, and its key, sealed for each member.

An epoch is signed by an owner, and names the one before it: so neither the server nor anybody else can add a member,
leave an epoch out, or bring an old one back. How it is signed, and how posts are sealed with its key, is in
crypto/room_keys.py.
"""

from typing import Annotated

import attrs
import msgspec
from msgspec import Meta

from trio_chat.protocol.records import Key, Name, PublicKeys, RoomId, fold
from trio_chat.protocol.wire import WireError

MAX_PRIVATE_MEMBERS = 100
MAX_OWNERS = 10
"""How many are in a private room, and how many of them own it. With more, an epoch would not fit into a request."""

MAX_NUMBER = 2**53
"""The largest number of an epoch."""

NO_EPOCH = bytes(32)
"""In place of the hash of the epoch before the first one."""

SEALED_KEY = 80
"""Bytes of a room's key, sealed for one member."""


@attrs.frozen
class RoomMember:
    """A member with their keys, and the key of the room, sealed for them."""

    name: Name
    keys: PublicKeys
    sealed: Annotated[bytes, Meta(min_length=SEALED_KEY, max_length=SEALED_KEY)]


@attrs.frozen
class Epoch:
    """Epoch `n` of a private room. `before`: the hash of the one before. `owner`: the Ed25519 key that has signed this.

    `commitment`: what the sealed keys are compared with, so that nobody is given another one than the others.
    `owners`: the Ed25519 keys of those members who may begin the next epoch.
    """

    room: RoomId
    name: Name
    n: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    before: Key
    owner: Key
    commitment: Key
    owners: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=MAX_OWNERS)]
    members: Annotated[tuple[RoomMember, ...], Meta(min_length=1, max_length=MAX_PRIVATE_MEMBERS)]

    def __attrs_post_init__(self) -> None:
        names = {fold(member.name) for member in self.members}
        keys = {member.keys.signing for member in self.members}
        if not len(names) == len(keys) == len(self.members):
            raise ValueError("a member is listed twice")
        if not keys.issuperset((*self.owners, self.owner)) or len(set(self.owners)) < len(self.owners):
            raise ValueError("an owner is no member, or is listed twice")

    def member(self, key: bytes) -> RoomMember | None:
        """The member with this Ed25519 key."""
        return next((member for member in self.members if member.keys.signing == key), None)

    @property
    def names(self) -> dict[str, bytes]:
        """The names of the members, as they are written, and their Ed25519 keys."""
        return {member.name: member.keys.signing for member in self.members}

    @property
    def folded_names(self) -> dict[str, bytes]:
        """The same with the names as they are compared."""
        return {fold(name): key for name, key in self.names.items()}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Epoch)


def encode_epoch(epoch: Epoch) -> bytes:
    """The bytes that are signed."""
    return _encoder.encode(epoch)


def decode_epoch_untrusted(data: bytes) -> Epoch:
    """The epoch in these bytes. Raises WireError, and nothing else, if they are not one."""
    try:
        return _decoder.decode(data)
    # As in wire.py.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error)) from error
