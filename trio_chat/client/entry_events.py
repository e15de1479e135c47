"""Entries as events: how what was opened and kept is told to the reader of a chat's events.

What is opened, kept and queued is decided in inbox.py.
"""

from collections.abc import Callable

from trio_chat.client import events
from trio_chat.client.members_changes import members_changed
from trio_chat.crypto.receipts import Verdict
from trio_chat.protocol.records import EntryKind
from trio_chat.storage.client_interface import OpenedEntry

CLOCK_DIFFERENCE = 60.0
"""Seconds by which the sender's time of a message may differ from the server's before the user is told."""

PRIVATE = "private"
"""The text of what is kept of somebody who has left a private room."""

_RECEIPT_EVENTS: dict[Verdict, Callable[[str, float, bytes], events.Event]] = {
    Verdict.RECEIVED: events.ReceiptReceived,
    Verdict.NOT_OPENED: events.MessageNotOpened,
    Verdict.WRONG_TEXT: lambda recipient, sent_at, id_: events.WrongReceiptReceived(recipient, id_),
    Verdict.FORGED: lambda recipient, sent_at, id_: events.ForgedReceiptReceived(recipient),
}


def event_of(entry: OpenedEntry, *, is_new: bool, is_first: bool) -> events.Event:
    """The event that shows an entry. `is_new`: it was sent now. `is_first`: no letter has been shown since we came."""
    match entry.kind:
        case EntryKind.MISSED:
            return events.GroupMessagesMissed(int(entry.text or 0), entry.room)
        case EntryKind.JOINED:
            return events.MemberJoined(entry.room, entry.sender)
        case EntryKind.LEFT:
            return events.MemberLeft(entry.room, entry.sender, entry.text == PRIVATE)
        case EntryKind.EPOCH:
            if entry.text is None:
                return events.RoomNotTrusted(entry.room)
            return members_changed(entry.room, entry.sender, entry.text)
        case EntryKind.REMOVED:
            return events.RemovedFromRoom(entry.room, entry.sender)
        case EntryKind.RECEIPT:
            return _RECEIPT_EVENTS[Verdict(entry.text or "")](entry.sender, entry.at, entry.id)
        case EntryKind.FAILED:
            return events.MessageNotDelivered(entry.sender, entry.at, entry.id)
    if entry.text is None:
        return events.LetterUnreadable(entry.sender)
    is_group, signed_at = entry.kind == EntryKind.GROUP, entry.signed_at
    if signed_at is not None and abs(signed_at - entry.at) <= CLOCK_DIFFERENCE:
        signed_at = None
    if is_new:
        if is_group:
            return events.GroupMessageReceived(entry.sender, entry.text, signed_at, entry.room)
        return events.MessageReceived(entry.sender, entry.text, signed_at)
    return events.LetterReceived(entry.sender, entry.text, entry.at, is_group, is_first, signed_at, entry.room)
