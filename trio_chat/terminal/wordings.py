"""The phrasebook: every line that a client shows, in both wordings, and how facts are put into it.

Whatever another person wrote is escaped here. What happens, and when, is the conversation's business.
"""

import enum
import time
from collections.abc import Iterable, Mapping

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
    TableChanged,
)
from trio_chat.errors import (
    ChatError,
    ForgedReceipt,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    MailboxFull,
    NameTaken,
    NoHistory,
    NotOpened,
    NotRegistered,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    TooFast,
    UnknownRecipient,
)
from trio_chat.presence.messages import FriendChanged
from trio_chat.terminal.styling import Line, LineStyle, mentions

__all__ = ["Phrase", "Phrasebook", "TableRow", "Wording", "escape", "show_address"]


class Wording(enum.StrEnum):
    """Whose words are used: those of the ancestor `group` or of the ancestor `channel`."""

    GROUP = "group"
    CHANNEL = "channel"


class Phrase(enum.Enum):
    """What happened, and how it is said in the wordings group and channel; the latter says the same if left out.

    ` / ` parts successive lines; where nothing stands, nothing is printed.
    """

    REGISTERED = "registered", "[Welcome, You are registered.]", ""
    TABLE_CHANGED = "the table changed", "", "[Client Table Updated]"
    ACKNOWLEDGED = (
        "message acknowledged",
        "[Message received by {name}.]",
        "[Message has been received by {name}.]",
    )
    MESSAGE = "message arrives", "{name}: {text}", "{name} : {text}"
    NO_ACK = "no acknowledgement", "[No ACK from {name}, message sent to server.]"
    KNOWN_AWAY = "message to one who is off line", "", "[No ACK from {name}, message sent to server.]"
    SAVED = (
        "server stored it",
        "[Offline Message sent at {time} received by the server and saved.]",
        "[Messages received by the server and saved.]",
    )
    RELAYED = "server relayed it", "[Message relayed to {name} by the server.]"
    RECEIPT = "receipt", "[Offline Message sent at {time} received by {name}.]", ""
    POSTED = "group message accepted", "[Group Message received by Server.]", "[Message received by the server.]"
    GROUP_MESSAGE = "group message arrives", "Group Chat {name}: {text}", "Channel_Message {name} : {text}"
    DEREGISTERED = "deregistered", "[You are Offline. Bye.]", "[You are now offline. Bye.]"
    REG_SENT = "registering again", "[RegSent]", ""
    LETTERS = "before the first letter of a return", "[You have offline messages:]", "[You have message]"
    LETTER = "letter from the time away", "{name}: {time} {text}", "{stamp} {name} : {text}"
    GROUP_LETTER = (
        "group message from the time away",
        "Group Chat {name}: {time} {text}",
        "{stamp} Channel_Message {name} : {text}",
    )
    HAS_LETTERS = "registered again, letters follow", ""
    NO_LETTERS = "registered again, no new letter", "[You have no offline messages.]", ""
    MISSED = "group messages that found the mailbox full", "[{count} group messages were not kept.]"
    NO_SERVER = (
        "five windows without the server",
        "[Server not responding] / [Exiting]",
        "[Message sent failed] / [Server is shut down] / [Exiting]",
    )
    SERVER_SILENT = "the same, with --reconnect", "[Server not responding, trying again.]"
    SERVER_BACK = "the server responds again", "[Server is back.]"
    INTERRUPTED = "Ctrl-C", "", "Caught keyboard interrupt. Exiting"
    UNKNOWN_NAME = "unknown name", "[No such user: {name}]"
    OFFLINE = "a command while off line", "[You are offline. Type reg to come back.]"
    ALREADY_REGISTERED = "reg while on line", "[You are already registered.]"
    ONLY_YOURSELF = "reg or dereg of another name", "[You can only do that for yourself.]"
    TO_ONESELF = "a message to oneself", "[You cannot send to yourself.]"
    NOTHING = "an empty message", "[Nothing to send.]"
    TOO_LONG = "a message that is too long", "[Too long: {count} bytes, at most 16384.]"
    NOT_UNICODE = "a message that is not valid Unicode", "[Not valid Unicode, message not sent.]"
    MAILBOX_FULL = "mailbox full", "[The mailbox of {name} is full, message not sent.]"
    TOO_FAST = "too fast", "[Too fast, message not sent.]"
    UNKNOWN_COMMAND = "unknown command", "[Unknown command: {text}. Type help.]"
    NAME_TAKEN = "name refused", "[Name {name} is taken.]"
    SIGNED_IN_ELSEWHERE = "signed in elsewhere", "[Signed in from another place.] / [Exiting]"
    KEY_CHANGED = (
        "somebody has another key",
        "[WARNING: the key of {name} has changed!] / [It was {pinned}, now it is {key}.] / [Someone may be posing as"
        " {name}. Ask by another way; if the new key is right, type: trust {name}]",
    )
    SERVER_KEY_CHANGED = (
        "the server has another key",
        "[WARNING: the key of the server has changed!] / [It was {pinned}, now it is {key}.] / [Someone may be posing"
        " as the server. If you know that the new key is right, start with --server-key {key}] / [Exiting]",
    )
    TRUSTED = "a new key accepted", "[The key of {name} is trusted now: {key}]"
    NOT_OPENED = "message that could not be opened", "[Message received by {name}, who could not open it.]"
    LETTER_NOT_OPENED = (
        "the same, long after",
        "[Offline Message sent at {time} could not be opened by {name}.]",
    )
    UNREADABLE = "unreadable letter", "[A message that claims to be from {name} could not be opened or verified.]"
    FORGED_RECEIPT = "forged receipt", "[WARNING: the server showed a forged receipt of {name}.]"
    HEADING = "who: above the rows", "{name}  status    since     {text}  {key}"
    ONLINE_ROW = "who: one who is on line", "{name}  on line   {time}  {text}  {key}"
    AWAY_ROW = "who: one who is away", "{name}  off line  {time}  {text}  {key}"
    ROW_CHANGED = "who: behind the key that has changed", "{key}  KEY CHANGED"
    PASTE = "several lines are pasted", "[Paste of {count} lines: send them all? y/n]"
    ENTRY = "history: a message came", "[{date} {name}: {text}]", "[{date} {name} : {text}]"
    POST = "the same, to everyone", "[{date} Group Chat {name}: {text}]", "[{date} Channel_Message {name} : {text}]"
    OWN_ENTRY = "history: a message went", "[{date} to {name}: {text}]", "[{date} to {name} : {text}]"
    OWN_POST = "the same, to everyone", "[{date} Group Chat to all: {text}]", "[{date} Channel_Message to all : {text}]"
    NOTHING_FOUND = "history: no message", "[Nothing found.]"
    NO_HISTORY = "the same, with --no-history", "[No history is kept.]"
    FRIEND_ONLINE = "presence: a friend comes on line", "[{name} is online]"
    FRIEND_AWAY = "presence: a friend goes off line", "[{name} is away]"
    OTHER_ERROR = "any other error", "[{text}]"

    def __init__(self, when: str, group: str, channel: str | None = None) -> None:
        self.when = when
        self.group = group
        self.channel = group if channel is None else channel


