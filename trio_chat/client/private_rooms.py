"""What only private rooms have: their members and owners, new keys, and messages that are sealed.

Each change of the members is a new epoch, which is signed here and given to the server in one request. Which epochs are
believed is decided in epochs.py.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.direct_sender import DirectSender
from trio_chat.client.epochs import Epochs
from trio_chat.client.registration import Registration
from trio_chat.client.room_requests import ask_for_members, ask_for_part, room_refusal
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import NONCE, SignedEpoch, seal_post, sign_epoch
from trio_chat.protocol.epochs import MAX_OWNERS, MAX_PRIVATE_MEMBERS, Epoch
from trio_chat.protocol.messages import Answer, GroupPost, Refused
from trio_chat.protocol.records import Entry, PublicKeys, Reason, Room, check_name, fold, room_id
from trio_chat.protocol.room_messages import BeginEpoch, EpochPart, GetEpoch, RoomChanged
from trio_chat.transport.endpoint import ACK_WINDOW, SERVER_ATTEMPTS, new_id

KEY_SIZE = 32
"""Bytes of the key of a room."""

EPOCH_WINDOW = 2 * ACK_WINDOW
"""Seconds in which a new epoch comes by itself. Then it is asked for."""

LOOK_AGAIN = 30.0
"""Seconds after which an owner's program that could not begin an epoch tries it again."""


@attrs.frozen
class _Members:
    """Who is to be in the next epoch: names with their keys, and the Ed25519 keys of the owners."""

    keys: dict[str, PublicKeys]
    owners: tuple[bytes, ...]

    @classmethod
    def of(cls, epoch: Epoch) -> "_Members":
        return cls({member.name: member.keys for member in epoch.members}, epoch.owners)

    def key(self, person: str) -> bytes | None:
        """The Ed25519 key of a member; None if nobody in the room has this name."""
        return next((keys.signing for name, keys in self.keys.items() if fold(name) == fold(person)), None)

    def without(self, people: Sequence[str]) -> "_Members":
        """All but these."""
        gone = set(map(fold, people))
        keys = {name: keys for name, keys in self.keys.items() if fold(name) not in gone}
        signing = {one.signing for one in keys.values()}
        return _Members(keys, tuple(owner for owner in self.owners if owner in signing))


_Edit = Callable[[_Members], _Members]


