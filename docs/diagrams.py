"""The sequence diagrams and the diagram of the packages. `python -m docs.diagrams` draws them again.

A sequence diagram is a recording: a server and its clients run on a network in memory, in virtual time, and each
datagram is one arrow. The packages and their imports are read from tests/test_architecture.py. The tests compare the
files in _static/ with what this module draws now.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from html import escape
from pathlib import Path

import attrs
import trio
import trio.testing

from tests.network import Conditions, MemoryNetwork, Sent, open_memory_network
from tests.stage import SERVER, Person, Stage, open_stage
from tests.test_architecture import MAY_IMPORT
from trio_chat.link.packets import parse_untrusted
from trio_chat.protocol.messages import Batch, DirectMessage, GroupPost, Register, TableChange
from trio_chat.terminal.results import MessageSent, PostAccepted
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

STATIC = Path(__file__).parent / "_static"
TRAVEL = 0.01
"""How long a datagram travels, in seconds."""

# --- recording ---


@attrs.frozen
class Arrow:
    """A message, or a datagram that carries none: then `text` is the datagram's own type, and `carries` is false."""

    time: float
    source: str
    destination: str
    text: str
    carries: bool


@attrs.frozen
class Note:
    """A line that somebody types or reads."""

    time: float
    who: str
    text: str


Step = Arrow | Note


class Recording:
    """The clients of one diagram, and what happens after `begin()`."""

    def __init__(self, stage: Stage, network: MemoryNetwork) -> None:
        self.stage = stage
        self.people: dict[str, Person] = {}
        self._network = network
        self._notes: list[Note] = []
        self._begun_at = 0.0

    async def enter(self, *names: str) -> None:
        for name in names:
            self.people[name] = await self.stage.enter(name)
        await self.stage.pass_time(1)

    async def begin(self) -> None:
        """Start to record. Registrations before this moment are not drawn."""
        await self.stage.pass_time(1)
        self._network.log.clear()
        self._begun_at = trio.current_time()
        for name, person in self.people.items():
            person.received = _EventList(self, name)

    def types(self, who: str, line: str) -> None:
        self._notes.append(Note(trio.current_time(), who, f"> {line}"))

    def sees(self, who: str, lines: tuple[Line, ...]) -> None:
        shown = (re.sub(r"\d\d:\d\d:\d\d", "12:03:50", line.text) for line in lines)
        self._notes += [Note(trio.current_time(), who, text) for text in shown]

    def steps(self) -> list[Step]:
        """All steps by time. Steps of one moment are sorted by name, so that each run gives the same drawing."""
        notes = sorted(self._notes, key=lambda note: (self.begun(note), note.who))
        sent = (arrow for datagram in self._network.log for arrow in self._arrows(datagram))
        arrows = sorted(sent, key=lambda arrow: (self.begun(arrow), *_order(arrow)))
        return sorted([*notes, *arrows], key=self.begun)

    def begun(self, step: Step) -> int:
        """Milliseconds since the recording began."""
        return round((step.time - self._begun_at) * 1000)

    def _arrows(self, sent: Sent) -> list[Arrow]:
        """One for each message in this datagram, or one for a datagram of a handshake."""
        names = {person.host: name for name, person in self.people.items()} | {SERVER[0]: "server"}
        arrow = partial(Arrow, sent.time, names[sent.source[0]], names[sent.destination[0]])
        if messages := self.stage.tap.messages(sent.data):
            return [arrow(_label(message), True) for message in messages]
        return [arrow(type(parse_untrusted(sent.data)).__name__.upper(), False)]


def _order(arrow: Arrow) -> tuple[str, str, str]:
    return (arrow.source, arrow.destination, arrow.text)


class _EventList(list):
    """A client's list of events which records each event that is appended."""

    def __init__(self, recording: Recording, name: str) -> None:
        super().__init__()
        self._recording = recording
        self._name = name

    def append(self, event: object) -> None:
        self._recording.sees(self._name, Phrasebook().render(event))


