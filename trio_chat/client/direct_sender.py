"""Messages to one person that go directly, from client to client, and whether it is worth a try.

Who that is, is in people.py. Those that have to go by the server are in letter_sender.py.
"""

from collections.abc import Callable, Sequence

import attrs
import trio

from trio_chat.client.context import ClientContext
from trio_chat.client.events import Fallback
from trio_chat.client.registration import Registration
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Ack, DirectMessage
from trio_chat.protocol.records import RETENTION, PublicKeys, Record, fold, is_loopback

DETOUR = 60.0
"""Seconds for which messages to a peer that did not answer directly go to the server at once."""


@attrs.define(eq=False)
class DirectSender:
    """Sends messages of one person to their recipients' programs."""

    _context: ClientContext
    _registration: Registration
    on_kept: Callable[[Peer, Sequence[bytes]], object] = attrs.field(init=False, default=lambda peer, ids: None)
    """Called with a peer, and the ids of messages that are on its disk, as it says. Others' ids may be among them."""
    _relay_until: dict[str, tuple[Record, float]] = attrs.field(init=False, factory=dict)

    def heard(self, name: str) -> None:
        """A message of theirs has come directly: ours may reach them, too."""
        if self._relay_until:
            self._relay_until.pop(fold(name), None)

    async def send(
        self,
        message: DirectMessage,
        record: Record,
        keys: PublicKeys,
        *,
        in_order: bool = True,
        session: bytes | None = None,
    ) -> Fallback | None:
        """Send a message to somebody who has this row. None: they have it. Else why it has to go by the server.

        `in_order`: not directly while the server keeps an earlier message for them. `session`: the only one of the link
        on which it is sent; None is any.
        """
        if not record.online:
            return Fallback.OFFLINE
        # It would arrive before that one.
        if in_order and self._context.store.is_at_server(record.name, self._context.clock() - RETENTION):
            return Fallback.IN_ORDER
        # If their row has changed since, it is worth another try: they may have registered at another address.
        silent = self._relay_until.get(fold(record.name))
        was_silent = silent is not None and silent[0] == record and silent[1] > trio.current_time()
        # The server sees a client on its own machine as 127.0.0.1 or ::1, which for others is their own machine.
        is_at_server = is_loopback(record.host)
        if was_silent or (is_at_server and not is_loopback(self._registration.server.address[0])):
            return Fallback.DETOUR
        answer = await self._context.endpoint.request(
            Peer(record.address, keys.link), message, is_patient=False, session=session
        )
        # Not signed: it came on a link with the recipient's key, so nobody else has sent it.
        if isinstance(answer, Ack):
            return None
        # For a while, further messages to them need not wait for a window first.
        self._relay_until[fold(record.name)] = (record, trio.current_time() + DETOUR)
        return Fallback.NO_ACK
