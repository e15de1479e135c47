"""Real processes: starts servers and clients, types into them, reads their lines, and records who printed what when.

Which program prints what is not known here, but for one line that may come at any time. Every wait has a deadline; a
failed assertion gets the record as a note.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from tests.forkserver import ENVIRONMENT, ROOT, open_from_scratch, open_program
from tests.memory_folder import MEMORY

PATIENCE = 180
"""How long anything may take, in seconds. It matters only when a test fails. The first program of a test may need one
for its start on a machine with 20 times as much to do as it can."""
TIMERS = 0.15
"""Seconds in which the server's and the clients' short timers expire: changes of the table wait for up to 100 ms."""
LOOK_EVERY = 0.01
LONGEST_SHOWN = 400
"""How much of a line the record shows."""
ANYWHERE = "[Client Table Updated]"
"""Clients print it when the server's table comes, which may be between any two other lines."""

_VOLATILE = (
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "HH:MM:SS"),
    (re.compile(r"(?:^|(?<=\) ))\(\d{9,}\.\d+\)"), "(EPOCH)"),
    (re.compile(r"(\('[\w.-]+', '[\w.:]+', )\d+(, (?:True|False)\))"), r"\1PORT\2"),
)


def plain(line):
    """The line without what differs from run to run: blanks, prompts, clock times, epochs, ports."""
    line = " ".join(re.sub(r"^(>>> ?)+", "", line.strip()).split())
    for pattern, replacement in _VOLATILE:
        line = pattern.sub(replacement, line)
    return line


class Program:
    """One running program. Its lines are kept until the test looks at them."""

    def __init__(self, programs, name, process, keyboard, screen):
        self.programs = programs
        self.name = name
        self.process = process
        self.keyboard = keyboard
        self.screen = screen
        self.port = None
        self.key = None
        self.updates = 0
        self._lines_in, self._lines = trio.open_memory_channel(10_000)
        self._errors_in, self._errors = trio.open_memory_channel(10_000)
        self._updated = trio.Event()

    async def listen(self):
        """Reads both outputs until they end."""
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
        # How many there are, and with which addresses, depends on the machine.
        if not plain(line) or line.startswith("Others join with: "):
            return
        self.programs.note(self.name, mark, line)
        if mark == "|" and plain(line) == ANYWHERE:
            self.updates += 1
            self._updated.set()
            self._updated = trio.Event()
        else:
            lines.send_nowait(line)

    async def types(self, command):
        """Types one line."""
        self.programs.note(self.name, ">", command)
        try:
            await self.keyboard.send_all(command.encode() + b"\n")
        except trio.BrokenResourceError:
            raise AssertionError(f"{self.name} has ended and cannot read {command}") from None

    async def ends_input(self):
        """Closes its standard input."""
        self.programs.note(self.name, ">", "(end of input)")
        await self.keyboard.aclose()

    async def next_line(self):
        """The next line of its output, exactly, without the prompt. ANYWHERE is left out."""
        return (await self._next(self._lines, "its next line")).removeprefix(">>> ")

    async def next_error(self):
        """The next line of its standard error."""
        return await self._next(self._errors, "its next line on standard error")

    async def sees(self, *lines):
        """The next lines are these, apart from what differs from run to run."""
        for line in lines:
            got = await self._next(self._lines, line)
            if plain(got) != plain(line):
                raise AssertionError(f"{self.name} should print\n    {plain(line)}\nbut printed\n    {plain(got)}")

    async def sees_update(self, since=0):
        """Waits until ANYWHERE was printed more than `since` times in all."""
        with trio.move_on_after(PATIENCE):
            while self.updates <= since:
                await self._updated.wait()
            return
        raise AssertionError(f"{self.name} should print {ANYWHERE}")

    async def exits(self, code):
        """It ends with that exit code, and both outputs have been looked at completely."""
        with trio.move_on_after(PATIENCE):
            await self.process.wait()
            await self._ends(self._lines)
            await self._ends(self._errors)
        if self.process.returncode != code:
            raise AssertionError(f"{self.name} should exit with {code}, not {self.process.returncode}")

    async def rest(self):
        """All lines until it ends, of standard output and of standard error."""
        with trio.move_on_after(PATIENCE):
            return [line async for line in self._lines], [line async for line in self._errors]
        raise AssertionError(f"{self.name} should end")

    def freezes(self):
        """SIGSTOP: neither reads nor answers."""
        self.programs.note(self.name, "-", "freezes")
        self.process.send_signal(signal.SIGSTOP)

    def thaws(self):
        """SIGCONT."""
        self.programs.note(self.name, "-", "thaws")
        self.process.send_signal(signal.SIGCONT)

    async def is_killed(self):
        """SIGKILL."""
        self.programs.note(self.name, "-", "is killed")
        self.process.kill()
        await self.exits(-signal.SIGKILL)

    def interrupt(self):
        """Ctrl-C."""
        self.programs.note(self.name, ">", "^C")
        self.process.send_signal(signal.SIGINT)

    async def _next(self, lines, expected):
        with trio.move_on_after(PATIENCE):
            try:
                return await lines.receive()
            except trio.EndOfChannel:
                raise AssertionError(f"{self.name} has ended and never printed\n    {expected}") from None
        raise AssertionError(f"{self.name} never printed\n    {expected}")

    async def _ends(self, lines):
        async for line in lines:
            raise AssertionError(f"{self.name} also printed\n    {line}")