_DIRECT = {Phrase.MESSAGE, Phrase.LETTER}
_GROUP = {Phrase.GROUP_MESSAGE, Phrase.GROUP_LETTER}
_PLAIN = {Phrase.HEADING, Phrase.ONLINE_ROW, Phrase.AWAY_ROW, Phrase.ROW_CHANGED, Phrase.NOTHING_FOUND}
_ENTRIES = {
    (False, False): Phrase.ENTRY,
    (False, True): Phrase.POST,
    (True, False): Phrase.OWN_ENTRY,
    (True, True): Phrase.OWN_POST,
}
"""Of a message in the history that was sent or not, to everyone or not."""
_WARNINGS = {Phrase.KEY_CHANGED, Phrase.SERVER_KEY_CHANGED, Phrase.UNREADABLE, Phrase.FORGED_RECEIPT}
_TROUBLES = {
    *(Phrase.NO_SERVER, Phrase.SERVER_SILENT, Phrase.SIGNED_IN_ELSEWHERE, Phrase.NAME_TAKEN, Phrase.OFFLINE),
    *(Phrase.UNKNOWN_NAME, Phrase.ALREADY_REGISTERED, Phrase.ONLY_YOURSELF, Phrase.TO_ONESELF, Phrase.NOTHING),
    *(Phrase.TOO_LONG, Phrase.NOT_UNICODE, Phrase.MAILBOX_FULL, Phrase.TOO_FAST, Phrase.UNKNOWN_COMMAND),
    *(Phrase.NOT_OPENED, Phrase.LETTER_NOT_OPENED, Phrase.MISSED, Phrase.OTHER_ERROR, Phrase.NO_HISTORY),
}
_TONES = {
    phrase: tone
    for tone, phrases in (
        *((LineStyle.DIRECT, _DIRECT), (LineStyle.GROUP, _GROUP), (LineStyle.PLAIN, {*_PLAIN, *_ENTRIES.values()})),
        *((LineStyle.WARNING, _WARNINGS), (LineStyle.TROUBLE, _TROUBLES)),
    )
    for phrase in phrases
}
"""What is not the system's routine."""

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), *_BIDI)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode("ascii") for code in _CONTROLS}


