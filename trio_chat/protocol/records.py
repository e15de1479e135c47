"""What messages contain: names, keys, texts and times with their bounds, rows of the client table, entries.

The messages themselves are in messages.py.
"""

import base64
import enum
import hashlib
import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Annotated

import attrs
from msgspec import Meta

from trio_chat.errors import InvalidName, InvalidText

MAX_TEXT = 16 * 1024
"""The longest text, in bytes of UTF-8."""

MAX_BODY = MAX_TEXT + 120
"""The longest body of a letter, in bytes: a text, sealed and signed (see crypto/letters.py)."""

MAX_EPOCH = 23_000
"""The longest epoch of a private room, in bytes: see epochs.py."""

MAX_PARTS = 32

ID_SIZE = 16
"""Bytes of an id."""

RETENTION = 30 * 24 * 3600.0
"""Seconds (30 days) for which the server keeps what it has taken, by its own clock."""

NAME_RETENTION = 90 * 24 * 3600.0
"""Seconds (90 days) after which a name that was not online is deleted, unless letters wait for it."""

# msgspec searches for a pattern, hence \A; `$` would let a newline follow, hence \Z. ASCII only, so that no other
# script has a letter that looks the same.
NAME = r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z"

ROOM_ID = r"\A([#!][0-9a-f]{32})?\Z"

Address = tuple[str, int]
"""Numeric host and port. IPv4 is written as IPv4, also where a dual-stack socket has it as `::ffff:1.2.3.4`."""

Id = Annotated[bytes, Meta(min_length=ID_SIZE, max_length=ID_SIZE)]
Kind = Annotated[int, Meta(ge=1, le=127)]
Name = Annotated[str, Meta(pattern=NAME)]
_is_name = re.compile(NAME).match
RoomId = Annotated[str, Meta(pattern=ROOM_ID)]
"""What identifies a room, also after its name has gone to another one: `#` and 32 hexadecimal digits, or EVERYONE.

A private room has `!` in place of `#`: no server can say that it is an open one.
"""
Host = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f:.]{2,45}\Z")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
InvitationCode = Annotated[str, Meta(max_length=64)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Body = Annotated[bytes, Meta(max_length=MAX_BODY)]
EpochBody = Annotated[bytes, Meta(max_length=MAX_EPOCH)]
Seconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]


_PRIVATE_NETWORKS = [ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]

fold = str.lower
"""The form in which names are compared: `Bob` and `bob` are the same name."""


def check_name(name: str) -> None:
    """Raise InvalidName unless this is a name."""
    if not _is_name(name):
        raise InvalidName(name)


def check_text(text: str) -> None:
    """Raise InvalidText unless this is 1 to MAX_TEXT bytes of UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidText(None) from None
    if not 1 <= size <= MAX_TEXT:
        raise InvalidText(size)


def is_text(instance: object, attribute: "attrs.Attribute[str]", text: str) -> None:
    """An attrs validator: 1 to MAX_TEXT bytes of UTF-8."""
    # msgspec bounds a text in characters only, and a character has up to four bytes.
    if not 1 <= len(text.encode()) <= MAX_TEXT:
        raise ValueError(f"{attribute.name} is empty, or longer than {MAX_TEXT} bytes")


# Remembered: the same hosts come in each table, and to parse one takes longer than the rest of its row.
_parse_host = lru_cache(maxsize=4096)(ip_address)


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Whether this numeric host is the own machine of whoever sends there."""
    return ip_address(host).is_loopback


def is_of_private_network(host: str) -> bool:
    """Whether this is a numeric host of a home's or a firm's network (RFC 1918, RFC 4193)."""
    try:
        parsed = ip_address(host)
    except ValueError:
        return False
    return any(parsed in network for network in _PRIVATE_NETWORKS)


def _is_address(instance: object, attribute: "attrs.Attribute[str]", host: str) -> None:
    _parse_host(host)  # the pattern admits host names such as `cafe`, which a client would look up to send there


@attrs.frozen
class Version:
    """A state of the client table: after change number `n` of the table with this `epoch`. n = 0 is the empty table."""

    epoch: Annotated[bytes, Meta(min_length=8, max_length=8)]
    n: Count


def fingerprint(key: bytes) -> str:
    """What people compare instead of a key: 80 bits of its SHA-256 in base32, as `xxxx-xxxx-xxxx-xxxx`."""
    text = base64.b32encode(hashlib.sha256(key).digest()[:10]).decode("ascii").lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


@attrs.frozen
class PublicKeys:
    """The public keys of a person or a server: Ed25519, which identifies them, and X25519, for links and letters."""

    signing: Key
    link: Key


@attrs.frozen
class Credentials:
    """The keys of a name, and the signature that ties them to the name at one server (`identities.sign_identity`)."""

    keys: PublicKeys
    certificate: Signature


