"""The sequence diagrams and the plan of the house: `python -m docs.diagrams` records and draws them anew.

Each sequence is recorded from a server and its clients on a network in memory, in virtual time; nothing is drawn that
was not sent. The plan is that of tests/test_architecture.py. The tests compare what is drawn with what is in _static/.
"""

import re
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path

import attrs
import trio
import trio.testing

from tests.network import Conditions, MemoryNetwork, Sent, open_memory_network
from tests.stage import SERVER, Player, Stage, open_stage
from tests.test_architecture import MAY_IMPORT
from trio_chat.link.packets import parse_untrusted
from trio_chat.protocol.messages import DirectMessage, GroupPost, Letters, Register, TableChange
from trio_chat.terminal.results import MessageSent, PostAccepted
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

STATIC = Path(__file__).parent / "_static"
TRAVEL = 0.01
"""Seconds that a datagram takes."""

# --- recording ---


@attrs.frozen
class Arrow:
    """A datagram. `text` is the message in it, or, where it carries none, the name of the datagram."""

    time: float
    source: str
    destination: str
    text: str
    carries: bool


@attrs.frozen
class Note:
    """What somebody types, or sees."""

    time: float
    who: str
    text: str


Step = Arrow | Note


class Cast:
    """The people of a scene, and what happens from the moment at which it begins."""

    def __init__(self, stage: Stage, network: MemoryNetwork) -> None:
        self.stage = stage
        self.players: dict[str, Player] = {}
        self._network = network
        self._notes: list[Note] = []
        self._begun_at = 0.0

    async def enter(self, *names: str) -> None:
        for name in names:
            self.players[name] = await self.stage.enter(name)
        await self.stage.pass_time(1)

    async def begin(self) -> None:
        """What was before is not drawn."""
        await self.stage.pass_time(1)
        self._network.log.clear()
        self._begun_at = trio.current_time()
        for name, player in self.players.items():
            player.heard = _Ear(self, name)

    def types(self, who: str, line: str) -> None:
        self._notes.append(Note(trio.current_time(), who, f"> {line}"))

    def sees(self, who: str, lines: tuple[Line, ...]) -> None:
        shown = (re.sub(r"\d\d:\d\d:\d\d", "12:03:50", line.text) for line in lines)
        self._notes += [Note(trio.current_time(), who, text) for text in shown]

    def steps(self) -> list[Step]:
        """All that happened, in order; what happened at the same moment is put in an order that is always the same."""
        notes = sorted(self._notes, key=lambda note: (self.begun(note), note.who))
        arrows = sorted(map(self._arrow, self._network.log), key=lambda arrow: (self.begun(arrow), *_order(arrow)))
        return sorted([*notes, *arrows], key=self.begun)

    def begun(self, step: Step) -> int:
        """Milliseconds since the scene began."""
        return round((step.time - self._begun_at) * 1000)

    def _arrow(self, sent: Sent) -> Arrow:
        names = {player.host: name for name, player in self.players.items()} | {SERVER[0]: "server"}
        message = self.stage.tap.message(sent.data)
        text = _said(message) if message else type(parse_untrusted(sent.data)).__name__.upper()
        return Arrow(sent.time, names[sent.source[0]], names[sent.destination[0]], text, message is not None)


def _order(arrow: Arrow) -> tuple[str, str, str]:
    return (arrow.source, arrow.destination, arrow.text)


class _Ear(list):
    """Notes what is heard."""

    def __init__(self, cast: Cast, name: str) -> None:
        super().__init__()
        self._cast = cast
        self._name = name

    def append(self, event: object) -> None:
        self._cast.sees(self._name, Phrasebook().render(event))


def _said(message: object) -> str:
    name = type(message).__name__
    match message:
        case DirectMessage():
            return f"{name}: “{message.text}”"
        case Letters():
            return f"{name}: {', '.join(letter.kind.value for letter in message.letters)}"
        case TableChange():
            return f"{name}: {', '.join(record.name for record in message.records)}"
        case Register():
            return f"{name}: {message.name}"
        case GroupPost():
            return f"{name}: to everyone"
    return name


