"""A server with presence that prints who comes and goes: own_server.py PORT PRESENCE-PORT."""

import sys
from functools import partial

import trio

import trio_chat


async def main(port, presence_port):
    changes_in, changes = trio.open_memory_channel(1000)
    roster = trio_chat.Roster()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio_chat.serve_chat, port, host="127.0.0.1", events=changes_in, roster=roster))
        await nursery.start(partial(trio_chat.serve_presence, presence_port, roster=roster))
        print("ready", flush=True)
        async for record in changes:
            print(record.name, "is on line" if record.online else "is away", flush=True)


try:
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
except* KeyboardInterrupt:  # a nursery raises it in an exception group
    pass
