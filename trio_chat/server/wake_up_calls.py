"""The wake-up calls of a server that has started again, and the record of whom it would have to call.

What a client makes of a call is in link/links.py: it is a hint, as anybody can forge one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
import trio

from trio_chat.link.packets import WakeUpCall
from trio_chat.protocol.records import Address, Credentials, Record, fold
from trio_chat.server.service import SILENCE_LIMIT, Service
from trio_chat.storage.interface import KnownName, ServerStore
from trio_chat.tasks import WakeUp

CALLS_AT_ONCE = 40
CALL_PAUSE = 0.05
"""Seconds between two groups of calls: 800 a second, as each is followed by a handshake and a registration."""

CALL_ROUNDS = 3
"""How often each address is called, unless its client has registered: datagrams get lost."""
CALL_AGAIN_AFTER = 1.1
"""Seconds after a round until the next one: a client listens to one call a second."""

NOTE_EVERY = 1.0
"""Seconds in which it is gathered who has gone or moved."""


def as_gone(
    names: Iterable[KnownName], online: Iterable[tuple[str, Address]], now: float
) -> Iterator[tuple[Record, Credentials | None]]:
    """The rows and owners of these names at the start. Who was online when the last server ended, is not since now."""
    was_online = {fold(name) for name, _ in online}
    for one in names:
        is_gone = fold(one.record.name) in was_online
        yield attrs.evolve(one.record, since=now) if is_gone else one.record, one.owner


class WakeUpCalls:
    """Notes in the store who is online where, and calls them at the next start. `send` sends a datagram.

    Who comes is noted with the name, before the answer. Who has gone or moved is noted a little later: what that can
    cost is a call that nobody answers, or one that is missing.
    """

    def __init__(self, service: Service, store: ServerStore, send: Callable[[bytes, Address], object]) -> None:
        self._service = service
        self._store = store
        self._send = send
        self._changed: set[str] = set()
        self._change = WakeUp()

    def note(self, name: str) -> None:
        """The row of this name has changed: somebody has come, gone or moved."""
        self._changed.add(fold(name))
        self._change.set()

    async def note_loop(self) -> None:
        """Bring the store up to date, until cancelled."""
        while True:
            await self._change.wait()
            changed, self._changed = self._changed, set()
            await self._store.note_online({name: self._address(name) or self._gone_since(name) for name in changed})
            await trio.sleep(NOTE_EVERY)

    async def call(self, known: Sequence[tuple[str, Address]]) -> None:
        """Call those who were online, and who have not registered again. The addresses were proven by their links."""
        if not known:
            return
        for _ in range(CALL_ROUNDS):
            missing = [address for name, address in known if self._address(name) is None]
            for start in range(0, len(missing), CALLS_AT_ONCE):
                for address in missing[start : start + CALLS_AT_ONCE]:
                    self._send(WakeUpCall().encode(), address)
                await trio.sleep(CALL_PAUSE)
            await trio.sleep(CALL_AGAIN_AFTER)
        # They may still come by themselves; and a server that ends before that has to call them once more.
        await trio.sleep(SILENCE_LIMIT)
        for name, _ in known:
            if self._address(name) is None:
                self.note(name)

    def _gone_since(self, name: str) -> float:
        record = self._service.table.get(name)
        return record.since if record else 0.0

    def _address(self, name: str) -> Address | None:
        session = self._service.session(name)
        return session.peer.address if session else None
