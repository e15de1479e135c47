"""A chat as a library: register, send, send to all, leave, and hear what others say.

The tasks of one client around one endpoint. What a person sees of it is the console's business.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from ipaddress import ip_address

import trio

from trio_chat.client.event_queue import BACKLOG, EventQueue
from trio_chat.client.events import Delivery, Entry, Event, Fallback
from trio_chat.client.inbox import Inbox
from trio_chat.client.registration import Registration
from trio_chat.client.trust import Trust
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import Unreadable, seal_letter, sign_post
from trio_chat.crypto.receipts import verify_receipt, verify_unreadable
from trio_chat.errors import (
    ForgedReceipt,
    InvalidRecipient,
    MailboxFull,
    NotOpened,
    NotRegistered,
    ServerNotResponding,
    TooFast,
    UnknownRecipient,
)
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol import messages
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import (
    Answer,
    Confirm,
    Delivered,
    Find,
    Found,
    GroupPost,
    Heartbeat,
    Letters,
    Receipt,
    Refused,
    Request,
    Save,
    Saved,
    TableChange,
    Takeover,
)
from trio_chat.protocol.records import PublicKeys, Reason, Record, check_name, check_text, fold
from trio_chat.protocol.table import ClientTable
from trio_chat.storage.interface import ClientStore
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.tasks import open_background
from trio_chat.transport.endpoint import RESEND_DELAYS, Endpoint, new_id
from trio_chat.transport.udp import UDP, Network

__all__ = ["Chat", "open_chat"]

DETOUR = 60.0
"""Seconds for which a peer that did not answer directly is reached by the server at once."""


@asynccontextmanager
async def open_chat(
    name: str,
    server: tuple[str, int],
    *,
    port: int = 0,
    host: str | None = None,
    identity: Identity | None = None,
    server_key: str | None = None,
    store: ClientStore | None = None,
    reconnect: bool = False,
    backlog: int = BACKLOG,
    network: Network = UDP,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator["Chat"]:
    """Register as `name` with the server at (host, port) and chat until the block ends.

    A block that ends normally deregisters; one that ends by an exception or a cancellation leaves without a word.
    Errors come out as they are, never in an exception group.

    Args:
        port: the local UDP port; 0 is any that is free.
        host: the local address; None is every address of the machine.
        identity: the keys that the name belongs to (see `open_identity`); None makes new ones, for this chat alone.
        server_key: the fingerprint that the server must have; None is the one that `store` knows it by, if any.
        store: keeps letters received, what was seen, and by which keys others are known; None keeps it in memory.
        reconnect: where the server does not respond, keep trying instead of raising, with pauses that grow up to
            15 seconds. `ServerSilent` and `ServerBack` are told. Leaving is tried once all the same.
        backlog: how many events may wait to be read. 0 is for who only sends and reads none: no message and no letter
            is taken, so that they stay with their senders and the server.
        network: where the socket comes from.
        clock: tells seconds since 1970, UTC.

    Raises:
        InvalidName: `name` is not a name.
        NameTaken: it belongs to another key.
        ServerKeyChanged: the server has another key than `store` knows it by.
        WrongServerKey: the server does not have the key `server_key`.
        AddressError: the server's host does not resolve, or the local port is in use.
        ServerNotResponding: nobody answers there, at the beginning or at the end.
    """
    check_name(name)
    candidates = await network.resolve(*server)
    if host is not None:
        host, port = (await network.resolve(host, port))[0]
    own = identity or Identity.new(secrets.token_bytes)
    kept = store or MemoryClientStore()
    table, inbox, trust = ClientTable(), EventQueue(backlog), Trust(kept, server_key)
    with closing(network.bind(host, port)) as socket:
        endpoint = Endpoint(socket, Links(own.link, secrets.token_bytes))
        mail = Inbox(name, own, trust, table, endpoint, kept, inbox, clock)
        membership = Registration(name, candidates, own, trust, table, endpoint, inbox, mail, reconnect)
        chat = Chat(membership, clock)
        async with open_background() as nursery:
            await nursery.start(chat._run)
            await membership.enter()
            chat._is_open = True
            yield chat
            if chat.online:
                await chat.deregister()


class Chat:
    """One person's place in the chat; see `open_chat`."""

    def __init__(self, membership: Registration, clock: Callable[[], float]) -> None:
        self.name = membership.name
        self._membership = membership
        self._identity = membership.identity
        self._trust = membership.trust
        self._table = membership.table
        self._endpoint = membership.endpoint
        self._inbox = membership.inbox
        self._mail = membership.mail
        self._store = membership.mail.store
        self._clock = clock
        self._detours: dict[str, tuple[Record, float]] = {}
        self._is_open = False

    @property
    def table(self) -> Mapping[str, Record]:
        """Who is known to the server: names to records. A live view; look-ups ignore case."""
        return self._table

    @property
    def untrusted(self) -> set[str]:
        """The names in the table, in lower case, that have another key than we know them by; see `trust`."""
        return self._trust.changed(self._table)

    @property
    def online(self) -> bool:
        """Is this client registered, as far as it knows?"""
        return self._membership.stay is not None

    @property
    def waiting(self) -> int:
        """How many letters waited at the latest registration, receipts not counted."""
        return self._membership.stay.waiting if self._membership.stay else 0

    @property
    def events(self) -> AsyncIterator[Event]:
        """What others say, as it comes. At most `backlog` events wait; beyond, the server keeps the messages."""
        return self._inbox

    # --- coming and going ---

    async def register(self) -> int:
        """Come on line; return when the table is here, with the number of letters waiting (receipts not counted).

        Raises:
            NameTaken: the name belongs to another key.
            ServerNotResponding: no answer within five windows, or no table.
        """
        return await self._membership.register()

    async def deregister(self) -> None:
        """Go off line; letters are stored from now on.

        Raises:
            NotRegistered: already off line.
            ServerNotResponding: no answer within five windows; one is still on line, then.
        """
        await self._membership.deregister()

    def trust(self, name: str) -> str:
        """Believe that the key which the server gives for this name now is right; return its fingerprint.

        Raises UnknownRecipient if the server gives none.
        """
        record = self._table.get(name)
        if record is None or record.credentials is None:
            raise UnknownRecipient(name)
        self._trust.accept(record)
        return record.fingerprint

    # --- what was written ---

    async def history(self, name: str | None = None, count: int = 20) -> list[Entry]:
        """The newest messages, oldest first: all that were sent and came, or those to and from one person.

        A direct message is there when it has been acknowledged, a letter when it has been read from `events`. What
        somebody wrote to everyone is among what came from him. Raises NoHistory if the store keeps none.
        """
        return await self._store.history(name, count)

    async def search(self, words: str, count: int = 20) -> list[Entry]:
        """The newest messages with all these words in their texts, oldest first.

        Case and accents do not matter; the last word may be the beginning of one. The first 32 words count.
        Raises NoHistory if the store keeps none.
        """
        return await self._store.search(words, count)

    # --- sending ---

    async def send(
        self, recipient: str, text: str, *, on_fallback: Callable[[Fallback], object] | None = None
    ) -> Delivery:
        """Send a message to one person: directly, else by the server, which cannot read it.

        `on_fallback` is called with the reason just before the message goes to the server.

        Raises:
            NotRegistered: one is off line.
            InvalidName, InvalidRecipient, InvalidText: this cannot be sent.
            UnknownRecipient: the server knows nobody by that name.
            KeyChanged: the recipient has another key than we know him by.
            MailboxFull: the recipient is away and has too many letters.
            TooFast: too many letters to this recipient.
            NotOpened: the recipient has it by the server, and could not open it.
            ForgedReceipt: the server says that the recipient has it, and shows a receipt that is not his.
            NameTaken, SignedInElsewhere: the server had forgotten us, and we could not come back.
            ServerNotResponding: neither the recipient nor the server answers.
        """
        if not self.online:
            raise NotRegistered
        check_name(recipient)
        if fold(recipient) == fold(self.name):
            raise InvalidRecipient
        check_text(text)
        record = self._table.get(recipient) or await self._find(recipient)
        keys = self._trust.keys(record)
        if keys is None:
            raise UnknownRecipient(recipient)
        message = messages.DirectMessage(new_id(), self.name, recipient, text)
        reason = await self._send_directly(message, record, keys)
        if reason is None:
            delivery = Delivery("direct")
        else:
            if on_fallback is not None:
                on_fallback(reason)
            delivery = await self._send_letter(message, keys)
        self._store.note(Entry(self._clock(), record.name, text, sent=True))
        return delivery

    async def send_all(self, text: str) -> None:
        """Send a message to everyone, signed but not sealed; return when the server has it safe.

        Raises:
            NotRegistered: one is off line.
            InvalidText: this cannot be sent.
            NameTaken, SignedInElsewhere: the server had forgotten us, and we could not come back.
            ServerNotResponding: no answer within five windows.
        """
        check_text(text)
        id_ = new_id()
        body = sign_post(self._identity, id=id_, sender=self.name, sent_at=self._clock(), text=text)
        await self._membership.ask(GroupPost(id_, body))
        self._store.note(Entry(self._clock(), "", text, sent=True, group=True))

    async def _find(self, name: str) -> Record:
        """The row of someone who is not in the table: he may have just come."""
        match await self._membership.ask(Find(new_id(), name)):
            case Found(record=record) if fold(record.name) == fold(name):
                return record
        raise UnknownRecipient(name)

    async def _send_directly(
        self, message: messages.DirectMessage, record: Record, keys: PublicKeys
    ) -> Fallback | None:
        if not record.online:
            return Fallback.OFFLINE
        if self._is_on_a_detour(record) or self._is_out_of_reach(record):
            return Fallback.DETOUR
        answer = await self._endpoint.request(Peer(record.address, keys.link), message, resend=RESEND_DELAYS)
        if isinstance(answer, Receipt) and self._is_receipt(answer.receipt, message, keys):
            return None
        self._detours[fold(record.name)] = (record, trio.current_time() + DETOUR)
        return Fallback.NO_ACK

    async def _send_letter(self, message: messages.DirectMessage, keys: PublicKeys) -> Delivery:
        recipient = message.recipient
        try:
            body = seal_letter(
                self._identity,
                keys,
                id=message.id,
                sender=self.name,
                recipient=recipient,
                sent_at=self._clock(),
                text=message.text,
            )
        except Unreadable:
            raise UnknownRecipient(recipient) from None
        match await self._membership.ask(Save(message.id, recipient, body)):
            case Delivered() as delivered:
                self._check(delivered, message, keys)
                return Delivery("relayed")
            case Saved(sent_at=sent_at):
                return Delivery("saved", sent_at)
            case Refused(reason=Reason.UNKNOWN):
                raise UnknownRecipient(recipient)
            case Refused(reason=Reason.FULL):
                raise MailboxFull(recipient)
            case Refused(reason=Reason.TOO_FAST):
                raise TooFast
        raise ServerNotResponding

    def _check(self, delivered: Delivered, message: messages.DirectMessage, keys: PublicKeys) -> None:
        """The server cannot say so by itself."""
        if delivered.opened:
            if not self._is_receipt(delivered.receipt, message, keys):
                raise ForgedReceipt(message.recipient)
        elif verify_unreadable(keys.signing, delivered.receipt, id=message.id, sender=self.name):
            raise NotOpened(message.recipient)
        else:
            raise ForgedReceipt(message.recipient)

    def _is_receipt(self, receipt: bytes, message: messages.DirectMessage, keys: PublicKeys) -> bool:
        return verify_receipt(receipt, keys.signing, id=message.id, sender=self.name, text=message.text)

    def _is_on_a_detour(self, record: Record) -> bool:
        """Has he been silent lately? Where his row has changed since, it is worth another try."""
        then, until = self._detours.get(fold(record.name), (None, 0.0))
        return then == record and until > trio.current_time()

    def _is_out_of_reach(self, record: Record) -> bool:
        """Someone on the server's own machine, seen there as 127.0.0.1 or ::1, while we are on another one?"""
        return ip_address(record.host).is_loopback and not ip_address(self._membership.server.address[0]).is_loopback

    # --- tasks, and what arrives ---

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with closing(self._inbox):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._endpoint.listen, self._receive, self._membership.moved)
                nursery.start_soon(self._mail.read)
                nursery.start_soon(self._membership.beat)
                task_status.started()

    def _receive(self, peer: Peer, request: Request) -> Answer | Reaction:
        stay = self._membership.stay
        is_from_server = peer == self._membership.server
        if isinstance(request, Confirm) and is_from_server:
            return self._membership.confirm(request)
        if stay is None:
            return Reaction.SILENCE
        match request:
            case messages.DirectMessage() if (
                self._is_open
            ):  # a message that nobody can read yet is better kept by the server
                return self._mail.take_message(peer, request)
            case Letters() if is_from_server:
                return self._mail.take_letters(peer, request)
            case TableChange() if is_from_server:
                return self._membership.take_table(request, stay)
            case Takeover() if is_from_server:
                return self._membership.take_takeover(request, stay)
            case Heartbeat() if is_from_server and fold(request.name) == fold(self.name):
                return request.ack()
        return Reaction.SILENCE
