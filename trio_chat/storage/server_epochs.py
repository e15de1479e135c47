"""Private rooms in the server's store: which epoch may begin, and what it changes in the room.

Everything is checked here but the signature and the form, for which no store is needed: see server/rooms.py. The rows
of epochs are in epoch_rows.py.
"""

from collections.abc import Set

import attrs

from trio_chat.crypto.room_keys import SignedEpoch, signed_epoch
from trio_chat.protocol.epochs import NO_EPOCH, Epoch
from trio_chat.protocol.limits import Limits, is_fair
from trio_chat.protocol.log import removed_from
from trio_chat.protocol.records import Entry, EntryKind, Room, fold, is_private, room_id
from trio_chat.storage.epoch_rows import add_epoch, drop_too_many, present_epoch
from trio_chat.storage.interface import RoomChange, Status
from trio_chat.storage.server_log import LogTransaction
from trio_chat.storage.server_rooms import add_member, add_room, count_members, is_name_of_room, may_create, room_by_id

MAX_GAP = 1000
"""By how much the number of an epoch may be higher than that of the present one. There is a highest number."""

_Member = tuple[str, bytes]
"""A name in lower case, and its key."""


def begin_epoch(
    transaction: LogTransaction,
    entry: Entry,
    room: Room | None,
    request: tuple[int, bytes],
    limits: Limits,
    origin: str,
) -> RoomChange:
    """Begin the epoch in this entry. `room`: the entry's recipient, if there is one. `request`: its number and hash."""
    signed, id_ = signed_epoch(entry.body), entry.recipient
    members = _members(transaction, id_)
    status = _status(transaction, entry, signed, room, members, limits, origin)
    if status is not Status.NEW:
        return RoomChange(status, room)
    epoch = signed.epoch
    if room is None:
        # An entry before the epoch's: `joined` is that of its members, and 0 would mean that they are not in the room.
        created = attrs.evolve(entry, kind=EntryKind.CREATED, body=epoch.name.encode())
        transaction.note(created, id_, (None, None))
        add_room(transaction, id_, epoch.name, entry.key, origin)
    seq = transaction.note(entry, id_, request)
    add_epoch(transaction.database, attrs.evolve(entry, seq=seq), epoch.n)
    transaction.database.execute("UPDATE rooms SET epoch = ?, latest = ? WHERE id = ?", (epoch.n, seq, id_))
    now_in_it = _pairs(epoch)
    _remove(transaction, entry, members - now_in_it)
    for name, key in now_in_it - members:
        add_member(transaction, id_, name, key, seq - 1)
    count_members(transaction, id_, entry.taken_at)
    if first := drop_too_many(transaction.database, id_):
        transaction.trim_before(id_, first)
    return RoomChange(Status.NEW, room_by_id(transaction, id_, entry), seq)


def _members(transaction: LogTransaction, room: str) -> set[_Member]:
    return set(transaction.database.execute("SELECT lower(name), key FROM members WHERE room = ?", (room,)).fetchall())


def _pairs(epoch: Epoch) -> set[_Member]:
    return {(fold(name), key) for name, key in epoch.names.items()}


def _remove(transaction: LogTransaction, entry: Entry, removed: Set[_Member]) -> None:
    """Those are no longer in the room. One notice waits for each of them, however often they come and go."""
    room = entry.recipient
    for name, _ in sorted(removed):
        transaction.database.execute("DELETE FROM members WHERE room = ? AND name = ?", (room, name))
        transaction.database.execute(
            "DELETE FROM entries WHERE kept = 1 AND request IS NULL AND recipient = ?"
            " AND kind = 'removed' AND body = ?",
            (name, room.encode()),
        )
    transaction.append([removed_from(room, name, entry) for name, _ in sorted(removed)])


# --- what may begin ---


