"""Who is online, users of the presence service by number and those of the chat by name, and who watches whom.

Each change is passed on at once, none left out or merged. Nothing here waits or uses a connection.
"""

from collections.abc import Callable, Iterable

from trio_chat.presence.messages import Friend, fold_friend

Watcher = Callable[[Friend, bool], object]
"""Called with a friend (a name in the form in which names are compared) and whether they are online now.

It must neither wait nor change the roster: other watchers still have to get the same change.
"""


class Roster:
    """Who is online and who watches whom. One roster may serve a chat and a presence service.

    Nothing is kept about somebody who is neither online nor watched: anybody may watch any number. `has_names`: a chat
    may share it. Else nobody with a name would ever come.
    """

    def __init__(self, *, has_names: bool = True) -> None:
        self.has_names = has_names
        self._connections: dict[Friend, int] = {}
        # A dict as an ordered set: watchers are called in the order in which they began.
        self._watchers: dict[Friend, dict[Watcher, None]] = {}

    def __contains__(self, who: Friend) -> bool:
        return fold_friend(who) in self._connections

    def count_watchers(self, who: Friend) -> int:
        """How many get the changes of this user."""
        return len(self._watchers.get(fold_friend(who), ()))

    def enter(self, who: Friend) -> None:
        """Count one more connection of this user; with the first they are online."""
        who = fold_friend(who)
        self._connections[who] = self._connections.get(who, 0) + 1
        if self._connections[who] == 1:
            self._tell(who, True)

    def leave(self, who: Friend) -> None:
        """Count one connection fewer; without any they are offline."""
        who = fold_friend(who)
        self._connections[who] -= 1
        if not self._connections[who]:
            del self._connections[who]
            self._tell(who, False)

    def note(self, name: str, online: bool) -> None:
        """Take over a row of the chat's table. It may show the same as before: an address changed, for example."""
        if online and name not in self:
            self.enter(name)
        elif not online and name in self:
            self.leave(name)

    def watch(self, friends: Iterable[Friend], watcher: Watcher) -> list[Friend]:
        """Report changes of these to the watcher from now on; return those who are online, in the order asked for."""
        present = []
        for friend in map(fold_friend, friends):
            self._watchers.setdefault(friend, {})[watcher] = None
            if friend in self._connections:
                present.append(friend)
        return present

    def unwatch(self, friends: Iterable[Friend], watcher: Watcher) -> None:
        """Report changes of these to the watcher no longer."""
        for friend in map(fold_friend, friends):
            watchers = self._watchers[friend]
            del watchers[watcher]
            if not watchers:
                del self._watchers[friend]

    def _tell(self, who: Friend, online: bool) -> None:
        for watcher in self._watchers.get(who, ()):
            watcher(who, online)
