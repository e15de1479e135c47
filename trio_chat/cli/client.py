"""The program behind `client`: who talks to which server, with which keys and store, from which lines.

The command itself is declared in cli/main.py, which also runs this and turns what it raises into exit codes.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from trio_chat.cli.keys import IN_MEMORY, client_file
from trio_chat.client.chat import Chat, open_chat
from trio_chat.crypto.identities import Identity
from trio_chat.protocol.records import check_name
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.interface import ClientStore
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.results import Renderer
from trio_chat.terminal.screen import Screen, read_lines
from trio_chat.terminal.wordings import Phrasebook

if TYPE_CHECKING:
    from trio_chat.terminal.prompt import Prompt

__all__ = ["TERMINATED", "ClientOptions", "talk", "talk_at_terminal"]

TERMINATED = 128 + signal.SIGTERM
"""The exit code at SIGTERM, as a shell has it."""
WAITING_LINES = 16


@attrs.frozen
class ClientOptions:
    """Who talks, to which server, from where, and how. What is None is in the user's data folder."""

    name: str
    server: tuple[str, int]
    port: int = 0
    store: str | None = None
    identity: str | None = None
    server_key: str | None = None
    stay: bool = False
    reconnect: bool = False
    history: bool = True

    def open_store(self) -> AbstractAsyncContextManager[ClientStore]:
        """Open the store. Raises InvalidName, StoreError."""
        if self.store == IN_MEMORY:
            return nullcontext(MemoryClientStore(history=self.history))
        path = Path(self.store) if self.store else client_file(self.name, self.server, "db")
        return open_client_store(path, history=self.history)

    def open_identity(self) -> Identity:
        """Read the keys, or make them. Raises InvalidName, IdentityError."""
        return open_identity(Path(self.identity) if self.identity else client_file(self.name, self.server, "key"))

    def open_chat(self, identity: Identity, store: ClientStore) -> AbstractAsyncContextManager[Chat]:
        """Register; raises as `open_chat` does."""
        return open_chat(
            self.name,
            self.server,
            identity=identity,
            server_key=self.server_key,
            port=self.port,
            store=store,
            reconnect=self.reconnect,
        )


async def talk(place: ClientOptions, screen: Screen, book: Renderer) -> None:
    """Chat from standard input to the screen until `exit` or the end of input. Raises as `run_conversation` does."""
    check_name(place.name)
    identity = place.open_identity()
    # Where standard input is closed, its number may be given to something else: read nothing, then.
    fd = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()
    lines_in, lines = trio.open_memory_channel[str](WAITING_LINES)
    async with place.open_store() as store, trio.open_nursery() as nursery:
        nursery.start_soon(read_lines, fd, lines_in, screen.show_prompt)
        opening = place.open_chat(identity, store)
        stay, reconnect = place.stay, place.reconnect
        await run_conversation(opening, lines, screen.show, book, stay=stay, reconnect=reconnect)
        nursery.cancel_scope.cancel()


async def talk_at_terminal(place: ClientOptions, prompt: "Prompt", book: Phrasebook) -> int | None:
    """Chat at a prompt until `exit`, Ctrl-D or SIGTERM; return the exit code. Raises as `run_conversation` does."""
    check_name(place.name)
    identity = place.open_identity()
    lines_in, lines = trio.open_memory_channel[str](WAITING_LINES)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, trio.CancelScope() as life:
        async with place.open_store() as store, trio.open_nursery() as nursery:
            await nursery.start(prompt.run, lines_in)
            nursery.start_soon(_end_at, signals, life)
            opening = _with_names(prompt, place.open_chat(identity, store))
            ready, stay, reconnect = prompt.ready, place.stay, place.reconnect
            await run_conversation(opening, lines, prompt.show, book, ready=ready, stay=stay, reconnect=reconnect)
            nursery.cancel_scope.cancel()
    return TERMINATED if life.cancelled_caught else None


async def _end_at(signals: AsyncIterator[int], life: trio.CancelScope) -> None:
    async for number in signals:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        life.cancel()


@asynccontextmanager
async def _with_names(prompt: "Prompt", opening: AbstractAsyncContextManager[Chat]) -> AsyncIterator[Chat]:
    async with opening as chat:
        prompt.names = lambda: [row.name for row in chat.table.values() if row.online and row.name != chat.name]
        yield chat
