"""The messages: attrs classes with the bounds of every field. A request has a method for each of its answers.

How messages become bytes is in wire.py. Sending and deciding are not here: see transport/, server/ and client/.
"""

from typing import Annotated, ClassVar, get_args

import attrs
from msgspec import Meta

from trio_chat.protocol.message_base import Ack as Ack
from trio_chat.protocol.message_base import Answerable, OfRequest
from trio_chat.protocol.message_base import Busy as Busy
from trio_chat.protocol.message_base import Refused as Refused
from trio_chat.protocol.records import (
    EVERYONE,
    MAX_PARTS,
    Body,
    Count,
    Credentials,
    EndReason,
    Entry,
    Id,
    InvitationCode,
    Key,
    Name,
    Reason,
    Record,
    RoomId,
    Seconds,
    Version,
    is_text,
)
from trio_chat.protocol.room_messages import RoomAnswer, RoomRequest

MAX_RECEIPTS = 10
"""Letters in one batch: the answer, with a receipt for each, must fit into one datagram."""

MAX_BATCH = 64

MAX_KEPT = 60
"""Ids in one MessagesKept, which must fit into one datagram."""

MAX_NAMES_LISTED = 14
"""Names in one NamesListed, which must fit into one datagram."""

MAX_BLOCKED = 256
"""How many keys one person can block."""

Proof = Annotated[bytes, Meta(max_length=96)]
"""A receipt: see crypto/receipts.py. Empty: its reader tells the sender nothing."""

ListedName = tuple[Name, bool, Seconds, Key]

# --- answers ---


@attrs.frozen
class Registered(OfRequest):
    """The client is registered. The registration is complete when the client holds the table `version`.

    `since` names the registration: seconds by a clock of the server that means nothing to others. `waiting`: how many
    letters and posts wait; `head`: the last entry of the log. What comes up to there is from the time away.
    `private_rooms`: in how many of them the client is.
    """

    kind: ClassVar[int] = 4
    version: Version
    since: Seconds
    waiting: Count
    head: Count
    private_rooms: Count


@attrs.frozen
class Deregistered(OfRequest):
    """The client is no longer registered."""

    kind: ClassVar[int] = 5


@attrs.frozen
class Delivered(OfRequest):
    """The recipient has taken the letter. This is a copy of their receipt, which comes as an entry, too."""

    kind: ClassVar[int] = 6
    receipt: Proof


@attrs.frozen
class Saved(OfRequest):
    """The server keeps the letter. The receipt comes as an entry when the recipient has taken it."""

    kind: ClassVar[int] = 7


@attrs.frozen
class Accepted(OfRequest):
    """The server keeps the message to everyone."""

    kind: ClassVar[int] = 8


@attrs.frozen
class TableHeld(OfRequest):
    """The version of the table that the client holds, whether or not the change applied; None for no table."""

    kind: ClassVar[int] = 9
    version: Version | None


@attrs.frozen
class PartAck(OfRequest):
    """The parts of a request that have arrived: bit i stands for part i."""

    kind: ClassVar[int] = 10
    held: Annotated[int, Meta(ge=0, lt=2**MAX_PARTS)]


@attrs.frozen
class Taken(OfRequest):
    """The first `count` entries of the batch are in the client's store. One receipt for each letter among them."""

    kind: ClassVar[int] = 12
    count: Annotated[int, Meta(ge=1, le=MAX_BATCH)]
    receipts: Annotated[tuple[Proof, ...], Meta(max_length=MAX_RECEIPTS)]


@attrs.frozen
class Found(OfRequest):
    """The row of the name in this version of the table."""

    kind: ClassVar[int] = 13
    record: Record
    version: Version


@attrs.frozen
class NamesListed(OfRequest):
    """The next names: whether each is online, since when, and its Ed25519 key. Fewer than MAX_NAMES_LISTED: no more."""

    kind: ClassVar[int] = 19
    people: Annotated[tuple[ListedName, ...], Meta(max_length=MAX_NAMES_LISTED)]


