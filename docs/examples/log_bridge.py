"""Writes each message to everyone into a file, one a line, and misses none: log_bridge.py FILE HOST PORT.

Next to that file it keeps its keys and its letters. Messages that are sent while it does not run come when it runs
again.
"""

import sys
from contextlib import suppress
from pathlib import Path

import trio

from trio_chat import GroupMessageReceived, LetterReceived, open_chat, open_client_store, open_identity


async def main(path, host, port):
    identity = open_identity(path.with_suffix(".key"))
    async with (
        open_client_store(path.with_suffix(".db")) as store,
        open_chat("log", (host, port), identity=identity, store=store, reconnect=True) as chat,
        await trio.open_file(path, "a", encoding="utf-8") as log,
    ):
        async for event in chat.events:
            match event:
                case GroupMessageReceived(sender, text) | LetterReceived(sender, text, group=True):
                    await log.write(f"{sender}: {text!r}\n")
                    await log.flush()


with suppress(KeyboardInterrupt):
    trio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
