"""The commands of a server's operator: `server kick`, `ban`, `who` and so on; their arguments and what they print.

They ask the running server on its control socket: see server/control.py. Errors are handled in cli/main.py.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import trio

from trio_chat.cli.arguments import ANY_PORT, key
from trio_chat.cli.keys import server_file
from trio_chat.cli.server import open_stopped_store
from trio_chat.errors import StoreError, UnknownRecipient
from trio_chat.protocol.records import check_name
from trio_chat.server import operations
from trio_chat.server.control import NoServerRuns, open_control
from trio_chat.terminal.results import TableList, TableRow
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook, escape

WATCH_EVERY = 1.0
"""Seconds between two looks of `stats --watch`."""

CLEAR_SCREEN = "\x1b[H\x1b[2J"

_Answer = dict[str, Any]
_Program = Callable[[], Awaitable[None]]

_port = click.option("--port", type=ANY_PORT, default=5000, help="The port of the server.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON, for programs.")
_is_name = click.option("--name", "is_name", is_flag=True, help="WHAT is a name, even if it looks like another thing.")


# --- asking the server ---


async def _ask(port: int, command: operations.OperatorCommand, show: Callable[[_Answer], None], as_json: bool) -> None:
    async with open_control(server_file(port, "sock")) as ask:
        answer = await ask(command)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        show(answer)


def _about(name: str, *args: Any) -> _Program:
    """The program for a command about this name. Raises InvalidName, when it runs."""

    async def program() -> None:
        check_name(name)
        await _ask(*args)

    return program


# --- the commands ---


@click.command()
@click.argument("name")
@_port
@_json
def kick(name: str, port: int, as_json: bool) -> _Program:
    """Sign somebody off.

    Their program is told, and does not come back by itself. They can: ban keeps them out.
    """
    return _about(name, port, operations.KickCommand(name), _show_kicked, as_json)


@click.command()
@click.argument("what")
@_is_name
@_port
@_json
def ban(what: str, is_name: bool, port: int, as_json: bool) -> _Program:
    """Keep somebody out: a NAME, a key (FINGERPRINT), or an ADDRESS.

    A name is banned together with the key that owns it. Of an IPv6 address its /64 network is banned. A network is
    written as 192.0.2.0/24, beginning with its first address.
    """
    return partial(_ask, port, operations.BanCommand(what, is_name), _show_banned, as_json)


@click.command()
@click.argument("what")
@_is_name
@_port
@_json
def unban(what: str, is_name: bool, port: int, as_json: bool) -> _Program:
    """Lift the ban of a NAME (and its key), a FINGERPRINT or an ADDRESS."""
    return partial(_ask, port, operations.UnbanCommand(what, is_name), _show_unbanned, as_json)


@click.command()
@_port
@_json
def bans(port: int, as_json: bool) -> _Program:
    """List what is banned."""
    return partial(_ask, port, operations.BansCommand(), _show_bans, as_json)


@click.command()
@click.argument("name")
@_port
@_json
def delete(name: str, port: int, as_json: bool) -> _Program:
    """Remove a name.

    Messages that wait for it fail, and their senders are told. The next person who registers NAME owns it.
    """
    return _about(name, port, operations.DeleteCommand(name), _show_deleted, as_json)


@click.command()
@click.argument("name")
@click.option("--for", "only_for", type=key, metavar="FINGERPRINT", help="Only this key may take it.")
@_port
@click.option("--store", metavar="PATH", help="Work on this store of a server that is stopped.")
@_json
def forget(name: str, only_for: str | None, port: int, store: str | None, as_json: bool) -> _Program:
    """Free a name whose owner has lost the key file.

    The next person who registers NAME owns it; with --for, only the one with that key can. The server may be running
    or stopped.
    """
    command = operations.ForgetCommand(name, only_for or "")
    return partial(_forget, name, command, port, Path(store) if store else None, as_json)


@click.command()
@click.option("--name", metavar="NAME", help="Admit only this name.")
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=7, help="How long it is good.")
@_port
@_json
def invite(name: str | None, days: float, port: int, as_json: bool) -> _Program:
    """Print a new invitation.

    It is a code that admits one new name to a server with --registration invitation.
    """
    return partial(_invite, port, operations.InviteCommand(name, days), as_json)


@click.command()
@_port
@_json
def who(port: int, as_json: bool) -> _Program:
    """List the names, with the keys that own them."""
    return partial(_ask, port, operations.WhoCommand(), _show_who, as_json)


@click.command()
@click.option("--watch", is_flag=True, help="Show them again each second.")
@_port
@_json
def stats(watch: bool, port: int, as_json: bool) -> _Program:
    """Show numbers: who is there, what waits, and what was refused."""
    if watch:
        return partial(_watch_stats, port, as_json)
    return partial(_ask, port, operations.StatsCommand(), _show_stats, as_json)


OPERATOR_COMMANDS = (kick, ban, unban, bans, delete, forget, invite, who, stats)
"""Each returns the program to run."""


# --- programs that are more than one question ---


async def _forget(name: str, command: operations.ForgetCommand, port: int, store: Path | None, as_json: bool) -> None:
    check_name(name)
    if store is None:
        try:
            await _ask(port, command, _show_freed, as_json)
        except NoServerRuns:
            store = server_file(port, "db")
        else:
            return
    if not await trio.Path(store).exists():
        raise StoreError(f"there is no store {store}")
    async with open_stopped_store(store) as opened:
        if not await opened.forget(name, command.only_for):
            raise UnknownRecipient(name)
    answer = {"freed": name, "for": command.only_for}
    click.echo(json.dumps(answer)) if as_json else _show_freed(answer)


async def _invite(port: int, command: operations.InviteCommand, as_json: bool) -> None:
    if command.name is not None:
        check_name(command.name)
    await _ask(port, command, _show_invitation, as_json)


async def _watch_stats(port: int, as_json: bool) -> None:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    async with open_control(server_file(port, "sock")) as ask:
        while True:
            answer = await ask(operations.StatsCommand())
            if as_json:
                click.echo(json.dumps(answer))
            else:
                click.echo(CLEAR_SCREEN if is_terminal else "", nl=not is_terminal)
                _show_stats(answer)
            await trio.sleep(WATCH_EVERY)


# --- what is printed ---


def _show_kicked(answer: _Answer) -> None:
    click.echo(f"{answer['kicked']} is signed off.")


def _show_banned(answer: _Answer) -> None:
    for one in answer["banned"]:
        click.echo(f"{_banned(one)} is banned.")
    if not answer["known"]:
        click.echo("Nobody has this name. The ban counts all the same: nobody can register it.")
    if len(answer["banned"]) > 1:
        click.echo("They can come back under another name, with another key: then ban their address, too.")
    for name in answer["ended"]:
        click.echo(f"{name} is signed off.")


def _show_unbanned(answer: _Answer) -> None:
    for one in answer["unbanned"]:
        click.echo(f"{_banned(one)} is no longer banned.")


def _banned(one: Mapping[str, str]) -> str:
    match one["kind"]:
        case "name":
            return f"The name {one['value']}"
        case "key":
            return f"The key {one['value']}" + (f" of {one['name']}" if one["name"] else "")
    return f"The {_network(one['value'])}"


def _network(text: str) -> str:
    network = ip_network(text)
    return f"address {network.network_address}" if network.num_addresses == 1 else f"network {network}"


def _show_bans(answer: _Answer) -> None:
    for one in answer["bans"]:
        click.echo(_banned(one).removeprefix("The "))
    if not answer["bans"]:
        click.echo("Nothing is banned.", err=True)


def _show_deleted(answer: _Answer) -> None:
    click.echo(f"The name {answer['deleted']} is deleted.")


def _show_freed(answer: _Answer) -> None:
    only = f", but only for the key {answer['for']}" if answer["for"] else ""
    click.echo(f"The name {answer['freed']} is free{only}.")


def _show_invitation(answer: _Answer) -> None:
    # Alone on standard output: a script can put it into a letter.
    click.echo(answer["code"])
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(answer["until"]))
    click.echo(f"It admits {answer['name'] or 'one new name'} until {until}.", err=True)
    if answer["registration"] != "invitation":
        click.echo(
            f"But the server runs with --registration {answer['registration']}, and asks nobody for it.", err=True
        )


def _show_who(answer: _Answer) -> None:
    rows = (
        TableRow(one["name"], one["host"], one["port"], one["online"], one["since"], one["fingerprint"], False)
        for one in answer["names"]
    )
    lines: tuple[Line, ...] = Phrasebook().render(TableList(tuple(rows)))
    for line in lines:
        click.echo(line.text)


def _show_stats(answer: _Answer) -> None:
    rows = {name: number for name, number in answer.items() if name not in ("bans", "refused")}
    rows["bans"] = len(answer["bans"])
    rows |= {f"refused: {reason}": count for reason, count in answer.get("refused", {}).items()}
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{escape(name).ljust(width)}  {value}")
