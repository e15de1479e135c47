"""What a user is told: one attrs class for each thing that can arrive on `Chat.events`, and what became of a send.

`Entry`, of the history, lives with the stores that keep it. Plain facts only; how they look is the console's business.
Times are seconds since 1970, UTC, by the server's clock.
"""

import enum
from typing import Literal

import attrs

from trio_chat.errors import ChatError
from trio_chat.storage.interface import Entry

__all__ = [
    "Delivery",
    "Entry",
    "Event",
    "Fallback",
    "ForgedReceiptReceived",
    "GroupMessageReceived",
    "GroupMessagesMissed",
    "KeyWarning",
    "LetterReceived",
    "LetterUnreadable",
    "MessageNotOpened",
    "MessageReceived",
    "ReceiptReceived",
    "ServerBack",
    "ServerSilent",
    "SignedOff",
    "TableChanged",
]


class Fallback(enum.Enum):
    """Why a message goes by the server."""

    NO_ACK = "the recipient did not acknowledge it within the window"
    OFFLINE = "the table says that the recipient is off line"
    DETOUR = "the recipient did not answer directly within the last 60 seconds, or has no address for us"


@attrs.frozen
class Delivery:
    """How a message went: the recipient's program has it (`direct`, `relayed`), or the server keeps it (`saved`).

    `sent_at` is when the server saved it; None otherwise.
    """

    how: Literal["direct", "relayed", "saved"]
    sent_at: float | None = None


@attrs.frozen
class MessageReceived:
    """A direct message, now: from its sender or relayed by the server."""

    sender: str
    text: str


@attrs.frozen
class GroupMessageReceived:
    """A message to everyone, now."""

    sender: str
    text: str


@attrs.frozen
class LetterReceived:
    """A message from the time away, taken by the server at `sent_at`.

    `group` tells whether it went to everyone; `first`, whether it is the first one since the latest registration.
    """

    sender: str
    text: str
    sent_at: float
    group: bool
    first: bool


@attrs.frozen
class ReceiptReceived:
    """The message that the server saved at `sent_at` has reached its recipient."""

    recipient: str
    sent_at: float


@attrs.frozen
class MessageNotOpened:
    """The message that the server saved at `sent_at` has reached its recipient, who could not open it."""

    recipient: str
    sent_at: float


@attrs.frozen
class ForgedReceiptReceived:
    """The server says that a message has reached its recipient, but what it shows for it is not from him."""

    recipient: str


@attrs.frozen
class LetterUnreadable:
    """A letter came in the name of `sender` that is not from him, was changed on its way, or cannot be opened."""

    sender: str


@attrs.frozen
class KeyWarning:
    """The server gives another key for a name than we know it by (fingerprints).

    Nothing is sent to that name or taken from it until `Chat.trust(name)`.
    """

    name: str
    pinned: str
    offered: str


@attrs.frozen
class GroupMessagesMissed:
    """So many group messages found the mailbox full and were not kept."""

    count: int


@attrs.frozen
class TableChanged:
    """`Chat.table` has changed, perhaps more than once since the last such event."""


@attrs.frozen
class SignedOff:
    """`Chat.online` is now False: our owner signed in from another place (`error` is SignedInElsewhere), or the server
    held us for gone, and coming back by ourselves failed with `error`.
    """

    error: ChatError


@attrs.frozen
class ServerSilent:
    """The server does not respond; it is tried again and again (`open_chat(reconnect=True)`)."""


@attrs.frozen
class ServerBack:
    """The server responds again."""


Event = (
    MessageReceived
    | GroupMessageReceived
    | LetterReceived
    | ReceiptReceived
    | MessageNotOpened
    | ForgedReceiptReceived
    | LetterUnreadable
    | KeyWarning
    | GroupMessagesMissed
    | TableChanged
    | SignedOff
    | ServerSilent
    | ServerBack
)
