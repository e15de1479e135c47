"""A stage for real processes: starts servers and clients, types, listens, and records who said what and when.

Knows no play and no phrase but the one that may stand anywhere. Every wait has a deadline; to a failure the
whole play so far is noted.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from tempfile import TemporaryDirectory

import trio

from tests.forkserver import ENVIRONMENT, ROOT, open_program

PATIENCE = 15
"""How long anything may take, in seconds: five windows without the server, on a machine that is busy."""
SETTLE = 0.15
"""How long a change of the table may take to reach everyone, in seconds; in wording `group` they do not tell."""
LONGEST_SHOWN = 400
"""How much of a line the record shows."""
ANYWHERE = "[Client Table Updated]"

_VOLATILE = (
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "HH:MM:SS"),
    (re.compile(r"^\(\d{9,}\.\d+\)"), "(EPOCH)"),
    (re.compile(r"(\('[\w.-]+', '[\w.:]+', )\d+(, (?:True|False)\))"), r"\1PORT\2"),
)


def plain(line):
    """The line without what differs between performances: blanks, prompts, clock times, epochs, ports."""
    line = " ".join(re.sub(r"^(>>> ?)+", "", line.strip()).split())
    for pattern, replacement in _VOLATILE:
        line = pattern.sub(replacement, line)
    return line


class Party:
    """One process on the stage. What it says waits here, line by line, until it is looked at."""

    def __init__(self, stage, name, process, keyboard, screen):
        self.stage = stage
        self.name = name
        self.process = process
        self.keyboard = keyboard
        self.screen = screen
        self.port = None
        self.key = None
        self.updates = 0
        self._lines_in, self._lines = trio.open_memory_channel(10_000)
        self._errors_in, self._errors = trio.open_memory_channel(10_000)
        self._stirred = trio.Event()

    async def listen(self):
        """Writes down both outputs until they end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen_to, self.screen, self._lines_in, "|")
            nursery.start_soon(self._listen_to, self.process.stderr, self._errors_in, "!")

    async def _listen_to(self, stream, lines, mark):
        rest = b""
        async with lines:
            # A terminal ends in an error.
            with suppress(trio.BrokenResourceError):
                async for data in stream:
                    *whole, rest = (rest + data).split(b"\n")
                    for line in whole:
                        self._note(line.decode(errors="replace"), lines, mark)
            if rest:
                self._note(rest.decode(errors="replace"), lines, mark)

    def _note(self, line, lines, mark):
        if not plain(line):
            return
        self.stage.note(self.name, mark, line)
        if mark == "|" and plain(line) == ANYWHERE:
            self.updates += 1
            self._stirred.set()
            self._stirred = trio.Event()
        else:
            lines.send_nowait(line)

    async def types(self, command):
        """Types one line."""
        self.stage.note(self.name, ">", command)
        try:
            await self.keyboard.send_all(command.encode() + b"\n")
        except trio.BrokenResourceError:
            raise AssertionError(f"{self.name} is gone and cannot type {command}") from None

    async def types_no_more(self):
        """Ends its standard input."""
        self.stage.note(self.name, ">", "(end of input)")
        await self.keyboard.aclose()

    async def says(self):
        """The next line exactly as it stands behind its prompt, but for the one that may stand anywhere."""
        return (await self._next(self._lines, "its next line")).removeprefix(">>> ")

    async def complains(self):
        """The next line on standard error."""
        return await self._next(self._errors, "its next complaint")

    async def sees(self, *lines):
        """The next lines are these, once they are plain."""
        for line in lines:
            got = await self._next(self._lines, line)
            if plain(got) != plain(line):
                raise AssertionError(f"{self.name} was to say\n    {plain(line)}\nbut said\n    {plain(got)}")

    async def hears_of_the_table(self, since=0):
        """Waits until the table was announced more than `since` times in all."""
        with trio.move_on_after(PATIENCE):
            while self.updates <= since:
                await self._stirred.wait()
            return
        raise AssertionError(f"{self.name} was to say {ANYWHERE}")

    async def leaves(self, code):
        """It ends with that exit code, and has said nothing that was not looked at, on either output."""
        with trio.move_on_after(PATIENCE):
            await self.process.wait()
            await self._ends(self._lines)
            await self._ends(self._errors)
        if self.process.returncode != code:
            raise AssertionError(f"{self.name} was to leave with {code}, not {self.process.returncode}")

    async def last_words(self):
        """What it says until it ends, on standard output and on standard error."""
        with trio.move_on_after(PATIENCE):
            return [line async for line in self._lines], [line async for line in self._errors]
        raise AssertionError(f"{self.name} was to end")

    def freezes(self):
        """SIGSTOP: neither reads nor answers."""
        self.stage.note(self.name, "-", "freezes")
        self.process.send_signal(signal.SIGSTOP)

    def thaws(self):
        """SIGCONT."""
        self.stage.note(self.name, "-", "thaws")
        self.process.send_signal(signal.SIGCONT)

    async def is_killed(self):
        """SIGKILL, and the end of it."""
        self.stage.note(self.name, "-", "is killed")
        self.process.kill()
        await self.leaves(-signal.SIGKILL)

    def interrupt(self):
        """Ctrl-C."""
        self.stage.note(self.name, ">", "^C")
        self.process.send_signal(signal.SIGINT)

    async def _next(self, lines, expected):
        with trio.move_on_after(PATIENCE):
            try:
                return await lines.receive()
            except trio.EndOfChannel:
                raise AssertionError(f"{self.name} is gone and never said\n    {expected}") from None
        raise AssertionError(f"{self.name} never said\n    {expected}")

    async def _ends(self, lines):
        async for line in lines:
            raise AssertionError(f"{self.name} also said\n    {line}")