def _label(message: object) -> str:
    name = type(message).__name__
    match message:
        case DirectMessage():
            return f"{name}: “{message.text}”"
        case Batch():
            return f"{name}: {', '.join(f'{entry.seq} {entry.kind}' for entry in message.entries)}"
        case TableChange():
            return f"{name}: {', '.join(record.name for record in message.records)}"
        case Register():
            return f"{name}: {message.name}"
        case GroupPost():
            return f"{name}: to everyone"
    return name


async def direct(recording: Recording) -> None:
    """Alice writes to Bob for the first time."""
    await recording.enter("alice", "bob")
    await recording.begin()
    await _send(recording, "alice", "bob", "Hello, Bob!")


async def saved(recording: Recording) -> None:
    """Alice writes to Bob, who is away; Bob comes back."""
    await recording.enter("alice", "bob")
    await recording.people["bob"].chat.deregister()
    await recording.begin()
    await _send(recording, "alice", "bob", "Are you coming?")
    await recording.stage.pass_time(0.48)
    recording.types("bob", "reg")
    await recording.people["bob"].chat.register()
    await recording.stage.pass_time(0.5)


async def group(recording: Recording) -> None:
    """Carol writes to everyone."""
    await recording.enter("alice", "bob", "carol")
    await recording.begin()
    recording.types("carol", "send_all Lunch at noon?")
    await recording.people["carol"].chat.send_all("Lunch at noon?")
    recording.sees("carol", Phrasebook().render(PostAccepted()))
    await recording.stage.pass_time(0.5)


async def log(recording: Recording) -> None:
    """Bob comes back; the log has a letter and two messages to everyone for him."""
    await recording.enter("alice", "bob", "carol")
    await recording.people["bob"].chat.deregister()
    await recording.people["carol"].chat.send_all("Lunch at noon?")
    await recording.people["alice"].chat.send("bob", "Are you coming?")
    await recording.people["carol"].chat.send_all("Pizza, I mean.")
    await recording.begin()
    recording.types("bob", "reg")
    await recording.people["bob"].chat.register()
    await recording.stage.pass_time(0.5)


async def _send(recording: Recording, sender: str, recipient: str, text: str) -> None:
    recording.types(sender, f"send {recipient} {text}")
    delivery = await recording.people[sender].chat.send(recipient, text)
    recording.sees(sender, Phrasebook().render(MessageSent(recipient, delivery.how, delivery.sent_at)))
    await recording.stage.pass_time(0.5)


Scene = Callable[[Recording], Awaitable[None]]
SCENES: dict[str, tuple[Scene, tuple[str, ...]]] = {
    "direct": (direct, ("alice", "server", "bob")),
    "saved": (saved, ("alice", "server", "bob")),
    "group": (group, ("carol", "server", "alice", "bob")),
    "log": (log, ("alice", "server", "bob", "carol")),
}


async def _record(scene: Scene) -> list[tuple[int, Step]]:
    async with open_memory_network() as network:
        network.default = Conditions(delay=(TRAVEL, TRAVEL))
        async with open_stage(network) as stage:
            recording = Recording(stage, network)
            await scene(recording)
            return [(recording.begun(step), step) for step in recording.steps()]


def record(name: str) -> list[tuple[int, Step]]:
    """The steps of a scene, each with its time in milliseconds."""
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
    columns = {who: LEFT + 110 + number * apart for number, who in enumerate(people)}
    width, height = max(columns.values()) + 130, TOP + STEP * (len(steps) + 1)
    drawn = [_open(width, height, (SCENES[name][0].__doc__ or "").strip())]
    for who, x in columns.items():
        drawn.append(f'<line class="life" x1="{x}" y1="{TOP - 14}" x2="{x}" y2="{height - 12}"/>')
        drawn.append(f'<rect class="head" x="{x - 48}" y="14" width="96" height="26" rx="5"/>')
        drawn.append(_text(x, 32, who, "name"))
    last_time = -1
    for number, (time, step) in enumerate(steps):
        y = TOP + STEP * number + 24
        if time != last_time:
            drawn.append(_text(LEFT - 20, y + 4, f"{time} ms", "time", "end"))
            last_time = time
        drawn += _arrow(step, columns, y) if isinstance(step, Arrow) else _note(step, columns, y, width)
    return "\n".join([*drawn, "</svg>", ""])