def free_port():
    """A port that is free for UDP and TCP, and that neither the system nor another test hands out during these tests.

    The system hands out ports above 32,768. Among tests, a TCP socket at a second port marks the first one as taken.
    """
    while True:
        port = random.randrange(10_000, 15_000)
        with socket.socket() as mark, socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            with suppress(OSError):
                mark.bind(("127.0.0.1", port + 5_000))
                tcp.bind(("", port))
                udp.bind(("", port))
                mark.detach()  # stays open until this process ends
                return port


class Programs:
    """The programs of one test, in one data folder. `record` is all that happened, in order."""

    def __init__(self, nursery, data_folder):
        self._environment = ENVIRONMENT | {
            "COLUMNS": "120",
            "TERM": "dumb",
            "XDG_DATA_HOME": data_folder,
            "XDG_STATE_HOME": data_folder,
        }
        self.data_folder = data_folder
        self.record = []
        self.running = []
        self._nursery = nursery
        self._opened_at = trio.current_time()

    def note(self, who, mark, what):
        shown = what if len(what) < LONGEST_SHOWN else what[:LONGEST_SHOWN] + "..."
        self.record.append(f"{trio.current_time() - self._opened_at:7.3f} {who:>8} {mark} {shown}")

    async def start(self, name, *arguments, file="trio_chat", on=()):
        """Starts `python -m trio_chat` with these arguments, and pipes for its streams. `file`: a script instead.

        `on`: a command that runs it on another host, with a new interpreter.
        """
        self._note_start(name, arguments)
        if on:
            process = await open_from_scratch("trio_chat", arguments, env=self._environment, on=on)
        else:
            process = await open_program(str(file), arguments, env=self._environment)
        return self._add(Program(self, name, process, process.stdin, process.stdout))

    async def start_at_a_terminal(self, name, *arguments):
        """The same at a terminal, with its echo and prompts in the lines, and a pipe for standard error."""
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
        return self._add(Program(self, name, process, terminal, terminal))

    def _note_start(self, name, arguments):
        self.note(name, "$", " ".join(["-m", "trio_chat", *map(str, arguments)]))

    def _add(self, program):
        self.running.append(program)
        self._nursery.start_soon(program.listen)
        return program

    async def server(self, *arguments, on=()):
        """A server that listens on its `port`, a free one if no arguments are given. `key`: that of a chat server."""
        # Whoever searches on this network while the tests run does not need to find their servers.
        arguments = arguments or ("server", 0, "--no-discovery")
        program = await self.start("server", *arguments, on=on)
        line = await program.next_error()
        if not re.fullmatch(r"Listening on \S+:\d+", line):
            raise AssertionError(f"the server should print where it listens, not\n    {line}")
        program.port = int(line.rpartition(":")[2])
        if arguments[0] != "presence":
            line = await program.next_error()
            if not re.fullmatch(r"Key: [a-z2-7]{4}(-[a-z2-7]{4}){3}", line):
                raise AssertionError(f"the server should print its key, not\n    {line}")
            program.key = line.removeprefix("Key: ")
        return program

    async def client(self, name, server, *options, host="127.0.0.1"):
        """A client in the wording `group` that is registered and known to everyone."""
        program = await self.start(name, "client", name, host, server.port, *options)
        await program.sees("[Welcome, You are registered.]")
        await self.settle()
        return program

    async def settle(self):
        """Waits until all programs have done what they had to do: then everyone has the server's newest table.

        Clients in the wording `group` do not print when it comes, and a busy machine may take any time for it.
        """
        await self._until_asleep()
        await trio.sleep(TIMERS)
        await self._until_asleep()

    async def _until_asleep(self):
        """Waits for a moment in which no program runs or could run; on loopback, then, nothing is in transit either."""
        with trio.move_on_after(PATIENCE):
            before = None
            while True:
                pids = [program.process.pid for program in self.running if program.process.returncode is None]
                now = [switches(pid) for pid in pids]
                # All were asleep when they were looked at, and none has been scheduled until all were looked at again.
                if now == before and None not in now:
                    return
                before = now
                await trio.sleep(LOOK_EVERY)
        raise AssertionError("the programs should come to rest")

    async def close(self):
        """Kills the programs that still run. The test decides whether they should."""
        for program in self.running:
            program.process.kill()
            await program.process.wait()


def switches(pid):
    """How often each thread of a process was scheduled; None if one of them runs, or waits for a processor or a disk.

    Where there is no /proc, as on macOS, it is always the same.
    """
    counts = []
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if fields["State"][0] in "RD":
                return None
            counts.append((fields["Pid"], fields["voluntary_ctxt_switches"], fields["nonvoluntary_ctxt_switches"]))
    return counts


@asynccontextmanager
async def open_programs():
    """The programs of one test; at its end none is left. A failure is raised as it is, with the record."""
    with TemporaryDirectory(dir=MEMORY) as data_folder:
        async with _open_programs(data_folder) as programs:
            yield programs


@asynccontextmanager
async def _open_programs(data_folder):
    failure = None
    async with trio.open_nursery() as nursery:
        programs = Programs(nursery, data_folder)
        try:
            yield programs
        except (AssertionError, ExceptionGroup) as error:
            failure = error
        finally:
            with trio.CancelScope(shield=True):
                await programs.close()
            # What the programs have left in their pipes is read, for the record.
            nursery.cancel_scope.deadline = trio.current_time() + 1
    if failure is not None:
        failure.add_note("\n".join(["What happened:", *programs.record]))
        raise failure
