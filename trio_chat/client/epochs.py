"""The epochs of our private rooms: which of them are believed, and the keys that seal and open posts.

Nothing is asked or sent here: that is in private_rooms.py. The entries that bring epochs come through inbox.py.
"""

from collections.abc import Iterable, Mapping

import attrs
import trio

from trio_chat.client.key_pins import KeyPins
from trio_chat.client.members_changes import MembersChange, members_change
from trio_chat.client.memberships import Memberships
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import (
    RoomKey,
    Sequel,
    SignedEpoch,
    compare,
    epoch_of_entry_untrusted,
    epoch_of_post,
    read_epoch_untrusted,
    room_key_untrusted,
)
from trio_chat.protocol.epochs import Epoch
from trio_chat.protocol.log import room_of
from trio_chat.protocol.records import EVERYONE_NAME, Entry, EntryKind, Room, fold, is_private
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.kept_epochs import ENDED_KEPT, KEYS_OF_ROOM, ROOM_KEYS_KEPT, KeptEpoch
from trio_chat.tasks import WakeUp

MAX_PRIVATE_ROOMS = 200
"""How many private rooms we are in at once. Servers allow fewer; one that does not cannot fill our memory."""

MAX_ASKED_FOR = 20
"""How many epochs of a room, the latest ones, are asked for before an entry is opened."""

MAX_IGNORED = 1000
"""How many rooms are remembered from which nothing is shown. A server that names more of them gets some of it shown."""

MEMBERS_KEPT = 2
"""Of how many past epochs of a room the members are known: their keys alone are enough for what comes again."""


@attrs.frozen
class _Known:
    """The key of an epoch, where it begins, and its members by their names in lower case, if we still know them.

    `is_handed`: its entry was handed over; else we have asked for it.
    """

    key: RoomKey
    seq: int
    members: Mapping[str, bytes] | None = None
    is_handed: bool = True