@attrs.frozen
class Elsewhere(OfRequest):
    """Another program of the same owner has the name. `at`: for `Register.takeover_at`; the same clock as `since`."""

    kind: ClassVar[int] = 14
    at: Seconds


_AnswerToSender = Delivered | Saved | Accepted
_AnswerOfServer = Registered | Deregistered | Elsewhere | _AnswerToSender | Found | NamesListed | RoomAnswer
_AnswerOfClient = TableHeld | Taken
Answer = Ack | Busy | Refused | _AnswerOfServer | _AnswerOfClient
ANSWERS = get_args(Answer)


_FINAL = {Reason.TAKEN, Reason.UNKNOWN, Reason.CONFLICT}


def is_repeatable(request: "Request", answer: Answer) -> bool:
    """Whether copies of the request get this answer again. Not if they may be accepted later, or ask for more."""
    match request, answer:
        case _, Busy():
            return False
        case _, Refused(reason=reason):
            return reason in _FINAL
        # A copy asks again whether the message is on the disk: the MessagesKept may have been lost.
        case DirectMessage(sender_keeps=True), _:
            return False
        # A copy is answered as the first one was. To remember those of 1,000 idle clients took 30 MB.
        case Heartbeat(), _:
            return False
    return True


# --- requests ---


@attrs.frozen
class Register(Answerable):
    """Client to server: register this name at the address from which this datagram comes.

    `program`: 16 random bytes, generated at the program's start. `takeover_at`: the time from the last Elsewhere; the
    name is taken over from other programs of the same owner that registered before it. 0: it is not taken over.
    `blocked`: the Ed25519 keys to which the name is shown as offline.
    `invitation`: the code that the operator gave, or empty; only a new name may need it.
    `held`: the version of the table that the client has from an earlier registration.
    """

    kind: ClassVar[int] = 32
    name: Name
    credentials: Credentials
    program: Id
    takeover_at: Seconds = 0.0
    blocked: Annotated[tuple[Key, ...], Meta(max_length=MAX_BLOCKED)] = ()
    invitation: InvitationCode = ""
    held: Version | None = None

    def registered(self, version: Version, since: float, waiting: int, head: int, private_rooms: int = 0) -> Registered:
        return Registered(self.kind, self.id, version, since, waiting, head, private_rooms)

    def elsewhere(self, at: float) -> Elsewhere:
        return Elsewhere(self.kind, self.id, at)


@attrs.frozen
class Deregister(Answerable):
    """Client to server: end my registration."""

    kind: ClassVar[int] = 33

    def deregistered(self) -> Deregistered:
        return Deregistered(self.kind, self.id)


@attrs.frozen
class DirectMessage(Answerable):
    """Client to client: a message to one person. The Ack says that their program has it, and queues it for them.

    `sender_keeps`: the sender keeps it until a MessagesKept says that it is on the recipient's disk.
    """

    kind: ClassVar[int] = 34
    sender: Name
    recipient: Name
    text: str = attrs.field(validator=is_text)
    sender_keeps: bool = False


@attrs.frozen
class Save(Answerable):
    """Client to server: deliver this letter, or keep it. The id is that of the DirectMessage that was not answered."""

    kind: ClassVar[int] = 35
    recipient: Name
    body: Body

    def delivered(self, receipt: bytes) -> Delivered:
        return Delivered(self.kind, self.id, receipt)

    def saved(self) -> Saved:
        return Saved(self.kind, self.id)


@attrs.frozen
class GroupPost(Answerable):
    """Client to server: a message to a room that the sender is in."""

    kind: ClassVar[int] = 36
    body: Body
    room: RoomId = EVERYONE

    def accepted(self) -> Accepted:
        return Accepted(self.kind, self.id)


@attrs.frozen
class Batch(Answerable):
    """Server to client: entries of the log for `recipient`, in order; see log.py for how many go together.

    `senders`: names with the keys that they had when they sent these entries, as far as the client may lack them.
    `rooms`: the ids and names of the rooms to which they were sent.
    """

    kind: ClassVar[int] = 37
    recipient: Name
    entries: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=MAX_BATCH)]
    senders: Annotated[tuple[tuple[Name, Credentials], ...], Meta(max_length=MAX_BATCH)] = ()
    rooms: Annotated[tuple[tuple[RoomId, Name], ...], Meta(max_length=MAX_BATCH)] = ()

    def taken(self, count: int, receipts: tuple[bytes, ...]) -> Taken:
        return Taken(self.kind, self.id, count, receipts)