def free_port():
    """A UDP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return udp.getsockname()[1]


class Stage:
    """Where one play takes place; `record` is all that happened, in order."""

    def __init__(self, nursery, data_folder):
        self._environment = ENVIRONMENT | {
            "COLUMNS": "120",
            "TERM": "dumb",
            "XDG_DATA_HOME": data_folder,
            "XDG_STATE_HOME": data_folder,
        }
        self.record = []
        self.parties = []
        self._nursery = nursery
        self._opened_at = trio.current_time()

    def note(self, who, mark, what):
        shown = what if len(what) < LONGEST_SHOWN else what[:LONGEST_SHOWN] + "..."
        self.record.append(f"{trio.current_time() - self._opened_at:7.3f} {who:>8} {mark} {shown}")

    async def start(self, name, *arguments):
        """Starts `python -m trio_chat` with these arguments and pipes all around."""
        self._note_start(name, arguments)
        process = await open_program("trio_chat", arguments, env=self._environment)
        return self._enter(Party(self, name, process, process.stdin, process.stdout))

    async def start_at_a_terminal(self, name, *arguments):
        """The same at a terminal; its lines come as a terminal shows them, echo and prompts included."""
        here, there = os.openpty()
        self._note_start(name, arguments)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_chat", *map(str, arguments)],
            stdin=there,
            stdout=there,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=self._environment,
        )
        os.close(there)
        terminal = trio.lowlevel.FdStream(here)
        return self._enter(Party(self, name, process, terminal, terminal))

    def _note_start(self, name, arguments):
        self.note(name, "$", " ".join(["-m", "trio_chat", *map(str, arguments)]))

    def _enter(self, party):
        self.parties.append(party)
        self._nursery.start_soon(party.listen)
        return party

    async def server(self, *arguments):
        """A server that listens on its `port`, a free one without arguments; where it serves a chat, with its `key`."""
        arguments = arguments or ("server", 0)
        party = await self.start("server", *arguments)
        said = await party.complains()
        if not re.fullmatch(r"Listening on \S+:\d+", said):
            raise AssertionError("the server was to say where it listens")
        party.port = int(said.rpartition(":")[2])
        if arguments[0] != "presence":
            said = await party.complains()
            if not re.fullmatch(r"Key: [a-z2-7]{4}(-[a-z2-7]{4}){3}", said):
                raise AssertionError("the server was to show its key")
            party.key = said.removeprefix("Key: ")
        return party

    async def client(self, name, server, *options, host="127.0.0.1"):
        """A client in the wording `group` that is registered and known to everyone."""
        party = await self.start(name, "client", name, host, server.port, *options)
        await party.sees("[Welcome, You are registered.]")
        await self.settle()
        return party

    async def settle(self):
        """Waits for a change of the table to be known to everyone."""
        await trio.sleep(SETTLE)

    async def close(self):
        """Whoever is still here is killed. Whether they were to be here yet is for the play to say."""
        for party in self.parties:
            party.process.kill()
            await party.process.wait()


@asynccontextmanager
async def open_stage():
    """A stage; at its end nobody is left on it. A failed assertion comes out bare, the record noted to it."""
    with TemporaryDirectory() as data_folder:
        async with _open_stage(data_folder) as stage:
            yield stage


@asynccontextmanager
async def _open_stage(data_folder):
    failure = None
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery, data_folder)
        try:
            yield stage
        except AssertionError as error:
            failure = error
        finally:
            with trio.CancelScope(shield=True):
                await stage.close()
            nursery.cancel_scope.deadline = trio.current_time() + 1
    if failure is not None:
        failure.add_note("\n".join(["The play so far:", *stage.record]))
        raise failure
