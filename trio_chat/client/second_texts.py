"""Compares what arrives under a known id with what is known, and warns of those who send another text under it.

What is known, and what is then shown, acknowledged and signed for, is decided in inbox.py.
"""

import attrs

from trio_chat.client.context import ClientContext
from trio_chat.client.events import SecondTextReceived
from trio_chat.crypto.receipts import NO_HASH
from trio_chat.storage.client_interface import OpenedEntry


@attrs.define(eq=False)
class SecondTexts:
    """The warnings of one client: one for each key. Somebody who sends 10,000 such texts must not fill the screen."""

    _context: ClientContext
    # Keys, not names: one key may have 50 names. As many as are pinned at most: others send nothing that can be read.
    _warned: set[bytes | None] = attrs.field(init=False, factory=set)

    def is_same(self, entry: OpenedEntry, known: bytes) -> bool:
        """Whether an entry has the text that is known by this hash. If it has another one, the user is told."""
        if entry.hash == known:
            return True
        # NO_HASH: nobody knows which text the first one was.
        if NO_HASH not in (entry.hash, known):
            key = self._context.pins.signing_key(entry.sender)
            # If there is no room for the warning, the next such text brings it.
            if key not in self._warned and self._context.event_queue.offer(SecondTextReceived(entry.sender)):
                self._warned.add(key)
        return False
