"""The phrasebook: every line that a client shows, in both wordings, and how facts are put into it.

Whatever another person wrote is escaped here. What happens, and when, is the conversation's business.
"""

import enum
import time

import attrs

from trio_chat.client.events import (
    Delivery,
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
from trio_chat.client.friends import FriendChanged
from trio_chat.errors import (
    ChatError,
    ForgedReceipt,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    MailboxFull,
    NameTaken,
    NotOpened,
    NotRegistered,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    TooFast,
    UnknownRecipient,
)

__all__ = ["Phrase", "Phrasebook", "Wording", "escape"]


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
    ONLINE_ROW = "who: one who is on line", "[{name} is online at {text}{key}]"
    AWAY_ROW = "who: one who is away", "[{name} is away since {time}{key}]"
    ROW_KEY = "who: behind one who has a key", ", key {key}"
    ROW_CHANGED = "who: behind one whose key has changed", ", KEY CHANGED"
    FRIEND_ONLINE = "presence: a friend comes on line", "[{name} is online]"
    FRIEND_AWAY = "presence: a friend goes off line", "[{name} is away]"
    OTHER_ERROR = "any other error", "[{text}]"

    def __init__(self, when: str, group: str, channel: str | None = None) -> None:
        self.when = when
        self.group = group
        self.channel = group if channel is None else channel


_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), *_BIDI)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode("ascii") for code in _CONTROLS}


def escape(text: str) -> str:
    r"""The text with control characters, line separators, surrogates and bidi controls shown as `\x1b`, `\u202e`."""
    return text.translate(_ESCAPES)


@attrs.frozen
class Phrasebook:
    """Facts -> the lines that say them in one wording."""

    wording: Wording = Wording.GROUP

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
        """The lines of a phrase. `at`: seconds since 1970, shown as local time or as they are; `key`: somebody's
        fingerprint now; `pinned`: the one by which he was known.
        """
        template = phrase.group if self.wording is Wording.GROUP else phrase.channel
        fields = {
            "name": escape(name),
            "text": escape(text),
            "time": time.strftime("%H:%M:%S", time.localtime(at)),
            "stamp": f"({at:.3f})",
            "count": count,
            "key": escape(key),
            "pinned": escape(pinned),
        }
        return tuple(line.format_map(fields) for line in template.split(" / ") if line)

    def event(self, event: Event) -> tuple[str, ...]:
        """The lines that tell an event."""
        match event:
            case MessageReceived(sender, text):
                return self.lines(Phrase.MESSAGE, name=sender, text=text)
            case GroupMessageReceived(sender, text):
                return self.lines(Phrase.GROUP_MESSAGE, name=sender, text=text)
            case LetterReceived(sender, text, sent_at, group, first):
                heading = self.lines(Phrase.LETTERS) if first else ()
                phrase = Phrase.GROUP_LETTER if group else Phrase.LETTER
                return heading + self.lines(phrase, name=sender, text=text, at=sent_at)
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

    def row(self, name: str, place: str, since: float, key: str, *, online: bool, changed: bool) -> tuple[str, ...]:
        """The lines of a row of the table; `key`: its fingerprint, if any; `changed`: it is not the pinned one."""
        phrase = Phrase.ONLINE_ROW if online else Phrase.AWAY_ROW
        known_by = self.lines(Phrase.ROW_KEY, key=key) if key else ()
        warning = self.lines(Phrase.ROW_CHANGED) if changed else ()
        return self.lines(phrase, name=name, text=place, at=since, key="".join(known_by + warning))

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
