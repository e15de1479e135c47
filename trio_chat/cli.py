"""The command line: arguments, trio.run, exit codes, and the wording of what the server tells of its table.

Here, and nowhere else, exception groups are taken apart.
"""

import errno
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import attrs
import click
import platformdirs
import trio

from trio_chat import __version__
from trio_chat.cli_presence import friend, place, show_address, show_friends, show_presence
from trio_chat.client.session import open_chat
from trio_chat.console.conversation import converse
from trio_chat.console.phrases import Phrase, Phrasebook, Wording
from trio_chat.console.terminal import PROMPT, Screen, read_lines
from trio_chat.errors import ChatError, NameTaken, PresenceLost, ServerNotResponding, StoreFailed
from trio_chat.protocol.records import Record, check_name, fold
from trio_chat.server.chat import serve_chat
from trio_chat.server.presence import serve_presence
from trio_chat.server.roster import Roster
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.interface import ClientStore, ServerStore
from trio_chat.storage.memory import MemoryClientStore, MemoryServerStore
from trio_chat.storage.server_store import open_server_store

__all__ = ["TableLog", "cli", "main", "run_server"]

POLITE, GONE, REFUSED, INTERRUPTED = 0, 1, 2, 130

WHOLE_TABLE = 50
"""Up to so many names, each change prints the whole table."""

WAITING_CHANGES = 4096
WAITING_LINES = 16


class _Port(click.IntRange):
    name = "port"


PORT = _Port(1, 65535)
OWN_PORT = _Port(0, 65535)
IN_MEMORY = ":memory:"

Say = Callable[[str], object]
Listening = trio.TaskStatus[tuple[str, int]]


