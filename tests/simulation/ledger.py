"""All that happened in a world, in order: who did what, and every datagram.

The whole of it is the trace of a seed; what belongs to one message is a play that can be read.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import attrs
import trio

from tests.network import MemoryNetwork, Sent
from tests.wiretap import Wiretap
from trio_chat.client import chat, inbox
from trio_chat.client.events import Event
from trio_chat.errors import ChatError
from trio_chat.link.packets import CHALLENGE, DATA, PROOF, Cookie, Hello, Init, Keys, Reset, Resp
from trio_chat.protocol.messages import Letters
from trio_chat.protocol.records import Address

LONG = " long" * 600
"""The end of long texts, which lines of the trace leave out."""

BEFORE, AFTER = 10.0, 1.0
"""Seconds of what befell everybody that belong to the play of a message."""

LINKS = {form.kind: form.__name__ for form in (Hello, Keys, Init, Cookie, Resp, Reset)} | {
    DATA: "Data",
    CHALLENGE: "Challenge",
    PROOF: "Proof",
}
"""What is in a datagram that bears no message."""


@attrs.define(eq=False)
class Message:
    """What somebody wanted to say: to one, or (None) to everyone; and what became of it, as far as he was told."""

    text: str
    sender: str
    recipient: str | None
    begun: float
    known: frozenset[str]
    how: str = "unknown"
    sent_at: float | None = None
    ended: float | None = None
    error: ChatError | None = None
    ids: set[bytes] = attrs.Factory(set)

    @property
    def mark(self) -> str:
        """What stands in each line about it: texts begin with their number."""
        return f"'{self.text.split()[0]} "


@attrs.frozen
class Deed:
    """Somebody did something, or it was done to him."""

    time: float
    who: str
    what: str
    fate: bool = False
    """Does it concern everybody's messages, as a kill or a cut do?"""


@attrs.define(eq=False)
class Ledger:
    """What was done and sent; what was said; and what each one was shown: (time, life, event)."""

    network: MemoryNetwork
    tap: Wiretap
    hosts: dict[str, str] = attrs.Factory(dict)
    entries: list[Deed | int] = attrs.Factory(list)
    messages: dict[str, Message] = attrs.Factory(dict)
    shown: dict[str, list[tuple[float, int, Event]]] = attrs.Factory(dict)
    ends: list[tuple[float, str]] = attrs.Factory(list)
    """When whose program ended without a chance to write anything down."""
    registered: dict[str, float] = attrs.Factory(dict)
    wrongly_gone: list[tuple[float, str]] = attrs.Factory(list)
    """Who was marked gone while he was there and nothing stood between him and the server."""

    def note(self, who: str, what: str, *, fate: bool = False) -> None:
        """Something was done."""
        self.entries.append(Deed(trio.current_time(), who, what.replace(LONG, " long..."), fate))

    def overhear(self, data: bytes, source: Address, destination: Address) -> bool:
        """A filter for the network that lets everything pass, and remembers in which order."""
        self.entries.append(len(self.network.log) - 1)
        return True

    @contextmanager
    def hearing_ids(self) -> Iterator[None]:
        """Until the block ends, note by which ids texts travel: most datagrams about them bear nothing else."""

        def heard(write: Callable[..., bytes]) -> Callable[..., bytes]:
            def hear(*args: Any, id: bytes, text: str, **more: Any) -> bytes:
                if text in self.messages:
                    self.messages[text].ids.add(id)
                return write(*args, id=id, text=text, **more)

            return hear

        with ExitStack() as patched:
            for module, name in ((chat, "seal_letter"), (chat, "sign_post"), (inbox, "make_receipt")):
                patched.enter_context(patch.object(module, name, heard(getattr(module, name))))
            yield

    # --- to read ---

    def trace(self) -> list[str]:
        """All of it, a line each: messages and lengths, not ciphertexts, as HPKE has randomness of its own."""
        return [self._line(entry) for entry in self.entries]

    def play_of(self, text: str | None, people: set[str]) -> list[str]:
        """What concerns one message; without one, what concerns these people and the server beside messages.

        What befell everybody is told from a while before until just after.
        """
        message = self.messages.get(text) if text else None
        if message is not None:
            people = people | {message.sender, *filter(None, [message.recipient])}
        concerns = self._of_message(message) if message else self._of_people(people)
        about = {number for number, entry in enumerate(self.entries) if concerns(entry)}
        times = [self._time(self.entries[number]) for number in about] or [0.0]
        scene = people | {"server", "wires", "world"}
        return [
            self._line(entry)
            for number, entry in enumerate(self.entries)
            if number in about
            or (
                isinstance(entry, Deed)
                and entry.fate
                and entry.who in scene
                and min(times) - BEFORE <= entry.time <= max(times) + AFTER
            )
        ]

    def _time(self, entry: Deed | int) -> float:
        return entry.time if isinstance(entry, Deed) else self.network.log[entry].time

    def _of_message(self, message: Message) -> Callable[[Deed | int], bool]:
        receipt = f"sent_at={message.sent_at}"

        def concerns(entry: Deed | int) -> bool:
            if isinstance(entry, Deed):
                return message.mark in entry.what or (entry.who == message.sender and receipt in entry.what)
            said = self.tap.message(self.network.log[entry].data)
            letters = said.letters if isinstance(said, Letters) else ()
            return said is not None and bool(message.ids & {said.id, *(letter.id for letter in letters)})

        return concerns

    def _of_people(self, people: set[str]) -> Callable[[Deed | int], bool]:
        def concerns(entry: Deed | int) -> bool:
            if isinstance(entry, Deed):
                return entry.who in people
            line = self.network.log[entry]
            return {self._name(line.source), self._name(line.destination)} - {"server"} <= people

        return concerns

    def _name(self, address: Address) -> str:
        return self.hosts.get(address[0], address[0])

    def _line(self, entry: Deed | int) -> str:
        if isinstance(entry, Deed):
            return f"{entry.time:10.4f} {entry.who:>6} {entry.what}"
        sent = self.network.log[entry]
        way = f"{self._name(sent.source):>6} -> {self._name(sent.destination):<6}"
        return f"{sent.time:10.4f} {way} {self._inside(sent)}, {len(sent.data)} B, {_fate(sent.delays)}"

    def _inside(self, sent: Sent) -> str:
        said = self.tap.message(sent.data)
        if said is None:
            return LINKS.get(sent.data[0], "?")
        details = [f"{letter.kind.name} {letter.id[:2].hex()}" for letter in getattr(said, "letters", ())]
        details += [f"{name}={getattr(said, name)!r}" for name in ("of", "index", "reason") if hasattr(said, name)]
        return " ".join([type(said).__name__, said.id[:2].hex(), *details])


def _fate(delays: tuple[float, ...]) -> str:
    if not delays:
        return "lost"
    return " and ".join(f"{delay:.3f} s" for delay in delays) if any(delays) else "at once"
