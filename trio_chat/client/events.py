"""The events of a chat, one attrs class each, and the results of sending a message.

How they look to a person is not decided here. Times are seconds since 1970, UTC. When a message of others was sent is
a time of the server's clock. `signed_at` is the sender's own time, if it differs from that by more than a minute, else
None. When a message of our own was sent is a time of our clock.
"""

import enum
from typing import Literal

import attrs

from trio_chat.errors import ChatError
from trio_chat.storage.client_interface import HistoryEntry as HistoryEntry


class Fallback(enum.Enum):
    """Why a message goes through the server."""

    NO_ACK = "the recipient did not acknowledge it within the window"
    OFFLINE = "the table says that the recipient is offline"
    IN_ORDER = "an earlier message to the recipient is still at the server"
    DETOUR = "the recipient did not answer directly within the last 60 seconds, or has no address for us"


@attrs.frozen
class Delivery:
    """How a message went: the recipient's program has it (`direct`, `relayed`), or the server keeps it (`saved`).

    `sent_at` is when a message that the server keeps was sent; None otherwise.
    """

    how: Literal["direct", "relayed", "saved"]
    sent_at: float | None = None


@attrs.frozen
class MessageReceived:
    """A message from one person, sent now: directly, or relayed by the server."""

    sender: str
    text: str
    signed_at: float | None = None


@attrs.frozen
class GroupMessageReceived:
    """A message to everyone or, if `room` is not empty, to the room of this name, sent now."""

    sender: str
    text: str
    signed_at: float | None = None
    room: str = ""


@attrs.frozen
class LetterReceived:
    """A message that was sent while we were offline. The server saved it at `sent_at`.

    Or one that came directly to an earlier program, which could not show it: at `sent_at`, by our own clock.

    `group`: it was sent to everyone or, if `room` is not empty, to the room of this name. `first`: it is the first one
    since the latest registration.
    """

    sender: str
    text: str
    sent_at: float
    group: bool
    first: bool
    signed_at: float | None = None
    room: str = ""


class MessageState(enum.StrEnum):
    """What has become of a message in the outbox."""

    WAITING = "waiting"
    """It could not be sent now, and is tried again."""
    RECEIVED = "received"
    """The recipient's program has it."""
    RELAYED = "relayed"
    """The recipient's program has it, from the server."""
    SAVED = "saved"
    """The server keeps it. When it has reached its recipient, a ReceiptReceived comes."""
    POSTED = "posted"
    """The server has it, for a room."""
    FAILED = "failed"
    """It was not sent, and is not tried again."""


@attrs.frozen
class OutgoingChanged:
    """The message in the outbox with this number has another state. `error`: why it waits, or has failed.

    `recipient` is empty if it is to a room, and `room` if it is to one person. `at`: when it was put there. `sent_at`:
    see `Delivery`. `waited`: an earlier event has said that it waits.
    """

    number: int
    id: bytes
    recipient: str
    room: str
    at: float
    state: MessageState
    sent_at: float | None = None
    error: ChatError | None = None
    waited: bool = False


@attrs.frozen
class ReceiptReceived:
    """The message that was sent at `sent_at` by the server has reached its recipient. `id`: as in `OutgoingChanged`."""

    recipient: str
    sent_at: float
    id: bytes = attrs.field(default=b"", eq=False)


@attrs.frozen
class MessageNotOpened:
    """The message that was sent at `sent_at` by the server has reached its recipient, who could not open it."""

    recipient: str
    sent_at: float
    id: bytes = attrs.field(default=b"", eq=False)


@attrs.frozen
class MessageNotDelivered:
    """The message that was sent at `sent_at` will not reach its recipient.

    It has waited at the server for too long, or the name was deleted or has another owner now.
    """

    recipient: str
    sent_at: float
    id: bytes = attrs.field(default=b"", eq=False)


