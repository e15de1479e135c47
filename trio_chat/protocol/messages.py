"""The messages: attrs classes with the bounds of every field. A request builds its own answers.

Nothing here waits, sends or decides. How messages become bytes is in wire.py.
"""

import enum
import re
from typing import Annotated, ClassVar, get_args

import attrs
from msgspec import Meta

from trio_chat.errors import InvalidName

__all__ = [
    "ANSWERS",
    "MAX_TEXT",
    "REQUESTS",
    "Accepted",
    "Ack",
    "Answer",
    "Busy",
    "Chat",
    "Delivered",
    "Deregister",
    "Deregistered",
    "GroupPost",
    "Heartbeat",
    "Held",
    "Letter",
    "LetterKind",
    "Letters",
    "Message",
    "Part",
    "PartAck",
    "Reason",
    "Record",
    "Refused",
    "Register",
    "Registered",
    "Request",
    "Save",
    "Saved",
    "TableChange",
    "Version",
    "check_name",
    "fold",
    "is_final",
]

MAX_TEXT = 16 * 1024
"""The longest text, in bytes of UTF-8."""

MAX_PARTS = 32

NAME = r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z"

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Kind = Annotated[int, Meta(ge=1, le=127)]
Name = Annotated[str, Meta(pattern=NAME)]
Host = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f:.]{2,45}\Z")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]


def fold(name: str) -> str:
    """The form in which names are compared: `Bob` and `bob` are one person."""
    return name.lower()


def check_name(name: str) -> None:
    """Raise InvalidName unless this is a name, to its very end."""
    if not re.match(NAME, name):
        raise InvalidName(name)


def _fits(instance: object, attribute: "attrs.Attribute[str]", text: str) -> None:
    if len(text.encode()) > MAX_TEXT:
        raise ValueError(f"{attribute.name} is longer than {MAX_TEXT} bytes")


def _says_something(instance: object, attribute: "attrs.Attribute[str]", text: str) -> None:
    if not text:
        raise ValueError(f"{attribute.name} is empty")


# --- what messages are made of ---


@attrs.frozen
class Version:
    """A state of the client table: change number `n` of the directory that drew `epoch`. n = 0 is the empty table."""

    epoch: Annotated[bytes, Meta(min_length=8, max_length=8)]
    n: Count


