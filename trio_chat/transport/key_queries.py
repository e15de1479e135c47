"""A question for the keys of a party: the answers that have come, and which of them counts.

How often it is asked is decided in endpoint.py. Nothing here makes a key trusted.
"""

from collections.abc import Callable, Sequence

import attrs
import trio

from trio_chat.link.links import KeysLearned
from trio_chat.protocol.records import Address, PublicKeys


@attrs.define(eq=False)
class KeyQuery:
    """A task that waits for the keys of a party at one of these addresses.

    Each has its own: when two tasks looked for the same silent server, they took each other's answers.
    """

    addresses: Sequence[Address]
    is_wanted: Callable[[PublicKeys], bool]
    answered: trio.Event = attrs.field(init=False, factory=trio.Event)
    _wanted: dict[Address, KeysLearned] = attrs.field(init=False, factory=dict)
    _others: dict[Address, KeysLearned] = attrs.field(init=False, factory=dict)

    def take(self, learned: KeysLearned) -> None:
        """Note an answer. Of each address the first one counts."""
        if learned.address not in self.addresses:
            return
        if self.is_wanted(learned.keys):
            self._wanted.setdefault(learned.address, learned)
            self.answered.set()
        else:
            # Not the end: it may be from somebody on the path who is faster than the party that we know.
            self._others.setdefault(learned.address, learned)

    def best(self) -> KeysLearned | None:
        """An answer with wanted keys, else one with others; of several that whose address is earlier in the list."""
        found = (answers.get(address) for answers in (self._wanted, self._others) for address in self.addresses)
        return next(filter(None, found), None)