def _status(
    transaction: LogTransaction,
    entry: Entry,
    signed: SignedEpoch,
    room: Room | None,
    members: Set[_Member],
    limits: Limits,
    origin: str,
) -> Status:
    """Whether this epoch begins (NEW), or why it does not."""
    if not is_private(entry.recipient):
        return Status.WRONG_EPOCH
    if room is not None:
        status = _status_of_next(transaction, entry, signed.epoch, room, members)
    elif signed.epoch.n == 1:
        status = _status_of_first(transaction, entry, signed.epoch, limits, origin)
    else:
        return Status.UNKNOWN
    if status is Status.NEW and len(signed.epoch.members) > limits.members_per_room:
        return Status.FULL
    if status is Status.NEW:
        if not all(transaction.has_keys(one.name, one.keys) for one in signed.epoch.members):
            return Status.UNKNOWN_MEMBER
        return _status_of_members(transaction, entry, _pairs(signed.epoch) - members, room, limits, origin)
    return status


def _status_of_first(transaction: LogTransaction, entry: Entry, epoch: Epoch, limits: Limits, origin: str) -> Status:
    if entry.recipient != room_id(entry.key, entry.id, private=True):
        return Status.WRONG_EPOCH
    if epoch.before != NO_EPOCH or entry.key not in epoch.owners:
        return Status.WRONG_EPOCH
    if is_name_of_room(transaction, epoch.name):
        return Status.EXISTS
    return Status.NEW if may_create(transaction, entry.key, origin, limits) else Status.NO_MORE_ROOMS


def _status_of_next(
    transaction: LogTransaction, entry: Entry, epoch: Epoch, room: Room, members: Set[_Member]
) -> Status:
    (number,) = transaction.database.execute("SELECT epoch FROM rooms WHERE id = ?", (room.id,)).fetchone()
    present = present_epoch(transaction.database, transaction.damaged, room.id)
    # If it is damaged, nobody knows who owns the room but that one has created it, and what the next one follows.
    owners = present.signed.epoch.owners if present else (room.owner,)
    if entry.key not in owners:
        return Status.NOT_AN_OWNER
    if entry.key not in {key for _, key in members}:
        return Status.NOT_A_MEMBER  # they have left it
    if epoch.name != room.name or epoch.n <= number:
        return Status.WRONG_EPOCH
    if present is None:
        return Status.NEW
    # Of those between nothing is known after the store was put back to a copy. Members see that some are missing.
    if epoch.n > number + MAX_GAP or (epoch.n == number + 1 and epoch.before != present.signed.hash):
        return Status.WRONG_EPOCH
    # A late epoch must not bring back somebody who has left since its owner has signed it.
    left = _pairs(present.signed.epoch) - members
    return Status.WRONG_EPOCH if left & _pairs(epoch) else Status.NEW


def _status_of_members(
    transaction: LogTransaction, entry: Entry, new: Set[_Member], room: Room | None, limits: Limits, origin: str
) -> Status:
    """Whether these may be in one more room."""
    owner = room.owner if room else entry.key
    for _, key in sorted(new):
        # They have not asked to be in it. Strangers must not use up the rooms that they may be in: half of these are
        # for what they join and create themselves, and of the others one key or one address gets a fair share.
        of_owner, invited, in_all = transaction.database.execute(
            "SELECT count(*) FILTER (WHERE is_invited AND (owner = ?1 OR (origin = ?2 AND origin <> ''))),"
            " count(*) FILTER (WHERE is_invited), count(*)"
            " FROM (SELECT owner, origin, id >= '!' AND id < '#' AND owner <> ?3 AS is_invited"
            " FROM members JOIN rooms ON id = room WHERE key = ?3)",
            (owner, origin, key),
        ).fetchone()
        free = limits.rooms_per_key - in_all
        if key != owner:
            free = min(free, limits.rooms_per_key // 2 - invited)
        # Who has put them into none may put them into the last one.
        if free <= 0 or (key != owner and of_owner and not is_fair(of_owner, 1, free)):
            return Status.TOO_MANY_ROOMS if key == entry.key else Status.THEY_ARE_IN_TOO_MANY
    return Status.NEW
