"""The promises, each one a check with a name, held against the ledger of a world that has come to its end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import attrs

from tests.simulation.ledger import Message
from tests.simulation.world import World
from trio_chat.client.events import (
    ForgedReceiptReceived,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotOpened,
    ReceiptReceived,
    SignedOff,
)
from trio_chat.errors import NotRegistered

GRACE = 0.3
"""Seconds before an end in which what was shown or acknowledged may not have been written down: 100 ms and a commit."""

KEPT = {
    "DuplicateMemory._known",  # answers, to repeat them
    "SqliteClientStore._seen",  # ids of 30 days
    "TokenBuckets._buckets",  # rates of senders and hosts
    "Chat._relay_until",  # at most one a name
    "KeyPins._verified",  # at most one a name
    "Links._hellos",  # at most one a server that has not answered yet
    "Post.left",  # of the latest one, which the loop over the work still has in its hand
}
"""What may grow as long as a program runs, up to a bound of its own: memories of what was."""

RENEWED = {"Links._sessions"}
"""What has, at times, an old one and a new one of each."""


@attrs.frozen
class Fault:
    """A promise that was not kept: what happened instead, to which message (if any), and whom it concerns."""

    promise: str
    what: str
    text: str | None = None
    people: frozenset[str] = frozenset()


Found = tuple[str, str | None, set[str]]
"""What happened instead, the text of the message, the names of people."""


def ended_within(world: World, name: str, first: float, last: float) -> bool:
    return any(who == name and first <= time <= last + GRACE for time, who in world.ledger.ends)


def showings(world: World, name: str, text: str) -> list[float]:
    return [time for time, _, event in world.ledger.shown[name] if getattr(event, "text", None) == text]


def recipients(message: Message, people: Iterable[str]) -> set[str]:
    """Of these people, those to whom the message went."""
    return ({message.recipient} if message.recipient else set(people)) - {message.sender}


def what_was_received_is_shown(world: World) -> Iterator[Found]:
    for message in world.ledger.messages.values():
        if message.how not in ("direct", "relayed", "saved", "posted"):
            continue
        for name in recipients(message, message.known):
            if showings(world, name, message.text):
                continue
            if message.how == "direct" and ended_within(world, name, message.begun, message.ended):
                continue  # acknowledged by a program that died before anyone could read it
            yield f"{message.text!r} was {message.how} and {name} never saw it", message.text, {name}


def nothing_is_shown_twice(world: World) -> Iterator[Found]:
    for name, shown in world.ledger.shown.items():
        for text, count in Counter(getattr(event, "text", None) for _, _, event in shown).items():
            times = showings(world, name, text) if text is not None else []
            repeats = [time for time in times[:-1] if not ended_within(world, name, time, time)]
            if count > 1 and repeats:
                yield f"{name} saw {text!r} at {times}", text, {name}


def nothing_is_shown_that_was_not_said(world: World) -> Iterator[Found]:
    for name, shown in world.ledger.shown.items():
        for _, _, event in shown:
            text = getattr(event, "text", None)
            if text is None:
                continue
            message = world.ledger.messages.get(text)
            if message is None or message.sender != event.sender or name not in recipients(message, world.ledger.shown):
                yield f"{name} saw {event}", text, {name}


def each_saved_message_has_one_receipt(world: World) -> Iterator[Found]:
    for message in world.ledger.messages.values():
        if message.how != "saved":
            continue
        got = [
            time
            for time, _, event in world.ledger.shown[message.sender]
            if event == ReceiptReceived(message.recipient, message.sent_at)
        ]
        late = [time for time in got[:-1] if not ended_within(world, message.sender, time, time)]
        if not got or late:
            yield f"{message.text!r} was saved at {message.sent_at} and has receipts at {got}", message.text, set()


def who_is_on_line_can_speak(world: World) -> Iterator[Found]:
    for message in world.ledger.messages.values():
        if not isinstance(message.error, NotRegistered | None):
            yield f"{message.sender} could not say {message.text!r}: {message.error!r}", message.text, set()


def letters_come_in_order(world: World) -> Iterator[Found]:
    for name, shown in world.ledger.shown.items():
        latest: dict[int, float] = {}
        for _, life, event in shown:
            if isinstance(event, LetterReceived):
                if event.sent_at < latest.get(life, 0.0):
                    yield f"{name} saw {event} after one of {latest[life]}", event.text, {name}
                latest[life] = event.sent_at


def nobody_is_accused(world: World) -> Iterator[Found]:
    suspicions = (ForgedReceiptReceived, KeyWarning, LetterUnreadable, MessageNotOpened, SignedOff)
    for name, shown in world.ledger.shown.items():
        for _, _, event in shown:
            if isinstance(event, suspicions):
                yield f"{name} was told {event}", None, {name}


def everyone_is_there_at_the_end(world: World) -> Iterator[Found]:
    for name, online in world.online.items():
        if not online:
            yield f"{name} is not on line", None, {name}
    for name, table in world.tables.items():
        missing = {record.name for record in (table or {}).values() if not record.online}
        if table is None or missing:
            yield f"{name} holds {missing or 'everybody'} for gone", None, {name} | missing


def who_vanishes_is_missed(world: World) -> Iterator[Found]:
    unaware = {person.name for person in world.people[1:]} - world.missed_by
    if unaware:
        yield f"{unaware} still held {world.people[0].name} for on line", None, unaware


def who_is_there_is_not_marked_gone(world: World) -> Iterator[Found]:
    for time, name in world.ledger.wrongly_gone:
        yield f"{name} was marked gone at {time}, and was there", None, {name}


def all_tables_are_equal(world: World) -> Iterator[Found]:
    (name, first), *others = world.tables.items()
    for other, table in others:
        if table != first:
            yield f"{other} holds {table}, {name} holds {first}", None, {name, other}


def everything_is_back_to_its_idle_size(world: World) -> Iterator[Found]:
    at_first, at_last = world.idle
    for what, size in sorted(at_last.items()):
        if what not in KEPT and size > at_first[what] * (1 + (what in RENEWED)):
            yield f"{what} holds {size} at the end, and held {at_first[what]} when all had just come", None, set()


PROMISES: tuple[Callable[[World], Iterator[Found]], ...] = (
    what_was_received_is_shown,
    nothing_is_shown_twice,
    nothing_is_shown_that_was_not_said,
    each_saved_message_has_one_receipt,
    who_is_on_line_can_speak,
    letters_come_in_order,
    nobody_is_accused,
    everyone_is_there_at_the_end,
    who_vanishes_is_missed,
    who_is_there_is_not_marked_gone,
    all_tables_are_equal,
    everything_is_back_to_its_idle_size,
)


def broken(world: World) -> list[Fault]:
    """The promises that were not kept."""
    return [
        Fault(promise.__name__.replace("_", " "), what, text, frozenset(people))
        for promise in PROMISES
        for what, text, people in promise(world)
    ]
