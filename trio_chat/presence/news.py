"""The changes that wait for one watcher, in bounded memory.

How they are sent is in server.py.
"""

from collections.abc import Collection
from itertools import islice

from trio_chat.presence.messages import Friend


class NewsQueue:
    """The changes that a watcher has not received yet, oldest first: (friend, online).

    Beyond `limit` of them, a change replaces the one of the same friend that waits there: a watcher that reads slowly
    gets the latest state of each friend, and memory is bounded by the number of friends.
    """

    __slots__ = ("_changes", "_folded", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # A list and a dict: thousands of watchers have none or one change, and take the least time and memory so.
        self._changes: list[tuple[Friend, bool]] = []
        self._folded: dict[Friend, bool] = {}

    def __len__(self) -> int:
        return len(self._changes) + len(self._folded)

    def add(self, friend: Friend, online: bool) -> bool:
        """Add a change. Returns False if the queue is so long that it may have replaced another one."""
        # Until all that is folded has been taken: a newer change must not overtake an older one.
        if not self._folded and len(self._changes) < self._limit:
            self._changes.append((friend, online))
            return True
        self._folded.pop(friend, None)
        self._folded[friend] = online
        return False

    def take(self, most: int) -> list[tuple[Friend, bool]]:
        """The oldest changes, at most so many."""
        taken, self._changes = self._changes[:most], self._changes[most:]
        if self._folded and len(taken) < most:
            oldest = list(islice(self._folded.items(), most - len(taken)))
            for friend, _ in oldest:
                del self._folded[friend]
            taken += oldest
        return taken

    def forget(self, friends: Collection[Friend]) -> None:
        """Drop the changes of these friends."""
        self._changes = [change for change in self._changes if change[0] not in friends]
        for friend in friends:
            self._folded.pop(friend, None)
