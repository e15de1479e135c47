"""Which groups we are in, and which one is the current one, to which `send_group` writes.

Nothing is asked here: that is in conversation.py.
"""

from collections.abc import Iterable

import attrs

from trio_chat.protocol.records import fold


@attrs.define(eq=False)
class CurrentGroup:
    """The groups that we are in, by their names.

    `rooms`: the current one is the last one; empty: the server has not been asked. `is_chosen`: whether the user has
    chosen it. None: not yet, in this run. False: their choice failed, or they are not in it any more.
    """

    rooms: list[str] = attrs.field(init=False, factory=list)
    is_chosen: bool | None = attrs.field(init=False, default=None)

    @property
    def name(self) -> str:
        """The current one; empty if it is not known."""
        # The server knows the rooms, and not which one they had chosen before the program was started again.
        is_known = self.is_chosen or (self.is_chosen is None and len(self.rooms) == 1)
        return self.rooms[-1] if self.rooms and is_known else ""

    def find(self, typed: str) -> str | None:
        """The name of a group, as it was created, if we know that we are in it."""
        return next((room for room in self.rooms if fold(room) == fold(typed)), None)

    def learn(self, rooms: Iterable[str]) -> None:
        """The server says that we are in these groups."""
        # Two tasks may ask. If the user has chosen one meanwhile, it is the last one in `rooms`, and stays that.
        if not self.rooms:
            self.rooms[:] = rooms

    def choose(self, room: str) -> None:
        """Make a group the current one. We may have been in it before."""
        self.forget(room)
        self.rooms.append(room)
        self.is_chosen = True

    def add(self, room: str) -> None:
        """Somebody has put us into a group."""
        # Nothing is known yet: this group will be in the answer of the server. Alone here, it would be the current one.
        if not self.rooms:
            return
        # Not the current one: what is typed at this moment is for another room. That stays the current one, also if it
        # was so because it was the only one.
        self.is_chosen = True if self.name else self.is_chosen
        if self.find(room) is None:
            self.rooms.insert(0, room)

    def lose(self, room: str) -> None:
        """We are not in a group any more, and have not left it here."""
        if self.find(room) is not None:
            # What is typed next was meant for it, and not for another room. Nor, if they have chosen none, for the one
            # that is left.
            self.is_chosen = bool(self.is_chosen) and fold(room) != fold(self.rooms[-1])
        self.forget(room)

    def removed(self, room: str) -> None:
        """An owner has removed us from a group, which may be one that we have not heard of yet."""
        # If they have chosen none, it may be the one that they mean: the only one that is left is another one.
        self.is_chosen = self.is_chosen or False
        self.lose(room)

    def forget(self, room: str) -> None:
        """We are not in a group."""
        self.rooms[:] = [one for one in self.rooms if fold(one) != fold(room)]