@attrs.frozen
class WrongReceiptReceived:
    """A message has reached its recipient, but they signed that they have another text than we sent."""

    recipient: str
    id: bytes = attrs.field(default=b"", eq=False)


@attrs.frozen
class ForgedReceiptReceived:
    """The server says that a message has reached its recipient, but the recipient did not sign that receipt."""

    recipient: str


@attrs.frozen
class LetterUnreadable:
    """A letter in the name of `sender` that they did not write, that was changed, or that cannot be opened."""

    sender: str


@attrs.frozen
class SecondTextReceived:
    """`sender` has sent another text under the id of one of their messages. Only the first text is shown.

    This comes once for each sender and program, however many such texts they send.
    """

    sender: str


@attrs.frozen
class KeyWarning:
    """The server gives another key for a name than before (fingerprints of both).

    Nothing is sent to that name or accepted from it until `Chat.trust(name)`.
    """

    name: str
    pinned: str
    offered: str


@attrs.frozen
class GroupMessagesMissed:
    """This many messages to everyone were not kept until we came, because there were too many.

    If `room` is not empty, they were to the room of this name. If they were to several rooms, it is empty.
    """

    count: int
    room: str = ""


@attrs.frozen
class MemberJoined:
    """Somebody has joined a room that we are in. Both names are what the server says: nobody has signed this."""

    room: str
    name: str


@attrs.frozen
class MemberLeft:
    """Somebody has left a room that we are in. Both names are what the server says: nobody has signed this.

    `private`: the room is private. Its key stays the same until the program of an owner is online.
    """

    room: str
    name: str
    private: bool = False


@attrs.frozen
class RoomMembersChanged:
    """`owner` has changed who is in a private room, and has signed that. The room has a new key.

    `joined`: they have just put us into the room. `owners`: who owns it, too, since then. `gap`: the server has not
    handed over some changes before this one; what they have changed is in this one. `unknown_owner`: we were removed
    from the room before, and `owner` did not own it then: ask somebody whether they do now.
    """

    room: str
    owner: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    joined: bool = False
    gap: bool = False
    unknown_owner: bool = False


@attrs.frozen
class RemovedFromRoom:
    """`owner` has removed us from a private room. Both names are what the server says."""

    room: str
    owner: str


@attrs.frozen
class RoomNotTrusted:
    """The server says that the members of a private room have changed, but no owner of it has signed that.

    Or it leaves out a change, or brings back an old one. Nothing changes for us. `room` is empty if we were not in it.
    """

    room: str


@attrs.frozen
class TableChanged:
    """`Chat.table` has changed, perhaps more than once since the last such event."""


@attrs.frozen
class SignedOff:
    """`Chat.online` is False now, and `error` says why.

    SignedInElsewhere: our owner signed in from another place. Kicked, Banned, NameDeleted: the operator has ended the
    session. TooManyPeople: the server sends more names than we take. Other errors: the server had forgotten us, and
    registering again failed. `Chat.register` tries again.
    """

    error: ChatError


@attrs.frozen
class ServerSilent:
    """The server does not respond since this time; we keep trying (`open_chat(reconnect=True)`).

    Also if nothing was asked: two heartbeats without an answer are enough. `waiting`: how many messages wait in the
    outbox.
    """

    since: float
    waiting: int = 0


@attrs.frozen
class ServerBack:
    """The server responds again."""


Event = (
    MessageReceived
    | GroupMessageReceived
    | LetterReceived
    | OutgoingChanged
    | ReceiptReceived
    | MessageNotOpened
    | MessageNotDelivered
    | WrongReceiptReceived
    | ForgedReceiptReceived
    | LetterUnreadable
    | SecondTextReceived
    | KeyWarning
    | GroupMessagesMissed
    | MemberJoined
    | MemberLeft
    | RoomMembersChanged
    | RemovedFromRoom
    | RoomNotTrusted
    | TableChanged
    | SignedOff
    | ServerSilent
    | ServerBack
)
