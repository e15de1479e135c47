"""The program behind `client`, and the options by which a client is opened.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py; what its lines mean is in
terminal/conversation.py.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from trio_chat.cli.arguments import IN_MEMORY
from trio_chat.cli.keys import client_file, other_addresses, typed_lines_file
from trio_chat.cli.running import complain, run
from trio_chat.client.chat import Chat
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.event_queue import BACKLOG
from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import Identity
from trio_chat.errors import (
    AddressError,
    ChatError,
    NameTaken,
    NoRoom,
    NotInvited,
    RegistrationClosed,
    StoreHeld,
    TooManyNames,
)
from trio_chat.protocol.records import EVERYONE_NAME, check_name, fold
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.json_lines import JsonRenderer
from trio_chat.terminal.lasting import run_lasting_conversation
from trio_chat.terminal.line_reader import LINES_AHEAD, lines_left
from trio_chat.terminal.phrases import Wording
from trio_chat.terminal.results import Renderer
from trio_chat.terminal.screen import Screen, read_lines
from trio_chat.terminal.wordings import Phrasebook

if TYPE_CHECKING:
    from trio_chat.terminal.prompt import Prompt

WAITING_LINES = 16
"""How many lines of a pipe are read before they are done. At a terminal it is LINES_AHEAD: lines that were read can be
named if the program ends before they are done."""

END_WITHIN = 1
"""Seconds in which a program that is told to end deregisters. Who ended it, perhaps the system, does not wait long."""

_NEVER_REGISTERED = (NameTaken, TooManyNames, NoRoom, RegistrationClosed, NotInvited, AddressError)
"""With these at the start, a new key has registered nothing. After others the server may have it."""


@attrs.frozen
class ClientOptions:
    """Who chats, at which server, from which UDP port, and how. A `store` or `identity` of None is the default file."""

    name: str
    server: tuple[str, int]
    port: int = 0
    store: str | None = None
    identity: str | None = None
    server_key: str | None = None
    stay: bool = False
    reconnect: bool = False
    history: bool = True
    invitation: str = ""
    told_to_end: trio.Event = attrs.field(init=False, factory=trio.Event, eq=False, repr=False)
    _new_keys: list[Path] = attrs.field(init=False, factory=list, eq=False, repr=False)
    _open_chats: list[Chat] = attrs.field(init=False, factory=list, eq=False, repr=False)

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[ClientStore]:
        """Open the store; complain if a file of it is missing. Raises InvalidName, StoreError."""
        if self.store == IN_MEMORY:
            yield MemoryClientStore(history=self.history)
            return
        path = Path(self.store) if self.store else client_file(self.name, self.server, "db")
        try:
            async with open_client_store(path, history=self.history) as store:
                if store.lost_since is not None:
                    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(store.lost_since))
                    complain(
                        f"WARNING: {path}-wal is missing. What came or was sent since {since} may be lost:"
                        " if you have a copy of both files, end this program and put them back"
                    )
                yield store
        except StoreHeld as error:
            # A store that was named may be that of another name.
            who = f"another program with the store {path}" if self.store else self.name
            raise StoreHeld(f"{who} is already running here: go on there, or end that program first") from error

    def open_identity(self) -> Identity:
        """Read the keys, or make them. Raises InvalidName, IdentityError."""
        check_name(self.name)  # before a file is made, even one whose name was given
        if self.identity:
            return open_identity(Path(self.identity))
        path = client_file(self.name, self.server, "key")
        self._new_keys[:] = [] if path.exists() else [path]
        return open_identity(path)

    def hint_if_taken(self) -> str:
        """Advice for the owner of a name that is taken; empty if they have said where their key is."""
        if self.identity or fold(self.name) == EVERYONE_NAME:
            return ""
        others = other_addresses(self.name, self.server)
        if not others:
            return f"if {self.name} is yours and its key file is lost, ask the operator of the server to free it"
        return (
            f"you have a key of {self.name} for {' and '.join(others)}: if that is the same server, type it like that"
        )

    @asynccontextmanager
    async def open_chat(self, identity: Identity, store: ClientStore, backlog: int = BACKLOG) -> AsyncIterator[Chat]:
        """Register; raises as `open_chat` does. A key that was made for a name that it cannot get is removed."""
        opening = open_chat(
            self.name,
            self.server,
            identity=identity,
            server_key=self.server_key,
            port=self.port,
            store=store,
            reconnect=self.reconnect,
            invitation=self.invitation,
            backlog=backlog,
        )
        async with AsyncExitStack() as stack:
            try:
                chat = await stack.enter_async_context(opening)
            except _NEVER_REGISTERED:
                # `fingerprint` and the advice for those whose name is taken would show it as theirs.
                for path in self._new_keys:
                    path.unlink(missing_ok=True)
                raise
            self._open_chats.append(chat)
            try:
                yield chat
            finally:
                self._open_chats.remove(chat)

    async def leave(self) -> None:
        """Keep what is typed, and deregister, if a chat is open; give up after END_WITHIN seconds."""
        self.told_to_end.set()
        if self.reconnect:
            await trio.sleep(END_WITHIN)  # it ends by itself meanwhile, and this is cancelled
            return
        for chat in self._open_chats:
            # The program may be deregistering already.
            with trio.move_on_after(END_WITHIN), suppress(ChatError):
                await chat.deregister()


def run_chat(options: ClientOptions, wording: str, as_json: bool, bell: bool) -> int:
    """Chat on the standard streams, at a prompt if they are a terminal; return the exit code."""
    if as_json:
        screen, as_lines = Screen(sys.stdout, mark=""), JsonRenderer()
        return run(partial(run_client, options, screen, as_lines), screen, as_lines, options)
    is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    book = Phrasebook(Wording(wording), options.name, is_terminal)
    if is_terminal and os.name == "posix" and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown"):
        # Only here, because prompt_toolkit takes longer to import than everything else together.
        from trio_chat.terminal.prompt import open_prompt

        typed = typed_lines_file() if options.history else None
        prompt = open_prompt(book, typed, bell=bell)
        return run(partial(run_client_at_terminal, options, prompt, book), prompt, book, options)
    screen = Screen(sys.stdout, prompt=is_terminal)
    return run(partial(run_client, options, screen, book), screen, book, options)


async def run_client(options: ClientOptions, screen: Screen, renderer: Renderer) -> None:
    """Chat from standard input to the screen until `exit` or the end of input. Raises as `run_conversation` does."""
    identity = options.open_identity()
    # If standard input is closed, its number may belong to another file by now: read nothing instead.
    fd = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()
    is_terminal = os.isatty(fd)
    lines_in, lines = trio.open_memory_channel[str](LINES_AHEAD if is_terminal else WAITING_LINES)
    async with options.open_store() as store, trio.open_nursery() as nursery:
        nursery.start_soon(read_lines, fd, lines_in, screen.show_prompt)
        opening = options.open_chat(identity, store)
        early_outbox = EarlyOutbox(options.name, store, time.time)
        if options.reconnect:
            await run_lasting_conversation(
                *(opening, lines, screen.show, renderer, early_outbox),
                stay=options.stay,
                is_terminal=is_terminal,
                told_to_end=options.told_to_end,
            )
        else:
            left = partial(lines_left, lines) if is_terminal else tuple
            await run_conversation(opening, lines, screen.show, renderer, stay=options.stay, left=left)
        nursery.cancel_scope.cancel()


async def run_client_at_terminal(options: ClientOptions, prompt: "Prompt", book: Phrasebook) -> None:
    """Chat at a prompt until `exit` or Ctrl-D. Raises as `run_conversation` does."""
    identity = options.open_identity()
    lines_in, lines = trio.open_memory_channel[str](LINES_AHEAD)
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with options.open_store() as store, trio.open_nursery() as nursery:
            # The prompt comes first: what the chat prints, it prints above the prompt.
            await nursery.start(prompt.run, lines_in)
            nursery.start_soon(_interrupt, signals)
            opening = _with_names(prompt, options.open_chat(identity, store))
            early_outbox = EarlyOutbox(options.name, store, time.time)
            ready, stay = prompt.ready, options.stay
            if options.reconnect:
                await run_lasting_conversation(
                    *(opening, lines, prompt.show, book, early_outbox),
                    ready=ready,
                    stay=stay,
                    is_terminal=True,
                    told_to_end=options.told_to_end,
                )
            else:
                left = partial(lines_left, lines)
                await run_conversation(opening, lines, prompt.show, book, ready=ready, stay=stay, left=left)
            nursery.cancel_scope.cancel()


async def _interrupt(signals: AsyncIterator[int]) -> None:
    # By way of the tasks, so that the prompt can restore the terminal.
    async for _ in signals:
        raise KeyboardInterrupt


@asynccontextmanager
async def _with_names(prompt: "Prompt", opening: AbstractAsyncContextManager[Chat]) -> AsyncIterator[Chat]:
    """Open a chat, and let the prompt complete the names of others and of rooms."""
    async with opening as chat:
        prompt.rooms = lambda: chat.known_rooms
        prompt.names = lambda: [row.name for row in chat.table.values() if row.name != chat.name]
        yield chat
