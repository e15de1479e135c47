"""The program behind `server`. What it prints is in table_printer.py, the commands for a running one in operator.py.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py.
"""

import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import click
import trio

from trio_chat.cli.arguments import IN_MEMORY
from trio_chat.cli.keys import server_file
from trio_chat.cli.log_printer import LogPrinter
from trio_chat.cli.table_printer import OutputThread, TablePrinter, TableView
from trio_chat.crypto.identities import Identity
from trio_chat.errors import StoreHeld
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_presence
from trio_chat.protocol.records import Record, fingerprint
from trio_chat.server.moderation import RegistrationMode
from trio_chat.server.server import serve_chat
from trio_chat.server.sessions import RoomEvent
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.interface import ServerStore
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store
from trio_chat.tasks import open_background
from trio_chat.terminal.wordings import show_address
from trio_chat.transport.udp import own_addresses

WAITING_CHANGES = 4096


async def run_server(
    port: int,
    host: str | None,
    store: str | None,
    keys: str | None,
    presence: tuple[str, int] | None,
    registration: RegistrationMode = RegistrationMode.OPEN,
    discovery: bool = True,
) -> None:
    """Serve a chat until cancelled, and presence at that (host, port) if given; print the table and the addresses.

    Raises AddressError in an exception group; StoreError, IdentityError.
    """
    identity = open_identity(Path(keys) if keys else server_file(port, "key"))
    path = Path(store) if store else server_file(port, "db")
    opening = nullcontext(MemoryServerStore()) if store == IN_MEMORY else open_stopped_store(path)
    async with opening as opened, open_background() as background, trio.open_nursery() as nursery:
        roster, output = Roster(), OutputThread(sys.stdout)
        control = partial(server_file, kind="sock")
        serve = partial(serve_chat, registration=registration, control=control, discovery=discovery)
        address = await nursery.start(
            partial(serve_and_print, port, host, opened, output.write, roster, identity, serve=serve)
        )
        if presence:
            presence = await nursery.start(partial(serve_presence, presence[1], host=presence[0], roster=roster))
        # Before anything is printed: a user who has read it may press Ctrl-C.
        await background.start(_interrupt_all)
        await background.start(LogPrinter(OutputThread(sys.stderr).write).run)
        click.echo(f"Listening on {show_address(address)}", err=True)
        click.echo(f"Key: {fingerprint(identity.public.signing)}", err=True)
        # `::` and 0.0.0.0 are all addresses of this machine: nobody can type them to reach it.
        for own in own_addresses() if ip_address(address[0]).is_unspecified else ():
            code = " --invitation CODE" if registration is RegistrationMode.INVITATION else ""
            click.echo(f"Others join with: trio-chat client NAME {own} {address[1]}{code}", err=True)
        if registration is RegistrationMode.OPEN and await _has_invitations(opened):
            click.echo(
                "There are invitations that were not used, but anybody may register a new name. To require invitations,"
                " use --registration invitation",
                err=True,
            )
        if presence:
            click.echo(f"Presence on {show_address(presence)}", err=True)


async def _has_invitations(store: ServerStore) -> bool:
    """Whether invitations of an earlier run could still be used: its operator may have forgotten the option."""
    _, invitations = await store.rules()
    return any(one.until > time.time() for one in invitations)


@asynccontextmanager
async def open_stopped_store(path: Path) -> AsyncIterator[ServerStore]:
    """Open the store of a server that does not run. Raises StoreError, StoreHeld if it does."""
    try:
        async with open_server_store(path) as store:
            yield store
    except StoreHeld as error:
        raise StoreHeld(f"a server is running with the store {path}: stop it first") from error


async def _interrupt_all(task_status: trio.TaskStatus[None]) -> None:
    # Otherwise Ctrl-C is raised in whichever task runs. In one of the chat's, it would end the chat first, and for a
    # moment the presence service would go on and report to its watchers that everybody has gone.
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            raise KeyboardInterrupt


async def serve_and_print(
    port: int,
    host: str | None,
    store: ServerStore,
    write: Callable[[str], Awaitable[object]],
    roster: Roster | None = None,
    identity: Identity | None = None,
    *,
    serve: Callable[..., Awaitable[None]] = serve_chat,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chat until cancelled, and print the changes of its table by `write`. `identity`: None makes new keys.

    `serve`: serve_chat, perhaps with more arguments.

    Raises AddressError, in an exception group.
    """
    changes_in, changes = trio.open_memory_channel[Record | RoomEvent](WAITING_CHANGES)
    names, _ = await store.load(lambda entries: None)
    printer = TablePrinter(TableView(known.record for known in names), write)
    async with trio.open_nursery() as nursery:
        start = partial(serve, port, host=host, store=store, events=changes_in, roster=roster, identity=identity)
        task_status.started(await nursery.start(start))
        await printer.run(changes)
