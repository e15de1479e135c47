"""The programs behind the presence commands, and the forms of their arguments.

The commands themselves are declared in cli/main.py, which also runs these and turns what they raise into exit codes.
"""

import json
import re
from collections.abc import Callable

import click
import trio

from trio_chat.presence.client import watch_friends
from trio_chat.presence.messages import FriendChanged
from trio_chat.presence.server import serve_presence
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook, show_address

__all__ = ["friend", "place", "show_friends", "show_presence"]

_PLACE = re.compile(r"(\[(?P<six>[^]]+)\]|(?P<host>[^:]+)):(?P<port>[0-9]{1,5})")


def place(given: str) -> tuple[str, int]:
    """The host and port that HOST:PORT names; the host may be an IPv6 address, as in [::1]:8081."""
    match = _PLACE.fullmatch(given)
    if match is None:
        raise click.BadParameter(f"{given!r} is not HOST:PORT")
    return (match["six"] or match["host"], int(match["port"]))


def friend(given: str) -> int | str:
    """Who is meant: a number is a user of the presence service, anything else a name of the chat."""
    return int(given) if re.fullmatch("[0-9]{1,19}", given) else given


async def show_presence(port: int, host: str) -> None:
    """Serve presence alone until cancelled. Raises AddressError, in an exception group."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(lambda **status: serve_presence(port, host=host, **status))
        click.echo(f"Listening on {show_address(address)}", err=True)


async def show_friends(
    user_id: int,
    friends: tuple[int | str, ...],
    server: tuple[str, int],
    show: Callable[[Line], object],
    book: Phrasebook | None,
) -> None:
    """Say the news of one's friends, one line each, until cancelled; in JSON if there is no phrasebook.

    Raises PresenceLost, PresenceRefused, AddressError.
    """
    async with watch_friends(user_id, friends, server) as news:
        async for change in news:
            for line in book.render(change) if book else [Line(_as_json(change))]:
                show(line)


def _as_json(change: FriendChanged) -> str:
    return json.dumps({"user_id": change.user_id, "online": change.online})
