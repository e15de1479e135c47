"""Being registered: discovering the server, registering, deregistering, registering again, and the client table.

What is sent and received while registered is in chat.py and inbox.py.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from typing import TypeVar

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.events import ServerBack, ServerSilent, SignedOff
from trio_chat.client.inbox import Inbox
from trio_chat.client.own_address import HEARTBEAT_BEHIND_ROUTER, heartbeat_pause
from trio_chat.crypto.identities import credentials
from trio_chat.errors import NameTaken, NotRegistered, ServerNotResponding, SignedInElsewhere
from trio_chat.link.events import LinkEvent, Moved, OtherVersion, ServerCalled
from trio_chat.link.session import Peer
from trio_chat.protocol import messages
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import Answer, PartAck, Refused, Registered
from trio_chat.protocol.records import Address, EndReason, Reason, Record
from trio_chat.protocol.room_messages import RoomRequest
from trio_chat.tasks import Change, WakeUp
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import ACK_WINDOW, SERVER_ATTEMPTS

_T = TypeVar("_T")
_Question = messages.Save | messages.GroupPost | messages.Find | messages.ListNames | RoomRequest

MAX_SILENT_ROUNDS, MAX_ROUNDS = 3, 20
"""After so many windows without a change of the table, each with a heartbeat, the server is given up: the first number
if none was answered. Where much is lost, a server that is there needs more for a change of several parts."""

HEARTBEAT_RETRY_DELAY = 5.0
"""Seconds until the next heartbeat when one had no answer."""

SILENT_HEARTBEATS = 2
"""After so many without an answer the server counts as silent."""

RECONNECT_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries to reach a silent server; the last one is repeated."""

_REFUSALS: dict[Reason, type[errors.ChatError]] = {
    Reason.TOO_MANY_NAMES: errors.TooManyNames,
    Reason.NO_ROOM: errors.NoRoom,
    Reason.BANNED: errors.Banned,
    Reason.CLOSED: errors.RegistrationClosed,
    Reason.NOT_INVITED: errors.NotInvited,
}
_SIGNED_OFF: tuple[type[errors.ChatError], ...] = (
    *(NameTaken, SignedInElsewhere, errors.TooManyPeople),
    *_REFUSALS.values(),
)
"""With these, registering again has failed for good."""

_ENDINGS: dict[EndReason, type[errors.ChatError]] = {
    EndReason.ELSEWHERE: SignedInElsewhere,
    EndReason.KICKED: errors.Kicked,
    EndReason.BANNED: errors.Banned,
    EndReason.DELETED: errors.NameDeleted,
}