async def direct(cast: Cast) -> None:
    """Alice writes to Bob for the first time."""
    await cast.enter("alice", "bob")
    await cast.begin()
    await _send(cast, "alice", "bob", "Hello, Bob!")


async def saved(cast: Cast) -> None:
    """Alice writes to Bob, who is away; he comes back."""
    await cast.enter("alice", "bob")
    await cast.players["bob"].chat.deregister()
    await cast.begin()
    await _send(cast, "alice", "bob", "Are you coming?")
    await cast.stage.pass_time(0.48)
    cast.types("bob", "reg")
    await cast.players["bob"].chat.register()
    await cast.stage.pass_time(0.5)


async def group(cast: Cast) -> None:
    """Carol writes to everyone."""
    await cast.enter("alice", "bob", "carol")
    await cast.begin()
    cast.types("carol", "send_all Lunch at noon?")
    await cast.players["carol"].chat.send_all("Lunch at noon?")
    cast.sees("carol", Phrasebook().render(PostAccepted()))
    await cast.stage.pass_time(0.5)


async def _send(cast: Cast, sender: str, recipient: str, text: str) -> None:
    cast.types(sender, f"send {recipient} {text}")
    delivery = await cast.players[sender].chat.send(recipient, text)
    cast.sees(sender, Phrasebook().render(MessageSent(recipient, delivery.how, delivery.sent_at)))
    await cast.stage.pass_time(0.5)


Scene = Callable[[Cast], Awaitable[None]]
SCENES: dict[str, tuple[Scene, tuple[str, ...]]] = {
    "direct": (direct, ("alice", "server", "bob")),
    "saved": (saved, ("alice", "server", "bob")),
    "group": (group, ("carol", "server", "alice", "bob")),
}


async def _record(scene: Scene) -> list[tuple[int, Step]]:
    async with open_memory_network() as network:
        network.default = Conditions(delay=(TRAVEL, TRAVEL))
        async with open_stage(network) as stage:
            cast = Cast(stage, network)
            await scene(cast)
            return [(cast.begun(step), step) for step in cast.steps()]


def record(name: str) -> list[tuple[int, Step]]:
    """The steps of a scene, each with the milliseconds at which it happens."""
    return trio.run(_record, SCENES[name][0], clock=trio.testing.MockClock(autojump_threshold=0))


# --- drawing ---

STYLE = """
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2733; }
  .paper { fill: #fbfcfe; stroke: #d5dde6; }
  .head { fill: #1f4e79; }
  .name { fill: #ffffff; font-weight: 600; }
  .life { stroke: #9fb0c0; stroke-dasharray: 3 4; }
  .arrow { stroke: #1f4e79; stroke-width: 1.6; marker-end: url(#tip); }
  .shake { stroke: #93a1ae; stroke-width: 1.2; stroke-dasharray: 5 4; marker-end: url(#faint); }
  .time, .faint { font-size: 11px; fill: #6b7a88; }
  .note { fill: #fff6d9; stroke: #e3cf8f; }
  .typed { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; }
"""
LEFT, TOP, STEP, BREADTH = 76, 56, 34, 620


def sequence(name: str) -> str:
    """The SVG of a scene."""
    steps = record(name)
    people = SCENES[name][1]
    apart = BREADTH // (len(people) - 1)
    lanes = {who: LEFT + 110 + number * apart for number, who in enumerate(people)}
    width, height = max(lanes.values()) + 130, TOP + STEP * (len(steps) + 1)
    drawn = [_open(width, height, (SCENES[name][0].__doc__ or "").strip())]
    for who, x in lanes.items():
        drawn.append(f'<line class="life" x1="{x}" y1="{TOP - 14}" x2="{x}" y2="{height - 12}"/>')
        drawn.append(f'<rect class="head" x="{x - 48}" y="14" width="96" height="26" rx="5"/>')
        drawn.append(_text(x, 32, who, "name"))
    told = -1
    for number, (time, step) in enumerate(steps):
        y = TOP + STEP * number + 24
        if time != told:
            drawn.append(_text(LEFT - 20, y + 4, f"{time} ms", "time", "end"))
            told = time
        drawn += _arrow(step, lanes, y) if isinstance(step, Arrow) else _note(step, lanes, y, width)
    return "\n".join([*drawn, "</svg>", ""])