@attrs.frozen
class TableChange(Answerable):
    """Server to client: the rows that changed between two versions of the table. Applies to exactly `before`.

    A first table is a chain of such changes, beginning at n = 0. Those who are away are left out of it.
    `floor`: some names that were deleted up to this change are not listed any longer, so an older copy begins again.
    """

    kind: ClassVar[int] = 38
    before: Version
    after: Version
    records: Annotated[tuple[Record, ...], Meta(max_length=64)]
    floor: Count = 0

    def held(self, version: Version | None) -> TableHeld:
        return TableHeld(self.kind, self.id, version)


@attrs.frozen
class Heartbeat(Answerable):
    """Both directions: are you online? `since`: that of the client's registration; the server refuses any other."""

    kind: ClassVar[int] = 39
    since: Seconds


@attrs.frozen
class Find(Answerable):
    """Client to server: who has this name?"""

    kind: ClassVar[int] = 40
    name: Name

    def found(self, record: Record, version: Version) -> Found:
        return Found(self.kind, self.id, record, version)


@attrs.frozen
class ListNames(Answerable):
    """Client to server: who has a name, those that come after `after`, in lower case."""

    kind: ClassVar[int] = 50
    after: Annotated[str, Meta(max_length=32)] = ""

    def listed(self, people: tuple[ListedName, ...]) -> NamesListed:
        return NamesListed(self.kind, self.id, people)


@attrs.frozen
class Introduce(Answerable):
    """Client to server: what I send to this person directly is not answered. Tell them with an Introduced.

    Many routers let in only what comes from where something was sent to. Neither of the two is answered or sent again.
    `at`: our address on our side of the router, sealed for them, if they may be there, too; see crypto/addresses.py.
    """

    kind: ClassVar[int] = 51
    name: Name
    at: Annotated[bytes, Meta(max_length=128)] = b""


@attrs.frozen
class Introduced(Answerable):
    """Server to client: this person sends to you directly. Send something to their address, so that it gets through."""

    kind: ClassVar[int] = 52
    name: Name
    at: Annotated[bytes, Meta(max_length=128)] = b""


@attrs.frozen
class SessionEnded(Answerable):
    """Server to client: the registration with this `since` has ended."""

    kind: ClassVar[int] = 41
    since: Seconds
    reason: EndReason = EndReason.ELSEWHERE


@attrs.frozen
class MessagesKept(Answerable):
    """Client to client: the direct messages of yours with these ids are on my disk. Send those again that are missing.

    Only for messages with `sender_keeps`. A copy of such a message gets this again.
    """

    kind: ClassVar[int] = 49
    ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_KEPT)]


_RequestToServer = Register | Deregister | Save | GroupPost | Find | ListNames | Introduce | RoomRequest
_RequestToClient = Batch | TableChange | Introduced | SessionEnded
_RequestToPeer = DirectMessage | MessagesKept
Request = _RequestToServer | _RequestToPeer | _RequestToClient | Heartbeat
REQUESTS = get_args(Request)


@attrs.frozen
class Part(OfRequest):
    """A part of a request that does not fit into one datagram. `of` and `id` are those of the request.

    `whole` names the bytes of which this is a part: a message that is sealed again has the same id, and other bytes.
    """

    kind: ClassVar[int] = 64
    index: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
    count: Annotated[int, Meta(ge=2, le=MAX_PARTS)]
    body: Annotated[bytes, Meta(min_length=1, max_length=1100)]
    whole: Annotated[bytes, Meta(max_length=8)] = b""

    def __attrs_post_init__(self) -> None:
        if self.index >= self.count:
            raise ValueError("a part beyond the last one")


Message = Request | Answer | Part | PartAck
