"""Who is in a room when something is posted to it, as far as what people did and were answered tells it."""

from collections.abc import Sequence

from tests.simulation.trace import Message, RoomChange
from tests.simulation.world import World


def _changes(world: World, room: str) -> Sequence[RoomChange]:
    return [one for one in world.trace.room_changes if one.room == room and (one.is_join or one.is_leave)]


def members_surely(world: World, message: Message) -> set[str]:
    """Those who were in the room before the message was sent. Nobody has tried to end that since, or shortly before."""
    changes = _changes(world, message.room)
    joins = {one.member: one for one in changes if one.is_join and one.is_done and one.ended < message.begun}
    return {
        name
        for name, join in joins.items()
        if all(one.is_join or one.member != name or one.ended < join.begun for one in changes)
    }


def members_perhaps(world: World, message: Message) -> set[str]:
    """Those who may have been in the room when the message was taken."""
    ended = message.ended if message.ended is not None else float("inf")
    # Also if it was refused: a copy that comes later, when the room is there, may be done (seed 20085).
    changes = _changes(world, message.room)
    joins = [one for one in changes if one.is_join and one.begun <= ended]
    left = [one for one in changes if one.is_leave and one.is_done and one.ended < message.begun]
    return {
        join.member for join in joins if not any(one.member == join.member and one.begun >= join.ended for one in left)
    }


def removed_surely(world: World, message: Message) -> set[str]:
    """Those whom an owner had removed before the message was sent, and nobody has put back since."""
    changes = [one for one in _changes(world, message.room) if one.is_done is not False]
    removed = [one for one in changes if one.kind == "remove" and one.is_done and one.ended < message.begun]
    return {
        one.member
        for one in removed
        if not any(other.is_join and other.member == one.member and other.ended >= one.begun for other in changes)
    }
