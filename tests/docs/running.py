"""Runs the transcripts of a page: all its terminals, in the order of the page, with real processes.

A transcript, line by line:

    $ COMMAND               starts a command after the one before has ended; a `\\` at the end continues the line
    $ echo $?               waits for the end of the command; the next line is its exit code
    >>> send bob hi         is typed if its first word is a command of the client
    ^C, ^D                  Ctrl-C; end of input
    ...                     skips all lines until the next one that is shown
    anything else           is the next line that the program prints; clock times, ports and fingerprints may differ

A Python program on a page begins with `# NAME.py`. It is saved under that name, so that a terminal can run it.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

import attrs
import trio

from tests.docs.blocks import ROOT
from tests.docs.comparing import RealValues
from tests.end_to_end import processes
from tests.forkserver import open_program
from trio_chat.terminal.commands import COMMANDS, help_lines

PROMPT = ">>> "
FORKED = re.compile(r"(?:(?:trio-chat|python -m trio_chat)(?= |$)|python (?P<script>\S+\.py))(?P<arguments>[^&;|]*)")
"""Commands that the fork server can start."""
PORTS = ("5000", "8081")
"""The ports in the documentation. Each run uses free ones instead, so that pages can run at the same time."""
CHANGES_TABLE = ("reg", "dereg", "exit")


@attrs.frozen
class Installation:
    """Where the commands of a page find their programs."""

    folder: str | None = None
    """A copy of the repository, with `python` and `trio-chat` in its .venv/. The commands run there.

    None: a temporary folder with links to docs/ and to the environment of the tests.
    """
    is_forked: bool = False
    """Start trio_chat and examples by the fork server, which is fast. Otherwise a shell runs the command as printed."""
    has_own_ports: bool = False
    """Use exactly the ports that the page names."""


FORKING = Installation(is_forked=True)
AS_PRINTED = Installation()


class Process(processes.Program):
    """A process whose two outputs appear on one screen."""

    async def listen(self):
        await self._listen_to(self.screen, self._lines_in, "|")

    async def read_line(self):
        """The next line with its prompt."""
        return await self._next(self._lines, "its next line")

    async def read_to_end(self):
        """The lines until the process has ended."""
        with trio.move_on_after(processes.PATIENCE):
            rest = [line async for line in self._lines]
            await self.process.wait()
            return rest
        raise AssertionError(f"{self.name} has not ended")


class Shell(processes.Programs):
    """Runs shell commands, with a home folder of their own."""

    def __init__(self, nursery, home, installation):
        super().__init__(nursery, home)
        self.folder = installation.folder or home
        self._is_forked = installation.is_forked
        programs = [os.path.join(self.folder, ".venv", "bin")]
        if not installation.folder:
            for name, target in (("docs", ROOT / "docs"), (".venv", sys.prefix)):
                os.symlink(target, os.path.join(home, name))
            programs = [_own_programs(home), os.path.dirname(sys.executable)]
            self._environment |= {"PYTHONPATH": str(ROOT)}
        path = os.pathsep.join([*programs, os.environ["PATH"]])
        self._environment |= {"HOME": home, "PATH": path, "COLUMNS": "80"}
        # At a terminal each line appears at once. Here is a pipe.
        self._environment["PYTHONUNBUFFERED"] = "1"

    async def run(self, name, command):
        """Start a command."""
        self.note(name, "$", command)
        how = {"stderr": subprocess.STDOUT, "cwd": self.folder, "env": self._environment}
        if self._is_forked and (found := FORKED.fullmatch(command)):
            process = await open_program(found["script"] or "trio_chat", shlex.split(found["arguments"]), **how)
        else:
            # Without `exec` the shell would get our signals, and not the program.
            is_single = not set(command) & set("|&;")
            shell = ["/bin/sh", "-c", f"exec {command}" if is_single else command]
            process = await trio.lowlevel.open_process(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how)
        return self._add(Process(self, name, process, process.stdin, process.stdout))


def _own_programs(home):
    """A folder with `trio-chat` as pyproject.toml defines it. The installed one may be of an older version."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["trio-chat"].partition(":")
    folder = os.path.join(home, "bin")
    os.mkdir(folder)
    script = os.path.join(folder, "trio-chat")
    with open(script, "w") as file:
        file.write(f"#!{sys.executable}\nimport {module}\n{module}.{function}()\n")
    os.chmod(script, 0o700)
    return folder


