"""The client at a terminal: what people see there, and that it is left as it was before.

Real processes, a pseudo terminal for each; the tests wait for what must appear on a screen.
"""

import os
import signal
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.end_to_end.processes import PATIENCE, open_programs
from tests.forkserver import open_from_scratch, open_program
from tests.pseudo_terminal import PseudoTerminal
from trio_chat import MessageReceived, open_chat

pytestmark = pytest.mark.xdist_group("programs")  # in one worker, like all tests of processes

ENTER, CTRL_C, CTRL_D, CTRL_U = "\r", "\x03", "\x04", "\x15"
PER_SECOND, MESSAGES = 500, 750


class PersonAtClient(PseudoTerminal):
    """A person at a terminal in which the client runs; `process` is the client."""

    async def ends(self):
        """Wait until the client ends, and the terminal is as before; return the exit code."""
        with trio.fail_after(PATIENCE):
            code = await self.process.wait()
        assert self.is_as_before
        return code

    async def leaves(self, code):
        """Wait until the client ends with this code, the terminal is as before, and the prompt is gone."""
        assert await self.ends() == code, "\n".join(self.picture.everything)
        await self.has_drawn()
        await self.sees(lambda picture: "2004" not in picture.modes)
        assert "25" in self.picture.modes, "the cursor is visible"
        assert not self.picture.lines or self.picture.lines[-1] != ">>>"


class Clients:
    """A server, and people at terminals."""

    def __init__(self, programs, server, nursery, home):
        self.programs, self.server, self.home = programs, server, Path(home)
        self._nursery = nursery

    async def start(self, name, *options, columns=80, rows=24, opening=open_program, **environment):
        """Start a client at a terminal; return the person there."""
        paths = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("DATA", "STATE")}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "NO_COLOR"))}
        env = inherited | paths | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment
        person = PersonAtClient(columns, rows)
        arguments = ["client", name, "127.0.0.1", self.server.port, *options]
        person.process = await opening("trio_chat", arguments, terminal=person.fd, env=env)
        self._nursery.start_soon(self._show, person)
        return person

    async def _show(self, person):
        """Draw the screen; when that is cancelled, end the client and close the terminal."""
        try:
            await person.show()
        finally:
            with trio.CancelScope(shield=True):
                person.process.kill()
                await person.process.wait()
                person.close()

    async def register(self, name, *options, **how):
        """The same; the client has registered."""
        person = await self.start(name, *options, **how)
        await person.sees(">>> [Welcome, You are registered.]")
        return person


@asynccontextmanager
async def open_clients(tmp_path):
    async with open_programs() as programs, trio.open_nursery() as nursery:
        yield Clients(programs, await programs.server(), nursery, tmp_path)
        nursery.cancel_scope.cancel()


async def test_after_every_end_the_terminal_is_as_before_and_the_code_is_right(tmp_path):
    async with open_clients(tmp_path) as clients:
        names = ("ctrl_c", "ctrl_d", "exits", "sigterm", "sigint", "is_stopped", "is_left", "is_unheard")
        people = {name: await clients.start(name) for name in names}
        for person in people.values():
            await person.sees(">>> [Welcome, You are registered.]")
            person.type("half")
            await person.sees(lambda picture: picture.lines[-1:] == [">>> half"])
        for name in ("ctrl_d", "exits", "is_left", "is_unheard"):
            people[name].type(CTRL_U)
        people["ctrl_c"].type(CTRL_C)
        await people["ctrl_c"].sees(lambda picture: picture.lines[-1:] == [">>>"])

        people["ctrl_c"].type(CTRL_C)
        people["ctrl_d"].type(CTRL_D)
        people["exits"].type(f"exit{ENTER}")
        people["sigterm"].process.send_signal(signal.SIGTERM)
        people["sigint"].process.send_signal(signal.SIGINT)
        people["is_stopped"].stop()
        people["is_stopped"].type(f"{CTRL_U}help{ENTER}" * 40)
        await people["ctrl_c"].leaves(130)
        await people["ctrl_d"].leaves(0)
        await people["exits"].leaves(0)
        await people["sigterm"].leaves(143)
        await people["sigint"].leaves(130)
        for name in ("ctrl_d", "exits"):
            assert people[name].picture.lines[-1] == ">>> [You are Offline. Bye.]"
        assert people["sigterm"].picture.lines == [">>> [Welcome, You are registered.]"]

        people["is_stopped"].process.send_signal(signal.SIGTERM)
        clients.server.process.kill()
        people["is_left"].type(f"dereg{ENTER}")
        people["is_unheard"].type(f"send_all hi{ENTER}who{ENTER}send bob hi{ENTER}")
        await people["is_left"].leaves(1)
        await people["is_unheard"].leaves(1)
        assert people["is_unheard"].picture.lines[-8:] == [
            *(">>> send_all hi", ">>> who", ">>> send bob hi"),
            ">>> [Your message to everyone was probably not sent.]",
            ">>> [Not done: who]",
            ">>> [Your message to bob was not sent.]",
            ">>> [Server not responding]",
            ">>> [Exiting]",
        ]
        assert people["is_left"].picture.lines[-3:] == [
            ">>> dereg",
            ">>> [Server not responding]",
            ">>> [Exiting]",
        ]
        assert await people["is_stopped"].ends() == 143