@attrs.frozen
class Record:
    """One row of the client table. `since`: when the name last went online or offline, seconds since 1970, UTC.

    A name without `credentials` belongs to nobody: the operator has freed it, and the next key to register gets it.
    `deleted`: there is no such name any longer, and clients remove the row.
    """

    name: Name
    host: Host = attrs.field(validator=_is_address)
    port: Port
    online: bool
    since: Seconds
    credentials: Credentials | None = None
    deleted: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as the server saw them in the source of datagrams."""
        return (self.host, self.port)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that the server gives for the name; empty if it gives none."""
        return fingerprint(self.credentials.keys.signing) if self.credentials else ""


class EntryKind(enum.StrEnum):
    """What the server hands over. Clients acknowledge and skip kinds that they do not know, of a newer server."""

    DIRECT = "direct"
    """A letter: a message to one person, sealed."""
    GROUP = "group"
    """A post: a message to a room, signed."""
    RECEIPT = "receipt"
    """What the reader of a letter has signed, for its sender; it has the id of the letter. See crypto/receipts.py."""
    FAILED = "failed"
    """The letter with this id will not be read: it waited too long, or its recipient's name was deleted or taken."""
    MISSED = "missed"
    """Some messages to a room are no longer kept; the body is their number in ASCII digits, and the id of the room."""
    CREATED = "created"
    """The sender has created this room, and is in it. Nobody gets it."""
    JOINED = "joined"
    """The sender has joined this room. Only those who are online get it."""
    LEFT = "left"
    """The sender has left this room. Only those who are online get it."""
    EPOCH = "epoch"
    """The sender has begun an epoch of a private room: who is in it now, and the key. See epochs.py."""
    REMOVED = "removed"
    """The sender has removed the recipient from a private room; the body is its id."""


EVERYONE = ""
"""The room that all names are in, as the recipient of a post: no person's name is empty."""

EVERYONE_NAME = "everyone"
"""How that room is called. No other room has this name."""


def is_room(recipient: str) -> bool:
    """Whether this is the recipient of a post: a room, and not a person."""
    return not recipient or recipient[0] in "#!"


def is_private(room: str) -> bool:
    """Whether this is the id of a private room."""
    return room.startswith("!")


def room_id(key: bytes, request: bytes, *, private: bool = False) -> str:
    """The id of the room that the owner of this Ed25519 key creates with the request of this id."""
    # Nobody can choose one: it might be the id of a room that has gone, and the posts that were signed for it.
    kind = "!" if private else "#"
    return kind + hashlib.sha256(b"trio_chat/1 room" + key + request).hexdigest()[:32]


@attrs.frozen
class Room:
    """A room, as somebody sees it. `joined`: the entry of the log with which they joined; 0 if they are not in it.

    `owner`: the Ed25519 key that has created it; NO_KEY for the room of everyone.
    """

    id: RoomId
    name: Name
    owner: Key
    members: Count
    joined: Count = 0


NO_KEY = bytes(32)
"""The sender's key of an entry whose sender nobody knows: it was taken before entries had keys, or is the server's."""


@attrs.frozen
class Entry:
    """One entry of the server's log. `seq` is its place, which is the order that everyone sees; 0 before it has one.

    `sender` is the name under which it was sent and `key` the Ed25519 key that had this name then. `recipient` is a
    name in lower case, or the id of a room. `taken_at`: when the server took it, by its clock, seconds since 1970, UTC.
    """

    seq: Count
    kind: Annotated[str, Meta(max_length=16)]
    id: Id
    sender: Name
    key: Key
    recipient: Annotated[str, Meta(max_length=33)]
    taken_at: Seconds
    body: EpochBody = b""


class EndReason(enum.StrEnum):
    """Why the server has ended a session."""

    ELSEWHERE = "elsewhere"
    """The owner of the name has signed in from another place."""
    KICKED = "kicked"
    """The operator has ended it."""
    BANNED = "banned"
    """The operator has banned the name, the key or the address."""
    DELETED = "deleted"
    """The operator has deleted the name, or freed it for another key."""


class Reason(enum.StrEnum):
    """Why a request was refused."""

    NOT_REGISTERED = "not registered"
    TAKEN = "taken"
    UNKNOWN = "unknown"
    FULL = "full"
    TOO_FAST = "too fast"
    TOO_MANY_NAMES = "too many names belong to this key"
    NO_ROOM = "no more names are taken"
    BANNED = "banned"
    CLOSED = "no new names are registered"
    NOT_INVITED = "the invitation is missing, used or too old"
    CONFLICT = "another request had this id"
    EXISTS = "a room has this name"
    NO_SUCH_ROOM = "no room has this name"
    NOT_A_MEMBER = "you are not in this room"
    TOO_MANY_ROOMS = "you are in too many rooms"
    NO_MORE_ROOMS = "there are too many rooms"
    ROOM_FULL = "too many are in this room"
    PRIVATE = "this room is private"
    NOT_AN_OWNER = "you do not own this room"
    WRONG_EPOCH = "the room has another epoch now"
    THEY_ARE_IN_TOO_MANY = "one of these people is in too many rooms"
