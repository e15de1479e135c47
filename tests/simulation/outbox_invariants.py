"""The promises of the outbox: what was accepted arrives, in order, or its sender is told that it does not."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

import attrs

from tests.simulation.crashes import Found, ended_within, is_lost, recipients, shown_at
from tests.simulation.outbox_events import NOBODY
from tests.simulation.trace import Message
from tests.simulation.world import World
from trio_chat.client.events import MessageState
from trio_chat.errors import TriedTooLong, UnknownRecipient
from trio_chat.protocol.messages import DirectMessage

SENDERS_KEEP = any(field.name == "sender_keeps" for field in attrs.fields(DirectMessage))
"""Whether a direct message stays with its sender until it is on the disk of its recipient."""


def _accepted(world: World) -> Iterator[Message]:
    """What is on the disk of its sender for certain, and was neither withdrawn nor lost with that disk."""
    for message in world.trace.messages.values():
        queued = message.queued
        is_there = queued is not None and queued.accepted is not None and not queued.is_cancelled
        if is_there and not _is_sender_gone(world, message):
            yield message


def _is_sender_gone(world: World, message: Message) -> bool:
    return any(loss.name == message.sender and loss.time >= message.begun for loss in world.trace.losses)


def what_was_accepted_is_shown_or_has_failed(world: World) -> Iterator[Found]:
    for message in _accepted(world):
        if message.queued.is_waiting:
            yield f"{message.text!r} still waits", message.text, {message.sender}
        elif not message.queued.has_failed:
            for name in recipients(world, message, message.known):
                if not shown_at(world, name, message.text) and not (
                    is_lost(world, name, message) or is_lost_in_a_kill(world, name, message)
                ):
                    yield f"{message.text!r} was accepted and {name} was never shown it", message.text, {name}


def is_lost_in_a_kill(world: World, name: str, message: Message) -> bool:
    """Whether it was acknowledged by a program that was killed before it could show it."""
    # What is kept is sent again. Not if its sender's disk is lost, too, before that (seed 8), or its sender believes
    # that 14 days have passed: what was received is not tried any more, then (seed 502886).
    believes_it_old = message.sender in world.trace.wrong_clocks
    if message.queued is not None and SENDERS_KEEP and not believes_it_old and not _is_sender_gone(world, message):
        return False
    # It may be that its sender was not told either.
    ended = float("inf") if message.ended is None else message.ended
    return message.recipient == name and ended_within(world, name, message.begun, ended)


def what_fails_has_a_reason(world: World) -> Iterator[Found]:
    for message in _accepted(world):
        if message.recipient == NOBODY and not (
            message.queued.has_failed and isinstance(message.error, UnknownRecipient | TriedTooLong)
        ):
            yield f"{message.text!r} to nobody has not failed: {message.how} {message.error!r}", message.text, set()


def each_queue_keeps_its_order(world: World) -> Iterator[Found]:
    queues: dict[tuple[str, str | None, str], list[Message]] = {}
    for message in _accepted(world):
        # Who believes that 30 days have passed does not wait any more for the receipt of what was saved (seed 300391).
        if not message.queued.has_failed and message.sender not in world.trace.wrong_clocks:
            queues.setdefault((message.sender, message.recipient, message.room), []).append(message)
    for name, shown in world.trace.shown.items():
        first: dict[str | None, int] = {}
        for place, (_, _, event) in enumerate(shown):
            first.setdefault(getattr(event, "text", None), place)
        for queue in queues.values():
            # What a lost store had not shown comes again only if its sender was killed, too (seed 211177).
            known = [one for one in queue if one.text in first and not is_lost(world, name, one)]
            yield from _inverted(name, known, first)


def _inverted(name: str, queue: Iterable[Message], first: dict[str | None, int]) -> Iterator[Found]:
    for one, other in combinations(sorted(queue, key=lambda message: message.queued.began), 2):
        # Not if both were put at the same time.
        if one.queued.accepted < other.queued.began and first[one.text] > first[other.text]:
            yield f"{name} was shown {other.text!r} before {one.text!r}", one.text, {name}


def what_became_of_it_is_told_once(world: World) -> Iterator[Found]:
    for message in world.trace.messages.values():
        told = message.queued.told if message.queued is not None else []
        # That it waits is told once, and then how it ended.
        for is_waiting in (True, False):
            same = [(time, state) for time, state in told if (state is MessageState.WAITING) == is_waiting]
            for (time, state), (later, other) in pairwise(same):
                if not ended_within(world, message.sender, time, time):
                    what = f"was told that {message.text!r} is {state} at {time}, and {other} at {later}"
                    yield f"{message.sender} {what}", message.text, {message.sender}


def the_history_has_it_once(world: World) -> Iterator[Found]:
    for name, history in world.histories.items():
        counts = Counter(entry.text for entry in history)
        for text, count in counts.items():
            # What the hostile participant sends under new ids comes as often as they like.
            if count > 1 and text in world.trace.messages:
                yield f"{text!r} is {count} times in the history of {name}", text, {name}
        lost = max((loss.time for loss in world.trace.losses if loss.name == name), default=0.0)
        for message in world.trace.messages.values():
            if message.sender != name:
                known = shown_at(world, name, message.text)
            else:
                # `deceive` sends past the part of the program that notes it.
                is_noted = message.is_honest and message.how != "unknown" and message.ended is not None
                known = [message.ended] if is_noted else []
            known = [time for time in known if time > lost and not ended_within(world, name, time, time)]
            if known and not counts[message.text]:
                yield f"{message.text!r} is not in the history of {name}, who knew it at {known}", message.text, {name}


OUTBOX_PROMISES = (
    what_was_accepted_is_shown_or_has_failed,
    what_fails_has_a_reason,
    each_queue_keeps_its_order,
    what_became_of_it_is_told_once,
    the_history_has_it_once,
)
