"""Who is there: the rows of names, and those of whom the table of this client does not know.

The table has those who are online, who were while this client was, and those who were asked for here.
"""

from contextlib import suppress
from itertools import chain

import attrs

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.registration import Registration, note_keys
from trio_chat.protocol import messages
from trio_chat.protocol.messages import MAX_NAMES_LISTED, ListedName
from trio_chat.protocol.records import NO_KEY, PublicKeys, Reason, Record, fingerprint, fold
from trio_chat.protocol.table import MAX_ROWS
from trio_chat.transport.ids import new_id


@attrs.frozen
class Person:
    """Somebody whom the server knows: whether they are online, since when (seconds since 1970, UTC), and their key.

    `fingerprint`: that of their key, empty if the name has none. `key_changed`: it is not the pinned one; see `trust`.
    """

    name: str
    online: bool
    since: float
    fingerprint: str
    key_changed: bool


@attrs.frozen(eq=False)
class People:
    """What one person asks the server about others."""

    _context: ClientContext
    _registration: Registration

    async def keys(self, name: str) -> tuple[Record, PublicKeys]:
        """The row of a name, and its keys. Raises UnknownRecipient, KeyChanged, and what asking the server raises."""
        record = await self.row(name)
        keys = self._context.pins.keys(record)
        if keys is None:
            raise errors.UnknownRecipient(name)
        return record, keys

    async def row(self, name: str) -> Record:
        """The row of a name. Raises UnknownRecipient, and what asking the server raises."""
        if known := self._context.table.get(name):
            return known
        match await self._registration.ask(messages.Find(new_id(), name)):
            case messages.Found(record=record, version=version) if fold(record.name) == fold(name):
                # As those that come with the table. With a false certificate they are of no use in either way.
                self._context.table.add(record, version)
                note_keys(self._context, [record])
                return record
        raise errors.UnknownRecipient(name)

    async def get_key(self, name: str) -> None:
        """Ask for the key of somebody who may be away, if it is not known. Raises what asking the server raises."""
        if self._context.pins.signing_key(name) is None:
            with suppress(errors.UnknownRecipient):
                await self.row(name)

    async def all(self) -> list[Person]:
        """Everybody whom the server knows, in the order of names. Raises TooFast, and what asking the server raises."""
        pages: list[tuple[ListedName, ...]] = []
        after = ""
        # A server that goes on and on is asked no more.
        while len(pages) * MAX_NAMES_LISTED < MAX_ROWS:
            match await self._registration.ask(messages.ListNames(new_id(), after)):
                case messages.NamesListed(people=page) if all(fold(name) > after for name, *_ in page):
                    pages.append(page)
                case messages.Refused(reason=Reason.TOO_FAST, after=seconds):
                    raise errors.TooFast(seconds)
                case _:
                    raise errors.ServerNotResponding
            if len(page) < MAX_NAMES_LISTED:
                break
            after = fold(page[-1][0])
        return [self._person(*one) for one in chain.from_iterable(pages)]

    def _person(self, name: str, online: bool, since: float, key: bytes) -> Person:
        if key == NO_KEY:
            return Person(name, online, since, "", False)
        # Who compares a fingerprint that is shown must get this key later, and no other one.
        return Person(name, online, since, fingerprint(key), self._context.pins.pin_listed(name, key) != key)