def _arrow(step: Arrow, lanes: dict[str, int], y: int) -> list[str]:
    start, end = lanes[step.source], lanes[step.destination]
    inward = 5 if end > start else -5
    kind, words = ("arrow", "") if step.carries else ("shake", "faint")
    apart = min(abs(start - other) for other in lanes.values() if other != start)
    near = start + (apart if end > start else -apart) // 2
    return [
        f'<line class="{kind}" x1="{start}" y1="{y}" x2="{end - inward}" y2="{y}"/>',
        f'<rect class="under" x="{near - 4 * len(step.text)}" y="{y - 19}" width="{8 * len(step.text)}" height="16"'
        ' fill="#fbfcfe"/>',
        _text(near, y - 6, step.text, words),
    ]


def _note(step: Note, lanes: dict[str, int], y: int, width: int) -> list[str]:
    half = (len(step.text) * 7.4 + 16) / 2
    x = min(max(lanes[step.who], LEFT + half - 10), width - half - 8)
    box = f'<rect class="note" x="{x - half:.0f}" y="{y - 15}" width="{2 * half:.0f}" height="22" rx="4"/>'
    return [box, _text(round(x), y, step.text, "typed")]


def _open(width: int, height: int, title: str) -> str:
    tips = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
        f' markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for name, colour in (("tip", "#1f4e79"), ("faint", "#93a1ae"))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{tips}</defs>",
            f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]
    )


def _text(x: int, y: int, text: str, kind: str = "", anchor: str = "middle") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text{styled} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text, quote=False)}</text>'


# --- the house ---

PLACES = {
    "cli": (280, 0),
    "terminal": (140, 1),
    "client": (140, 2),
    "server": (420, 2),
    "transport": (140, 3),
    "storage": (320, 3),
    "link": (140, 4),
    "presence": (450, 4),
    "crypto": (240, 5),
    "protocol": (280, 6),
    "errors": (280, 7),
}
"""Where a part stands: how far to the right, and on which floor, from the roof down."""
NOT_DRAWN = {"tasks", "__main__", "trio_chat"}


def walls() -> set[tuple[str, str]]:
    """Which part may import which: (above, below). What may be done by way of a part in between is left out."""
    may = {
        (above, below) for above, allowed in MAY_IMPORT.items() for below in allowed if not {above, below} & NOT_DRAWN
    }
    parts = {part for pair in may for part in pair}
    return {pair for pair in may if not any((pair[0], part) in may and (part, pair[1]) in may for part in parts)}


def house() -> str:
    """The SVG of the package."""
    width, high = 560, 74
    height = high * 8 + 30
    places = {part: (x, 46 + high * floor) for part, (x, floor) in PLACES.items()}
    drawn = [_open(width, height, "Who may import whom")]
    for above, below in sorted(walls()):
        (x1, y1), (x2, y2) = places[above], places[below]
        drawn.append(f'<line class="arrow" x1="{x1}" y1="{y1 + 15}" x2="{x2}" y2="{y2 - 17}"/>')
    for part, (x, y) in places.items():
        drawn.append(f'<rect class="head" x="{x - 60}" y="{y - 16}" width="120" height="30" rx="5"/>')
        drawn.append(_text(x, y + 4, part, "name"))
    return "\n".join([*drawn, "</svg>", ""])


def drawings() -> dict[str, str]:
    """All of them: file names and SVGs."""
    return {f"{name}.svg": sequence(name) for name in SCENES} | {"house.svg": house()}


if __name__ == "__main__":
    for name, svg in drawings().items():
        (STATIC / name).write_text(svg, encoding="utf-8")
