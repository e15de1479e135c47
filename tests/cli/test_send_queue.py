"""`send --queue`: what it takes is on the disk before it is sent, and the next one sends what waits.

A real server and real clients in virtual time (tests/stage.py), and a store that outlives the program.
"""

import re
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio

import trio_chat.cli.client
from tests.stage import SERVER, identity_of
from trio_chat import (
    InvalidRecipient,
    InvalidText,
    NoSuchRoom,
    RegistrationClosed,
    StoreHeld,
    UnknownRecipient,
    open_chat,
)
from trio_chat.cli.client import ClientOptions
from trio_chat.cli.main import main
from trio_chat.cli.send import NotInGroup
from trio_chat.cli.send_queue import run_queued_send
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.protocol.messages import Deregister, Save
from trio_chat.server.moderation import RegistrationMode
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook

LATER = "The next send --queue or client --reconnect sends it.]"
SILENT = f"[Your message to bob waits: the server is not responding. {LATER}"


@attrs.define(eq=False)
class Robot:
    """A script that runs `send --queue`. `store` is what its next run finds."""

    options: ClientOptions
    store: MemoryClientStore
    printed: list

    async def sends(self, recipient, text):
        """Its exit code, and what it prints."""
        self.printed.clear()
        screen = Screen()
        screen.show = lambda line: self.printed.append(re.sub(r"\d\d:\d\d:\d\d", "TIME", line.text))
        code = await run_queued_send(self.options, recipient, text, screen, Phrasebook())
        return code, [*self.printed]

    @property
    def waiting(self):
        return [one.text for one in self.store.outgoing()]


@pytest.fixture
def robot(stage, monkeypatch):
    robot = Robot(ClientOptions("robot", SERVER), MemoryClientStore(), [])

    @asynccontextmanager
    async def open_store(self):
        yield robot.store

    on_stage = partial(open_chat, network=stage.network, clock=trio.current_time, host="10.0.9.9")
    monkeypatch.setattr(trio_chat.cli.client, "open_chat", lambda *args, **options: on_stage(*args, **options))
    monkeypatch.setattr(ClientOptions, "open_store", open_store)
    monkeypatch.setattr(ClientOptions, "open_identity", lambda self: identity_of(self.name))
    monkeypatch.setattr("time.time", trio.current_time)
    return robot


async def test_a_message_that_can_be_sent_has_the_lines_and_codes_of_send(stage, robot, autojump_clock):
    bob = await stage.enter("bob")
    assert await robot.sends("bob", "hi") == (0, ["[Message received by bob.]"])
    assert await robot.sends("#everyone", "all") == (0, ["[Group Message received by Server.]"])
    await bob.chat.deregister()
    saved = "[Offline Message to bob sent at TIME received by the server and saved.]"
    assert await robot.sends("bob", "later") == (3, [saved])
    assert robot.waiting == []
    assert bob.texts() == ["hi", "all"]


async def test_it_is_on_the_disk_before_the_first_datagram(stage, robot, autojump_clock):
    await stage.enter("bob")
    seen = []

    def look(data, source, destination):
        if "10.0.9.9" in (source[0], destination[0]) and not seen:
            seen.append(robot.waiting)
        return True

    stage.network.filters.append(look)
    await robot.sends("bob", "hi")
    assert seen == [["hi"]]


async def test_without_a_server_it_waits_and_the_next_one_sends_it(stage, robot, autojump_clock):
    bob = await stage.enter("bob")
    await stage.kill_server()
    assert await robot.sends("bob", "one") == (4, [SILENT])
    assert await robot.sends("bob", "two") == (4, [SILENT, "[Other messages wait, too: 1.]"])
    assert robot.waiting == ["one", "two"]
    await stage.start_server()
    await stage.pass_time(60)
    late = "[Your message to bob of TIME was received.]"
    assert await robot.sends("bob", "three") == (0, [late, late, "[Message received by bob.]"])
    assert robot.waiting == []
    assert bob.texts() == ["one", "two", "three"]