@asynccontextmanager
async def open_page(installation=FORKING):
    """A page that runs. At its end each program is interrupted, and the page must have shown all of its lines.

    A failed assertion is raised bare, not in an exception group, with the record of all terminals.
    """
    failure = None
    with TemporaryDirectory() as home:
        async with trio.open_nursery() as nursery:
            page = Page(Shell(nursery, home, installation))
            if installation.has_own_ports:
                for port in PORTS:
                    page.values.bind(port, port)
            try:
                yield page
                await page.end()
            except AssertionError as error:
                failure = error
            finally:
                with trio.CancelScope(shield=True):
                    await page.shell.close()
                nursery.cancel_scope.deadline = trio.current_time() + 1
    if failure is not None:
        raise AssertionError("\n".join([str(failure), "", "The record so far:", *page.shell.record])) from None


class Page:
    """The terminals of one page."""

    def __init__(self, shell):
        self.shell = shell
        self.values = RealValues()
        self._terminals = {}

    async def run_block(self, block):
        """Run a block of one terminal."""
        name = block.argument or "shell"
        terminal = self._terminals.setdefault(name, Terminal(self, name))
        for number, line in _joined(block):
            if not line:
                continue
            try:
                await terminal.run_line(line)
            except AssertionError as error:
                raise AssertionError(f"{block.page}:{number}: {error}") from None
        await self.shell.settle()

    async def save_program(self, block):
        """Save a Python program under the name in its first line."""
        name = re.fullmatch(r"# (\w+\.py)", block.first)
        assert name, f"{block}: a program begins with # NAME.py"
        await trio.Path(self.shell.folder, name[1]).write_text(self.to_real("\n".join(block.lines)))

    def to_real(self, text):
        """A documented text with the ports of this run."""
        for port in PORTS:
            if port in text and not self.values.knows(port):
                self.values.bind(port, str(processes.free_port()))
        return self.values.translate(text)

    async def end(self):
        """Interrupt the programs that still run, the last one first."""
        for terminal in reversed(self._terminals.values()):
            await terminal.close()


class Terminal:
    """One terminal of a page: the program that runs there, and how much of its output the page has shown."""

    def __init__(self, page, name):
        self._page = page
        self.name = name
        self._process = None
        self._skips = False
        self._code = None

    async def run_line(self, line):
        """Run one line of a transcript."""
        if self._code is not None:
            assert line == str(self._code), f"{self.name}'s program ended with {self._code}, not with {line}"
            self._code = None
        elif line == "..." or line.startswith("Others join with: "):  # none if the machine has no network
            self._skips = True
        elif line == "$ echo $?":
            await self._wait_for_end()
            self._code = self._process.process.returncode
        elif line.startswith("$ "):
            await self._wait_for_end()
            self._process = await self._page.shell.run(self.name, self._page.to_real(line[2:]))
        elif line in ("^C", f"{PROMPT}^C"):
            self._process.interrupt()
        elif line in ("^D", f"{PROMPT}^D"):
            await self._process.ends_input()
        elif _is_typed(line):
            await self._process.types(self._page.to_real(line.removeprefix(PROMPT)))
            if line.split()[1] in CHANGES_TABLE:
                await self._page.shell.settle()
        else:
            await self._expect(line)

    async def close(self):
        """Interrupt what still runs."""
        assert self._code is None, f"the page does not show the exit code of {self.name}'s program"
        if self._process and self._process.process.returncode is None:
            self._process.interrupt()
        await self._wait_for_end()

    async def _expect(self, documented):
        assert self._process, f"nothing runs in {self.name}'s terminal"
        while not self._page.values.matches(documented, real := await self._process.read_line()):
            assert self._skips, f"{self.name}'s terminal should show\n    {documented}\nbut shows\n    {real}"
        self._skips = False

    async def _wait_for_end(self):
        if self._process:
            rest = await self._process.read_to_end()
            # Also where the page skips the rest: Ctrl-C ends each program, and none of them ends with a traceback.
            assert not any("Traceback" in line for line in rest), "\n    ".join([f"{self.name}'s program:", *rest])
            assert self._skips or not rest, "\n    ".join([f"{self.name}'s terminal also shows", *rest])
        self._skips = False


def _joined(block):
    """The lines of a block with their numbers. Continued lines are joined."""
    before = ""
    for number, line in enumerate(block.lines, block.line + 1):
        if line.endswith("\\") and (before or line.startswith("$ ")):
            before += line[:-1].rstrip() + " "
        else:
            yield number, (before + line.strip() if before else line).rstrip()
            before = ""


def _is_typed(line):
    """Whether a line is typed at the client. Lines that `help` prints begin with the same words."""
    words = line.removeprefix(PROMPT)
    is_command = words.split()[:1] != [] and words.split()[0] in COMMANDS
    return line.startswith(PROMPT) and is_command and words not in help_lines()
