"""What happens in a chat as JSON, one object a line, for programs: what `client --json` says instead of phrases.

Each object has the name of its class in EVENTS and the fields of that class, nothing else; docs/scripting.md lists
them, and the tests hold it against this. Texts are as they came; nothing is printed here.
"""

import json
from collections.abc import Iterable

import attrs

from trio_chat.client.events import (
    Delivery,
    Entry,
    Event,
    Fallback,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotOpened,
    MessageReceived,
    ReceiptReceived,
    ServerBack,
    ServerSilent,
    SignedOff,
)
from trio_chat.errors import ChatError
from trio_chat.terminal.wordings import Phrase, Phrasebook, TableRow

__all__ = ["EVENTS", "Book", "JsonBook", "as_json", "fields_of"]

# --- what became of a command; all else are the events of the chat ---


@attrs.frozen
class Registered:
    """On line; so many letters follow."""

    waiting: int


@attrs.frozen
class Deregistered:
    """Off line."""


@attrs.frozen
class ByServer:
    """A message goes by the server; why. What became of it follows."""

    recipient: str
    reason: str


@attrs.frozen
class Sent:
    """What became of a message; see `Delivery`."""

    recipient: str
    how: str
    sent_at: float | None


@attrs.frozen
class Posted:
    """The server has a message to everyone."""


@attrs.frozen
class Table:
    """Who is known to the server."""

    rows: tuple[TableRow, ...]


@attrs.frozen
class Trusted:
    """The key of a name is trusted now."""

    name: str
    key: str


@attrs.frozen
class History:
    """What was written."""

    entries: tuple[Entry, ...]


@attrs.frozen
class Help:
    """The commands, a line for each."""

    lines: tuple[str, ...]


@attrs.frozen
class Failed:
    """Something was not done: the name of the exception, if there is one, and what it says."""

    error: str
    text: str


@attrs.frozen
class Note:
    """Anything else that is told, in the words of the wording `group`."""

    text: str


Result = Registered | Deregistered | ByServer | Sent | Posted | Table | Trusted | History | Help | Failed | Note

EVENTS: dict[type, str] = {
    Registered: "registered",
    Deregistered: "deregistered",
    Table: "table",
    MessageReceived: "message",
    GroupMessageReceived: "group_message",
    LetterReceived: "letter",
    ReceiptReceived: "receipt",
    MessageNotOpened: "message_not_opened",
    ForgedReceiptReceived: "forged_receipt",
    LetterUnreadable: "letter_unreadable",
    KeyWarning: "key_warning",
    GroupMessagesMissed: "missed",
    ByServer: "by_server",
    Sent: "delivery",
    Posted: "posted",
    Trusted: "trusted",
    History: "history",
    Help: "help",
    SignedOff: "signed_off",
    ServerSilent: "server_silent",
    ServerBack: "server_back",
    Failed: "error",
    Note: "note",
}
"""The field `event` of the objects of each class."""

_COMPLAINTS = {
    Phrase.UNKNOWN_COMMAND: ("UnknownCommand", "no such command: {text}"),
    Phrase.ALREADY_REGISTERED: ("AlreadyRegistered", "already registered"),
    Phrase.ONLY_YOURSELF: ("OnlyYourself", "nobody else can be registered or deregistered"),
}
"""What goes wrong with commands alone, and has no exception."""


def fields_of(kind: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    """The fields of the objects of a class, but for `event`. An exception is told by two, `error` and `text`."""
    told = [("error", "text") if field.type is ChatError else (field.name,) for field in attrs.fields(kind)]
    return tuple(name for names in told for name in names)


def as_json(fact: Event | Result) -> str:
    """The line that tells a fact: ASCII without control characters, whatever is in its texts."""
    told: dict[str, object] = {"event": EVENTS[type(fact)]}
    for name, value in attrs.asdict(fact).items():
        told |= {"error": type(value).__name__, "text": str(value)} if isinstance(value, ChatError) else {name: value}
    return json.dumps(told)


class JsonBook:
    """Facts -> the lines that say them: what a `Phrasebook` is to a person."""

    def lines(
        self,
        phrase: Phrase,
        *,
        name: str = "",
        text: str = "",
        at: float = 0.0,
        count: int = 0,
        key: str = "",
        pinned: str = "",
    ) -> tuple[str, ...]:
        """The line that tells of what this is the phrase for, if it tells anything to a program."""
        match phrase:
            case Phrase.REGISTERED | Phrase.HAS_LETTERS | Phrase.NO_LETTERS:
                return (as_json(Registered(count)),)
            case Phrase.DEREGISTERED:
                return (as_json(Deregistered()),)
            case Phrase.POSTED:
                return (as_json(Posted()),)
            case Phrase.TRUSTED:
                return (as_json(Trusted(name, key)),)
            case Phrase.REG_SENT | Phrase.INTERRUPTED:
                return ()
        if phrase in _COMPLAINTS:
            error, complaint = _COMPLAINTS[phrase]
            return (as_json(Failed(error, complaint.format(text=text))),)
        said = Phrasebook().lines(phrase, name=name, text=text, at=at, count=count, key=key, pinned=pinned)
        return tuple(as_json(Note(line)) for line in said)

    def event(self, event: Event) -> tuple[str, ...]:
        """The line that tells an event; `TableChanged` is told by `table`."""
        return (as_json(event),)

    def table(self, rows: Iterable[TableRow]) -> tuple[str, ...]:
        """The line that tells the table."""
        return (as_json(Table(tuple(rows))),)

    def history(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """The line that tells what was written."""
        return (as_json(History(tuple(entries))),)

    def help(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """The line that tells the commands."""
        return (as_json(Help(lines)),)

    def delivery(self, delivery: Delivery, recipient: str) -> tuple[str, ...]:
        """The line that tells what became of a message."""
        return (as_json(Sent(recipient, delivery.how, delivery.sent_at)),)

    def fallback(self, reason: Fallback, recipient: str) -> tuple[str, ...]:
        """The line that tells why a message goes by the server."""
        return (as_json(ByServer(recipient, reason.name.lower())),)

    def error(self, error: ChatError) -> tuple[str, ...]:
        """The line that tells why something was not done."""
        return (as_json(Failed(type(error).__name__, str(error))),)


Book = Phrasebook | JsonBook