@pytest.mark.parametrize("moment", [0.2, 0.5, 0.8])
async def test_a_signal_at_any_moment_leaves_the_terminal_as_before(tmp_path, moment):
    async with open_clients(tmp_path) as clients:
        person = await clients.start("x", opening=open_from_scratch)
        await trio.sleep(moment)
        person.process.send_signal(signal.SIGTERM)
        assert await person.ends() in (143, -signal.SIGTERM)


async def test_a_half_typed_line_survives_a_flood_and_a_resize(tmp_path):
    async with open_clients(tmp_path) as clients:
        person = await clients.register("bob")
        async with open_chat("dave", ("127.0.0.1", clients.server.port)) as chat, trio.open_nursery() as flood:
            flood.start_soon(flood_with_messages, chat, "bob")
            typed = "send dave I can still type"
            for place, key in enumerate(typed):
                person.type(key)
                await trio.sleep(0.04)
                if place == len(typed) // 3:
                    person.resize(40, 12)
                elif place == 2 * len(typed) // 3:
                    person.resize(80, 24)
        await person.sees(lambda picture: len(numbers_in(picture)) == MESSAGES)
        assert sorted(numbers_in(person.picture)) == list(range(MESSAGES))
        # The last message may just have been printed, and the typed line below it not yet been drawn again.
        await person.sees(lambda picture: [line for line in picture.lines if "type" in line] == [f">>> {typed}"])
        person.type(f"{CTRL_U}send_all done{ENTER}")
        await person.sees(">>> [Group Message received by Server.]")
        person.type(CTRL_D)
        await person.leaves(0)


async def message_to(chat):
    with trio.fail_after(PATIENCE):
        async for event in chat.events:
            if isinstance(event, MessageReceived):
                chat.mark_shown()
                return event.text
    return None


async def flood_with_messages(chat, name):
    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        for number in range(MESSAGES):
            nursery.start_soon(chat.send, name, f"flood {number}")
            await trio.sleep_until(begun + number / PER_SECOND)


def numbers_in(picture):
    """The numbers of the flood's messages that are on lines of their own."""
    whole = [line.removeprefix(">>> dave: flood ") for line in picture.everything if line.startswith(">>> dave: flood")]
    return [int(number) for number in whole]


async def test_messages_the_bell_completion_and_pastes(tmp_path):
    async with open_clients(tmp_path) as clients:
        bob = await clients.register("bob", columns=100)
        carol = await clients.register("carol", "--no-bell", "--no-history", NO_COLOR="1", columns=100)
        async with open_chat("alice", ("127.0.0.1", clients.server.port)) as alice:
            await alice.send("bob", "hello")
            await alice.send("carol", "hello")
            await bob.sees(">>> alice: hello")
            await carol.sees(">>> alice: hello")
            await alice.send_all("is Bob there?")
            await bob.sees(">>> Group Chat alice: is Bob there?")
            assert 1 <= bob.picture.bells <= 2  # what comes together rings once
            assert carol.picture.bells == 0
            assert b";99;1malice" in bob.raw
            assert b";7mBob" in bob.raw
            assert b"99" not in carol.raw.replace(b"1999", b"")

            carol.type(f"send bob a secret{ENTER}")
            await bob.sees(">>> carol: a secret")
            bob.type("send al\t")
            await bob.sees(">>> send alice")
            bob.paste("one\ntwo\n")
            await bob.sees("[Paste of 2 lines: send each one with send alice? y, or any other key for no]")
            bob.type("y")
            assert [await message_to(alice) for _ in range(2)] == ["one", "two"]
            await bob.sees(">>> [Message received by alice.]")

            bob.type(f"who{ENTER}")
            heading = ">>> name   status    since     address"
            picture = await bob.sees(lambda picture: sum(" on line " in line for line in picture.lines) == 3)
            assert any(line.startswith(heading) for line in picture.lines)
            rows = [line.split() for line in picture.lines if " on line " in line]
            assert [row[1] for row in rows] == ["alice", "bob", "carol"]
            bob.type(CTRL_D)
            await bob.leaves(0)

    typed = tmp_path / "state" / "trio_chat" / "typed"
    assert typed.read_text().splitlines() == ["who"]
    assert stat.S_IMODE(typed.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in typed.parents[:2]} == {0o700}, "all that were made"
