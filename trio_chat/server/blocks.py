"""Who blocks whom, as far as the server knows: what somebody who is blocked sees in place of a row of the table.

They see it as offline, and nothing of what changes in it afterwards: neither addresses nor times, and no change of the
table. Else they could tell it from the row of somebody who is away.
"""

from collections import Counter
from collections.abc import Mapping

import attrs

from trio_chat.protocol.limits import is_fair
from trio_chat.protocol.records import Record
from trio_chat.protocol.table import NumberedRow


@attrs.define
class _View:
    """What one key sees: the rows that stand in for others, by folded names, and the number of the latest of them."""

    rows: dict[str, NumberedRow] = attrs.field(factory=dict)
    latest: int = 0


@attrs.frozen
class _List:
    keys: tuple[bytes, ...]
    owner: bytes
    address: str


class Blocks:
    """The lists that came with the latest registration of each name, `limit` keys in all. Names are folded.

    A list outlives its session: a row that went offline once more would tell that it was online.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lists: dict[str, _List] = {}
        self._views: dict[bytes, _View] = {}
        self._count_at: Counter[str] = Counter()
        self._count = 0

    def hides(self, name: str, key: bytes) -> bool:
        """Whether the owner of this name blocks this key."""
        return key in self._views and name in self._views[key].rows

    def seen_by(self, key: bytes, after: int) -> tuple[Mapping[str, NumberedRow], bool]:
        """The rows that this key sees in place of others; and whether any of them is newer than change `after`."""
        view = self._views.get(key)
        return (view.rows, view.latest > after) if view else ({}, False)

    def replace(
        self,
        name: str,
        owner: bytes,
        keys: tuple[bytes, ...],
        address: str,
        before: NumberedRow | None,
        now: NumberedRow,
    ) -> None:
        """A name has been registered with this list. `before`, `now`: its row before and after that.

        `owner`: the key that the name belongs to; `address`: where from, as limits count it.
        """
        known, keys = self._lists.get(name), tuple(dict.fromkeys(keys))
        if known and known.owner != owner:
            known = None
        if known and known.keys == keys:
            return
        kept = {key: self._views[key].rows[name] for key in known.keys} if known else {}
        self.forget(name)
        # No longer than before: it has its place, whoever has taken what was free meanwhile.
        has_room = len(keys) <= len(kept) or is_fair(self._count_at[address], len(keys), self._limit - self._count)
        if not keys or not has_room:
            return
        # Somebody who is away already remains so, since the same time: nobody may see that they came.
        was_away = before is not None and not before[1].online and _owner(before[1]) == owner
        hidden = before if before is not None and was_away else (now[0], attrs.evolve(now[1], online=False))
        for key in keys:
            self._show(key, name, kept.get(key, hidden))
        self._lists[name] = _List(keys, owner, address)
        self._count += len(keys)
        self._count_at[address] += len(keys)

    def _show(self, key: bytes, name: str, row: NumberedRow) -> None:
        view = self._views.setdefault(key, _View())
        view.rows[name] = row
        view.latest = max(view.latest, row[0])

    def forget(self, name: str) -> None:
        """The name blocks nobody: it was deleted, or has been registered without a list."""
        known = self._lists.pop(name, None)
        if known is None:
            return
        for key in known.keys:
            view = self._views[key]
            del view.rows[name]
            if not view.rows:
                del self._views[key]
        self._count -= len(known.keys)
        self._count_at[known.address] -= len(known.keys)
        if not self._count_at[known.address]:
            del self._count_at[known.address]


def _owner(record: Record) -> bytes | None:
    return record.credentials.keys.signing if record.credentials else None
