"""What happens to private rooms in a world: their members change, two owners are at it at once, programs are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.trace import PRIVATE_ROOMS, PRIVATELY
from trio_chat.protocol.messages import Batch
from trio_chat.protocol.room_messages import RoomChanged

if TYPE_CHECKING:
    from tests.simulation.programs import Person, Program
    from tests.simulation.world import World
    from trio_chat.protocol.epochs import Epoch

KINDS = {"invite": 9, "remove": 4, "own": 3, "leave": 2, "join": 1, "list": 1, "create": 1}
"""The weight of each change of a room that is there."""

Change = tuple["Person", str, str, str]
"""Who changes what in which room, and about whom."""


class PrivateEvents:
    """The events of private rooms. Who owns a room is taken from the latest epoch that the server has taken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = world.dice

    def someone_changes_a_room(self) -> None:
        """A room is created, or its members change."""
        if change := self._change():
            self._do(change)

    def two_change_a_room(self) -> None:
        """Two owners do it at the same moment, perhaps about the same person; or somebody becomes the second owner."""
        for room in self._dice.sample(PRIVATE_ROOMS, len(PRIVATE_ROOMS)):
            owners = self.online(room, is_owner=True)
            if len(owners) > 1:
                about = self._dice.choices(self._others(), k=2)
                for owner, person in zip(self._dice.sample(owners, 2), about, strict=True):
                    if person != owner.name:
                        self._do((owner, self._dice.choice(("invite", "remove")), room, person))
                return
            members = [one for one in self.online(room) if one not in owners]
            if owners and members:
                self._do((owners[0], "own", room, self._dice.choice(members).name))
                return

    async def someone_is_killed_meanwhile(self) -> None:
        """During a change the server, or whom it is about, or who does it, is killed. An answer does not arrive."""
        change, world = self._change(), self._world
        if change is None or not world.server.is_running:
            return
        person, _, _, name = change
        about: Program = world.person(name) if name else person
        world.set_conditions(0.0, 0.02)
        world.withhold(*self._dice.choice(((person, RoomChanged), (about, Batch), (person, Batch))))
        self._do(change)
        await trio.sleep(self._dice.uniform(0.02, 0.6))
        for one in self._dice.sample((world.server, person, about), self._dice.choice((1, 1, 2))):
            await one.kill()
            one.start()
        await world.deliver_again(self._dice.choice((0.0, 1.0)))

    def is_back(self, before: str, name: str) -> None:
        """Who has lost their key has another name now: owners of their rooms invite it, and remove the one before."""
        for room in PRIVATE_ROOMS:
            epoch, owners = self._epoch(room), self.online(room, is_owner=True)
            if epoch is not None and before in epoch.names and owners:
                about = [("invite", name), ("remove", before)]
                changes = self._dice.sample(about, self._dice.choice((1, 2, 2)))
                self._world.nursery.start_soon(self._change_in_turn, self._dice.choice(owners), room, changes)

    async def _change_in_turn(self, owner: Person, room: str, changes: list[tuple[str, str]]) -> None:
        for kind, about in changes:
            if owner.chat is not None:
                await owner.change_room(kind, room, about)

    def someone_posts(self) -> None:
        """Somebody posts who is in a room as far as they know."""
        self._world.someone_posts_to(PRIVATE_ROOMS)

    def members_post(self) -> None:
        """At the end somebody in each room posts."""
        for room in PRIVATE_ROOMS:
            if members := self.online(room):
                text = self._world.new_text(self._dice.choice(members).name) + PRIVATELY
                self._world.nursery.start_soon(self._world.person(text.split()[1]).send, None, text, room)

    def _do(self, change: Change) -> None:
        self._world.nursery.start_soon(self._changes, *change)

    async def _changes(self, person: Person, kind: str, room: str, about: str) -> None:
        others = self._dice.sample(self._others(), min(3, len(self._others())))
        await person.change_room(kind, room, about)
        if kind == "create":
            for name in others:
                if person.chat is not None and name != person.name:
                    await person.change_room("invite", room, name)

    def _others(self) -> list[str]:
        return list(self._world.trace.registered)

    def _epoch(self, room: str) -> Epoch | None:
        signed = self._world.trace.epochs.get(room)
        return signed and signed.epoch

    def online(self, room: str, *, is_owner: bool = False) -> list[Person]:
        """Who is online and in this room, or owns it."""
        epoch = self._epoch(room)
        keys = epoch.names if epoch else {}
        return [
            person
            for person in self._world.people
            if person.is_online and person.name in keys and not (is_owner and keys[person.name] not in epoch.owners)
        ]

    def _change(self) -> Change | None:
        dice, room = self._dice, self._dice.choice(PRIVATE_ROOMS)
        epoch, online = self._epoch(room), [one for one in self._world.people if one.is_online]
        if not online:
            return None
        if epoch is None:
            return dice.choice(online), "create", room, ""
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        owners = self.online(room, is_owner=True)
        match kind:
            case "leave":
                # A room without an owner has no other epochs: that happens now and then.
                is_last = len(owners) == 1 and dice.random() < 0.8
                leaving = [one for one in self.online(room) if not (is_last and one in owners)]
                return (dice.choice(leaving), kind, room, "") if leaving else None
            case "join" | "list" | "create":
                return dice.choice(online), kind, room, ""
        if not owners or dice.random() < 0.1:
            owners = online
        person = dice.choice(owners)
        about = [one for one in self._others() if one != person.name and (one in epoch.names) == (kind != "invite")]
        return (person, kind, room, dice.choice(about)) if about else None