@attrs.define(eq=False)
class Registration:
    """One person's registration with the server, which is at one of the `candidates`. `resolve` finds them again.

    `registered` is the server's latest answer, None while offline. `reconnect`: at the start, wait for a silent server,
    or one that has had too many registrations. `invitation`: shown to the server with each registration.
    `silent_since`: when the server was found not to respond, by our clock; None while it does. `changed`: we are
    registered, or the server responds again. `heartbeat_due`: set it for a heartbeat at once.
    """

    _context: ClientContext
    _candidates: Sequence[Address]
    _resolve: Callable[[], Awaitable[Sequence[Address]]]
    _inbox: Inbox
    _reconnect: bool
    _invitation: str = ""
    registered: Registered | None = attrs.field(init=False, default=None)
    silent_since: float | None = attrs.field(init=False, default=None)
    changed: Change = attrs.field(init=False, factory=Change)
    heartbeat_due: WakeUp = attrs.field(init=False, factory=WakeUp)
    server: Peer = attrs.field(init=False, default=Peer(("", 0), b""))
    # Distinguishes this program from others with the same key: see `_request_registration`.
    _program: bytes = attrs.field(init=False, factory=new_id)
    # One task at a time registers or deregisters, so at most one waits for the table.
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _is_told: bool = attrs.field(init=False, default=False)
    _table_changed: WakeUp = attrs.field(init=False, factory=WakeUp)
    # The table of this registration is too long: for the task that registers.
    _table_error: errors.TooManyPeople | None = attrs.field(init=False, default=None)

    # --- registering and deregistering ---

    async def connect(self) -> None:
        """Discover the server and register, for the first time."""
        async with self._lock:
            pauses = chain(RECONNECT_DELAYS, repeat(RECONNECT_DELAYS[-1])) if self._reconnect else iter(())
            while True:
                try:
                    return await self._discover_and_register()
                except (errors.TooFast, ServerNotResponding) as error:
                    pause = next(pauses, None)
                    if pause is None:
                        raise
                    # The pauses grow also if each answer says that it is only a moment: many may have got that answer.
                    await trio.sleep(max(pause, getattr(error, "after", 0.0)))

    async def register(self) -> int:
        """Register; see `Chat.register`."""
        async with self._lock:
            return await self._noting_silence(self._register)

    async def renew(self) -> None:
        """If we are online, register again: the server gets the list of those whom we block as it is now."""
        async with self._lock:
            if self.registered is not None:
                await self._noting_silence(partial(self._register, take_over=False, was_away=False))

    async def deregister(self) -> None:
        """Deregister; see `Chat.deregister`."""
        async with self._lock:
            if self.registered is None:
                raise NotRegistered
            await self._context.endpoint.request(
                self.server, messages.Deregister(new_id()), attempts=SERVER_ATTEMPTS, on_answer=self._on_deregistered
            )
            if self.registered is not None:
                await self._discover_server(attempts=1)  # as in `_noting_silence`
                raise ServerNotResponding

    async def _discover_and_register(self) -> None:
        if not await self._discover_server(SERVER_ATTEMPTS):
            raise ServerNotResponding
        await self._register()

    async def _discover_server(self, attempts: int) -> bool:
        """Ask the candidates for the server's keys. False if nobody answers.

        The first one to answer with the key that we know is taken; if we know none, the first one. Other keys, or
        another version, are an error only after the last window: somebody on the path, who is faster than the server,
        must not end this client.
        """
        pins = self._context.pins
        if self._reconnect and self.silent_since is not None:
            # It may have moved, and its name with it. If that cannot be found now, it may be where it was.
            with trio.move_on_after(ACK_WINDOW), suppress(errors.AddressError):
                self._candidates = await self._resolve()
        found = await self._context.endpoint.query_keys(self._candidates, attempts, pins.is_server)
        if found is None:
            return False
        if isinstance(found, OtherVersion):
            raise errors.ServerTooOld if found.is_older else errors.ServerTooNew
        pins.check_server(found.keys)
        self.server = Peer(found.address, found.keys.link)
        return True

    async def _register(self, *, take_over: bool = True, was_away: bool = True) -> int:
        for _ in range(SERVER_ATTEMPTS):
            registered = await self._request_registration(take_over, was_away)
            if await self._wait_for_table(registered):
                return registered.waiting
            # The server does not know this registration any longer. If that is because the owner has started another
            # program since, that one keeps the name: both would end if they took it from each other.
            take_over, was_away = False, True
        raise ServerNotResponding

    async def _request_registration(self, take_over: bool, was_away: bool) -> Registered:
        context = self._context
        own = credentials(context.identity, name=context.name, server_key=context.pins.server_key)
        on_answer = partial(self._on_registered, was_away=was_away)
        ask = partial(context.endpoint.request, attempts=SERVER_ATTEMPTS, on_answer=on_answer)
        blocked = tuple(context.store.blocked())
        takeover_at = 0.0
        # More than twice only if another program registers in between, or the network takes seconds.
        for _ in range(SERVER_ATTEMPTS):
            request = messages.Register(
                *(new_id(), context.name, own, self._program, takeover_at, blocked, self._invitation),
                held=context.table.version,
            )
            answer = await ask(self.server, request)
            match answer:
                case Registered():
                    context.pins.pin_server()
                    return answer
                case messages.Elsewhere() if take_over:
                    takeover_at = answer.at
                case Refused(reason=Reason.TAKEN) | messages.Elsewhere():
                    # Also when an earlier registration was ours: the name has another owner or program now.
                    self.registered = None
                    raise NameTaken(context.name) if isinstance(answer, Refused) else SignedInElsewhere
                case Refused(reason=Reason.TOO_FAST, after=after):
                    raise errors.TooFast(after)
                case Refused(reason=reason) if reason in _REFUSALS:
                    self.registered = None
                    raise _REFUSALS[reason]
                case _:
                    break
        raise ServerNotResponding

    def _on_registered(self, answer: Answer, *, was_away: bool) -> None:
        # Called by the reading task: the next datagram may bring the table, and must find the client registered.
        if isinstance(answer, Registered):
            self.registered, self._table_error = answer, None
            self.changed.set()
            # Also before the table comes: with the pin of a lost key, our own row would be warned of.
            self._context.pins.pin_own(self._context.name, self._context.identity.public)
            if was_away:
                self._inbox.on_registered(answer.head, answer.private_rooms)

    def _on_deregistered(self, answer: Answer) -> None:
        # Refused: the server does not know us, which is what we wanted.
        if isinstance(answer, messages.Deregistered | Refused):
            self.registered = None

    async def _wait_for_table(self, registered: Registered) -> bool:
        """Wait until the table is complete; False if the server does not know this registration."""
        silent = rounds = 0
        while not self._context.table.holds(registered.version):
            if self._table_error:
                raise self._table_error
            # Not at the end of the loop: the table may have come during the last heartbeat.
            if silent == MAX_SILENT_ROUNDS or rounds == MAX_ROUNDS:
                raise ServerNotResponding
            with trio.move_on_after(ACK_WINDOW):
                await self._table_changed.wait()
                silent = rounds = 0
                continue
            answer, rounds = await self._heartbeat(registered), rounds + 1
            if isinstance(answer, Refused):
                return False  # it was restarted since its answer, does not know us, and sends no table
            silent = 0 if answer else silent + 1
        return True

    async def _register_again(self, registered: Registered) -> None:
        """The server does not know us by that registration: register again, unless that has been done."""
        async with self._lock:
            # Several requests may have been refused: only the first one that comes here registers.
            if self.registered is not registered:
                return
            # Nobody asked for this, so it must not take the name from a program that our owner started later.
            await self._register(take_over=False)

    # --- asking the server ---

    async def ask(self, request: _Question) -> Answer:
        """Ask the server; if it does not know us (any longer), register and ask again."""
        return await self._noting_silence(partial(self._ask, request))

    async def _ask(self, request: _Question) -> Answer:
        for _ in range(SERVER_ATTEMPTS):
            registered = self.registered
            if registered is None:
                raise NotRegistered
            answer = await self._context.endpoint.request(self.server, request, attempts=SERVER_ATTEMPTS)
            match answer:
                case None | PartAck():
                    raise ServerNotResponding
                case Refused(reason=Reason.NOT_REGISTERED):
                    await self._register_again(registered)
                case _:
                    return answer
        raise ServerNotResponding

    async def _noting_silence(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask the server, and note whether it answers. Raises ServerKeyChanged and ServerTooNew, too."""
        try:
            answer = await ask()
        except ServerNotResponding:
            self._note_silence()
            # A new server with other keys cannot open what is sealed to the old ones, and would be silent forever, as
            # one of another version. Asking for its keys raises an error that says more than that it is silent.
            await self._discover_server(attempts=1)
            raise
        self._note_answer()
        return answer

    def _note_silence(self) -> None:
        """The server has not answered for as long as it may."""
        if self.silent_since is None:
            self.silent_since = self._context.clock()
            if self._reconnect:
                waiting = sum(not one.is_received for one in self._context.store.outgoing())
                self._context.event_queue.offer(ServerSilent(self.silent_since, waiting))

    def _note_answer(self) -> None:
        """The server has answered."""
        if self.silent_since is not None:
            self.silent_since, self._is_told = None, False
            self.changed.set()
            if self._reconnect:
                self._context.event_queue.offer(ServerBack())

    async def heartbeat_loop(self) -> None:
        """Send heartbeats to the server, and register again when it does not know us; until cancelled."""
        pause, missed = HEARTBEAT_BEHIND_ROUTER, 0  # there is no row yet that says whether one is needed so soon
        while True:
            with trio.move_on_after(pause):
                await self.heartbeat_due.wait()
            registered, pause = self.registered, heartbeat_pause(self._context, self.server)
            if registered is None:
                continue
            answer = await self._heartbeat(registered)
            missed = 0 if answer else missed + 1
            if answer is not None:
                self._note_answer()
            else:
                pause = HEARTBEAT_RETRY_DELAY
                await self._missed_heartbeats(missed)
            if isinstance(answer, Refused):
                try:
                    await self._register_again(registered)
                except _SIGNED_OFF as error:
                    # Not `offer`: the user must get this event, even if there is no room now.
                    await self._context.event_queue.put(SignedOff(error))
                except errors.TooFast as error:
                    pause = max(HEARTBEAT_RETRY_DELAY, error.after)
                except ServerNotResponding:
                    continue

    async def _missed_heartbeats(self, count: int) -> None:
        """So many in a row had no answer: with the second one, the user is told, who may do nothing but read."""
        if count < SILENT_HEARTBEATS:
            return
        self._note_silence()
        if self._reconnect:
            try:
                await self._discover_server(attempts=1)
            except (errors.ServerKeyChanged, errors.WrongServerKey, errors.ServerTooOld, errors.ServerTooNew) as error:
                # A server with other keys, or of another version, never answers. It is told once.
                if not self._is_told:
                    self._is_told = True
                    await self._context.event_queue.put(SignedOff(error))

    async def _heartbeat(self, registered: Registered) -> Answer | PartAck | None:
        request = messages.Heartbeat(new_id(), registered.since)
        return await self._context.endpoint.request(self.server, request)

    # --- what arrives; called by the reading task ---

    def on_link_event(self, event: LinkEvent) -> None:
        """A peer has another address now, which may be the server; or the server has called."""
        match event:
            case Moved(before, now) if before == self.server:
                self.server = now
            case ServerCalled():
                self.heartbeat_due.set()

    def take_table(self, change: messages.TableChange, registered: Registered) -> Answer | Reaction:
        """Apply a change of the table."""
        context = self._context
        try:
            records = context.table.apply(change, registered.version.epoch)
        except errors.TooManyPeople as error:
            return self._refuse_table(error)
        note_keys(context, records)
        if records:
            self._table_changed.set()
            context.event_queue.table_changed()
        return change.held(context.table.version)

    def _refuse_table(self, error: errors.TooManyPeople) -> Reaction:
        """The server sends too many rows, of which none were taken: we are offline now."""
        if self._lock.locked():
            self._table_error = error  # raised by the call that registers
            self._table_changed.set()
        elif not self._context.event_queue.offer(SignedOff(error)):
            return Reaction.SILENCE  # as in `take_end`: when the server sends it again
        self.registered = None
        return Reaction.SILENCE

    def take_end(self, request: messages.SessionEnded, registered: Registered) -> Answer | Reaction:
        """The server has ended our session: we are offline now."""
        # We do not register again: two programs with the same key would take the name from each other forever, and who
        # was kicked would be back at once.
        # A late SessionEnded may mean an earlier registration: the owner may have registered here again since.
        if request.since == registered.since:
            # If there is no room for the event, the server has to send this again.
            if not self._context.event_queue.offer(SignedOff(_ENDINGS[request.reason]())):
                return Reaction.SILENCE
            self.registered = None
        return request.ack()


def note_keys(context: ClientContext, records: Sequence[Record]) -> None:
    """Pin the keys in rows that are new here, and warn of those that have changed."""
    context.pins.pin_new(records)
    # Not of the new keys of those who are blocked: they could show a line whenever they like.
    blocked = context.store.blocked()
    heard = [one for one in records if not (one.credentials and one.credentials.keys.signing in blocked)]
    for warning in context.pins.new_warnings(heard):
        context.event_queue.offer(warning)
