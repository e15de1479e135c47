"""The model of a server's store: what SQLite does with tables and indexes, said with lists. Slow, and easy to check.

The real store must do the same; see test_stores_agree.py. The limits are arguments, so that a short story reaches them.
"""

import hashlib

import attrs

from trio_chat.crypto.room_keys import epoch_of_post, signed_epoch
from trio_chat.protocol.epochs import NO_EPOCH
from trio_chat.protocol.limits import is_fair
from trio_chat.protocol.log import Page, about_letter, first_batch, missed_posts, removed_from, request_hash
from trio_chat.protocol.records import (
    EVERYONE,
    EVERYONE_NAME,
    NO_KEY,
    Credentials,
    Entry,
    EntryKind,
    Record,
    Room,
    fold,
    is_private,
    is_room,
    room_id,
)
from trio_chat.storage.interface import Appended, KnownName, OnAppended, Position, RoomChange, Status, StoredEpoch
from trio_chat.storage.server_epochs import MAX_GAP


@attrs.define
class _Name:
    record: Record
    owner: Credentials | None
    position: int
    reserved: str = ""
    used_at: float | None = None

    @property
    def as_reader(self) -> tuple[str, bytes]:
        return self.record.name, self.owner.keys.signing if self.owner else NO_KEY


@attrs.define
class _Request:
    """What answers a copy of a request."""

    seq: int
    hash: bytes
    taken_at: float
    receipt: bytes = b""


@attrs.define
class _Room:
    """`members`: the key and the entry of joining of each, by their names in lower case."""

    id: str
    name: str
    owner: bytes
    origin: str
    members: dict[str, tuple[bytes, int]] = attrs.Factory(dict)
    unused_since: float | None = None
    n: int = 0


@attrs.frozen
class Limits:
    """Of a mailbox, of the room, and of what is remembered: every so many entries, so many rows are removed."""

    letters: int
    letter_bytes: int
    posts: int
    post_bytes: int
    trim_part: int
    remembered: int
    forget_every: int
    forget_rows: int
    past_owners: int
    all_bytes: int
    epoch_bytes: int


