"""Results as JSON, one object a line, for programs: what `client --json` prints instead of phrases.

Each object has `event`, the name of its class in EVENTS, and the fields of that class, nothing else. The tests compare
docs/scripting.md with that. Texts are not escaped but by JSON; nothing is printed here.
"""

import enum
import json

from trio_chat.client import events
from trio_chat.errors import ChatError, ServerNotResponding
from trio_chat.terminal import results
from trio_chat.terminal.styling import Line

EVENTS: dict[type, str] = {
    results.SignedOn: "registered",
    results.CameBack: "registered",
    results.WentOffline: "deregistered",
    results.TableList: "table",
    events.MessageReceived: "message",
    events.GroupMessageReceived: "group_message",
    events.LetterReceived: "letter",
    events.ReceiptReceived: "receipt",
    events.MessageNotOpened: "message_not_opened",
    events.MessageNotDelivered: "message_not_delivered",
    events.WrongReceiptReceived: "wrong_receipt",
    events.ForgedReceiptReceived: "forged_receipt",
    events.LetterUnreadable: "letter_unreadable",
    events.SecondTextReceived: "second_text",
    events.KeyWarning: "key_warning",
    events.GroupMessagesMissed: "missed",
    events.MemberJoined: "member_joined",
    events.MemberLeft: "member_left",
    events.RoomMembersChanged: "members_changed",
    events.RemovedFromRoom: "removed_from_room",
    events.RoomNotTrusted: "room_not_trusted",
    results.SentByServer: "by_server",
    results.MessageSent: "delivery",
    results.PostAccepted: "posted",
    results.MessageQueued: "queued",
    results.OutboxList: "outbox",
    results.MessageCancelled: "cancelled",
    results.MessagesWait: "messages_wait",
    events.OutgoingChanged: "outgoing",
    results.RoomCreated: "room_created",
    results.RoomJoined: "room_joined",
    results.RoomLeft: "room_left",
    results.RoomsList: "rooms",
    results.MembersList: "members",
    results.MemberInvited: "invited",
    results.MemberRemoved: "removed",
    results.OwnerAdded: "owner_added",
    results.OwnersList: "owners",
    results.KeyTrusted: "trusted",
    results.PersonBlocked: "blocked",
    results.PersonUnblocked: "unblocked",
    results.BlockedList: "block_list",
    results.HistoryList: "history",
    results.CommandList: "help",
    events.SignedOff: "signed_off",
    events.ServerSilent: "server_silent",
    events.ServerBack: "server_back",
    results.Failed: "error",
}
"""The field `event` of the objects of each class. A result of another class has no object."""


def fields_of(kind: type) -> tuple[str, ...]:
    """The fields of the objects of a class, without `event`. An exception becomes two, `error` and `text`."""
    return tuple(name for field in _names(kind) for name in (("error", "text") if field == "error" else (field,)))


def _names(kind: type) -> tuple[str, ...]:
    # The same for attrs classes, as events are, and for msgspec's, as results are.
    names: tuple[str, ...] = getattr(kind, "__match_args__")  # noqa: B009 - mypy does not know that they have it
    return names


def as_json(result: results.Result) -> str:
    """The object of a result: ASCII without control characters, whatever is in its texts."""
    fields: dict[str, object] = {"event": EVENTS[type(result)]}
    for name in _names(type(result)):
        match getattr(result, name):
            case ChatError() as error:
                fields |= {"error": type(error).__name__, "text": str(error)}
            case None if name == "error":
                fields |= {"error": None, "text": None}
            case enum.Enum() as value:
                fields[name] = value.name.lower()
            case value:
                fields[name] = value
    return json.dumps(fields, default=_as_plain)


def _as_plain(value: object) -> object:
    """Ids are shown as hexadecimal digits, and what is in a list as an object of its own."""
    return value.hex() if isinstance(value, bytes) else {name: getattr(value, name) for name in _names(type(value))}


class JsonRenderer:
    """Results -> JSON objects, at most one for each."""

    lists_changed_table = True
    """A program would have to ask for the table after each change."""

    def render(self, result: results.Result) -> tuple[Line, ...]:
        """The line with the object of a result; none if it has no object."""
        # A program knows which command that was: the answers are in the order of the commands.
        match result:
            case results.NoAnswer():
                result = results.Failed(ServerNotResponding())
            case results.CommandFailed(error):
                result = results.Failed(error)
        return (Line(as_json(result)),) if type(result) in EVENTS else ()
