"""The command line: its commands, with their arguments and help texts.

The programs themselves are in the other modules of cli/; the operator's commands, with their arguments, in operator.py.
A command imports its program when it is run: help, and the refusal of wrong arguments, need none of them, and no trio.
"""

import errno
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from trio_chat import __version__
from trio_chat.cli.arguments import (
    ANY_PORT,
    IN_MEMORY,
    PORT,
    TakesServer,
    TakesText,
    friend,
    host,
    host_and_port,
    key,
    port_is_an_argument,
    user_number,
)
from trio_chat.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED
from trio_chat.cli.operator import OPERATOR_COMMANDS
from trio_chat.errors import ChatError

REGISTRATION_MODES = ("open", "invitation", "closed")
WORDINGS = ("group", "channel")
"""The values of the enums RegistrationMode and Wording, whose modules import much more."""

_ALIASES = {"-s": "server", "-c": "client"}
_OUTPUT_FAILS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EAGAIN}

# --- what several commands have ---


def _store(default: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    text = f"The file for names and messages. Default: {default}. {IN_MEMORY} keeps them in memory only."
    return click.option("--store", metavar="PATH", help=text)


def _identity(default: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    return click.option("--identity", metavar="FILE", help=f"The key file. Default: {default}.")


_server_key = click.option(
    "--server-key", type=key, metavar="FINGERPRINT", help="Talk only to a server with this key, now and later."
)


_server = partial(click.option, "--server", metavar="HOST:PORT", type=host_and_port)
_no_port = click.option("--port", "no_port", hidden=True, expose_value=False, callback=port_is_an_argument)


class _ServerGroup(click.Group):
    """A group that is also a command with an optional argument: `server PORT` and `server forget NAME`.

    click would read `forget` as the PORT, and what follows it as options of `server`.
    """

    # As those of a command that is no group: options may follow PORT, and the usage does not ask for a subcommand.
    allow_extra_args, allow_interspersed_args = False, True
    collect_usage_pieces = click.Command.collect_usage_pieces

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """Give the arguments to a subcommand if the first one is its name."""
        if args and args[0] in self.commands:
            return self.commands[args[0]].make_context(f"{info_name} {args[0]}", args[1:], *rest, **extra)
        return super().make_context(info_name, args, *rest, **extra)


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="trio-chat")
def cli() -> None:
    """Chat with people on your network.

    A server knows who is online, and keeps messages for those who are away. Other messages go directly from one
    person's program to the other's.

    \b
    To see it work:   trio-chat demo
    To start a chat:  trio-chat server
    To join it:       trio-chat client alice SERVER-IP 5000

    \b
    Short forms:
      -s PORT                                     the same as: server PORT
      -c NAME SERVER-IP SERVER-PORT CLIENT-PORT   the same as: client ...
    """


@cli.group(cls=_ServerGroup, invoke_without_command=True)
@click.argument("port", type=ANY_PORT, default=5000)
@_no_port
@click.option("--host", type=host, metavar="ADDRESS", help="Listen on this address only. Default: all addresses.")
@_store("server-PORT.db in your data folder")
@_identity("server-PORT.key in your data folder")
@click.option("--presence-port", type=ANY_PORT, help="Also tell programs who is online, at this TCP port.")
@click.option("--presence-host", type=host, metavar="ADDRESS", default="127.0.0.1", help="Where --presence-port is.")
@click.option(
    "--registration",
    type=click.Choice(REGISTRATION_MODES),
    default="open",
    help="Who may register a new name.",
)
@click.option("--no-discovery", is_flag=True, help="Do not answer `trio-chat servers`.")
def server(
    port: int,
    host: str | None,
    store: str | None,
    identity: str | None,
    presence_port: int | None,
    presence_host: str,
    registration: str,
    no_discovery: bool,
) -> int:
    """Start a chat server.

    PORT is a UDP port. The default is 5000; 0 takes any free port. The server prints its table of clients at each
    change: the whole table, or, with more than 50 names, the row that changed.

    The first person to use a name owns it: their key file proves that it is them. If they lose the file, use the
    command forget. The commands ask the server that runs at --port on this machine, as the same user.
    """
    from trio_chat.cli.running import watch
    from trio_chat.cli.server import run_server
    from trio_chat.server.moderation import RegistrationMode

    presence = None if presence_port is None else (presence_host, presence_port)
    mode = RegistrationMode(registration)
    return watch(partial(run_server, port, host, store, identity, presence, mode, not no_discovery))


def _add_operator_commands() -> None:
    for command in OPERATOR_COMMANDS:
        command.callback = partial(_run_returned, command.callback)
        server.add_command(command)


def _run_returned(make: Callable[..., Callable[[], Awaitable[None]]] | None, **options: Any) -> int:
    from trio_chat.cli.running import watch

    assert make is not None  # noqa: S101 - each command has a function
    return watch(make(**options))


_add_operator_commands()


@cli.command()
def servers() -> int:
    """Find the chat servers on your network.

    Each line is the command by which you join one. It has the fingerprint of the server's key: compare that with what
    the server has printed, as anybody on the network can answer. Keep it in the command: then no other machine can
    pass for this server. Only IPv4 is searched.

    Exit code 1: no server has answered.
    """
    from trio_chat.cli.running import run
    from trio_chat.cli.servers import run_servers
    from trio_chat.terminal.screen import Screen
    from trio_chat.terminal.wordings import Phrasebook

    return run(run_servers, Screen(sys.stdout), Phrasebook())


@cli.command("fingerprint", cls=TakesServer)
@click.argument("name", required=False)
@click.argument("server_ip", metavar="[SERVER-IP]", type=host, required=False)
@click.argument("server_port", metavar="[SERVER-PORT]", type=PORT, required=False)
@_identity("that of NAME at this server")
@click.pass_context
def show_fingerprints(
    context: click.Context, name: str | None, server_ip: str | None, server_port: int | None, identity: str | None
) -> int:
    """Show the fingerprints of your keys.

    Others compare them with what their who command shows, to be sure that it is you. Without arguments, all keys in
    your data folder are shown, also those of servers on this machine.
    """
    from trio_chat.cli.keys import client_file, fingerprint_of, print_fingerprints

    if name is not None and (server_ip is None or server_port is None):
        raise click.UsageError("NAME needs SERVER-IP and SERVER-PORT", context)
    try:
        if identity:
            click.echo(fingerprint_of(Path(identity)))
        elif name is not None and server_ip is not None and server_port is not None:
            click.echo(fingerprint_of(client_file(name, (server_ip, server_port), "key")))
        else:
            return DONE if print_fingerprints() else REFUSED
    except ChatError as error:
        raise click.UsageError(str(error), context) from error
    return DONE


@cli.command()
@click.argument("port", type=ANY_PORT, default=8081)
@_no_port
@click.option("--host", type=host, metavar="ADDRESS", default="127.0.0.1", help="Listen here.")
def presence(port: int, host: str) -> int:
    """Tell programs who is online, without a chat.

    They connect by TCP and exchange JSON. The default PORT is 8081; 0 takes any free port. Everyone who can connect
    can ask: there are no passwords.
    """
    from trio_chat.cli.presence import run_presence
    from trio_chat.cli.running import watch

    return watch(partial(run_presence, port, host))


@cli.command()
@click.argument("user_id", metavar="USER-ID", type=user_number)
@click.argument("named", metavar="FRIEND...", nargs=-1, required=True, type=friend)
@_server(default="127.0.0.1:8081", help="The presence server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, for programs.")
def friends(user_id: int, named: tuple[int | str, ...], server: tuple[str, int], as_json: bool) -> int:
    """See when your friends come online and go offline.

    You appear as USER-ID, a number of your choice. A FRIEND is such a number. If the presence server also serves a
    chat, a FRIEND may be a name there.
    """
    from trio_chat.cli.presence import run_friends
    from trio_chat.cli.running import watch
    from trio_chat.terminal.screen import PROMPT, Screen
    from trio_chat.terminal.wordings import Phrasebook

    screen, book = Screen(sys.stdout, mark="" if as_json else PROMPT), Phrasebook()
    return watch(partial(run_friends, user_id, named, server, screen, None if as_json else book), screen)


@cli.command(cls=TakesServer)
@click.argument("name")
@click.argument("server_ip", metavar="SERVER-IP", type=host)
@click.argument("server_port", metavar="SERVER-PORT", type=PORT)
@click.argument("port", metavar="[CLIENT-PORT]", type=ANY_PORT, default=0)
@click.option(
    "--wording",
    type=click.Choice(WORDINGS),
    default="group",
    help="The style of what is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON objects, for programs.")
@click.option("--no-bell", is_flag=True, help="Do not ring the terminal's bell when someone writes to you.")
@click.option("--no-history", is_flag=True, help="Keep no history of messages, nor of the lines that you type.")
@click.option("--stay", is_flag=True, help="At the end of input, keep receiving until killed.")
@click.option("--reconnect", is_flag=True, help="If the server does not respond, keep trying.")
@click.option(
    "--invitation", metavar="CODE", default="", show_default=False, help="The code from the operator, for a new name."
)
@_store("one for each name and server, in your data folder")
@_identity("one for each name and server, in your data folder")
@_server_key
def client(
    server_ip: str, server_port: int, wording: str, as_json: bool, no_bell: bool, no_history: bool, **options: Any
) -> int:
    """Join a chat as NAME.

    SERVER-IP may also be a host name. It can be typed together with SERVER-PORT, as HOST:PORT or [::1]:5000.
    CLIENT-PORT is your UDP port; by default, any free one.

    Type help for the commands. If standard input is a pipe, each line is a command.
    """
    from trio_chat.cli.client import ClientOptions, run_chat

    # What is left in `options` has the names of the fields.
    opened = ClientOptions(server=(server_ip, server_port), history=not no_history, **options)
    return run_chat(opened, wording, as_json, not no_bell)


@cli.command(cls=TakesText)
@click.argument("recipient", metavar="NAME")
@click.argument("text")
@click.option("--as", "name", metavar="ME", required=True, help="Your name. Best take one only for this command.")
@_server(required=True, help="The chat server.")
@click.option("--queue", is_flag=True, help="If it cannot be sent now, keep it: the next --queue sends it.")
@_store("that of the client ME at this server")
@_identity("that of the client ME at this server")
@_server_key
@click.pass_context
def send(context: click.Context, /, recipient: str, text: str, queue: bool, **options: Any) -> int:
    """Send one message, from a script or by hand.

    NAME is a person, or a group that ME is in: '#lunch', in quotes.

    If TEXT is -, standard input is sent. Put -- before a TEXT that begins with -. This cannot run at the same time
    as a client of the same name. Messages to ME wait for that client.

    \b
    Exit codes:
      0  NAME has received it; for a group: the server has it
      3  NAME is away; the server has saved it
      4  with --queue: it waits on this machine
      2  refused, or wrong usage
      1  the server does not respond
    """
    if queue and options["store"] == IN_MEMORY:
        raise click.UsageError(f"--queue needs a file: not --store {IN_MEMORY}", context)
    from trio_chat.cli.client import ClientOptions
    from trio_chat.cli.running import run
    from trio_chat.cli.send import run_send
    from trio_chat.cli.send_queue import run_queued_send
    from trio_chat.terminal.screen import Screen
    from trio_chat.terminal.wordings import Phrasebook

    screen, book, opened = Screen(sys.stdout), Phrasebook(), ClientOptions(**options)
    program = run_queued_send if queue else run_send
    return run(partial(program, opened, recipient, text, screen, book), screen, book, opened)


@cli.command()
def demo() -> int:
    """Watch a conversation.

    A server and three clients talk to each other on this machine: directly, with saved messages, and to everyone.
    """
    from trio_chat.cli.demo import run_demo
    from trio_chat.cli.running import run
    from trio_chat.terminal.screen import Screen
    from trio_chat.terminal.wordings import Phrasebook

    return run(partial(run_demo, click.echo), Screen(sys.stdout), Phrasebook())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, one of those in cli/exit_codes.py."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # so that no name and no text can end a program
    words = list(sys.argv[1:] if args is None else args)
    words[:1] = [_ALIASES.get(word, word) for word in words[:1]]
    try:
        return _main(words)
    except OSError as error:
        if error.errno not in _OUTPUT_FAILS:
            raise
        return _give_up_output(error)


def _main(args: list[str]) -> int:
    try:
        return int(cli.main(args, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trio-chat"
        usage = ""
        if error.ctx and isinstance(error, click.MissingParameter):
            usage = " " + " ".join(error.ctx.get_usage().split())  # without the line ends
        click.echo(f"{command}: {error.format_message()}{usage}", err=True)
    except click.Abort:
        return INTERRUPTED
    return REFUSED


def _give_up_output(error: OSError) -> int:
    """Say that the output cannot be written, and drop what is left of it."""
    failed = [sys.stdout]
    try:
        click.echo(f"trio-chat: cannot write the output: {error.strerror}", err=True)
    except OSError:
        failed.append(sys.stderr)
    # Python flushes its buffers at exit. What they still hold would fail again, with a traceback.
    for stream in filter(None, failed):
        with suppress(io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return FAILED
