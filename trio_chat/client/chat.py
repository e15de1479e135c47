"""A chat as a library: `Chat`, which sends messages and passes requests to the part that handles them.

How it is opened is in opening.py. How events are shown to a person is not decided here: see the package `terminal`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing

import trio

from trio_chat import errors
from trio_chat.client.block_list import Blocked, BlockList
from trio_chat.client.context import ClientContext
from trio_chat.client.direct_sender import DirectSender
from trio_chat.client.events import Delivery, Event, Fallback, HistoryEntry
from trio_chat.client.inbox import Inbox
from trio_chat.client.letter_sender import LetterSender
from trio_chat.client.outbox import Outbox
from trio_chat.client.outbox_attempts import Attempts
from trio_chat.client.own_address import watch_address
from trio_chat.client.people import People, Person
from trio_chat.client.private_rooms import PrivateRooms
from trio_chat.client.registration import Registration
from trio_chat.client.rooms import RoomInfo, Rooms
from trio_chat.link.session import Peer
from trio_chat.protocol import messages
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import Answer, DirectMessage, Request
from trio_chat.protocol.records import EVERYONE_NAME, Record, check_name, check_text, fold
from trio_chat.transport.ids import new_id


class Chat:
    """One person in the chat; made by `open_chat` (see opening.py)."""

    def __init__(self, context: ClientContext, registration: Registration, inbox: Inbox) -> None:
        self.name = context.name
        self._context = context
        self._registration = registration
        self._inbox = inbox
        self._letters = LetterSender(context, registration, inbox)
        self._people = People(context, registration)
        self._blocks = BlockList(context, self._people)
        self._direct = DirectSender(context, registration)
        self._private_rooms = PrivateRooms(context, registration, self._people, inbox.show)
        self._rooms = Rooms(context, registration, self._private_rooms)
        attempts = Attempts(context, registration, self._direct, self._letters, self._rooms, self._people)
        self.outbox = Outbox(context, registration, attempts)
        """Messages that are kept until they are sent, while the server or their recipients are away."""
        self._direct.on_kept = self.outbox.on_kept
        self._is_open = False

    @property
    def table(self) -> Mapping[str, Record]:
        """Who is online, who was since this chat was opened, and to whom something was sent: records by name.

        A live view; look-ups ignore case. See `everybody` for all others, who are away.
        """
        return self._context.table

    async def everybody(self) -> list[Person]:
        """Everybody whom the server knows, in the order of names: 14 with each request.

        Raises:
            NotRegistered: this client is offline.
            TooFast: the same key has asked for too many names.
            NameTaken, SignedInElsewhere: the server had forgotten this client, which could not register again.
            ServerNotResponding: no answer within five windows.
        """
        return await self._people.all()

    @property
    def untrusted(self) -> set[str]:
        """The names in the table, in lower case, that have another key than the pinned one; see `trust`."""
        return self._context.pins.changed(self._context.table)

    @property
    def online(self) -> bool:
        """Whether this client is registered, as far as it knows."""
        return self._registration.registered is not None

    @property
    def silent_since(self) -> float | None:
        """Since when the server does not respond, in seconds since 1970; None while it does, as far as is known."""
        return self._registration.silent_since

    @property
    def waiting(self) -> int:
        """How many letters and messages to everyone waited at the latest registration."""
        return self._registration.registered.waiting if self._registration.registered else 0

    @property
    def events(self) -> AsyncIterator[Event]:
        """The events of the chat, in order, for one reader at a time; ends when the chat has ended.

        At most `backlog` events wait. If the reader is too slow, messages stay with their senders and the server.

        An event counts as shown when the reader asks for the next one, or calls `mark_shown`. Until then a new
        `async for` begins with it again. A message that is not shown when the program ends comes at the next start
        with the same store, as a LetterReceived. So a reader that is cancelled loses no event, but may get one twice.
        """
        return self._context.event_queue

    def mark_shown(self) -> None:
        """The event that was taken last has been shown: a new `async for` begins with the next one.

        Call it before a loop over `events` is left by `break` or `return`. Does nothing if nothing was taken.
        """
        self._context.event_queue.mark_shown()

    # --- registering ---

    async def register(self) -> int:
        """Go online; return when the table is complete, with the number of letters and messages to everyone that wait.

        Raises:
            NameTaken: the name belongs to another key.
            TooFast: too many registrations with this key or from its address.
            SignedInElsewhere: another program of the owner took the name before the table was complete.
            TooManyPeople: the server sends more than 20,000 names.
            ServerNotResponding: no answer within five windows, or no table.
        """
        return await self._registration.register()

    async def deregister(self) -> None:
        """Go offline; the server stores letters from now on.

        Raises:
            NotRegistered: already offline.
            ServerNotResponding: no answer within five windows; this client is still online, then.
        """
        await self._registration.deregister()

    async def trust(self, name: str) -> str:
        """Accept the key that the server gives for this name now; return its fingerprint.

        Raises UnknownRecipient if the server gives none; else what `everybody` raises, if they are not in the table.
        """
        check_name(name)
        record = await self._people.row(name)
        if record.credentials is None:
            raise errors.UnknownRecipient(name)
        self._context.pins.pin(name, record.credentials)
        self.outbox.try_again()
        return record.fingerprint

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        """Those who are blocked, the first one first; see `block`."""
        return self._blocks.rows()

    async def block(self, name: str) -> str:
        """Show nothing more from the owner of this name; return the fingerprint of their key, which is blocked.

        So other names of the same key are blocked, too, and the next owner of this name is not. What they send is taken
        and thrown away, and they are not told: for them you are offline. The block is durable when this returns.

        Raises:
            InvalidName, UnknownRecipient: nobody with a known key has this name.
            BlockedYourself: it is your own key.
            TooManyBlocked: 256 people are blocked.
            ServerNotResponding, TooFast, NameTaken, SignedInElsewhere: they are blocked, but the server could not be
                told now, and may show them that you are online.
        """
        key = await self._blocks.add(name)
        await self._registration.renew()
        return key

    async def unblock(self, name: str) -> None:
        """Block the owner of this name no longer. What they sent meanwhile does not come.

        Raises NotBlocked if nobody of this name is blocked; else what `block` raises of the server.
        """
        await self._blocks.remove(name)
        await self._registration.renew()

    async def history(self, name: str | None = None, count: int = 20) -> list[HistoryEntry]:
        """The newest messages, oldest first: all of them, those to and from one person, or with `#lunch` of a room.

        What was received is in it when it has been shown (see `events`).
        Messages to rooms count as from their sender, too. Raises NoHistory if the store keeps none.
        """
        return await self._context.store.history(name, count)

    async def search(self, words: str, count: int = 20, *, name: str | None = None) -> list[HistoryEntry]:
        """The newest messages with all these words in their texts, oldest first. `name`: as for `history`.

        Case and accents do not matter. The last word may be the beginning of a word. Only the first 32 words count.
        Raises NoHistory if the store keeps none.
        """
        return await self._context.store.search(words, count, name)

    # --- sending ---

    async def send(
        self, recipient: str, text: str, *, on_fallback: Callable[[Fallback], object] | None = None
    ) -> Delivery:
        """Send a message to one person: directly, or else through the server, which cannot read it.

        `on_fallback` is called with the reason just before the message goes to the server.

        Raises:
            NotRegistered: this client is offline.
            InvalidName, InvalidRecipient, InvalidText: this cannot be sent.
            UnknownRecipient: the server does not know this name.
            KeyChanged: the recipient has another key than before; see `trust`.
            KeyNotRemembered: too many keys are pinned to pin that of the recipient; see `trust`.
            MailboxFull: the recipient is away and has too many letters.
            TooFast: too many messages went through the server.
            IdInUse: the server has another message with the same id.
            NotOpened: the recipient got it from the server and could not open it.
            WrongReceipt: the recipient got it from the server, but signed that they have another text.
            ForgedReceipt: the server says that the recipient has it, but the recipient did not sign that receipt.
            NameTaken, SignedInElsewhere: the server had forgotten this client, which could not register again.
            ServerNotResponding: neither the recipient nor the server answers.
        """
        if not self.online:
            raise errors.NotRegistered
        check_name(recipient)
        if fold(recipient) == fold(self.name):
            raise errors.InvalidRecipient
        check_text(text)
        record, keys = await self._people.keys(recipient)
        message = DirectMessage(new_id(), self.name, recipient, text)
        # Without events no receipt comes, and nothing would be sent directly any more after the first saved message.
        reason = await self._direct.send(message, record, keys, in_order=self._context.event_queue.takes_events)
        if reason is None:
            delivery = Delivery("direct")
        else:
            if on_fallback is not None:
                on_fallback(reason)
            delivery = await self._letters.send(message, keys)
        self._context.store.note(HistoryEntry(self._context.clock(), record.name, text, sent=True))
        return delivery

    async def send_all(self, text: str) -> None:
        """Send a message to everyone, signed but not sealed; return when the server has stored it.

        Raises:
            NotRegistered: this client is offline.
            InvalidText: this cannot be sent.
            TooFast: too many messages to everyone.
            IdInUse: the server has another message with the same id.
            NameTaken, SignedInElsewhere: the server had forgotten this client, which could not register again.
            ServerNotResponding: no answer within five windows.
        """
        await self._post(EVERYONE_NAME, text)

    # --- rooms. Each method also raises what `send_all` raises of the server ---

    async def rooms(self) -> list[RoomInfo]:
        """All rooms, by name, with that of everyone."""
        return await self._rooms.all()

    @property
    def known_rooms(self) -> list[str]:
        """The names of the rooms that this client has heard of so far, without asking the server; not `everyone`."""
        return self._context.memberships.heard()

    async def joined_rooms(self) -> list[str]:
        """The names of the rooms that we are in besides `everyone`, in the order of joining, the latest last."""
        return await self._rooms.joined()

    async def create_room(self, name: str, *, private: bool = False) -> str:
        """Create a room, and be in it; return its name.

        Anybody may join it, and the server can read what is posted. If it is `private`, only those are in it whom we
        `invite`, up to 100, and only they can read it.

        Raises:
            InvalidName: this cannot be the name of a room.
            RoomExists: a room has this name.
            TooManyRooms: our key is in as many as it may be.
            NoMoreRooms: the server takes no more.
            TooFast: too many were created with this key or from this address.
        """
        return await self._rooms.create(name, private=private)

    async def join(self, name: str) -> str:
        """Join a room: what is posted from then on comes as events, also after an absence. Return its name.

        Does nothing if we are in it. Raises InvalidName, NoSuchRoom, RoomIsPrivate, RoomFull, TooManyRooms.
        """
        return await self._rooms.join(name)

    async def leave(self, name: str, *, anyway: bool = False) -> None:
        """Leave a room. Raises InvalidName, NoSuchRoom, NotAMember.

        Raises LastOwner if it is private and others are in it, none of whom owns it; with `anyway`, we leave it then,
        too, and nobody can be invited or removed any more.
        """
        await self._rooms.leave(name, anyway=anyway)

    async def members(self, name: str) -> list[str]:
        """The names of those in a room, whether or not we are in it.

        Raises InvalidName, NoSuchRoom, RoomIsPrivate, ListTooLong.

        Of a private room, for its members only: those who can read it, as its owners have signed. Somebody who has left
        is among them until the program of an owner is online: see `gone_members`.
        """
        return await self._rooms.members(name)

    async def gone_members(self, name: str) -> list[str]:
        """Those of the `members` of a private room who have left it, or whose name is not theirs any more.

        The server says so. They can read what is posted until the program of an owner is online. Empty if it is open.
        """
        return await self._rooms.gone(name)

    async def post(self, room: str, text: str) -> None:
        """Send a message to a room, as `send_all` does to everyone. Raises InvalidName, NoSuchRoom, NotAMember."""
        await self._post(room, text)

    async def _post(self, room: str, text: str) -> None:
        now = self._context.clock()
        name = (await self._rooms.post(room, text, new_id(), now)).name
        self._context.store.note(HistoryEntry(now, "", text, sent=True, group=True, room=name))

    # --- private rooms. Each method raises NoSuchRoom, NotAMember, RoomIsOpen, MembersNotTrusted, too ---

    async def invite(self, room: str, name: str) -> str:
        """Put somebody into a private room that we own; return their name as it is written.

        They read what is posted from then on, and nothing older. Does nothing if they are in it. Raises NotAnOwner,
        UnknownRecipient, KeyChanged, KeyNotRemembered, InRoomAlready, RoomFull, TheyAreInTooManyRooms.
        """
        return await self._private_rooms.invite(await self._rooms.private(room), room, name)

    async def remove(self, room: str, name: str) -> None:
        """Remove somebody from a private room that we own: they cannot open what is posted from then on.

        Raises NotAnOwner, NotInRoom, RemovedYourself.
        """
        await self._private_rooms.remove(await self._rooms.private(room), room, name)

    async def owners(self, room: str) -> list[str]:
        """The names of those who own a private room that we are in. None: nobody can be added or removed any more."""
        return await self._private_rooms.owners(await self._rooms.private(room), room)

    async def add_owner(self, room: str, name: str) -> None:
        """Make a member of a private room that we own its owner, too. Raises NotAnOwner, NotInRoom, TooManyOwners."""
        await self._private_rooms.add_owner(await self._rooms.private(room), room, name)

    # --- tasks, and what arrives ---

    def _opened(self, *, resume: bool) -> None:
        self._is_open = True
        if resume:
            self.outbox.resume()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with closing(self._context.event_queue):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._context.endpoint.listen, self._receive, self._registration.on_link_event)
                nursery.start_soon(self._inbox.batches_loop)
                nursery.start_soon(self._inbox.kept_notices.notices_loop)
                nursery.start_soon(self._registration.heartbeat_loop)
                nursery.start_soon(
                    watch_address,
                    self._context,
                    lambda: self._registration.server,
                    self._registration.heartbeat_due.set,
                )
                nursery.start_soon(self._private_rooms.renew_loop)
                nursery.start_soon(self.outbox.run)
                task_status.started()

    def _receive(self, peer: Peer, request: Request) -> Answer | Reaction:
        registered = self._registration.registered
        is_from_server = peer == self._registration.server
        # A name that is offline acknowledges nothing: its messages and letters wait at the server.
        if registered is None:
            return Reaction.SILENCE
        match request:
            # Not while `open_chat` still waits for the table: if that fails, nobody could read an acknowledged message.
            case DirectMessage() if self._is_open:
                answer = self._inbox.take_message(peer, request)
                if isinstance(answer, messages.Ack):
                    self._direct.heard(request.sender, peer)
                return answer
            case messages.MessagesKept():
                self._direct.on_kept(peer, request.ids)
                return request.ack()
            # Not before the table: the server may still be handing over to our program before this one, which had rows
            # that we do not have, and whose senders it need not name. They would be lost as unreadable (seed 200076).
            case messages.Batch() if is_from_server and self._context.table.holds(registered.version):
                return self._inbox.take_batch(peer, request)
            case messages.TableChange() if is_from_server:
                return self._registration.take_table(request, registered)
            case messages.Introduced() if is_from_server:
                self._direct.introduced(request)
            case messages.SessionEnded() if is_from_server:
                return self._registration.take_end(request, registered)
            # Whatever its time: the answer to a newer registration may not have arrived yet, and we are online.
            case messages.Heartbeat() if is_from_server:
                return request.ack()
        return Reaction.SILENCE
