"""A chat as a library: register, send, send to all, leave, and hear what others say.

The tasks of one client around one endpoint. What a person sees of it is the console's business.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from ipaddress import ip_address
from itertools import chain, repeat
from typing import TypeVar

import trio

from trio_chat.background import open_background
from trio_chat.client.events import Delivery, Event, Fallback, ServerBack, ServerSilent, SignedOff
from trio_chat.client.inbox import Inbox
from trio_chat.client.mail import Mail
from trio_chat.errors import (
    InvalidRecipient,
    MailboxFull,
    NameTaken,
    NotRegistered,
    ServerNotResponding,
    UnknownRecipient,
)
from trio_chat.protocol import messages
from trio_chat.protocol.directory import Table
from trio_chat.protocol.messages import (
    Ack,
    Answer,
    Delivered,
    Deregister,
    Deregistered,
    GroupPost,
    Heartbeat,
    Letters,
    PartAck,
    Refused,
    Register,
    Registered,
    Request,
    Save,
    Saved,
    TableChange,
)
from trio_chat.protocol.records import Reason, Record, check_name, check_text, fold
from trio_chat.protocol.reliability import Reaction
from trio_chat.storage.interface import ClientStore
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.datagrams import UDP, Address, Network
from trio_chat.transport.endpoint import ATTEMPTS, PROMPT, WINDOW, Endpoint, Peer, new_id

__all__ = ["Chat", "open_chat"]

T = TypeVar("T")

HEARTBEAT_EVERY = 20.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries to reach a silent server; the last one holds on."""

DETOUR = 60.0
"""Seconds for which a peer that did not answer directly is reached by the server at once."""


@asynccontextmanager
async def open_chat(
    name: str,
    server: tuple[str, int],
    *,
    port: int = 0,
    host: str | None = None,
    store: ClientStore | None = None,
    reconnect: bool = False,
    network: Network = UDP,
) -> AsyncIterator["Chat"]:
    """Register as `name` with the server at (host, port) and chat until the block ends.

    A block that ends normally deregisters; one that ends by an exception or a cancellation leaves without a word.
    Errors come out as they are, never in an exception group.

    Args:
        port: the local UDP port; 0 is any that is free.
        host: the local address; None is every address of the machine.
        store: keeps letters received and what was seen; None keeps them in memory.
        reconnect: where the server does not respond, keep trying instead of raising, with pauses that grow up to
            15 seconds. `ServerSilent` and `ServerBack` are told. Leaving is tried once all the same.
        network: where the socket comes from.

    Raises:
        InvalidName: `name` is not a name.
        NameTaken: somebody else is on line under it.
        AddressError: the server's host does not resolve, or the local port is in use.
        ServerNotResponding: nobody answers there, at the beginning or at the end.
    """
    check_name(name)
    candidates = await network.resolve(*server)
    if host is not None:
        host, port = (await network.resolve(host, port))[0]
    with closing(network.bind(host, port)) as socket:
        chat = Chat(name, candidates[0], Endpoint(socket), store or MemoryClientStore(), reconnect)
        async with open_background() as nursery:
            await nursery.start(chat._run)
            await chat._patiently(partial(chat._enter, candidates), tell=False)
            yield chat
            if chat.online:
                await chat.deregister()


