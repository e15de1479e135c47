"""Being on line: finding the server, coming, going, coming back by oneself, and the client table.

What is said while one is on line is the business of session.py and mail.py.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import TypeVar

import attrs
import trio

from trio_chat.client.event_queue import EventQueue
from trio_chat.client.events import ServerBack, ServerSilent, SignedOff
from trio_chat.client.inbox import Inbox
from trio_chat.client.trust import Trust
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.errors import NameTaken, NotRegistered, ServerNotResponding, SignedInElsewhere
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import (
    Answer,
    Confirm,
    Deregister,
    Deregistered,
    Find,
    GroupPost,
    Heartbeat,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    TableChange,
    Takeover,
)
from trio_chat.protocol.records import Address, Reason
from trio_chat.protocol.table import ClientTable
from trio_chat.transport.endpoint import ACK_WINDOW, RESEND_DELAYS, SERVER_ATTEMPTS, Endpoint, new_id

__all__ = ["Registration"]

_T = TypeVar("_T")

SILENT_ROUNDS = 3
"""How often a window without a piece of the table, and one heartbeat, may pass before the server is given up."""

HEARTBEAT_EVERY = 20.0
SILENT_PAUSE = 5.0
"""Seconds until the next heartbeat when one had no answer."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries to reach a silent server; the last one holds on."""


