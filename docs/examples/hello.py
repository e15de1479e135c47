"""Says hello to one person, then to everyone: hello.py NAME HOST PORT."""

import sys

import trio

import trio_chat


async def main(name, host, port):
    async with trio_chat.open_chat("hello", (host, port)) as chat:
        try:
            delivery = await chat.send(name, "Hello!")
            print(delivery.how)
        except trio_chat.UnknownRecipient as error:
            print(error)
        await chat.send_all("Hello, everyone!")


trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
