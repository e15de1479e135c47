"""A chat with a presence service, with the usual limits or (`--without`) with none. Prints its two ports."""

import sys
from functools import partial

import attrs
import trio

from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_presence
from trio_chat.protocol.limits import LIMITS, Limits, Rate
from trio_chat.server.server import serve_chat

HOST = "127.0.0.1"
MANY = 10**9


def without_limits() -> Limits:
    """Limits that nobody reaches."""
    numbers = attrs.asdict(LIMITS, recurse=False)
    return Limits(**{name: Rate(MANY, MANY) if isinstance(old, Rate) else MANY for name, old in numbers.items()})


async def main() -> None:
    limits = without_limits() if "--without" in sys.argv else LIMITS
    roster = Roster()
    async with trio.open_nursery() as nursery:
        _, chat = await nursery.start(partial(serve_chat, 0, host=HOST, roster=roster, limits=limits))
        _, presence = await nursery.start(partial(serve_presence, 0, host=HOST, roster=roster, limits=limits))
        print(chat, presence, flush=True)


if __name__ == "__main__":
    trio.run(main)
