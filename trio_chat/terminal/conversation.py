"""A chat at the console: commands in, events in, lines out.

Each command waits for the answer to the one before; events are shown meanwhile, by a task of their own.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from trio_chat.client.chat import Chat
from trio_chat.client.events import ServerSilent, SignedOff, TableChanged
from trio_chat.errors import ChatError, InvalidText, ServerNotResponding, SignedInElsewhere
from trio_chat.terminal.commands import (
    Command,
    Dereg,
    Empty,
    Exit,
    Help,
    History,
    Reg,
    Search,
    Send,
    SendAll,
    Trust,
    Unknown,
    Who,
    help_lines,
    parse,
)
from trio_chat.terminal.json_lines import Book, JsonBook
from trio_chat.terminal.wordings import Phrase, TableRow

__all__ = ["converse"]

FIVE_WINDOWS = 2.6
"""Seconds after which a server that was to register us counts as silent."""


async def converse(
    opening: AbstractAsyncContextManager[Chat],
    lines: AsyncIterable[str],
    say: Callable[[str], object],
    book: Book,
    *,
    room: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    stay: bool = False,
    patient: bool = False,
) -> None:
    """Open a chat and do what the lines say; return after `exit` or the end of the lines, deregistered.

    Args:
        opening: what `open_chat` gave.
        lines: the commands, without line ends.
        say: prints one line.
        book: the wording, or JSON.
        room: waits until `say` may go on; no event is taken and no command is done before.
        stay: at the end of the lines, go on listening until cancelled.
        patient: opening may take long, because it goes on trying; say so, then.

    Raises:
        ServerNotResponding, SignedInElsewhere: at any time; nothing has been printed of it.
        ChatError: whatever `open_chat` raises.
        All of them within exception groups, as they come out of the nursery.
    """
    # The chat closes first: show_events then shows what was left in it, and ends.
    async with trio.open_nursery() as nursery:
        tell_silence = trio.CancelScope()
        if patient:
            nursery.start_soon(_tell_silence, tell_silence, say, book)
        async with opening as chat:
            tell_silence.cancel()
            console = _Console(chat, say, book, room)
            console.tell(book.lines(Phrase.REGISTERED, count=chat.waiting))
            nursery.start_soon(console.show_events)
            await console.take_commands(lines, stay)


async def _tell_silence(unless: trio.CancelScope, say: Callable[[str], object], book: Book) -> None:
    with unless:
        await trio.sleep(FIVE_WINDOWS)
        for line in book.event(ServerSilent()):
            say(line)


@attrs.frozen
class _Console:
    chat: Chat
    say: Callable[[str], object]
    book: Book
    room: Callable[[], Awaitable[object]]

    def tell(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            self.say(line)

    async def show_events(self) -> None:
        async for event in self.chat.events:
            await self.room()
            match event:
                case SignedOff(error=(ServerNotResponding() | SignedInElsewhere()) as error):
                    raise error
                case TableChanged() if isinstance(self.book, JsonBook):
                    self._show_table()  # a program would ask for it, and must not have to
                case _:
                    self.tell(self.book.event(event))

    async def take_commands(self, lines: AsyncIterable[str], stay: bool) -> None:
        async for line in lines:
            await self.room()
            command = parse(line)
            if isinstance(command, Exit):
                break
            await self._run(command)
        else:
            if stay:
                await trio.sleep_forever()
        if self.chat.online:
            await self._run(Dereg(None))

    async def _run(self, command: Command) -> None:
        try:
            await self._do(command)
        except (ServerNotResponding, SignedInElsewhere):
            raise
        except ChatError as error:
            self.tell(self.book.error(error))

    async def _do(self, command: Command) -> None:
        match command:
            case Send(recipient, text):
                await self._send(recipient, text)
            case SendAll(text):
                await self.chat.send_all(text)
                self.tell(self.book.lines(Phrase.POSTED))
            case Reg(name) | Dereg(name) if name and name.lower() != self.chat.name.lower():
                self.tell(self.book.lines(Phrase.ONLY_YOURSELF))
            case Reg():
                await self._register()
            case Dereg():
                await self.chat.deregister()
                self.tell(self.book.lines(Phrase.DEREGISTERED))
            case Who():
                self._show_table()
            case Trust(name):
                self.tell(self.book.lines(Phrase.TRUSTED, name=name, key=self.chat.trust(name)))
            case History(name, count):
                self.tell(self.book.history(await self.chat.history(name, count)))
            case Search(words):
                self.tell(self.book.history(await self.chat.search(words)))
            case Help():
                self.tell(self.book.help(help_lines()))
            case Unknown(words):
                self.tell(self.book.lines(Phrase.UNKNOWN_COMMAND, text=words))
            case Empty() | Exit():
                pass

    async def _send(self, recipient: str, text: str) -> None:
        if not recipient:
            raise InvalidText(0)
        delivery = await self.chat.send(
            recipient, text, on_fallback=lambda reason: self.tell(self.book.fallback(reason, recipient))
        )
        self.tell(self.book.delivery(delivery, recipient))

    async def _register(self) -> None:
        if self.chat.online:
            self.tell(self.book.lines(Phrase.ALREADY_REGISTERED))
            return
        self.tell(self.book.lines(Phrase.REG_SENT))
        waiting = await self.chat.register()
        self.tell(self.book.lines(Phrase.HAS_LETTERS if waiting else Phrase.NO_LETTERS, count=waiting))

    def _show_table(self) -> None:
        records = sorted(self.chat.table.values(), key=lambda record: record.name.lower())
        changed = self.chat.untrusted
        self.tell(
            self.book.table(
                TableRow(
                    one.name, one.host, one.port, one.online, one.since, one.fingerprint, one.name.lower() in changed
                )
                for one in records
            )
        )