class Chat:
    """One person's place in the chat; see `open_chat`."""

    def __init__(self, name: str, server: Address, endpoint: Endpoint, store: ClientStore, reconnect: bool) -> None:
        self.name = name
        self._pauses = PAUSES if reconnect else ()
        self._server = server
        self._endpoint = endpoint
        self._inbox = Inbox()
        self._mail = Mail(name, endpoint, store, self._inbox)
        self._table = Table()
        self._table_moved = trio.Event()
        self._stay: Registered | None = None
        self._detours: dict[str, float] = {}
        self._coming_or_going = trio.Lock()

    @property
    def table(self) -> Mapping[str, Record]:
        """Who is known to the server: names to records. A live view; look-ups ignore case."""
        return self._table

    @property
    def online(self) -> bool:
        """Is this client registered, as far as it knows?"""
        return self._stay is not None

    @property
    def waiting(self) -> int:
        """How many letters waited at the latest registration, receipts not counted."""
        return 0 if self._stay is None else self._stay.waiting

    @property
    def events(self) -> AsyncIterator[Event]:
        """What others say, as it comes. At most 256 events wait; beyond, the server keeps the messages."""
        return self._inbox

    # --- coming and going ---

    async def register(self) -> int:
        """Come on line; return when the table is here, with the number of letters waiting (receipts not counted).

        Raises:
            NameTaken: somebody else is on line under this name.
            ServerNotResponding: no answer within five windows, or no table.
        """
        async with self._coming_or_going:
            return await self._patiently(self._register)

    async def deregister(self) -> None:
        """Go off line; letters are stored from now on.

        Raises:
            NotRegistered: already off line.
            ServerNotResponding: no answer within five windows; one is still on line, then.
        """
        async with self._coming_or_going:
            if self._stay is None:
                raise NotRegistered
            await self._endpoint.request(
                self._server, Deregister(new_id()), windows=ATTEMPTS, on_answer=self._deregistered
            )
            if self._stay is not None:
                raise ServerNotResponding

    async def _register(self) -> int:
        request = Register(new_id(), self.name)
        answer = await self._endpoint.request(self._server, request, windows=ATTEMPTS, on_answer=self._registered)
        match answer:
            case Registered():
                await self._hold_table(answer)
                return answer.waiting
            case Refused(reason=Reason.TAKEN):
                raise NameTaken(self.name)
        raise ServerNotResponding

    def _registered(self, answer: Answer) -> None:
        # Called by the reading task: what follows the answer at its heels must find the client registered.
        if isinstance(answer, Registered):
            self._stay = answer
            self._mail.came_on_line(answer.at)

    def _deregistered(self, answer: Answer) -> None:
        # Refused: the server does not know us, which is what we wanted.
        if isinstance(answer, Deregistered | Refused):
            self._stay = None

    async def _hold_table(self, stay: Registered) -> None:
        while not self._table.holds(stay.version):
            with trio.move_on_after(ATTEMPTS * WINDOW) as patience:
                await self._table_moved.wait()
            if patience.cancelled_caught:
                raise ServerNotResponding

    async def _return(self, stay: Registered) -> None:
        """The server does not know us under that stay: register anew, unless that has been done."""
        async with self._coming_or_going:
            if self._stay is not stay:
                return
            try:
                await self._register()
            except NameTaken:
                self._stay = None
                raise

    # --- sending ---

    async def send(
        self, recipient: str, text: str, *, on_fallback: Callable[[Fallback], object] | None = None
    ) -> Delivery:
        """Send a message to one person: directly, else by the server.

        `on_fallback` is called with the reason just before the message goes to the server.

        Raises:
            NotRegistered: one is off line.
            InvalidName, InvalidRecipient, InvalidText: this cannot be sent.
            UnknownRecipient: the server has never heard of that name.
            MailboxFull: the recipient is away and has too many letters.
            NameTaken: the server had forgotten us, and somebody else has our name now.
            ServerNotResponding: neither the recipient nor the server answers.
        """
        if self._stay is None:
            raise NotRegistered
        check_name(recipient)
        if fold(recipient) == fold(self.name):
            raise InvalidRecipient
        check_text(text)
        message = messages.Chat(new_id(), self.name, recipient, text)
        reason = await self._send_directly(message)
        if reason is None:
            return Delivery("direct")
        if on_fallback is not None:
            on_fallback(reason)
        match await self._patiently(partial(self._ask, Save(message.id, recipient, text))):
            case Delivered():
                return Delivery("relayed")
            case Saved(sent_at=sent_at):
                return Delivery("saved", sent_at)
            case Refused(reason=Reason.UNKNOWN):
                raise UnknownRecipient(recipient)
            case Refused(reason=Reason.FULL):
                raise MailboxFull(recipient)
        raise ServerNotResponding

    async def send_all(self, text: str) -> None:
        """Send a message to everyone; return when the server has it safe.

        Raises:
            NotRegistered: one is off line.
            InvalidText: this cannot be sent.
            NameTaken: the server had forgotten us, and somebody else has our name now.
            ServerNotResponding: no answer within five windows.
        """
        check_text(text)
        await self._patiently(partial(self._ask, GroupPost(new_id(), text)))

    async def _send_directly(self, message: messages.Chat) -> Fallback | None:
        name = fold(message.recipient)
        record = self._table.get(name)
        if record is None:
            return Fallback.UNKNOWN
        if not record.online:
            return Fallback.OFFLINE
        if self._detours.get(name, 0.0) > trio.current_time() or self._is_out_of_reach(record):
            return Fallback.DETOUR
        answer = await self._endpoint.request(record.address, message, resend=PROMPT)
        if isinstance(answer, Ack):
            return None
        self._detours[name] = trio.current_time() + DETOUR
        return Fallback.NO_ACK

    def _is_out_of_reach(self, record: Record) -> bool:
        """Someone on the server's own machine, seen there as 127.0.0.1 or ::1, while we are on another one?"""
        return ip_address(record.host).is_loopback and not ip_address(self._server[0]).is_loopback

    async def _ask(self, request: Save | GroupPost) -> Answer:
        """Ask the server; if it does not know us (any longer), register and ask again."""
        for _ in range(ATTEMPTS):
            stay = self._stay
            if stay is None:
                raise NotRegistered
            answer = await self._endpoint.request(self._server, request, windows=ATTEMPTS)
            match answer:
                case None | PartAck():
                    raise ServerNotResponding
                case Refused(reason=Reason.NOT_REGISTERED):
                    await self._return(stay)
                case _:
                    return answer
        raise ServerNotResponding

    async def _patiently(self, ask: Callable[[], Awaitable[T]], *, tell: bool = True) -> T:
        """Ask again and again while the server is silent, if that was wished."""
        pauses = chain(self._pauses, repeat(self._pauses[-1])) if self._pauses else iter(())
        was_silent = False
        while True:
            try:
                answer = await ask()
            except ServerNotResponding:
                pause = next(pauses, None)
                if pause is None:
                    raise
                if tell and not was_silent:
                    self._inbox.offer(ServerSilent())
                was_silent = True
                await trio.sleep(pause)
            else:
                if tell and was_silent:
                    self._inbox.offer(ServerBack())
                return answer

    # --- tasks ---

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with closing(self._inbox):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._endpoint.listen, self._receive)
                nursery.start_soon(self._mail.read)
                nursery.start_soon(self._beat)
                task_status.started()

    async def _enter(self, candidates: list[Address]) -> None:
        await self._find_server(candidates)
        await self._register()

    async def _find_server(self, candidates: list[Address]) -> None:
        """A host name may stand for several addresses: take the one that answers first.

        Where several answers are here at once the last one counts, so the preferred address is asked last.
        """
        if len(candidates) > 1:
            with trio.CancelScope() as race:

                def answered(peer: Peer, answer: Answer) -> None:
                    self._server = peer
                    race.cancel()

                probes = {address: Heartbeat(new_id(), self.name) for address in reversed(candidates)}
                await self._endpoint.fan_out(probes, answered)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_EVERY)
            stay = self._stay
            if stay is None:
                continue
            answer = await self._endpoint.request(self._server, Heartbeat(new_id(), self.name), resend=PROMPT)
            if isinstance(answer, Refused):
                try:
                    await self._return(stay)
                except NameTaken as error:
                    await self._inbox.put(SignedOff(error), lambda: None)
                except ServerNotResponding:
                    continue

    # --- what arrives; called by the reading task ---

    def _receive(self, peer: Peer, request: Request) -> Answer | Reaction:
        if self._stay is None:
            return Reaction.SILENCE
        is_from_server = peer == self._server
        match request:
            case messages.Chat():
                return self._mail.take_message(request)
            case Letters() if is_from_server:
                return self._mail.take_letters(peer, request)
            case TableChange() if is_from_server:
                return self._take_table(request, self._stay)
            case Heartbeat() if is_from_server and fold(request.name) == fold(self.name):
                return request.ack()
        return Reaction.SILENCE

    def _take_table(self, change: TableChange, stay: Registered) -> Answer:
        records = self._table.apply(change, stay.version.epoch)
        if records:
            for record in records:
                self._detours.pop(fold(record.name), None)
            self._table_moved.set()
            self._table_moved = trio.Event()
            self._inbox.table_changed()
        return change.held(self._table.version)
