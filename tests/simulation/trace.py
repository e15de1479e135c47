"""All that happened in a world, in order: who did what, and every datagram.

It can be printed as a whole, or in excerpts that a person can read: what concerns one message. It judges nothing.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import attrs
import trio

from tests.network import MemoryNetwork, Sent
from tests.wiretap import Wiretap
from trio_chat.client import inbox, letter_sender, private_rooms, rooms
from trio_chat.client.direct_sender import DirectSender
from trio_chat.client.events import Event, MessageState, OutgoingChanged
from trio_chat.crypto.receipts import hash_text
from trio_chat.crypto.room_keys import SignedEpoch
from trio_chat.errors import ChatError
from trio_chat.link.packets import CHALLENGE, DATA, PROOF, Cookie, Hello, Init, Keys, Reset, Resp, WakeUpCall
from trio_chat.protocol.messages import Batch, DirectMessage
from trio_chat.protocol.records import Address

LONG = " long" * 600
"""The end of long texts. It is not printed."""

PRIVATE_ROOMS = ("den", "loft")
PRIVATELY = " privately"
"""What each text to a private room contains, and no other: it is searched for on the server's disk."""

HOW = {
    MessageState.RECEIVED: "direct",
    MessageState.RELAYED: "relayed",
    MessageState.SAVED: "saved",
    MessageState.POSTED: "posted",
}
"""What `Delivery.how` says of a message that was sent without the outbox."""

BEFORE, AFTER = 10.0, 1.0
"""Seconds before and after a message: its excerpt also has what concerned everybody in this time."""

LINKS = {form.kind: form.__name__ for form in (Hello, Keys, Init, Cookie, Resp, Reset, WakeUpCall)} | {
    DATA: "Data",
    CHALLENGE: "Challenge",
    PROOF: "Proof",
}
"""Names of datagrams without a message."""


@attrs.define(eq=False)
class Queued:
    """What is known of a message that was put into an outbox.

    `began`, `accepted`: when `put` was called, and when it was known that the message is on the disk, if it was, as
    numbers that grow. `is_waiting`: whether it was still in the outbox at the end.
    `told`: when its sender was shown what.
    """

    began: int
    accepted: int | None = None
    is_cancelled: bool = False
    has_failed: bool = False
    is_waiting: bool = False
    told: list[tuple[float, MessageState]] = attrs.Factory(list)


@attrs.define(eq=False)
class Message:
    """A message to one person, or (None) to everyone, and what its sender was shown about it."""

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
    is_honest: bool = True
    """Has it an id of its own?"""
    room: str = ""
    """The name of the room to which it was posted; empty if it was to everyone or to one person."""
    queued: Queued | None = None
    """None if it was sent without the outbox."""

    @property
    def is_private(self) -> bool:
        """Was it to a private room?"""
        return self.room in PRIVATE_ROOMS

    @property
    def mark(self) -> str:
        """What each line about it contains: texts begin with their number."""
        return f"'{self.text.split()[0]} "


@attrs.define(eq=False)
class RoomChange:
    """Somebody has created, joined or left a room, or changed who is in a private one, or tried to.

    `is_done`: None if nobody knows whether it will be. `about`: whom somebody else has invited, removed, or made an
    owner. `error`: what they were told instead. Nothing is done after `ended`.
    """

    person: str
    room: str
    kind: str
    begun: float
    ended: float = float("inf")
    is_done: bool | None = None
    about: str = ""
    error: ChatError | None = None

    @property
    def member(self) -> str:
        """Who comes or goes."""
        return self.about or self.person

    @property
    def is_join(self) -> bool:
        """Whether they are in the room afterwards."""
        return self.kind in ("create", "join", "invite")

    @property
    def is_leave(self) -> bool:
        """Whether they are not in the room afterwards."""
        return self.kind in ("leave", "remove")


@attrs.frozen
class Loss:
    """Somebody's store was lost. They keep their name and their key, and go on with an empty one.

    `position`: at least this was acknowledged, as the server has it on its disk. It does not come again. `unshown`: the
    ids of what their program had acknowledged, and not shown yet. `epochs`: the entries with which
    the epochs in it had come.
    """

    time: float
    name: str
    position: int
    unshown: set[bytes]
    epochs: set[int]


