"""Who is there: users of the presence service by number, those of the chat by name; and who wants to know of whom.

It tells each coming and going at once, none left out or merged. It does not wait, and knows no connection.
"""

from collections.abc import Callable, Iterable

from trio_chat.presence.messages import Friend, fold_friend

__all__ = ["Roster", "Watcher"]

Watcher = Callable[[Friend, bool], object]
"""Called with who it is (names in the form in which they are compared) and whether they are now on line.

It must neither wait nor call the roster back.
"""


class Roster:
    """One roster may serve a chat and a presence service: then names of the one are friends in the other.

    It holds who is on line and what is watched, and forgets the rest.
    """

    def __init__(self) -> None:
        self._stays: dict[Friend, int] = {}
        self._watchers: dict[Friend, dict[Watcher, None]] = {}

    def __contains__(self, who: Friend) -> bool:
        return fold_friend(who) in self._stays

    def enter(self, who: Friend) -> None:
        """One more connection of this user: the first one is its coming."""
        who = fold_friend(who)
        self._stays[who] = self._stays.get(who, 0) + 1
        if self._stays[who] == 1:
            self._tell(who, True)

    def leave(self, who: Friend) -> None:
        """One connection less: the end of the last one is its going."""
        who = fold_friend(who)
        self._stays[who] -= 1
        if not self._stays[who]:
            del self._stays[who]
            self._tell(who, False)

    def note(self, name: str, online: bool) -> None:
        """What the chat's table says of a name; to say it again changes nothing."""
        if online and name not in self:
            self.enter(name)
        elif not online and name in self:
            self.leave(name)

    def watch(self, friends: Iterable[Friend], watcher: Watcher) -> list[Friend]:
        """Tell the watcher from now on of these; return those who are on line already, in the order asked for."""
        present = []
        for friend in map(fold_friend, friends):
            self._watchers.setdefault(friend, {})[watcher] = None
            if friend in self._stays:
                present.append(friend)
        return present

    def unwatch(self, friends: Iterable[Friend], watcher: Watcher) -> None:
        """Tell it no longer of these."""
        for friend in map(fold_friend, friends):
            watchers = self._watchers[friend]
            del watchers[watcher]
            if not watchers:
                del self._watchers[friend]

    def _tell(self, who: Friend, online: bool) -> None:
        for watcher in self._watchers.get(who, ()):
            watcher(who, online)