@attrs.define(eq=False)
class PrivateRooms:
    """What one person does with their private rooms. Rooms are given by id and name; the latter is for errors."""

    _context: ClientContext
    _registration: Registration
    _direct: DirectSender
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
        """The epoch with which a request of this id creates a room: we are alone in it, and own it."""
        own = self._context.identity
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

    async def owners(self, room: str, name: str) -> list[str]:
        """The names of the owners."""
        epoch = (await self._present(room, name)).epoch
        return sorted((one for one, key in epoch.names.items() if key in epoch.owners), key=fold)

    async def invite(self, room: str, name: str, person: str) -> str:
        """Add somebody."""
        check_name(person)
        record, keys = await self._direct.find(person)

        def edit(members: _Members) -> _Members:
            known = members.key(record.name)
            if known == keys.signing:
                return members
            # Somebody has had the name before, whose place is taken.
            members = members.without([record.name])
            if len(members.keys) >= MAX_PRIVATE_MEMBERS:
                raise errors.RoomFull(name)
            return attrs.evolve(members, keys=members.keys | {record.name: keys})

        await self._begin(room, name, edit, person)
        return record.name

    async def remove(self, room: str, name: str, person: str) -> None:
        """Remove somebody, who cannot open what is posted from then on."""
        check_name(person)

        def edit(members: _Members) -> _Members:
            if members.key(person) is None:
                raise errors.NotInRoom(person, name)
            if members.key(person) == self._own_key:
                raise errors.RemovedYourself(name)
            return members.without([person])

        await self._begin(room, name, edit, person)

    async def add_owner(self, room: str, name: str, person: str) -> None:
        """Make a member an owner, too."""
        check_name(person)

        def edit(members: _Members) -> _Members:
            key = members.key(person)
            if key is None:
                raise errors.NotInRoom(person, name)
            if key in members.owners:
                return members
            if len(members.owners) >= MAX_OWNERS:
                raise errors.TooManyOwners(name)
            return attrs.evolve(members, owners=(*members.owners, key))

        await self._begin(room, name, edit, person)

    async def _begin(self, room: str, name: str, edit: _Edit, person: str = "") -> None:
        """Begin the epoch that `edit` makes of the present one, first without those who have left."""
        async with self._lock:
            for _ in range(2 * SERVER_ATTEMPTS):
                present = await self._present(room, name)
                epoch = present.epoch
                if self._own_key not in epoch.owners:
                    raise errors.NotAnOwner(name)
                at_server = set(map(fold, await ask_for_members(self._registration, room, name)))
                left = [one for one in epoch.names if fold(one) not in at_server]
                # In an epoch of its own: in the next one they may be invited again.
                members = _Members.of(epoch)
                wanted = members.without(left) if left else edit(members)
                if wanted == members:
                    return
                answer = await self._registration.ask(self._request(present, wanted))
                match answer:
                    # Refused: another owner was faster, or somebody has just left.
                    case RoomChanged() | Refused(reason=Reason.WRONG_EPOCH):
                        await self._wait_for(room, name, epoch.n + 1)
                    case Refused(reason=Reason.UNKNOWN):
                        raise errors.UnknownRecipient(person)
                    case Refused(reason=Reason.THEY_ARE_IN_TOO_MANY):
                        raise errors.TheyAreInTooManyRooms(person)
                    case _:
                        raise room_refusal(answer, name)
                if isinstance(answer, RoomChanged) and not left:
                    return
        raise errors.ServerNotResponding

    def _request(self, present: SignedEpoch, wanted: _Members) -> BeginEpoch:
        epoch = sign_epoch(
            self._context.identity,
            secrets.token_bytes(KEY_SIZE),
            room=present.epoch.room,
            name=present.epoch.name,
            members=wanted.keys.items(),
            owners=wanted.owners,
            before=present,
        )
        return BeginEpoch(new_id(), epoch.epoch.room, epoch.epoch.n, epoch.body)

    async def renew_loop(self) -> None:
        """Whenever somebody has left a room that we own, begin an epoch without them; until cancelled."""
        epochs = self._epochs
        while True:
            await epochs.due.wait()
            rooms, epochs.to_look_at = epochs.to_look_at, set()
            for room in sorted(rooms):
                present = epochs.present(room)
                # Nobody has asked for this, so nobody is told if it fails. The old epoch goes on meanwhile.
                with suppress(errors.ChatError):
                    try:
                        if present is not None:
                            await self._begin(room, present.epoch.name, lambda members: members)
                    except (errors.ServerNotResponding, errors.TooFast):
                        epochs.to_look_at.add(room)
            if epochs.to_look_at:
                with trio.move_on_after(LOOK_AGAIN):
                    await epochs.due.wait()
                epochs.due.set()

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

    async def _wait_for(self, room: str, name: str, n: int) -> None:
        """Wait for an epoch that has begun: it comes as an entry."""
        with trio.move_on_after(EPOCH_WINDOW):
            await self._epochs.wait_for(room, n)
            return
        await self.fetch(room, 0, name)

    async def fetch(self, room: str, n: int, name: str) -> None:
        """Ask for an epoch, 0 being the present one: our store may be a new one. Raises MembersNotTrusted."""
        body, seq = b"", 0
        while True:
            match await ask_for_part(self._registration, GetEpoch(new_id(), room, n, len(body))):
                case EpochPart(part=part, size=size) as found if part and n in (0, found.n):
                    # The present epoch may change between two parts.
                    body, seq, n = body + part, found.seq, found.n
                    if len(body) >= size:
                        break
                case EpochPart():
                    raise errors.ServerNotResponding
                case answer:
                    raise room_refusal(answer, name)
        try:
            self._epochs.take_untrusted(body, room, seq)
        except Unreadable as error:
            raise errors.MembersNotTrusted(name) from error
        await self._epochs.keep()

    async def get_missing(self, entries: Sequence[Entry]) -> None:
        """Ask for the epochs without which these entries cannot be opened: after our store was lost."""
        for room, n in self._epochs.missing(entries):
            try:
                await self.fetch(room, n, "")
            except (errors.ServerNotResponding, errors.TooFast):
                raise
            except errors.ChatError:
                continue  # there is none for us: the entries are shown as what cannot be opened

    # --- messages ---

    async def post(self, room: str, name: str, text: str) -> Answer:
        """Seal a message and give it to the server; return its answer."""
        context, id_ = self._context, new_id()
        for _ in range(SERVER_ATTEMPTS):
            epoch = (await self._present(room, name)).epoch
            key = self._epochs.key(room)
            body = seal_post(
                context.identity,
                key,
                secrets.token_bytes(NONCE),
                id=id_,
                sender=context.name,
                sent_at=context.clock(),
                text=text,
            )
            answer = await self._registration.ask(GroupPost(id_, body, room))
            if not (isinstance(answer, Refused) and answer.reason is Reason.WRONG_EPOCH):
                return answer
            # The members have changed meanwhile. It is sealed again for those who are in it now, under the same id.
            await self._wait_for(room, name, epoch.n + 1)
        raise errors.ServerNotResponding
