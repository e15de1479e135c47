"""What happens to outboxes in a world: several messages are put at once, some are withdrawn, programs are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from tests.simulation.programs import Person, Program
    from tests.simulation.world import World

NOBODY = "nobody"
"""A name that is in no table: a message to it fails."""


class OutboxEvents:
    """The events of those who send by their outboxes. It needs no registration to put something there."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = world.dice

    async def someone_puts_several(self) -> None:
        """Somebody puts several messages to one person, or to everyone. Meanwhile a program may be killed."""
        dice, world = self._dice, self._world
        keeping = [person for person in world.people if person.keeps and person.chat is not None]
        if not keeping:
            return
        sender = dice.choice(keeping)
        recipient = dice.choice([name for name in (None, NOBODY, *world.trace.registered) if name != sender.name])
        world.nursery.start_soon(self._put_several, sender, recipient, dice.randint(1, 3))
        killed: list[Program] = [sender, world.server, *(one for one in world.people if one.name == recipient)]
        for program in dice.sample(killed, dice.choice((0, 1, 1, 2))):
            await trio.sleep(dice.random() * dice.choice((0.01, 0.2, 1.0)))
            await program.kill()
            if dice.random() < 0.7:
                program.start()

    def someone_cancels(self) -> None:
        """Somebody withdraws a message that waits."""
        waiting = [
            (person, one.number)
            for person in self._world.people
            if person.keeps and person.chat is not None
            for one in person.chat.outbox.waiting()
        ]
        if waiting:
            person, number = self._dice.choice(waiting)
            self._world.nursery.start_soon(person.cancel, number)

    def all_put(self) -> None:
        """At the end everybody who keeps their messages puts one more."""
        for person in self._world.people:
            if person.keeps and person.chat is not None:
                others = [one.name for one in self._world.people if one is not person]
                self._world.nursery.start_soon(self._put_several, person, self._dice.choice(others), 1)

    def look(self) -> None:
        """Note what is still in the outboxes."""
        for person in self._world.people:
            for one in person.chat.outbox.waiting() if person.chat else ():
                self._world.trace.messages[one.text].queued.is_waiting = True

    async def _put_several(self, sender: Person, recipient: str | None, count: int) -> None:
        run = sender.runs
        for _ in range(count):
            if sender.chat is None or sender.runs != run:
                return
            await sender.send(recipient, self._world.new_text(sender.name))
