"""Plays the transcripts of a page with real processes: every terminal that it shows, in the order of the page.

In a transcript, line by line:

    $ COMMAND               starts a command, when the one before has ended; a `\\` at the end continues it
    $ echo $?               waits for its end; the next line is its exit code
    >>> send bob hi         is typed, if its first word is a command of the client
    ^C, ^D                  Ctrl-C; the end of input
    ...                     whatever comes until the next line
    anything else           is what the program says next, but for clock times, ports and fingerprints
"""

import os
import re
import shlex
import subprocess
import sys
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

import trio

from tests.docs.blocks import ROOT
from tests.docs.volatile import Names
from tests.end_to_end import processes
from tests.forkserver import open_program
from trio_chat.terminal.commands import COMMANDS, help_lines

PROMPT = ">>> "
IN_PYTHON = re.compile(r"python (?:-m (?=trio_chat )|(?=\S+\.py ?))(?P<words>[^&;|]*)")
PORTS = ("5000", "8081")
"""The ports of the documentation's servers; on a stage they are others, so that plays do not meet."""
CHANGES_TABLE = ("reg", "dereg", "exit")
PYTHON = os.path.dirname(sys.executable)


class Screen(processes.Program):
    """A process of which both outputs come on one screen."""

    async def listen(self):
        await self._listen_to(self.screen, self._lines_in, "|")

    async def reads(self):
        """Its next line, prompt and all."""
        return await self._next(self._lines, "its next line")

    async def reads_to_the_end(self):
        with trio.move_on_after(processes.PATIENCE):
            rest = [line async for line in self._lines]
            await self.process.wait()
            return rest
        raise AssertionError(f"{self.name} was to end")


class Stage(processes.Programs):
    """A stage on which shell commands are given, in a home of its own."""

    def __init__(self, nursery, home):
        super().__init__(nursery, home)
        self.home = home
        for folder in ("docs", "benchmarks"):
            os.symlink(ROOT / folder, os.path.join(home, folder))
        path = os.pathsep.join([PYTHON, os.environ["PATH"]])
        self._environment |= {"HOME": home, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        # A person at a terminal sees each line at once; here is a pipe.
        self._environment["PYTHONUNBUFFERED"] = "1"

    async def run(self, name, command):
        """Starts a command, where it needs one in a shell, whose place a single program takes, and so its signals."""
        self.note(name, "$", command)
        how = {"stderr": subprocess.STDOUT, "cwd": self.home, "env": self._environment}
        if found := IN_PYTHON.fullmatch(command):
            program, *arguments = shlex.split(found["words"])
            process = await open_program(program, arguments, **how)
        else:
            is_single = not set(command) & set("|&;")
            shell = ["/bin/sh", "-c", f"exec {command}" if is_single else command]
            process = await trio.lowlevel.open_process(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how)
        return self._add(Screen(self, name, process, process.stdin, process.stdout))


@asynccontextmanager
async def open_play():
    """A play; at its end nobody is left on its stage, and all that was said is in the page.

    A failed assertion comes out with the play so far, and outside of any group.
    """
    failure = None
    with TemporaryDirectory() as home:
        async with trio.open_nursery() as nursery:
            play = Play(Stage(nursery, home))
            try:
                yield play
                await play.end()
            except AssertionError as error:
                failure = error
            finally:
                with trio.CancelScope(shield=True):
                    await play.stage.close()
                nursery.cancel_scope.deadline = trio.current_time() + 1
    if failure is not None:
        raise AssertionError("\n".join([str(failure), "", "The play so far:", *play.stage.record])) from None


class Play:
    """The terminals of one page."""

    def __init__(self, stage):
        self.stage = stage
        self.names = Names()
        self._terminals = {}

    async def perform(self, block):
        """Plays a block of one terminal."""
        name = block.argument or "shell"
        terminal = self._terminals.setdefault(name, Terminal(self, name))
        for place, line in _joined(block):
            if not line:
                continue
            try:
                await terminal.play(line)
            except AssertionError as error:
                raise AssertionError(f"{block.page}:{place}: {error}") from None
        await self.stage.settle()

    async def run_program(self, block):
        """Starts a Python program that a page shows whole; it must say something, and go on until the end."""
        terminal = self._terminals[f"program {block.line}"] = Terminal(self, f"program {block.line}")
        program = trio.Path(self.stage.home, f"program_{block.line}.py")
        await program.write_text("\n".join([self.to_stage(line) for line in block.lines]))
        await terminal.play(f"$ python {program}")
        said = await terminal.party.reads()
        assert "Traceback" not in said, f"{block}: the program fails"
        terminal.skips = True

    def to_stage(self, text):
        """A documented text, as it has to be on this stage."""
        for port in PORTS:
            if port in text and not self.names.known(port):
                self.names.bind(port, str(processes.free_port()))
        return self.names.translate(text)

    async def end(self):
        """Whoever is still there gets a Ctrl-C, and must have nothing more to say."""
        for terminal in reversed(self._terminals.values()):
            await terminal.close()


class Terminal:
    """One terminal of a page: what runs there, and how far the page has told it."""

    def __init__(self, play, name):
        self._play = play
        self.name = name
        self.party = None
        self.skips = False
        self._code = None

    async def play(self, line):
        """Plays one line of a transcript."""
        if self._code is not None:
            assert line == str(self._code), f"{self.name}'s program ended with {self._code}, not with {line}"
            self._code = None
        elif line == "...":
            self.skips = True
        elif line == "$ echo $?":
            await self._ends()
            self._code = self.party.process.returncode
        elif line.startswith("$ "):
            await self._ends()
            self.party = await self._play.stage.run(self.name, self._play.to_stage(line[2:]))
        elif line in ("^C", f"{PROMPT}^C"):
            self.party.interrupt()
        elif line in ("^D", f"{PROMPT}^D"):
            await self.party.ends_input()
        elif _is_typed(line):
            await self.party.types(self._play.to_stage(line.removeprefix(PROMPT)))
            if line.split()[1] in CHANGES_TABLE:
                await self._play.stage.settle()
        else:
            await self._sees(line)

    async def close(self):
        """The page is over."""
        assert self._code is None, f"the page does not say with which exit code {self.name}'s program ended"
        if self.party and self.party.process.returncode is None:
            self.party.interrupt()
        await self._ends()

    async def _sees(self, documented):
        assert self.party, f"nothing runs at {self.name}'s terminal"
        while not self._play.names.same(documented, real := await self.party.reads()):
            assert self.skips, f"{self.name} was to see\n    {documented}\nbut saw\n    {real}"
        self.skips = False

    async def _ends(self):
        if self.party:
            rest = await self.party.reads_to_the_end()
            assert self.skips or not rest, "\n    ".join([f"{self.name} also saw", *rest])
        self.skips = False


def _joined(block):
    """The lines of a block with their numbers, continued ones joined."""
    before = ""
    for place, line in enumerate(block.lines, block.line + 1):
        if line.endswith("\\") and (before or line.startswith("$ ")):
            before += line[:-1].rstrip() + " "
        else:
            yield place, (before + line.strip() if before else line).rstrip()
            before = ""


def _is_typed(line):
    """Is this typed at the client? What `help` says begins with the same words."""
    words = line.removeprefix(PROMPT)
    return line.startswith(PROMPT) and words.split()[:1] != [] and words.split()[0] in COMMANDS and not _is_help(words)


def _is_help(words):
    return words in help_lines()
