"""Greets everybody who joins a room, until Ctrl-C: greeter.py ROOM HOST PORT."""

import sys
from contextlib import suppress

import trio

from trio_chat import MemberJoined, NoSuchRoom, open_chat


async def main(room, host, port):
    async with open_chat("greeter", (host, port)) as chat:
        try:
            await chat.join(room)
        except NoSuchRoom:
            await chat.create_room(room)
        async for event in chat.events:
            match event:
                case MemberJoined(joined, name):
                    await chat.post(joined, f"Welcome, {name}!")


with suppress(KeyboardInterrupt):
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