@attrs.frozen
class Record:
    """One row of the client table. `since` is when the name last came or went, seconds since 1970, UTC."""

    name: Name
    host: Host
    port: Port
    online: bool
    since: Seconds

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as the server saw them."""
        return (self.host, self.port)


class LetterKind(enum.StrEnum):
    """What a letter is: a message to one or to everyone, a receipt, or the count of group messages not kept."""

    DIRECT = "direct"
    GROUP = "group"
    RECEIPT = "receipt"
    MISSED = "missed"


@attrs.frozen
class Letter:
    """What waits in a mailbox, unique there by (kind, sender, id).

    A receipt has the id and time of the message that it is for, and its reader as the sender; it has no text.
    """

    kind: LetterKind
    id: Id
    sender: Name
    sent_at: Seconds
    text: str = attrs.field(default="", validator=_fits)
    count: Count = 0

    @property
    def key(self) -> tuple[LetterKind, str, bytes]:
        """What makes this letter the same letter, whichever way it comes."""
        return (self.kind, fold(self.sender), self.id)


class Reason(enum.StrEnum):
    """Why a request was refused."""

    NOT_REGISTERED = "not registered"
    TAKEN = "taken"
    UNKNOWN = "unknown"
    FULL = "full"


# --- answers ---


@attrs.frozen
class Ack:
    """Yes, it is here."""

    kind: ClassVar[int] = 1
    of: Kind
    id: Id


@attrs.frozen
class Busy:
    """Alive, but no room now: keep it and come again."""

    kind: ClassVar[int] = 2
    of: Kind
    id: Id


@attrs.frozen
class Refused:
    """No, and repeating the same will not help."""

    kind: ClassVar[int] = 3
    of: Kind
    id: Id
    reason: Reason


@attrs.frozen
class Registered:
    """Welcome. The registration is complete when the client holds the table `version`.

    `waiting` counts letters, receipts left out; `at` is the server's clock.
    """

    kind: ClassVar[int] = 4
    of: Kind
    id: Id
    version: Version
    waiting: Count
    at: Seconds


@attrs.frozen
class Deregistered:
    """Good bye."""

    kind: ClassVar[int] = 5
    of: Kind
    id: Id


@attrs.frozen
class Delivered:
    """The server handed it over: no receipt will follow."""

    kind: ClassVar[int] = 6
    of: Kind
    id: Id


@attrs.frozen
class Saved:
    """The server keeps it and will file a receipt when it has been handed over."""

    kind: ClassVar[int] = 7
    of: Kind
    id: Id
    sent_at: Seconds


@attrs.frozen
class Accepted:
    """The server keeps the group message until everyone has it."""

    kind: ClassVar[int] = 8
    of: Kind
    id: Id
    sent_at: Seconds


@attrs.frozen
class Held:
    """The version of the table that the client holds, whether or not the change applied; None for none yet."""

    kind: ClassVar[int] = 9
    of: Kind
    id: Id
    version: Version | None


@attrs.frozen
class PartAck:
    """Which parts of one message are here: bit i stands for part i."""

    kind: ClassVar[int] = 10
    of: Kind
    id: Id
    held: Annotated[int, Meta(ge=0, lt=2**MAX_PARTS)]


Answer = Ack | Busy | Refused | Registered | Deregistered | Delivered | Saved | Accepted | Held
ANSWERS = get_args(Answer)


def is_final(answer: Answer) -> bool:
    """Will the same request always get this answer? Not when it asks to come again, or to register first."""
    match answer:
        case Busy() | Refused(reason=Reason.NOT_REGISTERED):
            return False
    return True


# --- requests ---


@attrs.frozen
class _Answerable:
    """What all requests share: an id of 16 random bytes and the answers that anyone may give."""

    kind: ClassVar[int]
    id: Id

    def ack(self) -> Ack:
        return Ack(self.kind, self.id)

    def busy(self) -> Busy:
        return Busy(self.kind, self.id)

    def refused(self, reason: Reason) -> Refused:
        return Refused(self.kind, self.id, reason)


@attrs.frozen
class Register(_Answerable):
    """Client to server: I am `name`, and I am where this datagram comes from."""

    kind: ClassVar[int] = 32
    name: Name

    def registered(self, version: Version, waiting: int, at: float) -> Registered:
        return Registered(self.kind, self.id, version, waiting, at)


@attrs.frozen
class Deregister(_Answerable):
    """Client to server: I am leaving."""

    kind: ClassVar[int] = 33

    def deregistered(self) -> Deregistered:
        return Deregistered(self.kind, self.id)


@attrs.frozen
class Chat(_Answerable):
    """Client to client: the message itself."""

    kind: ClassVar[int] = 34
    sender: Name
    recipient: Name
    text: str = attrs.field(validator=[_says_something, _fits])


@attrs.frozen
class Save(_Answerable):
    """Client to server: hand this over, or keep it. The id is that of the Chat that failed."""

    kind: ClassVar[int] = 35
    recipient: Name
    text: str = attrs.field(validator=[_says_something, _fits])

    def delivered(self) -> Delivered:
        return Delivered(self.kind, self.id)

    def saved(self, sent_at: float) -> Saved:
        return Saved(self.kind, self.id, sent_at)


@attrs.frozen
class GroupPost(_Answerable):
    """Client to server: this is for everyone."""

    kind: ClassVar[int] = 36
    text: str = attrs.field(validator=[_says_something, _fits])

    def accepted(self, sent_at: float) -> Accepted:
        return Accepted(self.kind, self.id, sent_at)


@attrs.frozen
class Letters(_Answerable):
    """Server to client: what waited for `recipient`, in order."""

    kind: ClassVar[int] = 37
    recipient: Name
    letters: Annotated[tuple[Letter, ...], Meta(min_length=1, max_length=64)]


@attrs.frozen
class TableChange(_Answerable):
    """Server to client: the rows that changed between two versions. Applies to exactly `before`.

    A table that is too large for one message comes as a chain of such changes, from n = 0 on.
    """

    kind: ClassVar[int] = 38
    before: Version
    after: Version
    records: Annotated[tuple[Record, ...], Meta(max_length=64)]

    def held(self, version: Version | None) -> Held:
        return Held(self.kind, self.id, version)


@attrs.frozen
class Heartbeat(_Answerable):
    """Either way: are you there, and do you know me as `name`?"""

    kind: ClassVar[int] = 39
    name: Name


Request = Register | Deregister | Chat | Save | GroupPost | Letters | TableChange | Heartbeat
REQUESTS = get_args(Request)


@attrs.frozen
class Part:
    """One piece of a request that does not fit into a datagram; `of` and `id` are those of the request."""

    kind: ClassVar[int] = 64
    of: Kind
    id: Id
    index: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
    count: Annotated[int, Meta(ge=2, le=MAX_PARTS)]
    body: Annotated[bytes, Meta(min_length=1, max_length=1100)]

    def __attrs_post_init__(self) -> None:
        if self.index >= self.count:
            raise ValueError("a part beyond the last one")


Message = Request | Answer | Part | PartAck
