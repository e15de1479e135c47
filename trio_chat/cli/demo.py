"""The program behind `demo`: a server and three clients that show a newcomer a conversation.

Sockets and conversations are real. Here is only what the three type, and the lines that must then appear.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from trio_chat.cli.exit_codes import DONE, FAILED
from trio_chat.cli.server import serve_and_print
from trio_chat.client.chat import Chat
from trio_chat.client.opening import open_chat
from trio_chat.protocol.records import Record
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

HOST = "127.0.0.1"
STEP_TIMEOUT = 30.0
"""In seconds, for each line that must appear. A busy machine may need some of them."""

CONVERSATION = """\
# Alice, Bob and Carol join.
alice joins
alice | [Welcome, You are registered.]
bob joins
bob | [Welcome, You are registered.]
carol joins
carol | [Welcome, You are registered.]
# Alice writes to Bob. The message goes directly to Bob's program, which acknowledges it.
alice < send bob Hello, Bob!
bob | alice: Hello, Bob!
alice | [Message received by bob.]
# Bob goes offline.
bob < dereg
bob | [You are Offline. Bye.]
# Carol writes to everyone. The server passes it on to those who are online, and keeps it for Bob.
carol < send_all Lunch at noon?
carol | [Group Message received by Server.]
alice | Group Chat carol: Lunch at noon?
# Alice writes to Bob, who is away. The server keeps the message.
alice knows bob
alice < send bob Are you coming?
alice | [Offline Message sent at HH:MM:SS received by the server and saved.]
# Bob comes back and gets both messages. Alice gets a receipt.
bob < reg
bob | [RegSent]
bob | [You have offline messages:]
bob | Group Chat carol: HH:MM:SS Lunch at noon?
bob | alice: HH:MM:SS Are you coming?
alice | [Offline Message sent at HH:MM:SS received by bob.]
# Bob answers both of them.
bob < send_all On my way.
alice | Group Chat bob: On my way.
carol | Group Chat bob: On my way.
# All three leave.
alice < exit
alice | [You are Offline. Bye.]
bob < exit
bob | [You are Offline. Bye.]
carol < exit
carol | [You are Offline. Bye.]
"""
"""`#`: a heading. `joins`: a client starts. `<`: its user types a line. `|`: the client must print this line next, or
after others that do not matter. HH:MM:SS is any time. `knows`: the client must have heard that somebody is away before
its user goes on. Tables come up to 0.1 s late, and nobody types as fast as this.
"""


class _DemoClient:
    """One client: its typed lines, and the printed lines that have not been checked yet."""

    def __init__(self, name: str, echo: Callable[[str], object]) -> None:
        self.name = name
        self._echo = echo
        self._table: Mapping[str, Record] = {}
        self._typed_in, self._typed = trio.open_memory_channel[str](1)
        self._printed_in, self._printed = trio.open_memory_channel[str](1000)

    async def run(self, server: tuple[str, int]) -> None:
        await run_conversation(self._open(server), self._typed, self._show, Phrasebook())

    @asynccontextmanager
    async def _open(self, server: tuple[str, int]) -> AsyncIterator[Chat]:
        async with open_chat(self.name, server, host=HOST) as chat:
            self._table = chat.table
            yield chat

    async def know_is_away(self, name: str) -> None:
        """Wait until the client knows that somebody is away."""
        while self._table[name].online:  # noqa: ASYNC110 - the events are for the conversation
            await trio.sleep(0.05)

    async def type(self, line: str) -> None:
        self._echo(f"{self.name:<6} < {line}")
        await self._typed_in.send(line)

    async def wait_for(self, expected: str) -> None:
        """Wait until the line is printed."""
        async for line in self._printed:
            if re.sub(r"\b\d\d:\d\d:\d\d\b", "HH:MM:SS", line) == expected:
                return

    def _show(self, line: Line) -> None:
        self._echo(f"{self.name:<6} | >>> {line.text}")
        self._printed_in.send_nowait(line.text)


async def run_demo(
    echo: Callable[[str], object], conversation: str = CONVERSATION, step_timeout: float = STEP_TIMEOUT
) -> int:
    """Run a conversation, printing by `echo`; return the exit code. A line that does not appear ends it."""

    async def print_table(text: str) -> None:
        for line in text.splitlines():
            echo(f"server | {line}")

    echo("A server and three clients on this machine. `<` is what someone types, `|` what someone sees.")
    clients = {name: _DemoClient(name, echo) for name in ("alice", "bob", "carol")}
    missing: str | None = None
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_and_print, 0, HOST, MemoryServerStore(), print_table)
        for step in conversation.splitlines():
            match step.split(" ", 2):
                case ["#", *_]:
                    echo(f"\n{step}")
                case [name, "joins"]:
                    nursery.start_soon(clients[name].run, server)
                case [name, "<", line]:
                    await clients[name].type(line)
                case [name, "|" | "knows" as verb, what]:
                    client = clients[name]
                    wait = client.wait_for if verb == "|" else client.know_is_away
                    with trio.move_on_after(step_timeout) as waiting:
                        await wait(what)
                    missing = step if waiting.cancelled_caught else None
            if missing:
                break
        nursery.cancel_scope.cancel()
    if missing:
        echo(f"\nThis did not appear: {missing}")
    return FAILED if missing else DONE
