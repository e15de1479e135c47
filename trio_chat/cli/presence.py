"""The programs behind `presence` and `friends`.

Their arguments are in cli/main.py, the handling of their errors in cli/running.py.
"""

import json
from functools import partial

import click
import trio

from trio_chat.presence.client import watch_friends
from trio_chat.presence.server import serve_presence
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook, show_address


async def run_presence(port: int, host: str) -> None:
    """Serve presence alone until cancelled. Raises AddressError, in an exception group."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve_presence, port, host=host))
        click.echo(f"Listening on {show_address(address)}", err=True)


async def run_friends(
    user_id: int,
    friends: tuple[int | str, ...],
    server: tuple[str, int],
    screen: Screen,
    book: Phrasebook | None,
) -> None:
    """Print one line whenever a friend comes online or goes offline; as JSON if there is no phrasebook.

    Raises PresenceLost, PresenceRefused, AddressError.
    """
    async with watch_friends(user_id, friends, server) as changes:
        async for change in changes:
            as_json = Line(json.dumps({"user_id": change.user_id, "online": change.online}))
            for line in book.render(change) if book else [as_json]:
                screen.show(line)
