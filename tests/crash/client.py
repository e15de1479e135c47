"""A client of the crash play, in a process of its own: sends and posts as fast as answers come, comes and goes.

What it did it writes into its diary, one line each, afterwards. It judges nothing; count.py does.
Standard input is its cue: the first byte lets it speak, the second one hushes it, and at the end it leaves.
"""

import json
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

import trio

from trio_chat import (
    Chat,
    ForgedReceipt,
    ForgedReceiptReceived,
    GroupMessageReceived,
    KeyChanged,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MailboxFull,
    MessageNotOpened,
    MessageReceived,
    NotOpened,
    NotRegistered,
    ReceiptReceived,
    ServerNotResponding,
    SignedOff,
    TooFast,
    open_chat,
    open_client_store,
    open_identity,
)

SPEAKERS = 4
"""Messages of one client that may be on their way at the same time."""
POSTS = 1 / 6
"""How many of the messages go to everyone."""
HERE, AWAY = (0.2, 0.8), (0.05, 0.3)
"""For how long a client stays and is away, from and to, in seconds."""
REFUSED = 0.2
"""For how long whoever was refused says nothing, in seconds; the limit lets a letter in every 0.6."""


class Diary:
    """Lines that a SIGKILL leaves whole: each is appended by one write, and begins with the time and what was done."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *what):
        os.write(self._fd, json.dumps([time.monotonic(), *what]).encode() + b"\n")


class Voice:
    """One life of one client: what it says, and when it is there to say it."""

    def __init__(self, chat: Chat, diary, life, others):
        self.hushed = False
        self._chat = chat
        self._diary = diary
        self._life = life
        self._others = others
        self._said = 0

    async def speak(self):
        """One message after the other, each to one or to everyone."""
        while not self.hushed:
            try:
                await self._say()
            except NotRegistered:
                await self._wait_to_be_back()
            except (MailboxFull, TooFast) as error:
                self._diary.note("refused", type(error).__name__)
                await trio.sleep(REFUSED)
            except (NotOpened, ForgedReceipt, KeyChanged) as error:
                self._diary.note("alarm", repr(error))
                await trio.sleep(REFUSED)

    async def _wait_to_be_back(self):
        while not self._chat.online:  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.02)

    async def _say(self):
        recipient = None if random.random() < POSTS else random.choice(self._others)
        self._said += 1
        text = f"{self._chat.name} {self._life}.{self._said} {'post' if recipient is None else 'message'}"
        self._diary.note("tries", text, recipient)
        if recipient is None:
            await self._chat.send_all(text)
            self._diary.note("sent", text, "posted", None)
        else:
            delivery = await self._chat.send(recipient, text)
            self._diary.note("sent", text, delivery.how, delivery.sent_at)

    async def come_and_go(self):
        while not self.hushed:
            await trio.sleep(random.uniform(*HERE))
            await self.go_and_come()

    async def go_and_come(self):
        with suppress(NotRegistered, ServerNotResponding):
            await self._chat.deregister()
            await trio.sleep(random.uniform(*AWAY))
        if not self._chat.online:
            await self._chat.register()


async def show(chat, diary):
    async for event in chat.events:
        match event:
            case MessageReceived() | GroupMessageReceived() | LetterReceived():
                diary.note("shows", event.text)
            case ReceiptReceived():
                diary.note("receipt", event.recipient, event.sent_at)
            case LetterUnreadable() | ForgedReceiptReceived() | MessageNotOpened() | KeyWarning() | SignedOff():
                diary.note("alarm", repr(event))


async def play(name, life, port, server_port, folder, others):
    """One life: whoever is born again under the same name finds its keys and its store and goes on with its diary."""
    identity = open_identity(folder / f"{name}.key")
    diary = Diary(folder / f"{name}.diary")
    cues = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    server = ("127.0.0.1", server_port)
    async with (
        open_client_store(folder / f"{name}.db") as store,
        open_chat(name, server, port=port, host="127.0.0.1", identity=identity, store=store, reconnect=True) as chat,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(show, chat, diary)
        diary.note("here")
        voice = Voice(chat, diary, life, others)
        if await cues.receive_some(1):
            async with trio.open_nursery() as talk:
                for _ in range(SPEAKERS):
                    talk.start_soon(voice.speak)
                talk.start_soon(voice.come_and_go)
                await cues.receive_some(1)
                voice.hushed = True
            # The server may not know us since its last start; nobody would wait for the next heartbeat to tell.
            await voice.go_and_come()
            diary.note("hushed")
            await cues.receive_some(1)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    own_name, own_life, own_port, server_port, own_folder, *names = sys.argv[1:]
    trio.run(play, own_name, int(own_life), int(own_port), int(server_port), Path(own_folder), names)
