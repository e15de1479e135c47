"""What a conversation shows: the results of commands, one class each; events of the chat are results too.

A renderer makes lines of them: a `Phrasebook` (wordings.py) for people, a `JsonRenderer` (json_lines.py) for programs.
They are msgspec's classes, as commands are.
"""

from typing import Protocol

from msgspec import Struct

from trio_chat.client.block_list import Blocked
from trio_chat.client.events import Event, Fallback, HistoryEntry
from trio_chat.client.rooms import RoomInfo
from trio_chat.errors import ChatError
from trio_chat.terminal.styling import Line


class SignedOn(Struct, frozen=True):
    """The program has started and is online; `waiting` letters follow."""

    waiting: int


class RegistrationSent(Struct, frozen=True):
    """`reg` asks the server; its answer follows."""


class CameBack(Struct, frozen=True):
    """`reg` has succeeded; `waiting` letters follow."""

    waiting: int


class WentOffline(Struct, frozen=True):
    """Deregistered."""


class SentByServer(Struct, frozen=True):
    """A message goes by the server, and why. A `MessageSent` or a `Failed` follows."""

    recipient: str
    reason: Fallback


class MessageSent(Struct, frozen=True):
    """How a message went; `how` and `sent_at` are those of `Delivery`."""

    recipient: str
    how: str
    sent_at: float | None


class MessageUnsent(Struct, frozen=True):
    """The program ends before an answer to a message: it was not sent, as far as is known. A `Failed` follows.

    `to`: as people read it. `in_group`: it was typed after `send_group`.
    """

    to: str
    in_group: bool = False


class PostAccepted(Struct, frozen=True):
    """The server has a message to a room; to everyone if `room` is empty."""

    room: str = ""


class MessageQueued(Struct, frozen=True):
    """A message is in the outbox, on the disk. What becomes of it comes as events, `OutgoingChanged`.

    `recipient` is empty if it is to a room, and `room` if it is to one person.
    """

    number: int
    id: bytes
    recipient: str
    room: str
    at: float


class WaitingMessage(Struct, frozen=True):
    """A message that waits to be sent. `tried`: it may have arrived."""

    number: int
    id: bytes
    recipient: str
    room: str
    at: float
    text: str
    tried: bool


class OutboxList(Struct, frozen=True):
    """Which messages wait to be sent, in the order in which they were accepted."""

    waiting: tuple[WaitingMessage, ...]


class MessageCancelled(Struct, frozen=True):
    """A message is withdrawn. `tried`: it may have arrived nevertheless."""

    number: int
    id: bytes
    recipient: str
    room: str
    at: float
    tried: bool


class MessagesWait(Struct, frozen=True):
    """So many messages wait to be sent, and this program does not send them (any more)."""

    count: int


class RoomCreated(Struct, frozen=True):
    """There is a new room, and we are in it."""

    room: str
    private: bool = False


class RoomJoined(Struct, frozen=True):
    """We are in a room now."""

    room: str


class RoomLeft(Struct, frozen=True):
    """We are not in a room any more. `current`: the one that has become the current one by that, or empty."""

    room: str
    current: str = ""


class RoomsList(Struct, frozen=True):
    """Which rooms there are, in the order of their names. `current`: the one to which `send_group` writes, or empty."""

    rooms: tuple[RoomInfo, ...]
    current: str = ""


class MembersList(Struct, frozen=True):
    """Who is in a room, in the order of names. `gone`: those of them who have left, and have its key until the next."""

    room: str
    names: tuple[str, ...]
    gone: tuple[str, ...] = ()


class MemberInvited(Struct, frozen=True):
    """Somebody is in a private room now."""

    room: str
    name: str


class MemberRemoved(Struct, frozen=True):
    """Somebody is not in a private room any more."""

    room: str
    name: str


class OwnerAdded(Struct, frozen=True):
    """A member of a private room owns it now, too."""

    room: str
    name: str


class OwnersList(Struct, frozen=True):
    """Who owns a private room, in the order of names."""

    room: str
    names: tuple[str, ...]


class TableRow(Struct, frozen=True):
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


class TableList(Struct, frozen=True):
    """Who is known to the server, in the order of names.

    `silent_since`: the server does not respond since then, and the client keeps trying: this may not be so any more.
    Nor if we are not `online`: then nothing changes it.
    """

    rows: tuple[TableRow, ...]
    silent_since: float | None = None
    online: bool = True


class KeyTrusted(Struct, frozen=True):
    """The key of a name, a fingerprint, is trusted now."""

    name: str
    key: str


class PersonBlocked(Struct, frozen=True):
    """The key of a name, a fingerprint, is blocked."""

    name: str
    key: str


class PersonUnblocked(Struct, frozen=True):
    """The key of a name is not blocked any more."""

    name: str


class BlockedList(Struct, frozen=True):
    """Who is blocked, the first one first."""

    people: tuple[Blocked, ...]


class HistoryList(Struct, frozen=True):
    """Messages of the history, oldest first."""

    entries: tuple[HistoryEntry, ...]


class CommandList(Struct, frozen=True):
    """The commands, a line of help for each."""

    lines: tuple[str, ...]


class Failed(Struct, frozen=True):
    """Something was not done."""

    error: ChatError


class CommandFailed(Struct, frozen=True):
    """A command was not done. `command`: its first word. `to`: for whom it was, as people read it, if it was a message.

    For a program it is the same as `Failed`.
    """

    error: ChatError
    command: str
    to: str = ""


class NoAnswer(Struct, frozen=True):
    """The server has not answered a command, and the conversation goes on. `command`: its first word."""

    command: str


class ProgramInterrupted(Struct, frozen=True):
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
    | CommandFailed
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
