"""A client of the crash test, in a process of its own: sends and posts as fast as answers come, leaves and returns.

Most messages go by its outbox, where the next run finds those that wait. It writes what it did into its log, one line
each, afterwards. count.py checks the logs.
Its standard input controls it: the first byte starts the messages, the second one stops them, the end of input ends it.
"""

import json
import os
import random
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from tests.crash.files import OUTBOX
from trio_chat import (
    Chat,
    ForgedReceipt,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    KeyChanged,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MailboxFull,
    MessageNotDelivered,
    MessageNotOpened,
    MessageReceived,
    MessageState,
    NotOpened,
    NotRegistered,
    OutgoingChanged,
    ReceiptReceived,
    SecondTextReceived,
    ServerNotResponding,
    SignedOff,
    TooFast,
    WrongReceipt,
    WrongReceiptReceived,
    open_chat,
    open_client_store,
    open_identity,
)

SENDERS = 4
"""Messages of one client that may be in progress at the same time."""
POSTS = 1 / 6
"""How many of the messages go to everyone."""
CLASSIC = 1 / 4
"""How many of the messages do not go by the outbox: a kill, and a silent server, leave them in doubt."""
MOST_WAITING = 6
"""Messages of one queue that may wait in the outbox. The server lets one letter in every 0.6 s, whatever waits."""
ONLINE, OFFLINE = (0.2, 0.8), (0.05, 0.3)
"""For how long a client is registered, and is not, from and to, in seconds."""
REFUSED = 0.2
"""How long a sender waits after a refusal, in seconds. The limit lets one letter in every 0.6."""
TICK = 0.1
"""Seconds between two notes that time has passed."""


class Log:
    """Lines that a SIGKILL leaves whole: each is appended by one write, and begins with the time and what was done."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *what):
        os.write(self._fd, json.dumps([time.monotonic(), *what]).encode() + b"\n")

    def sync(self):
        os.fsync(self._fd)


class Sender:
    """One run of one client: what it sends, and when it is registered."""

    def __init__(self, chat: Chat, log, run, others):
        self.stopped = False
        self._chat = chat
        self._log = log
        self._run = run
        self._others = others
        self._sent = 0

    async def send_messages(self):
        """One message after the other, each to one person or to everyone, by the outbox or without it."""
        while not self.stopped:
            recipient = None if random.random() < POSTS else random.choice(self._others)
            self._sent += 1
            text = f"{self._chat.name} {self._run}.{self._sent} {'post' if recipient is None else 'message'}"
            if random.random() < CLASSIC:
                await self._send(text, recipient)
            else:
                await self._put(text, recipient)

    async def _send(self, text, recipient):
        try:
            await self._send_now(text, recipient)
        except NotRegistered:
            while not self._chat.online:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.02)
        except (MailboxFull, TooFast, ServerNotResponding) as error:
            self._log.note("refused", type(error).__name__)
            await trio.sleep(REFUSED)
        except (NotOpened, ForgedReceipt, WrongReceipt, KeyChanged) as error:
            self._log.note("alarm", repr(error))
            await trio.sleep(REFUSED)

    async def _send_now(self, text, recipient):
        self._log.note("tries", text, recipient)
        if recipient is None:
            await self._chat.send_all(text)
            self._log.note("sent", text, "posted", None)
        else:
            delivery = await self._chat.send(recipient, text)
            self._log.note("sent", text, delivery.how, delivery.sent_at)

    async def _put(self, text, recipient):
        outbox = self._chat.outbox
        while sum(one.recipient == (recipient or "") for one in outbox.waiting()) >= MOST_WAITING:
            if self.stopped:
                return
            await trio.sleep(0.02)
        self._log.note("puts", text, recipient)
        one = await (outbox.put_in_room("everyone", text) if recipient is None else outbox.put(recipient, text))
        self._log.note("accepted", text, one.number, one.at)

    async def tick(self, ticks):
        """Note that time passes: as slowly as it does for this program and its disk."""
        while not self.stopped:
            await trio.sleep(TICK)
            await trio.to_thread.run_sync(ticks.sync)
            ticks.note()

    async def leave_and_return_often(self):
        while not self.stopped:
            await trio.sleep(random.uniform(*ONLINE))
            await self.leave_and_return()

    async def leave_and_return(self):
        with suppress(NotRegistered, ServerNotResponding):
            await self._chat.deregister()
            await trio.sleep(random.uniform(*OFFLINE))
        while not self._chat.online:
            with suppress(ServerNotResponding):
                await self._chat.register()

    async def note_when_nothing_waits(self):
        while self._chat.outbox.waiting():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.05)
        self._log.note("empty")


ALARMS = (
    LetterUnreadable,
    SecondTextReceived,
    ForgedReceiptReceived,
    WrongReceiptReceived,
    MessageNotOpened,
    MessageNotDelivered,
    KeyWarning,
    SignedOff,
)


async def log_events(chat, log):
    async for event in chat.events:
        match event:
            case MessageReceived():
                log.note("shows", event.text, False)  # directly or as an entry: nobody knows
            case GroupMessageReceived() | LetterReceived():
                log.note("shows", event.text, True)
            case OutgoingChanged(state=MessageState.WAITING):
                log.note("waits", type(event.error).__name__)
            case OutgoingChanged():
                log.note("told", event.number, OUTBOX + event.state, event.sent_at, event.error and repr(event.error))
            case ReceiptReceived():
                log.note("receipt", event.recipient, event.sent_at)
            case GroupMessagesMissed():
                log.note("missed", event.count)
            case _ if isinstance(event, ALARMS):
                log.note("alarm", repr(event))


@asynccontextmanager
async def note_what_waits(store, log):
    """Before anything is sent: what an earlier run has accepted, even if it was killed before it could note that."""
    for one in store.outgoing():
        log.note("keeps", one.text, one.number, one.at)
    yield


async def main(name, run, port, server_port, folder, others):
    """One run. The next one of the same name finds its keys and its store, and appends to its log."""
    identity = open_identity(folder / f"{name}.key")
    log = Log(folder / f"{name}.log")
    commands = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    server = ("127.0.0.1", server_port)
    async with (
        open_client_store(folder / f"{name}.db") as store,
        note_what_waits(store, log),
        open_chat(name, server, port=port, host="127.0.0.1", identity=identity, store=store, reconnect=True) as chat,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(log_events, chat, log)
        log.note("online")
        sender = Sender(chat, log, run, others)
        if await commands.receive_some(1):
            async with trio.open_nursery() as senders:
                for _ in range(SENDERS):
                    senders.start_soon(sender.send_messages)
                senders.start_soon(sender.leave_and_return_often)
                senders.start_soon(sender.tick, Log(folder / f"{name}.ticks"))
                await commands.receive_some(1)
                sender.stopped = True
            # A server that has been restarted may not know this client before its next heartbeat, which is far away.
            await sender.leave_and_return()
            log.note("stopped")
            nursery.start_soon(sender.note_when_nothing_waits)
            await commands.receive_some(1)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    own_name, own_run, own_port, server_port, own_folder, *names = sys.argv[1:]
    trio.run(main, own_name, int(own_run), int(own_port), int(server_port), Path(own_folder), names)
