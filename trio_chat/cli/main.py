"""The command line: arguments, trio.run, exit codes.

The programs are in cli/client.py, cli/send.py, cli/server.py, cli/presence.py and cli/demo.py. Here, and nowhere else,
exception groups are taken apart.
"""

import errno
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import platformdirs
import trio

from trio_chat import __version__
from trio_chat.cli.client import ClientOptions, talk, talk_at_terminal
from trio_chat.cli.demo import play
from trio_chat.cli.keys import IN_MEMORY, client_file, fingerprint_of, key, server_file, show_fingerprints
from trio_chat.cli.presence import friend, place, show_friends, show_presence
from trio_chat.cli.send import send_one
from trio_chat.cli.server import forget, show_server
from trio_chat.errors import (
    ChatError,
    NameTaken,
    PresenceLost,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    StoreFailed,
)
from trio_chat.terminal.json_lines import JsonRenderer
from trio_chat.terminal.results import Failed, ProgramInterrupted, Renderer
from trio_chat.terminal.screen import PROMPT, Screen
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook, Wording

if TYPE_CHECKING:
    from trio_chat.terminal.prompt import Prompt

__all__ = ["cli", "main"]

POLITE, GONE, REFUSED, INTERRUPTED = 0, 1, 2, 130


class _Port(click.IntRange):
    name = "port"


PORT = _Port(1, 65535)
OWN_PORT = _Port(0, 65535)

# --- the server ---


def _serve(program: Callable[[], Awaitable[None]]) -> int:
    code = _run(program, Screen(sys.stdout), Phrasebook())
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # what the shell prints next must not stand behind the terminal's ^C
    return code


# --- the client ---


def _talk(place: ClientOptions, wording: str, as_json: bool, bell: bool) -> int:
    if as_json:
        screen, json_book = Screen(sys.stdout, mark=""), JsonRenderer()
        return _run(partial(talk, place, screen, json_book), screen, json_book)
    book = Phrasebook(Wording(wording), place.name)
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
    if is_terminal and os.name == "posix" and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown"):
        from trio_chat.terminal.prompt import open_prompt

        typed = platformdirs.user_state_path("trio_chat") / "typed" if place.history else None
        prompt = open_prompt(book, typed, bell=bell)
        return _run(partial(talk_at_terminal, place, prompt, book), prompt, book)
    screen = Screen(sys.stdout, prompt=is_terminal)
    return _run(partial(talk, place, screen, book), screen, book)


def _run(program: Callable[[], Awaitable[int | None]], screen: "Screen | Prompt", book: Renderer) -> int:
    """Run a program to its end, say its last words, and return the exit code."""
    code: int | None = POLITE
    last_words: tuple[Line, ...] = ()
    complaint: Exception | None = None
    try:
        code = trio.run(program)
    except* KeyboardInterrupt:
        code, last_words = INTERRUPTED, book.render(ProgramInterrupted())
    except* ServerNotResponding as group:
        code, last_words = GONE, book.render(Failed(_first(group)))
    except* PresenceLost as group:
        code = GONE
        click.echo(f"{click.get_current_context().command_path}: {_first(group)}", err=True)
    except* SignedInElsewhere as group:
        code, last_words = POLITE, book.render(Failed(_first(group)))
    except* (NameTaken, ServerKeyChanged) as group:
        code, last_words = REFUSED, book.render(Failed(_first(group)))
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
        screen.show(line)
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


