"""What is said of changes of the members of private rooms, as phrases with what fills them in.

The lines are made of them in wordings.py. What has changed is found out in client/members_changes.py.
"""

from collections.abc import Iterator

from trio_chat.client import events
from trio_chat.protocol.records import fold
from trio_chat.terminal.outbox_words import Words
from trio_chat.terminal.phrases import Phrase


def words_of_members(event: events.Event, reader: str) -> Iterator[Words]:
    """The words for an event of this kind, if it is one, for the reader with this name."""
    match event:
        case events.MemberLeft(room, name, private=True):
            yield Phrase.LEFT_PRIVATE, {"room": room, "name": name}
        case events.RoomMembersChanged():
            yield from _words_of_change(event, reader)
        case events.RemovedFromRoom(room, owner):
            yield Phrase.REMOVED_YOU, {"room": room, "name": owner}
        case events.RoomNotTrusted(room):
            yield (Phrase.ROOM_NOT_TRUSTED if room else Phrase.NOT_ADDED), {"room": room}
    # Who joins and leaves an open room is shown to programs only.


def _words_of_change(event: events.RoomMembersChanged, reader: str) -> Iterator[Words]:
    room, owner = event.room, event.owner
    owners = tuple(name for name in event.owners if fold(name) != fold(reader))
    # Whoever has left is missing in the next key, too: only who gives the key is certain. Our own needs no name.
    gone = Phrase.GONE if fold(owner) == fold(reader) else Phrase.GONE_BY
    if event.joined:
        yield Phrase.ADDED_YOU, {"room": room, "name": owner}
    for phrase, names in ((Phrase.ADDED, event.added), (gone, event.removed), (Phrase.NEW_OWNERS, owners)):
        if names:
            yield phrase, {"room": room, "name": owner, "text": ", ".join(names)}
    if owners != event.owners:
        yield Phrase.NEW_OWNER_YOU, {"room": room, "name": owner}
    if event.unknown_owner:
        yield Phrase.UNKNOWN_OWNER, {"room": room, "name": owner}
    if event.gap:
        yield Phrase.CHANGES_MISSING, {"room": room}