def _arrow(step: Arrow, columns: dict[str, int], y: int) -> list[str]:
    start, end = columns[step.source], columns[step.destination]
    inward = 5 if end > start else -5
    kind, words = ("arrow", "") if step.carries else ("shake", "faint")
    apart = min(abs(start - other) for other in columns.values() if other != start)
    near = start + (apart if end > start else -apart) // 2
    return [
        f'<line class="{kind}" x1="{start}" y1="{y}" x2="{end - inward}" y2="{y}"/>',
        f'<rect class="under" x="{near - 4 * len(step.text)}" y="{y - 19}" width="{8 * len(step.text)}" height="16"'
        ' fill="#fbfcfe"/>',
        _text(near, y - 6, step.text, words),
    ]


def _note(step: Note, columns: dict[str, int], y: int, width: int) -> list[str]:
    half = (len(step.text) * 7.4 + 16) / 2
    x = min(max(columns[step.who], LEFT + half - 10), width - half - 8)
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


# --- the packages ---

POSITIONS = {
    "cli": (300, 0),
    "terminal": (250, 1),
    "server": (510, 1),
    "presence": (90, 2),
    "client": (250, 3),
    "transport": (330, 4),
    "storage": (510, 4),
    "link": (330, 5),
    "crypto": (420, 6),
    "protocol": (260, 7),
    "errors": (260, 8),
}
"""Where a package is drawn: x in pixels, and its row from the top. The tests check that no line crosses a box."""
NOT_DRAWN = {"tasks", "__main__", "trio_chat"}
BOX = (116, 30)
ROW = 70


def imports() -> set[tuple[str, str]]:
    """Pairs of (package, package that it may import). A pair is left out if a longer way leads there, too."""
    may = {
        (above, below) for above, allowed in MAY_IMPORT.items() for below in allowed if not {above, below} & NOT_DRAWN
    }
    parts = {part for pair in may for part in pair}
    return {pair for pair in may if not any((pair[0], part) in may and (part, pair[1]) in may for part in parts)}


def center(part: str) -> tuple[int, int]:
    """The middle of a package's box, in pixels."""
    x, row = POSITIONS[part]
    return x, 36 + ROW * row


def line(above: str, below: str) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of an arrow, from the bottom of one box to the top of the other."""
    (x1, y1), (x2, y2) = center(above), center(below)
    return x1, y1 + BOX[1] // 2, x2, y2 - BOX[1] // 2 - 1


def packages() -> str:
    """The SVG of the packages."""
    width, high = BOX
    drawn = [_open(590, 36 * 2 + ROW * 8, "Which package may import which")]
    for pair in sorted(imports()):
        x1, y1, x2, y2 = line(*pair)
        drawn.append(f'<line class="arrow" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for part in POSITIONS:
        x, y = center(part)
        drawn.append(
            f'<rect class="head" x="{x - width // 2}" y="{y - high // 2}" width="{width}" height="{high}" rx="5"/>'
        )
        drawn.append(_text(x, y + 5, part, "name"))
    return "\n".join([*drawn, "</svg>", ""])


def drawings() -> dict[str, str]:
    """All diagrams: file names and SVGs."""
    return {f"{name}.svg": sequence(name) for name in SCENES} | {"packages.svg": packages()}


if __name__ == "__main__":
    for name, svg in drawings().items():
        (STATIC / name).write_text(svg, encoding="utf-8")