class ModelStore:
    """A ServerStore. Entries that have to be handed over are in one list, posts that are only counted in another."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._names: dict[str, _Name] = {}
        # By name and key: what `past_owners` returns, and the head when they lost the name.
        self._past_owners: dict[tuple[str, bytes], tuple[str, Credentials, int]] = {}
        self._online = {}
        self._head = 0
        self._entries: list[Entry] = []
        self._epochs: list[Entry] = []
        self._trimmed: list[Entry] = []
        # Letters that were taken without a receipt.
        self._untold: list[Entry] = []
        # Entries that answer no request, and that nobody waits for.
        self._without_request: list[Entry] = []
        self._requests: dict[tuple[str, bytes, bytes], _Request] = {}
        self._rooms = {EVERYONE: _Room(EVERYONE, EVERYONE_NAME, NO_KEY, "")}
        self._on_appended: OnAppended = lambda entries: None

    # --- names ---

    async def load(self, on_appended):
        self._on_appended = on_appended
        offline = [
            KnownName(attrs.evolve(one.record, online=False), one.owner, one.reserved) for one in self._names.values()
        ]
        return offline, self._head

    async def past_owners(self):
        return [(name, owner) for name, owner, _ in self._past_owners.values()]

    def _keep_past_owner(self, known):
        if known and known.owner:
            key = fold(known.record.name), known.owner.keys.signing
            self._past_owners.pop(key, None)
            self._past_owners[key] = known.record.name, known.owner, self._head
            if len(self._past_owners) > self._limits.past_owners:
                del self._past_owners[next(iter(self._past_owners))]

    async def save_name(self, record, invitation=b""):
        name = fold(record.name)
        known = self._names.pop(name, None)  # the order is that of the last registrations
        self._names[name] = _Name(record, record.credentials, known.position if known else self._head)
        if not (known and known.owner and known.owner.keys.signing == record.credentials.keys.signing):
            self._keep_past_owner(known)
            self._names[name].position = self._head
            self._leave_all(name, record.since)
            # Of a name that was deleted there may be what its last owner would have got.
            letters = self._take_untold(name) + self._take(name, self._head)
            self._fail(letters, record.since, known and known.as_reader)
        position = self._names[name].position
        kinds = [one.kind for one in self._coming(name, position)]
        waiting = kinds.count("direct") + kinds.count("group")
        if record.online:
            self._online[name] = record.address
        return Position(position, waiting, self._head, self._rooms_of(name))

    async def online(self):
        return sorted(self._online.items())

    async def note_online(self, changes):
        for name, place in changes.items():
            if isinstance(place, float):
                self._online.pop(fold(name), None)
                if known := self._names.get(fold(name)):
                    known.record = attrs.evolve(known.record, since=place)
            else:
                self._online[fold(name)] = place

    async def forget(self, name, only_for=""):
        known = self._names.get(fold(name))
        if known:
            known.record = attrs.evolve(known.record, credentials=None)
            known.reserved = only_for
        return known is not None

    async def delete(self, name, at):
        name = fold(name)
        known = self._names.pop(name, None)
        self._keep_past_owner(known)
        if known:
            self._online.pop(name, None)
            letters = self._take_untold(name) + self._take(name, self._head)
            self._leave_all(name, at)
            self._fail(letters, at, known.as_reader)
        return known is not None

    async def unused(self, online, before, now):
        for name, one in self._names.items():
            if one.used_at is None or one.used_at > now or name in map(fold, online):
                one.used_at = now
        waiting = {one.recipient for one in self._entries if one.kind == EntryKind.DIRECT}
        return [one.record.name for name, one in self._names.items() if one.used_at < before and name not in waiting]

    def _take_untold(self, name):
        taken = [one for one in self._untold if one.recipient == name]
        self._untold = [one for one in self._untold if one.recipient != name]
        return taken

    # --- the log ---

    async def append(self, entries):
        new: list[Entry] = []
        head = self._head
        results = [self._append_request(entry, new) for entry in entries]
        self._end_append(head)
        self._tell(new)
        return results

    def _append_request(self, entry, new):
        if request := self._requests.get(_key(entry)):
            if request.hash != request_hash(entry):
                return Appended(Status.CONFLICT)
            return Appended(Status.KNOWN, request.seq, request.receipt)
        if is_room(entry.recipient):
            if entry.recipient != EVERYONE and not self._joined(self._rooms.get(entry.recipient), entry):
                return Appended(Status.NOT_A_MEMBER)
            if is_private(entry.recipient) and epoch_of_post(entry.body) != self._rooms[entry.recipient].n:
                return Appended(Status.WRONG_EPOCH)
        else:
            if entry.recipient not in self._names:
                return Appended(Status.UNKNOWN)
            waiting = [one for one in self._entries if one.recipient == entry.recipient and one.kind == "direct"]
            own = [one for one in waiting if one.key == entry.key]
            if not is_fair(len(own), 1, self._limits.letters - len(waiting)):
                return Appended(Status.FULL)
            if not is_fair(_size(own), len(entry.body), self._limits.letter_bytes - _size(waiting)):
                return Appended(Status.FULL)
        new.append(self._append(entry))
        self._requests[_key(entry)] = _Request(self._head, request_hash(entry), entry.taken_at)
        return Appended(Status.NEW, self._head)

    def _append(self, entry):
        self._head += 1
        numbered = attrs.evolve(entry, seq=self._head)
        self._entries.append(numbered)
        return numbered

    def _append_all(self, entries):
        head = self._head
        self._tell([self._append(one) for one in entries])
        self._end_append(head)

    def _end_append(self, head):
        """After entries have been appended to those up to this head."""
        limits = self._limits
        for room in self._rooms:
            posts = self._posts(room)
            if len(posts) > limits.posts or _size(posts) > limits.post_bytes:
                self._trim(room, limits.posts - limits.posts // limits.trim_part, limits.post_bytes)
        self._trim_all(head)
        self._forget_if_due(head)

    def _forget_if_due(self, head):
        if any(seq % self._limits.forget_every == 0 for seq in range(head + 1, self._head + 1)):
            self._forget()

    def _trim_all(self, head):
        limits = self._limits
        sizes = {room: _size(self._posts(room)) for room in self._rooms}
        total = sum(sizes.values())
        if total <= limits.all_bytes or not any(
            one.recipient and is_room(one.recipient) for one in self._entries + self._trimmed if one.seq > head
        ):
            return
        origins = {id_: room.origin or id_ for id_, room in self._rooms.items()}
        theirs = {id_: sum(sizes[one] for one in self._rooms if origins[one] == origins[id_]) for id_ in self._rooms}
        largest = min(self._rooms, key=lambda id_: (-theirs[id_], -sizes[id_], id_))
        most = limits.posts - limits.posts // limits.trim_part
        self._trim(largest, most, max(sizes[largest] - (total - limits.all_bytes), 0))

    def _posts(self, room, key=None):
        return [one for one in self._entries if one.recipient == room and key in (None, one.key)]

    def _trim(self, room, most, most_bytes):
        most_bytes -= most_bytes // self._limits.trim_part
        keys = {one.key for one in self._posts(room)}
        share = _share([len(self._posts(room, key)) for key in keys], most)
        share_bytes = _share([_size(self._posts(room, key)) for key in keys], most_bytes)
        for post in self._posts(room):
            if len(self._posts(room)) <= most and _size(self._posts(room)) <= most_bytes:
                return
            own = self._posts(room, post.key)
            if len(own) > share or _size(own) > share_bytes:
                self._entries.remove(post)
                self._trimmed.append(post)
        self._trimmed.sort(key=lambda one: one.seq)

    def _forget(self):
        waiting = {one.seq for one in self._entries}
        rest = [one.seq for one in self._requests.values() if one.seq not in waiting]
        rest = sorted(rest + [one.seq for one in self._without_request])
        gone = [seq for seq in rest if seq <= self._head - self._limits.remembered][: self._limits.forget_rows]
        self._requests = {key: one for key, one in self._requests.items() if one.seq not in gone}
        self._without_request = [one for one in self._without_request if one.seq not in gone]
        self._trimmed = [one for one in self._trimmed if one.seq not in gone]
        self._untold = [one for one in self._untold if one.seq not in gone]

    def _tell(self, appended):
        if appended:
            self._on_appended(appended)

    async def read(self, name, after):
        name = fold(name)
        page = first_batch(self._coming(name, after), self._head)
        missed = [one for one in self._trimmed if after < one.seq <= page.upto and self._is_for(one, name)]
        if not missed:
            return page
        rooms, seqs = {one.recipient for one in missed}, [one.seq for one in missed]
        return Page((missed_posts(name, rooms, len(missed), min(seqs), max(seqs)), *page.entries), page.upto)

    def _coming(self, name, after):
        entries = sorted(self._entries + self._epochs, key=lambda one: one.seq)
        return [one for one in entries if one.seq > after and self._is_for(one, name)]

    def _is_for(self, entry, name):
        if not is_room(entry.recipient):
            return entry.recipient == name
        joined = self._rooms_of(name).get(entry.recipient, None if entry.recipient else 0)
        return joined is not None and entry.seq > joined and (entry.kind == "epoch" or fold(entry.sender) != name)

    # --- rooms ---

    async def change_room(self, entry, limits, origin=""):
        copy, name = self._requests.get(_key(entry)), entry.body.decode(errors="replace")
        if copy and copy.hash != request_hash(entry):
            return RoomChange(Status.CONFLICT)
        is_it = (
            (lambda one: one.id == entry.recipient)
            if entry.kind in ("left", "epoch")
            else (lambda one: fold(one.name) == fold(name))
        )
        room = next(filter(is_it, self._rooms.values()), None)
        before = room and self._as_seen(room, entry)
        if copy:
            return RoomChange(Status.KNOWN if room else Status.UNKNOWN, before)
        owner = self._names.get(fold(entry.sender))
        if not owner or owner.owner.keys.signing != entry.key:
            return RoomChange(Status.UNKNOWN)
        if entry.kind == "epoch":
            return self._begin(entry, room, limits, origin)
        status = self._change(entry, room, limits, origin)
        if status is Status.NEW or (room and status in (Status.KNOWN, Status.NOT_A_MEMBER)):
            self._head += 1
            self._requests[_key(entry)] = _Request(self._head, request_hash(entry), entry.taken_at)
            self._end_append(self._head - 1)
        if status is not Status.NEW:
            if room and status in (Status.KNOWN, Status.NOT_A_MEMBER):
                self._tell([attrs.evolve(entry, seq=self._head, recipient=fold(entry.sender))])
            return RoomChange(status, before)
        if entry.kind == "created":
            id_ = room_id(entry.key, entry.id)
            room = self._rooms[id_] = _Room(id_, name, entry.key, origin)
        if entry.kind == "left":
            self._leave(room, fold(entry.sender), entry.taken_at)
        else:
            room.members[fold(entry.sender)] = (entry.key, self._head)
            room.unused_since = None
        self._tell([attrs.evolve(entry, seq=self._head, recipient=room.id)])
        return RoomChange(Status.NEW, self._as_seen(room, entry))

    def _change(self, entry, room, limits, origin):
        is_member = room is not None and (room.id == EVERYONE or self._joined(room, entry) > 0)
        if entry.kind == "created":
            if room:
                return Status.EXISTS
            if room_id(entry.key, entry.id) in self._rooms:
                return Status.CONFLICT  # its first request is forgotten
            if not self._may_create(entry.key, limits, origin):
                return Status.NO_MORE_ROOMS
        elif room is None:
            return Status.UNKNOWN
        elif entry.kind == "left":
            return Status.NEW if is_member and room.id != EVERYONE else Status.NOT_A_MEMBER
        elif is_member:
            return Status.KNOWN
        elif is_private(room.id):
            return Status.PRIVATE
        elif len(room.members) >= limits.members_per_room:
            return Status.FULL
        joined = sum(key == entry.key for one in self._rooms.values() for key, _ in one.members.values())
        return Status.NEW if joined < limits.rooms_per_key else Status.TOO_MANY_ROOMS

    def _may_create(self, key, limits, origin):
        used = max(
            sum(one.owner == key for one in self._rooms.values()),
            sum(one.origin == origin != "" for one in self._rooms.values()),
        )
        return limits.rooms - len(self._rooms) >= (3 * (used + 1) if used else 1)

    def _begin(self, entry, room, limits, origin):
        epoch, members = signed_epoch(entry.body).epoch, {}
        status = self._why_no_epoch(entry, epoch, room, limits, origin)
        if status is not Status.NEW:
            return RoomChange(status, room and self._as_seen(room, entry))
        told = []
        if room is None:
            room = self._rooms[entry.recipient] = _Room(entry.recipient, epoch.name, entry.key, origin)
            self._head += 1
            told.append(attrs.evolve(entry, kind="created", body=epoch.name.encode(), seq=self._head))
            self._without_request.append(told[-1])
            self._forget_if_due(self._head - 1)
        self._head += 1
        told.append(attrs.evolve(entry, seq=self._head))
        self._requests[_key(entry)] = _Request(self._head, request_hash(entry), entry.taken_at)
        self._epochs.append(told[-1])
        # One after the other: each is noted by itself.
        self._forget_if_due(self._head - 1)
        head = self._head
        for name, key in epoch.names.items():
            old_key, joined = room.members.get(fold(name), (b"", 0))
            members[fold(name)] = (key, joined if key == old_key else self._head - 1)
        removed, room.members, room.n = set(room.members) - set(members), members, epoch.n
        for name in sorted(removed):
            old = ("removed", name, room.id.encode())
            self._entries = [one for one in self._entries if (one.kind, one.recipient, one.body) != old]
            told.append(self._append(removed_from(room.id, name, entry)))
        self._drop_epochs(room.id)
        self._end_append(head)
        self._tell(told)
        return RoomChange(Status.NEW, self._as_seen(room, entry))

    def _why_no_epoch(self, entry, epoch, room, limits, origin):
        pairs = {(fold(name), key) for name, key in epoch.names.items()}
        members = {(name, key) for name, (key, _) in room.members.items()} if room else set()
        if not is_private(entry.recipient):
            return Status.WRONG_EPOCH
        if room is None:
            if epoch.n > 1:
                return Status.UNKNOWN
            is_first = epoch.before == NO_EPOCH and entry.key in epoch.owners
            if entry.recipient != room_id(entry.key, entry.id, private=True) or not is_first:
                return Status.WRONG_EPOCH
            if fold(epoch.name) in (fold(one.name) for one in self._rooms.values()):
                return Status.EXISTS
            if not self._may_create(entry.key, limits, origin):
                return Status.NO_MORE_ROOMS
        else:
            present = self._kept_epoch(room.id, room.n)
            before = signed_epoch(present.body).epoch
            if entry.key not in before.owners:
                return Status.NOT_AN_OWNER
            if entry.key not in {key for _, key in members}:
                return Status.NOT_A_MEMBER
            is_next = (epoch.n, epoch.before) == (room.n + 1, hashlib.sha256(present.body).digest())
            is_later = room.n + 1 < epoch.n <= room.n + MAX_GAP
            if epoch.name != room.name or not (is_next or is_later):
                return Status.WRONG_EPOCH
            if any((fold(name), key) in pairs - members for name, key in before.names.items()):
                return Status.WRONG_EPOCH
        if len(pairs) > limits.members_per_room:
            return Status.FULL
        for one in epoch.members:
            known = self._names.get(fold(one.name))
            if not known or not known.owner or known.owner.keys != one.keys:
                return Status.UNKNOWN_MEMBER
        return self._why_not_them(entry, pairs - members, room.owner if room else entry.key, limits, origin)

    def _why_not_them(self, entry, new, owner, limits, origin):
        for _, key in sorted(new):
            theirs = [one for one in self._rooms.values() for other, _ in one.members.values() if other == key]
            invited = [one for one in theirs if is_private(one.id) and one.owner != key]
            used = sum(one.owner == owner or bool(origin and one.origin == origin) for one in invited)
            free = limits.rooms_per_key - len(theirs)
            if key != owner:
                free = min(free, limits.rooms_per_key // 2 - len(invited))
            if free < 1 or (key != owner and used and 3 * (used + 1) > free):
                return Status.TOO_MANY_ROOMS if key == entry.key else Status.THEY_ARE_IN_TOO_MANY
        return Status.NEW

    def _kept_epoch(self, room, n):
        return next((one for one in self._epochs if (one.recipient, signed_epoch(one.body).epoch.n) == (room, n)), None)

    def _drop_epochs(self, room):
        kept = [one for one in self._epochs if one.recipient == room]
        while len(kept) > 1 and _size(kept) > self._limits.epoch_bytes:
            self._epochs.remove(kept.pop(0))
            for post in self._posts(room):
                if post.seq < kept[0].seq:
                    self._entries.remove(post)
                    self._trimmed.append(post)
        self._trimmed.sort(key=lambda one: one.seq)

    async def epoch(self, room, n, name, key):
        known = self._rooms.get(room)
        member_key, joined = known.members.get(fold(name), (b"", 0)) if known else (b"", 0)
        found = known and self._kept_epoch(room, n or known.n)
        if not found or member_key != key or found.seq <= joined:
            return None
        return StoredEpoch(found.seq, signed_epoch(found.body).epoch.n, found.body)

    def _joined(self, room, entry):
        key, joined = room.members.get(fold(entry.sender), (b"", 0)) if room else (b"", 0)
        return joined if key == entry.key else 0

    def _as_seen(self, room, entry):
        return Room(room.id, room.name, room.owner, len(room.members), self._joined(room, entry))

    def _leave(self, room, name, at):
        del room.members[name]
        if not room.members:
            room.unused_since = at

    def _leave_all(self, name, at):
        for id_ in self._rooms_of(name):
            self._leave(self._rooms[id_], name, at)

    def _rooms_of(self, name):
        return {room.id: room.members[name][1] for room in self._rooms.values() if name in room.members}

    async def rooms(self):
        return [(room.id, room.name) for room in self._rooms.values()]

    async def list_rooms(self, name, key, after, own, count):
        asking = Entry(0, "", b"", name, key, "", 0.0)
        seen = [self._as_seen(room, asking) for room in self._rooms.values() if fold(room.name) > fold(after)]
        shown = [one for one in seen if one.joined or not (own or is_private(one.id))]
        return sorted(shown, key=lambda one: fold(one.name))[:count]

    async def is_member(self, room, name, key):
        return room in self._rooms and self._rooms[room].members.get(fold(name), (None,))[0] == key

    async def list_members(self, room, after, count):
        members = self._rooms[room].members if room else self._names
        names = sorted(name for name in members if name > fold(after))[:count]
        return [self._names[name].record.name for name in names]

    # --- positions ---

    async def acknowledge(self, acknowledged, at):
        receipts = []
        for one in acknowledged:
            if fold(one.name) not in self._names:
                continue  # deleted meanwhile
            reader = self._names[fold(one.name)].as_reader
            for letter in self._move(fold(one.name), one.upto):
                receipt = self._requests[_key(letter)].receipt = one.receipts.get(letter.seq, b"")
                if not receipt:
                    self._untold.append(letter)
                elif self._has_its_sender(letter):
                    receipts.append(about_letter(letter, EntryKind.RECEIPT, reader, at, receipt))
        self._append_all(receipts)

    async def advance(self, positions):
        for name, upto in positions.items():
            if fold(name) in self._names:
                self._move(fold(name), upto)

    def _move(self, name, upto):
        self._names[name].position = max(self._names[name].position, upto)
        return self._take(name, upto)

    def _take(self, name, upto):
        """Remove what is for a name alone; return the letters among it."""
        taken = [one for one in self._entries if one.recipient == name and one.seq <= upto]
        self._entries = [one for one in self._entries if one not in taken]
        return [one for one in taken if one.kind == EntryKind.DIRECT]

    # --- what is too old ---

    async def retain(self, before, now):
        for room in self._rooms.values():
            room.unused_since = room.unused_since and min(room.unused_since, now)
        self._rooms = {
            id_: room
            for id_, room in self._rooms.items()
            if room.id == EVERYONE or room.unused_since is None or room.unused_since >= before
        }
        self._epochs = [one for one in self._epochs if one.recipient in self._rooms]
        for entries in (self._entries, self._epochs, self._trimmed, self._untold, self._without_request):
            entries[:] = [attrs.evolve(one, taken_at=min(one.taken_at, now)) for one in entries]
        self._epochs = [
            one
            for one in self._epochs
            if not any(
                later.recipient == one.recipient and later.seq > one.seq and later.taken_at < before
                for later in self._epochs
            )
        ]
        for request in self._requests.values():
            request.taken_at = min(request.taken_at, now)
        rows = [*self._entries, *self._trimmed, *self._without_request, *self._requests.values()]
        upto = min((one.seq for one in rows if one.taken_at >= before), default=self._head + 1) - 1
        self._requests = {key: one for key, one in self._requests.items() if one.seq > upto}
        self._without_request = [one for one in self._without_request if one.seq > upto]
        self._trimmed = [one for one in self._trimmed if one.seq > upto]
        self._past_owners = {key: one for key, one in self._past_owners.items() if one[2] > upto}
        old = sorted((one for one in self._entries + self._untold if one.seq <= upto), key=lambda one: one.seq)
        self._untold = [one for one in self._untold if one.seq > upto]
        self._entries = [one for one in self._entries if one.seq > upto]
        self._fail([one for one in old if one.kind == EntryKind.DIRECT], now)
        return False

    async def date_forward(self, before, now):
        for entries in (self._entries, self._epochs, self._trimmed, self._untold, self._without_request):
            entries[:] = [attrs.evolve(one, taken_at=now) if one.taken_at < before else one for one in entries]
        for request in self._requests.values():
            request.taken_at = now if request.taken_at < before else request.taken_at
        for one in self._names.values():
            one.used_at = now if one.used_at is not None and one.used_at < before else one.used_at
        for room in self._rooms.values():
            room.unused_since = (
                now if room.unused_since is not None and room.unused_since < before else room.unused_since
            )

    def _fail(self, letters, at, reader=None):
        """Tell the senders of letters that these are not read. The reader is None if they have their names today."""
        self._append_all(
            [
                about_letter(one, EntryKind.FAILED, reader or self._names[one.recipient].as_reader, at)
                for one in letters
                if self._has_its_sender(one)
            ]
        )

    def _has_its_sender(self, letter):
        """Whether the key that has sent a letter still owns the name. Another owner must not hear of the letter."""
        sender = self._names.get(fold(letter.sender))
        return not (sender and sender.owner) or letter.key in (sender.owner.keys.signing, NO_KEY)


def _share(counts, room):
    """The most that each may keep: as much as fits if all have no more than that."""
    fits = [most for most in range(room + 1) if sum(min(count, most) for count in counts) <= room]
    return max(fits)


def _size(entries):
    return sum(len(one.body) for one in entries)


def _key(entry):
    return (entry.kind, entry.key, entry.id)
