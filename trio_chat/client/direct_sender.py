"""Messages to one person that go directly, from client to client, and whether it is worth a try.

Who that is, is in people.py. Those that have to go by the server are in letter_sender.py.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import attrs
import trio

from trio_chat.client.context import ClientContext
from trio_chat.client.events import Fallback
from trio_chat.client.registration import Registration
from trio_chat.errors import KeyChanged, KeyNotRemembered
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.messages import Ack, DirectMessage, Introduce
from trio_chat.protocol.records import RETENTION, PublicKeys, Record, fold, is_loopback
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.transport.ids import new_id

DETOUR = 60.0
"""Seconds for which messages to a peer that did not answer directly go to the server at once."""


class _Silence(NamedTuple):
    """Somebody did not answer directly: their row, the link with them, and until when that counts."""

    row: Record
    session: bytes
    until: float


@attrs.define(eq=False)
class DirectSender:
    """Sends messages of one person to their recipients' programs."""

    _context: ClientContext
    _registration: Registration
    on_kept: Callable[[Peer, Sequence[bytes]], object] = attrs.field(init=False, default=lambda peer, ids: None)
    """Called with a peer, and the ids of messages that are on its disk, as it says. Others' ids may be among them."""
    _silent: dict[str, _Silence] = attrs.field(init=False, factory=dict)
    # A server that lies must not make its clients flood an address that it puts into a row.
    _greeted: TokenBuckets = attrs.field(init=False, factory=lambda: TokenBuckets(LIMITS.introductions_per_key, 1))

    def heard(self, name: str) -> None:
        """A message of theirs has come directly: ours may reach them, too."""
        if self._silent:
            self._silent.pop(fold(name), None)

    def introduced(self, name: str) -> None:
        """They send to us directly, says the server. Our router may let that in when something was sent to them."""
        record = self._context.table.get(name)
        if record is None or not record.online or not self._greeted.take("", trio.current_time()):
            return
        with suppress(KeyChanged, KeyNotRemembered):
            keys = self._context.pins.keys(record)
            if keys is not None and keys.signing not in self._context.store.blocked():
                self._context.endpoint.greet(Peer(record.address, keys.link))

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
        peer = Peer(record.address, keys.link)
        # If their row has changed since, it is worth another try: they may have registered at another address. As with
        # a new link: the way is open now.
        silent, link = self._silent.get(fold(record.name)), self._context.endpoint.session(peer)
        was_silent = silent is not None and silent[:2] == (record, link) and silent.until > trio.current_time()
        # The server sees a client on its own machine as 127.0.0.1 or ::1, which for others is their own machine.
        is_at_server = is_loopback(record.host)
        if was_silent or (is_at_server and not is_loopback(self._registration.server.address[0])):
            return Fallback.DETOUR
        introduce = partial(self._introduce, record.name)
        answer = await self._context.endpoint.request(
            peer, message, is_patient=False, session=session, on_pause=introduce
        )
        # Not signed: it came on a link with the recipient's key, so nobody else has sent it.
        if isinstance(answer, Ack):
            return None
        # For a while, further messages to them need not wait for a window first.
        link = self._context.endpoint.session(peer)
        self._silent[fold(record.name)] = _Silence(record, link, trio.current_time() + DETOUR)
        return Fallback.NO_ACK

    def _introduce(self, name: str) -> None:
        self._context.endpoint.tell(self._registration.server, Introduce(new_id(), name))
