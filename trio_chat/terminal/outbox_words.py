"""What becomes of messages in the outbox, as phrases with what fills them in.

The lines are made of them in wordings.py.
"""

from collections.abc import Iterable
from typing import TypedDict

from trio_chat import errors
from trio_chat.client.early_outbox import Outgoing
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.protocol.records import EVERYONE_NAME, fold
from trio_chat.terminal import results
from trio_chat.terminal.phrases import Phrase

SHOWN_TEXT = 40
"""How many characters of a message `outbox` shows."""


class Fields(TypedDict, total=False):
    """What fills in a phrase; see `Phrasebook.lines`."""

    name: str
    room: str
    text: str
    key: str
    at: float
    count: int


Words = tuple[Phrase, Fields]

_LATER = "It is sent later"
_REASONS: dict[type[errors.ChatError], tuple[str, str]] = {
    errors.ServerNotResponding: ("the server is not responding", _LATER),
    errors.NotRegistered: ("you are offline", "Type reg to send it"),
    errors.NameTaken: ("your name has another owner at the server", "Ask its operator"),
    errors.Banned: ("you are banned from this server", "Ask its operator"),
    errors.TooManyNames: ("your key has too many names at the server", "Ask its operator"),
    errors.NoRoom: ("the server has no room for new names", "Ask its operator"),
    errors.RegistrationClosed: ("the server takes no new names", "Ask its operator"),
    errors.NotInvited: ("the server wants an invitation for your name", "Ask its operator"),
    errors.TooManyPeople: ("the server sends too many names", "Ask its operator"),
    errors.MailboxFull: ("the mailbox of {name} is full", _LATER),
    errors.TooFast: ("you have sent too much at once", _LATER),
    errors.MembersNotTrusted: ("the server does not show who is in the group", _LATER),
    errors.KeyChanged: ("the key of {name} has changed", "If the new one is right, trust {name} sends it"),
    errors.KeyNotRemembered: (
        "the key of {name} is not known yet",
        "If who shows the right one, trust {name} sends it",
    ),
}
"""Why a message waits, and what to do. Of other errors it is their text."""

_MAY_HAVE_ARRIVED = (errors.NotOpened, errors.WrongReceipt, errors.ForgedReceipt, errors.TriedTooLong)

_LATE = {
    MessageState.RECEIVED: "received",
    MessageState.RELAYED: "relayed by the server",
    MessageState.SAVED: "saved by the server",
    MessageState.POSTED: "received by the server",
}
_AT_ONCE = {
    MessageState.RECEIVED: Phrase.RECEIVED,
    MessageState.RELAYED: Phrase.RELAYED,
    MessageState.SAVED: Phrase.SAVED_FOR,
}


def destination(recipient: str, room: str) -> str:
    """For whom a message is, as people read it."""
    if fold(room) == EVERYONE_NAME:
        return EVERYONE_NAME
    return recipient or f"group {room}"


def reason(change: OutgoingChanged, *, with_advice: bool) -> str:
    """Why a message waits, and what its user can do."""
    for kind, (why, advice) in _REASONS.items():
        if type(change.error) is kind:
            return (f"{why}. {advice}" if with_advice else why).format(name=change.recipient)
    return str(change.error)


def words_of_change(change: OutgoingChanged) -> Words:
    """What has become of a message. If it has failed, the words for the error follow."""
    to = destination(change.recipient, change.room)
    match change.state:
        case MessageState.WAITING:
            return Phrase.MESSAGE_WAITS, {"text": to, "key": reason(change, with_advice=True), "count": change.number}
        case MessageState.FAILED:
            is_uncertain = isinstance(change.error, _MAY_HAVE_ARRIVED)
            return Phrase.UNCERTAIN if is_uncertain else Phrase.FAILED, {"text": to, "at": change.at}
        case state if change.waited:
            return Phrase.WAITED, {"text": to, "at": change.at, "key": _LATE[state]}
        case MessageState.POSTED:
            return (Phrase.POSTED if to == EVERYONE_NAME else Phrase.ROOM_POSTED), {"room": change.room}
        case state:
            return _AT_ONCE[state], {"name": change.recipient, "at": change.sent_at or 0.0}


def words_of_outbox(result: results.OutboxResult) -> list[Words]:
    """What the commands for the outbox answer."""
    match result:
        case results.OutboxList(()):
            return [(Phrase.OUTBOX_EMPTY, {})]
        case results.OutboxList(waiting):
            return [_row(one) for one in waiting]
        case results.MessageCancelled():
            phrase = Phrase.CANCELLED_TRIED if result.tried else Phrase.CANCELLED
            return [(phrase, {"text": destination(result.recipient, result.room), "at": result.at})]
        case results.MessagesWait(count):
            return [(Phrase.ALL_WAITING, {"count": count})]
        case results.MessageQueued():
            # What becomes of it follows, mostly at once.
            return []


def waiting_messages(messages: Iterable[Outgoing]) -> list[results.WaitingMessage]:
    """The messages that wait to be sent, of those that are kept."""
    return [
        results.WaitingMessage(
            *(one.number, one.id, one.recipient, one.room, one.at, one.text), one.attempted_at is not None
        )
        for one in messages
        # Those were told to be received: their programs have only not said yet that they are on their disks.
        if not one.is_received
    ]


def _row(one: results.WaitingMessage) -> Words:
    # A line end begins a new line in a message; here it is shown as a blank.
    text = " ".join(one.text[: SHOWN_TEXT + 1].splitlines())
    beginning = text if len(one.text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}..."
    phrase = Phrase.OUTBOX_TRIED_ROW if one.tried else Phrase.OUTBOX_ROW
    to = destination(one.recipient, one.room)
    return phrase, {"count": one.number, "at": one.at, "key": to, "text": beginning}