@attrs.define(eq=False)
class Epochs:
    """What the owner of this identity knows of their private rooms, under this name.

    `to_look_at`: the rooms that somebody may have left, and None for all that we do not know; `due` is set for the task
    in private_rooms.py, then.
    """

    _name: str
    _identity: Identity
    _store: ClientStore
    _pins: KeyPins
    _memberships: Memberships
    due: WakeUp = attrs.field(init=False, factory=WakeUp)
    to_look_at: set[str | None] = attrs.field(init=False, factory=set)
    _present: dict[str, SignedEpoch] = attrs.field(init=False, factory=dict)
    # The last epochs of rooms that we were removed from. Whoever brings us back owned the room then.
    _ended: dict[str, SignedEpoch] = attrs.field(init=False, factory=dict)
    _known: dict[tuple[str, int], _Known] = attrs.field(init=False, factory=dict)
    # The number of the latest epoch of each room that we were ever in.
    _latest: dict[str, int] = attrs.field(init=False, factory=dict)
    # Where we were when we jumped to a later epoch, because we had asked for it: those between may still come.
    _behind: dict[str, SignedEpoch] = attrs.field(init=False, factory=dict)
    # How far back we have asked for the epochs of a room, each of which has the hash of the one before.
    _earliest: dict[str, Epoch] = attrs.field(init=False, factory=dict)
    # The latest epoch of each of our rooms that the server does not give us: we were not in it then.
    _not_ours: dict[str, int] = attrs.field(init=False, factory=dict)
    # The last entry with which we have left a room, or were removed from it.
    _left: dict[str, int] = attrs.field(init=False, factory=dict)
    _blocked: set[str] = attrs.field(init=False, factory=set)
    _to_keep: list[KeptEpoch] = attrs.field(init=False, factory=list)
    _to_end: list[tuple[str, bool]] = attrs.field(init=False, factory=list)
    # One at a time writes them: whoever comes second has to wait until they are written.
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _changed: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        """Begin with what the store has."""
        for kept in self._store.epochs():
            room, members = kept.key.room, None
            if kept.body:
                epochs = self._ended if kept.is_ended else self._present
                try:
                    epochs[room] = read_epoch_untrusted(kept.body)
                except Unreadable:
                    # A damaged file: it is asked for again. One before it is not taken in its place.
                    self._latest[room] = max(kept.key.n - 1, self._latest.get(room, 0))
                    continue
                members = epochs[room].epoch.folded_names
            self._remember(_Known(kept.key, kept.seq, members, kept.is_handed))

    def _remember(self, known: _Known) -> None:
        room, n = known.key.room, known.key.n
        self._known[room, n] = known
        self._latest[room] = max(n, self._latest.get(room, 0))
        for old in [old for old in self._known if old[0] == room and old[1] <= n - KEYS_OF_ROOM]:
            del self._known[old]
        # Their lists are long, and what comes again was looked at before.
        if past := self._known.get((room, n - MEMBERS_KEPT)):
            self._known[room, n - MEMBERS_KEPT] = attrs.evolve(past, members=None)
        # Rooms that we are in no longer. The store forgets as many.
        if len(self._known) > ROOM_KEYS_KEPT:
            gone = [place for place in self._known if place[0] not in self._present and place[0] != room]
            for place in gone[: len(self._known) - ROOM_KEYS_KEPT]:
                del self._known[place]
            rooms = {place[0] for place in self._known}
            self._latest = {one: latest for one, latest in self._latest.items() if one in rooms}

    # --- what is known ---

    @property
    def is_full(self) -> bool:
        """Whether we can be in no more private rooms."""
        return len(self._present) >= MAX_PRIVATE_ROOMS

    def present(self, room: str) -> SignedEpoch | None:
        """The present epoch of a room that we are in, as far as we know."""
        return self._present.get(room)

    def named(self, name: str) -> Epoch | None:
        """The private room of this name that we are in. Whatever the server says has that name, this is the one."""
        return next((one.epoch for one in self._present.values() if fold(one.epoch.name) == fold(name)), None)

    def name(self, room: str) -> str | None:
        """The name of a private room that we are or were in, as its owner has signed it."""
        known = self._known.get((room, self._latest.get(room, 0)))
        return known.key.name if known else None

    def knows(self, name: str) -> bool:
        """Whether we are or were in a private room of this name, as far as its keys are kept."""
        return any(fold(known.key.name) == fold(name) for known in self._known.values())

    def look_at(self, *rooms: str) -> None:
        """Somebody may have left these rooms. If we own them, the next epoch is due.

        Whether we own one that we do not know has to be asked: our store was lost (seed 200308).
        """
        own = self._identity.public.signing
        for room in filter(is_private, rooms):
            present = self._present.get(room)
            if own in present.epoch.owners if present else len(self.to_look_at) < MAX_PRIVATE_ROOMS:
                self.to_look_at.add(room)
                self.due.set()

    def look_at_all(self, at_server: int) -> None:
        """We were away. If we are in more rooms, as the server says, than we know, our store was lost (seed 210251)."""
        self.look_at(*self._present)
        if at_server > len(self._present):
            self.to_look_at.add(None)
            self.due.set()

    def key(self, room: str) -> RoomKey:
        """What posts to a room whose present epoch is known are sealed with."""
        return self._known[room, self._present[room].epoch.n].key

    async def wait_for(self, room: str, n: int) -> None:
        """Wait until an epoch of this number or a later one is known."""
        while (present := self._present.get(room)) is None or present.epoch.n < n:
            await self._changed.wait()

    # --- what arrives ---

    def owner_untrusted(self, body: bytes) -> str:
        """The name of the member who says that they have begun an epoch. Raises Unreadable."""
        epoch = read_epoch_untrusted(body).epoch
        if owner := epoch.member(epoch.owner):
            return owner.name
        raise Unreadable("its owner is no member")

    def take_untrusted(self, body: bytes, room: str, seq: int, *, is_handed: bool = True) -> MembersChange | None:
        """Take an epoch, with which entry `seq` of the log begins; None if it says nothing new, or is not for us.

        Raises Unreadable if it is not believed: a room without it is better than one with a member whom no owner added.
        `keep` makes it durable. `is_handed`: it is that entry; else we have asked for it.
        """
        signed = read_epoch_untrusted(body)
        epoch, known = signed.epoch, self._present.get(room)
        if epoch.room != room or not is_private(room):
            raise Unreadable("the epoch of another room")
        if known is None and self._is_not_for_us(epoch, seq):
            return None
        sequel, is_unknown_owner = self._compare(known, signed)
        if known is not None and sequel in (Sequel.KNOWN, Sequel.OLD):
            self._look_back_untrusted(signed, seq, is_handed=is_handed)
            return None
        # Nor an old one, after we were removed: it would bring back those who were removed since.
        if sequel not in (Sequel.NEXT, Sequel.LATER):
            raise Unreadable(sequel.value)
        owner, own = epoch.member(epoch.owner), epoch.member(self._identity.public.signing)
        if not (owner and own and fold(own.name) == fold(self._name)):
            raise Unreadable("we are not in it under this name")
        key = RoomKey(room, epoch.name, epoch.n, signed.hash, room_key_untrusted(epoch, self._identity))
        if known is None:
            self._check_invitation(epoch, owner.name)
            # If it is asked for, our store was lost: we may have been in it before this epoch (seed 210474).
            joined = seq - 1 if is_handed else 0
            self._memberships.invited(Room(room, epoch.name, epoch.owner, len(epoch.members), joined))
        is_gap = known is not None and sequel is Sequel.LATER
        if known and is_gap:
            self._behind.setdefault(room, known)
        self._blocked.discard(room)
        self._ended.pop(room, None)
        self._not_ours.pop(room, None)
        self._present[room] = signed
        self._remember(_Known(key, seq, epoch.folded_names, is_handed))
        self._to_keep.append(KeptEpoch(key, seq, body, is_handed))
        # Who begins an epoch has looked a moment ago; not if it is asked for, because their store was lost since.
        if epoch.owner != self._identity.public.signing or not is_handed:
            self.look_at(room)
        self._changed.set()
        self._changed = trio.Event()
        change = members_change(known.epoch if known else None, epoch, owner.name)
        return attrs.evolve(change, is_gap=is_gap, is_unknown_owner=is_unknown_owner)

    def _catch_up_untrusted(self, signed: SignedEpoch, seq: int) -> None:
        """An epoch comes that we had jumped over: what was posted in it comes next (seed 30587)."""
        epoch, behind = signed.epoch, self._behind.get(signed.epoch.room)
        if behind is None or (epoch.room, epoch.n) in self._known or compare(behind, signed) is not Sequel.NEXT:
            return
        self._behind[epoch.room] = signed
        self._remember_past_untrusted(signed, seq, is_handed=True)

    def _remember_past_untrusted(self, signed: SignedEpoch, seq: int, *, is_handed: bool) -> None:
        epoch = signed.epoch
        if epoch.member(self._identity.public.signing):
            secret = room_key_untrusted(epoch, self._identity)
            key = RoomKey(epoch.room, epoch.name, epoch.n, signed.hash, secret)
            self._known[epoch.room, epoch.n] = _Known(key, seq, epoch.folded_names, is_handed)
            self._to_keep.append(KeptEpoch(key, seq, b"", is_handed))

    def _compare(self, known: SignedEpoch | None, signed: SignedEpoch) -> tuple[Sequel, bool]:
        """What an epoch of a room is for us. The latter: we were removed, and its owner did not own the room then."""
        epoch, ended = signed.epoch, self._ended.get(signed.epoch.room)
        sequel = compare(known or ended, signed)
        # Our request to leave had no answer, perhaps (seed 201107). As if we had been told that we were removed.
        if known is not None and known.epoch.n < self._not_ours.get(epoch.room, 0) < epoch.n:
            known, ended = None, known
        if known is not None or ended is None or sequel is not Sequel.NOT_AN_OWNER:
            return sequel, False
        if epoch.n <= ended.epoch.n or epoch.name != ended.epoch.name:
            return Sequel.FORK, False
        # While we were not in it, they may have become an owner. Whether that is so, only the user can find out.
        return compare(None, signed), True

    def not_given(self, room: str, n: int) -> None:
        """The server does not give us this epoch, which is between those that we have."""
        if room in self._present:
            self._not_ours[room] = n

    def _is_not_for_us(self, epoch: Epoch, seq: int) -> bool:
        if epoch.owner in self._store.blocked():
            self.ignore(epoch.room)
        return seq <= self._left.get(epoch.room, 0) or epoch.owner in self._store.blocked()

    def _look_back_untrusted(self, signed: SignedEpoch, seq: int, *, is_handed: bool) -> None:
        """An epoch comes that is not later than the present one: we have asked for that, or jumped over this one."""
        room, n = signed.epoch.room, signed.epoch.n
        known, present = self._known.get((room, n)), self._present[room]
        self._catch_up_untrusted(signed, seq)
        earliest = self._earliest.get(room, present.epoch)
        if (n, signed.hash) == (earliest.n - 1, earliest.before):
            self._earliest[room] = signed.epoch
            if (room, n) not in self._known:
                self._remember_past_untrusted(signed, seq, is_handed=is_handed)
        if is_handed and known is not None and not known.is_handed:
            self._known[room, n] = attrs.evolve(known, is_handed=True)
            self._to_keep.append(KeptEpoch(known.key, known.seq, present.body if present.epoch.n == n else b""))

    def _check_invitation(self, epoch: Epoch, owner: str) -> None:
        """Raise Unreadable unless the first epoch that we see of a room is good: we know who has signed it."""
        if self._pins.signing_key(owner) != epoch.owner:
            raise Unreadable("its owner has another key than the one that we know")
        # The same after we have left.
        if epoch.n <= self._latest.get(epoch.room, 0):
            raise Unreadable("an old epoch")
        if self.named(epoch.name) or fold(epoch.name) == EVERYONE_NAME or self.is_full:
            raise Unreadable("another room has this name, or we are in too many")

    def ignore(self, room: str) -> None:
        """Show nothing from a room that we were never in: what should bring us into it is not believed."""
        if room not in self._present and room not in self._ended:
            self._blocked.add(room)
            while len(self._blocked) > MAX_IGNORED:
                self._blocked.pop()

    def is_ignored(self, room: str) -> bool:
        """Whether nothing is shown from this room: who has put us into it is blocked, or not believed."""
        return room in self._blocked

    def removed(self, room: str, seq: int) -> str | None:
        """With entry `seq` of the log we were removed from a room; return its name, if we were in it. See `keep`."""
        present = self._present.get(room)
        self._note_end(room, seq)
        # An old entry that comes again: we were invited again since.
        if present is None or self._known[room, present.epoch.n].seq > seq:
            return None
        del self._present[room]
        self._ended[room] = present
        while len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        self._to_end.append((room, False))
        self._memberships.leave(room, present.epoch.name)
        return present.epoch.name

    def left(self, room: str, seq: int) -> None:
        """With entry `seq` of the log we have left a room: whoever invites us may be somebody else. See `keep`."""
        self._present.pop(room, None)
        self._ended.pop(room, None)
        self._note_end(room, seq)
        self._to_end.append((room, True))

    def _note_end(self, room: str, seq: int) -> None:
        """An epoch that has begun before this entry does not bring us back.

        It may be on its way to us (seed 20027), or what we have asked for: the server gives it also to who was removed.
        """
        for known in (self._not_ours, self._behind, self._earliest):
            known.pop(room, None)
        self._left[room] = max(seq, self._left.pop(room, 0))
        while len(self._left) > MAX_IGNORED:
            del self._left[next(iter(self._left))]

    async def keep(self) -> None:
        """Make durable what was taken."""
        async with self._lock:
            epochs, ended = tuple(self._to_keep), tuple(self._to_end)
            if epochs:
                await self._store.keep_epochs(epochs)
                del self._to_keep[: len(epochs)]
            for room, forget in ended:
                # We may have been invited again meanwhile.
                if room not in self._present:
                    await self._store.end_room(room, forget=forget)
                del self._to_end[0]

    # --- posts ---

    def missing(self, entries: Iterable[Entry]) -> list[tuple[str, int]]:
        """The rooms and numbers of the epochs that are needed for these entries, and neither known nor among them.

        After our store was lost, or if another program of ours, with another store, was handed them.
        """
        known = {room: present.epoch.n for room, present in self._present.items()}
        missing: list[tuple[str, int]] = []
        for entry in entries:
            room = entry.recipient
            if entry.kind == EntryKind.REMOVED:
                known.pop(room_of(entry), None)
            if not is_private(room) or room in self._blocked:
                continue
            # Who is put into a room needs no epoch before that one. For others, one between may have made its owner.
            is_epoch = entry.kind == EntryKind.EPOCH
            needed = epoch_of_entry_untrusted(entry)
            first = known.get(room, needed - 1) + 1
            if (is_epoch and room in known) or (entry.kind == EntryKind.GROUP and (room, needed) not in self._known):
                last = needed - is_epoch
                missing += [(room, n) for n in range(max(first, last - MAX_ASKED_FOR + 1), last + 1)]
                if (present := self._present.get(room)) and not is_epoch and 0 < needed < present.epoch.n:
                    # Backwards: the next one has the hash of the true one (seed 210474).
                    begin = self._earliest.get(room, present.epoch).n - 1
                    missing += [(room, n) for n in range(begin, max(needed, begin - MAX_ASKED_FOR + 1) - 1, -1)]
            known[room] = max(needed, known.get(room, 0))
        return list(dict.fromkeys(missing))

    def key_of_post(self, entry: Entry, sender: bytes) -> RoomKey:
        """What opens a post of the owner of this Ed25519 key. Raises Unreadable if they could not post it there."""
        room, n = entry.recipient, epoch_of_post(entry.body)
        known, later = self._known.get((room, n)), self._known.get((room, self._latest.get(room, 0)))
        if known is None or later is None:
            raise Unreadable("sealed with a key that we do not have")
        after = self._known.get((room, n + 1), later)
        # Whoever was removed has the old key. With the help of the server they could go on using it.
        if entry.seq <= known.seq or (after.key.n > n and entry.seq >= after.seq):
            raise Unreadable("not posted during its epoch")
        # Nor can they post as if it was before: entries come in order, and that of the next epoch has come.
        if after.key.n > n and after.is_handed and self._store.seen((entry.kind, fold(entry.sender), entry.id)) is None:
            raise Unreadable("it comes after the end of its epoch")
        if known.members is not None and known.members.get(fold(entry.sender)) != sender:
            raise Unreadable("its sender is no member")
        return known.key
