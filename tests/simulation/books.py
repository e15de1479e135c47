"""The promises, each one a check with a name, held against the ledger of a world that has come to its end."""

from collections import Counter
from collections.abc import Iterator

from tests.simulation.world import Message, World
from trio_chat.client.events import (
    ForgedReceiptReceived,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotOpened,
    ReceiptReceived,
    SignedOff,
)

GRACE = 0.2
"""Seconds before a kill in which what was shown or acknowledged may not have been written down: 100 ms and a commit."""


def was_killed_just_after(world: World, name: str, at: float) -> bool:
    return any(who == name and at <= time <= at + GRACE for time, who in world.ledger.kills)


def showings(world: World, name: str, text: str) -> list[float]:
    return [time for time, _, event in world.ledger.shown[name] if getattr(event, "text", None) == text]


def recipients(world: World, message: Message) -> set[str]:
    if message.recipient is not None:
        return {message.recipient}
    return set(message.known) - {message.sender}


def what_was_received_is_shown(world: World) -> Iterator[str]:
    for message in world.ledger.messages.values():
        if message.how not in ("direct", "relayed", "saved", "posted"):
            continue
        for name in recipients(world, message):
            if showings(world, name, message.text):
                continue
            if message.how == "direct" and any(
                who == name and message.begun <= time <= message.ended + GRACE for time, who in world.ledger.kills
            ):
                continue  # acknowledged by a program that died before anyone could read it
            yield f"{message.text!r} was {message.how} and {name} never saw it"


def nothing_is_shown_twice(world: World) -> Iterator[str]:
    for name, shown in world.ledger.shown.items():
        for text, count in Counter(getattr(event, "text", None) for _, _, event in shown).items():
            times = showings(world, name, text) if text is not None else []
            repeats = [time for time in times[:-1] if not was_killed_just_after(world, name, time)]
            if count > 1 and repeats:
                yield f"{name} saw {text!r} at {times}"


def nothing_is_shown_that_was_not_said(world: World) -> Iterator[str]:
    for name, shown in world.ledger.shown.items():
        for _, _, event in shown:
            text = getattr(event, "text", None)
            if text is None:
                continue
            message = world.ledger.messages.get(text)
            if message is None or message.sender != event.sender or name not in recipients_at_most(world, message):
                yield f"{name} saw {event}"


def recipients_at_most(world: World, message: Message) -> set[str]:
    if message.recipient is not None:
        return {message.recipient}
    return set(world.ledger.shown) - {message.sender}


def each_saved_message_has_one_receipt(world: World) -> Iterator[str]:
    for message in world.ledger.messages.values():
        if message.how != "saved":
            continue
        got = [
            time
            for time, _, event in world.ledger.shown[message.sender]
            if event == ReceiptReceived(message.recipient, message.sent_at)
        ]
        late = [time for time in got[:-1] if not was_killed_just_after(world, message.sender, time)]
        if not got or late:
            yield f"{message.text!r} was saved at {message.sent_at} and has receipts at {got}"


def letters_come_in_order(world: World) -> Iterator[str]:
    for name, shown in world.ledger.shown.items():
        latest: dict[int, float] = {}
        for _, life, event in shown:
            if isinstance(event, LetterReceived):
                if event.sent_at < latest.get(life, 0.0):
                    yield f"{name} saw {event} after one of {latest[life]}"
                latest[life] = event.sent_at


def nobody_is_accused(world: World) -> Iterator[str]:
    suspicions = (ForgedReceiptReceived, KeyWarning, LetterUnreadable, MessageNotOpened, SignedOff)
    for name, shown in world.ledger.shown.items():
        for _, _, event in shown:
            if isinstance(event, suspicions):
                yield f"{name} was told {event}"


def everyone_is_there_at_the_end(world: World) -> Iterator[str]:
    for name, online in world.online.items():
        if not online:
            yield f"{name} is not on line"
    for name, table in world.tables.items():
        if table is None or any(not record.online for record in table.values()):
            yield f"{name} holds {table}"


def who_vanishes_is_missed(world: World) -> Iterator[str]:
    unaware = {person.name for person in world.people[1:]} - world.missed_by
    if unaware:
        yield f"{unaware} still held {world.people[0].name} for on line"


def all_tables_are_equal(world: World) -> Iterator[str]:
    first, *others = world.tables.values()
    for table in others:
        if table != first:
            yield f"{table} is not {first}"


PROMISES = (
    what_was_received_is_shown,
    nothing_is_shown_twice,
    nothing_is_shown_that_was_not_said,
    each_saved_message_has_one_receipt,
    letters_come_in_order,
    nobody_is_accused,
    everyone_is_there_at_the_end,
    who_vanishes_is_missed,
    all_tables_are_equal,
)


def broken(world: World) -> list[tuple[str, str]]:
    """The promises that were not kept: their names, and what happened instead."""
    return [(promise.__name__.replace("_", " "), fault) for promise in PROMISES for fault in promise(world)]
