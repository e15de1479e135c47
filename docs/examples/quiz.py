"""Asks somebody for two words, each in a message of its own: quiz.py NAME HOST PORT."""

import sys

import trio

from trio_chat import MessageReceived, open_chat


async def next_text(chat, name):
    async for event in chat.events:
        match event:
            case MessageReceived(sender, text) if sender == name:
                chat.mark_shown()  # without this, the next loop would begin with the same message
                return text
    return None  # the chat has ended


async def main(name, host, port):
    async with open_chat("quiz", (host, port)) as chat:
        await chat.send(name, "Your name and your favourite colour?")
        who, colour = await next_text(chat, name), await next_text(chat, name)
        print(f"{who} likes {colour}.")


trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
