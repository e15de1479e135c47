"""Results as JSON, one object a line, for programs: what `client --json` prints instead of phrases.

Each object has `event`, the name of its class in EVENTS, and the fields of that class, nothing else. The tests compare
docs/scripting.md with that. Texts are not escaped but by JSON; nothing is printed here.
"""

import enum
import json

import attrs

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


def fields_of(kind: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    """The fields of the objects of a class, without `event`. An exception becomes two, `error` and `text`."""
    fields = [("error", "text") if _may_be_error(field) else (field.name,) for field in attrs.fields(kind)]
    return tuple(name for names in fields for name in names)


def _may_be_error(field: "attrs.Attribute[object]") -> bool:
    return field.type in (ChatError, ChatError | None)


def as_json(result: results.Result) -> str:
    """The object of a result: ASCII without control characters, whatever is in its texts."""
    fields: dict[str, object] = {"event": EVENTS[type(result)]}
    for field in attrs.fields(type(result)):
        match getattr(result, field.name):
            case ChatError() as error:
                fields |= {"error": type(error).__name__, "text": str(error)}
            case None if _may_be_error(field):
                fields |= {"error": None, "text": None}
            case enum.Enum() as value:
                fields[field.name] = value.name.lower()
            case value:
                fields[field.name] = value
    return json.dumps(fields, default=_as_plain)


def _as_plain(value: bytes | attrs.AttrsInstance) -> object:
    """Ids are shown as hexadecimal digits, and what is in a list as an object of its own."""
    return value.hex() if isinstance(value, bytes) else attrs.asdict(value)


class JsonRenderer:
    """Results -> JSON objects, at most one for each."""

    lists_changed_table = True
    """A program would have to ask for the table after each change."""

    def render(self, result: results.Result) -> tuple[Line, ...]:
        """The line with the object of a result; none if it has no object."""
        if isinstance(result, results.NoAnswer):
            # A program knows which command that was: the answers are in the order of the commands.
            result = results.Failed(ServerNotResponding())
        return (Line(as_json(result)),) if type(result) in EVENTS else ()