def _identity(default: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    return click.option("--identity", metavar="FILE", help=f"The file for the keys, {default} if left out.")


_server_key = click.option(
    "--server-key", type=key, metavar="FINGERPRINT", help="The key that the server must have, from now on."
)


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
@_identity("server-PORT.key in your data folder")
@click.option("--presence-port", type=OWN_PORT, help="Tell who comes and goes at this TCP port, too.")
@click.option("--presence-host", default="127.0.0.1", show_default=True, help="The address for that.")
def server(
    port: int,
    host: str | None,
    store: str | None,
    identity: str | None,
    presence_port: int | None,
    presence_host: str,
) -> int:
    """Serve a chat, and print its client table.

    PORT is 5000 if left out; 0 is any that is free. The whole table is printed at each change up to 50 names,
    only the changed row beyond.

    A name belongs to the key that first registered it. Where that key is lost, server forget NAME frees the name:
    see server forget --help.
    """
    presence = None if presence_port is None else (presence_host, presence_port)
    return _serve(partial(show_server, port, host, store, identity, presence))


@cli.command("server forget")
@click.argument("name")
@click.option("--port", type=OWN_PORT, default=5000, show_default=True, help="The port that the server serves.")
@click.option("--store", metavar="PATH", help="Its file for names and letters, as it was given to the server.")
def server_forget(name: str, port: int, store: str | None) -> int:
    """Free a name whose key is lost.

    The next one who registers NAME has it. Stop the server before.
    """
    return _run(partial(forget, name, Path(store) if store else server_file(port, "db")), Screen(), Phrasebook())


@cli.command("fingerprint")
@click.argument("name", required=False)
@click.argument("server_ip", metavar="[SERVER-IP]", required=False)
@click.argument("server_port", metavar="[SERVER-PORT]", type=PORT, required=False)
@_identity("the one for NAME at that server in your data folder")
@click.pass_context
def show_fingerprint(
    context: click.Context, name: str | None, server_ip: str | None, server_port: int | None, identity: str | None
) -> int:
    """Show the fingerprint of your key, for others to compare.

    That of NAME at a server, or of the keys in FILE; without either, all that are in your data folder, those of
    servers on this machine among them.
    """
    if name is not None and (server_ip is None or server_port is None):
        raise click.UsageError("NAME needs SERVER-IP and SERVER-PORT", context)
    try:
        if identity:
            click.echo(fingerprint_of(Path(identity)))
        elif name is not None and server_ip is not None and server_port is not None:
            click.echo(fingerprint_of(client_file(name, (server_ip, server_port), "key")))
        else:
            return POLITE if show_fingerprints() else REFUSED
    except ChatError as error:
        raise click.UsageError(str(error), context) from error
    return POLITE


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
    screen, book = Screen(sys.stdout, mark="" if as_json else PROMPT), Phrasebook()
    wording = None if as_json else book
    return _run(partial(show_friends, user_id, named, server, screen.show, wording), screen, book)


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
@click.option("--json", "as_json", is_flag=True, help="Print each event as a JSON object, for programs.")
@click.option("--no-bell", is_flag=True, help="At a terminal, do not ring when you are spoken to.")
@click.option("--no-history", is_flag=True, help="Keep none of what is written.")
@click.option("--stay", is_flag=True, help="At the end of input, go on listening until killed.")
@click.option("--reconnect", is_flag=True, help="Where the server does not respond, keep trying.")
@_store("one for each name and server in your data folder")
@_identity("one for each name and server in your data folder")
@_server_key
def client(
    name: str,
    server_ip: str,
    server_port: int,
    client_port: int,
    wording: str,
    as_json: bool,
    no_bell: bool,
    no_history: bool,
    stay: bool,
    reconnect: bool,
    store: str | None,
    identity: str | None,
    server_key: str | None,
) -> int:
    """Chat as NAME.

    SERVER-IP may be a host name; CLIENT-PORT is any that is free if left out. Type help for the commands.
    Standard input may be a pipe: each line is a command.
    """
    server = (server_ip, server_port)
    told = ClientOptions(name, server, client_port, store, identity, server_key, stay, reconnect, not no_history)
    return _talk(told, wording, as_json, not no_bell)


@cli.command()
@click.argument("recipient", metavar="NAME")
@click.argument("text")
@click.option("--as", "sender", metavar="ME", required=True, help="The name to send as; best one for this alone.")
@click.option("--server", "address", metavar="HOST:PORT", type=place, required=True, help="The server of the chat.")
@_store("that of the client ME at that server")
@_identity("that of the client ME at that server")
@_server_key
def send(
    recipient: str,
    text: str,
    sender: str,
    address: tuple[str, int],
    store: str | None,
    identity: str | None,
    server_key: str | None,
) -> int:
    """Send one message, and tell by the exit code what became of it.

    TEXT is read from standard input where it is -; put -- before a TEXT that begins with -. What others send to ME
    waits for the client of that name. While that runs here, ME is in use.

    \b
    Exit codes:
      0  NAME has received it
      3  NAME is away; the server has saved it
      2  refused, or wrong usage
      1  the server does not respond
    """
    screen, book = Screen(sys.stdout), Phrasebook()
    me = ClientOptions(sender, address, store=store, identity=identity, server_key=server_key)
    return _run(partial(send_one, me, recipient, text, screen.show, book), screen, book)


@cli.command()
def demo() -> int:
    """Play a conversation of three, on this machine.

    A server and three clients talk over real UDP, in this one process: directly, by letter and to everyone.
    """
    return _run(partial(play, click.echo), Screen(sys.stdout), Phrasebook())


def _without_aliases(args: Sequence[str]) -> list[str]:
    """The ancestors' flags stand for commands; `server forget` is one of its own, as `server` takes a port there."""
    match list(args):
        case ["-s", *rest]:
            return ["server", *rest]
        case ["-c", *rest]:
            return ["client", *rest]
        case ["server", "forget", *rest]:
            return ["server forget", *rest]
        case others:
            return others


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0 polite, 1 the server does not respond (or nobody reads the output), 2 usage or refused, 3 a message was saved
    by `send`, 130 Ctrl-C.
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
