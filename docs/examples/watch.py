"""Prints when friends come and go; the user id is 7: watch.py HOST PORT FRIEND..."""

import sys
from contextlib import suppress

import trio

import trio_chat


async def main(host, port, *friends):
    async with trio_chat.watch_friends(7, friends, (host, port)) as changes:
        print("watching", flush=True)
        async for change in changes:
            print(change.user_id, "is there" if change.online else "has gone", flush=True)


with suppress(KeyboardInterrupt):
    trio.run(main, sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