def escape(text: str) -> str:
    r"""The text with control characters, line separators, surrogates and bidi controls shown as `\x1b`, `\u202e`."""
    return text.translate(_ESCAPES)


def show_address(address: tuple[str, int]) -> str:
    """An address in one piece, as it is typed."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@attrs.frozen
class TableRow:
    """A row of the table. `key`: the fingerprint, empty if there is none; `key_changed`: it is not the pinned one."""

    name: str
    host: str
    port: int
    online: bool
    since: float
    key: str
    key_changed: bool


@attrs.frozen
class Phrasebook:
    """Facts -> the lines that say them in one wording. `owner`: by whose name the group may call him."""

    wording: Wording = Wording.GROUP
    owner: str = ""

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
    ) -> tuple[Line, ...]:
        """The lines of a phrase. `at`: seconds since 1970, shown as local time or as they are; `key`: somebody's
        fingerprint now; `pinned`: the one by which he was known.
        """
        template = phrase.group if self.wording is Wording.GROUP else phrase.channel
        fields = {
            "name": escape(name),
            "text": escape(text),
            "time": time.strftime("%H:%M:%S", time.localtime(at)),
            "date": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)),
            "stamp": f"({at:.3f})",
            "count": count,
            "key": escape(key),
            "pinned": escape(pinned),
        }
        return tuple(
            self._line(_TONES.get(phrase, LineStyle.SYSTEM), part, fields) for part in template.split(" / ") if part
        )

    def _line(self, tone: LineStyle, template: str, fields: Mapping[str, object]) -> Line:
        before, named, _ = template.partition("{name}")
        name = str(fields["name"]).rstrip() if named else ""
        return Line(template.format_map(fields), tone, name, len(before.format_map(fields)))

    def event(self, event: Event) -> tuple[str, ...]:
        """The lines that tell an event."""
        match event:
            case MessageReceived(sender, text):
                return self._to_owner(self.lines(Phrase.MESSAGE, name=sender, text=text))
            case GroupMessageReceived(sender, text):
                return self._to_group(text, self.lines(Phrase.GROUP_MESSAGE, name=sender, text=text))
            case LetterReceived(sender, text, sent_at, group, first):
                heading = self.lines(Phrase.LETTERS) if first else ()
                if group:
                    return heading + self._to_group(
                        text, self.lines(Phrase.GROUP_LETTER, name=sender, text=text, at=sent_at)
                    )
                return heading + self._to_owner(self.lines(Phrase.LETTER, name=sender, text=text, at=sent_at))
            case ReceiptReceived(recipient, sent_at):
                return self.lines(Phrase.RECEIPT, name=recipient, at=sent_at)
            case MessageNotOpened(recipient, sent_at):
                return self.lines(Phrase.LETTER_NOT_OPENED, name=recipient, at=sent_at)
            case ForgedReceiptReceived(recipient):
                return self.lines(Phrase.FORGED_RECEIPT, name=recipient)
            case LetterUnreadable(sender):
                return self.lines(Phrase.UNREADABLE, name=sender)
            case KeyWarning(name, pinned, offered):
                return self.lines(Phrase.KEY_CHANGED, name=name, pinned=pinned, key=offered)
            case GroupMessagesMissed(count):
                return self.lines(Phrase.MISSED, count=count)
            case TableChanged():
                return self.lines(Phrase.TABLE_CHANGED)
            case ServerSilent():
                return self.lines(Phrase.SERVER_SILENT)
            case ServerBack():
                return self.lines(Phrase.SERVER_BACK)
            case SignedOff(error):
                return self.error(error)

    def _to_owner(self, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        return tuple(line.calling() for line in lines)

    def _to_group(self, text: str, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        return tuple(line.calling(self.owner) for line in lines) if mentions(text, self.owner) else lines

    def table(self, rows: Iterable[TableRow]) -> tuple[str, ...]:
        """The lines that tell the table: a heading, and the rows below it, in columns as wide as what is in them."""
        told = [(row, escape(row.name), escape(show_address((row.host, row.port))), escape(row.key)) for row in rows]
        heading = ("name", "address", "fingerprint")
        widths = [max(map(len, column)) for column in zip(heading, *(cells for _, *cells in told), strict=True)]
        lines = [self._row(Phrase.HEADING, heading, widths, 0.0)]
        for row, *cells in told:
            name, address, key = cells
            if row.key_changed:
                key = "".join(self.lines(Phrase.ROW_CHANGED, key=key))
            phrase = Phrase.ONLINE_ROW if row.online else Phrase.AWAY_ROW
            line = self._row(phrase, (name, address, key), widths, row.since)
            lines.append(Line(line, LineStyle.WARNING, line.name) if row.key_changed else line)
        return tuple(lines)

    def _row(self, phrase: Phrase, cells: tuple[str, str, str], widths: list[int], since: float) -> Line:
        name, address, key = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        (line,) = self.lines(phrase, name=name, text=address, key=key, at=since)
        return Line(line.rstrip(), line.tone, "" if phrase is Phrase.HEADING else line.name)

    def history(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """The lines that tell what was written."""
        said: list[str] = []
        for one in entries:
            said += self.lines(_ENTRIES[one.sent, one.group], name=one.peer, text=one.text, at=one.at)
        return tuple(said) or self.lines(Phrase.NOTHING_FOUND)

    def help(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """The lines that tell the commands."""
        return lines

    def friend(self, change: FriendChanged) -> tuple[str, ...]:
        """The lines that tell the coming or going of a friend."""
        phrase = Phrase.FRIEND_ONLINE if change.online else Phrase.FRIEND_AWAY
        return self.lines(phrase, name=str(change.user_id))

    def delivery(self, delivery: Delivery, recipient: str) -> tuple[str, ...]:
        """The lines that tell what became of a message."""
        match delivery.how:
            case "direct":
                return self.lines(Phrase.ACKNOWLEDGED, name=recipient)
            case "relayed":
                return self.lines(Phrase.RELAYED, name=recipient)
            case "saved":
                return self.lines(Phrase.SAVED, name=recipient, at=delivery.sent_at or 0.0)

    def fallback(self, reason: Fallback, recipient: str) -> tuple[str, ...]:
        """The lines that tell, if at all, why a message goes by the server."""
        match reason:
            case Fallback.NO_ACK:
                return self.lines(Phrase.NO_ACK, name=recipient)
            case Fallback.OFFLINE:
                return self.lines(Phrase.KNOWN_AWAY, name=recipient)
            case Fallback.DETOUR:
                return ()

    def error(self, error: ChatError) -> tuple[str, ...]:
        """The lines that tell why something was not done."""
        match error:
            case NotRegistered():
                return self.lines(Phrase.OFFLINE)
            case InvalidRecipient():
                return self.lines(Phrase.TO_ONESELF)
            case InvalidText(size=None):
                return self.lines(Phrase.NOT_UNICODE)
            case InvalidText(size=0):
                return self.lines(Phrase.NOTHING)
            case InvalidText(size=int(size)):
                return self.lines(Phrase.TOO_LONG, count=size)
            case UnknownRecipient(name=name) | InvalidName(name=name):
                return self.lines(Phrase.UNKNOWN_NAME, name=name)
            case MailboxFull(name=name):
                return self.lines(Phrase.MAILBOX_FULL, name=name)
            case TooFast():
                return self.lines(Phrase.TOO_FAST)
            case NoHistory():
                return self.lines(Phrase.NO_HISTORY)
            case ServerNotResponding():
                return self.lines(Phrase.NO_SERVER)
            case _:
                return self._distrust(error)

    def _distrust(self, error: ChatError) -> tuple[str, ...]:
        """The lines that tell of keys, or at last of anything else."""
        match error:
            case NameTaken(name=name):
                return self.lines(Phrase.NAME_TAKEN, name=name)
            case SignedInElsewhere():
                return self.lines(Phrase.SIGNED_IN_ELSEWHERE)
            case KeyChanged(name=name, pinned=pinned, offered=offered):
                return self.lines(Phrase.KEY_CHANGED, name=name, pinned=pinned, key=offered)
            case ServerKeyChanged(pinned=pinned, offered=offered):
                return self.lines(Phrase.SERVER_KEY_CHANGED, pinned=pinned, key=offered)
            case NotOpened(name=name):
                return self.lines(Phrase.NOT_OPENED, name=name)
            case ForgedReceipt(name=name):
                return self.lines(Phrase.FORGED_RECEIPT, name=name)
            case _:
                return self.lines(Phrase.OTHER_ERROR, text=str(error))