# --- the server ---


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
    *,
    task_status: Listening = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chat until cancelled and say each change of its table. Raises AddressError, in an exception group."""
    changes_in, changes = trio.open_memory_channel[Record](WAITING_CHANGES)
    log = TableLog()
    for record in (await store.load())[0]:
        log.take(record)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_chat, port, host=host, store=store, events=changes_in, roster=roster)
        task_status.started(await nursery.start(serve))
        async for record in changes:
            for line in log.lines(record):
                say(line)


async def _server(port: int, host: str | None, store: str | None, presence: tuple[str, int] | None) -> None:
    path = Path(store) if store else _data_folder() / f"server-{port}.db"
    opening = nullcontext(MemoryServerStore()) if store == IN_MEMORY else open_server_store(path)
    async with opening as opened, trio.open_nursery() as nursery:
        roster = Roster()
        address = await nursery.start(run_server, port, host, opened, click.echo, roster)
        if presence:
            serve = partial(serve_presence, presence[1], host=presence[0], roster=roster)
            presence = await nursery.start(serve)
        click.echo(f"Listening on {show_address(address)}", err=True)
        if presence:
            click.echo(f"Presence on {show_address(presence)}", err=True)


def _serve(program: Callable[[], Awaitable[None]]) -> int:
    code = _run(program, Screen(sys.stdout), Phrasebook())
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # what the shell prints next must not stand behind the terminal's ^C
    return code


# --- the client ---


@attrs.frozen
class _Place:
    """Who talks, to which server, from where, and how."""

    name: str
    host: str
    server_port: int
    port: int
    store: str | None
    stay: bool
    reconnect: bool

    def open_store(self) -> AbstractAsyncContextManager[ClientStore]:
        if self.store == IN_MEMORY:
            return nullcontext(MemoryClientStore())
        own = f"{fold(self.name)}@{quote(self.host, safe='')}_{self.server_port}.db"
        return open_client_store(Path(self.store) if self.store else _data_folder() / "clients" / own)


async def _client(place: _Place, screen: Screen, book: Phrasebook) -> None:
    check_name(place.name)  # before it becomes a part of a file's name
    # Where standard input is closed, its number may be given to something else: read nothing, then.
    fd = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()
    lines_in, lines = trio.open_memory_channel[str](WAITING_LINES)
    async with place.open_store() as store, trio.open_nursery() as nursery:
        nursery.start_soon(read_lines, fd, lines_in, screen.ask)
        server = (place.host, place.server_port)
        opening = open_chat(place.name, server, port=place.port, store=store, reconnect=place.reconnect)
        await converse(opening, lines, screen.say, book, stay=place.stay, patient=place.reconnect)
        nursery.cancel_scope.cancel()


def _talk(place: _Place, wording: str) -> int:
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
    screen = Screen(sys.stdout, prompt=is_terminal)
    book = Phrasebook(Wording(wording))
    return _run(partial(_client, place, screen, book), screen, book)


def _run(program: Callable[[], Awaitable[int | None]], screen: Screen, book: Phrasebook) -> int:
    """Run a program to its end, say its last words, and return the exit code."""
    code: int | None = POLITE
    last_words: tuple[str, ...] = ()
    complaint: Exception | None = None
    try:
        code = trio.run(program)
    except* KeyboardInterrupt:
        code, last_words = INTERRUPTED, book.lines(Phrase.INTERRUPTED)
    except* ServerNotResponding as group:
        code, last_words = GONE, book.error(_first(group))
    except* PresenceLost as group:
        code = GONE
        click.echo(f"{click.get_current_context().command_path}: {_first(group)}", err=True)
    except* NameTaken as group:
        code, last_words = REFUSED, book.error(_first(group))
    except* StoreFailed:
        code = GONE  # which was logged where it happened
    except* ChatError as group:
        complaint = click.UsageError(str(_first(group)), click.get_current_context())
    except* BrokenPipeError:
        complaint = BrokenPipeError(errno.EPIPE, "nobody reads standard output")
    if complaint is not None:
        screen.close()
        raise complaint
    for line in last_words:
        screen.say(line)
    screen.close()
    return code or POLITE


Failure = TypeVar("Failure", bound=Exception)


def _first(group: ExceptionGroup[Failure]) -> Failure:
    error: Failure | ExceptionGroup[Failure] = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


# --- the arguments ---


def _store(default: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    text = f"The file for names and letters, {default} if left out; {IN_MEMORY} keeps none."
    return click.option("--store", metavar="PATH", help=text)


def _data_folder() -> Path:
    return platformdirs.user_data_path("trio_chat", appauthor=False)


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trio-chat")
def cli() -> None:
    """A chat for people on one network: directly from one to another, and mail for those who are away.

    \b
    Short forms, as the ancestors had them:
      -s PORT                                         is server PORT
      -c NAME SERVER-IP SERVER-PORT CLIENT-PORT       is client with the same
    """


@cli.command()
@click.argument("port", type=OWN_PORT, default=5000)
@click.option("--host", help="The address to listen on; every address of this machine if left out.")
@_store("server-PORT.db in your data folder")
@click.option("--presence-port", type=OWN_PORT, help="Tell who comes and goes at this TCP port, too.")
@click.option("--presence-host", default="127.0.0.1", show_default=True, help="The address for that.")
def server(port: int, host: str | None, store: str | None, presence_port: int | None, presence_host: str) -> int:
    """Serve a chat, and print its client table.

    PORT is 5000 if left out; 0 is any that is free. The whole table is printed at each change up to 50 names,
    only the changed row beyond.
    """
    presence = None if presence_port is None else (presence_host, presence_port)
    return _serve(partial(_server, port, host, store, presence))


@cli.command()
@click.argument("port", type=OWN_PORT, default=8081)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
def presence(port: int, host: str) -> int:
    """Tell who comes and goes, and nothing else: JSON over TCP.

    PORT is 8081 if left out; 0 is any that is free. There is no log-in: whoever can connect can ask.
    """
    return _serve(partial(show_presence, port, host))


@cli.command()
@click.argument("user_id", metavar="USER-ID", type=click.IntRange(1))
@click.argument("named", metavar="FRIEND...", nargs=-1, required=True, type=friend)
@click.option("--server", type=place, default="127.0.0.1:8081", show_default=True, help="The presence service.")
@click.option("--json", "as_json", is_flag=True, help="Print each piece of news as a JSON object.")
def friends(user_id: int, named: tuple[int | str, ...], server: tuple[str, int], as_json: bool) -> int:
    """Be on line as USER-ID, and print one line whenever a FRIEND comes or goes.

    A FRIEND is the number of a user of the presence service, or the name of someone in the chat beside it.
    """
    screen, book = Screen(sys.stdout), Phrasebook()
    say, wording = (click.echo, None) if as_json else (screen.say, book)
    return _run(partial(show_friends, user_id, named, server, say, wording), screen, book)


@cli.command()
@click.argument("name")
@click.argument("server_ip", metavar="SERVER-IP")
@click.argument("server_port", metavar="SERVER-PORT", type=PORT)
@click.argument("client_port", metavar="[CLIENT-PORT]", type=OWN_PORT, default=0)
@click.option(
    "--wording",
    type=click.Choice([wording.value for wording in Wording]),
    default="group",
    help="Whose words are used.",
)
@click.option("--stay", is_flag=True, help="At the end of input, go on listening until killed.")
@click.option("--reconnect", is_flag=True, help="Where the server does not respond, keep trying.")
@_store("one for each name and server in your data folder")
def client(
    name: str,
    server_ip: str,
    server_port: int,
    client_port: int,
    wording: str,
    stay: bool,
    reconnect: bool,
    store: str | None,
) -> int:
    """Chat as NAME.

    SERVER-IP may be a host name; CLIENT-PORT is any that is free if left out. Type help for the commands.
    Standard input may be a pipe: each line is a command.
    """
    return _talk(_Place(name, server_ip, server_port, client_port, store, stay, reconnect), wording)


@cli.command()
def demo() -> int:
    """Play a conversation of three, on this machine.

    A server and three clients talk over real UDP, in this one process: directly, by letter and to everyone.
    """
    from trio_chat.demo import play  # which imports this module: it plays what is above

    return _run(partial(play, click.echo), Screen(sys.stdout), Phrasebook())


def _without_aliases(args: Sequence[str]) -> list[str]:
    """The ancestors' flags stand for commands."""
    first = {"-s": "server", "-c": "client"}.get(args[0], args[0]) if args else None
    return [first, *args[1:]] if first else []


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0 polite, 1 the server does not respond (or nobody reads the output), 2 usage or refused, 130 Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = cli.main(_without_aliases(sys.argv[1:] if args is None else args), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return REFUSED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trio-chat"
        click.echo(f"{command}: {error.format_message()}", err=True)
        return REFUSED
    except click.Abort:
        return INTERRUPTED
    return code
