"""Plays from plays/*.txt: reads a script and performs it on a stage. The language is told in scripts/README.md.

Knows the stage and the directions of a script, and nothing of what the parties say.
"""

import re
from pathlib import Path

import attrs
import trio

from tests.end_to_end.processes import ANYWHERE, open_stage

SCRIPTS = {path.stem: path for path in sorted((Path(__file__).parent / "scripts").glob("*.txt"))}

_EFFECT = re.compile(r"\s+(?P<who>\S+)\s+(?P<mark>[|*]|exits)\s+(?P<what>.*)")
_DIRECTION = re.compile(r"(?P<verb>enter|interrupt|kill) (?P<who>\S+)|(?P<speaker>\S+) types (?P<line>.*)")


@attrs.frozen
class Step:
    """A stage direction and what must come of it: (who, mark, what)."""

    direction: re.Match
    effects: list = attrs.field(factory=list)

    @property
    def changes_table(self):
        return any(who == "server" for who, _, _ in self.effects)


def read(script):
    """The steps of a script; a line that is neither a direction nor an effect is a mistake in it."""
    steps = []
    for line in script.splitlines():
        if not line or line.startswith("#"):
            continue
        if effect := _EFFECT.fullmatch(line):
            steps[-1].effects.append(effect.group("who", "mark", "what"))
        elif direction := _DIRECTION.fullmatch(line):
            steps.append(Step(direction))
        else:
            raise ValueError(f"not a line of a play: {line!r}")
    return steps


class Performance:
    """One play on one stage, in one wording."""

    def __init__(self, stage, wording):
        self._stage = stage
        self._wording = wording
        self._cast = {}

    async def play(self, script):
        for step in read(script):
            self._stage.note("", "-", step.direction.string)
            heard = {who: party.updates for who, party in self._cast.items()}
            await self._direct(step.direction)
            for who, mark, what in step.effects:
                await self._check(self._cast[who], mark, what, heard.get(who, 0))
            if step.changes_table:
                await self._stage.settle()
        await self._curtain()

    async def _direct(self, direction):
        match direction.group("verb", "who", "speaker", "line"):
            case "enter", "server", _, _:
                self._cast["server"] = await self._stage.server(*self._server_arguments())
            case "enter", who, _, _:
                self._cast[who] = await self._stage.start(who, *self._client_arguments(who))
            case "interrupt", who, _, _:
                self._cast[who].interrupt()
            case "kill", who, _, _:
                await self._cast[who].is_killed()
            case _, _, speaker, line:
                await self._cast[speaker].types(line)

    def _server_arguments(self):
        return ("server", 0) if self._wording == "group" else ("-s", 0)

    def _client_arguments(self, who):
        port = self._cast["server"].port
        if self._wording == "group":
            return "client", who, "127.0.0.1", port
        return "-c", who, "127.0.0.1", port, 0, "--wording", self._wording

    async def _check(self, party, mark, what, heard):
        match mark:
            case "|":
                await party.sees(what)
            case "*":
                assert what == ANYWHERE
                await party.hears_of_the_table(since=heard)
            case "exits":
                await party.leaves(int(what))

    async def _curtain(self):
        for party in reversed(self._cast.values()):
            if party.process.returncode is None:
                party.interrupt()
                await party.leaves(130)


async def perform(name):
    """Performs the play of that name; the wording is the first word of it."""
    async with open_stage() as stage:
        await Performance(stage, wording=name.partition("-")[0]).play(SCRIPTS[name].read_text())


async def perform_all(names):
    """Performs these plays at the same time, each on a stage of its own; what went wrong, by play."""
    failures = {}

    async def attend(name):
        try:
            await perform(name)
        except AssertionError as error:
            failures[name] = "\n".join([str(error), *error.__notes__])

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(attend, name)
    return failures
