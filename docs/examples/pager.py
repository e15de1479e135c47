"""Sends each line that is added to a file to one person, and loses none: pager.py FILE PERSON HOST PORT.

Next to that file it keeps its keys and what waits to be sent. If the server is away, or the program is killed, the
message is sent later.
"""

import sys
from pathlib import Path

import trio

from trio_chat import OutgoingChanged, open_chat, open_client_store, open_identity


async def main(path, person, host, port):
    identity = open_identity(path.with_suffix(".key"))
    async with (
        open_client_store(path.with_suffix(".db")) as store,
        open_chat("pager", (host, port), identity=identity, store=store, reconnect=True) as chat,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(report, chat)
        async for line in new_lines(trio.Path(path)):
            await chat.outbox.put(person, line)


async def report(chat):
    async for event in chat.events:
        match event:
            case OutgoingChanged(number=number, state=state, error=error):
                why = f" ({error})" if error else ""
                print(f"message {number}: {state}{why}", flush=True)


async def new_lines(path):
    await path.touch()
    async with await path.open(encoding="utf-8") as file:
        await file.seek(0, 2)
        while True:
            line = await file.readline()
            if line.strip():
                yield line.strip()
            elif not line:
                await trio.sleep(0.2)


try:
    trio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
except* KeyboardInterrupt:  # a nursery raises it in a group
    pass
