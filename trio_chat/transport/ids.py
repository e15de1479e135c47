"""Ids for requests: random bytes, of which no two are the same.

What they are remembered for is decided in endpoint.py and in the stores.
"""

import os
import secrets

from trio_chat.protocol.records import ID_SIZE

AT_A_TIME = 256
"""How many ids are made of one call of the system: each call lets another thread run first."""


class _IdPool:
    """Random bytes for the next ids."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def take(self) -> bytes:
        if self._used == len(self._bytes):
            self._bytes, self._used = secrets.token_bytes(AT_A_TIME * ID_SIZE), 0
        self._used += ID_SIZE
        return self._bytes[self._used - ID_SIZE : self._used]

    def clear(self) -> None:
        """Forget what is left: a copy of this process would make the same ids."""
        self._bytes, self._used = b"", 0


_ids = _IdPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)


def new_id() -> bytes:
    """An id for a request: 16 random bytes."""
    return _ids.take()