@attrs.frozen
class Action:
    """Somebody did something, or something was done to them."""

    time: float
    who: str
    what: str
    for_all: bool = False
    """Does it concern everybody's messages, as a kill or a cut connection does?"""


@attrs.define(eq=False)
class Trace:
    """What was done and sent, all messages, and what each person was shown: (time, run, event)."""

    network: MemoryNetwork
    tap: Wiretap
    hosts: dict[str, str] = attrs.Factory(dict)
    entries: list[Action | int] = attrs.Factory(list)
    order: Iterator[int] = attrs.Factory(itertools.count)
    """Numbers for what happens, as much of it happens at the same time."""
    messages: dict[str, Message] = attrs.Factory(dict)
    by_hash: dict[bytes, Message] = attrs.Factory(dict)
    shown: dict[str, list[tuple[float, int, Event]]] = attrs.Factory(dict)
    ends: list[tuple[float, str]] = attrs.Factory(list)
    """When whose program ended without a chance to save anything."""
    losses: list[Loss] = attrs.Factory(list)
    registered: dict[str, float] = attrs.Factory(dict)
    places: dict[bytes, int] = attrs.Factory(dict)
    """The number that the server gave to each letter and post, by its id."""
    positions: dict[str, int] = attrs.Factory(dict)
    """The position that each name has on the server's disk, at least."""
    moved_back: list[tuple[str, int, int]] = attrs.Factory(list)
    """A name, the position that it had on the server's disk, and a lower one at a later registration."""
    room_changes: list[RoomChange] = attrs.Factory(list)
    epochs: dict[str, SignedEpoch] = attrs.Factory(dict)
    """The latest epoch of each private room that a server has taken, by the room's name."""
    outgoing: dict[tuple[str, int], Message] = attrs.Factory(dict)
    """What was in outboxes, by the sender and the number there."""
    wrong_clocks: set[str] = attrs.Factory(set)
    """Whose clock was wrong for a while."""
    wrongly_offline: list[tuple[float, str]] = attrs.Factory(list)
    """Who was marked offline while they were online and nothing was between them and the server."""

    def note(self, who: str, what: str, *, for_all: bool = False) -> None:
        """Record that something was done."""
        self.entries.append(Action(trio.current_time(), who, what.replace(LONG, " long..."), for_all))

    def add(self, message: Message) -> Message:
        """Remember a message that is about to be sent."""
        self.messages[message.text] = self.by_hash[hash_text(message.text)] = message
        return message

    def accept(self, message: Message, number: int) -> None:
        """Note that a message is in its sender's outbox, and on the disk."""
        self.outgoing[message.sender, number] = message
        if message.queued is not None and message.queued.accepted is None:
            message.queued.accepted = next(self.order)

    def tell(self, sender: str, change: OutgoingChanged) -> None:
        """Note what a sender is told of a message in their outbox."""
        message = self.outgoing[sender, change.number]
        self.note(sender, f"is told that {message.text!r} is {change.state} {change.error!r}")
        if message.queued is not None:
            message.queued.told.append((trio.current_time(), change.state))
        if message.queued is None or change.state is MessageState.WAITING:
            return
        message.queued.has_failed = change.state is MessageState.FAILED
        message.how = HOW.get(change.state, "unknown")
        message.sent_at, message.error = change.sent_at, change.error
        message.ended = message.ended or trio.current_time()

    def record(self, data: bytes, source: Address, destination: Address) -> bool:
        """A filter for the network that drops nothing and records the order."""
        self.entries.append(len(self.network.log) - 1)
        return True

    @contextmanager
    def recording_ids(self) -> Iterator[None]:
        """Record the ids of messages: most datagrams about them contain nothing else of them."""

        def recorded(write: Callable[..., bytes]) -> Callable[..., bytes]:
            def record(*args: Any, id: bytes, **options: Any) -> bytes:
                text_hash = options.get("text_hash") or hash_text(options["text"])
                if text_hash in self.by_hash:
                    self.by_hash[text_hash].ids.add(id)
                return write(*args, id=id, **options)

            return record

        send = DirectSender.send

        async def record_direct(sender: DirectSender, message: DirectMessage, *args: Any, **options: Any) -> Any:
            # Nothing of it is signed or sealed by a function of its own.
            if (text_hash := hash_text(message.text)) in self.by_hash:
                self.by_hash[text_hash].ids.add(message.id)
            return await send(sender, message, *args, **options)

        with ExitStack() as patched:
            patched.enter_context(patch.object(DirectSender, "send", record_direct))
            for module, name in (
                (letter_sender, "seal_letter"),
                (rooms, "sign_post"),
                (private_rooms, "seal_post"),
                (inbox, "sign_receipt"),
            ):
                patched.enter_context(patch.object(module, name, recorded(getattr(module, name))))
            yield

    # --- printed ---

    def lines(self) -> list[str]:
        """All of it. Of datagrams only message and length: HPKE draws random bytes of its own, which no seed fixes."""
        return [self._line(entry) for entry in self.entries]

    def excerpt(self, text: str | None, people: set[str]) -> list[str]:
        """What concerns one message; without a message, what concerns these people and the server, but no messages.

        In both cases, with what concerned everybody shortly before and after.
        """
        message = self.messages.get(text) if text else None
        if message is not None:
            people = people | {message.sender, *filter(None, [message.recipient])}
        concerns = self._of_message(message) if message else self._of_people(people)
        about = {number for number, entry in enumerate(self.entries) if concerns(entry)}
        times = [self._time(self.entries[number]) for number in about] or [0.0]
        actors = people | {"server", "network", "world"}
        return [
            self._line(entry)
            for number, entry in enumerate(self.entries)
            if number in about
            or (
                isinstance(entry, Action)
                and entry.for_all
                and entry.who in actors
                and min(times) - BEFORE <= entry.time <= max(times) + AFTER
            )
        ]

    def _time(self, entry: Action | int) -> float:
        return entry.time if isinstance(entry, Action) else self.network.log[entry].time

    def _of_message(self, message: Message) -> Callable[[Action | int], bool]:
        receipt = f"sent_at={message.sent_at or 'unknown'}"

        def concerns(entry: Action | int) -> bool:
            if isinstance(entry, Action):
                return message.mark in entry.what or (entry.who == message.sender and receipt in entry.what)
            inside = self.tap.messages(self.network.log[entry].data)
            entries = [entry for one in inside if isinstance(one, Batch) for entry in one.entries]
            return not message.ids.isdisjoint(one.id for one in [*inside, *entries])

        return concerns

    def _of_people(self, people: set[str]) -> Callable[[Action | int], bool]:
        def concerns(entry: Action | int) -> bool:
            if isinstance(entry, Action):
                return entry.who in people
            line = self.network.log[entry]
            return {self._name(line.source), self._name(line.destination)} - {"server"} <= people

        return concerns

    def _name(self, address: Address) -> str:
        return self.hosts.get(address[0], address[0])

    def _line(self, entry: Action | int) -> str:
        if isinstance(entry, Action):
            return f"{entry.time:10.4f} {entry.who:>7} {entry.what}"
        sent = self.network.log[entry]
        way = f"{self._name(sent.source):>6} -> {self._name(sent.destination):<6}"
        return f"{sent.time:10.4f} {way} {self._inside(sent)}, {len(sent.data)} B, {_arrival(sent.delays)}"

    def _inside(self, sent: Sent) -> str:
        inside = self.tap.messages(sent.data)
        return ", ".join(map(self._message, inside)) if inside else LINKS.get(sent.data[0], "?")

    def _message(self, inside: Any) -> str:
        details = [f"{one.seq} {one.kind} {one.id[:2].hex()}" for one in getattr(inside, "entries", ())]
        details += [f"{name}={getattr(inside, name)!r}" for name in ("of", "index", "reason") if hasattr(inside, name)]
        return " ".join([type(inside).__name__, inside.id[:2].hex(), *details])


def _arrival(delays: tuple[float, ...]) -> str:
    if not delays:
        return "lost"
    return " and ".join(f"{delay:.3f} s" for delay in delays) if any(delays) else "at once"