@attrs.define(eq=False)
class Registration:
    """One person's registration with the server at one of the `candidates`.

    `stay` is the server's word for the present one, None while off line. `reconnect`: wait for a silent server.
    """

    name: str
    candidates: Sequence[Address]
    identity: Identity
    trust: Trust
    table: ClientTable
    endpoint: Endpoint
    inbox: EventQueue
    mail: Inbox
    reconnect: bool
    stay: Registered | None = attrs.field(init=False, default=None)
    server: Peer = attrs.field(init=False, default=Peer(("", 0), b""))
    _program: bytes = attrs.field(init=False, factory=new_id)
    _table_moved: trio.Event = attrs.field(init=False, factory=trio.Event)
    _doubted: Registered | None = attrs.field(init=False, default=None)
    _doubt: trio.Event = attrs.field(init=False, factory=trio.Event)
    _coming_or_going: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    # --- coming and going ---

    async def enter(self) -> None:
        """Find the server and register, for the first time."""
        await self.patiently(self._meet_and_register, tell=False)

    async def register(self) -> int:
        """Come on line; see `Chat.register`."""
        async with self._coming_or_going:
            return await self.patiently(self._register)

    async def deregister(self) -> None:
        """Go off line; see `Chat.deregister`."""
        async with self._coming_or_going:
            if self.stay is None:
                raise NotRegistered
            request = Deregister(new_id())
            await self.endpoint.request(self.server, request, windows=SERVER_ATTEMPTS, on_answer=self._deregistered)
            if self.stay is not None:
                raise ServerNotResponding

    async def _meet_and_register(self) -> None:
        if not await self._meet(SERVER_ATTEMPTS):
            raise ServerNotResponding
        await self._register()

    async def _meet(self, windows: int) -> bool:
        """Ask the server for its keys: of several addresses the first one to answer is taken."""
        met = await self.endpoint.learn(self.candidates, windows)
        if met is None:
            return False
        self.trust.meet_server(met.keys)
        self.server = Peer(met.address, met.keys.link)
        return True

    async def _register(self, *, returning: bool = False) -> int:
        for _ in range(SERVER_ATTEMPTS):
            stay = await self._ask_for_a_stay(returning)
            if await self._hold_table(stay):
                return stay.waiting
        raise ServerNotResponding

    async def _ask_for_a_stay(self, returning: bool) -> Registered:
        own = credentials(self.identity, name=self.name, server_key=self.trust.server_key)
        request = Register(new_id(), self.name, own, self._program, returning)
        answer = await self.endpoint.request(self.server, request, windows=SERVER_ATTEMPTS, on_answer=self._registered)
        match answer:
            case Registered():
                self.trust.keep_server()
                return answer
            case Refused(reason=Reason.TAKEN):
                raise NameTaken(self.name)
            case Refused(reason=Reason.ELSEWHERE):
                raise SignedInElsewhere
        raise ServerNotResponding

    def _registered(self, answer: Answer) -> None:
        # Called by the reading task: what follows the answer at its heels must find the client registered.
        if isinstance(answer, Registered):
            self.stay = answer
            self.mail.came_on_line(answer.at)

    def _deregistered(self, answer: Answer) -> None:
        # Refused: the server does not know us, which is what we wanted.
        if isinstance(answer, Deregistered | Refused):
            self.stay = None

    async def _hold_table(self, stay: Registered) -> bool:
        """Wait until the table is here; False if the server has forgotten us before it could bring it."""
        silent = 0
        while not self.table.holds(stay.version):
            if silent == SILENT_ROUNDS:
                raise ServerNotResponding
            with trio.move_on_after(ACK_WINDOW) as window:
                await self._table_moved.wait()
            if self._doubted is stay:
                return False
            silent = silent + 1 if window.cancelled_caught else 0
            if silent and isinstance(await self._heartbeat(), Refused):
                return False
        return True

    async def _return(self, stay: Registered) -> None:
        """The server does not know us under that stay: register anew, unless that has been done."""
        async with self._coming_or_going:
            if self.stay is not stay:
                return
            try:
                await self._register(returning=True)
            except (NameTaken, SignedInElsewhere):
                self.stay = None
                raise

    # --- asking the server ---

    async def ask(self, request: Save | GroupPost | Find) -> Answer:
        """Ask the server, patiently; if it does not know us (any longer), register and ask again."""
        return await self.patiently(partial(self._ask, request))

    async def _ask(self, request: Save | GroupPost | Find) -> Answer:
        for _ in range(SERVER_ATTEMPTS):
            stay = self.stay
            if stay is None:
                raise NotRegistered
            answer = await self.endpoint.request(self.server, request, windows=SERVER_ATTEMPTS)
            match answer:
                case None | PartAck():
                    raise ServerNotResponding
                case Refused(reason=Reason.NOT_REGISTERED):
                    await self._return(stay)
                case _:
                    return answer
        raise ServerNotResponding

    async def patiently(self, ask: Callable[[], Awaitable[_T]], *, tell: bool = True) -> _T:
        """Ask again and again while the server is silent, if that was wished."""
        pauses = chain(PAUSES, repeat(PAUSES[-1])) if self.reconnect else iter(())
        was_silent = False
        while True:
            try:
                answer = await ask()
            except ServerNotResponding:
                pause = next(pauses, None)
                if pause is None:
                    raise
                if tell and not was_silent:
                    self.inbox.offer(ServerSilent())
                was_silent = True
                await trio.sleep(pause)
                await self._meet(windows=1)  # where another server has come in its place, we must not wait for ever
            else:
                if tell and was_silent:
                    self.inbox.offer(ServerBack())
                return answer

    async def beat(self) -> None:
        """Tell the server from time to time that we are there, until cancelled."""
        pause = HEARTBEAT_EVERY
        while True:
            with trio.move_on_after(pause):
                await self._doubt.wait()
            self._doubt = trio.Event()
            stay, pause = self.stay, HEARTBEAT_EVERY
            if stay is None:
                continue
            answer = None if self._doubted is stay else await self._heartbeat()
            if answer is None:
                pause = SILENT_PAUSE
            if self._doubted is stay or isinstance(answer, Refused):
                try:
                    await self._return(stay)
                except (NameTaken, SignedInElsewhere) as error:
                    await self.inbox.put(SignedOff(error))
                except ServerNotResponding:
                    continue

    async def _heartbeat(self) -> Answer | PartAck | None:
        return await self.endpoint.request(self.server, Heartbeat(new_id(), self.name), resend=RESEND_DELAYS)

    # --- what arrives; called by the reading task ---

    def moved(self, before: Peer, now: Peer) -> None:
        """Somebody is at another address now: the server, perhaps."""
        if before == self.server:
            self.server = now

    def confirm(self, request: Confirm) -> Answer | Reaction:
        """The server asks whether it is us who want to take our name over from another program."""
        return request.ack() if request.program == self._program else Reaction.SILENCE

    def take_table(self, change: TableChange, stay: Registered) -> Answer:
        """A change of the client table.

        One of another epoch than that of our stay says that a former server took us in, and that its answer came late.
        """
        if change.after.epoch != stay.version.epoch:
            self._doubted = stay
            self._doubt.set()
            self._table_moved.set()
            self._table_moved = trio.Event()
        records = self.table.apply(change, stay.version.epoch)
        for warning in self.trust.note(records):
            self.inbox.offer(warning)
        if records:
            self._table_moved.set()
            self._table_moved = trio.Event()
            self.inbox.table_changed()
        return change.held(self.table.version)

    def take_takeover(self, request: Takeover, stay: Registered) -> Answer | Reaction:
        """Our owner has signed in from another place: we are off line, and do not fight back."""
        if request.since == stay.at:
            if not self.inbox.offer(SignedOff(SignedInElsewhere())):
                return Reaction.SILENCE
            self.stay = None
        return request.ack()
