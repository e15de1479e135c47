"""A fair share: how much is kept for each, of what many have, when it is too much in all.

What is dropped then, and from where, is decided by the stores.
"""

from collections.abc import Iterable


def fair_share(counts: Iterable[int], limit: int) -> int:
    """The most that each of these may keep, so that all together have no more than `limit`.

    Who has no more than that keeps all of it, however much others have: those who have most give way.
    """
    left, ascending = limit, sorted(counts)
    for place, count in enumerate(ascending):
        share = left // (len(ascending) - place)
        if count > share:
            return share
        left -= count
    return limit
