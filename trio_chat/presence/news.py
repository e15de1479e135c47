"""The changes that wait for one watcher, in bounded memory.

How they are sent is in server.py.
"""

from collections import OrderedDict, deque
from collections.abc import Collection

from trio_chat.presence.messages import Friend


class NewsQueue:
    """The changes that a watcher has not received yet, oldest first: (friend, online).

    Beyond `limit` of them, a change replaces the one of the same friend that waits there: a watcher that reads slowly
    gets the latest state of each friend, and memory is bounded by the number of friends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changes: deque[tuple[Friend, bool]] = deque()
        self._folded: OrderedDict[Friend, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._changes) + len(self._folded)

    def add(self, friend: Friend, online: bool) -> bool:
        """Add a change. Returns False if the queue is so long that it may have replaced another one."""
        # Until all that is folded has been taken: a newer change must not overtake an older one.
        if not self._folded and len(self._changes) < self._limit:
            self._changes.append((friend, online))
            return True
        self._folded[friend] = online
        self._folded.move_to_end(friend)
        return False

    def take(self) -> tuple[Friend, bool]:
        """The oldest change; there must be one."""
        return self._changes.popleft() if self._changes else self._folded.popitem(last=False)

    def forget(self, friends: Collection[Friend]) -> None:
        """Drop the changes of these friends."""
        self._changes = deque(change for change in self._changes if change[0] not in friends)
        for friend in friends:
            self._folded.pop(friend, None)
