"""Runs the conversations in scripts/*.txt with real processes. scripts/README.md describes their language.

What the programs print is not known here.
"""

import re
from pathlib import Path

import attrs
import trio

from tests.end_to_end.processes import ANYWHERE, open_programs

SCRIPTS = {path.stem: path for path in sorted((Path(__file__).parent / "scripts").glob("*.txt"))}

_EXPECTED = re.compile(r"\s+(?P<who>\S+)\s+(?P<mark>[|*]|exits)\s+(?P<what>.*)")
_ACTION = re.compile(r"(?P<verb>enter|interrupt|kill) (?P<who>\S+)|(?P<speaker>\S+) types (?P<line>.*)")


@attrs.frozen
class Step:
    """An action, and what is expected next: (who, mark, what)."""

    action: re.Match
    expected: list = attrs.field(factory=list)

    @property
    def changes_table(self):
        return any(who == "server" for who, _, _ in self.expected)


def read(script):
    """The steps of a script. A line that is neither an action nor expected is a mistake in the script."""
    steps = []
    for line in script.splitlines():
        if not line or line.startswith("#"):
            continue
        if expected := _EXPECTED.fullmatch(line):
            steps[-1].expected.append(expected.group("who", "mark", "what"))
        elif action := _ACTION.fullmatch(line):
            steps.append(Step(action))
        else:
            raise ValueError(f"not a line of a script: {line!r}")
    return steps


class Conversation:
    """The programs of one conversation, in one wording."""

    def __init__(self, programs, wording):
        self._programs = programs
        self._wording = wording
        self._by_name = {}

    async def run(self, script):
        for step in read(script):
            self._programs.note("", "-", step.action.string)
            updates = {who: program.updates for who, program in self._by_name.items()}
            await self._act(step.action)
            for who, mark, what in step.expected:
                await self._check(self._by_name[who], mark, what, updates.get(who, 0))
            if step.changes_table:
                await self._programs.settle()
        await self._end()

    async def _act(self, action):
        match action.group("verb", "who", "speaker", "line"):
            case "enter", "server", _, _:
                self._by_name["server"] = await self._programs.server(*self._server_arguments())
            case "enter", who, _, _:
                self._by_name[who] = await self._programs.start(who, *self._client_arguments(who))
            case "interrupt", who, _, _:
                self._by_name[who].interrupt()
            case "kill", who, _, _:
                await self._by_name[who].is_killed()
            case _, _, speaker, line:
                await self._by_name[speaker].types(line)

    def _server_arguments(self):
        return ("server", 0) if self._wording == "group" else ("-s", 0)

    def _client_arguments(self, who):
        port = self._by_name["server"].port
        if self._wording == "group":
            return "client", who, "127.0.0.1", port
        return "-c", who, "127.0.0.1", port, 0, "--wording", self._wording

    async def _check(self, program, mark, what, updates):
        match mark:
            case "|":
                await program.sees(what)
            case "*":
                assert what == ANYWHERE
                await program.sees_update(since=updates)
            case "exits":
                await program.exits(int(what))

    async def _end(self):
        for program in reversed(self._by_name.values()):
            if program.process.returncode is None:
                program.interrupt()
                await program.exits(130)


async def run(name):
    """Runs the conversation of that name; the wording is the first word of it."""
    async with open_programs() as programs:
        await Conversation(programs, wording=name.partition("-")[0]).run(SCRIPTS[name].read_text())


async def run_all(names):
    """Runs these conversations at the same time, each with programs of its own. Returns what failed, by name."""
    failures = {}

    async def run_one(name):
        try:
            await run(name)
        except AssertionError as error:
            failures[name] = "\n".join([str(error), *error.__notes__])

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(run_one, name)
    return failures
