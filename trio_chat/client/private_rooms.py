"""What only private rooms have: their members and owners, new keys, and messages that are sealed.

Each change of the members is a new epoch, which is signed here and given to the server in one request. Which epochs are
believed is decided in epochs.py.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.epochs import MAX_ASKED_FOR, Epochs
from trio_chat.client.members_changes import Members, MembersChange, id_of_epoch
from trio_chat.client.people import People
from trio_chat.client.registration import Registration
from trio_chat.client.room_requests import ask_for_epoch, ask_for_members, ask_for_rooms, room_refusal
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import NONCE, SignedEpoch, seal_post, sign_epoch
from trio_chat.protocol.epochs import MAX_OWNERS, MAX_PRIVATE_MEMBERS
from trio_chat.protocol.messages import Answer, GroupPost, Refused
from trio_chat.protocol.records import (
    Entry,
    EntryKind,
    Reason,
    Room,
    check_name,
    fold,
    room_id,
)
from trio_chat.protocol.room_messages import BeginEpoch, RoomChanged
from trio_chat.storage.client_interface import OpenedEntry
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import ACK_WINDOW, SERVER_ATTEMPTS

KEY_SIZE = 32
"""Bytes of the key of a room."""

EPOCH_WINDOW = 2 * ACK_WINDOW
"""Seconds in which a new epoch comes by itself. Then it is asked for."""

LOOK_AGAIN = 30.0
"""Seconds after which an owner's program that could not begin an epoch tries it again."""


_Edit = Callable[[Members], Members]


