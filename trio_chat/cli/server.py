"""The programs behind the server commands: a chat served, its table printed and worded; a name freed.

The commands themselves are declared in cli/main.py, which also runs these and turns what they raise into exit codes.
"""

import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import trio

from trio_chat.cli.keys import IN_MEMORY, server_file
from trio_chat.crypto.identities import Identity
from trio_chat.errors import StoreError, UnknownRecipient
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_presence
from trio_chat.protocol.records import Record, fingerprint, fold
from trio_chat.server.server import serve_chat
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.interface import ServerStore
from trio_chat.storage.memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store
from trio_chat.terminal.screen import PROMPT
from trio_chat.terminal.wordings import show_address

__all__ = ["TableLog", "forget", "run_server", "show_server"]

WHOLE_TABLE = 50
"""Up to so many names, each change prints the whole table."""

WAITING_CHANGES = 4096

Say = Callable[[str], object]
Listening = trio.TaskStatus[tuple[str, int]]


class TableLog:
    """The server's client table as its print-outs show it."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str, int, bool]] = {}

    def take(self, record: Record) -> tuple[str, str, int, bool]:
        """Take in a row, new or changed; return it as it is shown."""
        row = (record.name, record.host, record.port, record.online)
        self._rows[fold(record.name)] = row
        return row

    def lines(self, record: Record) -> tuple[str, str]:
        """Take in a changed row; return the two lines that tell it. Above 50 names they show that row alone."""
        row = self.take(record)
        shown = self._rows.values() if len(self._rows) <= WHOLE_TABLE else [row]
        return (f"{PROMPT}[Client table updated.]", str({row[0]: row for row in shown}))


async def run_server(
    port: int,
    host: str | None,
    store: ServerStore,
    say: Say,
    roster: Roster | None = None,
    identity: Identity | None = None,
    *,
    task_status: Listening = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chat until cancelled and say each change of its table; without an identity, with keys for this run.

    Raises AddressError, in an exception group.
    """
    changes_in, changes = trio.open_memory_channel[Record](WAITING_CHANGES)
    log = TableLog()
    for record in (await store.load())[0]:
        log.take(record)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_chat, port, host=host, store=store, events=changes_in, roster=roster, identity=identity)
        task_status.started(await nursery.start(serve))
        async for record in changes:
            for line in log.lines(record):
                say(line)


async def show_server(
    port: int, host: str | None, store: str | None, keys: str | None, presence: tuple[str, int] | None
) -> None:
    """Serve a chat, and presence at that (host, port) if there is one, until cancelled; print the table and where.

    Raises AddressError in an exception group; StoreError, IdentityError.
    """
    identity = open_identity(Path(keys) if keys else server_file(port, "key"))
    path = Path(store) if store else server_file(port, "db")
    opening = nullcontext(MemoryServerStore()) if store == IN_MEMORY else open_server_store(path)
    async with opening as opened, trio.open_nursery() as interrupts:
        async with trio.open_nursery() as nursery:
            roster = Roster()
            address = await nursery.start(run_server, port, host, opened, click.echo, roster, identity)
            if presence:
                serve = partial(serve_presence, presence[1], host=presence[0], roster=roster)
                presence = await nursery.start(serve)
            click.echo(f"Listening on {show_address(address)}", err=True)
            click.echo(f"Key: {fingerprint(identity.public.signing)}", err=True)
            if presence:
                click.echo(f"Presence on {show_address(presence)}", err=True)
            interrupts.start_soon(_interrupt_all)
        interrupts.cancel_scope.cancel()


async def _interrupt_all() -> None:
    # Otherwise Ctrl-C is raised in whichever task runs. In one of the chat's, it would end the chat first, and for a
    # moment the presence service would go on and tell its watchers that everybody has gone.
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            raise KeyboardInterrupt


async def forget(name: str, path: Path) -> None:
    """Free a name in a server's store, so that the next one who registers it has it, and say so.

    Raises UnknownRecipient; StoreError where there is no store, or a running server holds it.
    """
    if not await trio.Path(path).is_file():
        raise StoreError(f"there is no store {path}")
    async with open_server_store(path) as store:
        if not await store.forget(name):
            raise UnknownRecipient(name)
    click.echo(f"The name {name} is free.")
