"""Whom one person blocks: the list in the store, with the names that people see.

A key is blocked, not a name. What is done with messages of those who are blocked is in inbox.py.
"""

from collections.abc import Iterable

import attrs

from trio_chat.client.context import ClientContext
from trio_chat.client.people import People
from trio_chat.errors import BlockedYourself, NotBlocked, TooManyBlocked, UnknownRecipient
from trio_chat.protocol.messages import MAX_BLOCKED
from trio_chat.protocol.records import Record, check_name, fingerprint, fold
from trio_chat.storage.client_interface import ClientStore


@attrs.frozen
class Blocked:
    """Somebody who is blocked: the names of their key, as far as they are known, and its fingerprint."""

    names: tuple[str, ...]
    key: str


def blocked_in(store: ClientStore, table: Iterable[Record] = ()) -> tuple[Blocked, ...]:
    """Those who are blocked, the first one first: with their names in a table, or else those that were blocked."""
    return tuple(Blocked(names, fingerprint(key)) for key, names in _names(store, table).items())


@attrs.frozen(eq=False)
class BlockList:
    """The list of one person."""

    _context: ClientContext
    _people: People

    async def add(self, name: str) -> str:
        """Block the key of a name; return its fingerprint. Raises what `Chat.block` raises, but for the server."""
        check_name(name)
        context = self._context
        record = context.table.get(name)
        if record is None and context.pins.signing_key(name) is None:
            record = await self._people.row(name)
        blocked = context.store.blocked()
        # If their key has changed, both: which one is meant does not matter to somebody who wants to hear from neither.
        offered = record.credentials.keys.signing if record and record.credentials else None
        keys = [key for key in dict.fromkeys((context.pins.signing_key(name), offered)) if key is not None]
        if fold(name) == fold(context.name) or context.identity.public.signing in keys:
            raise BlockedYourself
        if not keys:
            raise UnknownRecipient(name)
        if len(blocked.keys() | keys) > MAX_BLOCKED:
            raise TooManyBlocked
        for key in keys:
            await context.store.block(key, name)
        return fingerprint(keys[-1])

    async def remove(self, name: str) -> None:
        """Unblock the key of a name, and those that are listed with this name. Raises NotBlocked."""
        context = self._context
        listed = _names(context.store, context.table.values())
        keys = [key for key in context.store.blocked() if fold(name) in map(fold, listed[key])]
        pinned = context.pins.signing_key(name)
        if pinned in listed and pinned not in keys:
            keys.append(pinned)
        if not keys:
            raise NotBlocked(name)
        for key in keys:
            await context.store.unblock(key)

    def rows(self) -> tuple[Blocked, ...]:
        """Those who are blocked, the first one first."""
        return blocked_in(self._context.store, self._context.table.values())


def _names(store: ClientStore, table: Iterable[Record]) -> dict[bytes, tuple[str, ...]]:
    blocked = store.blocked()
    names: dict[bytes, list[str]] = {key: [] for key in blocked}
    for record in table:
        if record.credentials is not None and record.credentials.keys.signing in names:
            names[record.credentials.keys.signing].append(record.name)
    # Under another name than the one that was blocked, which may be somebody else's by now.
    return {key: tuple(sorted(known, key=fold)) or (blocked[key],) for key, known in names.items()}