@attrs.define(eq=False)
class PrivateRooms:
    """What one person does with their private rooms. Rooms are given by id and name; the latter is for errors."""

    _context: ClientContext
    _registration: Registration
    _people: People
    # Shows a change of the members that was asked for, and has not come as an entry.
    _show: Callable[[OpenedEntry], Awaitable[None]]
    # One change at a time: a second one has to follow from the epoch that the first one begins.
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    @property
    def _epochs(self) -> Epochs:
        return self._context.epochs

    @property
    def _own_key(self) -> bytes:
        return self._context.identity.public.signing

    # --- creating ---

    def first_epoch(self, request: bytes, name: str) -> SignedEpoch:
        """The epoch with which a request of this id creates a room: we are alone in it, and own it.

        Raises TooManyRooms.
        """
        own = self._context.identity
        if self._epochs.is_full:
            raise errors.TooManyRooms
        return sign_epoch(
            own,
            secrets.token_bytes(KEY_SIZE),
            room=room_id(self._own_key, request, private=True),
            name=name,
            members=[(self._context.name, own.public)],
            owners=[self._own_key],
        )

    async def created(self, epoch: SignedEpoch, room: Room) -> None:
        """The server has taken the first epoch of this room."""
        self._epochs.take_untrusted(epoch.body, room.id, room.joined + 1)
        await self._epochs.keep()

    # --- members ---

    async def members(self, room: str, name: str) -> list[str]:
        """The names of the members, as the owners have signed them."""
        return sorted((await self._present(room, name)).epoch.names, key=fold)

    async def gone(self, room: str, name: str) -> list[str]:
        """Those of the members whom the server has in the room no longer."""
        at_server = await self._at_server(room, name)
        return [one for one in await self.members(room, name) if fold(one) not in at_server]

    async def _at_server(self, room: str, name: str) -> set[str]:
        """Who is in the room as the server says, in lower case."""
        return set(map(fold, await ask_for_members(self._registration, room, name)))

    async def owners(self, room: str, name: str) -> list[str]:
        """The names of the owners who have not left it."""
        epoch, at_server = (await self._present(room, name)).epoch, await self._at_server(room, name)
        owners = (one for one, key in epoch.names.items() if key in epoch.owners)
        return sorted((one for one in owners if fold(one) in at_server), key=fold)

    async def invite(self, room: str, name: str, person: str) -> str:
        """Add somebody."""
        check_name(person)
        record, keys = await self._people.keys(person)

        def edit(members: Members) -> Members:
            known = members.key(record.name)
            if known == keys.signing:
                return members
            # Somebody has had the name before, whose place is taken.
            members = members.without([record.name])
            if other := members.name(keys.signing):
                raise errors.InRoomAlready(record.name, name, other)
            if len(members.keys) >= MAX_PRIVATE_MEMBERS:
                raise errors.RoomFull(name)
            return attrs.evolve(members, keys=members.keys | {record.name: keys})

        await self._begin(room, name, edit, person)
        return record.name

    async def remove(self, room: str, name: str, person: str) -> None:
        """Remove somebody, who cannot open what is posted from then on."""
        check_name(person)

        def edit(members: Members) -> Members:
            if members.key(person) is None:
                raise errors.NotInRoom(person, name)
            if members.key(person) == self._own_key:
                raise errors.RemovedYourself(name)
            return members.without([person])

        await self._begin(room, name, edit, person)

    async def add_owner(self, room: str, name: str, person: str) -> None:
        """Make a member an owner, too."""
        check_name(person)

        def edit(members: Members) -> Members:
            key = members.key(person)
            if key is None:
                raise errors.NotInRoom(person, name)
            if key in members.owners:
                return members
            if len(members.owners) >= MAX_OWNERS:
                raise errors.TooManyOwners(name)
            return attrs.evolve(members, owners=(*members.owners, key))

        await self._begin(room, name, edit, person)

    async def check_leaving(self, room: str, name: str) -> None:
        """Raise LastOwner if we are the only owner who is in this room, and not alone in it."""
        try:
            epoch = (await self._present(room, name)).epoch
            at_server = await self._at_server(room, name)
        except (errors.NoSuchRoom, errors.NotAMember, errors.MembersNotTrusted, errors.ListTooLong):
            return  # nothing keeps anybody in a room about which they know nothing
        # The epoch may still list somebody who has left.
        others = {key for one, key in epoch.names.items() if key != self._own_key and fold(one) in at_server}
        if self._own_key in epoch.owners and others and others.isdisjoint(epoch.owners):
            raise errors.LastOwner(name)

    async def _begin(self, room: str, name: str, edit: _Edit, person: str = "", *, is_due: bool = False) -> None:
        """Begin the epoch that `edit` makes of the present one, first without those who have left.

        `is_due`: also if nothing changes.
        """
        async with self._lock:
            for _ in range(2 * SERVER_ATTEMPTS):
                present = await self._present(room, name)
                epoch = present.epoch
                if self._own_key not in epoch.owners:
                    raise errors.NotAnOwner(name)
                at_server = await self._at_server(room, name)
                # Not ourselves, whatever the server says: without us there would be no owner who can sign it.
                others = [one for one, key in epoch.names.items() if key != self._own_key]
                left = [one for one in others if fold(one) not in at_server]
                # In an epoch of its own: in the next one they may be invited again.
                members = Members.of(epoch)
                wanted = members.without(left) if left else edit(members)
                if wanted == members and not is_due:
                    return
                signed = self._sign(present, await self._certified(wanted, name))
                answer = await self._registration.ask(BeginEpoch(new_id(), room, signed.epoch.n, signed.body))
                match answer:
                    # Refused: another owner was faster, or somebody has just left.
                    case RoomChanged() | Refused(reason=Reason.WRONG_EPOCH):
                        await self._wait_for(room, name, epoch.n + 1)
                    case _:
                        raise _refusal(answer, name, person)
                if isinstance(answer, RoomChanged) and self._has_begun(signed):
                    if not left:
                        return
                    # Nobody has asked for this, and only the server says that they have left.
                    await self._show_left(signed, left)
        raise errors.ServerNotResponding

    async def _certified(self, members: Members, room: str) -> Members:
        """The same members, with the keys that they have shown to be theirs. Raises KeyChanged, MembersNotTrusted.

        Those in the present epoch are what its owner says: the key of the room could be sealed for somebody else.
        """
        keys = {}
        for name, listed in members.keys.items():
            keys[name] = listed
            if listed.signing != self._own_key:
                with suppress(errors.UnknownRecipient):
                    _, keys[name] = await self._people.keys(name)
                    if keys[name].signing == listed.signing:
                        continue
                raise errors.MembersNotTrusted(room)
        return attrs.evolve(members, keys=keys)

    async def _show_left(self, signed: SignedEpoch, left: Sequence[str]) -> None:
        change = MembersChange(signed.epoch, self._context.name, (), tuple(left), ())
        await self._show_change(change, signed.body, 0)

    def _has_begun(self, signed: SignedEpoch) -> bool:
        # Whatever the server says: until we know the new epoch, our messages can be read by whom it removes.
        present = self._epochs.present(signed.epoch.room)
        return present is not None and (present.hash == signed.hash or present.epoch.n > signed.epoch.n)

    def _sign(self, present: SignedEpoch, wanted: Members) -> SignedEpoch:
        try:
            return sign_epoch(
                self._context.identity,
                secrets.token_bytes(KEY_SIZE),
                room=present.epoch.room,
                name=present.epoch.name,
                members=wanted.keys.items(),
                owners=wanted.owners,
                before=present,
            )
        except Unreadable as error:
            # Somebody has a key that nothing can be sealed for; maybe another owner has put them into the room.
            raise errors.MembersNotTrusted(present.epoch.name) from error

    async def renew_loop(self) -> None:
        """Whenever somebody has left a room that we own, begin an epoch without them; until cancelled."""
        epochs = self._epochs
        while True:
            await epochs.due.wait()
            rooms, epochs.to_look_at = epochs.to_look_at, set()
            for room in sorted(rooms, key=str):
                # Nobody has asked for this, so nobody is told if it fails. The old epoch goes on meanwhile.
                with suppress(errors.ChatError):
                    try:
                        await self._look_at(room)
                    except (errors.ServerNotResponding, errors.TooFast):
                        epochs.to_look_at.add(room)
            if epochs.to_look_at:
                with trio.move_on_after(LOOK_AGAIN):
                    await epochs.due.wait()
                epochs.due.set()

    async def _look_at(self, room: str | None) -> None:
        epochs = self._epochs
        if room is None:
            rooms = await ask_for_rooms(self._registration, own=True)
            epochs.look_at(*(one.id for one in rooms if epochs.present(one.id) is None))
        elif present := epochs.present(room):
            await self._begin(room, present.epoch.name, lambda members: members)
        else:
            await self.fetch(room, 0, "")  # if it is our own, it is due again when we know it

    # --- the present epoch ---

    async def _present(self, room: str, name: str) -> SignedEpoch:
        """The present epoch, as far as we know. Raises MembersNotTrusted if the server gives none that we believe."""
        if self._epochs.present(room) is None:
            await self.fetch(room, 0, name)
        present = self._epochs.present(room)
        # The server could give us another private room of ours under this name.
        if present is None or fold(present.epoch.name) != fold(name):
            raise errors.MembersNotTrusted(name)
        return present

    async def _wait_for(self, room: str, name: str, n: int) -> int:
        """Wait for an epoch that has begun: it comes as an entry. Returns the number of what the server has, or `n`."""
        with trio.move_on_after(EPOCH_WINDOW):
            await self._epochs.wait_for(room, n)
            return n
        return await self.fetch(room, 0, name)

    async def fetch(self, room: str, n: int, name: str) -> int:
        """Ask for an epoch, 0 being the present one: our store may be a new one. Returns its number.

        Raises MembersNotTrusted.
        """
        body, seq, found = await ask_for_epoch(self._registration, room, n, name)
        if not n and (present := self._epochs.present(room)):
            # One between may have made its owner (seed 220220).
            with suppress(errors.ServerNotResponding):
                for between in range(max(present.epoch.n + 1, found - MAX_ASKED_FOR), found):
                    await self._fetch_if_given(room, between)
        try:
            await self._people.get_key(self._epochs.owner_untrusted(body))
            change = self._epochs.take_untrusted(body, room, seq, is_handed=False)
        except Unreadable as error:
            raise errors.MembersNotTrusted(name) from error
        # When the entry comes, it will say nothing new.
        if change and fold(change.owner) != fold(self._context.name):
            await self._show_change(change, body, seq)
        await self._epochs.keep()
        return found

    async def _show_change(self, change: MembersChange, body: bytes, seq: int) -> None:
        if change.epoch.owner not in self._context.store.blocked():
            id_, at, room = id_of_epoch(body), self._context.clock(), change.epoch.name
            await self._show(OpenedEntry(seq, EntryKind.EPOCH, id_, change.owner, at, str(change), room=room))

    async def get_missing(self, entries: Sequence[Entry]) -> None:
        """Ask for the epochs without which these entries cannot be opened. Raises ServerNotResponding and the like."""
        asked: list[tuple[str, int]] = []
        # Twice: others are missing if another task has got the present epoch meanwhile (seed 220032).
        for _ in range(2):
            if (missing := self._epochs.missing(entries)) == asked:
                return
            asked = missing
            for room, n in missing:
                await self._fetch_if_given(room, n)

    async def _fetch_if_given(self, room: str, n: int) -> None:
        # There may be none for us: then what is sealed with its key is shown as what cannot be opened.
        try:
            await self.fetch(room, n, "")
        except (errors.NoSuchRoom, errors.NotAMember):
            self._epochs.not_given(room, n)
        except errors.MembersNotTrusted:
            pass

    # --- messages ---

    async def post(self, room: str, name: str, text: str, id: bytes, at: float) -> Answer:
        """Seal a message, and give it to the server; return its answer. See `Rooms.post`."""
        context = self._context
        for attempt in range(SERVER_ATTEMPTS):
            epoch = (await self._present(room, name)).epoch
            key = self._epochs.key(room)
            body = seal_post(
                context.identity,
                key,
                secrets.token_bytes(NONCE),
                id=id,
                sender=context.name,
                sent_at=at,
                text=text,
            )
            request = GroupPost(id, body, room)
            match answer := await self._registration.ask(request):
                # A late copy of the refusal before can be taken for the answer to what the server has in fact taken.
                case Refused(reason=Reason.CONFLICT) if attempt:
                    return request.accepted()
                case Refused(reason=Reason.WRONG_EPOCH):
                    pass
                case _:
                    return answer
            # The members have changed meanwhile. It is sealed again for those who are in it now, under the same id.
            at_server = await self._wait_for(room, name, epoch.n + 1)
            if at_server < epoch.n and self._own_key in epoch.owners:
                # The server knows an older one: it was put back to a copy. It takes one that we sign now.
                await self._begin(room, name, lambda members: members, is_due=True)
        raise errors.ServerNotResponding


def _refusal(answer: Answer, room: str, person: str) -> errors.ChatError:
    """The error for a change of the members that the server has refused."""
    match answer:
        case Refused(reason=Reason.UNKNOWN):
            return errors.UnknownRecipient(person)
        case Refused(reason=Reason.THEY_ARE_IN_TOO_MANY):
            return errors.TheyAreInTooManyRooms(person)
    return room_refusal(answer, room)