@pytest.mark.parametrize("lost", [(Save,), (Save, Deregister)])
async def test_if_the_server_falls_silent_before_it_is_sent_it_waits(stage, robot, lost, autojump_clock):
    bob = await stage.enter("bob")
    await bob.chat.deregister()
    stage.lose(lambda message, source, destination: isinstance(message, lost))
    assert await robot.sends("bob", "hi") == (4, [SILENT])
    assert robot.waiting == ["hi"]


async def test_if_the_server_falls_silent_as_it_leaves_the_message_was_sent(stage, robot, autojump_clock):
    await stage.enter("bob")
    stage.lose(lambda message, source, destination: isinstance(message, Deregister))
    assert await robot.sends("bob", "hi") == (0, ["[Message received by bob.]"])


async def test_a_reason_that_may_pass_is_named(stage, robot, monkeypatch, autojump_clock):
    monkeypatch.setattr("trio_chat.storage.mailboxes.MAILBOX_LETTERS", 4)
    bob = await stage.enter("bob")
    await bob.chat.deregister()
    assert [(await robot.sends("bob", f"{n}"))[0] for n in range(2)] == [3, 4]
    assert robot.printed == [f"[Your message to bob waits: the mailbox of bob is full. {LATER}"]


async def test_a_host_that_is_not_found_may_be_found_later(stage, robot, autojump_clock):
    await stage.enter("bob")
    robot.options = attrs.evolve(robot.options, server=("chat.example", SERVER[1]))
    code, (line,) = await robot.sends("bob", "hi")
    assert (code, robot.waiting) == (4, ["hi"])
    assert line == f"[Your message to bob waits: cannot find the host 'chat.example': no such name. {LATER}"


@pytest.mark.parametrize(
    ("recipient", "text", "error"),
    [
        ("nobody", "hi", UnknownRecipient),
        ("#lunch", "hi", NoSuchRoom),
        ("#dinner", "hi", NotInGroup),
        ("Robot", "hi", InvalidRecipient),
        ("bob", "", InvalidText),
    ],
)
async def test_what_is_refused_does_not_wait(stage, robot, recipient, text, error, autojump_clock):
    bob = await stage.enter("bob")
    await bob.chat.create_room("dinner")
    with pytest.raises(error):
        await robot.sends(recipient, text)
    assert robot.waiting == []


async def test_a_name_that_may_not_come_in_has_nothing_that_waits(stage, robot, autojump_clock):
    await stage.kill_server()
    stage.registration = RegistrationMode.CLOSED
    await stage.start_server()
    with pytest.raises(RegistrationClosed):
        await robot.sends("bob", "hi")
    assert robot.waiting == []


async def test_an_earlier_message_that_fails_is_told(stage, robot, autojump_clock):
    await stage.enter("bob")
    await EarlyOutbox("robot", robot.store, trio.current_time).put("nobody", "", "old")
    code, printed = await robot.sends("bob", "hi")
    assert code == 0
    assert sorted(printed) == sorted(
        ["[Your message to nobody of TIME was not sent:]", "[No such user: nobody]", "[Message received by bob.]"]
    )
    assert robot.waiting == []


async def test_a_name_in_use_here_is_refused(robot, monkeypatch):
    @asynccontextmanager
    async def open_store(self):
        raise StoreHeld("held")
        yield

    monkeypatch.setattr(ClientOptions, "open_store", open_store)
    with pytest.raises(StoreHeld, match="robot is in use by another program here"):
        await robot.sends("bob", "hi")


def test_a_queue_needs_a_disk(capsys):
    args = ["send", "bob", "hi", "--as", "robot", "--server", "127.0.0.1:5000", "--queue", "--store", ":memory:"]
    assert main(args) == 2
    assert capsys.readouterr().err.endswith("--queue needs a file: not --store :memory:\n")
