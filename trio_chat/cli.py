"""The command line: arguments, trio.run, exit codes, and the wording of what the server tells of its table.

Here, and nowhere else, exception groups are taken apart.
"""

import errno
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import click
import trio

from trio_chat import __version__
from trio_chat.client.session import open_chat
from trio_chat.console.conversation import converse
from trio_chat.console.phrases import Phrase, Phrasebook, Wording
from trio_chat.console.terminal import PROMPT, Screen, read_lines
from trio_chat.errors import ChatError, NameTaken, ServerNotResponding
from trio_chat.protocol.messages import Record, fold
from trio_chat.server.chat import serve_chat

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

Say = Callable[[str], object]
Listening = trio.TaskStatus[tuple[str, int]]


# --- the server ---


class TableLog:
    """The server's client table as its print-outs show it."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str, int, bool]] = {}

    def lines(self, record: Record) -> tuple[str, str]:
        """Take in a changed row; return the two lines that tell it. Above 50 names they show that row alone."""
        row = (record.name, record.host, record.port, record.online)
        self._rows[fold(record.name)] = row
        shown = self._rows.values() if len(self._rows) <= WHOLE_TABLE else [row]
        return (f"{PROMPT}[Client table updated.]", str({row[0]: row for row in shown}))


async def run_server(port: int, host: str | None, say: Say, task_status: Listening = trio.TASK_STATUS_IGNORED) -> None:
    """Serve a chat until cancelled and say each change of its table. Raises AddressError, in an exception group."""
    changes_in, changes = trio.open_memory_channel[Record](WAITING_CHANGES)
    log = TableLog()
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(partial(serve_chat, port, host=host, events=changes_in)))
        async for record in changes:
            for line in log.lines(record):
                say(line)


async def _server(port: int, host: str | None) -> None:
    async with trio.open_nursery() as nursery:
        bound_host, bound_port = await nursery.start(run_server, port, host, click.echo)
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        click.echo(f"Listening on {shown}:{bound_port}", err=True)


def _serve(port: int, host: str | None) -> int:
    code = _run(partial(_server, port, host), Screen(sys.stdout), Phrasebook())
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # what the shell prints next must not stand behind the terminal's ^C
    return code


# --- the client ---


async def _client(name: str, server: tuple[str, int], port: int, screen: Screen, book: Phrasebook, stay: bool) -> None:
    # Where standard input is closed, its number may be given to something else: read nothing, then.
    fd = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()
    lines_in, lines = trio.open_memory_channel[str](WAITING_LINES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_lines, fd, lines_in, screen.ask)
        await converse(open_chat(name, server, port=port), lines, screen.say, book, stay=stay)
        nursery.cancel_scope.cancel()


def _talk(name: str, host: str, server_port: int, port: int, wording: str, stay: bool) -> int:
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
    screen = Screen(sys.stdout, prompt=is_terminal)
    book = Phrasebook(Wording(wording))
    return _run(partial(_client, name, (host, server_port), port, screen, book, stay), screen, book)


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
    except* NameTaken as group:
        code, last_words = REFUSED, book.error(_first(group))
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


def _wording(default: str | None) -> Callable[[click.decorators.FC], click.decorators.FC]:
    words = click.Choice([wording.value for wording in Wording])
    return click.option("--wording", type=words, default=default, help="Whose words are used; group is the default.")


_stay = click.option("--stay", is_flag=True, help="At the end of input, go on listening until killed.")


@click.group(
    invoke_without_command=True, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("-s", "serve", type=OWN_PORT, metavar="PORT", help="The same as: server PORT.")
@click.option(
    "-c",
    "talk",
    type=(str, str, PORT, OWN_PORT),
    metavar="NAME SERVER-IP SERVER-PORT CLIENT-PORT",
    help="The same as client with these arguments; takes --wording and --stay.",
)
@_wording(None)
@_stay
@click.version_option(__version__, prog_name="trio-chat")
@click.pass_context
def cli(
    ctx: click.Context, serve: int | None, talk: tuple[str, str, int, int] | None, wording: str | None, stay: bool
) -> int:
    """A chat for people on one network: directly from one to another, and mail for those who are away."""
    asked = [way for way in (serve, talk, ctx.invoked_subcommand) if way is not None]
    if len(asked) != 1:
        raise click.UsageError("one of a command, -s and -c is needed, and only one", ctx)
    if (wording or stay) and talk is None:
        raise click.UsageError("--wording and --stay go with -c, or behind the command client", ctx)
    if serve is not None:
        return _serve(serve, None)
    if talk is not None:
        return _talk(*talk, wording or Wording.GROUP, stay)
    return POLITE


@cli.command()
@click.argument("port", type=OWN_PORT, default=5000)
@click.option("--host", help="The address to listen on; every address of this machine if left out.")
def server(port: int, host: str | None) -> int:
    """Serve a chat, and print its client table.

    PORT is 5000 if left out; 0 is any that is free. The whole table is printed at each change up to 50 names,
    only the changed row beyond.
    """
    return _serve(port, host)


@cli.command()
@click.argument("name")
@click.argument("server_ip", metavar="SERVER-IP")
@click.argument("server_port", metavar="SERVER-PORT", type=PORT)
@click.argument("client_port", metavar="[CLIENT-PORT]", type=OWN_PORT, default=0)
@_wording(Wording.GROUP.value)
@_stay
def client(name: str, server_ip: str, server_port: int, client_port: int, wording: str, stay: bool) -> int:
    """Chat as NAME.

    SERVER-IP may be a host name; CLIENT-PORT is any that is free if left out. Type help for the commands.
    Standard input may be a pipe: each line is a command.
    """
    return _talk(name, server_ip, server_port, client_port, wording, stay)


@cli.command()
def demo() -> int:
    """Play a conversation of three, on this machine.

    A server and three clients talk over real UDP, in this one process: directly, by letter and to everyone.
    """
    from trio_chat.demo import play  # which imports this module: it plays what is above

    return _run(partial(play, click.echo), Screen(sys.stdout), Phrasebook())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0 polite, 1 the server does not respond (or nobody reads the output), 2 usage or refused, 130 Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = cli.main(args, standalone_mode=False)
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
