"""Requests in the server's store: letters, posts, and changes of rooms, each of which is done once.

What answers a copy of a request is in the log: see server_log.py.
"""

import json
from collections.abc import Mapping, Sequence

import msgspec

from trio_chat.crypto.room_keys import epoch_of_post
from trio_chat.protocol.limits import Limits
from trio_chat.protocol.log import request_hash, request_number
from trio_chat.protocol.records import EVERYONE, Body, Entry, EntryKind, Key, fold, is_private, is_room
from trio_chat.storage import server_rooms
from trio_chat.storage.interface import Appended, RoomChange, Status
from trio_chat.storage.mailboxes import Mailbox, mailboxes_of
from trio_chat.storage.server_epochs import begin_epoch
from trio_chat.storage.server_log import LogTransaction

_Known = tuple[int, Key | None, Body | None]
"""What the log knows of a request: its number in the log, the hash, the receipt if it was acknowledged.

One that was taken before there was one log has no hash, and perhaps no place: the number is below 1 then.
"""


def append_requests(transaction: LogTransaction, entries: Sequence[Entry]) -> list[Appended]:
    numbers = [request_number(entry.kind.encode(), entry.key, entry.id) for entry in entries]
    known = _known_requests(transaction, numbers)
    mailboxes = mailboxes_of(transaction.database, entries)
    members = server_rooms.members_among(transaction, entries)
    new: list[Entry] = []
    requests: list[tuple[int, bytes]] = []
    results = []
    head = transaction.head
    for entry, number in zip(entries, numbers, strict=True):
        key, hash_ = (entry.kind, entry.key, entry.id), request_hash(entry)
        if key in known:
            results.append(_of_copy(known[key], hash_))
            continue
        status = _status(transaction, entry, members, mailboxes)
        if status is not Status.NEW:
            results.append(Appended(status))
            continue
        new.append(entry)
        requests.append((number, hash_))
        # Another copy of it may be among these entries.
        known[key] = (head + len(new), hash_, None)
        results.append(Appended(Status.NEW, head + len(new)))
    transaction.append(new, requests)
    transaction.database.executemany(
        "UPDATE mailboxes SET letters = ?, bytes = ? WHERE name = ?",
        [(one.letters, one.size, name) for name, one in mailboxes.items() if one.added],
    )
    return results


def _status(
    transaction: LogTransaction,
    entry: Entry,
    members: Mapping[tuple[str, str, bytes], int],
    mailboxes: Mapping[str, Mailbox],
) -> Status:
    """Whether a letter or a post is taken (NEW), or why it is not. A letter is counted."""
    room = entry.recipient
    if not is_room(room):
        if room not in mailboxes:
            return Status.UNKNOWN
        return Status.NEW if mailboxes[room].take(transaction.database, entry) else Status.FULL
    member = (room, fold(entry.sender), entry.key)
    if room != EVERYONE and member not in members:
        return Status.NOT_A_MEMBER
    if is_private(room) and epoch_of_post(entry.body) != members[member]:
        return Status.WRONG_EPOCH
    return Status.NEW


def take_room_request(transaction: LogTransaction, entry: Entry, limits: Limits, origin: str) -> RoomChange:
    number, hash_ = request_number(entry.kind.encode(), entry.key, entry.id), request_hash(entry)
    known = _known_requests(transaction, [number]).get((entry.kind, entry.key, entry.id))
    if known and _of_copy(known, hash_).status is Status.CONFLICT:
        return RoomChange(Status.CONFLICT)
    room = server_rooms.room_of_request(transaction, entry)
    if known:
        # A late copy changes nothing: they may have joined again after they have left.
        return RoomChange(Status.KNOWN, room, max(known[0], 0)) if room else RoomChange(Status.UNKNOWN)
    # The name may have been deleted, or have got another owner, while this request waited.
    if transaction.owner(entry.sender)[1] != entry.key:
        return RoomChange(Status.UNKNOWN)
    change = begin_epoch if entry.kind == EntryKind.EPOCH else server_rooms.change_room
    return change(transaction, entry, room, (number, hash_), limits, origin)


def _of_copy(known: _Known, hash_: bytes) -> Appended:
    """What a request gets that has this hash, and the key of one that is known."""
    seq, first_hash, receipt = known
    if first_hash not in (None, hash_):
        return Appended(Status.CONFLICT)
    return Appended(Status.KNOWN, max(seq, 0), receipt or b"")


def _known_requests(transaction: LogTransaction, numbers: Sequence[int]) -> dict[tuple[str, bytes, bytes], _Known]:
    """The requests with these numbers that are in the log, by their kinds, keys and ids."""
    rows = transaction.database.execute(
        "SELECT kind, key, id, seq, hash, receipt FROM entries WHERE request IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    ).fetchall()
    known = {}
    for kind, key, id_, *fields in rows:
        try:
            known[kind, key, id_] = msgspec.convert(fields, _Known, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            transaction.set_aside_entry(fields[0], error)
    return known
