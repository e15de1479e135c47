"""What a conversation shows: the results of commands, one attrs class each; events of the chat are results too.

A renderer makes lines of them: a `Phrasebook` (wordings.py) for people, a `JsonRenderer` (json_lines.py) for programs.
"""

from typing import Protocol

import attrs

from trio_chat.client.block_list import Blocked
from trio_chat.client.events import Event, Fallback, HistoryEntry
from trio_chat.client.rooms import RoomInfo
from trio_chat.errors import ChatError
from trio_chat.terminal.styling import Line


@attrs.frozen
class SignedOn:
    """The program has started and is online; `waiting` letters follow."""

    waiting: int


@attrs.frozen
class RegistrationSent:
    """`reg` asks the server; its answer follows."""


@attrs.frozen
class CameBack:
    """`reg` has succeeded; `waiting` letters follow."""

    waiting: int


@attrs.frozen
class WentOffline:
    """Deregistered."""


@attrs.frozen
class SentByServer:
    """A message goes by the server, and why. A `MessageSent` or a `Failed` follows."""

    recipient: str
    reason: Fallback


@attrs.frozen
class MessageSent:
    """How a message went; `how` and `sent_at` are those of `Delivery`."""

    recipient: str
    how: str
    sent_at: float | None


@attrs.frozen
class MessageUnsent:
    """The program ends before an answer to a message: it was not sent, as far as is known. A `Failed` follows.

    `to`: as people read it. `in_group`: it was typed after `send_group`.
    """

    to: str
    in_group: bool = False


@attrs.frozen
class PostAccepted:
    """The server has a message to a room; to everyone if `room` is empty."""

    room: str = ""


@attrs.frozen
class MessageQueued:
    """A message is in the outbox, on the disk. What becomes of it comes as events, `OutgoingChanged`.

    `recipient` is empty if it is to a room, and `room` if it is to one person.
    """

    number: int
    id: bytes
    recipient: str
    room: str
    at: float


@attrs.frozen
class WaitingMessage:
    """A message that waits to be sent. `tried`: it may have arrived."""

    number: int
    id: bytes
    recipient: str
    room: str
    at: float
    text: str
    tried: bool


@attrs.frozen
class OutboxList:
    """Which messages wait to be sent, in the order in which they were accepted."""

    waiting: tuple[WaitingMessage, ...]


@attrs.frozen
class MessageCancelled:
    """A message is withdrawn. `tried`: it may have arrived nevertheless."""

    number: int
    id: bytes
    recipient: str
    room: str
    at: float
    tried: bool


@attrs.frozen
class MessagesWait:
    """So many messages wait to be sent, and this program does not send them (any more)."""

    count: int


@attrs.frozen
class RoomCreated:
    """There is a new room, and we are in it."""

    room: str
    private: bool = False


@attrs.frozen
class RoomJoined:
    """We are in a room now."""

    room: str


@attrs.frozen
class RoomLeft:
    """We are not in a room any more."""

    room: str


@attrs.frozen
class RoomsList:
    """Which rooms there are, in the order of their names. `current`: the one to which `send_group` writes, or empty."""

    rooms: tuple[RoomInfo, ...]
    current: str = ""


@attrs.frozen
class MembersList:
    """Who is in a room, in the order of names."""

    room: str
    names: tuple[str, ...]


@attrs.frozen
class MemberInvited:
    """Somebody is in a private room now."""

    room: str
    name: str


@attrs.frozen
class MemberRemoved:
    """Somebody is not in a private room any more."""

    room: str
    name: str


@attrs.frozen
class OwnerAdded:
    """A member of a private room owns it now, too."""

    room: str
    name: str


@attrs.frozen
class OwnersList:
    """Who owns a private room, in the order of names."""

    room: str
    names: tuple[str, ...]


@attrs.frozen
class TableRow:
    """One person. `key`: their fingerprint, empty if there is none; `key_changed`: it is not the pinned one.

    `host` is empty, and `port` 0, if they are not in the table.
    """

    name: str
    host: str
    port: int
    online: bool
    since: float
    key: str
    key_changed: bool


@attrs.frozen
class TableList:
    """Who is known to the server, in the order of names.

    `silent_since`: the server does not respond since then, and the client keeps trying: this may not be so any more.
    """

    rows: tuple[TableRow, ...]
    silent_since: float | None = None


@attrs.frozen
class KeyTrusted:
    """The key of a name, a fingerprint, is trusted now."""

    name: str
    key: str


@attrs.frozen
class PersonBlocked:
    """The key of a name, a fingerprint, is blocked."""

    name: str
    key: str


@attrs.frozen
class PersonUnblocked:
    """The key of a name is not blocked any more."""

    name: str


@attrs.frozen
class BlockedList:
    """Who is blocked, the first one first."""

    people: tuple[Blocked, ...]


@attrs.frozen
class HistoryList:
    """Messages of the history, oldest first."""

    entries: tuple[HistoryEntry, ...]


@attrs.frozen
class CommandList:
    """The commands, a line of help for each."""

    lines: tuple[str, ...]


@attrs.frozen
class Failed:
    """Something was not done."""

    error: ChatError


@attrs.frozen
class NoAnswer:
    """The server has not answered a command, and the conversation goes on. `command`: its first word."""

    command: str


@attrs.frozen
class ProgramInterrupted:
    """Ctrl-C has ended the program."""


RoomResult = (
    PostAccepted
    | RoomCreated
    | RoomJoined
    | RoomLeft
    | RoomsList
    | MembersList
    | MemberInvited
    | MemberRemoved
    | OwnerAdded
    | OwnersList
)
OutboxResult = MessageQueued | OutboxList | MessageCancelled | MessagesWait
CommandAnswer = (
    CameBack
    | WentOffline
    | MessageSent
    | MessageQueued
    | OutboxList
    | MessageCancelled
    | RoomResult
    | TableList
    | KeyTrusted
    | PersonBlocked
    | PersonUnblocked
    | BlockedList
    | HistoryList
    | CommandList
    | Failed
    | NoAnswer
)
"""What ends a command. A program can rely on exactly one of these for each."""

Result = (
    Event
    | SignedOn
    | RegistrationSent
    | SentByServer
    | MessageUnsent
    | MessagesWait
    | CommandAnswer
    | ProgramInterrupted
)


class Renderer(Protocol):
    """Makes lines of results."""

    @property
    def lists_changed_table(self) -> bool:
        """Whether each change of the table is shown as the whole table, a `TableList`, instead of a `TableChanged`."""

    def render(self, result: Result) -> tuple[Line, ...]:
        """The lines for a result; none if it is not shown."""
