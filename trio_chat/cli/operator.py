"""The commands of a server's operator: `server kick`, `ban`, `who` and so on, with their arguments and help texts.

What they ask the running server, and what they print, is in asking.py, which is imported when one of them runs.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from trio_chat.cli.arguments import ANY_PORT, key

_Program = Callable[[], Awaitable[None]]

_port = click.option("--port", type=ANY_PORT, default=5000, help="The port of the server.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON, for programs.")
_is_name = click.option("--name", "is_name", is_flag=True, help="WHAT is a name, even if it looks like another thing.")


@click.command()
@click.argument("name")
@_port
@_json
def kick(name: str, port: int, as_json: bool) -> _Program:
    """Sign somebody off.

    Their program is told, and does not come back by itself. They can: ban keeps them out.
    """
    from trio_chat.cli import asking

    return asking.kick_program(name, port, as_json)


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
    from trio_chat.cli import asking

    return asking.ban_program(what, is_name, port, as_json)


@click.command()
@click.argument("what")
@_is_name
@_port
@_json
def unban(what: str, is_name: bool, port: int, as_json: bool) -> _Program:
    """Lift the ban of a NAME (and its key), a FINGERPRINT or an ADDRESS."""
    from trio_chat.cli import asking

    return asking.unban_program(what, is_name, port, as_json)


@click.command()
@_port
@_json
def bans(port: int, as_json: bool) -> _Program:
    """List what is banned."""
    from trio_chat.cli import asking

    return asking.bans_program(port, as_json)


@click.command()
@click.argument("name")
@_port
@_json
def delete(name: str, port: int, as_json: bool) -> _Program:
    """Remove a name.

    Messages that wait for it fail, and their senders are told. The next person who registers NAME owns it.
    """
    from trio_chat.cli import asking

    return asking.delete_program(name, port, as_json)


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
    from trio_chat.cli import asking

    return asking.forget_program(name, only_for or "", port, Path(store) if store else None, as_json)


@click.command()
@click.option("--name", metavar="NAME", help="Admit only this name.")
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=7, help="How long it is good.")
@_port
@_json
def invite(name: str | None, days: float, port: int, as_json: bool) -> _Program:
    """Print a new invitation.

    It is a code that admits one new name to a server with --registration invitation.
    """
    from trio_chat.cli import asking

    return asking.invite_program(name, days, port, as_json)


@click.command()
@_port
@_json
def who(port: int, as_json: bool) -> _Program:
    """List the names, with the keys that own them."""
    from trio_chat.cli import asking

    return asking.who_program(port, as_json)


@click.command()
@click.option("--watch", is_flag=True, help="Show them again each second.")
@_port
@_json
def stats(watch: bool, port: int, as_json: bool) -> _Program:
    """Show numbers: who is there, what waits, and what was refused."""
    from trio_chat.cli import asking

    return asking.stats_program(watch, port, as_json)


OPERATOR_COMMANDS = (kick, ban, unban, bans, delete, forget, invite, who, stats)
"""Each returns the program to run."""
