"""What the promises ask of a world: who was shown a text, for whom a message was, whose program had ended by then."""

from collections.abc import Iterable

from tests.simulation.members import members_surely
from tests.simulation.trace import Message
from tests.simulation.world import World

GRACE = 0.3
"""Seconds before a crash: what was shown or acknowledged since then may not have been saved (100 ms and a commit)."""

Found = tuple[str, str | None, set[str]]
"""What happened instead, the text of the message, the names of people."""


def ended_within(world: World, name: str, first: float, last: float) -> bool:
    return any(who == name and first <= time <= last + GRACE for time, who in world.trace.ends)


def shown_at(world: World, name: str, text: str) -> list[float]:
    return [time for time, _, event in world.trace.shown[name] if getattr(event, "text", None) == text]


def is_gone(world: World, name: str) -> bool:
    """Whether nobody has this name any more: its key was lost."""
    return any(person.name == name for person in world.gone)


def is_lost(world: World, name: str, message: Message) -> bool:
    """Whether it was in a store that was lost, and not shown yet; or nobody can ever open it, as their key is lost."""
    return is_gone(world, name) or any(loss.name == name and message.ids & loss.unshown for loss in world.trace.losses)


def may_come_again(world: World, name: str, message: Message, shown: float, again: float) -> bool:
    """Whether a store was lost between these times that knew it. What the server knows to be taken does not come again.

    Nor does what came directly, once its sender knows that it has come; until then it comes again directly also if the
    server has it (seed 210452). What is in an outbox stays there a little longer, for a time that nobody is told.
    """
    place = max((world.trace.places.get(id_, 0) for id_ in message.ids), default=0)
    ended = float("inf") if message.ended is None else message.ended
    stays_longer = message.queued is not None and not place
    return any(
        loss.name == name
        and shown <= loss.time <= again
        and (place > loss.position or ended >= loss.time - GRACE or stays_longer)
        for loss in world.trace.losses
    )


def recipients(world: World, message: Message, people: Iterable[str]) -> set[str]:
    """The people, of these, to whom the message was sent."""
    if message.room:
        return (members_surely(world, message) & set(people)) - {message.sender}
    return ({message.recipient} if message.recipient else set(people)) - {message.sender}
