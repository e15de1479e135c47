"""`open_chat`: the parts of a client are put together, its tasks started, and it registers.

What can be done with it then is in chat.py.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial

from trio_chat import errors
from trio_chat.client.chat import Chat
from trio_chat.client.context import ClientContext
from trio_chat.client.epochs import Epochs
from trio_chat.client.event_queue import BACKLOG, EventQueue
from trio_chat.client.inbox import Inbox
from trio_chat.client.key_pins import KeyPins
from trio_chat.client.memberships import Memberships
from trio_chat.client.registration import Registration
from trio_chat.crypto.identities import Identity
from trio_chat.link.links import Links
from trio_chat.protocol.records import check_name
from trio_chat.protocol.table import ClientTable
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.tasks import open_background
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.udp import UDP, Network


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
    invitation: str = "",
    backlog: int = BACKLOG,
    network: Network = UDP,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Chat]:
    """Register as `name` with the server at (host, port) and chat until the block ends.

    If the block ends normally, the name is deregistered. If it ends by an exception or a cancellation, the server is
    not told. Errors are raised as they are, never in an exception group.

    Args:
        port: the local UDP port; 0 is any free one.
        host: the local address; None is every address of the machine.
        identity: the keys that the name belongs to (see `open_identity`); None makes new ones, for this chat alone.
        server_key: the fingerprint that the server must have; None is the one that `store` remembers, if any.
        store: keeps letters, what was seen, and the keys of others; None keeps them in memory.
        reconnect: if the server does not respond at the start, or lets nobody in because too many come, keep trying
            instead of raising, with pauses of up to 15 seconds, or as long as the server says. Later the events
            `ServerSilent` and `ServerBack` say whether it responds, and what waits in the outbox of an earlier program
            with the same store is sent. Calls still raise ServerNotResponding.
        invitation: the code from the server's operator, if the server takes new names with an invitation only.
        backlog: how many events may wait to be read. Use 0 for a program that only sends: no message and no letter
            is accepted, so they stay with their senders and the server.
        network: where the socket comes from.
        clock: returns seconds since 1970, UTC.

    Raises:
        InvalidName: `name` is not a name.
        NameTaken: it belongs to another key.
        TooManyNames, NoRoom: the key, its address or the server has too many names.
        TooFast: too many registrations with this key or from its address.
        RegistrationClosed, NotInvited: the server takes no new names, or with an invitation only.
        Banned: the operator has banned the name, the key or the address.
        SignedInElsewhere: another program of the owner took the name before the table was complete.
        TooManyPeople: the server sends more than 20,000 names.
        ServerKeyChanged: the server has another key than the one that `store` remembers. Later, each call that would
            raise ServerNotResponding raises this if a server with another key answers at that address.
        WrongServerKey: the server does not have the key `server_key`.
        ServerTooOld, ServerTooNew: it has another version of the protocol. Later as ServerKeyChanged.
        AddressError: the server's host does not resolve, or the local port is in use.
        ServerNotResponding: no answer, at the beginning or at the end.
    """
    check_name(name)
    candidates = await (resolve := partial(network.resolve, *server))()
    if host is not None:
        host, port = (await network.resolve(host, port))[0]
    identity = identity or Identity.new(secrets.token_bytes)
    store = store or MemoryClientStore()
    table, pins, event_queue = ClientTable(), KeyPins(store, server_key), EventQueue(backlog)
    with closing(network.bind(host, port)) as socket:
        endpoint = Endpoint(socket, Links(identity.link, secrets.token_bytes, server=lambda: registration.server))
        memberships = Memberships()
        epochs = Epochs(name, identity, store, pins, memberships)
        context = ClientContext(name, identity, store, table, pins, endpoint, event_queue, clock, memberships, epochs)
        inbox = Inbox(context, lambda entries: chat._private_rooms.get_missing(entries))
        registration = Registration(context, candidates, resolve, inbox, reconnect, invitation)
        chat = Chat(context, registration, inbox)
        async with open_background() as nursery:
            await nursery.start(chat._run)
            await registration.connect()
            chat._opened(resume=reconnect)
            yield chat
            if chat.online:
                # Not so any longer if another program of the owner takes the name while this waits for its turn.
                with suppress(errors.NotRegistered):
                    await chat.deregister()
