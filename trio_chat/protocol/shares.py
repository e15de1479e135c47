"""What all share, divided so that something is left for the next: see `is_fair`.

Rates are in token_buckets.py. What is shared is not known here.
"""

from collections import Counter
from collections.abc import Hashable

from trio_chat.protocol.limits import is_fair


class Shares:
    """How much of `total` each uses. Who uses nothing yet gets what there is. Who uses nothing takes no memory."""

    def __init__(self, total: float) -> None:
        self._free = total
        self._used: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._used)

    def change(self, who: Hashable, by: float) -> bool:
        """Let somebody use so much more, if that is fair, or less."""
        used = self._used.get(who, 0)
        if by > 0 and not (is_fair(used, by, self._free) if used else by <= self._free):
            return False
        self._free -= by
        self._used[who] += by  # type: ignore[assignment]
        if not self._used[who]:
            del self._used[who]
        return True
