"""The messages: attrs classes with the bounds of every field. A request builds its own answers.

Nothing here waits, sends or decides. How messages become bytes is in wire.py.
"""

from typing import Annotated, ClassVar, get_args

import attrs
from msgspec import Meta

from trio_chat.protocol.records import (
    MAX_PARTS,
    Body,
    Count,
    Credentials,
    Id,
    Kind,
    Letter,
    Name,
    Reason,
    Record,
    Seconds,
    Version,
    fits,
    is_not_empty,
)

__all__ = [
    "ANSWERS",
    "MAX_BATCH",
    "REQUESTS",
    "Accepted",
    "Ack",
    "Answer",
    "Busy",
    "Confirm",
    "Delivered",
    "Deregister",
    "Deregistered",
    "DirectMessage",
    "Find",
    "Found",
    "GroupPost",
    "Heartbeat",
    "Letters",
    "Message",
    "Part",
    "PartAck",
    "Receipt",
    "Refused",
    "Register",
    "Registered",
    "Request",
    "Save",
    "Saved",
    "TableChange",
    "TableHeld",
    "Taken",
    "Takeover",
    "is_final",
]

MAX_BATCH = 10
"""Letters that are handed over at once: the answer, with a receipt for each, is one datagram."""

Proof = Annotated[bytes, Meta(max_length=96)]
"""A receipt, or its reader's signature that a letter is unreadable: see letters.py."""

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
    """The server handed it over: no receipt will follow, for here it is. `opened`: the recipient could read it."""

    kind: ClassVar[int] = 6
    of: Kind
    id: Id
    receipt: Proof
    opened: bool


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
class TableHeld:
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


@attrs.frozen
class Receipt:
    """The message is here, and its reader has signed for it."""

    kind: ClassVar[int] = 11
    of: Kind
    id: Id
    receipt: Proof


@attrs.frozen
class Taken:
    """The letters are in the recipient's store. For each one its receipt, empty where none is due.

    Bit i of `unreadable` says that letter i could not be opened, which its receipt states.
    """

    kind: ClassVar[int] = 12
    of: Kind
    id: Id
    receipts: Annotated[tuple[Proof, ...], Meta(max_length=MAX_BATCH)]
    unreadable: Annotated[int, Meta(ge=0, lt=2**MAX_BATCH)]


@attrs.frozen
class Found:
    """The row of that name."""

    kind: ClassVar[int] = 13
    of: Kind
    id: Id
    record: Record


_ServerAnswer = Registered | Deregistered | Delivered | Saved | Accepted | Found
_ClientAnswer = TableHeld | Receipt | Taken
Answer = Ack | Busy | Refused | _ServerAnswer | _ClientAnswer
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
    """Client to server: I am `name`, and I am where this datagram comes from.

    `program` is 16 random bytes, the same for as long as a program runs. `returning`: it has been registered, and
    comes back by itself; then it does not take the name from another program of the same owner.
    """

    kind: ClassVar[int] = 32
    name: Name
    credentials: Credentials
    program: Id
    returning: bool = False

    def registered(self, version: Version, waiting: int, at: float) -> Registered:
        return Registered(self.kind, self.id, version, waiting, at)


@attrs.frozen
class Deregister(_Answerable):
    """Client to server: I am leaving."""

    kind: ClassVar[int] = 33

    def deregistered(self) -> Deregistered:
        return Deregistered(self.kind, self.id)


@attrs.frozen
class DirectMessage(_Answerable):
    """Client to client: the message itself."""

    kind: ClassVar[int] = 34
    sender: Name
    recipient: Name
    text: str = attrs.field(validator=[is_not_empty, fits])

    def receipt(self, receipt: bytes) -> Receipt:
        return Receipt(self.kind, self.id, receipt)


@attrs.frozen
class Save(_Answerable):
    """Client to server: hand this over, or keep it. The id is that of the Chat that failed."""

    kind: ClassVar[int] = 35
    recipient: Name
    body: Body

    def delivered(self, receipt: bytes, opened: bool) -> Delivered:
        return Delivered(self.kind, self.id, receipt, opened)

    def saved(self, sent_at: float) -> Saved:
        return Saved(self.kind, self.id, sent_at)


@attrs.frozen
class GroupPost(_Answerable):
    """Client to server: this is for everyone."""

    kind: ClassVar[int] = 36
    body: Body

    def accepted(self, sent_at: float) -> Accepted:
        return Accepted(self.kind, self.id, sent_at)


@attrs.frozen
class Letters(_Answerable):
    """Server to client: what waited for `recipient`, in order."""

    kind: ClassVar[int] = 37
    recipient: Name
    letters: Annotated[tuple[Letter, ...], Meta(min_length=1, max_length=MAX_BATCH)]

    def taken(self, receipts: tuple[bytes, ...], unreadable: int) -> Taken:
        return Taken(self.kind, self.id, receipts, unreadable)


@attrs.frozen
class TableChange(_Answerable):
    """Server to client: the rows that changed between two versions. Applies to exactly `before`.

    A table that is too large for one message comes as a chain of such changes, from n = 0 on.
    """

    kind: ClassVar[int] = 38
    before: Version
    after: Version
    records: Annotated[tuple[Record, ...], Meta(max_length=64)]

    def held(self, version: Version | None) -> TableHeld:
        return TableHeld(self.kind, self.id, version)


@attrs.frozen
class Heartbeat(_Answerable):
    """Either way: are you there, and do you know me as `name`?"""

    kind: ClassVar[int] = 39
    name: Name


@attrs.frozen
class Find(_Answerable):
    """Client to server: whom do you know by this name?"""

    kind: ClassVar[int] = 40
    name: Name

    def found(self, record: Record) -> Found:
        return Found(self.kind, self.id, record)


@attrs.frozen
class Takeover(_Answerable):
    """Server to client: your registration of that time has ended, for its owner signed in from another place."""

    kind: ClassVar[int] = 41
    since: Seconds


@attrs.frozen
class Confirm(_Answerable):
    """Server to client: are you `program`, and about to take your name over from another one?

    A registration may be long on its way; by then its program may have ended, and a newer one may have the name.
    """

    kind: ClassVar[int] = 42
    program: Id


_ToServer = Register | Deregister | Save | GroupPost | Find
_ToClient = DirectMessage | Letters | TableChange | Takeover | Confirm
Request = _ToServer | _ToClient | Heartbeat
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
