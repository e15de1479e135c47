"""Sends each message back to its sender, until Ctrl-C: echo_bot.py HOST PORT."""

import sys
from contextlib import suppress

import trio

from trio_chat import LetterReceived, MessageReceived, open_chat


async def main(host, port):
    async with open_chat("echo", (host, port)) as chat:
        async for event in chat.events:
            match event:
                case MessageReceived(sender, text) | LetterReceived(sender, text, group=False):
                    await chat.send(sender, text)


with suppress(KeyboardInterrupt):
    trio.run(main, sys.argv[1], int(sys.argv[2]))
