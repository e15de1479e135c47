"""A question for the keys of a party: the answers that have come, and which of them counts.

How often it is asked is decided in endpoint.py. Nothing here makes a key trusted.
"""

from collections.abc import Callable, Sequence

import attrs
import trio

from trio_chat.link.events import KeysLearned, OtherVersion
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
    _of_other_versions: dict[Address, OtherVersion] = attrs.field(init=False, factory=dict)

    def take(self, answer: KeysLearned | OtherVersion) -> None:
        """Note an answer. Of each address the first one counts."""
        if answer.address not in self.addresses:
            return
        # Only wanted keys are the end: all else may be from somebody on the path who is faster than the party that we
        # know. The version is not even signed.
        if isinstance(answer, OtherVersion):
            self._of_other_versions.setdefault(answer.address, answer)
        elif self.is_wanted(answer.keys):
            self._wanted.setdefault(answer.address, answer)
            self.answered.set()
        else:
            self._others.setdefault(answer.address, answer)

    def best(self) -> KeysLearned | OtherVersion | None:
        """An answer with wanted keys, else one with others, else one of another version.

        Of several that whose address is earlier in the list.
        """
        found = (answers.get(address) for answers in (self._wanted, self._others) for address in self.addresses)
        other_versions = map(self._of_other_versions.get, self.addresses)
        return next(filter(None, found), None) or next(filter(None, other_versions), None)
