"""The programs behind `server kick`, `ban`, `who` and so on: what they ask the server, and what they print.

They ask the running server on its control socket: see server/control.py. Their arguments are in cli/operator.py.
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


# --- one program for each command ---


def kick_program(name: str, port: int, as_json: bool) -> _Program:
    """Sign somebody off."""
    return _about(name, port, operations.KickCommand(name), _show_kicked, as_json)


def ban_program(what: str, is_name: bool, port: int, as_json: bool) -> _Program:
    """Ban a name, a key or an address."""
    return partial(_ask, port, operations.BanCommand(what, is_name), _show_banned, as_json)


def unban_program(what: str, is_name: bool, port: int, as_json: bool) -> _Program:
    """Lift a ban."""
    return partial(_ask, port, operations.UnbanCommand(what, is_name), _show_unbanned, as_json)


def bans_program(port: int, as_json: bool) -> _Program:
    """List the bans."""
    return partial(_ask, port, operations.BansCommand(), _show_bans, as_json)


def delete_program(name: str, port: int, as_json: bool) -> _Program:
    """Remove a name."""
    return _about(name, port, operations.DeleteCommand(name), _show_deleted, as_json)


def forget_program(name: str, only_for: str, port: int, store: Path | None, as_json: bool) -> _Program:
    """Free a name; at a server that does not run, in its store."""
    return partial(_forget, name, operations.ForgetCommand(name, only_for), port, store, as_json)


def invite_program(name: str | None, days: float, port: int, as_json: bool) -> _Program:
    """Make an invitation."""
    return partial(_invite, port, operations.InviteCommand(name, days), as_json)


def who_program(port: int, as_json: bool) -> _Program:
    """List the names."""
    return partial(_ask, port, operations.WhoCommand(), _show_who, as_json)


def stats_program(watch: bool, port: int, as_json: bool) -> _Program:
    """Show numbers, once or each second."""
    if watch:
        return partial(_watch_stats, port, as_json)
    return partial(_ask, port, operations.StatsCommand(), _show_stats, as_json)


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
