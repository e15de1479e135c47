"""One delivery loop for each session: it sends the table, then letters in order, and finds out who has gone.

What to send next is decided in server/service.py; the waiting is here.
"""

from collections.abc import Callable, Sequence

import attrs
import trio

from trio_chat.protocol.messages import Answer, Heartbeat, Letters, PartAck, TableChange, TableHeld, Taken
from trio_chat.protocol.records import Letter, fold
from trio_chat.server.service import NextStep, Service, Session
from trio_chat.storage.interface import HandedOver, LetterKey, ServerStore
from trio_chat.transport.endpoint import ACK_WINDOW, RESEND_DELAYS, Endpoint, new_id

PROBES = 5
"""Windows of 500 ms without any answer after which a client is marked offline."""


@attrs.define(eq=False)
class _Relay:
    """A Save that waits for its letter to be handed over; `over` is set when the store has noted that."""

    over: trio.Event = attrs.Factory(trio.Event)
    handed: HandedOver | None = None


class Deliveries:
    """The delivery tasks of one server, and the Saves that wait for them."""

    def __init__(self, endpoint: Endpoint, service: Service, store: ServerStore, clock: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._service = service
        self._store = store
        self._clock = clock
        self._bells: dict[str, trio.Event] = {}
        self._relays: dict[LetterKey, _Relay] = {}

    def wake(self, name: str) -> None:
        """Something has changed for this name: its delivery loop looks for its next step."""
        bell = self._bells.pop(fold(name), None)
        if bell is not None:
            bell.set()

    async def delivery_loop(self, session: Session) -> None:
        """Deliver to one session until it ends."""
        while self._service.is_current(session):
            bell = self._bells.setdefault(fold(session.name), trio.Event())
            match self._service.next_step(session, new_id()):
                case TableChange() as change:
                    alive = await self._bring_table(session, change)
                case NextStep.LETTERS:
                    alive = await self._hand_over_letters(session)
                case NextStep.REST:
                    await bell.wait()
                    continue
            # 3 s in all: the delivery's own window, then the probes. Anything that it answers proves that it is alive.
            if not alive and self._service.is_current(session) and not await self.is_alive(session, PROBES):
                self._service.mark_offline(session, self._clock())

    async def is_alive(self, session: Session, attempts: int) -> bool:
        """Probe a client, at most `attempts` times, until the first answer."""
        probe = Heartbeat(new_id(), session.since)
        return (
            await self._endpoint.request(session.peer, probe, attempts=attempts, resend_delays=RESEND_DELAYS)
            is not None
        )

    async def relayed(self, letter: Letter) -> HandedOver | None:
        """Wait one window for the recipient to acknowledge a stored letter; return what they answered, or None.

        An answer that is returned is in the store. After None, a later acknowledgement will store a receipt.
        """
        relay = self._relays[letter.key] = _Relay()
        with trio.move_on_after(ACK_WINDOW):
            await relay.over.wait()
        if self._relays.pop(letter.key, None) is None:
            await relay.over.wait()
        return relay.handed

    async def _bring_table(self, session: Session, change: TableChange) -> bool:
        answer = await self._endpoint.request(session.peer, change, resend_delays=RESEND_DELAYS)
        if isinstance(answer, TableHeld):
            # One mismatch is allowed: a client that comes back may hold another version than the server knows of.
            is_progress = answer.version is not None and (answer.version == change.after or session.held is None)
            session.held = answer.version
            if is_progress:
                return True
        return await self._alive_but_not_served(answer)

    async def _hand_over_letters(self, session: Session) -> bool:
        deposits = self._service.deposits(session.name)
        letters = await self._store.waiting(session.name)
        if not self._service.is_current(session):
            return True
        if not letters:
            self._service.found_empty(session.name, deposits)
            return True
        request = Letters(new_id(), session.name, tuple(letters))
        answer = await self._endpoint.request(session.peer, request, resend_delays=RESEND_DELAYS)
        if isinstance(answer, Taken) and len(answer.receipts) == len(letters):
            await self._acknowledged(session.name, letters, answer)
            return True
        return await self._alive_but_not_served(answer)

    async def _acknowledged(self, name: str, letters: Sequence[Letter], taken: Taken) -> None:
        handed = [
            HandedOver(letter, receipt, not taken.unreadable >> place & 1)
            for place, (letter, receipt) in enumerate(zip(letters, taken.receipts, strict=True))
        ]
        relays = [(one, relay) for one in handed if (relay := self._relays.pop(one.letter.key, None))]
        receipted = await self._store.acknowledge(name, handed, {one.letter.key for one, _ in relays})
        for one, relay in relays:
            relay.handed = one
            relay.over.set()
        for sender in receipted:
            self._service.letters_came(sender)
            self.wake(sender)

    async def _alive_but_not_served(self, answer: Answer | PartAck | None) -> bool:
        """Whether there was any answer. After Busy or a wrong one, wait: the next try would follow immediately."""
        if answer is not None:
            await trio.sleep(ACK_WINDOW)
        return answer is not None
