"""A conversation played by a server and three clients, for who has just arrived: the script, and how it is played.

Real sockets, the real console; only the typing is done here, and the waiting for what must appear.
"""

import re
from collections.abc import Callable, Sequence

import attrs
import trio

from trio_chat.cli.server import run_server
from trio_chat.client.chat import open_chat
from trio_chat.storage.memory import MemoryServerStore
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

__all__ = ["STORY", "Scene", "play"]

HOST = "127.0.0.1"
PATIENCE = 5.0
"""Seconds to wait for what a scene must show."""


@attrs.frozen
class Scene:
    """Someone types a line, or (None) starts the program; then each of `shown`, (who, line), must appear.

    Clock times are written HH:MM:SS.
    """

    title: str
    who: str
    typed: str | None
    shown: tuple[tuple[str, str], ...]


CAST = ("alice", "bob", "carol")

STORY = (
    *(Scene(f"{who.title()} joins.", who, None, ((who, "[Welcome, You are registered.]"),)) for who in CAST),
    Scene(
        "Alice writes to Bob. It goes directly to him, and his program acknowledges it.",
        "alice",
        "send bob Hello, Bob!",
        (("bob", "alice: Hello, Bob!"), ("alice", "[Message received by bob.]")),
    ),
    Scene("Bob goes off line.", "bob", "dereg", (("bob", "[You are Offline. Bye.]"),)),
    Scene(
        "Carol writes to everyone. The server hands it to those who are there, and keeps it for Bob.",
        "carol",
        "send_all Lunch at noon?",
        (("carol", "[Group Message received by Server.]"), ("alice", "Group Chat carol: Lunch at noon?")),
    ),
    Scene(
        "Alice writes to Bob, who is away: the server keeps the letter.",
        "alice",
        "send bob Are you coming?",
        (("alice", "[Offline Message sent at HH:MM:SS received by the server and saved.]"),),
    ),
    Scene(
        "Bob comes back to his letters, and Alice gets her receipt.",
        "bob",
        "reg",
        (
            ("bob", "[RegSent]"),
            ("bob", "[You have offline messages:]"),
            ("bob", "Group Chat carol: HH:MM:SS Lunch at noon?"),
            ("bob", "alice: HH:MM:SS Are you coming?"),
            ("alice", "[Offline Message sent at HH:MM:SS received by bob.]"),
        ),
    ),
    Scene(
        "Bob answers them both.",
        "bob",
        "send_all On my way.",
        (
            ("bob", "[Group Message received by Server.]"),
            ("alice", "Group Chat bob: On my way."),
            ("carol", "Group Chat bob: On my way."),
        ),
    ),
    *(Scene(f"{who.title()} leaves.", who, "exit", ((who, "[You are Offline. Bye.]"),)) for who in CAST),
)


class _Actor:
    """One client: its keyboard, and its screen as far as the script has not yet asked for it."""

    def __init__(self, name: str, echo: Callable[[str], object]) -> None:
        self.name = name
        self._echo = echo
        self._keys, self._lines = trio.open_memory_channel[str](1)
        self._shown_in, self._shown = trio.open_memory_channel[str](1000)

    async def chat(self, server: tuple[str, int]) -> None:
        await run_conversation(open_chat(self.name, server, host=HOST), self._lines, self._say, Phrasebook())

    async def type(self, line: str) -> None:
        self._echo(f"{self.name:<6} < {line}")
        await self._keys.send(line)

    async def see(self, expected: str) -> None:
        """Wait until the line is shown."""
        async for line in self._shown:
            if re.sub(r"\b\d\d:\d\d:\d\d\b", "HH:MM:SS", line) == expected:
                return

    def _say(self, line: Line) -> None:
        self._echo(f"{self.name:<6} | >>> {line.text}")
        self._shown_in.send_nowait(line.text)


async def play(echo: Callable[[str], object], story: Sequence[Scene] = STORY, patience: float = PATIENCE) -> int:
    """Play the story, printing by `echo`; return 0, or 1 as soon as a line has not appeared (after saying which)."""
    echo("A server and three clients on this machine. `<` is what someone types, `|` what someone sees.")
    actors = {name: _Actor(name, echo) for name in CAST}
    missing: str | None = None
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run_server, 0, HOST, MemoryServerStore(), lambda line: echo(f"server | {line}"))
        for scene in story:
            echo(f"\n# {scene.title}")
            actor = actors[scene.who]
            if scene.typed is None:
                nursery.start_soon(actor.chat, server)
            else:
                await actor.type(scene.typed)
            missing = await _first_missing(actors, scene, patience)
            if missing:
                break
        nursery.cancel_scope.cancel()
    if missing:
        echo(f"\nThis did not appear: {missing}")
        return 1
    return 0


async def _first_missing(actors: dict[str, _Actor], scene: Scene, patience: float) -> str | None:
    for who, line in scene.shown:
        with trio.move_on_after(patience):
            await actors[who].see(line)
            continue
        return f"{who} | {line}"
    return None
